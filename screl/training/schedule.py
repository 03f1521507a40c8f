"""Compute the learning rate of every step: warm-up, then decay, as in transformers' schedules."""

import math

from screl.training.config import TrainConfig
from screl.training.processes import counted


def warmup_steps(config: TrainConfig, n_steps: int) -> int:
    """Return the number of steps before the peak; 0 for a run of one step, which must learn."""
    return min(math.ceil(config.warmup_ratio * n_steps), n_steps - 1)


def learning_rate(config: TrainConfig, step: int, n_steps: int) -> float:
    """Return the learning rate of ``step``, counted from 0."""
    n_warmup = warmup_steps(config, n_steps)
    if step < n_warmup:
        return config.learning_rate * step / n_warmup
    progress = (step - n_warmup) / (n_steps - n_warmup)
    decay = {
        "cosine": 0.5 * (1 + math.cos(math.pi * progress)),
        "linear": 1 - progress,
        "constant_with_warmup": 1.0,
    }
    return config.learning_rate * decay[config.lr_scheduler_type]


def describe_schedule(config: TrainConfig, n_steps: int) -> str:
    """Return a line with the learning rate at the start, at the peak and at the end."""
    n_warmup = warmup_steps(config, n_steps)
    first, peak, last = (learning_rate(config, at, n_steps) for at in (0, n_warmup, n_steps - 1))
    warmup = f"{counted(n_warmup, 'step')} of warm-up"
    return f"{first:.3g} at first, {peak:.3g} after {warmup}, {last:.3g} in the last step"

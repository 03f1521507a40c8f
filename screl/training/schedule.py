"""Options."""

import math
from typing import TYPE_CHECKING

from screl.training.config import TrainConfig
from screl.training.engine import TorchEngine

if TYPE_CHECKING:
    from screl.training.deepspeed import DeepSpeedEngine

    Engine = TorchEngine | DeepSpeedEngine
if TYPE_CHECKING:
    from screl.training.config import TrainConfig


def warmup_steps(config: TrainConfig, n_steps: int) -> int:
    """Steps before the peak; a run of one has none, which would leave it nothing."""
    return min(math.ceil(config.warmup_ratio * n_steps), n_steps - 1)


def learning_rate(config: TrainConfig, step: int, n_steps: int) -> float:
    """Of step ``step``, from 0: warm-up from 0, then the decay; transformers' schedules."""
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


def schedule(config: TrainConfig, n_steps: int) -> str:
    """Learning rates at the beginning, the peak and the end."""

    warm_up = warmup_steps(config, n_steps)
    first, peak, last = (learning_rate(config, at, n_steps) for at in (0, warm_up, n_steps - 1))
    return (
        f"{first:.3g} at first, {peak:.3g} after {warm_up} steps of warm-up, {last:.3g} in the last"
    )

"""Time a few steps on this machine's CPU, for ``--dry_run`` without a GPU."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from screl.core.io import UserError
from screl.models.folder import check_weights
from screl.models.tokenizer import Example, Tokenizer
from screl.training.config import TrainConfig
from screl.training.data import TrainingData
from screl.training.engine import make_training_engine
from screl.training.model import pack
from screl.training.packing import plan_step
from screl.training.processes import start_processes

MOST_SECONDS = 20.0  # for one timed micro-batch; a larger one is estimated from a single row
N_TIMED = 3


@dataclass(frozen=True)
class CpuPlan:
    """The measured speed of training on this machine, or the reason why there is none."""

    tokens_per_second: float = 0.0
    seconds_per_update: float = 0.0  # of the optimizer
    how: str = ""
    reason: str = ""


def plan_on_cpu(
    config: TrainConfig, tokenizer: Tokenizer, data: TrainingData, n_processes: int, fits: bool
) -> CpuPlan:
    """Time a micro-batch of the first step with the model's own weights, if they are here."""
    if n_processes > 1:
        return CpuPlan(reason="only one process is timed")
    if not fits:
        return CpuPlan(reason="the run does not fit into memory")
    if not Path(config.model_name_or_path).is_dir():
        return CpuPlan(reason="the model is not on this machine")
    try:
        check_weights(config.model_name_or_path)
    except UserError:
        return CpuPlan(reason="the model's weights are not on this machine")
    return _measure(config, tokenizer, data)


def _measure(config: TrainConfig, tokenizer: Tokenizer, data: TrainingData) -> CpuPlan:
    engine = make_training_engine(config, tokenizer, start_processes())
    rows = [data.examples[row] for row in data.steps[0]]

    def seconds(examples: Sequence[Example]) -> float:
        before = time.perf_counter()
        engine.add_gradients([pack(examples, [1e-3] * len(examples))])
        return time.perf_counter() - before

    row = rows[:1]
    seconds(row)  # the first pass and update also allocate memory
    engine.step(0.0)
    n_tokens, spent = len(row[0]), seconds(row)
    how = f"a row of {n_tokens} tokens"
    (plan,) = plan_step([len(row) for row in rows], 1, config.micro_batch_tokens)
    examples = [rows[at] for at in plan[0]]
    n_whole = sum(map(len, examples))
    if spent * n_whole / n_tokens < MOST_SECONDS:
        n_tokens, spent = n_whole, min(seconds(examples) for _ in range(N_TIMED))
        how = f"a micro-batch of {n_tokens:,} tokens"
    before = time.perf_counter()
    engine.step(0.0)
    return CpuPlan(n_tokens / spent, time.perf_counter() - before, how)


def cpu_time_rows(cpu: CpuPlan, n_tokens: int, n_steps: int) -> list[tuple[str, str]]:
    """Describe the time of a run of ``n_tokens`` tokens in ``n_steps`` steps."""
    if cpu.reason:
        return [("time", f"not measured: {cpu.reason}")]
    total = n_tokens / cpu.tokens_per_second + n_steps * cpu.seconds_per_update
    hours = f"{total / 3600:.2f} h" if total >= 3600 else f"{total / 60:.1f} min"
    return [
        ("time", f"{hours} ({total / n_steps:.2g} s per step)"),
        ("", f"measured here: {cpu.tokens_per_second:,.0f} tokens/s in {cpu.how}, "
             f"{cpu.seconds_per_update:.2g} s per update"),
    ]  # fmt: skip

"""Run train.py several times in the same processes, which import torch only once.

    python -m torch.distributed.run --standalone --nproc_per_node 2 tests/two_processes.py RUNS.json

RUNS.json is a list of (options, step to stop before or null). In every output folder,
``gradients.pt`` gets the whole gradients of the first step, and ``held.json`` how many numbers each
process held then; beside RUNS.json is written the sum over processes of rank + 0.5.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).parent.parent))

import train
from screl.training import loop, run
from screl.training.config import TrainConfig
from screl.training.data import TrainingData
from screl.training.processes import is_main_process, rank, sum_over_processes

run_micro_batches = loop.run_micro_batches


class Interrupted(Exception):
    """Raised before the step in which a run is to stop."""


def keep_gradients(
    config: TrainConfig, engine: Any, data: TrainingData, step: int, stop_before: int | None
) -> Any:
    """Call ``run_micro_batches`` and write down what the first step makes; raise Interrupted at
    ``stop_before``."""
    if step == stop_before:
        raise Interrupted
    parts = run_micro_batches(config, engine, data, step)
    if step == 0:
        if config.sharding.startswith("zero"):
            from deepspeed.utils import safe_get_full_grad as whole_gradient
        else:
            whole_gradient = whole_torch_gradient
        named = engine.packed.model.named_parameters()
        gradients = {name: whole_gradient(weight).float().cpu() for name, weight in named}
        held: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(held, engine.numbers_held())
        if dist.get_rank() == 0:
            torch.save(gradients, config.output_dir / "gradients.pt")
            (config.output_dir / "held.json").write_text(json.dumps(held))
    return parts


def whole_torch_gradient(weight: torch.Tensor) -> torch.Tensor:
    """Return the gradient of a weight, put together."""
    gradient = weight.grad
    return gradient.full_tensor() if hasattr(gradient, "full_tensor") else gradient


def run_all(path: Path) -> None:
    """Run all runs of a RUNS.json in this process."""
    end_processes, run.end_processes = run.end_processes, dist.barrier
    for argv, stop_before in json.loads(path.read_text()):
        loop.run_micro_batches = lambda *given, stop=stop_before: keep_gradients(*given, stop)
        sys.argv = ["train.py", *argv]
        try:
            train.main()
        except Interrupted:
            dist.barrier()
    total = sum_over_processes(rank() + 0.5)
    if is_main_process():
        Path(f"{path}.sum").write_text(str(total))
    end_processes()
    run.end_processes, loop.run_micro_batches = end_processes, run_micro_batches


if __name__ == "__main__":
    run_all(Path(sys.argv[1]))

"""Run train.py several times in the same processes, which import torch only once.

    python -m torch.distributed.run --standalone --nproc_per_node 2 tests/two_processes.py RUNS.json

RUNS.json is a list of command lines. In every output folder, ``gradients.pt`` gets the whole
gradients of the first step, ``held.json`` how many gradients each process held of them; beside
RUNS.json is written what ``sum_over_processes`` makes of rank + 0.5.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).parent.parent))

import train
from screl.training import loop as training
from screl.training.processes import is_main_process, rank, sum_over_processes

real_gradients = training.add_gradients


def keep_gradients(config: Any, engine: Any, data: Any, step: int) -> Any:
    """``add_gradients``, after which those of the first step are written down."""
    parts = real_gradients(config, engine, data, step)
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
    """The gradient of a weight, put together."""
    gradient = weight.grad
    return gradient.full_tensor() if hasattr(gradient, "full_tensor") else gradient


if __name__ == "__main__":
    training.add_gradients = keep_gradients
    end_processes = train.end_processes
    train.end_processes = dist.barrier
    runs = Path(sys.argv[1])
    for argv in json.loads(runs.read_text()):
        sys.argv = ["train.py", *argv]
        train.main()
    total = sum_over_processes(rank() + 0.5)
    if is_main_process():
        Path(f"{runs}.sum").write_text(str(total))
    end_processes()

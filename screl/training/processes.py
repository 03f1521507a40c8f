"""Connect the processes of a training run: those that torchrun starts, or a single one."""

import os
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# The first process alone reads, saves and verifies up to 70 billion weights while the others wait.
# A machine that hangs is not noticed any sooner.
TIMEOUT = timedelta(hours=1)


def rank() -> int:
    """Return this process's number, from 0."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """Return the number of processes."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """Return whether this process writes and prints."""
    return rank() == 0


def say(line: str) -> None:
    """Print to stderr, once for all processes."""
    if is_main_process():
        print(line, file=sys.stderr)


def counted(n: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun.

    >>> counted(1, "process", "processes"), counted(8, "step")
    ('1 process', '8 steps')
    """
    return f"{n} {noun if n == 1 else plural or noun + 's'}"


def start_processes() -> "torch.device":
    """Connect the processes to each other; return this one's device, a GPU if there is one."""
    import torch
    import torch.distributed as dist

    local_rank = int(os.environ.setdefault("LOCAL_RANK", "0"))  # DeepSpeed reads it
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda", local_rank) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
        torch.set_float32_matmul_precision("high")  # TF32, as published
    if not dist.is_initialized():
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
            store=None if "RANK" in os.environ else dist.HashStore(),  # type: ignore[attr-defined]
            rank=rank(), world_size=world_size(), timeout=TIMEOUT,
            device_id=device if on_gpu else None,
        )  # fmt: skip
    return device


def sum_over_processes(value: float) -> float:
    """Return the sum of every process's ``value``; all processes must call this."""
    import torch
    import torch.distributed as dist

    total = torch.tensor(value, dtype=torch.float64)
    if dist.is_initialized():
        dist.all_reduce(total)
    return total.item()


def end_processes() -> None:
    """Wait for all processes, then disconnect, since one that left early would end the others."""
    import torch.distributed as dist

    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()

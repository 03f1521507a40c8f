"""Connect the processes of a training run: those that torchrun starts, or a single one."""

import atexit
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch.distributed.distributed_c10d import Store

# How long a process waits for the others: during steps, and while the model is read or saved, since
# the first process alone writes and verifies up to 70 billion weights.
STEP_TIMEOUT, LONG_TIMEOUT = timedelta(minutes=10), timedelta(hours=1)
BEAT_SECONDS, SILENT_SECONDS = 10.0, 120.0


def rank() -> int:
    """Return this process's number, from 0."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """Return the number of processes."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_world_size() -> int:
    """Return the number of processes on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", world_size()))


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
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    local_rank = int(os.environ.setdefault("LOCAL_RANK", "0"))  # DeepSpeed reads it
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda", local_rank) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
        torch.set_float32_matmul_precision("high")  # TF32, as published
    if not dist.is_initialized():
        if "RANK" in os.environ:
            store, _, _ = next(rendezvous("env://"))
            watch_next_process(store.clone())
        else:
            store = dist.HashStore()  # type: ignore[attr-defined]
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
            store=PrefixStore("group", store),
            rank=rank(), world_size=world_size(), timeout=STEP_TIMEOUT,
            device_id=device if on_gpu else None,
        )  # fmt: skip
    return device


@contextmanager
def patience() -> Iterator[None]:
    """Let the processes wait ``LONG_TIMEOUT`` for each other; all of them must enter and leave."""
    from torch.distributed.distributed_c10d import _set_pg_timeout

    _set_pg_timeout(LONG_TIMEOUT)
    try:
        yield
    finally:
        _set_pg_timeout(STEP_TIMEOUT)


def watch_next_process(store: "Store") -> None:
    """Name the next process if it falls silent, in a thread, as this one's signs of life go on.

    A collective that waits in vain says only that it has waited. Each process watches the one after
    it, and the last one the first, so a silent one is named wherever it is.
    """
    ended = threading.Event()

    def watch() -> None:
        mine, other = rank(), (rank() + 1) % world_size()
        seen, since, beat = b"", time.monotonic(), 0
        while not ended.wait(BEAT_SECONDS if beat else 0):
            beat += 1
            store.set(f"beat/{mine}", f"{socket.gethostname()} {os.getpid()} {beat}")
            key = f"beat/{other}"
            now = store.get(key) if store.check([key]) else b""
            if now != seen:
                seen, since = now, time.monotonic()
            elif time.monotonic() - since > SILENT_SECONDS and now:
                host, pid, _ = now.decode().split()
                print(
                    f"warning: process {other} (pid {pid} on {host}) has been silent for "
                    f"{time.monotonic() - since:.0f} s: the others wait for it",
                    file=sys.stderr,
                )
                since = time.monotonic()

    def until_the_end() -> None:
        with suppress(RuntimeError):  # the store has gone, as at the end of a run
            watch()

    thread = threading.Thread(target=until_the_end, daemon=True)
    thread.start()

    def end() -> None:
        ended.set()
        thread.join(timeout=10)

    atexit.register(end)  # a thread that Python ends inside torch aborts the process


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

"""What would fit where a run does not: changes of its options, the cheapest first."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from typing import Any

from screl.core.io import UserError
from screl.core.shape import Shape
from screl.training.config import TrainConfig
from screl.training.data import TrainingData
from screl.training.memory import TrainingProcess, host_memory
from screl.training.plan import GIB, predict_run

RESERVED_GIB = 2.0  # of a GPU, for the CUDA context, NCCL and what the allocator cannot fill
MOST_REMEDIES = 4  # that are named
STEPS_TRIED = 20  # with each


def refuse_misfit(
    config: TrainConfig, shape: Shape, data: "TrainingData", n_processes: int, memory_gib: float
) -> None:
    """UserError, which names what would fit, if the run needs more memory than a GPU has."""
    need = predict_run(config, shape, data, n_processes).total
    room = (memory_gib - RESERVED_GIB) * GIB
    if need <= room:
        return
    fitting = list(what_fits(config, shape, data, n_processes, room))
    remedy = f"would fit: {', '.join(fitting)}" if fitting else "nothing that was tried would fit"
    raise UserError(
        f"--sharding {config.sharding} --world_size {n_processes} needs {need / GIB:.1f} GiB of "
        f"{memory_gib:g}, of which {RESERVED_GIB:g} stay free; {remedy}"
    )


def what_fits(
    config: TrainConfig, shape: Shape, data: "TrainingData", n_processes: int, room: float
) -> Iterator[str]:
    """Changes, the cheapest first, with which a process stays below ``room`` bytes.

    Two or three changes at once are only tried where one is not enough.
    """
    found = 0
    single = list(option_changes(config, n_processes))
    for size in (1, 2, 3):
        for several in combinations(single, size):
            change = {key: value for one in several for key, value in one.items()}
            if len(change) < sum(map(len, several)):  # two values for one option
                continue
            processes = change.get("world_size", n_processes)
            try:
                changed = replace(config, **change)
                need = predict_run(changed, shape, data, processes, most=STEPS_TRIED).total
            except UserError:  # a row is longer than a micro-batch, or there are too few rows
                continue
            if need <= room:
                options = " ".join(map(as_option, change.items()))
                yield f"{options} ({need / GIB:.1f} GiB{with_others(changed, shape, processes)})"
                found += 1
            if found == MOST_REMEDIES:
                return
        if found:
            return


def with_others(config: TrainConfig, shape: Shape, n_processes: int) -> str:
    """What an offloaded optimizer takes of the host."""
    if config.sharding != "zero3_offload":
        return ""
    run = TrainingProcess(shape, config.sharding, n_processes, config.precision, 0, 0, False)
    return f" and {host_memory(run) / GIB:.0f} of the host for each process"


def option_changes(config: TrainConfig, n_processes: int) -> Iterator[dict[str, Any]]:
    """What can be changed to need less memory, in the order of what it costs."""
    if n_processes > 1 and config.sharding in ("ddp", "zero2"):
        yield {"sharding": "fsdp" if config.sharding == "ddp" else "zero3"}
    if not config.gradient_checkpointing:
        yield {"gradient_checkpointing": True}
    yield {"micro_batch_tokens": config.micro_batch_tokens // 2}
    yield {"micro_batch_tokens": config.micro_batch_tokens // 4}
    if config.sharding != "zero3_offload":
        yield {"sharding": "zero3_offload"}
    divide = {"sharding": "fsdp"} if config.sharding in ("none", "ddp") else {}
    yield divide | {"world_size": n_processes * 2}
    yield divide | {"world_size": n_processes * 4}


def as_option(change: tuple[str, Any]) -> str:
    """A change as it stands on a command line."""
    name, value = change
    return f"--{name}" if value is True else f"--{name} {value}"

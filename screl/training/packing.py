"""Divide the examples of a step among processes and micro-batches.

A step always has exactly ``global_batch_size`` examples, as published; the number of examples in a
micro-batch depends on their tokens. So neither the number of processes nor the memory of a GPU
changes what a step learns.
"""

from collections.abc import Sequence
from heapq import heapreplace

from screl.core.io import UserError

MicroBatch = list[int]  # positions of examples in their step


def plan_step(lengths: Sequence[int], world_size: int, max_tokens: int) -> list[list[MicroBatch]]:
    """Return ``plan[rank][i]``, micro-batch ``i`` of ``rank``, for examples of ``lengths`` tokens.

    Sharded processes run in lockstep, so every rank has the same number of micro-batches, the
    smallest one with which no micro-batch exceeds ``max_tokens``. A micro-batch may be empty if
    there are few examples. Raises UserError if an example is longer than ``max_tokens`` or there
    are fewer examples than processes.
    """
    check_step(max(lengths), len(lengths), world_size, max_tokens)
    n_micro = -(-sum(lengths) // (world_size * max_tokens))
    while True:
        packed = split_evenly(lengths, n_micro * world_size)
        heaviest, _ = packed[0]
        if heaviest <= max_tokens:
            break
        n_micro += 1
    # Heaviest first, dealt in turn: micro-batches that run at the same time are about equally long.
    return [[positions for _, positions in packed[rank::world_size]] for rank in range(world_size)]


def check_step(longest: int, n_examples: int, world_size: int, max_tokens: int) -> None:
    """Raise UserError if a step of ``n_examples`` of up to ``longest`` tokens cannot be divided."""
    if longest > max_tokens:
        raise UserError(
            f"a row has {longest} tokens and --micro_batch_tokens is {max_tokens}; "
            f"raise it to {longest} or more, or lower --max_length"
        )
    if n_examples < world_size:
        raise UserError(
            f"{n_examples} examples per step cannot be divided among {world_size} processes; "
            f"start 1 to {n_examples} processes, or raise --global_batch_size"
        )


def split_evenly(lengths: Sequence[int], n_parts: int) -> list[tuple[int, MicroBatch]]:
    """Return ``n_parts`` pairs of (tokens, positions), heaviest first.

    Each example, longest first, goes to the lightest part, so the parts are within a few percent of
    equal.
    """
    parts: list[tuple[int, MicroBatch]] = [(0, []) for _ in range(n_parts)]
    for position in sorted(range(len(lengths)), key=lambda position: -lengths[position]):
        tokens, positions = parts[0]  # a heap: the lightest
        heapreplace(parts, (tokens + lengths[position], [*positions, position]))
    return sorted(parts, key=lambda part: (-part[0], part[1]))

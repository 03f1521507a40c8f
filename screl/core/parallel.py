"""The same function on many items, in as many processes as there are processors."""

import gc
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from screl.core.io import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

# What every call in a worker process gets besides its item; set once, when the process starts.
_shared: tuple[Any, ...] = ()


def n_processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parallel_map(
    function: Callable[..., Result],
    items: Sequence[Item],
    shared: tuple[Any, ...] = (),
    n_workers: int | None = None,
) -> Iterator[Result]:
    """Yield ``function(item, *shared)`` for each item, in the order of the items.

    ``n_workers``: processes, at most one an item; None: one a processor. With one, all is done in
    this process. ``function`` must be importable. Its exceptions are raised here; UserError if a
    process was killed.
    """
    n_workers = min(n_workers or n_processors(), len(items))
    if n_workers <= 1:
        yield from (function(item, *shared) for item in items)
        return
    # A forked process has `shared` at once and in the same memory. Where forking is not safe
    # (macOS) it is pickled to a fresh process.
    method = "fork" if sys.platform == "linux" else "spawn"
    with ProcessPoolExecutor(
        n_workers, multiprocessing.get_context(method), _start_worker, (shared,)
    ) as pool:
        try:  # after an exception, or when nobody wants more, map cancels what is not begun
            yield from pool.map(_call, [(function, item) for item in items])
        except BrokenProcessPool:
            raise UserError(
                "a worker process was killed, most often for want of memory; let there be fewer "
                "(taskset -c 0-3 python ... for 4) or free some memory"
            ) from None


def _start_worker(shared: tuple[Any, ...]) -> None:
    global _shared
    _shared = shared
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops its workers itself
    gc.freeze()  # what is shared with the parent is not garbage, and looking at it would copy it


def _call(task: tuple[Callable[..., Any], Any]) -> Any:
    function, item = task
    return function(item, *_shared)

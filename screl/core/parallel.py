"""Apply a function to many items in parallel processes."""

import ctypes
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
Output = TypeVar("Output")

PR_SET_PDEATHSIG = 1  # of Linux's prctl
# The shared arguments of every call in a worker process, set when the process starts.
_shared: tuple[Any, ...] = ()


def n_processors() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parallel_map(
    function: Callable[..., Output],
    items: Sequence[Item],
    shared: tuple[Any, ...] = (),
    n_workers: int | None = None,
) -> Iterator[Output]:
    """Yield ``function(item, *shared)`` for each item, in the order of the items.

    ``n_workers`` is the number of processes, by default one per processor and at most one per item;
    with one, everything runs in this process. ``function`` must be importable. Raises its
    exceptions, and UserError if a process was killed.
    """
    n_workers = min(n_workers or n_processors(), len(items))
    if n_workers <= 1:
        yield from (function(item, *shared) for item in items)
        return
    # A forked process shares the memory of `shared`. Where forking is not safe (macOS), `shared` is
    # pickled to a fresh process.
    method = "fork" if sys.platform == "linux" else "spawn"
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(n_workers, context, _start_worker, (shared, os.getpid())) as pool:
        try:  # on an exception, or if the caller stops, map cancels the items not yet started
            yield from pool.map(_call, [(function, item) for item in items])
        except BrokenProcessPool:
            raise UserError(
                "a worker process was killed, most often for lack of memory; use fewer "
                "(taskset -c 0-3 python ... for 4) or free some memory"
            ) from None


def _start_worker(shared: tuple[Any, ...], parent: int) -> None:
    global _shared
    _shared = shared
    _end_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops its workers itself
    gc.freeze()  # scanning objects shared with the parent for garbage would copy them


def _end_with(parent: int) -> None:
    """Have the system kill this process when its parent is killed.

    It would wait forever, and keep the locks that it shares with its parent.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # killed already
        os._exit(1)


def _call(task: tuple[Callable[..., Any], Any]) -> Any:
    function, item = task
    return function(item, *_shared)

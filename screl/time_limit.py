"""Stop what may never end, in the main thread or in any other."""

import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")


class _OutOfTime(BaseException):
    """Not an Exception: sympy catches those."""


def within_seconds(seconds: float, work: Callable[[], T]) -> T | None:
    """The result of ``work``, None if it fails or takes more than ``seconds`` of CPU time.

    CPU time, so that a busy machine does not change a verdict. The main thread, of a pool's worker
    too, is stopped by a signal; no other thread can be, so there every line looks at the clock.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    try:
        return _with_signal(seconds, work) if in_main_thread else _with_trace(seconds, work)
    except (_OutOfTime, Exception):
        return None


def _with_signal(seconds: float, work: Callable[[], T]) -> T:
    def stop(signum: int, frame: FrameType | None) -> None:
        raise _OutOfTime

    old_handler = signal.signal(signal.SIGVTALRM, stop)
    # Again and again, in case a bare "except:" swallows the first.
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds, seconds)
    try:
        return work()
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, old_handler)


def _with_trace(seconds: float, work: Callable[[], T]) -> T:
    deadline = time.thread_time() + seconds

    def watch(frame: FrameType, event: str, arg: Any) -> Any:
        if time.thread_time() > deadline:
            raise _OutOfTime
        return watch

    old_trace = sys.gettrace()
    sys.settrace(watch)
    try:
        return work()
    finally:
        sys.settrace(old_trace)

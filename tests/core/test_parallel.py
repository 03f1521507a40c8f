"""The same results, order and exceptions with any number of processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from screl.core.io import UserError, locked
from screl.core.parallel import n_processors, parallel_map
from tests.conftest import ROOT

WORKERS = pytest.mark.parametrize("n_workers", [1, 2])


def slow_first(item: int, *shared: object) -> tuple[int, tuple[object, ...]]:
    time.sleep(0.05 if item == 0 else 0)
    return item, shared


def process_of(_: int) -> int:
    return os.getpid()


def meet(item: int, folder: Path) -> bool:
    """Return whether two items are processed at the same time."""
    (folder / str(item)).touch()
    give_up = time.monotonic() + 20
    while len(list(folder.iterdir())) < 2 and time.monotonic() < give_up:
        time.sleep(0.001)
    return len(list(folder.iterdir())) == 2


def call(item: int, function: Callable[[int], int]) -> int:
    return function(item)


def fail_at_three(item: int) -> int:
    if item == 3:
        raise UserError("a.jsonl:3: bad; fix it")
    return item


def leave_a_mark(item: int, folder: Path) -> int:
    (folder / str(item)).touch()
    if item == 0:
        raise ValueError("first")
    time.sleep(0.01)
    return item


def die(item: int) -> None:
    if item == 1:
        os.kill(os.getpid(), signal.SIGKILL)


@WORKERS
def test_results_come_in_the_order_of_the_items(n_workers: int) -> None:
    shared = ("text", {"a": [1]})
    results = list(parallel_map(slow_first, range(7), shared, n_workers))
    assert results == [(item, shared) for item in range(7)]
    assert list(parallel_map(slow_first, [], (), n_workers)) == []


def test_one_worker_or_one_item_runs_in_this_process() -> None:
    here = os.getpid()
    assert set(parallel_map(process_of, range(3), n_workers=1)) == {here}
    assert set(parallel_map(process_of, range(1), n_workers=4)) == {here}
    assert here not in set(parallel_map(process_of, range(3), n_workers=2))


def test_two_workers_work_at_the_same_time(tmp_path: Path) -> None:
    assert list(parallel_map(meet, range(2), (tmp_path,), 2)) == [True, True]


def test_the_default_is_at_most_one_process_per_processor() -> None:
    n_processes = len(set(parallel_map(process_of, range(4 * n_processors()))))
    assert 1 <= n_processes <= n_processors()


@pytest.mark.skipif(sys.platform != "linux", reason="only where processes are forked")
def test_shared_arguments_are_not_pickled() -> None:
    """They are large; a lambda could not be pickled."""
    assert list(parallel_map(call, range(3), (lambda item: 2 * item,), 2)) == [0, 2, 4]


@WORKERS
def test_an_exception_arrives_after_the_results_before_it(n_workers: int) -> None:
    results = parallel_map(fail_at_three, range(6), n_workers=n_workers)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(UserError, match=r"^a\.jsonl:3: bad; fix it$"):
        next(results)


@WORKERS
def test_after_an_exception_the_rest_is_not_started(tmp_path: Path, n_workers: int) -> None:
    with pytest.raises(ValueError, match="first"):
        list(parallel_map(leave_a_mark, range(100), (tmp_path,), n_workers))
    assert len(list(tmp_path.iterdir())) < 50


def test_the_rest_is_not_started_if_the_caller_stops(tmp_path: Path) -> None:
    results = parallel_map(leave_a_mark, range(1, 101), (tmp_path,), 2)
    assert next(results) == 1
    results.close()  # type: ignore[attr-defined]
    assert len(list(tmp_path.iterdir())) < 50


def test_a_killed_worker_is_reported() -> None:
    with pytest.raises(UserError, match=r"a worker process was killed, .*memory; use fewer"):
        list(parallel_map(die, range(4), n_workers=2))


HOLD = """
import sys
from pathlib import Path

from screl.core.io import locked
from screl.core.parallel import parallel_map
from tests.core.test_parallel import wait_in

folder = Path(sys.argv[1])
with locked(folder, "in use"):
    list(parallel_map(wait_in, range(2), (folder,), 2))
"""


def wait_in(item: int, folder: Path) -> None:
    (folder / f"started-{item}").touch()
    time.sleep(60)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system does not end children")
def test_workers_end_with_a_killed_parent_and_free_its_lock(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT)
    give_up = time.monotonic() + 20
    while len(list(tmp_path.glob("started-*"))) < 2 and time.monotonic() < give_up:
        time.sleep(0.01)
    with pytest.raises(UserError, match="in use"), locked(tmp_path, "in use"):
        pass
    parent.kill()
    parent.wait()
    give_up = time.monotonic() + 10
    while True:  # the system needs a moment to end them
        try:
            with locked(tmp_path, "in use"):
                return
        except UserError:
            assert time.monotonic() < give_up, "a worker outlived its parent and kept the lock"
            time.sleep(0.05)

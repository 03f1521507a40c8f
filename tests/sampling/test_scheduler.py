"""Check that every sample is made once, whatever happens to the workers."""

import random
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from screl.core.cost import PROCESSORS, Devices
from screl.core.io import UserError
from screl.samples.store import Sample
from screl.sampling import scheduler
from screl.sampling.engine import ExchangeResult, Failure, Request
from screl.sampling.scheduler import (
    HIGH,
    LOW,
    MAX_LOST,
    Unfulfilled,
    WorkerLostError,
    run_requests,
)

Key = tuple[int | str, int]
OUT_OF_MEMORY = Failure("out of memory", True)


def request(problem_id: int | str, sample_ids: range) -> Request:
    return Request(problem_id, [1, 2], sample_ids)


def made(problem_id: int | str, sample_id: int) -> Sample:
    return Sample(problem_id, sample_id, f"{problem_id} {sample_id}", 1, "stop")


class StubWorker:
    """Returns some of its pending samples in each exchange; ``behave`` may let it fail before."""

    def __init__(self, pool: "StubPool", batch_size: int) -> None:
        self.pool, self.batch_size = pool, batch_size
        self.pending: list[Key] = []
        self.n_exchanges = self.n_returned = 0
        self.stopped = False

    def send(self, requests: list[Request], enough: int) -> None:
        assert not self.stopped
        self.pool.sent.append((self, list(requests), enough, len(self.pending)))
        self.pending += [(r.problem_id, i) for r in requests for i in r.sample_ids]

    def receive(self) -> ExchangeResult:
        self.n_exchanges += 1
        self.pool.rng.shuffle(self.pending)
        n = self.pool.rng.randint(0 if self.n_exchanges < 50 else 1, min(3, len(self.pending)))
        ended, rest = self.pending[:n], self.pending[n:]
        result = self.pool.behave(self, ended, rest)
        self.pending = rest
        self.n_returned += n
        return result or ExchangeResult([made(*key) for key in ended], [])

    def stop(self) -> None:
        assert not self.stopped
        self.stopped = True


Behavior = Callable[[StubWorker, list[Key], list[Key]], ExchangeResult | None]


class StubPool:
    def __init__(self, n_workers: int, seed: int, behave: Behavior | None = None) -> None:
        self.n_workers, self.rng = n_workers, random.Random(seed)
        self.behave: Behavior = behave or (lambda *_: None)
        self.started: list[StubWorker] = []
        self.sent: list[tuple[StubWorker, list[Request], int, int]] = []

    def start_workers(self, n_running: int, batch_size: int) -> list[StubWorker]:
        new = [StubWorker(self, batch_size) for _ in range(self.n_workers - n_running)]
        self.started += new
        return new

    def wait(self, workers: list[StubWorker]) -> list[StubWorker]:
        return self.rng.sample(workers, self.rng.randint(0, len(workers)))

    def devices(self) -> Devices:
        return PROCESSORS


def run_all(
    pool: StubPool, requests: list[Request], batch_size: int = 4
) -> tuple[Counter[Key], list[Unfulfilled]]:
    """Return what was made, and what could not be."""
    taken: Counter[Key] = Counter()

    def on_samples(samples: list[Sample]) -> list[Request]:
        taken.update((one.problem_id, one.sample_id) for one in samples)
        return []

    unfulfilled = run_requests(pool, requests, on_samples, batch_size)
    assert all(worker.stopped for worker in pool.started)
    return taken, unfulfilled


def samples_of(requests: list[Request]) -> Counter[Key]:
    return Counter((r.problem_id, i) for r in requests for i in r.sample_ids)


REQUESTS = [request(p, range(b, b + 5)) for p in range(9) for b in (0, 5)]


@given(st.integers(1, 4), st.integers(), st.integers(1, 9), st.sampled_from([0.0, 0.05, 0.3]))
@settings(max_examples=150, deadline=None)
def test_every_sample_once_however_workers_die(
    n_workers: int, seed: int, batch_size: int, p_death: float
) -> None:
    """They die with what they were about to return, or after returning it."""
    deaths = random.Random(seed + 1)

    def behave(worker: StubWorker, ended: list[Key], rest: list[Key]) -> ExchangeResult | None:
        # not before it has returned something, or the run would rightly end now and then
        if not worker.n_returned or deaths.random() > p_death:
            return None
        if deaths.random() < 0.5:
            raise WorkerLostError("killed")
        return ExchangeResult([made(*key) for key in ended], [], Failure("broken", False))

    taken, unfulfilled = run_all(StubPool(n_workers, seed, behave), REQUESTS, batch_size)
    missing = samples_of([one.request for one in unfulfilled])
    assert taken + missing == samples_of(REQUESTS)
    if p_death == 0:
        assert not unfulfilled
    assert {one.reason for one in unfulfilled} <= {"killed", "broken"}


@pytest.mark.parametrize("n_workers", [1, 3])
@pytest.mark.parametrize("is_lost", [True, False])
def test_only_a_request_that_kills_workers_is_given_up(
    n_workers: int, is_lost: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def behave(worker: StubWorker, ended: list[Key], rest: list[Key]) -> ExchangeResult | None:
        if not any(problem == 5 for problem, _ in ended + rest):
            return None
        if is_lost:
            raise WorkerLostError("its process ended with exit code -11")
        return ExchangeResult([], [], Failure("ZeroDivisionError", False))

    if n_workers > 1:  # a single worker is replaced at once
        monkeypatch.setattr(scheduler, "SECONDS_TO_RETRY", 0.01)
    taken, unfulfilled = run_all(StubPool(n_workers, 0, behave), REQUESTS)
    assert {one.request.problem_id for one in unfulfilled} == {5}
    assert taken + samples_of([one.request for one in unfulfilled]) == samples_of(REQUESTS)
    assert taken == samples_of([r for r in REQUESTS if r.problem_id != 5])


def test_a_request_that_an_engine_refuses_is_reported_and_the_others_are_made() -> None:
    def behave(worker: StubWorker, ended: list[Key], rest: list[Key]) -> ExchangeResult | None:
        bad = [r for _, requests, *_ in pool.sent[-1:] for r in requests if r.problem_id == 7]
        if not bad:
            return None
        rest[:] = [key for key in rest if key[0] != 7]
        kept = [made(*key) for key in ended if key[0] != 7]
        return ExchangeResult(kept, [(r, "too long") for r in bad])

    pool = StubPool(1, 3, behave)
    taken, unfulfilled = run_all(pool, REQUESTS)
    assert [(one.request.problem_id, one.reason) for one in unfulfilled] == [(7, "too long")] * 2
    assert taken == samples_of([r for r in REQUESTS if r.problem_id != 7])


@pytest.mark.parametrize(("n_workers", "most", "sizes"), [(1, 3, {16, 8, 4, 2}), (8, 8, {16, 8})])
def test_out_of_memory_halves_the_batch(n_workers: int, most: int, sizes: set[int]) -> None:
    """Once, if several workers run out of memory at the same batch size."""

    def behave(worker: StubWorker, ended: list[Key], rest: list[Key]) -> ExchangeResult | None:
        return ExchangeResult([], [], OUT_OF_MEMORY) if worker.batch_size > most else None

    pool = StubPool(n_workers, 0, behave)
    taken, unfulfilled = run_all(pool, REQUESTS, batch_size=16)
    assert taken == samples_of(REQUESTS)
    assert not unfulfilled
    assert {worker.batch_size for worker in pool.started} == sizes


def test_if_everything_fails_the_run_ends_and_not_problem_by_problem() -> None:
    def behave(worker: StubWorker, ended: list[Key], rest: list[Key]) -> ExchangeResult | None:
        return ExchangeResult([], [], Failure("RuntimeError: wrong kernel", False))

    pool = StubPool(1, 0, behave)
    with pytest.raises(UserError, match=r"workers in a row died without .* wrong kernel"):
        run_all(pool, [request(p, range(2)) for p in range(200)], batch_size=1000)
    assert len(pool.started) <= 2 * MAX_LOST  # each may take a minute to start


def test_a_worker_that_cannot_start_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scheduler, "SECONDS_TO_RETRY", 0.0)

    def behave(worker: StubWorker, ended: list[Key], rest: list[Key]) -> ExchangeResult | None:
        if worker is pool.started[0]:
            raise UserError("no such file on this machine")
        return None

    pool = StubPool(2, 0, behave)
    assert run_all(pool, REQUESTS) == (samples_of(REQUESTS), [])


def test_workers_that_all_die_at_once_end_the_run() -> None:
    def behave(worker: StubWorker, ended: list[Key], rest: list[Key]) -> ExchangeResult | None:
        raise WorkerLostError("its process ended with exit code 1")

    pool = StubPool(1, 0, behave)
    with pytest.raises(UserError, match=f"{MAX_LOST} workers in a row.* exit code 1"):
        run_all(pool, REQUESTS)
    assert all(worker.stopped for worker in pool.started)


def test_an_engine_that_cannot_start_and_a_full_disk_end_the_run() -> None:
    def behave(worker: StubWorker, ended: list[Key], rest: list[Key]) -> ExchangeResult | None:
        raise UserError("no such model")

    for n_workers in (1, 2, 8):
        pool = StubPool(n_workers, 0, behave)
        with pytest.raises(UserError, match="no such model"):
            run_all(pool, REQUESTS)
        assert all(worker.stopped for worker in pool.started)

    def on_samples(samples: list[Sample]) -> list[Request]:
        raise OSError("disk full")

    pool = StubPool(2, 0)
    with pytest.raises(OSError, match="disk full"):
        run_requests(pool, REQUESTS, on_samples, 4)
    assert all(worker.stopped for worker in pool.started)


def test_requests_that_samples_lead_to_are_fulfilled_too() -> None:
    taken: Counter[Key] = Counter()

    def on_samples(samples: list[Sample]) -> list[Request]:
        keys = [(one.problem_id, one.sample_id) for one in samples]
        taken.update(keys)
        return [request(problem, range(i + 1, i + 2)) for problem, i in keys if i < 6]

    first = [request(p, range(1)) for p in range(5)]
    assert run_requests(StubPool(2, 0), first, on_samples, 4) == []
    assert taken == Counter({(p, i): 1 for p in range(5) for i in range(7)})


def test_workers_are_kept_full_and_share_the_work() -> None:
    requests = [request(p, range(10)) for p in range(60)]
    pool = StubPool(3, 0)
    taken, _ = run_all(pool, requests, batch_size=10)
    assert taken == samples_of(requests)
    n_sent = 0
    for _, sent, enough, n_pending in pool.sent:
        n_sent += len(sent)
        if n_sent < len(requests) - 3 * HIGH:  # more is queued
            assert enough == LOW * 10
            assert n_pending + sum(len(r.sample_ids) for r in sent) >= HIGH * 10
    n_of_worker = Counter(id(worker) for worker, sent, *_ in pool.sent for _ in sent)
    assert len(n_of_worker) == 3
    assert min(n_of_worker.values()) > 10


def test_few_samples_are_shared_evenly() -> None:
    pool = StubPool(4, 0)
    taken, _ = run_all(pool, [request(p, range(1)) for p in range(18)], batch_size=100)
    assert len(taken) == 18
    assert [len(sent) for _, sent, _, _ in pool.sent[:4]] == [5, 5, 5, 3]

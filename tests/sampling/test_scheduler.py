"""Dealing requests: every sample once, whatever becomes of the workers."""

import random
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from screl.core.io import UserError
from screl.samples.store import Sample
from screl.sampling import scheduler as coordinator
from screl.sampling.engine import ExchangeResult, Failure, Request
from screl.sampling.scheduler import (
    HIGH,
    LOW,
    MAX_LOST,
    MAX_TRIALS,
    Unfulfilled,
    WorkerLostError,
    deal,
)

Key = tuple[int | str, int]
OUT_OF_MEMORY = Failure("out of memory", True)


def request(problem_id: int | str, sample_ids: range) -> Request:
    return Request(problem_id, [1, 2], sample_ids)


def made(problem_id: int | str, sample_id: int) -> Sample:
    return Sample(problem_id, sample_id, f"{problem_id} {sample_id}", 1, "stop")


class StubWorker:
    """Draws some of what it owes in each exchange; ``fate`` may let it die before."""

    def __init__(self, crew: "StubCrew", batch_size: int) -> None:
        self.crew, self.batch_size = crew, batch_size
        self.owed: list[Key] = []
        self.n_exchanges = self.given = 0
        self.stopped = False

    def ask(self, requests: list[Request], enough: int) -> None:
        assert not self.stopped
        self.crew.asked.append((self, list(requests), enough, len(self.owed)))
        self.owed += [(r.problem_id, i) for r in requests for i in r.sample_ids]

    def answer(self) -> ExchangeResult:
        self.n_exchanges += 1
        self.crew.rng.shuffle(self.owed)
        n = self.crew.rng.randint(0 if self.n_exchanges < 50 else 1, min(3, len(self.owed)))
        given, rest = self.owed[:n], self.owed[n:]
        answer = self.crew.fate(self, given, rest)
        self.owed = rest
        self.given += n
        return answer or ExchangeResult([made(*key) for key in given], [])

    def stop(self) -> None:
        assert not self.stopped
        self.stopped = True


Fate = Callable[[StubWorker, list[Key], list[Key]], ExchangeResult | None]


class StubCrew:
    def __init__(self, n_workers: int, seed: int, fate: Fate | None = None) -> None:
        self.n_workers, self.rng = n_workers, random.Random(seed)
        self.fate: Fate = fate or (lambda *_: None)
        self.hired: list[StubWorker] = []
        self.asked: list[tuple[StubWorker, list[Request], int, int]] = []

    def hire(self, n_present: int, batch_size: int) -> list[StubWorker]:
        new = [StubWorker(self, batch_size) for _ in range(self.n_workers - n_present)]
        self.hired += new
        return new

    def wait(self, workers: list[StubWorker]) -> list[StubWorker]:
        return self.rng.sample(workers, self.rng.randint(0, len(workers)))


def deal_all(
    crew: StubCrew, requests: list[Request], batch_size: int = 4
) -> tuple[Counter[Key], list[Unfulfilled]]:
    """What was taken in, and what could not be fulfilled."""
    taken: Counter[Key] = Counter()

    def take_in(samples: list[Sample]) -> list[Request]:
        taken.update((one.problem_id, one.sample_id) for one in samples)
        return []

    unfulfilled = deal(crew, requests, take_in, batch_size)
    assert all(worker.stopped for worker in crew.hired)
    return taken, unfulfilled


def everything(requests: list[Request]) -> Counter[Key]:
    return Counter((r.problem_id, i) for r in requests for i in r.sample_ids)


REQUESTS = [request(p, range(b, b + 5)) for p in range(9) for b in (0, 5)]


@given(st.integers(1, 4), st.integers(), st.integers(1, 9), st.sampled_from([0.0, 0.05, 0.3]))
@settings(max_examples=150, deadline=None)
def test_every_sample_once_however_workers_die(
    n_workers: int, seed: int, batch_size: int, p_death: float
) -> None:
    """They die with what they were about to give, or after giving it; nothing is to blame."""
    deaths = random.Random(seed + 1)

    def fate(worker: StubWorker, given: list[Key], rest: list[Key]) -> ExchangeResult | None:
        # a first exchange that gives something, or else the run would rightly end now and then
        if not worker.given or deaths.random() > p_death:
            return None
        if deaths.random() < 0.5:
            raise WorkerLostError("killed")
        return ExchangeResult([made(*key) for key in given], [], Failure("broken", False))

    taken, unfulfilled = deal_all(StubCrew(n_workers, seed, fate), REQUESTS, batch_size)
    missing = everything([one.request for one in unfulfilled])
    assert taken + missing == everything(REQUESTS)
    if p_death == 0:
        assert not unfulfilled
    for one in unfulfilled:  # only what was alone with a worker that died, after two other deaths
        assert one.reason in ("killed", "broken")


@pytest.mark.parametrize("n_workers", [1, 3])
@pytest.mark.parametrize("kills", [True, False])
def test_only_what_kills_workers_is_given_up(n_workers: int, kills: bool) -> None:
    def fate(worker: StubWorker, given: list[Key], rest: list[Key]) -> ExchangeResult | None:
        if not any(problem == 5 for problem, _ in given + rest):
            return None
        if kills:
            raise WorkerLostError("its process ended with exit code -11")
        return ExchangeResult([], [], Failure("ZeroDivisionError", False))

    taken, unfulfilled = deal_all(StubCrew(n_workers, 0, fate), REQUESTS)
    assert {one.request.problem_id for one in unfulfilled} == {5}
    assert taken + everything([one.request for one in unfulfilled]) == everything(REQUESTS)
    assert taken == everything([r for r in REQUESTS if r.problem_id != 5])


def test_what_an_engine_refuses_is_told_and_the_rest_goes_on() -> None:
    def fate(worker: StubWorker, given: list[Key], rest: list[Key]) -> ExchangeResult | None:
        bad = [r for w, requests, *_ in crew.asked[-1:] for r in requests if r.problem_id == 7]
        if not bad:
            return None
        rest[:] = [key for key in rest if key[0] != 7]
        kept = [made(*key) for key in given if key[0] != 7]
        return ExchangeResult(kept, [(r, "too long") for r in bad])

    crew = StubCrew(1, 3, fate)
    taken, unfulfilled = deal_all(crew, REQUESTS)
    assert [(one.request.problem_id, one.reason) for one in unfulfilled] == [(7, "too long")] * 2
    assert taken == everything([r for r in REQUESTS if r.problem_id != 7])


def test_out_of_memory_goes_on_with_half_as_many_at_once() -> None:
    def fate(worker: StubWorker, given: list[Key], rest: list[Key]) -> ExchangeResult | None:
        return ExchangeResult([], [], OUT_OF_MEMORY) if worker.batch_size > 3 else None

    crew = StubCrew(1, 0, fate)
    taken, unfulfilled = deal_all(crew, REQUESTS, batch_size=16)
    assert taken == everything(REQUESTS)
    assert not unfulfilled
    assert [worker.batch_size for worker in crew.hired] == [16, 8, 4, 2]


def test_several_out_of_memory_at_once_are_one_reason_to_halve() -> None:
    def fate(worker: StubWorker, given: list[Key], rest: list[Key]) -> ExchangeResult | None:
        return ExchangeResult([], [], OUT_OF_MEMORY) if worker.batch_size > 8 else None

    crew = StubCrew(8, 0, fate)
    taken, _ = deal_all(crew, REQUESTS, batch_size=16)
    assert taken == everything(REQUESTS)
    assert {worker.batch_size for worker in crew.hired} == {16, 8}


def test_what_always_fails_ends_the_run_and_not_problem_by_problem() -> None:
    def fate(worker: StubWorker, given: list[Key], rest: list[Key]) -> ExchangeResult | None:
        return ExchangeResult([], [], Failure("RuntimeError: wrong kernel", False))

    crew = StubCrew(1, 0, fate)
    with pytest.raises(UserError, match=r"workers in a row died without .* wrong kernel"):
        deal_all(crew, [request(p, range(2)) for p in range(200)], batch_size=1000)
    assert len(crew.hired) <= MAX_LOST + MAX_TRIALS


def test_one_that_cannot_start_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coordinator, "SECONDS_TO_RETRY", 0.0)

    def fate(worker: StubWorker, given: list[Key], rest: list[Key]) -> ExchangeResult | None:
        if worker is crew.hired[0]:
            raise UserError("no such file on this machine")
        return None

    crew = StubCrew(2, 0, fate)
    taken, unfulfilled = deal_all(crew, REQUESTS)
    assert taken == everything(REQUESTS)
    assert not unfulfilled


def test_workers_that_never_come_to_work_end_the_run() -> None:
    def fate(worker: StubWorker, given: list[Key], rest: list[Key]) -> ExchangeResult | None:
        raise WorkerLostError("its process ended with exit code 1")

    crew = StubCrew(1, 0, fate)
    with pytest.raises(UserError, match=f"{MAX_LOST} workers in a row.* exit code 1"):
        deal_all(crew, REQUESTS)
    assert all(worker.stopped for worker in crew.hired)


def test_an_engine_that_cannot_start_and_a_disk_that_is_full_end_the_run_at_once() -> None:
    def fate(worker: StubWorker, given: list[Key], rest: list[Key]) -> ExchangeResult | None:
        raise UserError("no such model")

    for n_workers in (1, 2, 8):
        crew = StubCrew(n_workers, 0, fate)
        with pytest.raises(UserError, match="no such model"):
            deal_all(crew, REQUESTS)
        assert all(worker.stopped for worker in crew.hired)

    def take_in(samples: list[Sample]) -> list[Request]:
        raise OSError("disk full")

    crew = StubCrew(2, 0)
    with pytest.raises(OSError, match="disk full"):
        deal(crew, REQUESTS, take_in, 4)
    assert all(worker.stopped for worker in crew.hired)


def test_what_is_asked_for_in_return_is_dealt_too() -> None:
    taken: Counter[Key] = Counter()

    def take_in(samples: list[Sample]) -> list[Request]:
        keys = [(one.problem_id, one.sample_id) for one in samples]
        taken.update(keys)
        return [request(problem, range(i + 1, i + 2)) for problem, i in keys if i < 6]

    assert deal(StubCrew(2, 0), [request(p, range(1)) for p in range(5)], take_in, 4) == []
    assert taken == Counter({(p, i): 1 for p in range(5) for i in range(7)})


def test_workers_are_kept_full_and_the_work_is_shared() -> None:
    requests = [request(p, range(10)) for p in range(60)]
    crew = StubCrew(3, 0)
    taken, _ = deal_all(crew, requests, batch_size=10)
    assert taken == everything(requests)
    n_dealt = 0
    for _, asked, enough, n_owed in crew.asked:
        n_dealt += len(asked)
        if n_dealt < len(requests) - 3 * HIGH:  # more is waiting
            assert enough == LOW * 10
            assert n_owed + sum(len(r.sample_ids) for r in asked) >= HIGH * 10
    dealt = Counter(id(worker) for worker, asked, *_ in crew.asked for _ in asked)
    assert len(dealt) == 3
    assert min(dealt.values()) > 10


def test_few_samples_are_shared_out_evenly() -> None:
    crew = StubCrew(4, 0)
    taken, _ = deal_all(crew, [request(p, range(1)) for p in range(18)], batch_size=100)
    assert len(taken) == 18
    first = [len(asked) for _, asked, _, _ in crew.asked[:4]]
    assert first == [5, 5, 5, 3]

"""Deal requests to workers until every sample is there, whatever happens to the workers.

No shards: a worker gets more when it has little left, so none waits for a slower one. Samples are
taken in here and only here, so none is there twice; what a dead worker had is dealt again.
"""

import math
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import Any, NamedTuple, Protocol, TypeVar

from screl.core.cost import Devices
from screl.core.io import UserError
from screl.core.problems import ProblemId
from screl.samples.store import Sample
from screl.sampling.engine import ExchangeResult, Failure, Request, consecutive

# A worker gets more before it has fewer than LOW batches of samples left, and then up to HIGH; in
# the end, when there is not so much for all, up to its share.
LOW, HIGH = 2, 3
MAX_LOST = 3  # workers in a row that died without a sample: none will do better
MAX_TRIALS = 20  # the same of workers that had nothing but a suspect
SECONDS_TO_RETRY = 60.0  # before a worker is hired in the place of one that could not start
# Seconds after which a worker that says nothing is given up: answers come every second, but a large
# model may take long to load from a network disk.
MAX_SILENCE = 3600.0

TakeIn = Callable[[list[Sample]], Iterable[Request]]


class WorkerLostError(Exception):
    """A worker is gone: its process, its machine or the way there."""


class Worker(Protocol):
    """An engine somewhere. One exchange at a time."""

    def ask(self, requests: list[Request], enough: int) -> None:
        """Begin an exchange, see ``screl.sampling.workers.exchange``."""

    def answer(self) -> ExchangeResult:
        """What came of it. WorkerLostError if that will never be known, UserError if the engine
        cannot be started."""

    def stop(self) -> None:
        """Free what it holds."""


AnyWorker = TypeVar("AnyWorker", bound=Worker)


class WorkerPool(Protocol[AnyWorker]):
    """Where workers come from."""

    def hire(self, n_present: int, batch_size: int) -> list[AnyWorker]:
        """New workers, as many as there is room for beside those present."""

    def wait(self, workers: list[AnyWorker]) -> list[AnyWorker]:
        """Those of ``workers`` that have an answer; after a while, none."""

    def devices(self) -> Devices:
        """What all workers together hold, or have held at most."""


class Unfulfilled(NamedTuple):
    """A request, or what is left of it, and why it could not be fulfilled."""

    request: Request
    reason: str


def deal(
    crew: WorkerPool[Any], requests: Iterable[Request], take_in: TakeIn, batch_size: int
) -> list[Unfulfilled]:
    """Have all ``requests`` fulfilled, and those that ``take_in`` returns for the samples it gets.

    Returns what could not be. A request that was with two workers when they died is tried on its
    own; if two more die, the request is to blame. UserError if nothing can be made at all.
    """
    dealer = _Dealer(crew, requests, take_in, batch_size)
    try:
        while dealer.busy:
            dealer.go_on()
    finally:
        with ThreadPoolExecutor(max(1, len(dealer.desks))) as pool:  # an engine takes seconds
            list(pool.map(lambda desk: desk.worker.stop(), dealer.desks))
    return dealer.unfulfilled


class _Desk:
    """A worker, and the samples that it owes."""

    def __init__(self, worker: Worker, batch_size: int) -> None:
        self.worker, self.batch_size = worker, batch_size
        self.owed: dict[tuple[ProblemId, int], Request] = {}
        self.asked = False
        self.asked_at = 0.0
        self.on_trial = False  # it has nothing but one suspect
        self.proven = False  # it has given a sample

    def hand_over(self, requests: list[Request], enough: int) -> None:
        for request in requests:
            self.owed |= {(request.problem_id, i): request for i in request.sample_ids}
        self.worker.ask(requests, enough)
        self.asked, self.asked_at = True, time.monotonic()

    def settle(self, answer: ExchangeResult) -> list[Sample]:
        """Take what was owed off the list, and return it."""
        for request, _ in answer.refused:
            for sample_id in request.sample_ids:
                del self.owed[request.problem_id, sample_id]
        for sample in answer.samples:
            del self.owed[sample.problem_id, sample.sample_id]
        return answer.samples

    def left(self) -> list[Request]:
        """What is owed, as requests."""
        requests = []
        for problem_id, keys in groupby(sorted(self.owed, key=repr), key=lambda key: key[0]):
            of_problem = list(keys)
            request = self.owed[of_problem[0]]
            for sample_ids in consecutive(sorted(i for _, i in of_problem), len(of_problem)):
                requests.append(Request(problem_id, request.prompt_ids, sample_ids))
        return requests


class _Dealer:
    def __init__(
        self, crew: WorkerPool[Any], requests: Iterable[Request], take_in: TakeIn, batch_size: int
    ) -> None:
        self.crew, self.take_in, self.batch_size = crew, take_in, batch_size
        self.waiting: deque[Request] = deque()
        self.n_waiting = 0  # samples
        self.put(requests)
        self.suspects: deque[Request] = deque()
        self.deaths: Counter[ProblemId] = Counter()
        self.unfulfilled: list[Unfulfilled] = []
        self.desks: list[_Desk] = []
        self.n_lost = self.n_trials = 0  # in a row, without a sample
        self.has_worked = False
        self.hire_at = 0.0

    @property
    def busy(self) -> bool:
        return bool(self.waiting or self.suspects or any(desk.owed for desk in self.desks))

    def put(self, requests: Iterable[Request]) -> None:
        """Behind those that are waiting."""
        for request in requests:
            self.waiting.append(request)
            self.n_waiting += len(request.sample_ids)

    def take(self) -> Request:
        request = self.waiting.popleft()
        self.n_waiting -= len(request.sample_ids)
        return request

    def go_on(self) -> None:
        """Hire, hand out, wait for an answer, take it in."""
        if time.monotonic() >= self.hire_at:
            hired = self.crew.hire(len(self.desks), self.batch_size)
            self.desks += [_Desk(worker, self.batch_size) for worker in hired]
        elif not self.desks:
            time.sleep(1.0)
        for desk in self.desks:
            if not desk.asked:
                self.hand_out(desk)
        asked = {id(desk.worker): desk for desk in self.desks if desk.asked}
        for worker in self.crew.wait([desk.worker for desk in asked.values()]):
            self.receive(asked[id(worker)])
        for desk in list(self.desks):
            if desk.asked and time.monotonic() - desk.asked_at > MAX_SILENCE:
                self.bury(desk, Failure(f"no answer in {MAX_SILENCE:.0f} s", out_of_memory=False))

    def hand_out(self, desk: _Desk) -> None:
        """Give a worker more to do, as much as it should have."""
        requests: list[Request] = []
        n_samples = len(desk.owed)
        if not desk.owed:
            desk.on_trial = bool(self.suspects and not self.waiting)
            if desk.on_trial:
                requests.append(self.suspects.popleft())
        most = min(HIGH * self.batch_size, self.share())
        while self.waiting and not desk.on_trial and n_samples < most:
            requests.append(self.take())
            n_samples += len(requests[-1].sample_ids)
        if requests or desk.owed:
            enough = min(LOW * self.batch_size, n_samples * LOW // HIGH) if self.waiting else 1
            desk.hand_over(requests, max(1, enough))

    def share(self) -> int:
        """Samples for each worker if all that are left were shared out evenly."""
        n_left = self.n_waiting + sum(len(desk.owed) for desk in self.desks)
        return math.ceil(n_left / len(self.desks))

    def receive(self, desk: _Desk) -> None:
        """Take in an answer, after the worker has more to do: it must not wait for the disk."""
        desk.asked = False
        try:
            answer = desk.worker.answer()
        except WorkerLostError as error:
            self.bury(desk, Failure(str(error), out_of_memory=False))
            return
        except UserError as error:
            if not self.has_worked and len(self.desks) == 1:
                raise
            self.bury(desk, Failure(str(error), out_of_memory=False))
            return
        if answer.samples:
            desk.proven = self.has_worked = True
            self.n_lost = self.n_trials = 0
        samples = desk.settle(answer)
        self.unfulfilled += [Unfulfilled(*refused) for refused in answer.refused]
        if answer.failure:
            self.bury(desk, answer.failure)
        else:
            self.hand_out(desk)
        self.put(self.take_in(samples))

    def bury(self, desk: _Desk, failure: Failure) -> None:
        """Let a dead worker go, and deal again what it owed."""
        self.desks.remove(desk)
        desk.worker.stop()
        print(
            f"a worker died: {failure.reason}; its {len(desk.owed)} samples are dealt again",
            file=sys.stderr,
        )
        if failure.out_of_memory and desk.batch_size > 1:
            self.batch_size = min(self.batch_size, desk.batch_size // 2)
            print(f"going on with {self.batch_size} samples at once", file=sys.stderr)
            self.put(desk.left())
            return
        if not desk.proven:
            self.count_loss(desk, failure)
        left = desk.left()
        self.deaths.update({request.problem_id for request in left})
        for request in left:
            n_deaths = self.deaths[request.problem_id]
            if desk.on_trial and n_deaths > 3:
                self.unfulfilled.append(Unfulfilled(request, failure.reason))
            elif n_deaths > 1:
                self.suspects.append(request)
            else:
                self.put([request])

    def count_loss(self, desk: _Desk, failure: Failure) -> None:
        """UserError if too many workers in a row have died without giving a sample."""
        self.n_trials += desk.on_trial
        self.n_lost += not desk.on_trial
        if self.n_lost == MAX_LOST or self.n_trials == MAX_TRIALS:
            n = self.n_trials if desk.on_trial else self.n_lost
            raise UserError(f"{n} workers in a row died without a sample: {failure.reason}")
        if self.has_worked and not desk.on_trial:  # others work, so it may be its place
            self.hire_at = time.monotonic() + SECONDS_TO_RETRY

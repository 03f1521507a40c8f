"""Deal requests to workers until every sample is there, whatever happens to the workers.

No shards: a worker gets more when it has little left, so none waits for a slower one. Samples are
taken in here and only here, so none is there twice; what a dead worker had is dealt again.
"""

import math
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable
from itertools import groupby
from typing import Any, NamedTuple, Protocol, TypeVar

from screl.files import UserError
from screl.problems import ProblemId
from screl.requests import Drawn, Request, consecutive
from screl.worker import Answer, Failure

# A worker gets more before it has fewer than LOW batches of samples left, and then up to HIGH; in
# the end, when there is not so much for all, up to its share.
LOW, HIGH = 2, 3
MAX_LOST_AT_START = 3

TakeIn = Callable[[list[Drawn]], Iterable[Request]]


class WorkerLostError(Exception):
    """A worker is gone: its process, its machine or the way there."""


class Worker(Protocol):
    """An engine somewhere. One exchange at a time."""

    def ask(self, requests: list[Request], enough: int) -> None:
        """Begin an exchange, see ``screl.worker.exchange``."""

    def answer(self) -> Answer:
        """What came of it. WorkerLostError if that will never be known, UserError if the engine
        cannot be started."""

    def stop(self) -> None:
        """Free what it holds."""


AnyWorker = TypeVar("AnyWorker", bound=Worker)


class Crew(Protocol[AnyWorker]):
    """Where workers come from."""

    def hire(self, n_present: int, batch_size: int) -> list[AnyWorker]:
        """New workers, as many as there is room for beside those present."""

    def wait(self, workers: list[AnyWorker]) -> list[AnyWorker]:
        """Those of ``workers`` that have an answer; after a while, none."""


class Unfulfilled(NamedTuple):
    """A request, or what is left of it, and why it could not be fulfilled."""

    request: Request
    reason: str


def deal(
    crew: Crew[Any], requests: Iterable[Request], take_in: TakeIn, batch_size: int
) -> list[Unfulfilled]:
    """Have all ``requests`` fulfilled, and those that ``take_in`` returns for the samples it gets.

    Returns what could not be. A request that was with two workers when they died is tried on its
    own; if that worker dies too, the request is to blame. UserError if no worker can be started.
    """
    dealer = _Dealer(crew, requests, take_in, batch_size)
    try:
        while dealer.busy:
            dealer.go_on()
    finally:
        for desk in dealer.desks:
            desk.worker.stop()
    return dealer.unfulfilled


class _Desk:
    """A worker, and the samples that it owes."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.owed: dict[tuple[ProblemId, int], Request] = {}
        self.asked = False
        self.on_trial = False  # it has nothing but one suspect
        self.proven = False  # it has given an answer

    def hand_over(self, requests: list[Request], enough: int) -> None:
        for request in requests:
            self.owed |= {(request.problem_id, i): request for i in request.sample_ids}
        self.worker.ask(requests, enough)
        self.asked = True

    def settle(self, answer: Answer) -> list[Drawn]:
        """Take what was owed off the list, and return it."""
        for request, _ in answer.refused:
            for sample_id in request.sample_ids:
                del self.owed[request.problem_id, sample_id]
        for drawn in answer.drawn:
            del self.owed[drawn.sample.problem_id, drawn.sample.sample_id]
        return answer.drawn

    def left(self) -> list[Request]:
        """What is owed, as requests."""
        requests = []
        for problem_id, keys in groupby(sorted(self.owed, key=repr), key=lambda key: key[0]):
            of_problem = list(keys)
            request = self.owed[of_problem[0]]
            for sample_ids in consecutive(sorted(i for _, i in of_problem), len(of_problem)):
                requests.append(
                    Request(problem_id, request.prompt_ids, sample_ids, request.watched)
                )
        return requests


class _Dealer:
    def __init__(
        self, crew: Crew[Any], requests: Iterable[Request], take_in: TakeIn, batch_size: int
    ) -> None:
        self.crew, self.take_in, self.batch_size = crew, take_in, batch_size
        self.waiting = deque(requests)
        self.suspects: deque[Request] = deque()
        self.deaths: Counter[ProblemId] = Counter()
        self.unfulfilled: list[Unfulfilled] = []
        self.desks: list[_Desk] = []
        self.n_lost_at_start = 0

    @property
    def busy(self) -> bool:
        return bool(self.waiting or self.suspects or any(desk.owed for desk in self.desks))

    def go_on(self) -> None:
        """Hire, hand out, wait for an answer, take it in."""
        self.desks += map(_Desk, self.crew.hire(len(self.desks), self.batch_size))
        for desk in self.desks:
            if not desk.asked:
                self.hand_out(desk)
        asked = {id(desk.worker): desk for desk in self.desks if desk.asked}
        for worker in self.crew.wait([desk.worker for desk in asked.values()]):
            self.receive(asked[id(worker)])

    def hand_out(self, desk: _Desk) -> None:
        """Give a worker more to do, as much as it should have."""
        requests: list[Request] = []
        n_samples, share = len(desk.owed), self.share()
        if not desk.owed:
            desk.on_trial = bool(self.suspects and not self.waiting)
        if desk.on_trial and not desk.owed:
            requests.append(self.suspects.popleft())
        while self.waiting and not desk.on_trial and n_samples < min(HIGH * self.batch_size, share):
            requests.append(self.waiting.popleft())
            n_samples += len(requests[-1].sample_ids)
        if requests or desk.owed:
            enough = min(LOW * self.batch_size, n_samples * LOW // HIGH) if self.waiting else 1
            desk.hand_over(requests, max(1, enough))

    def share(self) -> int:
        """Samples for each worker if all that are left were shared out evenly."""
        n_waiting = sum(len(request.sample_ids) for request in self.waiting)
        return math.ceil((n_waiting + sum(len(d.owed) for d in self.desks)) / len(self.desks))

    def receive(self, desk: _Desk) -> None:
        """Take in an answer, after the worker has more to do: it must not wait for the disk."""
        desk.asked = False
        try:
            answer = desk.worker.answer()
        except WorkerLostError as error:
            self.bury(desk, Failure(str(error), out_of_memory=False))
            return
        desk.proven, self.n_lost_at_start = True, 0
        drawn = desk.settle(answer)
        self.unfulfilled += [Unfulfilled(*refused) for refused in answer.refused]
        if answer.failure:
            self.bury(desk, answer.failure)
        else:
            self.hand_out(desk)
        self.waiting.extend(self.take_in(drawn))

    def bury(self, desk: _Desk, failure: Failure) -> None:
        """Let a dead worker go, and deal again what it owed."""
        self.desks.remove(desk)
        desk.worker.stop()
        self.n_lost_at_start += not desk.proven
        if self.n_lost_at_start == MAX_LOST_AT_START:
            raise UserError(f"{MAX_LOST_AT_START} workers in a row died early: {failure.reason}")
        print(
            f"a worker died: {failure.reason}; its {len(desk.owed)} samples are dealt again",
            file=sys.stderr,
        )
        if failure.out_of_memory and self.batch_size > 1:
            self.batch_size //= 2
            print(f"going on with {self.batch_size} samples at once", file=sys.stderr)
            self.waiting.extendleft(reversed(desk.left()))
            return
        for request in desk.left():
            self.deaths[request.problem_id] += 1
            if desk.on_trial:
                self.unfulfilled.append(Unfulfilled(request, failure.reason))
            elif self.deaths[request.problem_id] > 1:
                self.suspects.append(request)
            else:
                self.waiting.append(request)

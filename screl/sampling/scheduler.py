"""Assign requests to workers until every sample is made, whatever happens to the workers.

There are no shards: a worker gets more requests before it is idle, so none waits for a slower one.
All samples pass through the scheduler, so none is stored twice. The pending requests of a dead
worker are assigned again.
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

# A worker gets more requests when fewer than LOW batches of its samples are pending: up to HIGH
# batches or, near the end, when less is left for all workers, up to an even share.
LOW, HIGH = 2, 3
MAX_LOST = 3  # workers in a row that died without a sample: the next one would die too
MAX_LOST_ISOLATED = 20  # the same limit for workers with a single isolated request, after a sample
SECONDS_TO_RETRY = 60.0  # before a worker is started again where one could not start
# A worker that is silent for this many seconds is given up. Answers come every second, but loading
# a large model from a network disk may take long.
MAX_SILENCE = 3600.0

OnSamples = Callable[[list[Sample]], Iterable[Request]]


class WorkerLostError(Exception):
    """A worker is gone: its process, its machine, or the connection to it."""


class Worker(Protocol):
    """An engine in some process, which runs one exchange at a time."""

    def send(self, requests: list[Request], enough: int) -> None:
        """Begin an exchange; see ``screl.sampling.engine.exchange``."""

    def receive(self) -> ExchangeResult:
        """Return the result of the exchange.

        Raises WorkerLostError if the worker is gone, and UserError for a fault that the user must
        fix, such as an engine that cannot be started or a damaged checkpoint.
        """

    def stop(self) -> None:
        """Free the worker's resources."""


AnyWorker = TypeVar("AnyWorker", bound=Worker)


class WorkerPool(Protocol[AnyWorker]):
    """The place where workers are started."""

    def start_workers(self, n_running: int, batch_size: int) -> list[AnyWorker]:
        """Return new workers, as many as there is room for in addition to those running."""

    def wait(self, workers: list[AnyWorker]) -> list[AnyWorker]:
        """Return those of ``workers`` that have a result; return [] after a timeout."""

    def devices(self) -> Devices:
        """Return the devices that all workers hold together, or the most they have held at once."""


class Unfulfilled(NamedTuple):
    """A request, or the rest of one, and the reason why it could not be fulfilled."""

    request: Request
    reason: str


def run_requests(
    pool: WorkerPool[Any], requests: Iterable[Request], on_samples: OnSamples, batch_size: int
) -> list[Unfulfilled]:
    """Have workers fulfill all ``requests``; return those that could not be fulfilled.

    ``on_samples`` is called with samples as they arrive and returns further requests. A request
    that two workers had when they died is isolated: a worker gets it alone. If two more workers die
    with it, it is given up. Raises UserError if nothing can be sampled at all.
    """
    scheduler = _Scheduler(pool, requests, on_samples, batch_size)
    try:
        while scheduler.is_busy:
            scheduler.step()
    finally:
        # in parallel, since ending an engine takes seconds
        with ThreadPoolExecutor(max(1, len(scheduler.running))) as threads:
            list(threads.map(lambda state: state.worker.stop(), scheduler.running))
    return scheduler.unfulfilled


class _WorkerState:
    """A worker and the samples that it has yet to return."""

    def __init__(self, worker: Worker, batch_size: int) -> None:
        self.worker, self.batch_size = worker, batch_size
        self.pending: dict[tuple[ProblemId, int], Request] = {}
        self.is_waiting = False  # for the result of an exchange, sent at sent_at
        self.sent_at = 0.0
        self.is_isolated = False  # it has a single isolated request and nothing else
        self.has_produced = False

    def send(self, requests: list[Request], enough: int) -> None:
        for request in requests:
            self.pending |= {(request.problem_id, i): request for i in request.sample_ids}
        self.worker.send(requests, enough)
        self.is_waiting, self.sent_at = True, time.monotonic()

    def settle(self, result: ExchangeResult) -> None:
        """Remove the returned samples and the refused requests from ``pending``."""
        for request, _ in result.refused:
            for sample_id in request.sample_ids:
                del self.pending[request.problem_id, sample_id]
        for sample in result.samples:
            del self.pending[sample.problem_id, sample.sample_id]

    def pending_requests(self) -> list[Request]:
        requests = []
        for problem_id, keys in groupby(sorted(self.pending, key=repr), key=lambda key: key[0]):
            of_problem = list(keys)
            prompt_ids = self.pending[of_problem[0]].prompt_ids
            for sample_ids in consecutive(sorted(i for _, i in of_problem), len(of_problem)):
                requests.append(Request(problem_id, prompt_ids, sample_ids))
        return requests


class _Scheduler:
    def __init__(
        self,
        pool: WorkerPool[Any],
        requests: Iterable[Request],
        on_samples: OnSamples,
        batch_size: int,
    ) -> None:
        self.pool, self.on_samples, self.batch_size = pool, on_samples, batch_size
        self.queue: deque[Request] = deque()
        self.n_queued = 0  # samples
        self.enqueue(requests)
        self.isolated: deque[Request] = deque()
        self.n_deaths: Counter[ProblemId] = Counter()  # of workers that had the problem
        self.unfulfilled: list[Unfulfilled] = []
        self.running: list[_WorkerState] = []
        self.n_lost = self.n_lost_isolated = 0  # workers in a row that died without a sample
        self.has_produced = False
        self.retry_at = 0.0

    @property
    def is_busy(self) -> bool:
        return bool(self.queue or self.isolated or any(one.pending for one in self.running))

    def enqueue(self, requests: Iterable[Request]) -> None:
        for request in requests:
            self.queue.append(request)
            self.n_queued += len(request.sample_ids)

    def dequeue(self) -> Request:
        request = self.queue.popleft()
        self.n_queued -= len(request.sample_ids)
        return request

    def step(self) -> None:
        """Start workers where there is room, assign requests, wait, and collect results."""
        if not self.running or time.monotonic() >= self.retry_at:
            started = self.pool.start_workers(len(self.running), self.batch_size)
            self.running += [_WorkerState(worker, self.batch_size) for worker in started]
        for state in self.running:
            if not state.is_waiting:
                self.assign(state)
        waiting = {id(state.worker): state for state in self.running if state.is_waiting}
        for worker in self.pool.wait([state.worker for state in waiting.values()]):
            self.collect(waiting[id(worker)])
        for state in list(self.running):
            if state.is_waiting and time.monotonic() - state.sent_at > MAX_SILENCE:
                silence = Failure(f"no answer in {MAX_SILENCE:.0f} s", out_of_memory=False)
                self.drop(state, silence)

    def assign(self, state: _WorkerState) -> None:
        """Send a worker more requests, up to HIGH batches or an even share."""
        requests: list[Request] = []
        n_samples = len(state.pending)
        if not state.pending:
            state.is_isolated = bool(self.isolated and not self.queue)
            if state.is_isolated:
                requests.append(self.isolated.popleft())
        most = min(HIGH * self.batch_size, self.even_share())
        while self.queue and not state.is_isolated and n_samples < most:
            requests.append(self.dequeue())
            n_samples += len(requests[-1].sample_ids)
        if requests or state.pending:
            enough = min(LOW * self.batch_size, n_samples * LOW // HIGH) if self.queue else 1
            state.send(requests, max(1, enough))

    def even_share(self) -> int:
        """Return the remaining samples per worker, if they were shared evenly."""
        n_left = self.n_queued + sum(len(one.pending) for one in self.running)
        return math.ceil(n_left / len(self.running))

    def collect(self, state: _WorkerState) -> None:
        """Take a result, give the worker more to do, and only then store the samples, so that the
        worker does not wait for the disk."""
        state.is_waiting = False
        try:
            result = state.worker.receive()
        except WorkerLostError as error:
            self.drop(state, Failure(str(error), out_of_memory=False))
            return
        except UserError as error:
            if not self.has_produced and len(self.running) == 1:
                raise
            self.drop(state, Failure(str(error), out_of_memory=False))
            return
        if result.samples:
            state.has_produced = self.has_produced = True
            self.n_lost = self.n_lost_isolated = 0
        state.settle(result)
        self.unfulfilled += [Unfulfilled(*refused) for refused in result.refused]
        if result.failure:
            self.drop(state, result.failure)
        else:
            self.assign(state)
        self.enqueue(self.on_samples(result.samples))

    def drop(self, state: _WorkerState, failure: Failure) -> None:
        """Stop a failed worker and queue its pending requests again."""
        self.running.remove(state)
        state.worker.stop()
        print(
            f"a worker died: {failure.reason}; samples left to other workers: {len(state.pending)}",
            file=sys.stderr,
        )
        if failure.out_of_memory and state.batch_size > 1:
            self.batch_size = min(self.batch_size, state.batch_size // 2)
            print(f"continuing with {self.batch_size} samples at once", file=sys.stderr)
            self.enqueue(state.pending_requests())
            return
        if not state.has_produced:
            self.count_loss(state.is_isolated, failure)
        requests = state.pending_requests()
        self.n_deaths.update({request.problem_id for request in requests})
        for request in requests:
            n_deaths = self.n_deaths[request.problem_id]
            if state.is_isolated and n_deaths > 3:
                self.unfulfilled.append(Unfulfilled(request, failure.reason))
            elif n_deaths > 1:
                self.isolated.append(request)
            else:
                self.enqueue([request])

    def count_loss(self, is_isolated: bool, failure: Failure) -> None:
        """Count a worker that died without a sample; raise UserError after too many in a row."""
        self.n_lost_isolated += is_isolated
        self.n_lost += not is_isolated
        # Where no worker ever made a sample, the model is more likely at fault than one request.
        max_isolated = MAX_LOST_ISOLATED if self.has_produced else MAX_LOST
        if self.n_lost == MAX_LOST or self.n_lost_isolated == max_isolated:
            n = self.n_lost_isolated if is_isolated else self.n_lost
            raise UserError(f"{n} workers in a row died without a sample: {failure.reason}")
        if self.has_produced and self.running and not is_isolated:  # its machine may be at fault
            self.retry_at = time.monotonic() + SECONDS_TO_RETRY

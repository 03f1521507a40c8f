"""What becomes of samples as they come in: to the disk, on the bar, and under a doctor's eye."""

import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from tqdm import tqdm

from screl.core.io import UserError
from screl.core.problems import ProblemId
from screl.grading.answers import Answer, extract_answer, is_correct
from screl.samples.store import SampleWriter
from screl.sampling.adaptive import Budget, WantedSamples
from screl.sampling.checks import Health, InOrder, run_alarms
from screl.sampling.engine import Drawn, Request

SECONDS_BETWEEN_CHECKS = 30.0


class SampleCollector:
    """Takes samples in; returns what to ask for next, which is nothing without a ``budget``.

    ``gold``: the right answers, where they are known.
    """

    def __init__(
        self,
        writer: SampleWriter,
        gold: Mapping[ProblemId, Answer],
        budget: Budget | None,
        to_requests: Callable[[Iterable[WantedSamples]], list[Request]],
        requests: Sequence[Request],
    ) -> None:
        self._writer, self._gold = writer, gold
        self._budget, self._to_requests = budget, to_requests
        self.health, self._in_order = Health(), InOrder()
        self.n_samples = self.n_tokens = self._n_graded = self._n_right = 0
        # when samples first came in, and how many tokens they had
        self._first: tuple[float, int] | None = None
        self._next_check = time.monotonic() + SECONDS_BETWEEN_CHECKS
        self._told: set[str] = set()  # names of alarms
        self._bar = tqdm(total=0, desc="sample", unit="sample")
        self._expect(requests)

    def __call__(self, drawn: list[Drawn]) -> list[Request]:
        """Samples are on the disk when this returns."""
        if not drawn:
            return []
        samples = [one.sample for one in drawn]
        self._writer.write(samples)
        for one in drawn:
            self._look_at(one)
        self.n_samples += len(samples)
        self.n_tokens += sum(sample.n_tokens or 0 for sample in samples)
        self._first = self._first or (time.monotonic(), self.n_tokens)
        more = self._to_requests(self._budget.add(samples)) if self._budget else []
        self._expect(more)
        self._show(len(samples))
        return more

    def _expect(self, requests: Sequence[Request]) -> None:
        n_more = sum(len(request.sample_ids) for request in requests)
        self._bar.total = (self._bar.total or 0) + n_more
        for request in requests:
            if request.watched:
                self._in_order.expect(request.problem_id, request.sample_ids)

    def _look_at(self, drawn: Drawn) -> None:
        sample, watch = drawn
        gold = self._gold.get(sample.problem_id)
        answer = extract_answer(sample.completion, "strict")
        if gold is not None:
            self._n_graded += 1
            self._n_right += is_correct(answer, gold)
        # of problems that have no such answer themselves, none is to be expected
        self.health.add(sample, has_answer=answer is not None or gold is None)
        if watch is None:
            return
        if not watch.log_probability < 0.01:  # as NaN is not
            raise UserError(
                f"problem {sample.problem_id!r}, sample {sample.sample_id}: the logarithm of its "
                f"probability is {watch.log_probability}: the checkpoint is damaged, or needs "
                "--precision fp32"
            )
        for held in self._in_order.add(sample.problem_id, sample.sample_id, watch):
            self.health.repeats.add(sample.problem_id, *held)

    def _show(self, n_new: int) -> None:
        """Move the bar; now and then, look whether something is wrong with the run."""
        shown = {}
        if rate := self.tokens_per_second():
            shown["tok_s"] = f"{rate:.0f}"
        if self._n_graded:
            shown["right"] = f"{self._n_right / self._n_graded:.1%}"
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update(n_new)
        if time.monotonic() > self._next_check:
            self._next_check += SECONDS_BETWEEN_CHECKS
            for name, line in run_alarms(self.health).items():
                if name not in self._told:
                    self._bar.write(f"warning: {line}", file=sys.stderr)
                    self._told.add(name)

    def tokens_per_second(self) -> float | None:
        """From the first samples on, without them, since the model was loaded before; None until
        there are others."""
        if self._first is None or self.n_tokens == self._first[1]:
            return None
        since, n_before = self._first
        return (self.n_tokens - n_before) / (time.monotonic() - since)

    def close(self) -> dict[str, str]:
        """Take the bar down; what is wrong in the end, by name."""
        self._bar.close()
        return run_alarms(self.health)

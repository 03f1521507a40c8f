"""Handle samples as they arrive: store, judge, count, and check them, and show progress."""

import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from screl.core.problems import Problem, ProblemId
from screl.core.progress import progress_bar
from screl.grading.verdict import JudgeRules
from screl.samples.store import Sample, SampleWriter
from screl.sampling.adaptive import Budget, WantedSamples
from screl.sampling.checks import Health, run_alarms, show_alarm
from screl.sampling.engine import Request
from screl.sampling.tally import ProblemTally, is_right, judge_of

SECONDS_BETWEEN_CHECKS = 30.0


class SampleCollector:
    """A callable that takes the samples of a session and returns the requests to make next.

    Without a ``budget`` it returns none. ``requests`` are those to begin with. Each sample is
    judged once, here; ``tallies`` and the budget use the same verdict.
    """

    def __init__(
        self,
        writer: SampleWriter,
        problems: Sequence[Problem],
        tallies: Mapping[ProblemId, ProblemTally],
        health: Health,
        budget: Budget | None,
        to_requests: Callable[[Iterable[WantedSamples]], list[Request]],
        requests: Iterable[Request],
        rules: JudgeRules,
    ) -> None:
        self._writer, self._tallies, self._health = writer, tallies, health
        self._rules = rules
        self._problems = {problem.problem_id: problem for problem in problems}
        self._budget, self._to_requests = budget, to_requests
        self.n_samples = self.n_tokens = self._n_graded = self._n_right = 0
        # when the first samples arrived, and how many tokens they had
        self._first: tuple[float, int] | None = None
        self._next_check = time.monotonic() + SECONDS_BETWEEN_CHECKS
        self._shown_alarms: set[str] = set()
        self._bar = progress_bar(_count_samples(requests), desc="sample", unit="sample")

    def __call__(self, samples: list[Sample]) -> list[Request]:
        """Store ``samples`` on disk and return the requests that follow from them."""
        if not samples:
            return []
        self._writer.write(samples)
        for sample in samples:
            self._count(sample)
        self._first = self._first or (time.monotonic(), self.n_tokens)
        more = self._to_requests(self._budget.next_blocks(samples)) if self._budget else []
        self._bar.total += _count_samples(more)
        self._show(len(samples))
        return more

    def _count(self, sample: Sample) -> None:
        verdict = judge_of(self._problems[sample.problem_id], self._rules)(sample.completion)
        self._tallies[sample.problem_id].add(sample, verdict)
        self.n_samples += 1
        self.n_tokens += sample.n_tokens or 0
        self._n_graded += verdict is not None
        self._n_right += verdict is not None and is_right(verdict)
        # where the solution has no answer, none is expected
        self._health.add(sample, has_answer=verdict is None or verdict.reason != "no_answer")

    def _show(self, n_new: int) -> None:
        """Update the progress bar; every SECONDS_BETWEEN_CHECKS, check the run for alarms."""
        shown = {}
        if rate := self.tokens_per_second():
            shown["tok_s"] = f"{rate:.0f}"
        if self._n_graded:
            shown["right"] = f"{self._n_right / self._n_graded:.1%}"
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update(n_new)
        if time.monotonic() > self._next_check:
            self._next_check += SECONDS_BETWEEN_CHECKS
            for name, line in run_alarms(self._health).items():
                if name not in self._shown_alarms:
                    self._bar.write(show_alarm(name, line), file=sys.stderr)
                    self._shown_alarms.add(name)

    def tokens_per_second(self) -> float | None:
        """Return the rate since the first samples arrived, so that loading the model does not
        count; None until more samples arrive."""
        if self._first is None or self.n_tokens == self._first[1]:
            return None
        since, n_before = self._first
        return (self.n_tokens - n_before) / (time.monotonic() - since)

    def close(self) -> None:
        """Remove the progress bar."""
        self._bar.close()


def _count_samples(requests: Iterable[Request]) -> int:
    return sum(len(request.sample_ids) for request in requests)

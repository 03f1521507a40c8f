"""Sample each problem until enough distinct right paths are found, up to a maximum.

This follows DART-Math (arXiv 2407.13690), but in blocks: whether a problem needs more samples is
decided only when its last block is complete, so the result does not depend on the workers' speed.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from screl.core.problems import Problem, ProblemId
from screl.grading.paths import join_paths
from screl.grading.verdict import JudgeRules, solution_path
from screl.samples.store import Sample
from screl.sampling.tally import ProblemTally


class WantedSamples(NamedTuple):
    """A problem and the ids of its samples to be made, in ascending order."""

    problem: Problem
    sample_ids: Sequence[int]


class Budget:
    """Decides how many samples each problem gets.

    A problem gets samples until the filter would keep ``until_correct`` of them, but at most
    ``max_samples``. ``missing`` holds, per problem, the sample_ids below ``max_samples`` that the
    store lacks. ``tallies`` must count every sample before it is passed to ``next_blocks``. Every
    solution must have an answer.
    """

    def __init__(
        self,
        missing: Iterable[WantedSamples],
        tallies: Mapping[ProblemId, ProblemTally],
        until_correct: int,
        max_samples: int,
        rules: JudgeRules,
    ) -> None:
        self._until_correct, self._max_samples = until_correct, max_samples
        self._blocks = {
            wanted.problem.problem_id: _Blocks(wanted, tallies[wanted.problem.problem_id], rules)
            for wanted in missing
        }

    def first_blocks(self) -> list[WantedSamples]:
        """Return what to sample first."""
        return [block for blocks in self._blocks.values() for block in self._next(blocks)]

    def next_blocks(self, samples: Iterable[Sample]) -> list[WantedSamples]:
        """Return what to sample next, now that ``samples`` are made."""
        changed: dict[ProblemId, _Blocks] = {}
        for sample in samples:
            blocks = changed[sample.problem_id] = self._blocks[sample.problem_id]
            blocks.n_pending -= 1
        return [block for blocks in changed.values() for block in self._next(blocks)]

    def _next(self, blocks: "_Blocks") -> Iterator[WantedSamples]:
        """Yield the next block of a problem if its last one is complete and was not enough."""
        while blocks.n_pending == 0 and blocks.n_wanted < self._max_samples:
            if blocks.n_paths() >= self._until_correct:
                return
            # half as many more each time: few rounds for hard problems, little waste for others
            n_more = max(self._until_correct, blocks.n_wanted // 2)
            blocks.n_wanted = min(blocks.n_wanted + n_more, self._max_samples)
            if sample_ids := blocks.request():
                yield WantedSamples(blocks.problem, sample_ids)


class _Blocks:
    """A problem whose samples 0 to n_wanted - 1 are stored or pending."""

    def __init__(self, missing: WantedSamples, tally: ProblemTally, rules: JudgeRules) -> None:
        self.problem, self._missing = missing
        self._tally = tally
        self._solution_path = solution_path(self.problem, rules)
        self.n_wanted = self.n_pending = self._n_requested = 0

    def request(self) -> Sequence[int]:
        """Return the missing sample_ids below n_wanted that were not requested before."""
        begin, self._n_requested = self._n_requested, bisect_left(self._missing, self.n_wanted)
        sample_ids = self._missing[begin : self._n_requested]
        self.n_pending = len(sample_ids)
        return sample_ids

    def n_paths(self) -> int:
        """Return how many distinct right paths the samples below n_wanted have."""
        first_ids = self._tally.first_sample_ids
        found = {path for path, first in first_ids.items() if first < self.n_wanted}
        own = set() if self._solution_path is None else {self._solution_path}
        return len(set(join_paths(found | own).values())) - len(own)

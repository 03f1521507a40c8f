"""Sample a problem until enough distinct right paths of it are there, at most so many samples.

As in DART-Math (arXiv 2407.13690), but in blocks: whether a problem needs more is asked when all
samples of its last block are there. So what is sampled does not depend on which worker was faster.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from screl.core.problems import Problem, ProblemId
from screl.grading.equations import equation_path
from screl.grading.verdict import make_judge
from screl.samples.store import Sample


class WantedSamples(NamedTuple):
    """Samples of a problem that are wanted, in ascending order."""

    problem: Problem
    sample_ids: Sequence[int]


class Budget:
    """How many samples each problem gets: until the strict filter would keep ``until_correct`` of
    them, at most ``max_samples``. Every solution must have an answer."""

    def __init__(self, problems: Sequence[Problem], until_correct: int, max_samples: int) -> None:
        self._until_correct, self._max_samples = until_correct, max_samples
        self._states = {problem.problem_id: _State(problem) for problem in problems}

    def begin(self, there: Iterable[Sample]) -> list[WantedSamples]:
        """What to sample first, where some samples may be there already."""
        for sample in there:
            self._states[sample.problem_id].add(sample)
        return [wish for state in self._states.values() for wish in self._next(state)]

    def add(self, samples: Iterable[Sample]) -> list[WantedSamples]:
        """What to sample next, now that these are there."""
        states: dict[ProblemId, _State] = {}
        for sample in samples:
            states[sample.problem_id] = self._states[sample.problem_id]
            states[sample.problem_id].add(sample)
        return [wish for state in states.values() for wish in self._next(state)]

    def _next(self, state: "_State") -> Iterable[WantedSamples]:
        """The next block of a problem, if its last one is whole and was not enough."""
        while not state.missing() and state.n_wanted < self._max_samples:
            if state.n_paths() >= self._until_correct:
                return
            # a half more each time: few rounds for hard problems, little in vain for others
            n_more = max(self._until_correct, state.n_wanted // 2)
            state.n_wanted = min(state.n_wanted + n_more, self._max_samples)
            if missing := state.missing():
                yield WantedSamples(state.problem, missing)


class _State:
    """A problem, its samples that are there, and how many are wanted so far: 0 to n_wanted - 1."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.n_wanted = 0
        self._solution_path = equation_path(problem.solution, "strict")
        self._there: set[int] = set()
        self._paths: dict[str, int] = {}  # and the first sample with each

    def add(self, sample: Sample) -> None:
        self._there.add(sample.sample_id)
        verdict = make_judge(self.problem, "strict")(sample.completion)
        if verdict.reason == "valid" and verdict.path != self._solution_path:
            first = self._paths.get(verdict.path, sample.sample_id)
            self._paths[verdict.path] = min(first, sample.sample_id)

    def missing(self) -> list[int]:
        return [i for i in range(self.n_wanted) if i not in self._there]

    def n_paths(self) -> int:
        """Distinct right paths among the samples wanted so far."""
        return sum(first < self.n_wanted for first in self._paths.values())

"""From states of problems to files: the RFT data, and of each of its rows where it comes from."""

import json
from collections.abc import Iterator, Mapping, Sequence

from tqdm import tqdm

from screl.completions import Run, map_problems
from screl.problems import Problem, ProblemId
from screl.rejection import ProblemState, Rules, filter_problem

SOLUTION = "solution"  # the source of a row that is not sampled


def filter_problems(
    problems: Sequence[Problem],
    runs: Sequence[Run],
    rules: Rules,
    known: Mapping[ProblemId, ProblemState] | None = None,
    n_workers: int | None = None,
) -> list[ProblemState]:
    """The state of every problem after the samples of ``runs``, on top of what is known."""
    states = map_problems(filter_problem, problems, runs, rules, known, n_workers=n_workers)
    bar = tqdm(states, total=len(problems), unit="problem", disable=None, leave=False)
    return list(bar)


def training_rows(problems: Sequence[Problem], states: Sequence[ProblemState]) -> Iterator[str]:
    """Yield JSON lines: every problem's solution, then its kept completions."""
    for problem, state in zip(problems, states, strict=True):
        query = json.dumps(problem.question)
        for response in (problem.solution, *(candidate.text for candidate in state.kept)):
            yield f'{{"query": {query}, "response": {json.dumps(response)}}}\n'


def source_rows(
    problems: Sequence[Problem], states: Sequence[ProblemState], names: Sequence[str]
) -> Iterator[str]:
    """Yield JSON lines, one for each of training_rows: its problem, run and sample."""
    sources = [json.dumps(name) for name in names]
    for problem, state in zip(problems, states, strict=True):
        head = f'{{"problem_id": {json.dumps(problem.problem_id)}, "source": '
        yield f'{head}"{SOLUTION}", "sample_id": null}}\n'
        for kept in state.kept:
            yield f'{head}{sources[kept.source]}, "sample_id": {kept.sample_id}}}\n'

"""Rejection sampling: of a problem's samples keep one right, valid completion per equation path.

arXiv 2308.01825, Section 3.3 and Algorithm 1 of Appendix A.3. Everything here is about one problem;
what is known of it can be continued with more samples.

From states of problems to files: the RFT data, and of each of its rows where it comes from.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tqdm import tqdm

from screl.core.problems import Problem, ProblemId
from screl.grading.answers import Fidelity
from screl.grading.process_checks import ProcessCheck
from screl.grading.verdict import (
    Reason,
    Verdict,
    make_judge,
)
from screl.rejection.selection import (
    Candidate,
    Keep,
    select_as_published,
    select_at_random,
    select_farthest,
)
from screl.samples.reader import Run, map_problems
from screl.samples.store import Sample

# What becomes of a valid one.
Fate = Reason | Literal["solution_path", "repeated_path", "not_drawn", "kept"]


@dataclass(frozen=True, slots=True)
class FilterRules:
    """How samples are judged and chosen among."""

    fidelity: Fidelity
    process_checks: tuple[ProcessCheck, ...] = ()
    keep: Keep = "distinct"
    seed: int = 0  # of random_rows and random_tokens


@dataclass(slots=True)
class ProblemState:
    """What is known of one problem after some of its samples; enough to go on with more of them.

    ``counts[source]``: how many samples of a run there were ("sampled"), ended for each reason,
    failed each process check, were cut off; and sums of lengths, with how many samples know theirs
    in tokens. ``first_seen[path][source]``: the sample_id with which a run first had this path.
    ``kept``: in the order of output.
    """

    counts: list[Counter[str]]
    first_seen: dict[str, dict[int, int]] = field(default_factory=dict)
    kept: list[Candidate] = field(default_factory=list)


def new_state(n_runs: int) -> ProblemState:
    """That of a problem of which no sample was seen."""
    return ProblemState([Counter() for _ in range(n_runs)])


def filter_problem(
    problem: Problem,
    completions: Sequence[Sequence[Sample]],
    rules: FilterRules,
    known: Mapping[ProblemId, ProblemState] | None = None,
) -> ProblemState:
    """The state of ``problem`` after its ``completions`` of every run, on top of what is known.

    paper: completions count in the order of runs and samples, and the solution's own path may be
    sampled again, as published. strict: their order does not matter, and the solution's path counts
    as known: a sample that repeats it is not kept.
    """
    state = (known or {}).get(problem.problem_id) or new_state(len(completions))
    judge = make_judge(problem, rules.fidelity, rules.process_checks)
    candidates: list[Candidate] = []
    for source, of_run in enumerate(completions):
        verdicts = [judge(completion.completion) for completion in of_run]
        state.counts[source].update(count(of_run, verdicts))
        for completion, verdict in zip(of_run, verdicts, strict=True):
            if verdict.reason == "valid":
                sample_id = completion.sample_id
                candidates.append(Candidate(completion, verdict.path, source))
                first = state.first_seen.setdefault(verdict.path, {})
                first[source] = min(first.get(source, sample_id), sample_id)
    state.kept = select(candidates, problem, rules, state.kept)
    return state


def select(
    candidates: Sequence[Candidate], problem: Problem, rules: FilterRules, kept: Sequence[Candidate]
) -> list[Candidate]:
    """Those of ``candidates`` to be kept, if ``kept`` are kept already."""
    if rules.keep == "all":
        return [*kept, *candidates]
    if rules.fidelity == "paper":
        chosen = select_as_published(candidates, kept)
    else:
        chosen = select_farthest(candidates, problem.solution, kept)
    if rules.keep == "distinct":
        return chosen
    return select_at_random(candidates, chosen, rules.keep, f"{rules.seed} {problem.problem_id}")


def count(completions: Sequence[Sample], verdicts: Sequence[Verdict]) -> Counter[str]:
    """The counts of ProblemState for some samples of one run."""
    counts = Counter[str](verdict.reason for verdict in verdicts)
    counts.update(check for verdict in verdicts for check in verdict.failed_checks)
    counts["sampled"] = len(completions)
    counts["characters"] = sum([len(completion.completion) for completion in completions])
    n_tokens = [
        completion.n_tokens for completion in completions if completion.n_tokens is not None
    ]
    counts["tokens_known"], counts["tokens"] = len(n_tokens), sum(n_tokens)
    counts["cut_off"] = sum(completion.is_cut_off is True for completion in completions)
    return counts


def fates(
    problem: Problem, completions: Sequence[Sequence[Sample]], rules: FilterRules
) -> list[list[Fate]]:
    """What becomes of every completion of every run: filter_problem again, for people to see."""
    judge = make_judge(problem, rules.fidelity, rules.process_checks)
    kept = filter_problem(problem, completions, rules).kept
    places = {(candidate.source, candidate.sample.sample_id) for candidate in kept}
    paths = {candidate.path for candidate in kept}

    def fate(source: int, completion: Sample) -> Fate:
        verdict = judge(completion.completion)
        if verdict.reason != "valid":
            return verdict.reason
        if (source, completion.sample_id) in places:
            return "kept"
        if rules.keep != "distinct":  # a control draws among the valid ones
            return "not_drawn"
        return "repeated_path" if verdict.path in paths else "solution_path"

    return [[fate(source, c) for c in of_run] for source, of_run in enumerate(completions)]


SOLUTION = "solution"  # the source of a row that is not sampled


def filter_problems(
    problems: Sequence[Problem],
    runs: Sequence[Run],
    rules: FilterRules,
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
            yield f'{head}{sources[kept.source]}, "sample_id": {kept.sample.sample_id}}}\n'

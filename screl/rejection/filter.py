"""Filter samples for the RFT data: keep one valid completion per equation path of a problem.

See arXiv 2308.01825, Section 3.3 and Appendix A.3. Each problem is filtered separately: its samples
are judged, some of the valid ones are selected, and those become rows of the RFT data.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from screl.core.problems import Problem
from screl.core.progress import progress_bar
from screl.grading.paths import join_paths
from screl.grading.thinking import has_thinking, outside_thinking
from screl.grading.verdict import JudgeRules, Reason, Verdict, make_judge, solution_path
from screl.rejection.selection import (
    Candidate,
    Keep,
    select_as_published,
    select_at_random,
    select_farthest,
)
from screl.samples.reader import Run, map_problems
from screl.samples.store import Sample

# The fate of a sample: the reason it is rejected or, if it is valid, whether it is kept.
Fate = Reason | Literal["solution_path", "repeated_path", "not_drawn", "kept"]
SOLUTION = "solution"  # the source of a row that is not sampled


@dataclass(frozen=True, slots=True)
class FilterRules(JudgeRules):
    """The rules by which samples are judged and selected."""

    keep: Keep = "distinct"
    seed: int = 0  # of random_rows and random_tokens


@dataclass(frozen=True, slots=True)
class FilterResult:
    """The result of filtering one problem's samples.

    ``counts[source]`` has the counts of one run: all samples ("sampled"), samples by reason, by
    failed process check, with equations in odd brackets, on the solution's own path, with thinking,
    with nothing else, and cut off,
    total lengths, and samples whose number of tokens is known.
    ``first_seen[path][source]`` is the first sample_id with this path in a run. ``kept`` is in the
    order of output. ``solution_path`` is the path of the problem's own solution.
    """

    counts: list[Counter[str]]
    first_seen: dict[str, dict[int, int]]
    kept: list[Candidate]
    solution_path: str | None = None
    failures: Counter[str] = field(default_factory=Counter)  # of the verifier


def filter_problems(
    problems: Sequence[Problem],
    runs: Sequence[Run],
    rules: FilterRules,
    n_workers: int | None = None,
) -> list[FilterResult]:
    """Filter the samples of ``runs`` and return a result per problem."""
    results = map_problems(filter_problem, problems, runs, rules, n_workers=n_workers)
    bar = progress_bar(len(problems), "filter", "problem")
    filtered = []
    for result in results:
        filtered.append(result)
        bar.update()
    bar.close()
    return filtered


def filter_problem(
    problem: Problem, samples: Sequence[Sequence[Sample]], rules: FilterRules
) -> FilterResult:
    """Judge one problem's samples and select those to keep.

    ``samples[source]`` holds the samples of one run, in order. paper: the order of runs and samples
    matters and, as published, a kept sample may repeat the solution's path. strict: the order does
    not matter, and such a sample is not kept.
    """
    judged, own_path = judge_samples(problem, samples, rules)
    counts: list[Counter[str]] = []
    first_seen: dict[str, dict[int, int]] = {}
    candidates: list[Candidate] = []
    failures = Counter[str]()
    for source, (of_run, verdicts) in enumerate(zip(samples, judged, strict=True)):
        counts.append(count_verdicts(of_run, verdicts))
        failures.update(verdict.failure for verdict in verdicts if verdict.failure)
        counts[-1]["solution_path"] = sum(
            v.reason == "valid" and v.path == own_path for v in verdicts
        )
        for sample, verdict in zip(of_run, verdicts, strict=True):
            if verdict.reason == "valid":
                candidates.append(Candidate(sample, verdict.path, source))
                first_seen.setdefault(verdict.path, {}).setdefault(source, sample.sample_id)
    kept = select_candidates(candidates, problem, own_path, rules)
    return FilterResult(counts, first_seen, kept, own_path, failures)


def judge_samples(
    problem: Problem, samples: Sequence[Sequence[Sample]], rules: FilterRules
) -> tuple[list[list[Verdict]], str | None]:
    """Return the verdicts of every run and the solution's path, with near-duplicates joined."""
    judge = make_judge(problem, rules)
    judged = [[judge(sample.completion) for sample in of_run] for of_run in samples]
    own_path = solution_path(problem, rules)
    found = {verdict.path for verdicts in judged for verdict in verdicts}
    joined = join_paths(found if own_path is None else found | {own_path})
    verdicts_joined = [
        [verdict._replace(path=joined[verdict.path]) for verdict in verdicts] for verdicts in judged
    ]
    return verdicts_joined, None if own_path is None else joined[own_path]


def count_verdicts(samples: Sequence[Sample], verdicts: Sequence[Verdict]) -> Counter[str]:
    """Return the counts of FilterResult for one run's samples."""
    counts = Counter[str](verdict.reason for verdict in verdicts)
    counts.update(check for verdict in verdicts for check in verdict.failed_checks)
    counts["odd_brackets"] = sum(verdict.odd_brackets for verdict in verdicts)
    thoughts = [sample.completion for sample in samples if has_thinking(sample.completion)]
    counts["thinking"] = len(thoughts)
    counts["only_thinking"] = sum(not outside_thinking(text).strip() for text in thoughts)
    counts["no_equation"] = sum(v.reason == "valid" and not v.path for v in verdicts)
    counts["sampled"] = len(samples)
    counts["characters"] = sum([len(sample.completion) for sample in samples])
    n_tokens = [sample.n_tokens for sample in samples if sample.n_tokens is not None]
    counts["tokens_known"], counts["tokens"] = len(n_tokens), sum(n_tokens)
    counts["cut_off"] = sum(sample.is_cut_off is True for sample in samples)
    return counts


def select_candidates(
    candidates: Sequence[Candidate], problem: Problem, own_path: str | None, rules: FilterRules
) -> list[Candidate]:
    """Return the candidates to keep, in the order of output."""
    if rules.keep == "all":
        return list(candidates)
    if rules.fidelity == "paper":
        chosen = select_as_published(candidates)
    else:
        chosen = select_farthest(candidates, problem.solution, own_path)
    if rules.keep == "distinct":
        return chosen
    return select_at_random(candidates, chosen, rules.keep, f"{rules.seed} {problem.problem_id}")


def sample_fates(
    problem: Problem, samples: Sequence[Sequence[Sample]], rules: FilterRules
) -> list[list[Fate]]:
    """Filter one problem and return what happened to every sample of every run."""
    judged, _ = judge_samples(problem, samples, rules)
    kept = filter_problem(problem, samples, rules).kept
    kept_ids = {(candidate.source, candidate.sample.sample_id) for candidate in kept}
    kept_paths = {candidate.path for candidate in kept}

    def fate(source: int, sample: Sample, verdict: Verdict) -> Fate:
        if verdict.reason != "valid":
            return verdict.reason
        if (source, sample.sample_id) in kept_ids:
            return "kept"
        if rules.keep != "distinct":  # a control takes random ones
            return "not_drawn"
        return "repeated_path" if verdict.path in kept_paths else "solution_path"

    return [
        [fate(source, *pair) for pair in zip(of_run, verdicts, strict=True)]
        for source, (of_run, verdicts) in enumerate(zip(samples, judged, strict=True))
    ]


def training_rows(
    problems: Sequence[Problem], results: Sequence[FilterResult], rules: FilterRules
) -> Iterator[str]:
    """Yield JSON lines: every problem's solution, then its kept completions.

    ``--think drop`` leaves their thinking out, with the blank lines after it.
    """
    for problem, result in zip(problems, results, strict=True):
        query = json.dumps(problem.question)
        texts = [candidate.text for candidate in result.kept]
        solutions = [problem.solution] if problem.solution else []
        # a problem of which only the answer is known has no row of its own
        for response in [*solutions, *texts]:
            if rules.think == "drop" and has_thinking(response):
                response = outside_thinking(response).strip()
            yield f'{{"query": {query}, "response": {json.dumps(response)}}}\n'


def source_rows(
    problems: Sequence[Problem], results: Sequence[FilterResult], names: Sequence[str]
) -> Iterator[str]:
    """Yield a JSON line for each row of training_rows: its problem, run, and sample."""
    sources = [json.dumps(name) for name in names]
    for problem, result in zip(problems, results, strict=True):
        head = f'{{"problem_id": {json.dumps(problem.problem_id)}, "source": '
        if problem.solution:
            yield f'{head}"{SOLUTION}", "sample_id": null}}\n'
        for kept in result.kept:
            yield f'{head}{sources[kept.source]}, "sample_id": {kept.sample.sample_id}}}\n'

"""What a sampling run has come to: sizes, right answers, and whether more of it would help."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from screl.answers import extract_answer
from screl.completions import Completion, Run, map_problems
from screl.problems import Problem
from screl.rejection import Rules, make_judge
from screl.unseen import expected_new_paths, show

N_MORE = 100  # samples a problem: the paper's k


class OfProblem(NamedTuple):
    """Of one problem: the tokens of each sample, how many are cut off, can be graded and are right,
    and how often each right path was seen (the strict filter's, the solution's own too)."""

    lengths: list[int]
    n_cut_off: int
    n_graded: int
    n_right: int
    path_counts: list[int]


class Survey(NamedTuple):
    """Numbers for run.json; what to print of whether more samples would bring new paths ("" for a
    greedy run and where no solution has an answer); of each problem the tokens of its samples."""

    results: dict[str, Any]
    more: str
    lengths: list[list[int]]


def look_at(problem: Problem, completions: Sequence[Sequence[Completion]]) -> OfProblem:
    """``completions``: of the one run."""
    (of_run,) = completions
    lengths = [completion.n_tokens or 0 for completion in of_run]
    n_cut_off = sum(completion.is_cut_off is True for completion in of_run)
    if extract_answer(problem.solution, "strict") is None:  # nothing to be right about
        return OfProblem(lengths, n_cut_off, 0, 0, [])
    judge = make_judge(problem, Rules("strict"))
    verdicts = [judge(completion.text) for completion in of_run]
    wrong = ("no_answer", "wrong_answer")
    n_right = sum(verdict.reason not in wrong for verdict in verdicts)
    paths = Counter(verdict.path for verdict in verdicts if verdict.reason == "valid")
    return OfProblem(
        lengths=lengths,
        n_cut_off=n_cut_off,
        n_graded=len(of_run),
        n_right=n_right,
        path_counts=sorted(paths.values()),
    )


def survey(problems: Sequence[Problem], run: Run) -> Survey:
    """What there is of ``problems`` in ``run``."""
    found = list(map_problems(look_at, problems, [run]))
    lengths = [one.lengths for one in found]
    n_samples = sum(map(len, lengths))
    n_graded = sum(one.n_graded for one in found)
    results = {
        "n_samples": n_samples,
        "n_tokens": sum(map(sum, lengths)),
        # a run may have made nothing, and no solution may have an answer
        "share_cut_off": sum(one.n_cut_off for one in found) / max(1, n_samples),
        "share_right": sum(one.n_right for one in found) / n_graded if n_graded else None,
    }
    if run.greedy or not any(one.path_counts for one in found):
        return Survey(results, "", lengths)
    counts = [one.path_counts for one in found]
    estimate = expected_new_paths(counts, list(map(len, lengths)), N_MORE)
    more = show(estimate, N_MORE)
    return Survey(results | {"more_samples": more}, more, lengths)

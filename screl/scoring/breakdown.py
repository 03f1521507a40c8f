"""Break a run down: scores by group of problems or completions, and mistakes by kind.

Problems are grouped by the number of steps in their solution or by a key of their data row
(``level`` and ``type`` in MATH), completions by length or by whether they were cut off.

A wrong completion has one of three kinds. ``no_answer``: the grader finds no answer.
``arithmetic_slip``: at least one of its equations is false. ``wrong_plan``: it has an answer and no
false equation, and is still wrong.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from screl.core.io import UserError
from screl.core.problems import Problem
from screl.grading.answers import Fidelity
from screl.grading.equations import check_equation, find_equations
from screl.grading.verdict import JudgeRules
from screl.samples.reader import Run, map_problems
from screl.samples.store import Sample
from screl.scoring.score import (
    UNKNOWN,
    CompletionStats,
    RunScore,
    join_stats,
    read_answers,
    show_answer,
)
from screl.scoring.statistics import mean_and_error

MANY_STEPS = 8  # the last group is "8+"; few problems of GSM8K have that many
COMPLETION_KEYS = ("length", "cut_off")

MistakeKind = Literal["no_answer", "arithmetic_slip", "wrong_plan"]
MISTAKE_KINDS: tuple[MistakeKind, ...] = ("no_answer", "arithmetic_slip", "wrong_plan")
CUT_OFF = "no_answer, cut off"  # counted within no_answer


class GroupScore(NamedTuple):
    """Mean and standard error over the problems of one group, in percent, by metric."""

    name: str
    n_problems: int
    n_completions: int
    scores: dict[str, tuple[float, float | None]]


def check_breakdown_key(problems: Sequence[Problem], key: str, data_path: object) -> None:
    """Raise UserError unless scores can be broken down by ``key``."""
    row_keys = sorted({row_key for problem in problems for row_key in problem.extra})
    known = ["steps", *COMPLETION_KEYS, *row_keys]
    if key not in known:
        raise UserError(
            f"{data_path}: no row has the key {key!r}; --breakdown takes {', '.join(known)}"
        )


def break_down(score: RunScore, key: str) -> list[GroupScore]:
    """Return the groups of a run by ``steps``, ``length``, ``cut_off``, or a key of the data.

    ``key`` must have passed ``check_breakdown_key``. Raises UserError for ``cut_off`` if the run
    does not record it.
    """
    if key in COMPLETION_KEYS:
        return _completion_scores(score, key)
    names = [_problem_group(problem, key) for problem in score.problems]
    groups = []
    for name in sorted(set(names), key=_numbers_first):
        members = [i for i, other in enumerate(names) if other == name]
        scores = {}
        for metric in score.headline():
            (value,), (error,) = mean_and_error(score.scores[metric][members][:, None])
            scores[metric] = (value, error)
        n_completions = sum(len(score.completions[i].is_right) for i in members)
        groups.append(GroupScore(name, len(members), n_completions, scores))
    return groups


def clustered_mean(
    is_right: NDArray[np.bool_], problem: NDArray[np.int64]
) -> tuple[float, float | None, int]:
    """Return the percentage of right completions, its standard error, and the number of problems.

    Completion i belongs to problem number ``problem[i]``. Completions of one problem resemble each
    other, so the error is over problems: the standard error of a ratio of two sums, right
    completions over all completions. It is None for a single problem.
    """
    n_completions = np.bincount(problem)
    n_right = np.bincount(problem, weights=is_right)[n_completions > 0]
    n_completions = n_completions[n_completions > 0]
    share, n = float(is_right.mean()), len(n_completions)
    if n == 1:
        return 100 * share, None, n
    residuals = n_right - share * n_completions
    error = float(np.sqrt(n / (n - 1) * (residuals**2).sum())) / int(n_completions.sum())
    return 100 * share, 100 * error, n


def mistake_lines(
    problems: Sequence[Problem], runs: Sequence[Run], rules: JudgeRules, counts: Counter[str]
) -> Iterator[str]:
    """Yield the JSON lines of each problem's wrong completions, and add to the runs' ``counts``."""
    names = [run.name for run in runs]
    for lines, problem_counts in map_problems(find_mistakes, problems, runs, names, rules):
        counts.update(problem_counts)
        yield lines


def find_mistakes(
    problem: Problem, samples: Sequence[Sequence[Sample]], runs: Sequence[str], rules: JudgeRules
) -> tuple[str, Counter[str]]:
    """Return a problem's wrong completions in each of ``runs`` as JSON lines, with counts.

    The counts have the keys MISTAKE_KINDS, CUT_OFF, "wrong" and "all".
    """
    lines: list[str] = []
    counts: Counter[str] = Counter()
    for run, run_samples in zip(runs, samples, strict=True):
        gold, answers, right, failures = read_answers(problem, run_samples, rules)
        counts["all"] += len(run_samples)
        for sample, answer, failure in zip(run_samples, answers, failures, strict=True):
            if answer in right:
                continue
            kind = mistake_kind(sample.completion, answer is not None, rules.fidelity)
            counts.update(["wrong", kind])
            counts[CUT_OFF] += kind == "no_answer" and sample.is_cut_off is True
            row = {
                "run": run,
                "problem_id": problem.problem_id,
                "sample_id": sample.sample_id,
                "category": kind,
                "is_cut_off": sample.is_cut_off,
                "answer": show_answer(answer),
                "gold": show_answer(gold),
                "question": problem.question,
                "solution": problem.solution,
                **({} if problem.answer is None else {"short_answer": problem.answer}),
                "text": sample.completion,
            }
            if failure:
                row["failure"] = failure
            lines.append(orjson.dumps(row).decode() + "\n")
    return "".join(lines), counts


def mistake_kind(text: str, has_answer: bool, fidelity: Fidelity) -> MistakeKind:
    """Return the kind of mistake in a wrong completion."""
    if not has_answer:
        return "no_answer"
    statuses = (check_equation(equation, fidelity) for equation in find_equations(text))
    return "arithmetic_slip" if "false" in statuses else "wrong_plan"


def _completion_scores(score: RunScore, key: str) -> list[GroupScore]:
    completions = join_stats(score.completions)
    sizes = [len(stats.is_right) for stats in score.completions]
    problem = np.repeat(np.arange(len(sizes)), sizes)
    metric = "mean@1" if "mean@1" in score.scores else "maj1@1"
    groups = []
    for name, members in _completion_groups(completions, key, score.run):
        value, error, n = clustered_mean(completions.is_right[members], problem[members])
        groups.append(GroupScore(name, n, int(members.sum()), {metric: (value, error)}))
    return groups


def _completion_groups(
    completions: CompletionStats, key: str, run: str
) -> list[tuple[str, NDArray[np.bool_]]]:
    """Return the names of the groups that are not empty, and which completions are in each."""
    if key == "cut_off":
        is_cut_off = completions.is_cut_off
        if (is_cut_off == UNKNOWN).any():
            raise UserError(
                f"{run}: does not record which completions were cut off; leave out "
                "--breakdown cut_off"
            )
        groups = [("whole", is_cut_off == 0), ("cut off", is_cut_off == 1)]
        return [(name, members) for name, members in groups if members.any()]
    has_tokens = bool((completions.n_tokens != UNKNOWN).all())
    lengths = completions.n_tokens if has_tokens else completions.n_characters
    unit = "tokens" if has_tokens else "characters"
    quarter = np.searchsorted(np.quantile(lengths, [0.25, 0.5, 0.75]), lengths)
    return [
        (f"{lengths[quarter == q].min()} to {lengths[quarter == q].max()} {unit}", quarter == q)
        for q in np.unique(quarter)
    ]


def _problem_group(problem: Problem, key: str) -> str:
    """Return the name of the problem's group, "-" for a row without the key."""
    if key != "steps":
        return str(problem.extra.get(key, "-"))
    n_steps = len(find_equations(problem.solution))
    return str(n_steps) if n_steps < MANY_STEPS else f"{MANY_STEPS}+"


def _numbers_first(name: str) -> tuple[int, float, str]:
    """Return a sort key that puts numbers in numeric order, before words."""
    number = name.removesuffix("+")
    return (0, float(number), name) if number.isdecimal() else (1, 0.0, name)

"""Where a run is good and where it is not: its scores by group of problems or of completions.

Problems are grouped by the number of steps of their solution or by a key of their data row
(``level`` and ``type`` of MATH); completions by their length, or by whether they were cut off.

Every wrong completion and what kind of mistake it is.

``no_answer``: nothing that the grader can read as an answer. ``arithmetic_slip``: at least one of
its equations is false. ``wrong_plan``: an answer, no false equation, and yet wrong.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from screl.core.io import UserError
from screl.core.problems import Problem
from screl.grading.answers import Fidelity
from screl.grading.equations import check_equation, find_equations
from screl.samples.reader import Run, map_problems
from screl.samples.store import Sample
from screl.scoring.score import (
    UNKNOWN,
    AnswerReading,
    Graded,
    RunScore,
    ScoreRules,
    join_graded,
    read_answers,
    show_answer,
)
from screl.scoring.statistics import mean_and_error

MANY_STEPS = 8  # and more; few problems of GSM8K have so many
OF_COMPLETIONS = ("length", "cut_off")


class ProblemGroup(NamedTuple):
    """``scores``: mean and standard error over the group's problems, in percent, by metric."""

    name: str
    n_problems: int
    n_completions: int
    scores: dict[str, tuple[float, float | None]]


def break_down(score: RunScore, by: str) -> list[ProblemGroup]:
    """The groups of one run by ``steps``, ``length``, ``cut_off`` or a key of the data's rows.

    ``by`` must have passed ``check_key``. Raises UserError where it is not known what was cut off.
    """
    if by in OF_COMPLETIONS:
        return _of_completions(score, by)
    names = [_problem_group(problem, by) for problem in score.problems]
    groups = []
    for name in sorted(set(names), key=_natural):
        of_group = np.array([other == name for other in names])
        scores = {}
        for metric in score.headline():
            (value,), (error,) = mean_and_error(score.scores[metric][of_group][:, None])
            scores[metric] = (value, error)
        n_completions = sum(len(score.graded[i].is_right) for i in np.flatnonzero(of_group))
        groups.append(ProblemGroup(name, int(of_group.sum()), n_completions, scores))
    return groups


def check_key(problems: Sequence[Problem], by: str, data_path: object) -> None:
    """UserError unless scores can be broken down by ``by``."""
    keys = sorted({key for problem in problems for key in problem.extra})
    known = ["steps", *OF_COMPLETIONS, *keys]
    if by not in known:
        raise UserError(
            f"{data_path}: no row has the key {by!r}; --breakdown takes {', '.join(known)}"
        )


def clustered_mean(
    is_right: NDArray[np.bool_], problem: NDArray[np.int64]
) -> tuple[float, float | None, int]:
    """The share of completions that are right, its standard error, in percent, and the number of
    problems; ``problem[i]`` is the number of the problem that completion i is of.

    Completions of one problem resemble one another, so the error is over problems: that of a ratio
    of two sums, of right completions and of all. None for a single problem.
    """
    n_of = np.bincount(problem)
    n_right_of = np.bincount(problem, weights=is_right)[n_of > 0]
    n_of = n_of[n_of > 0]
    share, n = float(is_right.mean()), len(n_of)
    if n == 1:
        return 100 * share, None, n
    residuals = n_right_of - share * n_of
    error = float(np.sqrt(n / (n - 1) * (residuals**2).sum())) / int(n_of.sum())
    return 100 * share, 100 * error, n


def breakdown_to_json(groups: Sequence[ProblemGroup]) -> list[dict[str, Any]]:
    """For metrics.json."""
    return [
        {
            "group": group.name,
            "n_problems": group.n_problems,
            "n_completions": group.n_completions,
            "metrics": {
                name: {"value": value, "standard_error": error}
                for name, (value, error) in group.scores.items()
            },
        }
        for group in groups
    ]


def _of_completions(score: RunScore, by: str) -> list[ProblemGroup]:
    graded = join_graded(score.graded)
    sizes = [len(of_problem.is_right) for of_problem in score.graded]
    problem = np.repeat(np.arange(len(sizes)), sizes)
    metric = "mean@1" if "mean@1" in score.scores else "maj1@1"
    groups = []
    for name, of_group in _completion_groups(graded, by, score.run):
        value, error, n = clustered_mean(graded.is_right[of_group], problem[of_group])
        groups.append(ProblemGroup(name, n, int(of_group.sum()), {metric: (value, error)}))
    return groups


def _completion_groups(graded: Graded, by: str, run: str) -> list[tuple[str, NDArray[np.bool_]]]:
    if by == "cut_off":
        if (graded.is_cut_off == UNKNOWN).any():
            raise UserError(f"{run}: does not record which completions were cut off; leave it out")
        groups = [("whole", graded.is_cut_off == 0), ("cut off", graded.is_cut_off == 1)]
    else:
        has_tokens = bool((graded.n_tokens != UNKNOWN).all())
        lengths, unit = (
            (graded.n_tokens, "tokens") if has_tokens else (graded.n_characters, "characters")
        )
        quarter = np.searchsorted(np.quantile(lengths, [0.25, 0.5, 0.75]), lengths)
        groups = [
            (f"{lengths[quarter == q].min()} to {lengths[quarter == q].max()} {unit}", quarter == q)
            for q in np.unique(quarter)
        ]
    return [(name, of_group) for name, of_group in groups if of_group.any()]


def _problem_group(problem: Problem, by: str) -> str:
    """Its group's name; "-" for a row without the key."""
    if by != "steps":
        return str(problem.extra.get(by, "-"))
    n_steps = len(find_equations(problem.solution))
    return str(n_steps) if n_steps < MANY_STEPS else f"{MANY_STEPS}+"


def _natural(name: str) -> tuple[int, float, str]:
    """Numbers in their order, before words."""
    number = name.removesuffix("+")
    return (0, float(number), name) if number.isdecimal() else (1, 0.0, name)


Category = Literal["no_answer", "arithmetic_slip", "wrong_plan"]
CATEGORIES: tuple[Category, ...] = ("no_answer", "arithmetic_slip", "wrong_plan")
CUT_OFF = "no_answer, cut off"  # counted apart within no_answer


def categorise(text: str, has_answer: bool, fidelity: Fidelity) -> Category:
    """The category of a completion that is not right."""
    if not has_answer:
        return "no_answer"
    statuses = (check_equation(equation, fidelity) for equation in find_equations(text))
    return "arithmetic_slip" if "false" in statuses else "wrong_plan"


def wrong_completions(
    problem: Problem,
    completions: Sequence[Sequence[Sample]],
    runs: Sequence[str],
    rules: ScoreRules,
) -> tuple[str, Counter[str]]:
    """The wrong completions of one problem in each of ``runs`` as JSON lines, and their counts.

    The counts have a key for every category, one for what has no answer and was cut off, and
    "wrong" and "all".
    """
    lines: list[str] = []
    counts: Counter[str] = Counter()
    for run, of_run in zip(runs, completions, strict=True):
        ballot = read_answers(problem, [completion.completion for completion in of_run], rules)
        counts["all"] += len(of_run)
        for completion, answer in zip(of_run, ballot.answers, strict=True):
            if answer in ballot.right:
                continue
            category = categorise(completion.completion, answer is not None, rules.fidelity)
            counts.update(["wrong", category])
            counts[CUT_OFF] += category == "no_answer" and completion.is_cut_off is True
            row = {"run": run} | _row(problem, completion, ballot, answer, category)
            lines.append(orjson.dumps(row).decode() + "\n")
    return "".join(lines), counts


def mistake_lines(
    problems: Sequence[Problem], runs: Sequence[Run], rules: ScoreRules, counts: Counter[str]
) -> Iterator[str]:
    """All wrong completions of ``runs`` as JSON lines, problem by problem; adds to ``counts``."""
    names = [run.name for run in runs]
    for lines, of_problem in map_problems(wrong_completions, problems, runs, names, rules):
        counts.update(of_problem)
        yield lines


def _row(
    problem: Problem, completion: Sample, ballot: AnswerReading, answer: Any, category: Category
) -> dict[str, Any]:
    return {
        "problem_id": problem.problem_id,
        "sample_id": completion.sample_id,
        "category": category,
        "is_cut_off": completion.is_cut_off,
        "answer": show_answer(answer),
        "gold": show_answer(ballot.gold),
        "question": problem.question,
        "solution": problem.solution,
        "text": completion.completion,
    }

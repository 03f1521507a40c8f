"""Where a run is good and where it is not: its scores by group of problems or of completions.

Problems are grouped by the number of steps of their solution or by a key of their data row
(``level`` and ``type`` of MATH); completions by their length, or by whether they were cut off.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from screl.equations import find_equations
from screl.files import UserError
from screl.metrics import mean_and_error
from screl.problems import Problem
from screl.scoring import UNKNOWN, Graded, RunScore, join_graded

MANY_STEPS = 8  # and more; few problems of GSM8K have so many
OF_COMPLETIONS = ("length", "cut_off")


class Group(NamedTuple):
    """``scores``: mean and standard error over the group's problems, in percent, by metric."""

    name: str
    n_problems: int
    n_completions: int
    scores: dict[str, tuple[float, float | None]]


def break_down(score: RunScore, by: str) -> list[Group]:
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
        groups.append(Group(name, int(of_group.sum()), n_completions, scores))
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


def to_json(groups: Sequence[Group]) -> list[dict[str, Any]]:
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


def _of_completions(score: RunScore, by: str) -> list[Group]:
    graded = join_graded(score.graded)
    sizes = [len(of_problem.is_right) for of_problem in score.graded]
    problem = np.repeat(np.arange(len(sizes)), sizes)
    metric = "mean@1" if "mean@1" in score.scores else "maj1@1"
    groups = []
    for name, of_group in _completion_groups(graded, by, score.run):
        value, error, n = clustered_mean(graded.is_right[of_group], problem[of_group])
        groups.append(Group(name, n, int(of_group.sum()), {metric: (value, error)}))
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

"""Differences between runs, and recipes of several seeds, as tables for the terminal."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from screl.comparison import changed_problems, common_metrics, compare_runs
from screl.score_tables import short_names, show_interval
from screl.scoring import RunScore
from screl.seeds import Mean, Spread, difference_over_seeds, mean_over_seeds, spread_over_seeds
from screl.table import format_table

N_LISTED = 4  # ids of changed problems


def difference_table(first: RunScore, others: Sequence[RunScore]) -> str:
    """Each of ``others`` minus the first, in points, problem by problem."""
    _, names = short_names([score.run for score in (first, *others)])
    header = [f"difference to {names[0]}", "metric", "points", "95 % interval"]
    rows = [[*header, "gained", "lost", "McNemar p"]]
    for score, name in zip(others, names[1:], strict=True):
        for metric, difference in compare_runs(first, score).items():
            p_value = difference.p_value
            rows.append(
                [
                    *(name, metric),
                    _show_difference(difference.value, difference.standard_error),
                    show_interval(difference.interval, "+"),
                    *(str(difference.n_gained), str(difference.n_lost)),
                    "not 0/1" if p_value is None else show_p_value(p_value),
                ]
            )
    return format_table(rows)


def list_changes(first: RunScore, second: RunScore) -> str:
    """The first few problems that were gained and lost, by metric; "" if there are none."""
    changes: dict[str, dict[str, list[str]]] = {}
    for row in changed_problems(first, second):
        kind = "gained" if row["second"] > row["first"] else "lost"
        of_metric = changes.setdefault(row["metric"], {"gained": [], "lost": []})
        of_metric[kind].append(str(row["problem_id"]))
    return "\n".join(
        f"{second.run}, {metric}, {kind}: {_first_few(ids)}"
        for metric, kinds in changes.items()
        for kind, ids in kinds.items()
        if ids
    )


def seed_summary(seeds: Sequence[RunScore]) -> dict[str, tuple[Mean, Spread]]:
    """Mean and spread of every headline metric of runs that are seeds of one recipe."""
    return {
        name: (mean_over_seeds(scores), spread_over_seeds(scores))
        for name, scores in _scores_of(seeds, common_metrics(seeds)).items()
    }


def seed_differences(baseline: Sequence[RunScore], seeds: Sequence[RunScore]) -> dict[str, Mean]:
    """``seeds - baseline`` in every headline metric of both recipes."""
    names = common_metrics([*baseline, *seeds])
    of_baseline, of_seeds = _scores_of(baseline, names), _scores_of(seeds, names)
    return {name: difference_over_seeds(of_baseline[name], of_seeds[name]) for name in names}


def seed_table(recipes: dict[str, Sequence[RunScore]]) -> str:
    """One row per recipe (by its name) and metric; with a baseline and its recipe, the difference.

    ``recipes``: one, or the baseline's seeds first.
    """
    header = ["recipe", "seeds", "metric", "mean", "95 % interval", "df"]
    rows = [[*header, "sd of seeds", "least", "greatest"]]
    for recipe, seeds in recipes.items():
        for name, (mean, spread) in seed_summary(seeds).items():
            cells = _mean_cells(mean, f"{mean.value:.1f} ± {mean.standard_error:.1f}", "")
            rows.append([recipe, str(len(seeds)), name, *cells, *(f"{x:.1f}" for x in spread)])
    if len(recipes) == 2:
        for name, mean in seed_differences(*recipes.values()).items():
            cells = _mean_cells(mean, _show_difference(mean.value, mean.standard_error), "+")
            rows.append(["difference", "-", name, *cells, "-", "-", "-"])
    return format_table(rows)


def show_p_value(p_value: float) -> str:
    """With three decimals."""
    return "<0.001" if p_value < 0.001 else f"{p_value:.3f}"


def _scores_of(seeds: Sequence[RunScore], names: Sequence[str]) -> dict[str, Any]:
    """(seeds, problems) by metric."""
    return {name: np.stack([score.scores[name] for score in seeds]) for name in names}


def _mean_cells(mean: Mean, shown: str, sign: str) -> list[str]:
    freedom = mean.degrees_of_freedom
    return [shown, show_interval(mean.interval, sign), "-" if freedom is None else f"{freedom:.0f}"]


def _show_difference(value: float, error: float | None) -> str:
    return f"{value:+.1f}" + ("" if error is None else f" ± {error:.1f}")


def _first_few(ids: Sequence[str]) -> str:
    return ", ".join(ids[:N_LISTED]) + (", ..." if len(ids) > N_LISTED else "")

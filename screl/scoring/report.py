"""Scores of runs as tables for the terminal. All in percent, each with its uncertainty.

Differences between runs, and recipes of several seeds, as tables for the terminal.

All that eval.py prints and writes about runs that are scored: text for the terminal, entries of
metrics.json.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Any

import numpy as np

from screl.core.io import UserError, format_table
from screl.scoring import breakdown as breakdowns
from screl.scoring.breakdown import CATEGORIES, CUT_OFF, ProblemGroup
from screl.scoring.comparison import changed_problems, common_metrics, compare_runs, is_comparable
from screl.scoring.score import RunScore
from screl.scoring.statistics import (
    N_RESAMPLES,
    Floats,
    Interval,
    Mean,
    Spread,
    difference_over_seeds,
    mean_and_error,
    mean_over_seeds,
    same_score_interval,
    spread_over_seeds,
)

CURVE_K = (1, 3, 6, 12, 25, 50, 100)  # as in the paper's Table 5
ROUNDING = 1e-9  # a standard error of less is none


def score_table(scores: Sequence[RunScore]) -> str:
    """One row per run, as ``value ± standard error over problems``."""
    columns = [n for n in ("maj1@1", "mean@1") if any(n in score.scores for score in scores)]
    if any(score.n_samples > 1 for score in scores):
        columns += ["maj1@K", "pass@K"]
    header, names = short_names([score.run for score in scores])
    rows = [[header, "problems", "K", *columns, "no answer", "cut off"]]
    for score, name in zip(scores, names, strict=True):
        cells = [_cell(score, column) for column in columns]
        cut_off = "-" if score.share_cut_off is None else f"{score.share_cut_off:.1%}"
        counts = [str(len(score.problems)), str(score.n_samples)]
        rows.append([name, *counts, *cells, f"{score.share_without_answer:.1%}", cut_off])
    return format_table(rows)


def curve_table(scores: Sequence[RunScore]) -> str | None:
    """maj1@k and pass@k of every sampled run at the k of CURVE_K and at K, with 95 % intervals.

    At k = 1 both are mean@1. None if no run has more than one sample a problem.
    """
    sampled = [score for score in scores if score.n_samples > 1]
    if not sampled:
        return None
    header, names = short_names([score.run for score in sampled])
    rows = [[header, "k", "maj1@k", "95 % interval", "pass@k", "95 % interval"]]
    for score, name in zip(sampled, names, strict=True):
        for k in sorted({k for k in CURVE_K if k < score.n_samples} | {score.n_samples}):
            rows.append([name, str(k)])
            for metric in ("mean@1", "mean@1") if k == 1 else (f"maj1@{k}", f"pass@{k}"):
                interval = score.metrics[metric].interval
                rows[-1] += [show_mean(score.scores[metric]), show_interval(interval)]
    return format_table(rows)


def breakdown_table(by: str, groups: Sequence[ProblemGroup]) -> str:
    """One row per group of one run."""
    metrics = list(groups[0].scores)
    rows = [[by, "problems", "completions", *metrics]]
    for group in groups:
        cells = [show_metric(*group.scores[metric], group.n_problems) for metric in metrics]
        rows.append([group.name, str(group.n_problems), str(group.n_completions), *cells])
    return format_table(rows)


def mistake_table(runs: Sequence[str], counts: Sequence[Counter[str]]) -> str:
    """How many completions of each of ``runs`` are wrong, and in which way."""
    header, names = short_names(runs)
    rows = [[header, "completions", "wrong", "no answer", "of these cut off"]]
    rows[0] += [category.replace("_", " ") for category in CATEGORIES[1:]]
    for name, of_run in zip(names, counts, strict=True):
        keys = ["all", "wrong", CATEGORIES[0], CUT_OFF, *CATEGORIES[1:]]
        rows.append([name, *(str(of_run[key]) for key in keys)])
    return format_table(rows)


def short_names(runs: Sequence[str]) -> tuple[str, list[str]]:
    """A column's header and the names of ``runs`` without the folder that they share."""
    parents = [run.split("/")[:-1] for run in runs] if len(runs) > 1 else [[]]
    shared = takewhile(lambda parts: len(set(parts)) == 1, zip(*parents, strict=False))
    folder = "/".join(parts[0] for parts in shared)
    if not folder:
        return "run", list(runs)
    return f"run (in {folder})", [run.removeprefix(f"{folder}/") for run in runs]


def show_mean(scores: Floats) -> str:
    """The mean of scores of problems, from 0 to 1."""
    (value,), (error,) = mean_and_error(scores[:, None])
    return show_metric(value, error, len(scores))


def show_metric(value: float, error: float | None, n_problems: int) -> str:
    """``value ± standard error``; where all problems score the same, the interval instead.

    >>> show_metric(0.0, 0.0, 64)
    '0.0 [0.0, 5.6]'
    """
    if error is not None and error > ROUNDING:
        return f"{value:.1f} ± {error:.1f}"
    return f"{value:.1f} {show_interval(same_score_interval(value / 100, n_problems))}"


def show_interval(interval: Interval, sign: str = "") -> str:
    """``[low, high]``; ``sign`` "+" for differences."""
    return "[" + ", ".join(format(bound, f"{sign}.1f") for bound in interval) + "]"


def _cell(score: RunScore, column: str) -> str:
    """The score at K only where K is more than 1: elsewhere it is in the columns before."""
    name = column.replace("@K", f"@{score.n_samples}" if score.n_samples > 1 else "@K")
    return show_mean(score.scores[name]) if name in score.scores else "-"


N_CHANGES_LISTED = 4  # ids of changed problems


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
    return ", ".join(ids[:N_CHANGES_LISTED]) + (", ..." if len(ids) > N_CHANGES_LISTED else "")


LEGEND = (
    "percent ± standard error over problems; 95 % intervals: bootstrap over problems, "
    f"{N_RESAMPLES:,} resamples"
)
N_LISTED = 8  # ids of problems that are left out
MAJ = {
    "strict": "maj1@k: the expected vote of k samples drawn from all; at k = 1 both are mean@1",
    "paper": "maj1@k: the vote of the first k samples; at k = 1 both are mean@1, of all samples",
}

MCNEMAR = "gained, lost: problems that score more, less; McNemar's exact test is for scores 0 and 1"

Entries = list[dict[str, Any]]


def score_report(scores: Sequence[RunScore], with_curves: bool = True) -> str:
    """The scores of every run, and the curves of the sampled ones."""
    parts = [score_table(scores)]
    legend = LEGEND
    if with_curves and (curve := curve_table(scores)):
        parts.append(curve)
        legend += f"\n{MAJ[scores[0].rules.fidelity]}"
    return "\n\n".join([*parts, legend])


def partial_warning(score: RunScore) -> str | None:
    """What --allow_partial left out; None if all samples are there."""
    if score.n_completions == score.n_completions_expected:
        return None
    warning = (
        f"warning: {score.run}: scored {score.n_completions} of {score.n_completions_expected} "
        f"samples, {score.n_samples} or more of each problem"
    )
    if not score.left_out:
        return f"{warning}; no problem is left out"
    listed = ", ".join(map(str, score.left_out[:N_LISTED]))
    more = ", ..." if len(score.left_out) > N_LISTED else ""
    return f"{warning}; {len(score.left_out)} problems have none and are left out: {listed}{more}"


def difference_report(scores: Sequence[RunScore], entries: Entries) -> str:
    """Every later run compared with the first, which also goes to its entry."""
    first = scores[0]
    others = [score for score in scores[1:] if is_comparable(first, score)]
    if others:
        text = [difference_table(first, others), MCNEMAR]
        text += [line for score in others if (line := list_changes(first, score))]
    else:
        text = []
    for score, entry in zip(scores[1:], entries[1:], strict=True):
        if is_comparable(first, score):
            entry["difference_to_first"] = {
                name: difference._asdict()
                for name, difference in compare_runs(first, score).items()
            }
        else:
            text.append(f"{score.run} is not compared with {first.run}: other problems")
    return "\n".join(text)


def changes(scores: Sequence[RunScore]) -> Iterator[dict[str, Any]]:
    """A row for every problem whose score changed from the first run to a later one."""
    for score in scores[1:]:
        if is_comparable(scores[0], score):
            yield from changed_problems(scores[0], score)


def seed_report(seeds: Sequence[RunScore], baseline: Sequence[RunScore], entries: Entries) -> str:
    """Mean and spread of the seeds of one recipe, and the difference to another's.

    Also adds an entry, whose ``run`` names no run but all seeds together. Raises UserError unless
    all runs scored the same problems, two or more.
    """
    for score in [*seeds, *baseline]:
        if not is_comparable(seeds[0], score):
            raise UserError(
                f"{score.run}: scored other problems than {seeds[0].run}; seeds of a recipe, and "
                "its baseline, must be sampled for the same ones"
            )
    if len(seeds[0].problems) < 2:
        raise UserError(f"{seeds[0].data_path}: one problem alone has no spread; give two or more")
    entry: dict[str, Any] = {
        "run": f"{len(seeds)} seeds",
        "seeds": [score.run for score in seeds],
        "metrics": {
            name: mean._asdict() | spread._asdict()
            for name, (mean, spread) in seed_summary(seeds).items()
        },
    }
    recipes = {"seeds": seeds}
    if baseline:
        recipes = {"baseline": baseline, **recipes}
        entry["baseline"] = [score.run for score in baseline]
        differences = seed_differences(baseline, seeds)
        entry["difference_to_baseline"] = {n: mean._asdict() for n, mean in differences.items()}
    entries.append(entry)
    return (
        seed_table(recipes)
        + "\nintervals here: problems and seeds, Student t (screl/scoring/statistics.py)"
    )


def breakdown_report(scores: Sequence[RunScore], by: str, entries: Entries) -> str:
    """The groups of every run by ``by``, which also go to its entry."""
    tables = []
    for score, entry in zip(scores, entries, strict=False):
        groups = breakdowns.break_down(score, by)
        entry.setdefault("breakdown", {})[by] = breakdowns.breakdown_to_json(groups)
        title = f"{score.run}\n" if len(scores) > 1 else ""
        tables.append(title + breakdown_table(by, groups))
    return "\n\n".join(tables)

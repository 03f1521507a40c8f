"""Format scores, comparisons, and breakdowns as the text that eval.py prints.

Scores are in percent and differences in points, each with its uncertainty.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import takewhile

from screl.core.io import format_table
from screl.scoring.breakdown import CUT_OFF, MISTAKE_KINDS, GroupScore
from screl.scoring.comparison import changed_problems, compare_seeds, summarize_seeds
from screl.scoring.score import RunScore
from screl.scoring.statistics import (
    N_RESAMPLES,
    Difference,
    Floats,
    Interval,
    SeedMean,
    mean_and_error,
    same_score_interval,
)

CURVE_K = (1, 3, 6, 12, 25, 50, 100)  # those of the paper's Table 5
ROUNDING = 1e-9  # a smaller standard error is a rounding error
MAX_CHANGED = 4  # ids listed of changed problems
MAX_LEFT_OUT = 8  # ids listed of problems left out

SCORE_LEGEND = (
    "percent ± standard error over problems; 95% intervals: bootstrap over problems, "
    f"{N_RESAMPLES:,} resamples"
)
MAJ_LEGEND = {
    "strict": "maj1@k: expected score of a vote among k of the samples; at k = 1, mean@1",
    "paper": "maj1@k: score of the vote of the first k samples; at k = 1, mean@1 of all samples",
}
DIFFERENCE_LEGEND = (
    "gained, lost: problems that score more, less; McNemar's exact test is for scores 0 and 1"
)
SEED_LEGEND = "intervals here: over problems and seeds, Student's t (screl/scoring/statistics.py)"


def score_report(scores: Sequence[RunScore], with_curves: bool = True) -> str:
    """Return the scores of every run, and the curves of the sampled runs."""
    curves = curve_table(scores) if with_curves else None
    if not curves:
        return f"{score_table(scores)}\n\n{SCORE_LEGEND}"
    legend = f"{SCORE_LEGEND}\n{MAJ_LEGEND[scores[0].rules.fidelity]}"
    return f"{score_table(scores)}\n\n{curves}\n\n{legend}"


def score_table(scores: Sequence[RunScore]) -> str:
    """Return one row per run, with cells ``value ± standard error over problems``."""
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
    """Return maj1@k and pass@k of each sampled run at the k of CURVE_K and at K, with intervals.

    At k = 1 both are mean@1. None if no run has more than one sample per problem.
    """
    sampled = [score for score in scores if score.n_samples > 1]
    if not sampled:
        return None
    header, names = short_names([score.run for score in sampled])
    rows = [[header, "k", "maj1@k", "95% interval", "pass@k", "95% interval"]]
    for score, name in zip(sampled, names, strict=True):
        for k in sorted({k for k in CURVE_K if k < score.n_samples} | {score.n_samples}):
            rows.append([name, str(k)])
            for metric in ("mean@1", "mean@1") if k == 1 else (f"maj1@{k}", f"pass@{k}"):
                interval = score.metrics[metric].interval
                rows[-1] += [show_mean(score.scores[metric]), show_interval(interval)]
    return format_table(rows)


def partial_warning(score: RunScore) -> str | None:
    """Return a warning about the samples that are missing; None if all samples exist."""
    if score.n_completions == score.n_completions_expected:
        return None
    warning = (
        f"warning: {score.run}: scored {score.n_completions} of {score.n_completions_expected} "
        f"samples, {score.n_samples} or more per problem"
    )
    n = len(score.left_out)
    if not n:
        return f"{warning}; no problem is left out"
    left_out = "problem without samples is" if n == 1 else "problems without samples are"
    ids = _first_few(list(map(str, score.left_out)), MAX_LEFT_OUT)
    return f"{warning}; {n} {left_out} left out: {ids}"


def difference_report(
    scores: Sequence[RunScore], differences: Sequence[dict[str, Difference] | None]
) -> str:
    """Return the comparison of each later run with the first, and the problems that changed.

    ``differences`` has the differences by metric of each later run, None if it is not comparable.
    """
    first, pairs = scores[0], list(zip(scores[1:], differences, strict=True))
    compared = [(score, by_metric) for score, by_metric in pairs if by_metric is not None]
    parts = []
    if compared:
        parts += [difference_table(first, compared), DIFFERENCE_LEGEND]
        parts += [text for score, _ in compared if (text := list_changes(first, score))]
    parts += [
        f"{score.run}: not compared with {first.run}, which scored other problems"
        for score, by_metric in pairs
        if by_metric is None
    ]
    return "\n".join(parts)


def difference_table(
    first: RunScore, compared: Sequence[tuple[RunScore, dict[str, Difference]]]
) -> str:
    """Return one row per run and metric: the run minus the first one."""
    _, names = short_names([first.run, *(score.run for score, _ in compared)])
    header = [f"difference from {names[0]}", "metric", "points", "95% interval"]
    rows = [[*header, "gained", "lost", "McNemar p"]]
    for name, (_, by_metric) in zip(names[1:], compared, strict=True):
        for metric, difference in by_metric.items():
            p_value = difference.p_value
            rows.append(
                [
                    *(name, metric),
                    _show_difference(difference.value, difference.standard_error),
                    show_interval(difference.interval, "+"),
                    *(str(difference.n_gained), str(difference.n_lost)),
                    "not 0/1" if p_value is None else _show_p_value(p_value),
                ]
            )
    return format_table(rows)


def list_changes(first: RunScore, second: RunScore) -> str:
    """Return the first few problems that were gained and lost, by metric; "" if there are none."""
    changed: dict[str, list[str]] = {}
    for row in changed_problems(first, second):
        for kind in ("gained", "lost"):
            changed.setdefault(f"{row['metric']}, {kind}", [])
        kind = "gained" if row["second"] > row["first"] else "lost"
        changed[f"{row['metric']}, {kind}"].append(str(row["problem_id"]))
    return "\n".join(
        f"{second.run}, {title}: {_first_few(ids, MAX_CHANGED)}"
        for title, ids in changed.items()
        if ids
    )


def seed_report(seeds: Sequence[RunScore], baseline: Sequence[RunScore]) -> str:
    """Return one row per recipe and metric; with a baseline, also the difference from it."""
    header = ["recipe", "seeds", "metric", "mean", "95% interval", "df"]
    rows = [[*header, "sd of seeds", "min", "max"]]
    for recipe, runs in {"baseline": baseline, "seeds": seeds}.items():
        for name, (mean, spread) in summarize_seeds(runs).items() if runs else ():
            cells = _seed_cells(mean, f"{mean.value:.1f} ± {mean.standard_error:.1f}", "")
            rows.append([recipe, str(len(runs)), name, *cells, *(f"{x:.1f}" for x in spread)])
    for name, mean in compare_seeds(baseline, seeds).items() if baseline else ():
        cells = _seed_cells(mean, _show_difference(mean.value, mean.standard_error), "+")
        rows.append(["difference", "-", name, *cells, "-", "-", "-"])
    return f"{format_table(rows)}\n{SEED_LEGEND}"


def breakdown_report(
    key: str, scores: Sequence[RunScore], breakdowns: Sequence[Sequence[GroupScore]]
) -> str:
    """Return one table per run, with a row per group."""
    tables = []
    for score, groups in zip(scores, breakdowns, strict=True):
        metrics = list(groups[0].scores)
        rows = [[key, "problems", "completions", *metrics]]
        for group in groups:
            cells = [show_metric(*group.scores[metric], group.n_problems) for metric in metrics]
            rows.append([group.name, str(group.n_problems), str(group.n_completions), *cells])
        title = f"{score.run}\n" if len(scores) > 1 else ""
        tables.append(title + format_table(rows))
    return "\n\n".join(tables)


def mistake_table(runs: Sequence[str], counts: Sequence[Counter[str]]) -> str:
    """Return a table that counts the mistakes of each of ``runs`` by kind."""
    header, names = short_names(runs)
    rows = [[header, "completions", "wrong", "no answer", "of these cut off"]]
    rows[0] += [kind.replace("_", " ") for kind in MISTAKE_KINDS[1:]]
    for name, run_counts in zip(names, counts, strict=True):
        keys = ["all", "wrong", MISTAKE_KINDS[0], CUT_OFF, *MISTAKE_KINDS[1:]]
        rows.append([name, *(str(run_counts[key]) for key in keys)])
    return format_table(rows)


def short_names(runs: Sequence[str]) -> tuple[str, list[str]]:
    """Return a column's header and the names of ``runs`` without the folder that they share."""
    parents = [run.split("/")[:-1] for run in runs] if len(runs) > 1 else [[]]
    shared = takewhile(lambda parts: len(set(parts)) == 1, zip(*parents, strict=False))
    folder = "/".join(parts[0] for parts in shared)
    if not folder:
        return "run", list(runs)
    return f"run (in {folder})", [run.removeprefix(f"{folder}/") for run in runs]


def show_mean(scores: Floats) -> str:
    """Return the mean of the problems' scores (0 to 1) in the format of ``show_metric``."""
    (value,), (error,) = mean_and_error(scores[:, None])
    return show_metric(value, error, len(scores))


def show_metric(value: float, error: float | None, n_problems: int) -> str:
    """Return ``value ± standard error``, or with the interval where all problems score the same.

    >>> show_metric(0.0, 0.0, 64)
    '0.0 [0.0, 5.6]'
    """
    if error is not None and error > ROUNDING:
        return f"{value:.1f} ± {error:.1f}"
    return f"{value:.1f} {show_interval(same_score_interval(value / 100, n_problems))}"


def show_interval(interval: Interval, sign: str = "") -> str:
    """Return ``[low, high]``; pass "+" as ``sign`` for differences."""
    return "[" + ", ".join(format(bound, f"{sign}.1f") for bound in interval) + "]"


def _cell(score: RunScore, column: str) -> str:
    """Return the score in a column of score_table; scores at K are shown only if K exceeds 1."""
    name = column.replace("@K", f"@{score.n_samples}" if score.n_samples > 1 else "@K")
    return show_mean(score.scores[name]) if name in score.scores else "-"


def _seed_cells(mean: SeedMean, shown: str, sign: str) -> list[str]:
    freedom = mean.degrees_of_freedom
    return [shown, show_interval(mean.interval, sign), "-" if freedom is None else f"{freedom:.0f}"]


def _show_difference(value: float, error: float | None) -> str:
    return f"{value:+.1f}" + ("" if error is None else f" ± {error:.1f}")


def _show_p_value(p_value: float) -> str:
    return "<0.001" if p_value < 0.001 else f"{p_value:.3f}"


def _first_few(ids: Sequence[str], n: int) -> str:
    return ", ".join(ids[:n]) + (", ..." if len(ids) > n else "")

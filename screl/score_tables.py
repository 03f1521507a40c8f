"""Scores of runs as tables for the terminal. All in percent, each with its uncertainty."""

from collections import Counter
from collections.abc import Sequence
from itertools import takewhile

from screl.breakdowns import Group
from screl.metrics import Floats, Interval, mean_and_error, same_score_interval
from screl.mistakes import CATEGORIES, CUT_OFF
from screl.scoring import RunScore
from screl.table import format_table

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


def breakdown_table(by: str, groups: Sequence[Group]) -> str:
    """One row per group of one run."""
    metrics = list(groups[0].scores)
    rows = [[by, "problems", "completions", *metrics]]
    for group in groups:
        cells = [show(*group.scores[metric], group.n_problems) for metric in metrics]
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
    return show(value, error, len(scores))


def show(value: float, error: float | None, n_problems: int) -> str:
    """``value ± standard error``; where all problems score the same, the interval instead.

    >>> show(0.0, 0.0, 64)
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

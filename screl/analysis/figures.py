"""Draw the paper's figures for any study, as PNG and SVG that are readable in grayscale.

A figure has one panel per study, side by side: points with 95% intervals and fitted curves.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from screl.analysis.estimates import Estimate, Points
from screl.analysis.fits import (
    ICL_OVER_LOSS,
    RFT_OVER_K,
    RFT_OVER_PATHS,
    SFT_OVER_LOSS,
    SFT_OVER_STABLE_ROWS,
    FittedRelation,
    find_fit,
)
from screl.analysis.laws import Fit
from screl.analysis.study import Study
from screl.scoring.statistics import Floats

MARKERS = "osD^vPX*<>hdp"  # 13, so that with 4 line styles 52 series look different
LINES = ("-", "--", "-.", ":")
MAX_LABELS_INSIDE = 6  # a longer legend goes to the right of the panel


class Series(NamedTuple):
    """Points with one label.

    Each y that is an Estimate gets a bar for its 95% interval. A fitted ``curve`` is drawn instead
    of lines between the points.
    """

    label: str
    x: Sequence[float]
    y: Sequence[Estimate] | Sequence[float]
    curve: Fit | None = None
    joined: bool = True


class Panel(NamedTuple):
    """One pair of axes.

    ``log_x`` is the base of a logarithmic x axis, 0 for a linear one. ``ticks`` label x = 0, 1, 2,
    ... for categories.
    """

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    log_x: int = 0
    ticks: Sequence[str] = ()


def draw(path: Path, panels: Sequence[Panel]) -> list[Path]:
    """Draw ``panels`` side by side; write and return ``path`` with suffixes .png and .svg."""
    import matplotlib
    from matplotlib.figure import Figure  # pyplot would keep it and look for a display

    settings: dict[Any, Any] = {"font.size": 9, "svg.hashsalt": path.name, "svg.fonttype": "none"}
    with matplotlib.rc_context(settings):
        widths = [7.6 if len(panel.series) > MAX_LABELS_INSIDE else 5.6 for panel in panels]
        figure = Figure(figsize=(sum(widths), 4.4), layout="constrained")
        all_axes = figure.subplots(1, len(panels), squeeze=False, width_ratios=widths)
        for axes, panel in zip(all_axes[0], panels, strict=True):
            _draw_panel(axes, panel, matplotlib.colormaps["viridis"])
        path.parent.mkdir(parents=True, exist_ok=True)
        written = [path.with_suffix(ending) for ending in (".png", ".svg")]
        for file in written:  # without a date, the same numbers make the same bytes
            temporary = file.with_name(f".{file.name}")
            dateless = {"Date": None} if file.suffix == ".svg" else {}
            figure.savefig(temporary, dpi=150, metadata=dateless, format=file.suffix[1:])
            os.replace(temporary, file)
    return written


def _draw_panel(axes: Any, panel: Panel, colormap: Any) -> None:
    axes.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
    if panel.log_x:
        axes.set_xscale("log", base=panel.log_x)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.4g}")
    for number, series in enumerate(panel.series):
        # from dark to light, to stay distinct in grayscale; markers and line styles differ too
        color = colormap(0.85 * number / max(1, len(panel.series) - 1))
        style = {"color": color, "marker": MARKERS[number % len(MARKERS)], "label": series.label}
        line = LINES[number % len(LINES)]
        y, bars = _values_and_bars(series.y)
        axes.errorbar(
            series.x, y, yerr=bars, capsize=2, markersize=5,
            linestyle="none" if series.curve or not series.joined else line, linewidth=1, **style,
        )  # fmt: skip
        if series.curve:
            x = _between(series.x, bool(panel.log_x))
            axes.plot(x, series.curve(x), color=color, linestyle=line, linewidth=1)
    if panel.ticks:
        axes.set_xticks(range(len(panel.ticks)), panel.ticks)
        axes.set_xlim(-0.5, len(panel.ticks) - 0.5)
    axes.grid(alpha=0.3)
    outside: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1, 1)}
    axes.legend(fontsize=7, **(outside if len(panel.series) > MAX_LABELS_INSIDE else {}))


def _values_and_bars(y: Sequence[Any]) -> tuple[list[float], Floats | None]:
    """Return values and the lengths of their error bars down and up, (2, points)."""
    if not y or not isinstance(y[0], Estimate):
        return list(y), None
    values = [accuracy.value for accuracy in y]
    low, high = np.array([accuracy.interval for accuracy in y]).T
    return values, np.maximum(0, [values - low, high - values])


def _between(x: Sequence[float], log: bool) -> Floats:
    make = np.geomspace if log else np.linspace
    return np.asarray(make(min(x), max(x), 200))


SETTINGS = {
    "icl": "ICL",
    "sft": "SFT",
    "k100": "RFT k=100",
    "u_small": "RFT U-small",
    "u_all": "RFT U-all",
}
# Settings with a cost, and what each gains over.
GAINS_WITH_COST = (("sft", "icl"), ("k100", "sft"), ("u_small", "sft"), ("u_all", "sft"))
LOSS_LABEL = "pre-training loss (nats per token)"
PATHS_LABEL = "distinct paths per problem, including the solution's"
CONTROLS = {
    "": "one correct sample per path",
    "-no_dedup": "every correct sample",
    "-rows": "as many random rows",
    "-tokens": "as many random tokens",
}


def _accuracy_panel(study: Study, x_label: str, series: Sequence[Series], log_x: int = 0) -> Panel:
    label = f"maj1@1 on {study.n_problems:,} test problems (%), 95 % interval"
    return Panel(_title(study), x_label, label, series, log_x)


def _title(study: Study, n_problems: int | None = None) -> str:
    n_problems = study.n_problems if n_problems is None else n_problems
    return f"{study.name}: {study.test_set}, {n_problems:,} problems"


def _series(label: str, points: Points, fit: Fit | None, at_least: int = 2) -> list[Series]:
    """Return the points with their curve; nothing for fewer points than ``at_least``."""
    return [Series(label, *points, fit)] if len(points.x) >= at_least else []


def loss_panel(study: Study, fits: list[FittedRelation]) -> Panel:
    """Show the accuracy of SFT and of ICL over pre-training loss (Figure 2)."""
    series: list[Series] = []
    for setting, relation in (("sft", SFT_OVER_LOSS), ("icl", ICL_OVER_LOSS)):
        points, fit = study.by_loss(setting), find_fit(fits, relation)
        series += _series(SETTINGS[setting], points, fit, at_least=1)
    return _accuracy_panel(study, LOSS_LABEL, series)


def data_amount_panel(study: Study, fits: list[FittedRelation]) -> Panel:
    """Show SFT over the number of solutions, with the line fitted from 1/8 up (Figure 3)."""
    series: list[Series] = []
    for model in study.models("sft"):
        series += _series(model, study.by_rows(model), find_fit(fits, SFT_OVER_STABLE_ROWS, model))
    return _accuracy_panel(study, "human-written solutions", series, log_x=2)


def rft_k_panel(study: Study, fits: list[FittedRelation]) -> Panel:
    """Show RFT over k, and its controls if there are any."""
    series: list[Series] = []
    for model in study.models("sft"):
        has_controls = any(study.by_k(model, control).x for control in CONTROLS if control)
        for control, label in CONTROLS.items():
            fit = None if control else find_fit(fits, RFT_OVER_K, model)
            name = f"{model}: {label}" if has_controls else model
            series += _series(name, study.by_k(model, control), fit)
    return _accuracy_panel(study, "k, samples per problem", series, log_x=2)


def rft_paths_panel(study: Study, fits: list[FittedRelation]) -> Panel:
    """Show RFT over the number of distinct paths."""
    series: list[Series] = []
    for model in study.models("sft"):
        series += _series(model, study.by_paths(model), find_fit(fits, RFT_OVER_PATHS, model))
    return _accuracy_panel(study, PATHS_LABEL, series, log_x=2)


def paths_panel(study: Study, fits: list[FittedRelation]) -> Panel:
    """Show distinct paths found over k (Table 2)."""
    series: list[Series] = []
    for model in study.models("sft"):
        ks = sorted(study.paths.get(model, {}))
        if len(ks) > 1:
            series.append(Series(model, ks, [study.paths[model][k] for k in ks]))
    label = f"{PATHS_LABEL}, 95 % interval"
    return Panel(_title(study), "k, samples per problem", label, series, log_x=2)


def gains_panel(study: Study, fits: list[FittedRelation]) -> Panel:
    """Show RFT's gain over SFT by pre-training loss: does RFT help weaker models more?"""
    series: list[Series] = []
    for setting in ("k100", "u_small", "u_all"):
        if gains := study.gains(setting):
            losses = [study.losses[model] for model in gains]
            series.append(Series(SETTINGS[setting], losses, list(gains.values())))
    return Panel(_title(study), LOSS_LABEL, "points over SFT, 95 % interval", series)


def votes_panel(study: Study, fits: list[FittedRelation]) -> Panel:
    """Show maj1@1 and maj1@100 by setting (Table 6)."""
    models = [m for m in study.models("sft") if (m, "sft") in study.votes]
    series: list[Series] = []
    for place, model in enumerate(models):
        known = [i for i, s in enumerate(SETTINGS) if (model, s) in study.votes]
        both = [study.votes[model, list(SETTINGS)[i]] for i in known]
        # side by side, so that the bars of the models do not overlap
        x = [i + 0.6 * ((place + 0.5) / len(models) - 0.5) for i in known]
        series.append(Series(f"{model}, greedy", x, [single for single, _ in both]))
        series.append(Series(f"{model}, vote of 100", x, [voted for _, voted in both]))
    title, label = _title(study, study.n_vote_problems), "maj1@1 and maj1@100 (%), 95 % interval"
    return Panel(title, "", label, series, ticks=list(SETTINGS.values()))


def test_paths_panel(study: Study, fits: list[FittedRelation]) -> Panel:
    """Show the share of test problems with at least n distinct correct paths (Figure 7)."""
    series: list[Series] = []
    for model in study.models("sft"):
        for setting in ("sft", "u_small"):
            counts = study.paths_on_test.get((model, setting))
            if counts is not None and (model, "u_small") in study.paths_on_test:
                values = np.arange(int(counts.max()) + 1)
                share = [100 * float((counts >= value).mean()) for value in values]
                series.append(Series(f"{model}, {SETTINGS[setting]}", values.tolist(), share))
    title, x_label = _title(study, study.n_vote_problems), "distinct correct paths in 100 samples"
    return Panel(title, x_label, "test problems with at least as many (%)", series)


def cost_panel(study: Study, fits: list[FittedRelation]) -> Panel:
    """Show the gains of SFT over ICL and of RFT over SFT by their FLOPs (Table 4)."""
    series: list[Series] = []
    for setting, before in GAINS_WITH_COST:
        gains = study.gains(setting, over=before)
        known = [model for model in gains if (model, setting) in study.flops]
        if known:
            label = f"{SETTINGS[setting]} over {SETTINGS[before]}"
            flops = [study.flops[model, setting] for model in known]
            series.append(Series(label, flops, [gains[m] for m in known], joined=False))
    label = "FLOPs beyond the previous model"
    return Panel(_title(study), label, "points gained, 95 % interval", series, log_x=10)


FIGURES = {
    "loss": loss_panel,
    "data_amount": data_amount_panel,
    "rft_k": rft_k_panel,
    "rft_paths": rft_paths_panel,
    "paths": paths_panel,
    "gains": gains_panel,
    "votes": votes_panel,
    "test_paths": test_paths_panel,
    "cost": cost_panel,
}


def draw_figures(
    studies: Sequence[Study], fits: Sequence[list[FittedRelation]], folder: Path
) -> list[Path]:
    """Draw every figure that a study has points for; return the PNGs."""
    written = []
    for name, panel_of in FIGURES.items():
        panels = [panel_of(study, of) for study, of in zip(studies, fits, strict=True)]
        if drawn := [panel for panel in panels if panel.series]:
            written.append(draw(folder / name, drawn)[0])
    return written

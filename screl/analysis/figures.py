"""Draw panels of points, intervals and fitted curves, as PNG and SVG, readable in grey.

The paper's figures, for any study: one panel each, to be drawn alone or side by side.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from screl.analysis.estimates import Estimate
from screl.analysis.fits import Fitted, find
from screl.analysis.laws import Fit
from screl.analysis.study import Points, Study
from screl.scoring.statistics import Floats

MARKERS = "osD^vPX*<>hdp"  # 13: with 4 lines no look is there twice among 52
LINES = ("-", "--", "-.", ":")
ROOM = 6  # labels that fit into a panel; more stand beside it


class Series(NamedTuple):
    """Points of one label; a bar of 95 % where y is an Estimate; the fitted curve, if any, or a
    line from point to point."""

    label: str
    x: Sequence[float]
    y: Sequence[Estimate] | Sequence[float]
    curve: Fit | None = None
    joined: bool = True


class Panel(NamedTuple):
    """One pair of axes. ``log_x``: the base of a logarithmic x, 0 for a linear one. ``ticks`` name
    the x 0, 1, 2 ... where these are no numbers."""

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    log_x: int = 0
    ticks: Sequence[str] = ()


def draw(path: Path, panels: Sequence[Panel]) -> list[Path]:
    """Write ``path`` with the endings .png and .svg, panels side by side; the paths written."""
    import matplotlib
    from matplotlib.figure import Figure  # pyplot would keep it, and look for a display

    settings: dict[Any, Any] = {"font.size": 9, "svg.hashsalt": path.name, "svg.fonttype": "none"}
    with matplotlib.rc_context(settings):
        widths = [7.6 if len(panel.series) > ROOM else 5.6 for panel in panels]
        figure = Figure(figsize=(sum(widths), 4.4), layout="constrained")
        all_axes = figure.subplots(1, len(panels), squeeze=False, width_ratios=widths)
        for axes, panel in zip(all_axes[0], panels, strict=True):
            _draw_panel(axes, panel, matplotlib.colormaps["viridis"])
        path.parent.mkdir(parents=True, exist_ok=True)
        written = [path.with_suffix(ending) for ending in (".png", ".svg")]
        for file in written:  # no date inside: the same numbers make the same file
            temporary = file.with_name(f".{file.name}")
            dateless = {"Date": None} if file.suffix == ".svg" else {}
            figure.savefig(temporary, dpi=150, metadata=dateless, format=file.suffix[1:])
            os.replace(temporary, file)
    return written


def _draw_panel(axes: Any, panel: Panel, colours: Any) -> None:
    axes.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
    if panel.log_x:
        axes.set_xscale("log", base=panel.log_x)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.4g}")
    for number, series in enumerate(panel.series):
        # from dark to light, so that grey tells them apart; markers and lines do too
        colour = colours(0.85 * number / max(1, len(panel.series) - 1))
        style = {"color": colour, "marker": MARKERS[number % len(MARKERS)], "label": series.label}
        line = LINES[number % len(LINES)]
        y, bars = _values_and_bars(series.y)
        axes.errorbar(
            series.x, y, yerr=bars, capsize=2, markersize=5,
            linestyle="none" if series.curve or not series.joined else line, linewidth=1, **style,
        )  # fmt: skip
        if series.curve:
            x = _between(series.x, bool(panel.log_x))
            axes.plot(x, series.curve(x), color=colour, linestyle=line, linewidth=1)
    if panel.ticks:
        axes.set_xticks(range(len(panel.ticks)), panel.ticks)
        axes.set_xlim(-0.5, len(panel.ticks) - 0.5)
    axes.grid(alpha=0.3)
    beside: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1, 1)}
    axes.legend(fontsize=7, **(beside if len(panel.series) > ROOM else {}))


def _values_and_bars(y: Sequence[Any]) -> tuple[list[float], Floats | None]:
    """Values, and the reach of their intervals down and up, (2, points)."""
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
CONTROLS = {
    "": "one right sample a path",
    "-no_dedup": "every right sample",
    "-rows": "as many random rows",
    "-tokens": "as many random tokens",
}


def accuracy_label(study: Study) -> str:
    """The y axis of every panel of accuracies."""
    return f"maj1@1 on {study.n_problems:,} test problems (%), 95 % interval"


def draw_over_loss(study: Study, fits: list[Fitted]) -> Panel:
    """Accuracy after SFT and with ICL over pre-training loss (Figure 2)."""
    series: list[Series] = []
    for setting, relation in (("sft", "SFT"), ("icl", "ICL")):
        fitted = find(fits, f"{relation} accuracy over pre-training loss")
        series += _series(relation, study.by_loss(setting), fitted, at_least=1)
    return Panel(_title(study), "pre-training loss (nats a token)", accuracy_label(study), series)


def over_rows(study: Study, fits: list[Fitted]) -> Panel:
    """SFT over the number of solutions, with the line of 1/8 to 1 (Figure 3)."""
    series: list[Series] = []
    for model in study.models("sft"):
        fitted = find(fits, "SFT accuracy over solutions, 1 to 1/8", model)
        series += _series(model, study.by_rows(model), fitted)
    return Panel(_title(study), "human-written solutions", accuracy_label(study), series, log_x=2)


def over_k(study: Study, fits: list[Fitted]) -> Panel:
    """RFT over k, and its controls where there are any."""
    series: list[Series] = []
    for model in study.models("sft"):
        for control, label in CONTROLS.items():
            fitted = None if control else find(fits, "RFT accuracy over k", model)
            name = f"{model}: {label}" if _has_controls(study, model) else model
            series += _series(name, study.by_k(model, control), fitted)
    return Panel(_title(study), "k, samples a problem", accuracy_label(study), series, log_x=2)


def over_paths(study: Study, fits: list[Fitted]) -> Panel:
    """RFT over the number of distinct paths."""
    series: list[Series] = []
    for model in study.models("sft"):
        fitted = find(fits, "RFT accuracy over distinct paths", model)
        series += _series(model, study.by_paths(model), fitted)
    label = "distinct paths a problem, its solution's too"
    return Panel(_title(study), label, accuracy_label(study), series, log_x=2)


def paths_over_k(study: Study, fits: list[Fitted]) -> Panel:
    """Distinct paths found over k (Table 2)."""
    series: list[Series] = []
    for model in study.models("sft"):
        ks = sorted(study.paths.get(model, {}))
        if len(ks) > 1:
            series.append(Series(model, ks, [study.paths[model][k] for k in ks]))
    label = "distinct paths a problem, its solution's too, 95 % interval"
    return Panel(_title(study), "k, samples a problem", label, series, log_x=2)


def votes(study: Study, fits: list[Fitted]) -> Panel:
    """maj1@1 and maj1@100 by setting (Table 6)."""
    models = [m for m in study.models("sft") if (m, "sft") in study.votes]
    series: list[Series] = []
    for place, model in enumerate(models):
        known = [i for i, s in enumerate(SETTINGS) if (model, s) in study.votes]
        both = [study.votes[model, list(SETTINGS)[i]] for i in known]
        # side by side, or the bars of the models would lie on one another
        x = [i + 0.6 * ((place + 0.5) / len(models) - 0.5) for i in known]
        series.append(Series(f"{model}, greedy", x, [single for single, _ in both]))
        series.append(Series(f"{model}, vote of 100", x, [voted for _, voted in both]))
    label = "maj1@1 and maj1@100 (%), 95 % interval"
    return Panel(
        _title(study, study.n_vote_problems), "", label, series, ticks=list(SETTINGS.values())
    )


def draw_gains(study: Study, fits: list[Fitted]) -> Panel:
    """What RFT brings over SFT, by pre-training loss: more for less performant models?"""
    series: list[Series] = []
    for setting in ("k100", "u_small", "u_all"):
        models = study.models("sft", setting)
        more: list[Estimate] = [
            study.accuracy[m, setting] - study.accuracy[m, "sft"] for m in models
        ]
        if models:
            series.append(Series(SETTINGS[setting], [study.losses[m] for m in models], more))
    label = "points over SFT, 95 % interval"
    return Panel(_title(study), "pre-training loss (nats a token)", label, series)


def test_paths(study: Study, fits: list[Fitted]) -> Panel:
    """Test problems by their number of distinct right paths among the voting samples (Figure 7)."""
    series: list[Series] = []
    for model in study.models("sft"):
        for setting in ("sft", "u_small"):
            counts = study.test_paths.get((model, setting))
            if counts is not None and (model, "u_small") in study.test_paths:
                values = np.arange(int(counts.max()) + 1)
                share = [100 * float((counts >= value).mean()) for value in values]
                series.append(Series(f"{model}, {SETTINGS[setting]}", values.tolist(), share))
    label = "test problems with as many or more (%)"
    return Panel(
        _title(study, study.n_vote_problems),
        "distinct right paths among 100 samples",
        label,
        series,
    )


def cost(study: Study, fits: list[Fitted]) -> Panel:
    """What SFT brings over ICL, and RFT over SFT, by their FLOPs (Table 4)."""
    series: list[Series] = []
    for setting, before in (("sft", "icl"), ("k100", "sft"), ("u_small", "sft"), ("u_all", "sft")):
        models = [m for m in study.models(before, setting) if (m, setting) in study.flops]
        more = [study.accuracy[m, setting] - study.accuracy[m, before] for m in models]
        if models:
            label = f"{SETTINGS[setting]} over {SETTINGS[before]}"
            flops = [study.flops[m, setting] for m in models]
            series.append(Series(label, flops, more, joined=False))
    label = "FLOPs beyond the model before"
    return Panel(_title(study), label, "points gained, 95 % interval", series, log_x=10)


FIGURES = {
    "loss": draw_over_loss,
    "data_amount": over_rows,
    "rft_k": over_k,
    "rft_paths": over_paths,
    "paths": paths_over_k,
    "gains": draw_gains,
    "votes": votes,
    "test_paths": test_paths,
    "cost": cost,
}


def _series(label: str, points: Points, fitted: Fitted | None, at_least: int = 2) -> list[Series]:
    """The points with their curve; nothing of fewer points than ``at_least``."""
    if len(points.x) < at_least:
        return []
    return [Series(label, *points, fitted.fit if fitted else None)]


def _title(study: Study, n_problems: int | None = None) -> str:
    n_problems = study.n_problems if n_problems is None else n_problems
    return f"{study.name}: {study.test_set}, {n_problems:,} problems"


def _has_controls(study: Study, model: str) -> bool:
    return any(study.by_k(model, control).x for control in CONTROLS if control)

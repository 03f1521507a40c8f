"""Draw panels of points, intervals and fitted curves, as PNG and SVG, readable in grey."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from screl.estimates import Estimate
from screl.metrics import Floats
from screl.scaling import Fit

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

"""Figures as files: the same bytes for the same numbers, every label and point in them."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from screl.analysis.estimates import Estimate
from screl.analysis.figures import LINES, MARKERS, Panel, Series, draw
from screl.analysis.laws import LINE, fit
from tests.made_study import estimate

X = np.array([1.0, 2, 4, 8])
Y = np.array([10.0, 12, 11, 15])
POINTS = Series("points", X.tolist(), [estimate(y, 1.0, str(y)) for y in Y], fit(LINE, X, Y))
PLAIN = Series("plain <numbers>", X.tolist(), Y.tolist())
PANEL = Panel("a title", "amount (rows)", "accuracy (%)", [POINTS, PLAIN])


def svg(tmp_path: Path, *panels: Panel) -> str:
    return draw(tmp_path / "figure", panels)[1].read_text(encoding="utf-8")


def axes_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, panel: Panel) -> Axes:
    """What matplotlib was asked to draw."""
    drawn = []

    def savefig(figure: Figure, path: Path, **_: object) -> None:
        drawn.append(figure)
        path.touch()

    monkeypatch.setattr(Figure, "savefig", savefig)
    draw(tmp_path / "figure", [panel])
    return drawn[0].axes[0]


def test_a_png_and_an_svg_are_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "loss"
    png, svg = draw(path, [PANEL])
    assert (png, svg) == (path.with_suffix(".png"), path.with_suffix(".svg"))
    assert png.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert svg.read_text(encoding="utf-8").startswith("<?xml")
    assert len(list(path.parent.iterdir())) == 2


def test_the_same_numbers_make_the_same_bytes(tmp_path: Path) -> None:
    first = [path.read_bytes() for path in draw(tmp_path / "a" / "loss", [PANEL, PANEL])]
    again = [path.read_bytes() for path in draw(tmp_path / "b" / "loss", [PANEL, PANEL])]
    assert first == again
    assert b"<dc:date>" not in first[1]
    other = Series("points", X.tolist(), [estimate(y, 2.0, str(y)) for y in Y])
    moved = [
        path.read_bytes()
        for path in draw(tmp_path / "c" / "loss", [PANEL, PANEL._replace(series=[other])])
    ]
    assert moved[0] != first[0]
    assert moved[1] != first[1]


def test_every_text_is_in_the_svg(tmp_path: Path) -> None:
    text = svg(tmp_path, PANEL, PANEL._replace(title="another", x_label="k, samples"))
    for wanted in (
        "a title", "another", "amount (rows)", "k, samples", "accuracy (%)", "points",
        "plain &lt;numbers&gt;",
    ):  # fmt: skip
        assert f">{wanted}<" in text


def test_names_stand_at_their_places(tmp_path: Path) -> None:
    series = [Series("a", [0, 2], [1.0, 2.0])]
    text = svg(tmp_path, Panel("t", "", "accuracy (%)", series, ticks=["ICL", "SFT", "RFT"]))
    for name in ("ICL", "SFT", "RFT"):
        assert f">{name}<" in text


def test_a_logarithmic_axis_counts_in_doublings(tmp_path: Path) -> None:
    text = svg(tmp_path, PANEL._replace(log_x=2))
    assert ">2<" in text
    assert ">8<" in text
    large = Series("rows", [256, 7473], [1.0, 2.0])
    assert ">4,096<" in svg(tmp_path, PANEL._replace(series=[large], log_x=2))
    assert ">1,000<" in svg(tmp_path, PANEL._replace(series=[large], log_x=10))


def test_points_and_bars_are_where_the_numbers_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    axes = axes_of(monkeypatch, tmp_path, PANEL)
    points, plain = axes.containers
    assert points.lines[0].get_xydata().tolist() == np.stack([X, Y], axis=1).tolist()
    assert plain.lines[0].get_xydata().tolist() == np.stack([X, Y], axis=1).tolist()
    (bars,) = points.lines[2]
    for segment, of in zip(bars.get_segments(), POINTS.y, strict=True):
        assert segment[:, 1] == pytest.approx(of.interval)
    assert not plain.lines[2]  # nothing is known of its uncertainty


def test_points_that_have_no_order_are_not_joined(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    series = [PLAIN, PLAIN._replace(joined=False)]
    axes = axes_of(monkeypatch, tmp_path, PANEL._replace(series=series))
    styles = [container.lines[0].get_linestyle() for container in axes.containers]
    assert styles == ["-", "None"]


def test_a_value_outside_its_interval_has_a_bar_on_one_side(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    series = Series("odd", [1.0], [Estimate(0.0, np.linspace(1, 2, 41))])
    axes = axes_of(monkeypatch, tmp_path, PANEL._replace(series=[series]))
    (bars,) = axes.containers[0].lines[2]
    assert bars.get_segments()[0][:, 1] == pytest.approx([0, 1.975])


@pytest.mark.parametrize("log", [False, True])
def test_the_curve_goes_from_the_first_to_the_last_point(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, log: bool
) -> None:
    axes = axes_of(monkeypatch, tmp_path, PANEL._replace(log_x=2 if log else 0))
    (curve,) = [line for line in axes.lines if len(line.get_xdata()) == 200]
    x, y = curve.get_xydata().T
    assert (x.min(), x.max()) == pytest.approx((1, 8))
    assert POINTS.curve is not None
    assert y == pytest.approx(POINTS.curve(x))
    assert (x[1] - x[0] == pytest.approx(x[-1] - x[-2])) != log


def test_series_are_told_apart_in_grey(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    series = [Series(str(i), [1.0, 2.0], [i + 1.0, i + 2.0]) for i in range(20)]
    axes = axes_of(monkeypatch, tmp_path, PANEL._replace(series=series))
    lines = [container.lines[0] for container in axes.containers]
    looks = {(line.get_marker(), line.get_linestyle()) for line in lines}
    assert len(looks) == 20 > len(MARKERS) > len(LINES)
    lightness = [np.dot(line.get_color()[:3], [0.299, 0.587, 0.114]) for line in lines]
    assert np.diff(lightness).min() > 0


def test_many_labels_stand_beside_their_panel(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for n_series, inside in ((6, True), (7, False)):
        series = [Series(str(i), [1.0, 2.0], [i + 1.0, i + 2.0]) for i in range(n_series)]
        axes = axes_of(monkeypatch, tmp_path, PANEL._replace(series=series))
        axes.figure.draw_without_rendering()
        legend = axes.get_legend()
        assert legend is not None
        assert (legend.get_window_extent().x0 < axes.get_window_extent().x1) == inside


def test_wide_text_and_odd_characters_do_not_fail(tmp_path: Path) -> None:
    label = "a very long label of a model, its loss and its setting " * 6
    series = [Series(f"{label} β² → {i}", [1.0, 2.0], [1.0, 2.0]) for i in range(3)]
    wide = Panel(label, label, label, series, ticks=[label] * 3)
    with pytest.warns(UserWarning, match="axes sizes collapsed"):  # of matplotlib; still drawn
        paths = draw(tmp_path / "wide", [wide])
    assert all(path.stat().st_size > 1000 for path in paths)
    assert "β² → 2" in paths[1].read_text(encoding="utf-8")


def test_a_panel_of_one_point(tmp_path: Path) -> None:
    one = Series("one", [3.0], [estimate(5)])
    assert ">one<" in svg(tmp_path, Panel("t", "x", "y", [one]))

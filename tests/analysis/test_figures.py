"""Figures: reproducible files with every point and label, and the panels of studies."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from screl.analysis.estimates import Estimate
from screl.analysis.figures import FIGURES, LINES, MARKERS, Panel, Series, draw, draw_figures
from screl.analysis.fits import SFT_OVER_STABLE_ROWS, find_fit, fit_study
from screl.analysis.laws import LINE, fit_law
from screl.analysis.study import Study
from tests.analysis.made_study import estimate, make_study, paper, paper_fits
from tests.analysis.test_published_numbers import LLAMAS, UP_TO_13B, UP_TO_33B

X = np.array([1.0, 2, 4, 8])
Y = np.array([10.0, 12, 11, 15])
POINTS = Series("points", X.tolist(), [estimate(y, 1.0, str(y)) for y in Y], fit_law(LINE, X, Y))
PLAIN = Series("plain <numbers>", X.tolist(), Y.tolist())
PANEL = Panel("a title", "amount (rows)", "accuracy (%)", [POINTS, PLAIN])


def svg(tmp_path: Path, *panels: Panel) -> str:
    return draw(tmp_path / "figure", panels)[1].read_text(encoding="utf-8")


def axes_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, panel: Panel) -> Axes:
    """Return the axes that matplotlib was asked to draw."""
    drawn = []

    def savefig(figure: Figure, path: Path, **_: object) -> None:
        drawn.append(figure)
        path.touch()

    monkeypatch.setattr(Figure, "savefig", savefig)
    draw(tmp_path / "figure", [panel])
    return drawn[0].axes[0]


def test_the_same_numbers_make_the_same_bytes(tmp_path: Path) -> None:
    first = draw(tmp_path / "new/folder/loss", [PANEL, PANEL])
    again = draw(tmp_path / "b/loss", [PANEL, PANEL])
    assert [path.name for path in first] == ["loss.png", "loss.svg"]
    assert first[0].read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    assert b"<dc:date>" not in first[1].read_bytes()
    assert len(list(first[0].parent.iterdir())) == 2


def test_every_text_is_in_the_svg(tmp_path: Path) -> None:
    ticks = Panel("t", "", "y", [Series("a", [0, 2], [1.0, 2.0])], ticks=["ICL", "SFT", "RFT"])
    large = Series("rows", [256, 7473], [1.0, 2.0])
    text = svg(tmp_path, PANEL, ticks, PANEL._replace(series=[large], log_x=2))
    for wanted in (
        "a title", "amount (rows)", "accuracy (%)", "points", "plain &lt;numbers&gt;", "ICL",
        "SFT", "RFT", "4,096",
    ):  # fmt: skip
        assert f">{wanted}<" in text


def test_points_bars_and_curves_are_where_the_numbers_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    outside = Series("outside", [1.0], [Estimate(0.0, np.linspace(1, 2, 41))])
    unjoined = PLAIN._replace(joined=False)
    series = [POINTS, PLAIN, unjoined, outside]
    axes = axes_of(monkeypatch, tmp_path, PANEL._replace(series=series, log_x=2))
    points, plain, scattered, one_sided = axes.containers
    for container in (points, plain):
        assert container.lines[0].get_xydata().tolist() == np.stack([X, Y], axis=1).tolist()
    (bars,) = points.lines[2]
    for segment, of in zip(bars.get_segments(), POINTS.y, strict=True):
        assert segment[:, 1] == pytest.approx(of.interval)
    assert not plain.lines[2]  # no uncertainty is known
    assert (plain.lines[0].get_linestyle(), scattered.lines[0].get_linestyle()) == ("--", "None")
    (bars,) = one_sided.lines[2]
    assert bars.get_segments()[0][:, 1] == pytest.approx([0, 1.975])
    (curve,) = [line for line in axes.lines if len(line.get_xdata()) == 200]
    x, y = curve.get_xydata().T
    assert (x.min(), x.max()) == pytest.approx((1, 8))
    assert POINTS.curve is not None
    assert y == pytest.approx(POINTS.curve(x))


def test_series_differ_in_grayscale_and_many_labels_go_outside(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for n_series in (6, 20):
        series = [Series(str(i), [1.0, 2.0], [i + 1.0, i + 2.0]) for i in range(n_series)]
        axes = axes_of(monkeypatch, tmp_path, PANEL._replace(series=series))
        lines = [container.lines[0] for container in axes.containers]
        looks = {(line.get_marker(), line.get_linestyle()) for line in lines}
        assert len(looks) == n_series
        lightness = [np.dot(line.get_color()[:3], [0.299, 0.587, 0.114]) for line in lines]
        assert np.diff(lightness).min() > 0
        axes.figure.draw_without_rendering()
        legend = axes.get_legend()
        assert legend is not None
        is_inside = legend.get_window_extent().x0 < axes.get_window_extent().x1
        assert is_inside == (n_series == 6)
    assert len(looks) > len(MARKERS) > len(LINES)


def test_long_labels_do_not_fail(tmp_path: Path) -> None:
    label = "a very long label of a model, its loss and its setting β² → " * 6
    wide = Panel(label, label, label, [Series(label, [1.0, 2.0], [1.0, 2.0])], ticks=[label] * 3)
    with pytest.warns(UserWarning, match="axes sizes collapsed"):  # from matplotlib; still drawn
        assert "β² → " in svg(tmp_path, wide)


def published(name: str) -> Panel:
    return FIGURES[name](paper(), paper_fits())


@pytest.fixture
def made() -> Study:
    """One base model with RFT for two k, controls, votes, and paths on test problems."""
    accuracy = {("m15", "sft"): 50, ("m15", "k1"): 51, ("m15", "k100"): 55, ("m15", "u_small"): 58}
    accuracy |= {("m15", f"k{k}{c}"): 52 for k in (1, 100) for c in ("-rows", "-tokens")}
    votes = {(("m15"), s): (estimate(50), estimate(60)) for s in ("sft", "u_all")}
    paths = {("m15", "sft"): np.array([0.0, 0, 1, 2]), ("m15", "u_small"): np.array([0.0, 1, 3, 3])}
    return make_study(accuracy, votes=votes, paths_on_test=paths, n_vote_problems=4)


def test_published_figures_have_their_points() -> None:
    found = {name: [(of.label, len(of.x)) for of in published(name).series] for name in FIGURES}
    votes = found.pop("votes")
    assert [label for label, _ in votes] == [
        f"{model}, {way}" for model in LLAMAS for way in ("greedy", "vote of 100")
    ]
    assert votes[0][1] == 5
    assert found == {
        "loss": [("SFT", 12), ("ICL", 7)],
        "data_amount": [(model, 6) for model in LLAMAS],
        "rft_k": [(f"{model}: one correct sample per path", 7) for model in UP_TO_13B],
        "rft_paths": [(model, 7) for model in UP_TO_13B],
        "paths": [(model, 7) for model in UP_TO_33B],
        "gains": [("RFT k=100", 5), ("RFT U-small", 7), ("RFT U-all", 7)],
        "test_paths": [],  # not published as numbers
        "cost": [("SFT over ICL", 7), ("RFT U-all over SFT", 7)],
    }
    parts = find_fit(paper_fits(), SFT_OVER_STABLE_ROWS, "LLaMA-7B")
    assert published("data_amount").series[0].curve is parts
    own, _, everyone = published("gains").series
    assert own.x == [1.8, 1.75, 1.73, 1.68, 1.62]
    assert [of.value for of in own.y] == pytest.approx([5.8, 5.9, 6.1, 4.8, -0.1])
    assert everyone.y[-1].value == pytest.approx(64.8 - 63.2)


def test_votes_are_placed_over_their_settings(made: Study) -> None:
    panel = FIGURES["votes"](made, [])
    assert panel.title == "made: made problems, 4 problems"
    assert panel.ticks == ["ICL", "SFT", "RFT k=100", "RFT U-small", "RFT U-all"]
    greedy, voted = panel.series
    assert greedy.x == voted.x == [1, 4]
    assert ([of.value for of in greedy.y], [of.value for of in voted.y]) == ([50, 50], [60, 60])
    places = [one.x[0] for one in published("votes").series[::2]]  # side by side at ICL and SFT
    assert np.round(places).tolist() == [0, 1, 0, 1, 0, 0, 1]
    assert len(set(places)) == len(places)


def test_controls_are_shown_with_rft(made: Study) -> None:
    labels = [one.label for one in FIGURES["rft_k"](made, []).series]
    assert labels == [
        "m15: one correct sample per path", "m15: as many random rows",
        "m15: as many random tokens",
    ]  # fmt: skip
    for key in [key for key in made.accuracy if "-" in key[1]]:
        del made.accuracy[key]
    assert [one.label for one in FIGURES["rft_k"](made, []).series] == ["m15"]


def test_share_of_test_problems_with_at_least_as_many_paths(made: Study) -> None:
    sft, rft = FIGURES["test_paths"](made, []).series
    assert (sft.label, sft.x, sft.y) == ("m15, SFT", [0, 1, 2], [100, 50, 25])
    assert (rft.label, rft.x, rft.y) == ("m15, RFT U-small", [0, 1, 2, 3], [100, 75, 50, 50])
    del made.paths_on_test["m15", "u_small"]  # nothing to compare with
    assert FIGURES["test_paths"](made, []).series == []


def test_only_figures_with_points_are_drawn(made: Study, tmp_path: Path) -> None:
    names = [path.name for path in draw_figures([made], [fit_study(made)], tmp_path)]
    assert names == ["loss.png", "rft_k.png", "gains.png", "votes.png", "test_paths.png"]

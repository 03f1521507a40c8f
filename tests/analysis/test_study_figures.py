"""The panels of the published study, and of one made by hand with what it lacks."""

import re
from pathlib import Path

import numpy as np
import pytest

from screl.analysis.figures import FIGURES, Panel, draw
from screl.analysis.fits import find, fit_study
from screl.analysis.study import Study
from tests.analysis.test_published_numbers import LLAMAS, UP_TO_13B, UP_TO_33B
from tests.made_study import estimate, make_study, paper, paper_fits

# What an axis counts, or its unit.
X_UNITS = r"\(nats a token\)|samples|paths|solutions|FLOPs"
Y_UNITS = r"\(%\)|^points|paths a problem"


def published(name: str) -> Panel:
    return FIGURES[name](paper(), paper_fits())


@pytest.fixture
def made() -> Study:
    """One base model with RFT for two k, controls, votes and paths on test problems."""
    accuracy = {("m15", "sft"): 50, ("m15", "k1"): 51, ("m15", "k100"): 55, ("m15", "u_small"): 58}
    accuracy |= {("m15", f"k{k}{c}"): 52 for k in (1, 100) for c in ("-rows", "-tokens")}
    votes = {(("m15"), s): (estimate(50), estimate(60)) for s in ("sft", "u_all")}
    paths = {("m15", "sft"): np.array([0.0, 0, 1, 2]), ("m15", "u_small"): np.array([0.0, 1, 3, 3])}
    return make_study(accuracy, votes=votes, test_paths=paths, n_vote_problems=4)


def test_the_published_figures_have_their_points() -> None:
    labels = {name: [one.label for one in published(name).series] for name in FIGURES}
    a_path = [f"{model}: one right sample a path" for model in UP_TO_13B]  # beside no_dedup
    both = [f"{m}, {way}" for m in LLAMAS for way in ("greedy", "vote of 100")]
    assert labels == {
        "loss": ["SFT", "ICL"],
        "data_amount": LLAMAS,
        "rft_k": a_path,
        "rft_paths": UP_TO_13B,
        "paths": UP_TO_33B,
        "gains": ["RFT k=100", "RFT U-small", "RFT U-all"],
        "votes": both,
        "test_paths": [],  # not printed
        "cost": ["SFT over ICL", "RFT U-all over SFT"],
    }
    sizes = {name: [len(one.x) for one in published(name).series] for name in FIGURES}
    assert sizes["loss"] == [12, 7]
    assert sizes["data_amount"] == [6] * 7
    assert sizes["rft_k"] == sizes["rft_paths"] == [7] * 4
    assert sizes["gains"] == [5, 7, 7]
    assert sizes["votes"][:2] == [5, 5]
    assert sizes["cost"] == [7, 7]
    for name in FIGURES:
        for one in published(name).series:
            assert len(one.x) == len(one.y)


def test_curves_are_the_fits_of_the_same_points() -> None:
    for name in ("loss", "data_amount", "rft_k", "rft_paths"):
        for one in published(name).series:
            assert one.curve is not None
            known = dict(zip(one.x, (of.value for of in one.y), strict=True))
            assert [known[x] for x in one.curve.x] == one.curve.y.tolist()  # or of some of them
    parts = find(paper_fits(), "SFT accuracy over solutions, 1 to 1/8", "LLaMA-7B")
    assert parts is not None
    assert published("data_amount").series[0].curve is parts.fit
    for name in ("paths", "gains", "votes"):
        assert {one.curve for one in published(name).series} == {None}


@pytest.mark.parametrize("name", FIGURES)
def test_every_axis_says_what_it_counts(name: str, made: Study) -> None:
    for study, fits in ((paper(), paper_fits()), (made, fit_study(made))):
        panel = FIGURES[name](study, fits)
        assert re.search(Y_UNITS, panel.y_label)
        assert panel.ticks or re.search(X_UNITS, panel.x_label)
        n = study.n_vote_problems if name in ("votes", "test_paths") else study.n_problems
        assert f"{study.name}: {study.test_set}, {n:,} problems" == panel.title
        has_bars = {hasattr(y, "interval") for one in panel.series for y in one.y}
        assert has_bars <= {"95 % interval" in panel.y_label}


def test_gains_are_over_sft() -> None:
    own, _, everyone = published("gains").series
    assert own.x == [1.8, 1.75, 1.73, 1.68, 1.62]
    assert [of.value for of in own.y] == pytest.approx([5.8, 5.9, 6.1, 4.8, -0.1])
    assert everyone.y[-1].value == pytest.approx(64.8 - 63.2)


def test_votes_stand_over_their_settings(made: Study) -> None:
    panel = FIGURES["votes"](made, [])
    assert panel.ticks == ["ICL", "SFT", "RFT k=100", "RFT U-small", "RFT U-all"]
    greedy, voted = panel.series
    assert greedy.x == voted.x == [1, 4]
    assert ([of.value for of in greedy.y], [of.value for of in voted.y]) == ([50, 50], [60, 60])
    places = [one.x[0] for one in published("votes").series[::2]]  # ICL and SFT, beside each other
    assert np.round(places).tolist() == [0, 1, 0, 1, 0, 0, 1]
    assert len(set(places)) == len(places)
    greedy = published("votes").series[0]
    assert [of.value for of in greedy.y] == [11.0, 35.9, 41.7, 49.3, 49.1]


def test_controls_are_named_beside_rft(made: Study) -> None:
    labels = [one.label for one in FIGURES["rft_k"](made, []).series]
    assert labels == [
        "m15: one right sample a path", "m15: as many random rows", "m15: as many random tokens"
    ]  # fmt: skip
    more = {("m15", f"k{k}{c}"): estimate(50 + k) for k in (3, 6) for c in ("", "-rows", "-tokens")}
    made.accuracy.update(more)
    curves = [one.curve is None for one in FIGURES["rft_k"](made, fit_study(made)).series]
    assert curves == [False, True, True]
    for key in [key for key in made.accuracy if "-" in key[1]]:
        del made.accuracy[key]
    assert [one.label for one in FIGURES["rft_k"](made, []).series] == ["m15"]


def test_the_share_of_test_problems_with_as_many_paths(made: Study) -> None:
    sft, rft = FIGURES["test_paths"](made, []).series
    assert (sft.label, list(sft.x), list(sft.y)) == ("m15, SFT", [0, 1, 2], [100, 50, 25])
    assert (rft.label, list(rft.x), list(rft.y)) == (
        "m15, RFT U-small",
        [0, 1, 2, 3],
        [100, 75, 50, 50],
    )
    del made.test_paths["m15", "u_small"]  # nothing to compare with
    assert FIGURES["test_paths"](made, []).series == []


def test_what_was_not_measured_has_no_series() -> None:
    study = make_study({("m15", "icl"): 10})
    assert [len(panel_of(study, []).series) for panel_of in FIGURES.values()] == [1] + [0] * 8


def test_every_panel_of_a_study_can_be_drawn(made: Study, tmp_path: Path) -> None:
    fits = fit_study(made)
    panels = [panel_of(made, fits) for panel_of in FIGURES.values()]
    assert len(draw(tmp_path / "all", [panel for panel in panels if panel.series])) == 2

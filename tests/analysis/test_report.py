"""The report of the published study, and its tables on numbers chosen by hand."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from screl.analysis import report as report_module
from screl.analysis.claims import CLAIMS
from screl.analysis.estimates import Estimate, exact_estimate
from screl.analysis.fits import FittedRelation, Prediction, fit_study
from screl.analysis.laws import LINE, fit_law
from screl.analysis.report import (
    claims_table,
    cost_table,
    fits_table,
    gains_table,
    limits_list,
    paths_table,
    predictions_list,
    scores_table,
    seeds_line,
    show_estimate,
    study_report,
    votes_table,
)
from tests.analysis.made_study import make_study, paper, paper_fits


def rows_of(table: str) -> list[list[str]]:
    """Return the cells of a table without the line under its header."""
    lines = [line.removeprefix("| ").removesuffix(" |").split(" | ") for line in table.splitlines()]
    assert set(lines.pop(1)) == {"---"}
    assert {len(cells) for cells in lines} == {len(lines[0])}
    return lines


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The report of the published study and the folder of its figures."""
    folder = tmp_path_factory.mktemp("report") / "paper_figures"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report_module, "fit_study", lambda _: paper_fits())
        yield (study_report("The paper again", [paper()], folder, "As published."), folder)


def test_a_report_has_its_parts_in_order(written: tuple[str, Path]) -> None:
    text, folder = written
    assert text.startswith(
        "# The paper again\n\nAs published.\n\n## Before reading the numbers\n\n* "
    )
    assert re.findall("^## (.*)$", text, re.MULTILINE) == [
        "Before reading the numbers", "Claims", "Scores", "Gains", "Votes",
        "Limits of the relations", "Distinct paths", "Cost", "Fits", "Predictions (not measured)",
        "Figures",
    ]  # fmt: skip
    assert text.endswith(")\n\n")
    for part in (claims_table([paper()]), limits_list(paper(), paper_fits()), cost_table(paper())):
        assert f"\n\n{part}\n\n" in text
    for claim in CLAIMS:
        assert f"\n| {claim.text} ({claim.section}) | " in text
    links = re.findall(r"!\[(\w+)\]\((.*)\)", text)
    assert [name for name, _ in links] == [
        "loss", "data_amount", "rft_k", "rft_paths", "paths", "gains", "votes", "cost"
    ]  # fmt: skip
    for _, link in links:
        assert (folder.parent / link).stat().st_size > 10_000
    assert len(list(folder.iterdir())) == 16


def test_the_last_study_is_reported_beside_the_others(tmp_path: Path) -> None:
    small, large = make_study({("m15", "sft"): 10}, name="small"), make_study({("m12", "icl"): 9})
    text = study_report("Two", [small, large], tmp_path / "figures", "Two studies.")
    head, *claims = rows_of(text.split("\n\n")[3])
    assert head == ["claim (section)", "criterion", "small", "made"]
    assert len(claims) == len(CLAIMS)
    assert {row[3] for row in claims} == {"**inconclusive**, not measured"}
    assert "| m12 | 1.200 | 9.0 [8.8, 9.2] |" in text
    assert "m15" not in text
    svg = (tmp_path / "figures/loss.svg").read_text(encoding="utf-8")
    assert all(f">{name}: made problems, 1,000 problems<" in svg for name in ("small", "made"))


def test_claims_with_the_estimate_of_each_study() -> None:
    line = {(f"m{loss}", "sft"): 110 - 5.0 * loss for loss in (20, 18, 16, 12)}
    _, first, *_ = rows_of(claims_table([paper(), make_study(line)]))
    assert first[0] == "SFT accuracy is linear in pre-training loss (3.1)"
    assert first[2] == "**held**: -88.2 [-96.1, -80.2], R² 0.984, 12 models"
    assert first[3] == "**held**: -50.0 [-50.7, -49.3], R² 1.000, 4 models"


def test_fits_have_coefficients_intervals_and_errors() -> None:
    x, y = np.array([1.0, 2, 3, 4]), np.array([1.0, 2, 3, 5])
    draws = np.stack([np.linspace(-0.5, 0.5, 41), np.linspace(1, 2, 41)], axis=1)
    fitted = FittedRelation("y over x", "", fit_law(LINE, x, y), draws)
    _, row = rows_of(fits_table([fitted]))
    # by the textbook: residuals 0.2 -0.1 -0.4 0.3, s² 0.15, errors s sqrt(1.5) and s sqrt(0.2)
    reach = 4.302653 * 0.15**0.5 * np.array([1.5**0.5, 0.2**0.5])
    assert row == [
        "y over x",
        "all",
        "4",
        "a + b·x: a = -0.5, b = 1.3",
        "a -0.475 to 0.475, b 1.025 to 1.975",
        f"a {-0.5 - reach[0]:.4g} to {-0.5 + reach[0]:.4g}, "
        f"b {1.3 - reach[1]:.4g} to {1.3 + reach[1]:.4g}",
        f"{1 - 0.3 / 8.75:.3f}",
        f"{fitted.fit.leave_one_out_error:.2f}",
    ]
    exact = fitted._replace(fit=fit_law(LINE, x[:2], y[:2]))
    assert rows_of(fits_table([exact]))[1][5] == "not identified"
    known = fitted._replace(model="m15", draws=np.ones((9, 2)))  # numbers without spread
    assert rows_of(fits_table([known]))[1][1:5:3] == ["m15", "unknown"]


def test_scores_votes_gains_and_predictions() -> None:
    accuracy = {
        ("m12", "sft"): 60, ("m15", "sft"): 40, ("m15", "sft_matched"): 41, ("m15", "k3"): 9,
        ("m16", "k100"): 20,
    }  # fmt: skip
    exact = exact_estimate
    votes = {("m15", "sft"): (exact(30), exact(50)), ("m12", "icl"): (exact(5), exact(9))}
    study = make_study(accuracy, error=0, votes=votes, n_vote_problems=1200)
    head, table = votes_table(study).split("\n\n")
    assert head == "maj1@1 / maj1@100 of one training seed on 1,200 problems:"
    assert rows_of(table) == [
        ["model", "icl", "sft"],
        ["m15", "-", "30.0 [30.0, 30.0] / 50.0 [50.0, 50.0]"],
        ["m12", "5.0 [5.0, 5.0] / 9.0 [9.0, 9.0]", "-"],
    ]
    assert rows_of(scores_table(study)) == [
        ["model", "loss", "sft", "k100", "sft_matched"],
        ["m16", "1.600", "-", "20.0 [20.0, 20.0]", "-"],
        ["m15", "1.500", "40.0 [40.0, 40.0]", "-", "41.0 [41.0, 41.0]"],
        ["m12", "1.200", "60.0 [60.0, 60.0]", "-", "-"],
    ]
    assert rows_of(gains_table(study)) == [
        ["model", "loss", "sft_matched"],
        ["m15", "1.500", "1.0 [1.0, 1.0]"],
    ]
    assert seeds_line(study) == "Training seeds per score: 3."
    study.n_seeds["m12", "sft"] = 1
    assert seeds_line(study) == "Training seeds per score: 1 to 3."
    worth = Prediction("solutions are worth", 2069.44, 1028.0, np.inf, "paths")
    assert predictions_list([worth]) == "* solutions are worth: 2,069.4 paths [1,028.0, inf]"


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (33.24, 38.56, "35.9 [33.2, 38.6]"),
        (0.5, 1.0, "0.8 [0.5, 1.0]"),
        (-0.04, 0.02, "-0.010 [-0.040, 0.020]"),
    ],
)
def test_small_numbers_have_more_decimals(low: float, high: float, text: str) -> None:
    draws = np.array([low - 9, *np.linspace(low, high, 39), high + 9])
    assert show_estimate(Estimate((low + high) / 2, draws)) == text


def test_costs_are_those_of_table_4_and_paths_those_of_table_2() -> None:
    _, first, second, *others = rows_of(cost_table(paper()))
    assert first[:4] == ["LLaMA-7B", "sft", "1.7e17", "4.0e-6"]
    assert first[4].startswith("icl: 24.9 [")
    assert first[5] == "6.8e15"  # 1.7e17 / 24.9
    assert second[:4] == ["LLaMA-7B", "u_all", "4.4e18", "1.0e-4"]  # 1.4e18 + 3.0e18
    of = {tuple(row[:2]): row[5] for row in others}
    assert of["LLaMA-65B", "u_all"] == "not significant"
    head, first, *others = rows_of(paths_table(paper()))
    assert head == ["samples of", *(f"k={k}" for k in (1, 3, 6, 12, 25, 50, 100, 400, 500))]
    assert first == ["LLaMA-7B", "1.17", "1.44", "1.74", "2.20", "2.93", "3.94", "5.25", "-", "-"]
    assert others[-1] == ["u_all", *["-"] * 8, "13.65"]


PARTS = {"sft": 50.0, "part2-epochs3": 40.4, "part4-epochs3": 30, "part8-epochs3": 20}


def limits(accuracy: dict[str, float], error: float = 0.1) -> list[str]:
    study = make_study({("m15", setting): of for setting, of in accuracy.items()}, error)
    return limits_list(study, fit_study(study)).splitlines()


def test_limits_of_the_published_study() -> None:
    found = limits_list(paper(), paper_fits())
    for model, setting in (("LLaMA-33B", "k100"), ("LLaMA-65B", "u_small")):
        assert f"* {model}: the gain of RFT {setting} over SFT is not significant: -" in found
    assert "LLaMA2-70B: SFT on 233 solutions is off the line fitted to 1 to 1/8: 27.4%" in found
    assert "LLaMA-7B: the gain" not in found
    assert "LLaMA-7B: SFT on" not in found  # 9.5 and 14.3 lie within its wide interval


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"part16-epochs3": 10.2, "k100": 55}, "None found."),
        (
            {"part16-epochs3": 2},
            "* m15: SFT on 32 solutions is off the line fitted to 1 to 1/8: 2.0",
        ),
        ({"k100": 50.1}, "* m15: the gain of RFT k100 over SFT is not significant: 0.1 points ["),
        ({"k100": 48}, "* m15: RFT k100 is worse than SFT: -2.0 points ["),
    ],
)
def test_limits_of_gains_and_lines(more: dict[str, float], expected: str) -> None:
    (line,) = limits(PARTS | more)
    assert line.startswith(expected)


def test_a_slope_that_may_be_zero() -> None:
    flat = {"sft": 20.1, "part2-epochs3": 19.9, "part4-epochs3": 20.1, "part8-epochs3": 19.9}
    start = (
        "* m15: SFT accuracy over solutions, fractions 1 to 1/8, has no significant slope: 0.04 ["
    )
    found = [line for line in limits(flat, error=5) if line.startswith(start)]
    assert [line.rsplit("] ")[1] for line in found] == ["over problems.", "over points."]
    assert not any("over problems." in line for line in limits(flat, error=0.01))

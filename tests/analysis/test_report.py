"""The report of the published study, whole, and its tables on numbers chosen by hand."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from screl.analysis import report as report_module
from screl.analysis.claims import CLAIMS
from screl.analysis.estimates import Estimate, exactly
from screl.analysis.fits import Fitted, Prediction, predict_from_law
from screl.analysis.laws import LINE, fit
from screl.analysis.limits import limits_list
from screl.analysis.report import (
    claims_table,
    cost_table,
    draw_figures,
    fits_table,
    gains_table,
    markdown_table,
    paths_table,
    predictions_list,
    scores_table,
    seeds_line,
    show_estimate,
    study_report,
    votes_table,
)
from tests.made_study import estimate, make_study, paper, paper_fits


def rows_of(table: str) -> list[list[str]]:
    """The cells of a table without the line under its head."""
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
        yield (
            study_report("The paper again", [paper()], folder, "What follows was published."),
            folder,
        )


def test_a_report_has_its_parts_in_order(written: tuple[str, Path]) -> None:
    text, _ = written
    assert text.startswith("# The paper again\n\nWhat follows was published.\n\n## Before reading")
    assert f"\n\n* {paper().cautions[0]}\n* {paper().cautions[1]}\n" in text
    assert re.findall("^## (.*)$", text, re.MULTILINE) == [
        "Before reading the numbers", "Claims", "Scores", "Votes", "Where the relations end",
        "Distinct paths", "Cost", "Fits", "Predictions, not measured", "Figures",
    ]  # fmt: skip
    assert text.endswith(")\n\n")
    assert "## Scores\n\nTraining seeds a score: 1.\n\n| model" in text
    for part in (
        claims_table([paper()]),
        scores_table(paper()),
        votes_table(paper()),
        gains_table(paper()),
        limits_list(paper(), paper_fits()),
        cost_table(paper()),
        paths_table(paper()),
        fits_table(paper_fits()),
        predictions_list(predict_from_law(paper(), paper_fits())),
    ):
        assert f"\n\n{part}\n\n" in text


def test_a_report_has_every_claim(written: tuple[str, Path]) -> None:
    for claim in CLAIMS:
        assert f"\n| {claim.text} ({claim.section}) | " in written[0]


def test_a_report_links_every_figure_and_each_is_there(written: tuple[str, Path]) -> None:
    text, folder = written
    links = re.findall(r"!\[(\w+)\]\((.*)\)", text)
    assert [name for name, _ in links] == [
        "loss", "data_amount", "rft_k", "rft_paths", "paths", "gains", "votes", "cost"
    ]  # fmt: skip
    for _, link in links:
        assert (folder.parent / link).stat().st_size > 10_000
    assert {path.suffix for path in folder.iterdir()} == {".png", ".svg"}
    assert len(list(folder.iterdir())) == 16


def test_a_report_without_anything_measured(tmp_path: Path) -> None:
    study = make_study({("m15", "icl"): 10})
    text = study_report("Little", [study], tmp_path / "figures", "One number.")
    assert text.count("not decidable here**, not measured") == len(CLAIMS)
    assert "| m15 | 1.500 | 10.0 [9.8, 10.2] |" in text
    assert "![loss](figures/loss.png)" in text


def test_the_last_study_is_told_beside_the_others(tmp_path: Path) -> None:
    small, large = make_study({("m15", "sft"): 10}, name="small"), make_study({("m12", "sft"): 90})
    text = study_report("Two", [small, large], tmp_path / "figures", "Two studies.")
    head, *claims = rows_of(text.split("\n\n")[3])
    assert head == ["claim (section)", "what decides", "small", "made"]
    assert len(claims) == len(CLAIMS)
    assert "m12" in text
    assert "m15" not in text
    svg = (tmp_path / "figures/loss.svg").read_text(encoding="utf-8")
    assert all(f">{name}: made problems, 1,000 problems<" in svg for name in ("small", "made"))


def test_claims_of_two_studies_with_the_number_of_each() -> None:
    line = {(f"m{loss}", "sft"): 110 - 5.0 * loss for loss in (20, 18, 16, 12)}
    head, first, *_ = rows_of(claims_table([paper(), make_study(line)]))
    assert head[2:] == ["paper", "made"]
    assert first[0] == "SFT accuracy is linear in pre-training loss (3.1)"
    assert first[2] == "**held**: -88.2 [-96.1, -80.2], R² 0.984, of 12 models"
    assert first[3] == "**held**: -50.0 [-50.7, -49.3], R² 1.000, of 4 models"
    rows = {row[0].split(" (")[0]: row for row in rows_of(claims_table([make_study({}), paper()]))}
    rft = rows["RFT beats SFT"]
    assert rft[1:3] == ["RFT k100 - SFT, mean over models", "**not decidable here**, not measured"]
    assert rft[3].startswith("**held**: 4.5 [2.")


def test_fits_have_coefficients_intervals_and_errors() -> None:
    x, y = np.array([1.0, 2, 3, 4]), np.array([1.0, 2, 3, 5])
    draws = np.stack([np.linspace(-0.5, 0.5, 41), np.linspace(1, 2, 41)], axis=1)
    fitted = Fitted("y over x", "", fit(LINE, x, y), draws)
    head, row = rows_of(fits_table([fitted]))
    assert head[-2:] == ["R²", "left-out error"]
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
        f"{fitted.fit.left_out_error:.2f}",
    ]
    exact = fitted._replace(fit=fit(LINE, x[:2], y[:2]))
    assert rows_of(fits_table([exact]))[1][5] == "not told"
    known = fitted._replace(model="m15", problems=np.ones((9, 2)))  # of numbers without draws
    assert rows_of(fits_table([known]))[1][1:5:3] == ["m15", "not known"]


def test_predictions_are_a_list() -> None:
    predictions = [
        Prediction("SFT of a model", 49.94, 43.1, 56.6, "%"),
        Prediction("solutions are worth", 2069.44, 1028.0, np.inf, "paths"),
    ]
    assert predictions_list(predictions) == (
        "* SFT of a model: 49.9 % [43.1, 56.6]\n* solutions are worth: 2,069.4 paths [1,028.0, inf]"
    )


def test_scores_of_what_is_known_and_votes_behind_a_stroke() -> None:
    accuracy = {
        ("m12", "sft"): 60,
        ("m15", "sft"): 40,
        ("m15", "sft_matched"): 41,
        ("m15", "k3"): 9,
    }
    votes = {("m15", "sft"): (exactly(30), exactly(50)), ("m12", "icl"): (exactly(5), exactly(9))}
    study = make_study(accuracy, error=0, votes=votes, n_vote_problems=1200)
    head, table = votes_table(study).split("\n\n")
    assert head == "maj1@1 / maj1@100, of one training seed on 1,200 problems:"
    assert rows_of(table) == [
        ["model", "icl", "sft"],
        ["m15", "-", "30.0 [30.0, 30.0] / 50.0 [50.0, 50.0]"],
        ["m12", "5.0 [5.0, 5.0] / 9.0 [9.0, 9.0]", "-"],
    ]
    assert rows_of(scores_table(study)) == [
        ["model", "loss", "sft", "sft_matched"],
        ["m15", "1.500", "40.0 [40.0, 40.0]", "41.0 [41.0, 41.0]"],
        ["m12", "1.200", "60.0 [60.0, 60.0]", "-"],
    ]


def test_the_seeds_are_told() -> None:
    study = make_study({("m12", "sft"): 60, ("m15", "sft"): 40})
    assert seeds_line(study) == "Training seeds a score: 3."
    study.n_seeds["m12", "sft"] = 1
    assert seeds_line(study) == "Training seeds a score: 1 to 3."


def test_gains_over_sft_of_those_that_have_any() -> None:
    accuracy = {("m12", "sft"): 60, ("m15", "sft"): 40, ("m15", "u_all"): 45, ("m18", "sft"): 10}
    study = make_study(accuracy | {("m18", "k100"): 20, ("m16", "k100"): 20}, error=0)
    assert rows_of(gains_table(study)) == [
        ["model", "loss", "k100", "u_all"],
        ["m18", "1.800", "10.0 [10.0, 10.0]", "-"],
        ["m15", "1.500", "-", "5.0 [5.0, 5.0]"],
    ]


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (33.24, 38.56, "35.9 [33.2, 38.6]"),
        (-1.5, 0.5, "-0.5 [-1.5, 0.5]"),
        (0.5, 1.0, "0.8 [0.5, 1.0]"),
        (0.394, 0.848, "0.621 [0.394, 0.848]"),
        (-0.04, 0.02, "-0.010 [-0.040, 0.020]"),
    ],
)
def test_small_numbers_have_more_decimals(low: float, high: float, text: str) -> None:
    number = Estimate((low + high) / 2, np.array([low - 9, *np.linspace(low, high, 39), high + 9]))
    assert show_estimate(number) == text


def test_wide_text_stays_in_its_cell() -> None:
    wide = "a very long sentence about paths, β² and 推理 " * 20
    rows = [["head", wide], [wide, "1"]]
    assert rows_of(markdown_table(rows)) == [["head", wide], [wide, "1"]]
    assert markdown_table(rows).count("\n") == 2


def test_only_figures_with_points_are_drawn(tmp_path: Path) -> None:
    study = make_study({("m15", "sft"): 50, ("m15", "k100"): 55})
    study.votes["m15", "sft"] = estimate(50), estimate(60)
    names = [path.name for path in draw_figures([study], [[]], tmp_path)]
    assert names == ["loss.png", "gains.png", "votes.png"]


def test_cost_is_that_of_table_4_and_no_price_where_no_gain_is_told() -> None:
    head, first, second, *others = rows_of(cost_table(paper()))
    assert head == ["model", "setting", "FLOPs", "of pre-training", "points over", "FLOPs a point"]
    assert first[:4] == ["LLaMA-7B", "sft", "1.7e17", "4.0e-6"]
    assert first[4].startswith("icl: 24.9 [")
    assert first[5] == "6.8e15"  # 1.7e17 / 24.9
    assert second[:4] == ["LLaMA-7B", "u_all", "4.4e18", "1.0e-4"]  # 1.4e18 + 3.0e18
    of = {tuple(row[:2]): row[5] for row in others}
    assert of["LLaMA-65B", "u_all"] == "not told from 0"


def test_distinct_paths_are_those_of_table_2_and_of_the_unions() -> None:
    head, first, *others = rows_of(paths_table(paper()))
    assert head == ["samples of", *(f"k={k}" for k in (1, 3, 6, 12, 25, 50, 100, 400, 500))]
    assert first[:3] == ["LLaMA-7B", "1.17", "1.44"]
    assert first[-3:] == ["5.25", "-", "-"]
    of = {row[0]: row[1:] for row in others}
    assert of["u_small"] == ["-"] * 7 + ["12.84", "-"]
    assert of["u_all"][-1] == "13.65"

"""Fits and predictions of the published study, and of studies whose answer is known."""

import numpy as np
import pytest
from scipy import stats

from screl.analysis.estimates import exact_estimate
from screl.analysis.fits import (
    ICL_OVER_LOSS,
    PATHS_OVER_K,
    PATHS_OVER_K_LIMITED,
    RFT_OVER_K,
    RFT_OVER_PATHS,
    SFT_OVER_LOSS,
    SFT_OVER_ROWS,
    SFT_OVER_ROWS_BENT,
    SFT_OVER_STABLE_ROWS,
    Prediction,
    find_fit,
    fit_study,
    new_paths,
    predict_unmeasured,
    predict_worth_of_solutions,
)
from screl.analysis.study import Key, Study
from tests.analysis.made_study import estimate, make_study, paper, paper_fits
from tests.analysis.test_published_numbers import LLAMAS, UP_TO_13B, UP_TO_33B


def test_relations_with_enough_points_are_fitted() -> None:
    found: dict[str, list[str]] = {}
    for fitted in paper_fits():
        found.setdefault(fitted.relation, []).append(fitted.model)
    assert found == {
        SFT_OVER_LOSS: [""],
        ICL_OVER_LOSS: [""],
        SFT_OVER_STABLE_ROWS: LLAMAS,
        SFT_OVER_ROWS: LLAMAS,
        SFT_OVER_ROWS_BENT: LLAMAS,
        RFT_OVER_K: UP_TO_13B,
        RFT_OVER_PATHS: UP_TO_13B,
        PATHS_OVER_K: UP_TO_33B,
        PATHS_OVER_K_LIMITED: UP_TO_33B,
    }
    assert find_fit(paper_fits(), RFT_OVER_K, "LLaMA-65B") is None
    study = make_study({("m18", "sft"): 30, ("m15", "sft"): 60, ("m15", "k1"): 61})
    assert fit_study(study) == []  # no more points than parameters
    assert fit_study(make_study({(f"m{loss}", "icl"): 0 for loss in (20, 16, 12)}, error=1)) == []


@pytest.mark.parametrize(
    ("relation", "model", "parameters", "r_squared"),
    [
        (SFT_OVER_LOSS, "", (196.2, -88.16), 0.984),
        (ICL_OVER_LOSS, "", (307.7, -166.4), 0.977),
        (SFT_OVER_STABLE_ROWS, "LLaMA-7B", (-43.85, 6.22), 0.989),
        (SFT_OVER_STABLE_ROWS, "LLaMA2-70B", (37.9, 1.94), 0.900),
        (RFT_OVER_K, "LLaMA-13B", (43.56, 0.904), 0.794),
    ],
)
def test_published_lines(
    relation: str, model: str, parameters: tuple[float, float], r_squared: float
) -> None:
    fit = find_fit(paper_fits(), relation, model)
    assert fit is not None
    assert fit.parameters == pytest.approx(parameters, rel=5e-4)
    assert fit.r_squared == pytest.approx(r_squared, abs=5e-4)


def test_draws_over_problems_are_binomial() -> None:
    (draws,) = (
        fitted.draws
        for fitted in paper_fits()
        if (fitted.relation, fitted.model) == (SFT_OVER_STABLE_ROWS, "LLaMA-13B")
    )
    p = np.array([19.5, 27.4, 36.1, 43.0]) / 100
    error = 100 * np.sqrt(p * (1 - p) / 1319)
    weights = np.array([-1.5, -0.5, 0.5, 1.5]) / 5  # doublings around their mean
    expected = np.sqrt(((weights * error) ** 2).sum())
    assert draws[:, 1].std() == pytest.approx(expected, rel=0.13)


def test_the_solutions_own_path_is_not_new() -> None:
    paths = {"m15": {3: exact_estimate(1.4), 1: exact_estimate(1.0)}}
    points = new_paths(make_study({("m15", "sft"): 60}, paths=paths), "m15")
    assert points.x == [1, 3]
    assert [of.value for of in points.y] == pytest.approx([0, 0.4])
    assert points.y[1].draws == pytest.approx(0.4)


def test_predictions_of_the_published_study() -> None:
    found = {one.what: one for one in predict_unmeasured(paper(), paper_fits())}
    assert list(found)[:5] == [
        "SFT of a base model with loss 1.66",
        "LLaMA-7B: RFT with k=200",
        "LLaMA-7B: distinct paths with k=200",
        "LLaMA-7B: 100 more human-written solutions are worth",
        "LLaMA2-7B: RFT with k=200",
    ]
    assert len(found) == 1 + 3 * 4 + 1  # only paths for LLaMA-33B
    by_loss = find_fit(paper_fits(), SFT_OVER_LOSS)
    growing = find_fit(paper_fits(), PATHS_OVER_K, "LLaMA-33B")
    limited = find_fit(paper_fits(), PATHS_OVER_K_LIMITED, "LLaMA-33B")
    assert by_loss is not None
    assert growing is not None
    assert limited is not None
    assert found["SFT of a base model with loss 1.66"][1:] == (*by_loss.predict(1.66), "%")
    _, value, low, high, unit = found["LLaMA-33B: distinct paths with k=200"]
    assert value == pytest.approx(1 + (growing(200.0) + limited(200.0)) / 2)
    assert (low, high) == (1 + limited.predict(200)[1], 1 + growing.predict(200)[2])
    assert unit == "per problem"


def test_predicted_paths_cover_both_laws() -> None:
    ks = np.array([1, 3, 6, 12, 25, 50, 100])
    for found, truth in ((0.1 * ks**0.7, 0.1 * 200**0.7), (4 * ks / (30 + ks), 4 * 200 / 230)):
        paths = {int(k): exact_estimate(1 + y) for k, y in zip(ks, found, strict=True)}
        study = make_study({("m15", "sft"): 60}, paths={"m15": paths})
        (prediction,) = predict_unmeasured(study, fit_study(study))
        assert prediction.low - 1e-6 < 1 + truth < prediction.high + 1e-6
        assert prediction.high - prediction.low > 0.5


def test_published_paths_at_the_largest_k_are_predicted() -> None:
    for model in UP_TO_33B:
        of_k = paper().paths[model]
        shown = {k: of for k, of in of_k.items() if k <= 50}
        study = make_study({("m15", "sft"): 50}, paths={"m15": shown})
        (prediction,) = predict_unmeasured(study, fit_study(study))
        assert prediction.what == "m15: distinct paths with k=100"
        assert prediction.low < of_k[100].value < prediction.high


def test_predicted_accuracies_stay_between_0_and_100() -> None:
    steep = {(f"m{loss}", "sft"): of for loss, of in ((20, 1), (19, 50), (11, 51), (10, 99))}
    study = make_study(steep)
    (prediction, *_) = predict_unmeasured(study, fit_study(study))
    assert (prediction.low, prediction.high) == (0, 100)


def study_of_laws(per_doubling_of_paths: float, error: float = 0.0) -> Study:
    """Return 6 points per doubling of 512 solutions, and RFT with 1, 2, 4, and 8 paths.

    RFT is off its line by ``error``.
    """
    accuracy: dict[Key, float] = {("m15", f"part{2**i}-epochs3"): 50 - 6 * i for i in (1, 2, 3)}
    accuracy["m15", "sft"] = 50
    for i, off in enumerate((1, -1, -1, 1)):
        accuracy["m15", f"k{2**i}"] = 50 + i * per_doubling_of_paths + off * error
    return make_study(accuracy, paths={"m15": {2**i: exact_estimate(2**i) for i in range(4)}})


def worth_of(study: Study) -> Prediction:
    worth = predict_worth_of_solutions(study, fit_study(study), "m15")
    assert worth is not None
    return worth


def test_the_worth_of_solutions_by_hand() -> None:
    worth = worth_of(study_of_laws(per_doubling_of_paths=2))
    doublings = 6 * np.log2(612 / 512) / 2  # of the 8 paths of each of 512 problems
    expected = 8 * 512 * (2**doublings - 1)
    assert worth.value == pytest.approx(expected)
    assert (worth.low, worth.high) == pytest.approx((expected, expected), rel=1e-3)
    assert predict_worth_of_solutions(paper(), paper_fits(), "LLaMA-33B") is None


def test_the_worth_of_solutions_is_as_certain_as_the_slopes() -> None:
    worth = worth_of(study_of_laws(per_doubling_of_paths=2, error=0.1))
    error = (4 * 0.1**2 / 2 / 5) ** 0.5  # 4 points around 1.5 doublings
    reach = stats.t.ppf(0.975, 2) * error
    low, high = (
        8 * 512 * (2 ** (6 * np.log2(612 / 512) / slope) - 1) for slope in (2 + reach, 2 - reach)
    )
    assert (worth.low, worth.high) == pytest.approx((low, high), rel=0.03)


def test_worth_where_paths_or_solutions_may_gain_nothing() -> None:
    worth = worth_of(study_of_laws(per_doubling_of_paths=0.5, error=1))
    assert 0 < worth.low < worth.value < worth.high == np.inf
    study = study_of_laws(per_doubling_of_paths=2, error=0.1)
    study.accuracy["m15", "part2-epochs3"] = estimate(20)
    assert worth_of(study).low == 0

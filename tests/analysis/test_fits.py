"""The fits of the published study, and of studies made so that the answer is known."""

import numpy as np
import pytest
from scipy import stats

from screl.analysis.estimates import exactly
from screl.analysis.fits import (
    find,
    fit_study,
    largest_parts,
    new_paths,
    predict_from_law,
    worth_of_solutions,
)
from screl.analysis.study import Key, Study
from tests.analysis.test_published_numbers import LLAMAS, UP_TO_13B, UP_TO_33B
from tests.made_study import estimate, make_study, paper, paper_fits


def test_what_has_points_enough_is_fitted() -> None:
    found = {}
    for fitted in paper_fits():
        found.setdefault(fitted.relation, []).append(fitted.model)
    assert found == {
        "SFT accuracy over pre-training loss": [""],
        "ICL accuracy over pre-training loss": [""],
        "SFT accuracy over solutions, 1 to 1/8": LLAMAS,
        "SFT accuracy over solutions, all": LLAMAS,
        "SFT accuracy over solutions, all, with a bend": LLAMAS,
        "RFT accuracy over k": UP_TO_13B,
        "RFT accuracy over distinct paths": UP_TO_13B,
        "distinct paths found over k": UP_TO_33B,
        "distinct paths found over k, to a limit": UP_TO_33B,
    }


@pytest.mark.parametrize(
    ("relation", "model", "values", "r_squared"),
    [
        ("SFT accuracy over pre-training loss", "", (196.2, -88.16), 0.984),
        ("ICL accuracy over pre-training loss", "", (307.7, -166.4), 0.977),
        ("SFT accuracy over solutions, 1 to 1/8", "LLaMA-7B", (-43.85, 6.22), 0.989),
        ("SFT accuracy over solutions, 1 to 1/8", "LLaMA2-70B", (37.9, 1.94), 0.900),
        ("RFT accuracy over k", "LLaMA-13B", (43.56, 0.904), 0.794),
    ],
)
def test_the_published_lines(
    relation: str, model: str, values: tuple[float, float], r_squared: float
) -> None:
    fitted = find(paper_fits(), relation, model)
    assert fitted is not None
    assert fitted.fit.values == pytest.approx(values, rel=5e-4)
    assert fitted.fit.r_squared == pytest.approx(r_squared, abs=5e-4)


def test_draws_over_problems_are_binomial_ones_put_through_the_line() -> None:
    fitted = find(paper_fits(), "SFT accuracy over solutions, 1 to 1/8", "LLaMA-13B")
    assert fitted is not None
    p = np.array([19.5, 27.4, 36.1, 43.0]) / 100
    error = 100 * np.sqrt(p * (1 - p) / 1319)
    weights = np.array([-1.5, -0.5, 0.5, 1.5]) / 5  # of doublings around their middle
    assert fitted.problems[:, 1].std() == pytest.approx(
        np.sqrt(((weights * error) ** 2).sum()), rel=0.13
    )


def test_what_is_not_fitted_is_not_found() -> None:
    assert find(paper_fits(), "RFT accuracy over k", "LLaMA-65B") is None
    assert find(paper_fits(), "RFT accuracy over k") is None


def test_a_relation_of_no_more_points_than_parameters_is_left_out() -> None:
    study = make_study({("m18", "sft"): 30, ("m15", "sft"): 60, ("m15", "k1"): 61})
    assert fit_study(study) == []
    study.losses["m12"], study.accuracy["m12", "sft"] = 1.2, estimate(90)
    (fitted,) = fit_study(study)
    assert fitted.fit.values == pytest.approx([210, -100])


def test_an_eighth_of_the_data_and_more() -> None:
    parts = {("m15", f"part{part}-epochs3"): 60.0 - part for part in (2, 4, 8, 16, 32)}
    study = make_study(parts | {("m15", "sft"): 60})
    assert largest_parts(study, "m15").x == [64, 128, 256, 512]
    del study.accuracy["m15", "part4-epochs3"]
    assert largest_parts(study, "m15").x == [64, 256, 512]  # 1/16 is not among them
    assert largest_parts(make_study({("m15", "sft"): 60}), "m15").x == [512]


def test_the_solutions_own_path_is_no_new_one() -> None:
    study = make_study({("m15", "sft"): 60}, paths={"m15": {3: exactly(1.4), 1: exactly(1.0)}})
    points = new_paths(study, "m15")
    assert points.x == [1, 3]
    assert [of.value for of in points.y] == pytest.approx([0, 0.4])
    assert points.y[1].draws == pytest.approx(0.4)
    assert new_paths(study, "m12") == ([], [])


def test_predictions_of_the_published_study() -> None:
    found = {prediction.what: prediction for prediction in predict_from_law(paper(), paper_fits())}
    assert list(found)[:5] == [
        "SFT of a base model of loss 1.66",
        "LLaMA-7B: RFT with k=200",
        "LLaMA-7B: distinct paths with k=200",
        "LLaMA-7B: 100 more human-written solutions are worth",
        "LLaMA2-7B: RFT with k=200",
    ]
    assert len(found) == 1 + 3 * 4 + 1  # of LLaMA-33B only the paths
    points = paper().by_loss("sft")
    y = [of.value for of in points.y]
    line = stats.linregress(points.x, y)
    error = (
        np.std(np.array(y) - line.intercept - line.slope * np.array(points.x)) * (12 / 10) ** 0.5
    )
    reach = stats.t.ppf(0.975, 10) * error * (1 + 1 / 12) ** 0.5  # a little more off the middle
    _, value, low, high, unit = found["SFT of a base model of loss 1.66"]
    assert value == pytest.approx(line.intercept + 1.66 * line.slope)
    assert (value - low, high - value) == pytest.approx((reach, reach), rel=0.01)
    assert unit == "%"
    growing = find(paper_fits(), "distinct paths found over k", "LLaMA-33B")
    limited = find(paper_fits(), "distinct paths found over k, to a limit", "LLaMA-33B")
    assert growing is not None
    assert limited is not None
    c, beta = growing.fit.values
    limit, half = limited.fit.values
    _, value, low, high, unit = found["LLaMA-33B: distinct paths with k=200"]
    assert value == pytest.approx(1 + (c * 200**beta + limit * 200 / (half + 200)) / 2)
    assert (low, high) == (1 + limited.fit.predict(200)[1], 1 + growing.fit.predict(200)[2])
    assert unit == "a problem"
    assert found["LLaMA-7B: RFT with k=200"].unit == "%"


def test_predicted_paths_hold_both_laws() -> None:
    ks = np.array([1, 3, 6, 12, 25, 50, 100])
    for found, truth in ((0.1 * ks**0.7, 0.1 * 200**0.7), (4 * ks / (30 + ks), 4 * 200 / 230)):
        paths = {int(k): exactly(1 + y) for k, y in zip(ks, found, strict=True)}
        study = make_study({("m15", "sft"): 60}, paths={"m15": paths})
        (prediction,) = predict_from_law(study, fit_study(study))
        assert prediction.low - 1e-6 < 1 + truth < prediction.high + 1e-6
        assert prediction.high - prediction.low > 0.5


def test_the_published_paths_of_the_largest_k_are_foreseen() -> None:
    for of_k in paper().paths.values():
        if 50 not in of_k:
            continue  # unions
        shown = {k: of for k, of in of_k.items() if k <= 50}
        study = make_study({("m15", "sft"): 50}, paths={"m15": shown})
        (prediction,) = predict_from_law(study, fit_study(study))
        assert prediction.what == "m15: distinct paths with k=100"
        assert prediction.low < of_k[100].value < prediction.high


def test_accuracies_are_predicted_within_their_bounds() -> None:
    steep = {(f"m{loss}", "sft"): of for loss, of in ((20, 1), (19, 50), (11, 51), (10, 99))}
    (prediction, *_) = predict_from_law(study := make_study(steep), fit_study(study))
    assert (prediction.low, prediction.high) == (0, 100)


def test_equal_numbers_have_no_law() -> None:
    study = make_study({(f"m{loss}", "icl"): 0 for loss in (20, 16, 12)}, error=1)
    assert fit_study(study) == []


def study_of_laws(per_doubling_of_paths: float, error: float = 0.0) -> Study:
    """6 points per doubling of 512 solutions; 1 to 8 paths for k of 1 to 8, off a line by error."""
    accuracy: dict[Key, float] = {("m15", f"part{2**i}-epochs3"): 50 - 6 * i for i in (1, 2, 3)}
    accuracy["m15", "sft"] = 50
    for i, off in enumerate((1, -1, -1, 1)):
        accuracy["m15", f"k{2**i}"] = 50 + i * per_doubling_of_paths + off * error
    return make_study(accuracy, paths={"m15": {2**i: exactly(2**i) for i in range(4)}})


def test_the_worth_of_solutions_by_hand() -> None:
    study = study_of_laws(per_doubling_of_paths=2)
    worth = worth_of_solutions(study, fit_study(study), "m15")
    assert worth is not None
    doublings = 6 * np.log2(612 / 512) / 2  # of the 8 paths of each of 512 problems
    expected = 8 * 512 * (2**doublings - 1)
    assert worth.value == pytest.approx(expected)
    assert (worth.low, worth.high) == pytest.approx((expected, expected), rel=1e-3)
    assert worth.what == "m15: 100 more human-written solutions are worth"


def test_the_worth_of_solutions_is_as_sure_as_the_slopes() -> None:
    study = study_of_laws(per_doubling_of_paths=2, error=0.1)  # the solutions are on their line
    worth = worth_of_solutions(study, fit_study(study), "m15")
    assert worth is not None
    error = (4 * 0.1**2 / 2 / 5) ** 0.5  # of 4 points around 1.5 doublings
    reach = stats.t.ppf(0.975, 2) * error
    low, high = (
        8 * 512 * (2 ** (6 * np.log2(612 / 512) / slope) - 1) for slope in (2 + reach, 2 - reach)
    )
    assert (worth.low, worth.high) == pytest.approx((low, high), rel=0.03)


def test_solutions_are_worth_no_end_of_paths_that_may_bring_nothing() -> None:
    study = study_of_laws(per_doubling_of_paths=0.5, error=1)
    worth = worth_of_solutions(study, fit_study(study), "m15")
    assert worth is not None
    assert 0 < worth.low < worth.value < worth.high == np.inf


def test_solutions_that_may_bring_nothing_are_not_worth_less_than_nothing() -> None:
    study = study_of_laws(per_doubling_of_paths=2, error=0.1)
    study.accuracy["m15", "part2-epochs3"] = estimate(20)
    worth = worth_of_solutions(study, fit_study(study), "m15")
    assert worth is not None
    assert worth.low == 0


def test_without_both_laws_nothing_is_known_of_their_ratio() -> None:
    fits = paper_fits()
    assert worth_of_solutions(paper(), fits, "LLaMA-33B") is None
    only_paths = [fitted for fitted in fits if "solutions" not in fitted.relation]
    assert worth_of_solutions(paper(), only_paths, "LLaMA-7B") is None

"""Differences, means and slopes of estimates, by hand and against scipy."""

import numpy as np
import pytest
from scipy import stats

from screl.analysis.differences import (
    against,
    mean,
    mean_gains,
    one_decides,
    per_doubling,
    slope_over_loss,
    sweeps,
)
from screl.analysis.estimates import N_DRAWS
from screl.analysis.study import Points
from tests.made_study import estimate, make_study, paper

A, B = estimate(10, name="a"), estimate(20, name="b")


def test_a_mean_is_of_every_draw() -> None:
    both = mean([A, B])
    assert both is not None
    assert both.value == 15
    assert both.draws == pytest.approx((A.draws + B.draws) / 2)
    assert both.draws.std() == pytest.approx(0.1 / 2**0.5, rel=0.06)
    assert mean([]) is None


def test_gains_over_sft_weakest_first() -> None:
    accuracy = {("m12", "sft"): 60, ("m12", "k100"): 61, ("m18", "sft"): 20, ("m18", "k100"): 25}
    study = make_study(accuracy | {("m15", "sft"): 40})
    assert [of.value for of in mean_gains(study, "k100")] == [5, 1]
    expected = study.accuracy["m12", "k100"].draws - study.accuracy["m12", "sft"].draws
    assert mean_gains(study, "k100")[1].draws == pytest.approx(expected)
    assert mean_gains(study, "u_all") == []


def test_rft_against_its_control_where_both_are_known() -> None:
    study = make_study(
        {
            ("m15", "k3"): 51, ("m15", "k3-rows"): 50, ("m15", "k6"): 54, ("m15", "k6-rows"): 51,
            ("m15", "k12"): 60, ("m15", "k12-tokens"): 50, ("m15", "k25-rows"): 10,
            ("m12", "k6"): 70, ("m12", "k6-rows"): 65,
        }
    )  # fmt: skip

    def values(control: str, at_least: int) -> dict[tuple[str, float], float]:
        return {key: of.value for key, of in against(study, control, at_least).items()}

    assert values("-rows", 6) == {("m15", 6): 3, ("m12", 6): 5}
    assert values("-rows", 1) == {("m15", 3): 1, ("m15", 6): 3, ("m12", 6): 5}
    assert values("-tokens", 6) == {("m15", 12): 10}
    assert values("-no_dedup", 1) == {}


def test_a_sweep_has_four_k() -> None:
    accuracy = {("m15", "sft"): 40} | {("m15", f"k{k}"): 40 + k for k in (1, 3, 6, 12)}
    three = {("m12", "sft"): 40} | {("m12", f"k{k}"): 40 + k for k in (1, 3, 6)}
    ((model, points),) = sweeps(make_study(accuracy | three)).items()
    assert (model, points.x) == ("m15", [1, 3, 6, 12])
    assert len(sweeps(paper())) == 4


def test_a_gain_per_doubling_is_the_slope_of_scipy_in_every_draw() -> None:
    x = [1.0, 3, 6, 12]
    points = Points(x, [estimate(y, 1.0, str(y)) for y in (40, 42, 41, 45)])
    found = per_doubling(points)
    assert found.value == pytest.approx(stats.linregress(np.log2(x), [40, 42, 41, 45]).slope)
    for draw in (0, N_DRAWS - 1):
        y = [of.draws[draw] for of in points.y]
        assert found.draws[draw] == pytest.approx(stats.linregress(np.log2(x), y).slope)


def test_a_slope_over_loss_has_the_interval_of_students_t() -> None:
    models = ["m20", "m18", "m16", "m12"]
    y = [10.0, 25, 28, 52]
    study = make_study({(model, "sft"): of for model, of in zip(models, y, strict=True)})
    found = slope_over_loss(study, models, [study.accuracy[model, "sft"] for model in models])
    assert found is not None
    line = stats.linregress([2.0, 1.8, 1.6, 1.2], y)
    reach = stats.t.ppf(0.975, 2) * line.stderr
    assert found.value == pytest.approx(line.slope)
    assert found.interval == pytest.approx((line.slope - reach, line.slope + reach), rel=0.01)
    assert len(found.draws) == N_DRAWS


def test_three_models_have_a_slope_over_loss() -> None:
    study = make_study({("m20", "sft"): 10, ("m18", "sft"): 20, ("m16", "sft"): 30})
    y = list(study.accuracy.values())
    assert slope_over_loss(study, ["m20", "m18"], y[:2]) is None
    found = slope_over_loss(study, ["m20", "m18", "m16"], y)
    assert found is not None
    assert found.value == pytest.approx(-50)


def test_a_slope_is_no_surer_than_its_numbers() -> None:
    models = ["m20", "m18", "m16"]
    study = make_study(
        {(m, "sft"): of for m, of in zip(models, (10, 20, 30), strict=True)}, error=2
    )
    found = slope_over_loss(study, models, list(study.accuracy.values())[::-1])  # weakest first
    assert found is not None
    # on a line by luck; the slope is (first - last) / 0.4, of errors 2 each
    reach = stats.t.ppf(0.975, 1) * 8**0.5 / 0.4
    assert np.ptp(found.interval) == pytest.approx(2 * reach, rel=0.1)


@pytest.mark.parametrize(
    ("y", "expected"), [((10, 12, 13, 15), False), ((30, 12, 13, 15), True), ((1, 2, 2, 1), True)]
)
def test_whether_one_model_decides(y: tuple[float, ...], expected: bool) -> None:
    models = ["m20", "m18", "m16", "m12"]
    study = make_study({(m, "sft"): of for m, of in zip(models, y, strict=True)})
    estimates = [study.accuracy[m, "sft"] for m in models]
    assert one_decides(study, models, estimates) == expected

"""Fits against exact curves, textbook formulas, scipy's own line and by hand."""

import numpy as np
import pytest
from scipy import optimize, stats

from screl.analysis.laws import (
    LINE,
    N_DRAWS,
    PER_DOUBLING,
    POWER,
    SATURATION,
    SEGMENTS,
    Law,
    fit,
    over_problems,
)
from screl.scoring.statistics import Floats

X = np.array([1.0, 3, 6, 12, 25, 50, 100])
Y = np.array([37.6, 39.0, 39.5, 41.6, 40.9, 40.7, 41.7])


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(5)


@pytest.mark.parametrize(
    ("law", "values", "at_10"),
    [
        (LINE, (200.0, -90.0), -700.0),
        (PER_DOUBLING, (-40.0, 6.0), -40 + 6 * np.log2(10)),
        (POWER, (0.25, 0.6), 0.25 * 10**0.6),
        (SATURATION, (7.0, 60.0), 1.0),
        (SEGMENTS, (10.0, 2.0, 3.0, 3.0), 10 + 2 * np.log2(10) + 3 * (np.log2(10) - 3)),
    ],
)
def test_exact_points_give_the_law_back(law: Law, values: tuple[float, ...], at_10: float) -> None:
    x = 2.0 ** np.arange(8)
    fitted = fit(law, x, law.curve(x, *values))
    assert fitted.values == pytest.approx(values, rel=1e-5)
    assert fitted(10.0) == pytest.approx(at_10, rel=1e-5)
    assert fitted(np.array([10.0, 10.0])).shape == (2,)
    assert fitted.r_squared == pytest.approx(1)
    assert fitted.left_out_error == pytest.approx(0, abs=1e-4)
    for low, high in fitted.intervals():
        assert high - low == pytest.approx(0, abs=1e-3)


def test_a_bend_between_points_is_found() -> None:
    x = 2.0 ** np.arange(8)
    fitted = fit(SEGMENTS, x, SEGMENTS.curve(x, 10, 2, 3, 3.4))
    assert fitted.values == pytest.approx((10, 2, 3, 3.4), rel=1e-4)
    assert fitted(2**3.4) == pytest.approx(10 + 2 * 3.4, rel=1e-4)  # steeper from there on only


def test_a_bend_has_two_points_on_either_side(random: np.random.Generator) -> None:
    # the first point alone is off: any steep enough piece before the second would go through it
    x, y = 2.0 ** np.arange(6), np.array([0.0, 9, 10, 11, 12, 13])
    draws = over_problems(SEGMENTS, x, y + np.zeros((1, 6)))
    assert draws[0] == pytest.approx([0, 9, -8, 1])
    assert fit(SEGMENTS, x, y).values[3] == pytest.approx(1, abs=0.05)
    draws = over_problems(SEGMENTS, x, y[::-1] + np.zeros((1, 6)))
    assert draws[0] == pytest.approx([13, -1, -8, 4])
    noisy = np.stack([y, y[::-1]])[:, None] + random.normal(0, 0.5, (2, 200, 6))
    for end, bends in zip(
        (1, 4), (over_problems(SEGMENTS, x, of)[:, 3] for of in noisy), strict=True
    ):
        assert bends.min() >= 1
        assert bends.max() <= 4
        assert (bends == end).mean() > 0.5


def test_a_line_is_that_of_scipy() -> None:
    line = stats.linregress(X, Y)
    fitted = fit(LINE, X, Y)
    assert fitted.values == pytest.approx([line.intercept, line.slope])
    assert fitted.r_squared == pytest.approx(line.rvalue**2)
    assert np.sqrt(np.diag(fitted.covariance)) == pytest.approx(
        [line.intercept_stderr, line.stderr], rel=1e-5
    )
    t = stats.t.ppf(0.975, 5)
    (_, (low, high)) = fitted.intervals()
    assert (low, high) == pytest.approx(
        (line.slope - t * line.stderr, line.slope + t * line.stderr), rel=1e-5
    )


def test_points_per_doubling_are_the_slope_over_log2() -> None:
    line = stats.linregress(np.log2(X), Y)
    assert fit(PER_DOUBLING, X, Y).values == pytest.approx([line.intercept, line.slope])


@pytest.mark.parametrize("at", [2.0, 200.0])
def test_a_prediction_of_a_line_is_the_textbooks(at: float) -> None:
    value, low, high = fit(LINE, X, Y).predict(at)
    slope, intercept = np.polyfit(X, Y, 1)
    scatter = ((Y - intercept - slope * X) ** 2).sum() / 5
    error = np.sqrt(scatter * (1 + 1 / 7 + (at - X.mean()) ** 2 / ((X - X.mean()) ** 2).sum()))
    reach = stats.t.ppf(0.975, 5) * error
    assert (value, low, high) == pytest.approx(
        (intercept + slope * at, intercept + slope * at - reach, intercept + slope * at + reach)
    )


def test_as_many_points_as_parameters_have_no_scatter() -> None:
    fitted = fit(LINE, X[:2], Y[:2])
    assert fitted(X[:2]) == pytest.approx(Y[:2])
    assert fitted.degrees_of_freedom == 0
    assert (fitted.covariance == np.inf).all()
    assert fitted.intervals() == [(-np.inf, np.inf)] * 2
    assert fitted.predict(1.0) == pytest.approx((37.6, -np.inf, np.inf))
    assert np.isnan(fitted.left_out_error)


def test_the_error_of_a_point_left_out_by_hand() -> None:
    # the lines through the other two say 4 at 0, 2 at 1 and 8 at 2
    fitted = fit(LINE, np.array([0.0, 1, 2]), np.array([0.0, 4, 4]))
    assert fitted.left_out_error == pytest.approx(np.sqrt((4**2 + 2**2 + 4**2) / 3))


def test_what_the_points_do_not_tell_is_unbounded() -> None:
    x = np.array([1.0, 3, 6, 12, 25, 50])
    limit, half = fit(SATURATION, x, 0.01 * x).values  # no limit in sight
    assert limit > 1e4
    assert limit / half == pytest.approx(0.01, rel=1e-3)
    straight = fit(SATURATION, x, 0.01 * x)
    assert straight.intervals() == [(-np.inf, np.inf)] * 2
    assert straight.r_squared == pytest.approx(1)
    assert straight(24.0) == pytest.approx(0.24, rel=1e-3)
    nothing = fit(POWER, x, np.zeros(6))
    assert nothing(24.0) == 0
    assert nothing.intervals() == [(-np.inf, np.inf)] * 2  # any exponent is as good


def test_nothing_found_at_first_does_not_lead_a_power_law_astray() -> None:
    x = np.array([1.0, 3, 6, 12, 25, 50])
    found = fit(POWER, x, np.array([0, 0.3, 0.6, 1.2, 2.5, 5]))
    assert found.values == pytest.approx([0.1, 1], rel=0.03)
    assert fit(POWER, x, np.array([0, 0, 0, 0, 0, 5.0]))(50.0) == pytest.approx(5, rel=0.01)


def test_fewer_points_than_parameters() -> None:
    with pytest.raises(ValueError, match="residuals is less than the number of variables"):
        fit(POWER, X[:1], Y[:1])


def test_a_covariance_is_that_of_scipy() -> None:
    for law in (LINE, PER_DOUBLING, POWER, SATURATION):
        _, expected = optimize.curve_fit(law.curve, X, Y, fit(law, X, Y).values)
        assert fit(law, X, Y).covariance == pytest.approx(expected, rel=1e-4)


def test_points_that_do_not_differ_have_no_r_squared() -> None:
    fitted = fit(LINE, X, np.full(7, 5.0))
    assert fitted.values == pytest.approx([5, 0])
    assert np.isnan(fitted.r_squared)


@pytest.mark.parametrize("law", [LINE, PER_DOUBLING, POWER])
def test_draws_of_y_give_the_standard_errors_of_the_formula(
    random: np.random.Generator, law: Law
) -> None:
    values = {"a + b·x": (40, 0.1), "a + b·log2 x": (40, 2), "c·x^β": (40, 0.1)}[law.text]
    true = law.curve(X, *values)
    draws = over_problems(law, X, true + random.normal(0, 0.5, (N_DRAWS, 7)))
    steps = [[1e-6, 0], [0, 1e-6]]
    slopes = np.array([(law.curve(X, *np.add(values, step)) - true) / 1e-6 for step in steps])
    expected = 0.5 * np.sqrt(np.diag(np.linalg.inv(slopes @ slopes.T)))
    assert draws.shape == (N_DRAWS, 2)
    assert draws.std(axis=0) == pytest.approx(expected, rel=0.13)  # four standard errors of it
    assert draws.mean(axis=0) == pytest.approx(values, abs=float(4 * expected.max() / N_DRAWS**0.5))


def test_draws_keep_their_order() -> None:
    draws = np.stack([Y + 2, Y, Y + 2, Y - 1])
    intercepts = over_problems(LINE, X, draws)[:, 0]
    assert intercepts - intercepts[1] == pytest.approx([2, 0, 2, -1])
    assert len(over_problems(LINE, X, np.tile(Y, (N_DRAWS + 1, 1)))) == N_DRAWS


@pytest.mark.parametrize("law", [LINE, PER_DOUBLING, POWER, SATURATION])
def test_a_draw_of_the_points_themselves_is_the_fit(law: Law) -> None:
    (values,) = over_problems(law, X, Y[None])
    assert values == pytest.approx(fit(law, X, Y).values, rel=1e-6)


@pytest.mark.parametrize(("law", "slopes"), [(POWER, (-1, 2)), (SATURATION, (0.01, 1000))])
def test_no_better_curve_is_found_by_trying_all(
    random: np.random.Generator, law: Law, slopes: tuple[float, float]
) -> None:
    tried = np.linspace(*slopes, 20_001)  # of the parameter in which the curve is no line
    shapes = np.stack([law.curve(X, 1, one) for one in tried])
    for _ in range(20):
        y = law.curve(X, 5, random.uniform(0.1, 0.9) * (100 if law is SATURATION else 1))
        y = np.maximum(0, y + 0.05 * y.max() * random.normal(size=7))
        best = (shapes @ y) / (shapes**2).sum(axis=1)
        least = ((best[:, None] * shapes - y) ** 2).sum(axis=1).min()
        assert ((fit(law, X, y)(X) - y) ** 2).sum() <= least * (1 + 1e-6)


def line_of(random: np.random.Generator, n: int) -> tuple[Floats, Floats]:
    x = 2.0 ** np.arange(n)
    return x, 10 + 3 * np.log2(x) + random.normal(0, 1, n)


@pytest.mark.parametrize("n", [4, 7])
def test_intervals_over_points_hold_the_truth_95_times_in_100(
    random: np.random.Generator, n: int
) -> None:
    held, predicted = [], []
    for _ in range(400):
        x, y = line_of(random, n)
        fitted = fit(PER_DOUBLING, x, y)
        low, high = fitted.intervals()[1]
        held.append(low <= 3 <= high)
        _, low, high = fitted.predict(2 * x.max())
        predicted.append(low <= 10 + 3 * n + random.normal() <= high)
    assert 0.92 < np.mean(held) < 0.98
    assert 0.92 < np.mean(predicted) < 0.98

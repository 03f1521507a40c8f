"""Fits against exact curves, textbook formulas, scipy, brute force, and simulated coverage."""

import numpy as np
import pytest
from scipy import optimize, stats

from screl.analysis.laws import (
    LINE,
    N_FITTED_DRAWS,
    PER_DOUBLING,
    POWER,
    SATURATION,
    SEGMENTS,
    Law,
    fit_law,
    fit_law_to_draws,
)

X = np.array([1.0, 3, 6, 12, 25, 50, 100])
Y = np.array([37.6, 39.0, 39.5, 41.6, 40.9, 40.7, 41.7])


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(5)


@pytest.mark.parametrize(
    ("law", "parameters", "at_10"),
    [
        (LINE, (200.0, -90.0), -700.0),
        (PER_DOUBLING, (-40.0, 6.0), -40 + 6 * np.log2(10)),
        (POWER, (0.25, 0.6), 0.25 * 10**0.6),
        (SATURATION, (7.0, 60.0), 1.0),
        (SEGMENTS, (10.0, 2.0, 3.0, 3.4), 10 + 2 * np.log2(10)),
    ],
)
def test_exact_points_give_the_law_back(
    law: Law, parameters: tuple[float, ...], at_10: float
) -> None:
    x = 2.0 ** np.arange(8)
    fitted = fit_law(law, x, law.curve(x, *parameters))
    assert fitted.parameters == pytest.approx(parameters, rel=1e-4)
    assert fitted(10.0) == pytest.approx(at_10, rel=1e-4)
    assert fitted.r_squared == pytest.approx(1)
    assert fitted.leave_one_out_error == pytest.approx(0, abs=1e-2)
    for low, high in fitted.intervals():
        assert high - low == pytest.approx(0, abs=1e-3)


def test_a_bend_has_two_points_on_either_side(random: np.random.Generator) -> None:
    # only the first point is off: a steep enough piece before the second would go through it
    x, y = 2.0 ** np.arange(6), np.array([0.0, 9, 10, 11, 12, 13])
    draws = fit_law_to_draws(SEGMENTS, x, np.stack([y, y[::-1]]))
    assert draws[0] == pytest.approx([0, 9, -8, 1])
    assert draws[1] == pytest.approx([13, -1, -8, 4])
    assert fit_law(SEGMENTS, x, y).parameters[3] == pytest.approx(1, abs=0.05)
    noisy = y + random.normal(0, 0.5, (200, 6))
    bends = fit_law_to_draws(SEGMENTS, x, noisy)[:, 3]
    assert bends.min() >= 1
    assert bends.max() <= 4
    assert (bends == 1).mean() > 0.5


def test_a_line_is_that_of_scipy() -> None:
    line = stats.linregress(X, Y)
    fitted = fit_law(LINE, X, Y)
    assert fitted.parameters == pytest.approx([line.intercept, line.slope])
    assert fitted.r_squared == pytest.approx(line.rvalue**2)
    reach = stats.t.ppf(0.975, 5) * line.stderr
    assert fitted.intervals()[1] == pytest.approx((line.slope - reach, line.slope + reach))
    line = stats.linregress(np.log2(X), Y)
    assert fit_law(PER_DOUBLING, X, Y).parameters == pytest.approx([line.intercept, line.slope])


@pytest.mark.parametrize("at", [2.0, 200.0])
def test_the_prediction_of_a_line_is_the_textbooks(at: float) -> None:
    slope, intercept = np.polyfit(X, Y, 1)
    scatter = ((Y - intercept - slope * X) ** 2).sum() / 5
    error = np.sqrt(scatter * (1 + 1 / 7 + (at - X.mean()) ** 2 / ((X - X.mean()) ** 2).sum()))
    value, reach = intercept + slope * at, stats.t.ppf(0.975, 5) * error
    assert fit_law(LINE, X, Y).predict(at) == pytest.approx((value, value - reach, value + reach))


def test_as_many_points_as_parameters_leave_no_scatter() -> None:
    fitted = fit_law(LINE, X[:2], Y[:2])
    assert fitted(X[:2]) == pytest.approx(Y[:2])
    assert fitted.intervals() == [(-np.inf, np.inf)] * 2
    assert fitted.predict(1.0) == pytest.approx((37.6, -np.inf, np.inf))
    assert np.isnan(fitted.leave_one_out_error)
    with pytest.raises(ValueError, match="residuals is less than the number of variables"):
        fit_law(POWER, X[:1], Y[:1])


def test_leave_one_out_error_by_hand() -> None:
    # the lines through the other two points say 4 at 0, 2 at 1, and 8 at 2
    fitted = fit_law(LINE, np.array([0.0, 1, 2]), np.array([0.0, 4, 4]))
    assert fitted.leave_one_out_error == pytest.approx(np.sqrt((4**2 + 2**2 + 4**2) / 3))


def test_parameters_that_the_points_do_not_identify() -> None:
    x = np.array([1.0, 3, 6, 12, 25, 50])
    straight = fit_law(SATURATION, x, 0.01 * x)  # no limit in sight
    assert straight.intervals() == [(-np.inf, np.inf)] * 2
    assert straight(24.0) == pytest.approx(0.24, rel=1e-3)
    nothing = fit_law(POWER, x, np.zeros(6))
    assert nothing(24.0) == 0
    assert nothing.intervals() == [(-np.inf, np.inf)] * 2  # any exponent fits
    assert np.isnan(nothing.r_squared)


def test_a_power_law_through_zeros() -> None:
    x = np.array([1.0, 3, 6, 12, 25, 50])
    found = fit_law(POWER, x, np.array([0, 0.3, 0.6, 1.2, 2.5, 5]))
    assert found.parameters == pytest.approx([0.1, 1], rel=0.03)
    assert fit_law(POWER, x, np.array([0, 0, 0, 0, 0, 5.0]))(50.0) == pytest.approx(5, rel=0.01)


def test_the_covariance_is_that_of_scipy() -> None:
    for law in (LINE, PER_DOUBLING, POWER, SATURATION):
        fitted = fit_law(law, X, Y)
        _, expected = optimize.curve_fit(law.curve, X, Y, fitted.parameters)
        assert fitted.covariance == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("law", "parameters"), [(LINE, (40, 0.1)), (PER_DOUBLING, (40, 2)), (POWER, (40, 0.1))]
)
def test_draws_have_the_standard_errors_of_the_formula(
    random: np.random.Generator, law: Law, parameters: tuple[float, float]
) -> None:
    true = law.curve(X, *parameters)
    draws = fit_law_to_draws(law, X, true + random.normal(0, 0.5, (N_FITTED_DRAWS, 7)))
    steps = [[1e-6, 0], [0, 1e-6]]
    slopes = np.array([(law.curve(X, *np.add(parameters, step)) - true) / 1e-6 for step in steps])
    expected = 0.5 * np.sqrt(np.diag(np.linalg.inv(slopes @ slopes.T)))
    assert draws.shape == (N_FITTED_DRAWS, 2)
    assert draws.std(axis=0) == pytest.approx(expected, rel=0.13)  # four standard errors


def test_draws_keep_their_order() -> None:
    draws = np.stack([Y + 2, Y, Y + 2, Y - 1])
    intercepts = fit_law_to_draws(LINE, X, draws)[:, 0]
    assert intercepts - intercepts[1] == pytest.approx([2, 0, 2, -1])
    many = fit_law_to_draws(LINE, X, np.tile(Y, (N_FITTED_DRAWS + 1, 1)))
    assert len(many) == N_FITTED_DRAWS
    assert many[0] == pytest.approx(fit_law(LINE, X, Y).parameters)


@pytest.mark.parametrize(("law", "slopes"), [(POWER, (-1, 2)), (SATURATION, (0.01, 1000))])
def test_brute_force_finds_no_better_curve(
    random: np.random.Generator, law: Law, slopes: tuple[float, float]
) -> None:
    tried = np.linspace(*slopes, 20_001)  # of the nonlinear parameter
    shapes = np.stack([law.curve(X, 1, one) for one in tried])
    for _ in range(10):
        y = law.curve(X, 5, random.uniform(0.1, 0.9) * (100 if law is SATURATION else 1))
        y = np.maximum(0, y + 0.05 * y.max() * random.normal(size=7))
        best = (shapes @ y) / (shapes**2).sum(axis=1)
        least = ((best[:, None] * shapes - y) ** 2).sum(axis=1).min()
        assert ((fit_law(law, X, y)(X) - y) ** 2).sum() <= least * (1 + 1e-6)


@pytest.mark.parametrize("n", [4, 7])
def test_intervals_over_points_cover_the_truth_95_times_in_100(
    random: np.random.Generator, n: int
) -> None:
    held, predicted = [], []
    for _ in range(400):
        x = 2.0 ** np.arange(n)
        fitted = fit_law(PER_DOUBLING, x, 10 + 3 * np.log2(x) + random.normal(0, 1, n))
        low, high = fitted.intervals()[1]
        held.append(low <= 3 <= high)
        _, low, high = fitted.predict(2 * x.max())
        predicted.append(low <= 10 + 3 * n + random.normal() <= high)
    assert 0.92 < np.mean(held) < 0.98
    assert 0.92 < np.mean(predicted) < 0.98

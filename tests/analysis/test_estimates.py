"""Estimates against formulas, scipy, numbers worked out by hand, and simulated coverage."""

import numpy as np
import pytest
from scipy import stats

from screl.analysis import estimates
from screl.analysis.estimates import (
    N_DRAWS,
    Estimate,
    Points,
    Resampler,
    exact_estimate,
    mean_estimate,
    percentile_interval,
    pooled_seed_noise,
    published_estimate,
    sign_hangs_on_one_point,
    slope_over,
    slope_per_doubling,
)
from screl.scoring.statistics import Floats
from tests.analysis.made_study import estimate

HALVES = np.tile([1.0, 0.0], 200)  # every other one of 400 problems is solved


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(5)


def error(of: Estimate) -> float:
    return float(of.draws.std())


def test_an_interval_is_the_middle_95_percent() -> None:
    assert Estimate(3.0, np.arange(1001.0)).interval == (25.0, 975.0)
    assert np.isnan(percentile_interval(np.array([1.0, np.nan]))).all()


def test_differences_are_computed_per_draw() -> None:
    difference = Estimate(5.0, np.array([4.0, 6.0])) - Estimate(2.0, np.array([3.0, 1.0]))
    assert difference.value == 3.0
    assert difference.draws.tolist() == [1.0, 5.0]
    assert (-difference).value == -3.0
    assert (-difference).draws.tolist() == [-1.0, -5.0]


def test_exact_estimates_have_no_spread() -> None:
    assert exact_estimate(12.84).draws.tolist() == [12.84] * N_DRAWS


def test_published_accuracies_are_binomial_and_independent() -> None:
    first, other = published_estimate(35.9, 1319, "a"), published_estimate(35.9, 1319, "b")
    expected = 100 * (0.359 * 0.641 / 1319) ** 0.5
    assert first.value == 35.9
    assert len(first.draws) == N_DRAWS
    assert first.draws.mean() == pytest.approx(35.9, abs=4 * expected / N_DRAWS**0.5)
    assert error(first) == pytest.approx(expected, rel=0.06)  # four standard errors of it
    assert np.allclose(first.draws * 13.19, np.round(first.draws * 13.19))  # whole problems
    assert abs(np.corrcoef(first.draws, other.draws)[0, 1]) < 0.09
    assert (first.draws == published_estimate(35.9, 1319, "a").draws).all()


def test_resampling_gives_the_standard_error_of_a_mean(random: np.random.Generator) -> None:
    by_problem = random.exponential(size=400)
    found = Resampler(400, []).mean(by_problem)
    assert found.value == pytest.approx(by_problem.mean())
    assert found.draws.mean() == pytest.approx(by_problem.mean(), rel=0.01)
    assert error(found) == pytest.approx(by_problem.std() / 20, rel=0.06)


def test_shared_problems_make_a_paired_difference_narrower() -> None:
    better = HALVES.copy()
    better[1:40:2] = 1.0  # 20 more
    resampler = Resampler(400, [])
    first, second = resampler.accuracy(HALVES[None], "a"), resampler.accuracy(better[None], "b")
    difference = second - first
    assert difference.value == pytest.approx(5.0)
    assert error(difference) == pytest.approx(100 * (0.05 * 0.95 / 400) ** 0.5, rel=0.06)
    assert error(difference) < 0.35 * (error(first) ** 2 + error(second) ** 2) ** 0.5


def test_seed_noise_by_hand() -> None:
    # means 3/4 and 1/4: squares 2 (1/4)^2 = 1/8; what rows and columns leave is +-1/4 eight times,
    # squares 1/2, of which 1 / (4 * 3); p (1 - p) = 1/4 once
    scores = np.array([[1.0, 1.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    assert pooled_seed_noise([scores]) == pytest.approx((1 / 8 - 1 / 2 / 12) / (1 / 4))
    three = np.array([[1.0] * 6, [0.0] * 6, [0.0] * 6])
    # means 1, 0, 0: squares 2/3, nothing left over, p (1 - p) = 2/9 twice
    assert pooled_seed_noise([three]) == pytest.approx((2 / 3) / (4 / 9))
    both = (1 / 8 - 1 / 24 + 2 / 3) / (1 / 4 + 4 / 9)
    assert pooled_seed_noise([scores, three]) == pytest.approx(both)


def test_seeds_that_differ_only_by_chance_have_no_noise(random: np.random.Generator) -> None:
    groups = [random.binomial(1, p, (3, 200)).astype(float) for p in random.uniform(0.1, 0.9, 200)]
    raw = np.mean([g.mean(axis=1).var(ddof=1) / (g.mean() * (1 - g.mean())) for g in groups])
    assert raw == pytest.approx(1 / 200, rel=0.25)  # already covered by resampled problems
    assert pooled_seed_noise(groups) < 0.2 / 200
    assert pooled_seed_noise([np.array([[1.0, 0.0], [0.0, 1.0]])]) == 0.0  # never below 0


def test_a_single_seed_gives_no_noise() -> None:
    assert pooled_seed_noise([]) == 0.0
    assert pooled_seed_noise([HALVES[None]]) == 0.0
    with_one = pooled_seed_noise([np.array([[1.0, 1.0], [0.0, 0.0]]), HALVES[None]])
    assert with_one == pytest.approx((1 / 2) / (1 / 4))


@pytest.mark.parametrize("n_seeds", [1, 4])
def test_seed_noise_is_divided_by_the_number_of_seeds(n_seeds: int) -> None:
    found = Resampler(400, [], seed_noise=0.01).accuracy(np.tile(HALVES, (n_seeds, 1)), "a")
    expected = 100 * (0.25 / 400 + 0.01 * 0.25 / n_seeds) ** 0.5
    assert error(found) == pytest.approx(expected, rel=0.06)
    assert found.value == 50.0


def test_seed_noise_is_independent_by_name() -> None:
    resampler = Resampler(400, [], seed_noise=0.01)
    first, other = (resampler.accuracy(HALVES[None], name) for name in "ab")
    assert error(first - other) == pytest.approx(100 * (2 * 0.01 * 0.25) ** 0.5, rel=0.06)
    again = Resampler(400, [], seed_noise=0.01).accuracy(HALVES[None], "b")
    assert (again.draws == other.draws).all()


def test_scores_of_0_and_100_percent_have_an_interval() -> None:
    bound = 0.626  # percent: 97.5% quantile of Jeffreys' posterior for 0 of 400
    resampler = Resampler(400, [], seed_noise=0.01)
    for none, every in (
        (published_estimate(0, 400, "a"), published_estimate(100, 400, "a")),
        (resampler.accuracy(np.zeros((2, 400)), "a"), resampler.accuracy(np.ones((2, 400)), "a")),
    ):
        assert (none.value, every.value) == (0.0, 100.0)
        assert none.interval == (pytest.approx(0, abs=0.001), pytest.approx(bound, rel=0.1))
        assert every.interval == (
            pytest.approx(100 - bound, abs=0.06),
            pytest.approx(100, abs=0.001),
        )


def test_draws_stay_between_0_and_100_percent() -> None:
    few = np.zeros((1, 400))
    few[0, :4] = 1
    low, high = Resampler(400, [], seed_noise=0.04).accuracy(few, "a").interval
    assert (low, high > 2) == (0.0, True)
    low, high = Resampler(400, [], seed_noise=0.04).accuracy(1 - few, "a").interval
    assert (low < 98, high) == (True, 100.0)


def world(
    random: np.random.Generator, n_recipes: int, between_seeds: float
) -> tuple[Floats, Floats]:
    """Return true accuracies of recipes, and scores (recipes, 3 seeds, 200 problems).

    Problems are hard or easy, and suit a recipe or not.
    """
    true = random.uniform(0.42, 0.58, n_recipes)
    hard = random.choice([-0.25, 0.25], 200)
    suits = random.choice([-0.05, 0.05], (n_recipes, 1, 200))
    seeds = random.normal(0, between_seeds, (n_recipes, 3, 1))
    chances = true[:, None, None] + hard + suits + seeds
    return 100 * true, (random.random(chances.shape) < chances).astype(float)


@pytest.mark.parametrize("between_seeds", [0.0, 0.03])
@pytest.mark.parametrize("n_seeds", [1, 3])
def test_intervals_cover_the_truth_95_times_in_100(
    random: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
    between_seeds: float,
    n_seeds: int,
) -> None:
    monkeypatch.setattr(estimates, "N_DRAWS", 400)
    held, paired = [], []
    for _ in range(100):
        true, scores = world(random, 30, between_seeds)
        resampler = Resampler(200, scores)
        of_recipes = [resampler.accuracy(of[:n_seeds], str(i)) for i, of in enumerate(scores)]
        for i, of_recipe in enumerate(of_recipes):
            low, high = of_recipe.interval
            held.append(low <= true[i] <= high)
        for i in range(0, 30, 2):
            low, high = (of_recipes[i] - of_recipes[i + 1]).interval
            paired.append(low <= true[i] - true[i + 1] <= high)
    assert 0.92 < np.mean(held) < 0.97  # 3,000, correlated within a world
    assert 0.92 < np.mean(paired) < 0.97


def test_a_mean_is_computed_per_draw() -> None:
    first, second = estimate(10, name="a"), estimate(20, name="b")
    both = mean_estimate([first, second])
    assert both is not None
    assert both.value == 15
    assert both.draws == pytest.approx((first.draws + second.draws) / 2)
    assert mean_estimate([]) is None


def test_slope_per_doubling_is_that_of_scipy_in_every_draw() -> None:
    x = [1.0, 3, 6, 12]
    points = Points(x, [estimate(y, 1.0, str(y)) for y in (40, 42, 41, 45)])
    found = slope_per_doubling(points)
    assert found.value == pytest.approx(stats.linregress(np.log2(x), [40, 42, 41, 45]).slope)
    for draw in (0, N_DRAWS - 1):
        y = [of.draws[draw] for of in points.y]
        assert found.draws[draw] == pytest.approx(stats.linregress(np.log2(x), y).slope)


def test_a_slope_has_the_interval_of_students_t() -> None:
    x, y = [2.0, 1.8, 1.6, 1.2], [10.0, 25, 28, 52]
    found = slope_over(x, [estimate(of) for of in y])
    assert found is not None
    line = stats.linregress(x, y)
    reach = stats.t.ppf(0.975, 2) * line.stderr
    assert found.value == pytest.approx(line.slope)
    assert found.interval == pytest.approx((line.slope - reach, line.slope + reach), rel=0.01)
    assert slope_over(x[:2], [estimate(of) for of in y[:2]]) is None


def test_a_slope_is_no_more_certain_than_its_points() -> None:
    y = [estimate(of, 2.0) for of in (10, 20, 30)]  # on a line by luck
    found = slope_over([2.0, 1.8, 1.6], y)
    assert found is not None
    # the slope is (first - last) / 0.4, with standard errors of 2 each
    reach = stats.t.ppf(0.975, 1) * 8**0.5 / 0.4
    assert np.ptp(found.interval) == pytest.approx(2 * reach, rel=0.1)


@pytest.mark.parametrize(
    ("y", "expected"), [((10, 12, 13, 15), False), ((30, 12, 13, 15), True), ((1, 2, 2, 1), True)]
)
def test_whether_the_sign_hangs_on_one_point(y: tuple[float, ...], expected: bool) -> None:
    assert sign_hangs_on_one_point([2.0, 1.8, 1.6, 1.2], [estimate(of) for of in y]) == expected

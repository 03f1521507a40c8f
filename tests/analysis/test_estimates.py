"""Draws of estimates: against formulas, by hand, and whether intervals hold the truth."""

import numpy as np
import pytest

from screl.analysis import estimates
from screl.analysis.estimates import (
    N_DRAWS,
    Estimate,
    Resampler,
    exactly,
    interval,
    pooled_seed_noise,
    published_estimate,
)
from screl.scoring.statistics import Floats

HALVES = np.tile([1.0, 0.0], 200)  # of 400 problems every other is right


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(5)


def error(estimate: Estimate) -> float:
    return float(estimate.draws.std())


def test_an_interval_is_the_middle_95_percent() -> None:
    assert interval(np.arange(1001.0)[::-1]) == (25.0, 975.0)
    assert Estimate(3.0, np.arange(1001.0)).interval == (25.0, 975.0)
    assert np.isnan(interval(np.array([1.0, np.nan]))).all()


def test_a_difference_is_of_every_draw() -> None:
    difference = Estimate(5.0, np.array([4.0, 6.0])) - Estimate(2.0, np.array([3.0, 1.0]))
    assert difference.value == 3.0
    assert difference.draws.tolist() == [1.0, 5.0]
    assert (-difference).value == -3.0
    assert (-difference).draws.tolist() == [-1.0, -5.0]


def test_a_number_of_unknown_uncertainty_does_not_move() -> None:
    assert exactly(12.84).draws.tolist() == [12.84] * N_DRAWS


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


def test_drawing_problems_gives_the_standard_error_of_a_mean(random: np.random.Generator) -> None:
    by_problem = random.exponential(size=400)
    estimate = Resampler(400, []).mean(by_problem)
    assert estimate.value == pytest.approx(by_problem.mean())
    assert estimate.draws.mean() == pytest.approx(by_problem.mean(), rel=0.01)
    assert error(estimate) == pytest.approx(by_problem.std() / 20, rel=0.06)


def test_shared_problems_make_a_paired_difference_narrower() -> None:
    better = HALVES.copy()
    better[1:40:2] = 1.0  # 20 more
    resampler = Resampler(400, [])
    first, second = resampler.accuracy(HALVES[None], "a"), resampler.accuracy(better[None], "b")
    difference = second - first
    assert difference.value == pytest.approx(5.0)
    assert error(difference) == pytest.approx(100 * (0.05 * 0.95 / 400) ** 0.5, rel=0.06)
    assert error(difference) < 0.35 * (error(first) ** 2 + error(second) ** 2) ** 0.5


def test_the_noise_of_seeds_by_hand() -> None:
    # means 3/4 and 1/4: squares 2 (1/4)^2 = 1/8; what rows and columns leave is +-1/4 eight times,
    # squares 1/2, of which 1 / (4 * 3); p (1 - p) = 1/4 once
    scores = np.array([[1.0, 1.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    assert pooled_seed_noise([scores]) == pytest.approx((1 / 8 - 1 / 2 / 12) / (1 / 4))
    three = np.array([[1.0] * 6, [0.0] * 6, [0.0] * 6])
    # means 1, 0, 0: squares 2/3, nothing left over, p (1 - p) = 2/9 twice
    assert pooled_seed_noise([three]) == pytest.approx((2 / 3) / (4 / 9))
    both = (1 / 8 - 1 / 24 + 2 / 3) / (1 / 4 + 4 / 9)
    assert pooled_seed_noise([scores, three]) == pytest.approx(both)


def test_seeds_that_differ_by_chance_alone_have_no_noise(random: np.random.Generator) -> None:
    groups = [random.binomial(1, p, (3, 200)).astype(float) for p in random.uniform(0.1, 0.9, 200)]
    raw = np.mean([g.mean(axis=1).var(ddof=1) / (g.mean() * (1 - g.mean())) for g in groups])
    assert raw == pytest.approx(1 / 200, rel=0.25)  # what problems have already
    assert pooled_seed_noise(groups) < 0.2 / 200
    assert pooled_seed_noise([np.array([[1.0, 0.0], [0.0, 1.0]])]) == 0.0  # never below 0


def test_one_seed_tells_no_noise() -> None:
    assert pooled_seed_noise([]) == 0.0
    assert pooled_seed_noise([HALVES[None]]) == 0.0
    assert Resampler(400, [HALVES[None]]).seed_noise == 0.0
    with_one = pooled_seed_noise([np.array([[1.0, 1.0], [0.0, 0.0]]), HALVES[None]])
    assert with_one == pytest.approx((1 / 2) / (1 / 4))


@pytest.mark.parametrize("n_seeds", [1, 4])
def test_the_noise_of_seeds_is_divided_by_their_number(n_seeds: int) -> None:
    estimate = Resampler(400, [], seed_noise=0.01).accuracy(np.tile(HALVES, (n_seeds, 1)), "a")
    expected = 100 * (0.25 / 400 + 0.01 * 0.25 / n_seeds) ** 0.5
    assert error(estimate) == pytest.approx(expected, rel=0.06)
    assert estimate.value == 50.0


def test_the_noise_of_every_accuracy_is_its_own() -> None:
    resampler = Resampler(400, [], seed_noise=0.01)
    first, other = (resampler.accuracy(HALVES[None], name) for name in "ab")
    assert error(first - other) == pytest.approx(100 * (2 * 0.01 * 0.25) ** 0.5, rel=0.06)
    again = Resampler(400, [], seed_noise=0.01).accuracy(HALVES[None], "b")
    assert (again.draws == other.draws).all()


def test_nothing_or_all_right_is_not_known_exactly() -> None:
    bound = 0.626  # percent: 97.5 % of Jeffreys' posterior of 0 in 400, from a table of Beta
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


def test_noise_makes_no_accuracy_below_nothing() -> None:
    few = np.zeros((1, 400))
    few[0, :4] = 1
    low, high = Resampler(400, [], seed_noise=0.04).accuracy(few, "a").interval
    assert (low, high > 2) == (0.0, True)
    low, high = Resampler(400, [], seed_noise=0.04).accuracy(1 - few, "a").interval
    assert (low < 98, high) == (True, 100.0)


def test_scores_of_other_problems_are_refused() -> None:
    with pytest.raises(ValueError, match="mismatch"):
        Resampler(400, []).mean(HALVES[:399])


def world(
    random: np.random.Generator, n_recipes: int, between_seeds: float
) -> tuple[Floats, Floats]:
    """Chances of recipes, and scores (recipes, 3 seeds, 200 problems) of new problems and seeds;
    problems are hard or easy, and suit a recipe or do not."""
    true = random.uniform(0.42, 0.58, n_recipes)
    hard = random.choice([-0.25, 0.25], 200)
    suits = random.choice([-0.05, 0.05], (n_recipes, 1, 200))
    seeds = random.normal(0, between_seeds, (n_recipes, 3, 1))
    chances = true[:, None, None] + hard + suits + seeds
    return 100 * true, (random.random(chances.shape) < chances).astype(float)


@pytest.mark.parametrize("between_seeds", [0.0, 0.03])
@pytest.mark.parametrize("n_seeds", [1, 3])
def test_intervals_hold_the_truth_95_times_in_100(
    random: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
    between_seeds: float,
    n_seeds: int,
) -> None:
    monkeypatch.setattr(estimates, "N_DRAWS", 400)
    held, paired = [], []
    for _ in range(150):
        true, scores = world(random, 30, between_seeds)
        resampler = Resampler(200, scores)
        of_recipes = [resampler.accuracy(of[:n_seeds], str(i)) for i, of in enumerate(scores)]
        for i, estimate in enumerate(of_recipes):
            low, high = estimate.interval
            held.append(low <= true[i] <= high)
        for i in range(0, 30, 2):
            low, high = (of_recipes[i] - of_recipes[i + 1]).interval
            paired.append(low <= true[i] - true[i + 1] <= high)
    assert 0.92 < np.mean(held) < 0.97  # 4,500 of them, those of one world alike
    assert 0.92 < np.mean(paired) < 0.97  # 2,250

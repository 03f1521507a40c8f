"""Compare estimates of new paths with enumerated samples, theory, and simulations."""

import math
from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
import pytest
from scipy import stats

from screl.sampling.path_estimate import (
    PathEstimate,
    describe_estimate,
    expected_new_paths,
    path_weights,
    smoothed_series,
)


def outcomes(n: int, shares: Sequence[float]) -> Iterator[tuple[float, list[int]]]:
    """Yield every series of n samples as its probability and the counts of its paths; what the
    shares lack of 1 are wrong samples."""
    wrong = 1 - sum(shares)
    for paths in product(range(len(shares) + 1), repeat=n):
        chance = math.prod([*shares, wrong][path] for path in paths)
        yield chance, [c for path in range(len(shares)) if (c := paths.count(path))]


def zipf(n_problems: int, exponent: float, random: np.random.Generator) -> np.ndarray:
    """Return (n_problems, 300) probabilities of paths; half of the samples or more are right."""
    exponents = exponent + random.uniform(-0.3, 0.3, (n_problems, 1))
    weights = np.arange(1, 301) ** -exponents
    return weights / weights.sum(axis=1, keepdims=True) * random.uniform(0.5, 1, (n_problems, 1))


def draw(shares: np.ndarray, n: int, random: np.random.Generator) -> list[list[int]]:
    wrong = 1 - shares.sum(axis=1, keepdims=True)
    counts = random.multinomial(n, np.hstack([shares, wrong.clip(0)]))[:, :-1]
    return [row[row > 0].tolist() for row in counts]


def truth(shares: np.ndarray, n: int, n_more: int) -> float:
    """Return the exact mean of new paths: not in the first n samples, but in one of the others."""
    return float(((1 - shares) ** n * (1 - (1 - shares) ** n_more)).sum(axis=1).mean())


def test_worked_by_hand() -> None:
    """n = 4, as many more: k = 2, P(L >= 1) = 8/9, P(L >= 2) = 4/9 at probability 2/3."""
    estimate = expected_new_paths([[1, 1, 2], [3, 1]], [4, 4], 4)
    assert estimate is not None
    new = [2 * 8 / 9 - 4 / 9, 8 / 9]
    assert estimate.mean == pytest.approx(sum(new) / 2)
    assert estimate.standard_error == pytest.approx(abs(new[0] - new[1]) / 2)
    assert estimate.chance_next == pytest.approx((2 / 4 + 1 / 4) / 2)
    assert estimate.n_samples == 4
    assert expected_new_paths([[1]], [2], 2) == PathEstimate(pytest.approx(2 / 3), None, 0.5, 2)


@pytest.mark.parametrize("t", [0.3, 2.0])
def test_hardly_smoothed_the_series_is_unbiased_for_a_random_number_of_samples(t: float) -> None:
    """Good and Toulmin's theorem, in which a path is seen a Poisson number of times."""
    i = np.arange(1, 80)
    series = smoothed_series(1000, t)[:79]
    for rate in (0.1, 1.0, 3.0):
        expected = math.exp(-rate) * (1 - math.exp(-rate * t))
        assert (stats.poisson.pmf(i, rate) * series).sum() == pytest.approx(expected)


@pytest.mark.parametrize(("order", "t"), [(1, 0.5), (5, 6.25)])
def test_smoothing_is_the_mean_of_series_cut_at_random(order: int, t: float) -> None:
    expected = np.zeros(order)
    for cut in range(order + 1):
        chance = stats.binom.pmf(cut, order, 2 / (2 + t))
        expected[:cut] += chance * -((-t) ** np.arange(1, cut + 1))
    assert smoothed_series(order, t) == pytest.approx(expected)


def test_the_order_grows_with_the_samples_of_all_problems() -> None:
    """k = floor(log_3(N t^2 / (t - 1)) / 2), at most half of a problem's samples, 1 at least."""

    def order(n: int, t: float, n_all: int) -> int:
        return int(np.flatnonzero(path_weights(n, t, n_all)).max())

    assert order(16, 6.25, 16) == 2  # log_3(119) = 4.35
    assert order(16, 6.25, 32_000) == 5  # log_3(238,095) = 11.27
    assert order(8, 6.25, 32_000) == 4
    assert order(100, 1.0, 100) == order(100, 0.1, 100) == order(100, 1.0, 10**9) == 50
    assert order(2, 3.0, 2) == order(3, 1.0, 3) == 1
    assert len(path_weights(16, 1.0, 16)) == 17


@pytest.mark.parametrize(("n", "n_more"), [(4, 4), (6, 3)])
@pytest.mark.parametrize("shares", [(0.2,), (1.0,), (0.1, 0.05, 0.5)])
def test_the_bias_is_small_if_every_outcome_is_enumerated(
    n: int, n_more: int, shares: tuple[float, ...]
) -> None:
    """Below 0.06 per path, however often it is seen, up to as many samples more."""
    mean = chance_next = 0.0
    for chance, counts in outcomes(n, shares):
        if chance and (estimate := expected_new_paths([counts], [n], n_more)):
            mean += chance * estimate.mean
            chance_next += chance * estimate.chance_next
    assert abs(mean - truth(np.array([shares]), n, n_more)) < 0.06 * len(shares)
    # exactly the chance that the last sample was new
    assert chance_next == pytest.approx(sum(p * (1 - p) ** (n - 1) for p in shares))


@pytest.mark.parametrize(
    ("n", "n_more", "low", "high"),
    [(4, 4, -0.08, 0.08), (100, 100, -0.04, 0.04), (16, 48, -0.12, 0.08), (16, 100, -0.3, 0.1)],
)
def test_the_bias_is_as_stated_where_many_paths_are_rare(
    n: int, n_more: int, low: float, high: float
) -> None:
    random = np.random.default_rng(0)
    shares = zipf(6000, 2, random)
    estimate = expected_new_paths(draw(shares, n, random), [n] * len(shares), n_more)
    assert estimate is not None
    assert low < estimate.mean / truth(shares, n, n_more) - 1 < high


def test_the_standard_error_is_the_deviation_of_repeated_runs() -> None:
    """With other problems of the same kind and other samples of them."""
    random = np.random.default_rng(0)
    population = zipf(20_000, 2, random)
    estimates = []
    for _ in range(60):
        shares = population[random.integers(0, len(population), 200)]
        estimate = expected_new_paths(draw(shares, 32, random), [32] * 200, 32)
        assert estimate is not None
        estimates.append(estimate)
    deviation = np.std([estimate.mean for estimate in estimates], ddof=1)
    errors = [estimate.standard_error or 0.0 for estimate in estimates]
    assert np.mean(errors) == pytest.approx(deviation, rel=0.25)


def test_problems_may_have_different_numbers_of_samples() -> None:
    """Each has its own weights; the order is that of all samples together."""
    counts, n_samples = [[1, 3], [1], [], [2, 2, 1]], [10, 4, 10, 20]
    estimate = expected_new_paths(counts, n_samples, 40)
    assert estimate is not None
    new = []
    for of_problem, n in zip(counts, n_samples, strict=True):
        weights = path_weights(n, 40 / n, 44)
        new.append(sum(weights[count] for count in of_problem))
    assert estimate.mean == pytest.approx(np.mean(new))
    assert estimate.chance_next == pytest.approx((1 / 10 + 1 / 4 + 1 / 20) / 4)
    assert estimate.n_samples == 4


@pytest.mark.parametrize("n", [4, 5, 100])
def test_a_path_that_every_sample_has_promises_nothing(n: int) -> None:
    """The series without a limit would say -1 for an even n and +1 for an odd one."""
    assert expected_new_paths([[n]] * 3, [n] * 3, n) == PathEstimate(0.0, 0.0, 0.0, n)


@pytest.mark.parametrize(
    ("counts", "n_samples"),
    [([], []), ([[], []], [8, 8]), ([[1], [1]], [1, 1]), ([[1], []], [9, 0])],
)
def test_without_two_samples_and_a_path_there_is_no_estimate(
    counts: list[list[int]], n_samples: list[int]
) -> None:
    assert expected_new_paths(counts, n_samples, 100) is None
    assert describe_estimate(None, 100).startswith("no estimate for more samples")


def test_more_counted_than_sampled_is_an_error() -> None:
    with pytest.raises(ValueError, match="more than its samples"):
        expected_new_paths([[2, 3], [1]], [4, 4], 1)


def test_an_estimate_is_one_line() -> None:
    estimate = PathEstimate(1.834, 0.0449, 0.0312, 100)
    assert describe_estimate(estimate, 100) == (
        "100 more samples per problem would bring 1.83 ± 0.04 new paths per problem "
        "(Good-Toulmin); the next sample finds a new path with probability 3.1%"
    )
    assert "problem or somewhat more (smoothed" in describe_estimate(estimate, 101)
    assert "or somewhat more" in describe_estimate(estimate, 800)
    assert "100 samples reach to 800; the next" in describe_estimate(estimate, 801)
    alone = PathEstimate(1.834, None, 0.25, 5)
    assert "would bring 1.83 new paths" in describe_estimate(alone, 5)
    assert "5 samples reach to 12; the next sample finds" in describe_estimate(alone, 13)

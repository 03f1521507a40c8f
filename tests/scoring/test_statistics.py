"""Errors, intervals, and tests against values worked by hand, scipy, and simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from screl.scoring.statistics import (
    Metric,
    bootstrap_intervals,
    compare,
    difference_over_seeds,
    mcnemar_p_value,
    mean_over_seeds,
    paired_difference,
    same_score_interval,
    spread_over_seeds,
    summarize,
)


def column(*scores: float) -> np.ndarray:
    return np.array(scores, float)[:, None]


def test_mean_and_standard_error_by_hand() -> None:
    # three of four right: p = .75, sample variance = 4/3 * .75 * .25 = .25, its root over 2 = .25
    (metric,) = summarize(column(1, 1, 1, 0))
    assert (metric.value, metric.standard_error, metric.n_correct) == (75.0, 25.0, 3)
    assert summarize(column(0.5, 1, 0, 0))[0].n_correct is None
    assert summarize(column(1 / 3, 1 / 3, 1 / 3))[0].n_correct == 1
    (single,) = summarize(column(1.0))
    assert single == Metric(100.0, None, (pytest.approx(2.5), 100.0), 1)
    with pytest.raises(ValueError, match="no problems"):
        summarize(np.zeros((0, 1)))


def test_the_bootstrap_interval_is_normal_at_the_size_of_gsm8k() -> None:
    """550 of 1,319 is 41.7 ± 1.36; the paper's 41.7 and 42.2 differ by a third of that."""
    (metric,) = summarize(column(*[1] * 550, *[0] * 769))
    assert metric.standard_error == pytest.approx(1.36, abs=0.01)
    assert metric.interval == pytest.approx((41.7 - 2.66, 41.7 + 2.66), abs=0.1)


def test_the_bootstrap_interval_agrees_with_scipy() -> None:
    scores = np.array([0.1, 0.9, 0.4, 1.0, 0.0, 0.3, 0.7])
    expected = stats.bootstrap(
        (scores,), np.mean, n_resamples=100_000, method="percentile", random_state=1
    ).confidence_interval
    (interval,) = bootstrap_intervals(scores[:, None])
    assert interval == pytest.approx((100 * expected.low, 100 * expected.high), abs=0.7)


def test_all_columns_share_their_resamples() -> None:
    """A column of differences gives a paired bootstrap only if every column is resampled alike."""
    scores = np.random.default_rng(1).random((30, 3))
    together = bootstrap_intervals(scores)
    assert together[1] == pytest.approx(bootstrap_intervals(scores[:, 1:2])[0])
    (shifted,) = bootstrap_intervals((scores[:, :1] * 0.5) + 0.25)
    assert shifted == pytest.approx([25 + bound / 2 for bound in together[0]])


@pytest.mark.parametrize("n", [1, 64, 1319])
def test_equal_scores_have_the_exact_interval(n: int) -> None:
    for n_right in (0, n):
        exact = stats.binomtest(n_right, n).proportion_ci(method="exact")
        expected = (100 * exact.low, 100 * exact.high)
        assert bootstrap_intervals(np.full((n, 1), float(n_right > 0))) == [pytest.approx(expected)]
    low, high = same_score_interval(0.5, n)
    assert 0 < 50 - low == pytest.approx(high - 50)


def test_a_comparison_by_hand() -> None:
    first = np.array([1.0] * 2 + [0.0] * 8 + [1.0] * 10)
    second = np.array([0.0] * 2 + [1.0] * 8 + [1.0] * 10)
    difference = compare(first, second)
    assert difference.value == pytest.approx(30.0)
    # differences -1, 1 and 0, 2, 8 and 10 times: variance (10 - 20 * .3^2) / 19
    assert difference.standard_error == pytest.approx(100 * math.sqrt(8.2 / 19 / 20))
    assert (difference.n_gained, difference.n_lost) == (8, 2)
    # 10 changed problems; a fair coin gives 0, 1, 2 or 8, 9, 10 with 2 * (1 + 10 + 45) / 1024
    assert difference.p_value == pytest.approx(112 / 1024)
    low, high = difference.interval
    assert low < 30 < high
    assert compare(second, first).interval == pytest.approx((-high, -low))
    assert compare(first / 2, second).p_value is None  # McNemar's test is for scores of 0 and 1
    with pytest.raises(ValueError, match="not the same problems"):
        paired_difference(first, second[:3])


def test_mcnemars_test_is_scipys_binomial_test() -> None:
    assert mcnemar_p_value(0, 0) == 1.0
    for n_gained in range(12):
        for n_lost in range(12):
            if n_gained + n_lost:
                expected = stats.binomtest(n_gained, n_gained + n_lost, 0.5).pvalue
                assert mcnemar_p_value(n_gained, n_lost) == pytest.approx(expected)


def test_the_interval_of_a_difference_is_paired() -> None:
    """Unpaired, two runs of 500 problems around 50% differ by chance by 6 points and more."""
    first = np.random.default_rng(0).integers(0, 2, 500).astype(float)
    second = first.copy()
    second[:10] = 1 - second[:10]
    low, high = compare(first, second).interval
    assert high - low < 3


def test_runs_that_agree_on_every_problem_may_still_differ_on_others() -> None:
    same = np.array([0.0, 1.0] * 32)
    difference = compare(same, same)
    assert (difference.value, difference.standard_error, difference.p_value) == (0.0, 0.0, 1.0)
    assert difference.interval == pytest.approx((-5.6, 5.6), abs=0.01)


SEEDS = np.array([[1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 1.0, 0.0], [1.0, 1.0, 1.0, 0.0]])


def test_mean_and_spread_over_seeds_by_hand() -> None:
    # by problem 1, 2/3, 2/3, 0: mean 7/12, variance (5/12)^2 + 2 (1/12)^2 + (7/12)^2 = 76/144, / 3
    problem_term = 76 / 144 / 3 / 4
    # seeds 1/2, 1/2, 3/4: mean 7/12, variance (2 (1/12)^2 + (2/12)^2) / 2 = 1/48
    seed_term = 1 / 48 / 3
    freedom = (problem_term + seed_term) ** 2 / (problem_term**2 / 3 + seed_term**2 / 2)
    mean = mean_over_seeds(SEEDS)
    assert mean.value == pytest.approx(100 * 7 / 12)
    assert mean.standard_error == pytest.approx(100 * (problem_term + seed_term) ** 0.5)
    assert mean.degrees_of_freedom == pytest.approx(freedom)
    reach = stats.t.ppf(0.975, freedom) * mean.standard_error
    assert mean.interval == pytest.approx(
        (max(0, mean.value - reach), min(100, mean.value + reach))
    )
    assert spread_over_seeds(SEEDS) == pytest.approx((100 / 48**0.5, 50, 75))


def test_a_difference_over_seeds_by_hand() -> None:
    """It is paired over problems and has a term for the seeds of either recipe."""
    baseline = np.array([[0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    differences = SEEDS.mean(axis=0) - baseline.mean(axis=0)
    terms = [differences.var(ddof=1) / 4, 0.0, 1 / 48 / 3]
    freedom = sum(terms) ** 2 / (terms[0] ** 2 / 3 + terms[2] ** 2 / 2)
    mean = difference_over_seeds(baseline, SEEDS)
    assert mean.value == pytest.approx(100 * (7 / 12 - 1 / 4))
    assert mean.standard_error == pytest.approx(100 * sum(terms) ** 0.5)
    assert mean.degrees_of_freedom == pytest.approx(freedom)
    low, high = mean.interval
    assert difference_over_seeds(SEEDS, baseline).interval == pytest.approx((-high, -low))


def test_seeds_that_fail_on_every_problem_have_an_interval() -> None:
    mean = mean_over_seeds(np.zeros((3, 64)))
    assert (mean.standard_error, mean.degrees_of_freedom) == (0.0, None)
    assert mean.interval == pytest.approx((0.0, 5.60), abs=0.01)
    same = difference_over_seeds(SEEDS[:2, [0, 3]], SEEDS[:2, [0, 3]])
    assert same.interval[0] < 0 < same.interval[1]


@pytest.mark.parametrize(("n_seeds", "seed_spread"), [(3, 0.0), (3, 0.05), (5, 0.05), (8, 0.02)])
def test_intervals_over_seeds_cover_the_truth(n_seeds: int, seed_spread: float) -> None:
    """Draw problems of various difficulty and seeds of various luck, new ones for each trial.

    Coverage may exceed 95% where seeds differ only by chance on single problems.
    """
    rng = np.random.default_rng(n_seeds)
    n_trials, n_problems, truth = 1500, 200, 0.5
    covered = covered_difference = 0
    for _ in range(n_trials):
        chance = rng.uniform(0.2, 0.8, n_problems)
        scores, baseline = (
            (rng.random((n_seeds, n_problems)) < chance + luck).astype(float)
            for luck in rng.normal(0, seed_spread, (2, n_seeds, 1))
        )
        low, high = mean_over_seeds(scores).interval
        covered += low <= 100 * truth <= high
        low, high = difference_over_seeds(baseline, scores).interval
        covered_difference += low <= 0 <= high
    assert 0.935 <= covered / n_trials <= 0.99
    assert 0.935 <= covered_difference / n_trials <= 0.999

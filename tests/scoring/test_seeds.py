"""Several seeds: the formula by hand, and how often its interval holds the truth."""

import numpy as np
import pytest
from scipy import stats

from screl.scoring.statistics import difference_over_seeds, mean_over_seeds, spread_over_seeds

SCORES = np.array([[1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 1.0, 0.0], [1.0, 1.0, 1.0, 0.0]])


def test_mean_and_spread_worked_by_hand() -> None:
    # by problem 1, 2/3, 2/3, 0: mean 7/12, variance (5/12)^2 + 2 (1/12)^2 + (7/12)^2 = 76/144, / 3
    of_problems = 76 / 144 / 3 / 4
    # seeds 1/2, 1/2, 3/4: mean 7/12, variance (2 (1/12)^2 + (2/12)^2) / 2 = 1/48
    of_seeds = 1 / 48 / 3
    freedom = (of_problems + of_seeds) ** 2 / (of_problems**2 / 3 + of_seeds**2 / 2)
    mean = mean_over_seeds(SCORES)
    assert mean.value == pytest.approx(100 * 7 / 12)
    assert mean.standard_error == pytest.approx(100 * (of_problems + of_seeds) ** 0.5)
    assert mean.degrees_of_freedom == pytest.approx(freedom)
    reach = stats.t.ppf(0.975, freedom) * mean.standard_error
    assert mean.interval == pytest.approx(
        (max(0, mean.value - reach), min(100, mean.value + reach))
    )
    assert spread_over_seeds(SCORES) == pytest.approx((100 / 48**0.5, 50, 75))


def test_the_difference_is_paired_over_problems_and_adds_the_seeds_of_both() -> None:
    baseline = np.array([[0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    differences = SCORES.mean(axis=0) - baseline.mean(axis=0)
    terms = [differences.var(ddof=1) / 4, 0.0, 1 / 48 / 3]
    freedom = sum(terms) ** 2 / (terms[0] ** 2 / 3 + terms[2] ** 2 / 2)
    mean = difference_over_seeds(baseline, SCORES)
    assert mean.value == pytest.approx(100 * (7 / 12 - 1 / 4))
    assert mean.standard_error == pytest.approx(100 * sum(terms) ** 0.5)
    assert mean.degrees_of_freedom == pytest.approx(freedom)
    assert difference_over_seeds(SCORES, baseline).interval == pytest.approx(
        tuple(-bound for bound in mean.interval[::-1])
    )


def test_seeds_that_all_fail_everywhere_have_an_interval() -> None:
    mean = mean_over_seeds(np.zeros((3, 64)))
    assert (mean.standard_error, mean.degrees_of_freedom) == (0.0, None)
    assert mean.interval == pytest.approx((0.0, 5.60), abs=0.01)
    same = difference_over_seeds(SCORES[:2, [0, 3]], SCORES[:2, [0, 3]])
    assert same.interval[0] < 0 < same.interval[1]


@pytest.mark.parametrize(("n_seeds", "seed_spread"), [(3, 0.0), (3, 0.05), (5, 0.05), (8, 0.02)])
def test_the_interval_holds_the_truth_about_95_times_in_100(
    n_seeds: int, seed_spread: float
) -> None:
    """Problems of differing difficulty, seeds of differing luck; new ones of both every time.

    Where seeds differ by the chance of single problems only it may be a little wide.
    """
    rng = np.random.default_rng(n_seeds)
    n_trials, n_problems, truth = 1500, 200, 0.5
    held = held_difference = 0
    for _ in range(n_trials):
        chance = rng.uniform(0.2, 0.8, n_problems)
        scores, baseline = (
            (rng.random((n_seeds, n_problems)) < chance + luck).astype(float)
            for luck in rng.normal(0, seed_spread, (2, n_seeds, 1))
        )
        low, high = mean_over_seeds(scores).interval
        held += low <= 100 * truth <= high
        low, high = difference_over_seeds(baseline, scores).interval
        held_difference += low <= 0 <= high
    assert 0.935 <= held / n_trials <= 0.99
    assert 0.935 <= held_difference / n_trials <= 0.999

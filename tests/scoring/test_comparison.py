"""Paired differences, McNemar's test, changed problems."""

import math
import statistics

import numpy as np
import pytest
from scipy import stats

from screl.scoring.statistics import compare, mcnemar_p_value, paired_difference


def test_a_paired_difference_is_taken_problem_by_problem() -> None:
    first, second = np.array([0.0, 1, 0, 0]), np.array([1.0, 1, 0, 1])
    value, error = paired_difference(first, second)
    assert value == 50.0
    assert error == pytest.approx(100 * statistics.stdev([1, 0, 0, 1]) / math.sqrt(4))
    assert paired_difference(second, first)[0] == -50.0
    assert paired_difference(first, first) == (0.0, 0.0)
    with pytest.raises(ValueError, match="not about the same problems"):
        paired_difference(first, second[:3])


def test_gained_and_lost_worked_by_hand() -> None:
    first = np.array([1.0] * 2 + [0.0] * 8 + [1.0] * 10)
    second = np.array([0.0] * 2 + [1.0] * 8 + [1.0] * 10)
    difference = compare(first, second)
    assert difference.value == pytest.approx(30.0)
    assert (difference.n_gained, difference.n_lost) == (8, 2)
    # 10 changed problems; a fair coin gives 0, 1, 2 or 8, 9, 10 with 2 * (1 + 10 + 45) / 1024
    assert difference.p_value == pytest.approx(112 / 1024)
    low, high = difference.interval
    assert low < 30 < high
    assert compare(second, first).interval == pytest.approx((-high, -low))


def test_mcnemars_test_is_scipys_binomial_test() -> None:
    assert mcnemar_p_value(0, 0) == 1.0
    for n_gained in range(12):
        for n_lost in range(12):
            if n_gained + n_lost:
                expected = stats.binomtest(n_gained, n_gained + n_lost, 0.5).pvalue
                assert mcnemar_p_value(n_gained, n_lost) == pytest.approx(expected)


def test_mcnemars_test_needs_scores_of_0_and_1() -> None:
    assert compare(np.array([0.5, 1, 0]), np.array([1.0, 0, 0])).p_value is None


def test_the_interval_is_paired() -> None:
    """Unpaired, two runs of 500 problems each around 50 % differ by chance by 6 points and more."""
    first = np.random.default_rng(0).integers(0, 2, 500).astype(float)
    second = first.copy()
    second[:10] = 1 - second[:10]
    low, high = compare(first, second).interval
    assert high - low < 3


def test_runs_that_agree_everywhere_may_still_differ_elsewhere() -> None:
    same = np.array([0.0, 1.0] * 32)
    difference = compare(same, same)
    assert (difference.value, difference.p_value) == (0.0, 1.0)
    assert difference.interval == pytest.approx((-5.6, 5.6), abs=0.01)

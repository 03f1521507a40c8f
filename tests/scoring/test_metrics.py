"""Standard errors and intervals against numbers worked by hand, scipy and a plain bootstrap."""

import numpy as np
import pytest
from scipy import stats

from screl.scoring.statistics import (
    BLOCK_RESAMPLES,
    N_RESAMPLES,
    SEED,
    Metric,
    bootstrap_intervals,
    mean_and_error,
    same_score_interval,
    summarise,
)


def column(*scores: float) -> np.ndarray:
    return np.array(scores, float)[:, None]


def test_mean_and_standard_error_worked_by_hand() -> None:
    # three of four right: p = .75, sample variance = 4/3 * .75 * .25 = .25, its root over 2 = .25
    (metric,) = summarise(column(1, 1, 1, 0))
    assert (metric.value, metric.standard_error, metric.n_correct) == (75.0, 25.0, 3)
    assert summarise(column(0.5, 1, 0, 0))[0].n_correct is None
    assert summarise(column(1 / 3, 1 / 3, 1 / 3))[0].n_correct == 1
    (alone,) = summarise(column(1.0))
    assert alone == Metric(100.0, None, (pytest.approx(2.5), 100.0), 1)
    with pytest.raises(ValueError, match="no problem"):
        mean_and_error(np.zeros((0, 1)))


def test_one_standard_error_at_the_size_of_gsm8k() -> None:
    """The paper's 41.7 and 42.2 differ by a third of it."""
    scores = np.zeros(1319)
    scores[:550] = 1
    (metric,) = summarise(scores[:, None])
    assert metric.standard_error == pytest.approx(1.36, abs=0.01)
    low, high = metric.interval
    assert (low, high) == pytest.approx((41.7 - 2.66, 41.7 + 2.66), abs=0.1)


def test_the_interval_is_the_percentiles_of_resampled_means() -> None:
    scores = np.array([0.1, 0.9, 0.4, 1.0, 0.0, 0.3, 0.7])
    rng = np.random.default_rng(SEED)
    means = np.concatenate(
        [
            scores[rng.integers(0, 7, (BLOCK_RESAMPLES, 7))].mean(axis=1)
            for _ in range(N_RESAMPLES // BLOCK_RESAMPLES)
        ]
    )
    assert len(means) == 10_000
    expected = tuple(100 * np.quantile(means, [0.025, 0.975]))
    (interval,) = bootstrap_intervals(scores[:, None])
    assert interval == pytest.approx(expected)


def test_columns_share_their_resamples() -> None:
    """So that a difference of columns is a paired bootstrap, and nothing depends on the company."""
    scores = np.random.default_rng(1).random((30, 3))
    together = bootstrap_intervals(scores)
    assert together[1] == pytest.approx(bootstrap_intervals(scores[:, 1:2])[0])
    shifted = bootstrap_intervals((scores[:, :1] * 0.5) + 0.25)[0]
    assert shifted == pytest.approx([25 + bound / 2 for bound in together[0]])


@pytest.mark.parametrize("n", [1, 64, 1319])
def test_where_all_score_the_same_the_interval_is_clopper_and_pearsons(n: int) -> None:
    for n_right in (0, n):
        exact = stats.binomtest(n_right, n).proportion_ci(method="exact")
        expected = (100 * exact.low, 100 * exact.high)
        assert bootstrap_intervals(np.full((n, 1), float(n_right > 0))) == [pytest.approx(expected)]
    low, high = same_score_interval(0.5, n)
    assert 50 - low == pytest.approx(high - 50)
    assert low < 50


def test_no_difference_at_all_still_leaves_some_possible() -> None:
    low, high = same_score_interval(0.0, 64, lowest=-1.0)
    assert (low, high) == pytest.approx((-5.60, 5.60), abs=0.01)

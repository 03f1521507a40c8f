"""Means over problems and their uncertainty. Scores are from 0 to 1, what is returned is percent.

Standard errors and intervals are over problems: they say how far the score on other problems of
the same kind may be from this one. What another training seed would change they do not know (see
screl.seeds).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

N_RESAMPLES = 10_000
SEED = 0
BLOCK_RESAMPLES = 500  # made at a time: some 10 MB for the problems of GSM8K
CONFIDENCE = 0.95

Floats = NDArray[np.float64]
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Metric:
    """A mean over problems; all but ``n_correct`` in percent.

    ``standard_error`` is None for a single problem. ``interval`` is the 95 % interval of
    ``bootstrap_intervals``. ``n_correct`` is the sum of the scores where that is a whole number,
    None elsewhere.
    """

    value: float
    standard_error: float | None
    interval: Interval
    n_correct: int | None


def summarise(scores: Floats) -> list[Metric]:
    """The metric of each column of ``scores``, (n_problems, n_metrics), of values from 0 to 1."""
    values, errors = mean_and_error(scores)
    totals = scores.sum(axis=0).round(6)  # thirds from ties may add up to a whole number
    return [
        Metric(value, error, interval, int(total) if total.is_integer() else None)
        for value, error, interval, total in zip(
            values, errors, bootstrap_intervals(scores), totals.tolist(), strict=True
        )
    ]


def mean_and_error(scores: Floats) -> tuple[list[float], list[float | None]]:
    """Mean and standard error of every column, in percent.

    The standard error is the sample standard deviation (n - 1) over the root of n; None for n = 1.
    Raises ValueError for no problem at all.
    """
    n, n_metrics = scores.shape
    if n == 0:
        raise ValueError("no problem, no mean")
    values = (100 * scores.mean(axis=0)).tolist()
    if n == 1:
        return values, [None] * n_metrics
    return values, (100 * scores.std(axis=0, ddof=1) / n**0.5).tolist()


def bootstrap_intervals(scores: Floats, lowest: float = 0.0) -> list[Interval]:
    """The 95 % percentile interval of the mean of every column, over problems, in percent.

    10,000 resamples of the problems, the same ones (of a fixed seed) for all columns and calls, so
    that a difference of columns is a paired bootstrap. Where every problem has the same score, a
    bootstrap knows no other; there the interval is that of ``same_score_interval``, for which
    ``lowest`` is the least possible score (-1 for differences).
    """
    low, high = (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2
    bounds = 100 * np.quantile(_bootstrap_means(scores), [low, high], axis=0)
    is_same = (scores == scores[0]).all(axis=0).tolist()
    return [
        same_score_interval(scores[0, i], len(scores), lowest) if is_same[i] else (lower, upper)
        for i, (lower, upper) in enumerate(bounds.T.tolist())
    ]


def same_score_interval(score: float, n: int, lowest: float = 0.0) -> Interval:
    """The 95 % interval, in percent, of the mean where each of n problems scores the same.

    Up to a share u of all problems may score otherwise, anything from ``lowest`` to 1, and not be
    seen among n: u = 1 - 0.025^(1/n), the exact (Clopper-Pearson) upper limit for 0 of n. For
    scores of 0 and of 1 this is the Clopper-Pearson interval itself.

    >>> same_score_interval(0.0, 1)
    (0.0, 97.5)
    """
    unseen = 1 - ((1 - CONFIDENCE) / 2) ** (1 / n)
    return (
        100 * float(score - unseen * (score - lowest)),
        100 * float(score + unseen * (1 - score)),
    )


def _bootstrap_means(scores: Floats) -> Floats:
    """(N_RESAMPLES, n_metrics): means of every column over problems drawn with replacement."""
    n = len(scores)
    random = np.random.default_rng(SEED)
    means = np.empty((N_RESAMPLES, scores.shape[1]))
    for begin in range(0, N_RESAMPLES, BLOCK_RESAMPLES):
        drawn = random.integers(0, n, (BLOCK_RESAMPLES, n))
        cells = (drawn + n * np.arange(BLOCK_RESAMPLES)[:, None]).ravel()
        times = np.bincount(cells, minlength=BLOCK_RESAMPLES * n).reshape(BLOCK_RESAMPLES, n)
        means[begin : begin + BLOCK_RESAMPLES] = times.astype(np.float64) @ scores / n
    return means

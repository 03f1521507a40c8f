"""Means over problems and their uncertainty. Scores are from 0 to 1, what is returned is percent.

Standard errors and intervals are over problems: they say how far the score on other problems of
the same kind may be from this one. What another training seed would change they do not know (see
screl.scoring.statistics).

Several training seeds of one recipe: its score, and how far another seed or other problems may
move it.

With scores of S seeds on the same n problems, the variance of their mean is taken as

    variance over problems of the mean score per problem / n  +  variance of the seeds' means / S

Student's t has the degrees of freedom of Welch and Satterthwaite: (v1 + v2)^2 divided by
v1^2 / (n - 1) + v2^2 / (S - 1), where v1 and v2 are the two terms. With few seeds that differ much
the interval is wide, as it must be: nobody knows a spread from two seeds. What chance does to a
single problem in a single seed is in both terms, so where seeds differ by that only the interval is
too wide: simulated, it holds the truth 98 times in 100 then, 95 to 97 where seeds really differ, 93
with two such seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

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


class Difference(NamedTuple):
    """A second run minus a first: in points, but for the counts of problems and the p-value.

    ``interval`` is a paired 95 % bootstrap over problems. ``p_value`` is that of McNemar's exact
    test, None unless every score is 0 or 1: it counts problems, not parts of them.
    """

    value: float
    standard_error: float | None
    interval: Interval
    n_gained: int
    n_lost: int
    p_value: float | None


def compare(first: Floats, second: Floats) -> Difference:
    """``second - first`` for the scores (from 0 to 1) of the same problems in the same order."""
    value, error = paired_difference(first, second)
    (interval,) = bootstrap_intervals((second - first)[:, None], lowest=-1.0)
    n_gained, n_lost = int((second > first).sum()), int((second < first).sum())
    is_whole = bool(np.isin([first, second], (0.0, 1.0)).all())
    p_value = mcnemar_p_value(n_gained, n_lost) if is_whole else None
    return Difference(value, error, interval, n_gained, n_lost, p_value)


def paired_difference(first: Floats, second: Floats) -> tuple[float, float | None]:
    """Mean of ``second - first`` over problems and its standard error, in points.

    Raises ValueError if the two are not about equally many problems, or about none.
    """
    if first.shape != second.shape:
        raise ValueError(f"not about the same problems: {first.shape} and {second.shape}")
    (value,), (error,) = mean_and_error((second - first)[:, None])
    return value, error


def mcnemar_p_value(n_gained: int, n_lost: int) -> float:
    """Two-sided: how often a fair coin splits the changed problems at least as unevenly."""
    from scipy.special import bdtr  # takes a fifth of a second

    n_changed = n_gained + n_lost
    return min(1.0, 2 * float(bdtr(min(n_gained, n_lost), n_changed, 0.5)))


class Mean(NamedTuple):
    """In percent, or points for a difference; the interval is one of 95 %.

    ``degrees_of_freedom`` is None where neither problems nor seeds differ at all.
    """

    value: float
    standard_error: float
    interval: Interval
    degrees_of_freedom: float | None


class Spread(NamedTuple):
    """Of the seeds' scores, in percent: standard deviation (S - 1), least and greatest."""

    standard_deviation: float
    lowest: float
    highest: float


def mean_over_seeds(scores: Floats) -> Mean:
    """The mean of ``scores``, (seeds, problems), two or more of each, of values from 0 to 1."""
    mean = _mean(scores.mean(axis=0), [scores], lowest=0.0)
    low, high = mean.interval
    return mean._replace(interval=(max(0.0, low), min(100.0, high)))


def spread_over_seeds(scores: Floats) -> Spread:
    """How much the means of the rows of ``scores``, (seeds, problems), differ."""
    means = 100 * scores.mean(axis=1)
    return Spread(float(means.std(ddof=1)), float(means.min()), float(means.max()))


def difference_over_seeds(baseline: Floats, scores: Floats) -> Mean:
    """``scores - baseline``, both (seeds, problems), of the same problems and any seeds.

    The term of the problems is of the paired differences; each recipe adds a term for its seeds.
    """
    differences = scores.mean(axis=0) - baseline.mean(axis=0)
    return _mean(differences, [baseline, scores], lowest=-1.0)


def _mean(by_problem: Floats, recipes: Sequence[Floats], lowest: float) -> Mean:
    from scipy.special import stdtrit  # takes a fifth of a second

    value = float(by_problem.mean())
    terms = [(float(by_problem.var(ddof=1)) / len(by_problem), len(by_problem) - 1)]
    for scores in recipes:
        terms.append((float(scores.mean(axis=1).var(ddof=1)) / len(scores), len(scores) - 1))
    variance = sum(term for term, _ in terms)
    if variance == 0:
        interval = same_score_interval(value, len(by_problem), lowest)
        return Mean(100 * value, 0.0, interval, None)
    freedom = variance**2 / sum(term**2 / of_term for term, of_term in terms)
    error = float(np.sqrt(variance))
    reach = error * float(stdtrit(freedom, (1 + CONFIDENCE) / 2))
    interval = (100 * (value - reach), 100 * (value + reach))
    return Mean(100 * value, 100 * error, interval, freedom)

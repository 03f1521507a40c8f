"""Compute means over problems and seeds, and their uncertainty.

Scores are from 0 to 1; everything returned is in percent, or in points for a difference.

Standard errors and bootstrap intervals of one run are over problems: they show how far the score on
other problems of the same kind may be from this one, but nothing about another training seed.

For S seeds of one recipe on the same n problems, the variance of their mean is

    variance over problems of the mean score per problem / n  +  variance of the seeds' means / S

and Student's t has the degrees of freedom of Welch and Satterthwaite, (v1 + v2)^2 divided by
v1^2 / (n - 1) + v2^2 / (S - 1), where v1 and v2 are the two terms. A few seeds that differ a lot
give a wide interval, because two seeds say little about their spread. Chance in a single problem
with a single seed is in both terms, so the interval is conservative if seeds differ only by chance.
In simulations it then covers the truth in 98% of cases, in 95 to 97% if seeds really differ, and in
93% with two such seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

N_RESAMPLES = 10_000
SEED = 0
BLOCK_RESAMPLES = 500  # drawn at a time: about 10 MB for the test set of GSM8K
CONFIDENCE = 0.95

Floats = NDArray[np.float64]
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Metric:
    """A mean over problems with its uncertainty.

    ``standard_error`` is None for a single problem. ``interval`` is the 95% interval from
    ``bootstrap_intervals``. ``n_correct`` is the sum of the scores, None if it is not an integer.
    """

    value: float
    standard_error: float | None
    interval: Interval
    n_correct: int | None


class Difference(NamedTuple):
    """A second run minus a first one on the same problems.

    ``interval`` is a paired 95% bootstrap interval over problems. ``n_gained`` and ``n_lost`` count
    the problems that score more and less. ``p_value`` is from McNemar's exact test, which counts
    the problems that flip; it is None unless every score is 0 or 1.
    """

    value: float
    standard_error: float | None
    interval: Interval
    n_gained: int
    n_lost: int
    p_value: float | None


class SeedMean(NamedTuple):
    """A mean, or a difference of means, over problems and seeds, with its 95% interval.

    ``degrees_of_freedom`` is None where neither problems nor seeds differ at all.
    """

    value: float
    standard_error: float
    interval: Interval
    degrees_of_freedom: float | None


class SeedSpread(NamedTuple):
    """The sample standard deviation (S - 1), minimum and maximum of the seeds' scores."""

    standard_deviation: float
    lowest: float
    highest: float


def summarize(scores: Floats) -> list[Metric]:
    """Return the metric of each column of ``scores``, (n_problems, n_metrics)."""
    values, errors = mean_and_error(scores)
    totals = scores.sum(axis=0).round(6)  # thirds from ties may add up to an integer
    return [
        Metric(value, error, interval, int(total) if total.is_integer() else None)
        for value, error, interval, total in zip(
            values, errors, bootstrap_intervals(scores), totals.tolist(), strict=True
        )
    ]


def mean_and_error(scores: Floats) -> tuple[list[float], list[float | None]]:
    """Return mean and standard error of each column.

    The standard error is the sample standard deviation (n - 1) over the root of n; None for n = 1.
    Raises ValueError if there are no problems.
    """
    n, n_metrics = scores.shape
    if n == 0:
        raise ValueError("no problems to average over")
    values = (100 * scores.mean(axis=0)).tolist()
    if n == 1:
        return values, [None] * n_metrics
    return values, (100 * scores.std(axis=0, ddof=1) / n**0.5).tolist()


def bootstrap_intervals(scores: Floats, lowest: float = 0.0) -> list[Interval]:
    """Return the 95% percentile interval of the mean of each column, over problems.

    Uses 10,000 resamples of the problems, the same ones (fixed seed) for all columns and calls, so
    a column of differences gives a paired bootstrap. If all problems score the same, every resample
    does too; the interval is then that of ``same_score_interval``, for which ``lowest`` is the
    least possible score (-1 for differences).
    """
    low, high = (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2
    bounds = 100 * np.quantile(_bootstrap_means(scores), [low, high], axis=0)
    is_same = (scores == scores[0]).all(axis=0).tolist()
    return [
        same_score_interval(scores[0, i], len(scores), lowest) if is_same[i] else (lower, upper)
        for i, (lower, upper) in enumerate(bounds.T.tolist())
    ]


def same_score_interval(score: float, n: int, lowest: float = 0.0) -> Interval:
    """Return the 95% interval of the mean if all n problems score the same.

    A share u of all problems may score anything else, from ``lowest`` to 1, and still not be among
    the n: u = 1 - 0.025^(1/n), the exact (Clopper-Pearson) upper limit for 0 of n. For scores of 0
    and 1 this is the Clopper-Pearson interval.

    >>> same_score_interval(0.0, 1)
    (0.0, 97.5)
    """
    share = 1 - ((1 - CONFIDENCE) / 2) ** (1 / n)
    return (
        100 * float(score - share * (score - lowest)),
        100 * float(score + share * (1 - score)),
    )


def compare(first: Floats, second: Floats) -> Difference:
    """Return ``second - first`` for scores of the same problems in the same order."""
    value, error = paired_difference(first, second)
    (interval,) = bootstrap_intervals((second - first)[:, None], lowest=-1.0)
    n_gained, n_lost = int((second > first).sum()), int((second < first).sum())
    is_whole = bool(np.isin([first, second], (0.0, 1.0)).all())
    p_value = mcnemar_p_value(n_gained, n_lost) if is_whole else None
    return Difference(value, error, interval, n_gained, n_lost, p_value)


def paired_difference(first: Floats, second: Floats) -> tuple[float, float | None]:
    """Return the mean of ``second - first`` over problems and its standard error.

    Raises ValueError if the numbers of problems differ or are 0.
    """
    if first.shape != second.shape:
        raise ValueError(f"not the same problems: {first.shape} and {second.shape}")
    (value,), (error,) = mean_and_error((second - first)[:, None])
    return value, error


def mcnemar_p_value(n_gained: int, n_lost: int) -> float:
    """Return the two-sided probability that a fair coin splits the changed problems as unevenly."""
    from scipy.special import bdtr  # importing it takes 0.2 s

    n_changed = n_gained + n_lost
    return min(1.0, 2 * float(bdtr(min(n_gained, n_lost), n_changed, 0.5)))


def mean_over_seeds(scores: Floats) -> SeedMean:
    """Return the mean of ``scores``, (seeds, problems), with two or more of each."""
    mean = _seed_mean(scores.mean(axis=0), [scores], lowest=0.0)
    low, high = mean.interval
    return mean._replace(interval=(max(0.0, low), min(100.0, high)))


def difference_over_seeds(baseline: Floats, scores: Floats) -> SeedMean:
    """Return ``scores - baseline``, both (seeds, problems), for the same problems and any seeds.

    The term for problems is computed from paired differences; each recipe adds a term for seeds.
    """
    differences = scores.mean(axis=0) - baseline.mean(axis=0)
    return _seed_mean(differences, [baseline, scores], lowest=-1.0)


def spread_over_seeds(scores: Floats) -> SeedSpread:
    """Return how much the means of the rows of ``scores``, (seeds, problems), differ."""
    means = 100 * scores.mean(axis=1)
    return SeedSpread(float(means.std(ddof=1)), float(means.min()), float(means.max()))


def _bootstrap_means(scores: Floats) -> Floats:
    """Return column means over problems drawn with replacement, (N_RESAMPLES, n_metrics)."""
    n = len(scores)
    rng = np.random.default_rng(SEED)
    means = np.empty((N_RESAMPLES, scores.shape[1]))
    for begin in range(0, N_RESAMPLES, BLOCK_RESAMPLES):
        indices = rng.integers(0, n, (BLOCK_RESAMPLES, n))
        cells = (indices + n * np.arange(BLOCK_RESAMPLES)[:, None]).ravel()
        times = np.bincount(cells, minlength=BLOCK_RESAMPLES * n).reshape(BLOCK_RESAMPLES, n)
        means[begin : begin + BLOCK_RESAMPLES] = times.astype(np.float64) @ scores / n
    return means


def _seed_mean(by_problem: Floats, recipes: Sequence[Floats], lowest: float) -> SeedMean:
    from scipy.special import stdtrit  # importing it takes 0.2 s

    value = float(by_problem.mean())
    terms = [(float(by_problem.var(ddof=1)) / len(by_problem), len(by_problem) - 1)]
    for scores in recipes:
        terms.append((float(scores.mean(axis=1).var(ddof=1)) / len(scores), len(scores) - 1))
    variance = sum(term for term, _ in terms)
    if variance == 0:
        interval = same_score_interval(value, len(by_problem), lowest)
        return SeedMean(100 * value, 0.0, interval, None)
    freedom = variance**2 / sum(term**2 / term_freedom for term, term_freedom in terms)
    error = float(np.sqrt(variance))
    reach = error * float(stdtrit(freedom, (1 + CONFIDENCE) / 2))
    interval = (100 * (value - reach), 100 * (value + reach))
    return SeedMean(100 * value, 100 * error, interval, freedom)

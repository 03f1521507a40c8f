"""Several training seeds of one recipe: its score, and how far another seed or other problems may
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
from typing import NamedTuple

import numpy as np

from screl.metrics import CONFIDENCE, Floats, Interval, same_score_interval


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

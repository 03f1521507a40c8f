"""Estimate how many new distinct paths more samples of each problem would bring.

The number of paths seen once, divided by n samples, estimates the chance that the next sample has a
new path (Good 1953). Good and Toulmin (1956) predict the number of new paths in m more samples as
- sum over i of (-t)^i f_i, where t = m / n and f_i is the number of paths seen exactly i times. The
terms explode beyond t = 1. Orlitsky, Suresh, and Wu (PNAS 2016) multiply them by P(L >= i), where L
is binomial with k trials and probability 2 / (2 + t), and prove that k = 1/2 log_3(N t^2 / (t - 1))
balances bias and noise for N samples.
"""

import math
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# The estimate is made for at most MAX_STRETCH * n more samples, and for at most n^2 / 2, where n is
# the number of samples per problem. On simulated problems with many rare paths, it is 10 to 30% too
# low at that limit, 1 to 8% too low for 3 n more samples (n >= 16), and up to 8% off for n more
# samples (n >= 4; up to 30% off for 2 or 3 samples).
MAX_STRETCH = 8


class PathEstimate(NamedTuple):
    """The mean number of new distinct paths per problem.

    ``standard_error`` (None for a single problem) covers the choice of problems and samples, not
    the bias of predicting far ahead. ``chance_next`` is the chance that one more sample has a new
    path (Good-Turing), ``n_samples`` the smallest number of samples of any problem.
    """

    mean: float
    standard_error: float | None
    chance_next: float
    n_samples: int


def expected_new_paths(
    counts: Sequence[Sequence[int]], n_samples: Sequence[int], n_more: int
) -> PathEstimate | None:
    """Estimate the new paths that ``n_more`` samples of every problem would bring.

    ``counts[p]`` holds how often each distinct path of problem p was seen, ``n_samples[p]`` how
    many samples the problem has, right or wrong. Returns None if a problem has fewer than two
    samples or no path was seen. Raises ValueError if the counts of a problem add up to more than
    its samples.

    The estimate for a single problem is noisy and may be negative; only the mean is useful. Noise
    averages out over problems but bias does not, so the order k is computed from N, the number of
    samples of all problems together, rather than from the n of one problem.
    """
    n = np.asarray(n_samples, np.int64)
    flat = np.fromiter(chain.from_iterable(counts), np.int64)
    owner = np.repeat(np.arange(len(n)), [len(of_problem) for of_problem in counts])
    if (np.bincount(owner, flat, minlength=len(n)) > n).any():
        raise ValueError("the counts of a problem add up to more than its samples")
    if len(flat) == 0 or n.min() < 2:
        return None
    values = np.zeros(len(flat))
    for size in np.unique(n).tolist():
        here = n[owner] == size
        values[here] = path_weights(size, n_more / size, int(n.sum()))[flat[here]]
    new = np.bincount(owner, values, minlength=len(n))
    seen_once = np.bincount(owner, flat == 1, minlength=len(n))
    error = float(new.std(ddof=1)) / math.sqrt(len(n)) if len(n) > 1 else None
    return PathEstimate(float(new.mean()), error, float((seen_once / n).mean()), int(n.min()))


def path_weights(n: int, t: float, n_all: int) -> Floats:
    """Return the weight of a path in the estimate for t * n more samples, shape (n + 1,).

    Index i is for a path seen i times in the n samples of its problem; ``n_all`` is the number of
    samples of all problems. The theory assumes a random number of samples. With exactly n, a path
    that nearly every sample has would get the last terms of the series, which are noise: +1 or -1
    at t = 1, depending on whether n is odd. So k is at most n / 2, its only bound for t <= 1.
    """
    order = max(1, n // 2)
    if t > 1:
        order = max(1, min(order, math.floor(math.log(n_all * t**2 / (t - 1), 3) / 2)))
    weights = np.zeros(n + 1)
    weights[1 : order + 1] = smoothed_series(order, t)
    return weights


def smoothed_series(order: int, t: float) -> Floats:
    """Return - (-t)^i P(L >= i) for i = 1 to ``order``, with L binomial of ``order`` trials."""
    from scipy.special import bdtrc  # slow to import

    i = np.arange(1, order + 1)
    series: Floats = -((-t) ** i) * bdtrc(i - 1, order, 2 / (2 + t))
    return series


def describe_estimate(estimate: PathEstimate | None, n_more: int) -> str:
    """Return the estimate as one line; it has no number where that would be a guess."""
    if estimate is None:
        return "no estimate for more samples: it needs two samples per problem and a right one"
    mean, error, chance_next, n = estimate
    chance = f"the next sample finds a new path with probability {chance_next:.1%}"
    furthest = math.floor(n * min(MAX_STRETCH, n / 2))
    if n_more > furthest:
        return (
            f"new paths in {n_more} more samples per problem: too far ahead for an estimate, {n} "
            f"samples reach to {furthest}; {chance}"
        )
    value = f"{mean:.2f}" if error is None else f"{mean:.2f} ± {error:.2f}"
    more = f"{n_more} more samples per problem would bring {value} new paths per problem"
    if n_more > n:
        return f"{more} or somewhat more (smoothed Good-Toulmin); {chance}"
    return f"{more} (Good-Toulmin); {chance}"

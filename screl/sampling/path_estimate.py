"""Is more sampling worth it: how many new distinct paths would more samples of each problem bring?

Paths seen once say how likely a new one is (Good 1953). Good and Toulmin (1956) predict the number
of new ones in m more samples: with t = m / n and f_i the paths seen exactly i times in n samples,
- sum over i of (-t)^i f_i. Beyond t = 1 its terms explode; Orlitsky, Suresh and Wu (PNAS 2016)
multiply them by P(L >= i), where L is binomial of k trials with probability 2 / (2 + t), and prove
that k = 1/2 log_3(N t^2 / (t - 1)) balances bias and noise for N samples.
"""

import math
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# So many times as many samples again are looked ahead at most, and no more than half the samples of
# a problem. On simulated problems with many rare paths the estimate is there 10 to 30 % too low; at
# 3 times 1 to 8 % (from 16 samples on), at once as many up to 8 % off (from 4 samples on; with 2 or
# 3 samples up to 30 %).
MAX_STRETCH = 8


class PathEstimate(NamedTuple):
    """New distinct paths a problem; ``standard_error`` of that mean, None for a single problem.

    The standard error covers the choice of the problems and of their samples, not the bias of
    looking far ahead. ``chance_next``: that one more sample brings a new path (Good-Turing).
    ``n_samples``: of the problem with the fewest.
    """

    mean: float
    standard_error: float | None
    chance_next: float
    n_samples: int


def expected_new_paths(
    counts: Sequence[Sequence[int]], n_samples: Sequence[int], n_more: int
) -> PathEstimate | None:
    """What ``n_more`` samples of every problem would bring; None if nothing can be said.

    ``counts[p]``: how often each distinct path of problem p was seen; ``n_samples[p]``: how many
    samples there are of it, right or wrong. Nothing can be said where a problem has fewer than two,
    or where no path was seen at all. Raises ValueError if counts of a problem add up to more than
    its samples.

    A problem's own estimate is noisy, and may be below 0; only their mean is of use. Noise averages
    out over problems and bias does not. So the order k follows from N, the samples of all problems
    together, and not from the n of one.
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
    """At index i: what a path seen i times in a problem's n samples adds to the estimate for t * n
    more, if ``n_all`` samples of all problems are averaged over. Shape (n + 1,).

    The theory is of a random number of samples. With exactly n a path that nearly every sample has
    would get the last terms, and they are noise: +1 or -1 at t = 1, as n is odd or even. So k is at
    most n / 2, which is also all that bounds it up to t = 1.
    """
    order = max(1, n // 2)
    if t > 1:
        order = max(1, min(order, math.floor(math.log(n_all * t**2 / (t - 1), 3) / 2)))
    weights = np.zeros(n + 1)
    weights[1 : order + 1] = smoothed_series(order, t)
    return weights


def smoothed_series(order: int, t: float) -> Floats:
    """- (-t)^i P(L >= i) for i = 1 to ``order``, L binomial of ``order`` trials."""
    from scipy.special import bdtrc  # takes a fifth of a second

    i = np.arange(1, order + 1)
    series: Floats = -((-t) ** i) * bdtrc(i - 1, order, 2 / (2 + t))
    return series


def describe_estimate(estimate: PathEstimate | None, n_more: int) -> str:
    """The estimate as one line for a terminal; no number where that would be a guess."""
    if estimate is None:
        return "nothing can be said of more samples: it takes two a problem, and one that is right"
    mean, error, chance_next, n = estimate
    chance = f"the next sample finds one with {chance_next:.1%}"
    furthest = math.floor(n * min(MAX_STRETCH, n / 2))
    if n_more > furthest:
        return (
            f"new paths in {n_more} more samples a problem: too far ahead to be told, "
            f"{n} samples reach to {furthest}; {chance}"
        )
    value = f"{mean:.2f}" if error is None else f"{mean:.2f} ± {error:.2f}"
    new = f"{n_more} more samples a problem would bring {value} new paths a problem"
    if n_more > n:
        return f"{new} or somewhat more (smoothed Good-Toulmin); {chance}"
    return f"{new} (Good-Toulmin); {chance}"

"""maj1@k and pass@k for every k at once, from one pool of samples of a problem.

strict: the expected score of the vote of k samples drawn from the pool, exactly. Samples without
an answer are drawn but do not vote; a tie scores 1 / (number of tied answers) if the right one is
among them; where nobody votes the score is 0. So it does not depend on the order of the samples,
and a pool of 100 gives maj1@10 with the precision of all 100.

paper: the vote of the first k samples; a tie goes to the answer seen first (published eval.py).

pass@k is the unbiased estimator of Chen et al. 2021 (arXiv 2107.03374) in both.
"""

import math
from collections import Counter
from collections.abc import Container, Hashable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

# Binomial coefficients of more samples than 1,029 do not fit into a float.
MAX_SAMPLES = 1000

Curve = NDArray[np.float64]  # a score from 0 to 1 at index k - 1


def expected_maj(
    answers: Sequence[Hashable | None], right: Container[Hashable], k_max: int
) -> Curve:
    """maj1@k for k = 1 to ``k_max``, strict: the mean over all k-subsets of ``answers``.

    ``right`` answers vote together. Needs 1 <= k_max <= len(answers) <= MAX_SAMPLES.
    """
    counts = Counter(answer for answer in answers if answer is not None)
    n_right = sum(n for answer, n in counts.items() if answer in right)
    n_wrong = sorted(n for answer, n in counts.items() if answer not in right)
    return _expected_maj(len(answers), n_right, tuple(n_wrong))[:k_max]


def first_k_maj(
    answers: Sequence[Hashable | None], right: Container[Hashable], k_max: int
) -> Curve:
    """maj1@k for k = 1 to ``k_max``, paper: whether the vote of the first k answers is right."""
    counts: Counter[Hashable] = Counter()
    first_at: dict[Hashable, int] = {}
    winner: Hashable | None = None
    scores = np.zeros(k_max)
    for i, answer in enumerate(answers[:k_max]):
        if answer is not None:
            counts[answer] += 1
            first_at.setdefault(answer, i)
            lead = 1 if winner is None else counts[answer] - counts[winner]
            if lead > 0 or (lead == 0 and first_at[answer] < first_at[winner]):
                winner = answer
        scores[i] = winner is not None and winner in right
    return scores


def expected_pass(n: int, n_right: int, k_max: int) -> Curve:
    """pass@k for k = 1 to ``k_max``: the chance that k of n samples hold one of the right ones.

    1 - C(n - n_right, k) / C(n, k). Raises ValueError unless 0 <= n_right <= n and k_max <= n.

    >>> expected_pass(n=4, n_right=2, k_max=3).round(3).tolist()
    [0.5, 0.833, 1.0]
    """
    if not (0 <= n_right <= n and k_max <= n):
        raise ValueError(f"pass@k needs 0 <= c <= n and k <= n, not {n=}, c={n_right}, k={k_max}")
    drawn = np.arange(k_max)
    factors: Curve = (n - n_right - drawn) / (n - drawn)  # from one that is 0 on, so is the product
    return 1.0 - np.multiply.accumulate(factors)


def majority(answers: Sequence[Hashable | None]) -> list[Hashable]:
    """The most frequent answers, the first seen first; more than one if they tie, or none."""
    counts = Counter(answer for answer in answers if answer is not None)
    most = max(counts.values(), default=0)
    return [answer for answer, count in counts.items() if count == most]


@lru_cache(maxsize=2**12)  # problems that are always or never solved have the same few counts
def _expected_maj(n: int, n_right: int, n_wrong: tuple[int, ...]) -> Curve:
    """The curve up to k = n where ``n_right`` of n samples are right and wrong answers have
    ``n_wrong`` votes each.

    Subsets in which the right answer has t votes and wins or ties are counted by a generating
    function in x, whose power is the number of other samples drawn: a wrong answer with at least t
    votes gives fewer than t of them, or t and ties; all other samples are free, (1 + x) each. All
    terms are positive, so that nothing is lost in floating point.
    """
    score = np.zeros(n + 1)
    for t in range(1, n_right + 1):
        rivals = [count for count in n_wrong if count >= t]
        n_free = n - n_right - sum(rivals)
        ways = np.convolve(_ways_of_rivals(rivals, t), _binomials(n_free))
        score[t : t + len(ways)] += math.comb(n_right, t) * ways
    return np.minimum(score / _binomials(n), 1.0)[1:]


def _ways_of_rivals(rivals: Sequence[int], t: int) -> Curve:
    """At index d: the ways to draw d votes of ``rivals``, none of which gets more than t; each way
    counts 1 / (1 + number of rivals with t votes), the right answer's share of the tie."""
    ways: np.ndarray = np.ones((1, 1))  # [number of rivals that tie, number of votes]
    for count in rivals:
        n_ties, n_votes = ways.shape
        wider = np.zeros((n_ties + 1, n_votes + t))
        wider[:-1, :n_votes] = ways
        # one convolution for all rows: each has room enough not to run into the next
        fewer = np.convolve(wider.ravel(), _binomials(count)[:t])[: wider.size]
        tied = ways * math.comb(count, t)
        ways = fewer.reshape(wider.shape)
        ways[1:, t:] += tied
    shared: Curve = (ways / np.arange(1, len(ways) + 1)[:, None]).sum(axis=0)
    return shared


@lru_cache(maxsize=MAX_SAMPLES + 1)
def _binomials(n: int) -> Curve:
    """C(n, 0) to C(n, n)."""
    return np.array([math.comb(n, i) for i in range(n + 1)], np.float64)

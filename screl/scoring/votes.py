"""Compute maj1@k and pass@k for every k at once, from one pool of samples per problem.

strict: the exact expected score of a vote among k samples drawn from the pool without replacement.
A sample without an answer can be drawn but does not vote. A tie scores 1 / (number of tied answers)
if the right answer is among them; if no sample votes, the score is 0. The score does not depend on
the order of the samples, and maj1@10 from a pool of 100 has the precision of all 100.

paper: the vote of the first k samples; the answer seen first wins a tie (published eval.py).

pass@k is the unbiased estimator of Chen et al. 2021 (arXiv 2107.03374) in both.
"""

import math
from collections import Counter
from collections.abc import Container, Hashable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

# C(n, n / 2) overflows a float for n > 1,029.
MAX_SAMPLES = 1000

Curve = NDArray[np.float64]  # scores from 0 to 1; k is at index k - 1


def expected_maj(
    answers: Sequence[Hashable | None], right: Container[Hashable], k_max: int
) -> Curve:
    """Return strict maj1@k for k = 1 to ``k_max``: the mean over all k-subsets of ``answers``.

    All answers in ``right`` count as one. Requires 1 <= k_max <= len(answers) <= MAX_SAMPLES.
    """
    counts = Counter(answer for answer in answers if answer is not None)
    n_right = sum(n for answer, n in counts.items() if answer in right)
    n_wrong = sorted(n for answer, n in counts.items() if answer not in right)
    return _expected_maj(len(answers), n_right, tuple(n_wrong))[:k_max]


def first_k_maj(
    answers: Sequence[Hashable | None], right: Container[Hashable], k_max: int
) -> Curve:
    """Return the paper's maj1@k for k = 1 to ``k_max``: 1 where the first k answers vote right."""
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
    """Return pass@k for k = 1 to ``k_max``: the chance that k of n samples include a right one.

    The chance is 1 - C(n - n_right, k) / C(n, k). Raises ValueError unless 0 <= n_right <= n and
    k_max <= n.

    >>> expected_pass(n=4, n_right=2, k_max=3).round(3).tolist()
    [0.5, 0.833, 1.0]
    """
    if not (0 <= n_right <= n and k_max <= n):
        raise ValueError(f"pass@k needs 0 <= c <= n and k <= n, not {n=}, c={n_right}, k={k_max}")
    n_drawn = np.arange(k_max)
    factors: Curve = (n - n_right - n_drawn) / (n - n_drawn)  # once one is 0, the product stays 0
    return 1.0 - np.multiply.accumulate(factors)


def majority(answers: Sequence[Hashable | None]) -> list[Hashable]:
    """Return the most frequent answers, more than one for a tie, in order; [] if none votes."""
    counts = Counter(answer for answer in answers if answer is not None)
    most = max(counts.values(), default=0)
    return [answer for answer, count in counts.items() if count == most]


@lru_cache(maxsize=2**12)  # problems that are always or never solved share a few counts
def _expected_maj(n: int, n_right: int, n_wrong: tuple[int, ...]) -> Curve:
    """Return the curve up to k = n for ``n_right`` right samples and wrong answers by ``n_wrong``.

    ``n_wrong`` holds the votes of each wrong answer. The subsets in which the right answer has t
    votes and wins or ties are counted by a generating function in x, whose exponent is the number
    of other samples drawn. A wrong answer with at least t votes contributes fewer than t of them,
    or t and ties; any other sample contributes a factor of (1 + x). All terms are positive, so no
    precision is lost to cancellation.
    """
    score = np.zeros(n + 1)
    for t in range(1, n_right + 1):
        rivals = [count for count in n_wrong if count >= t]
        n_free = n - n_right - sum(rivals)
        ways = np.convolve(_ways_of_rivals(rivals, t), _binomials(n_free))
        score[t : t + len(ways)] += math.comb(n_right, t) * ways
    return np.minimum(score / _binomials(n), 1.0)[1:]


def _ways_of_rivals(rivals: Sequence[int], t: int) -> Curve:
    """Return, at index d, the ways to draw d votes from ``rivals`` with at most t from each.

    Each way counts 1 / (1 + number of rivals with t votes), the right answer's share of the tie.
    """
    ways: np.ndarray = np.ones((1, 1))  # (rivals that tie, votes drawn)
    for count in rivals:
        n_ties, n_votes = ways.shape
        wider = np.zeros((n_ties + 1, n_votes + t))
        wider[:-1, :n_votes] = ways
        # one convolution for all rows, which are wide enough not to run into each other
        fewer = np.convolve(wider.ravel(), _binomials(count)[:t])[: wider.size]
        tied = ways * math.comb(count, t)
        ways = fewer.reshape(wider.shape)
        ways[1:, t:] += tied
    shared: Curve = (ways / np.arange(1, len(ways) + 1)[:, None]).sum(axis=0)
    return shared


@lru_cache(maxsize=MAX_SAMPLES + 1)
def _binomials(n: int) -> Curve:
    """Return C(n, 0) to C(n, n)."""
    return np.array([math.comb(n, i) for i in range(n + 1)], np.float64)

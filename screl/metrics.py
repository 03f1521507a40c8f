"""maj1@K, pass@K and their uncertainty. Scores are per problem, from 0 to 1; output is percent."""

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from screl.answers import SCORING_TOLERANCE, Answer, Fidelity, is_correct


@dataclass(frozen=True, slots=True)
class Metric:
    """A mean over problems. ``value`` and ``standard_error`` are in percent.

    ``standard_error`` is None for a single problem. ``n_correct`` is the sum of the scores where
    that is a whole number, None elsewhere.
    """

    value: float
    standard_error: float | None
    n_correct: int | None


def majority_answers(answers: Sequence[Answer | None]) -> list[Answer]:
    """The most frequent answers, the first seen first; more than one if they tie.

    No answer is no vote. Fractions are counted as numbers, the paper's texts as texts: there "18"
    and "18.0" are two candidates. Empty if nobody votes.
    """
    counts = Counter(answer for answer in answers if answer is not None)
    most = max(counts.values(), default=0)
    return [answer for answer, count in counts.items() if count == most]


def maj_at_k(answers: Sequence[Answer | None], gold: Answer, fidelity: Fidelity) -> float:
    """The score of one problem under the vote of its ``answers`` (maj1@K, K their number).

    paper: a tie goes to the answer seen first, right within 0.0001 (published eval.py).
    strict: a tie gives the share of the tied answers that is right, whatever their order.
    """
    winners = majority_answers(answers)
    if not winners:
        return 0.0
    if fidelity == "paper":
        winners = winners[:1]
    return statistics.mean(float(is_correct(w, gold, SCORING_TOLERANCE)) for w in winners)


def pass_at_k(n: int, c: int, k: int) -> float:
    """The chance that k of n samples, c of them right, hold a right one (Chen et al. 2021).

    The unbiased estimator 1 - C(n-c, k) / C(n, k). Raises ValueError unless 0 <= c <= n and
    1 <= k <= n.

    >>> pass_at_k(n=4, c=2, k=2)
    0.8333333333333334
    """
    if not (0 <= c <= n and 1 <= k <= n):
        raise ValueError(f"pass@k needs 0 <= c <= n and 1 <= k <= n, not n={n}, c={c}, k={k}")
    return 1.0 - math.comb(n - c, k) / math.comb(n, k)


def mean_over_problems(scores: Sequence[float]) -> Metric:
    """Mean and standard error, in percent, of scores from 0 to 1, one for each problem.

    The standard error is over problems: sample standard deviation (n - 1) over the root of n.
    Raises ValueError if there is no score.
    """
    total = round(math.fsum(scores), 9)  # thirds from ties may add up to a whole number
    return Metric(
        value=100 * statistics.fmean(scores),
        standard_error=_standard_error(scores),
        n_correct=int(total) if total.is_integer() else None,
    )


def paired_difference(a: Sequence[float], b: Sequence[float]) -> tuple[float, float | None]:
    """Mean of a - b and its standard error over problems, in percent, for scores from 0 to 1.

    Problem by problem, so that what makes a problem hard for both does not count as noise. Raises
    ValueError if the two are not about equally many problems, or about none.
    """
    differences = [x - y for x, y in zip(a, b, strict=True)]
    return 100 * statistics.fmean(differences), _standard_error(differences)


def _standard_error(scores: Sequence[float]) -> float | None:
    """In percent; None for fewer than two scores."""
    if len(scores) < 2:
        return None
    return 100 * statistics.stdev(scores) / math.sqrt(len(scores))

"""Two runs over the same problems: is one better, on which problems, and could it be chance?

Everything is paired problem by problem, so that what makes a problem hard for both runs does not
count as noise.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from screl.metrics import Floats, Interval, bootstrap_intervals, mean_and_error
from screl.scoring import RunScore


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


def is_comparable(first: RunScore, second: RunScore) -> bool:
    """Whether both scored the same problems of the same data, and by the same rules."""
    ids = [[problem.problem_id for problem in score.problems] for score in (first, second)]
    return (first.data_path, first.rules, ids[0]) == (second.data_path, second.rules, ids[1])


def common_metrics(scores: Sequence[RunScore]) -> list[str]:
    """The headline metrics that all have, at the least of their K."""
    k = min(score.n_samples for score in scores)
    return [name for name in scores[0].headline(k) if all(name in s.scores for s in scores)]


def compare_runs(first: RunScore, second: RunScore) -> dict[str, Difference]:
    """``second - first`` in every headline metric that both have."""
    names = common_metrics([first, second])
    return {name: compare(first.scores[name], second.scores[name]) for name in names}


def changed_problems(first: RunScore, second: RunScore) -> Iterator[dict[str, Any]]:
    """A row for every problem whose score in a vote (or of a single sample) is another.

    ``first`` and ``second`` are scores from 0 to 1; the answers are what the runs, or their votes,
    say: "18", or "18 or 20" for a tie, "" where nobody votes; None where the runs have different K
    and fewer samples are compared than vote.
    """
    common = common_metrics([first, second])
    for name in [n for n in common if n.startswith("maj1@")] or common[:1]:
        unknown = [None] * len(first.problems)
        rows = zip(
            *(first.problems, first.scores[name], second.scores[name]),
            *(first.winners.get(name, unknown), second.winners.get(name, unknown)),
            strict=True,
        )
        for problem, a, b, first_answer, second_answer in rows:
            if a != b:
                yield {
                    "problem_id": problem.problem_id,
                    "metric": name,
                    "run": second.run,
                    "first": float(a),
                    "second": float(b),
                    "first_answer": first_answer,
                    "second_answer": second_answer,
                }

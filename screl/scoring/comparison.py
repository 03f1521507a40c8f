"""Two runs over the same problems: is one better, and on which problems?"""

from collections.abc import Iterator, Sequence
from typing import Any

from screl.scoring.score import RunScore
from screl.scoring.statistics import Difference, compare


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

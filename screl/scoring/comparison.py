"""Compare runs over the same problems: one with another, or the seeds of two recipes."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from screl.core.io import UserError
from screl.scoring.score import RunScore
from screl.scoring.statistics import (
    Difference,
    Floats,
    SeedMean,
    SeedSpread,
    compare,
    difference_over_seeds,
    mean_over_seeds,
    spread_over_seeds,
)


def is_comparable(first: RunScore, second: RunScore) -> bool:
    """Return whether both runs scored the same problems of the same data with the same rules."""
    ids = [[problem.problem_id for problem in score.problems] for score in (first, second)]
    return (first.data_path, first.rules, ids[0]) == (second.data_path, second.rules, ids[1])


def common_metrics(scores: Sequence[RunScore]) -> list[str]:
    """Return the headline metrics that all runs have, at the smallest of their K."""
    k = min(score.n_samples for score in scores)
    return [name for name in scores[0].headline(k) if all(name in s.scores for s in scores)]


def compare_runs(first: RunScore, second: RunScore) -> dict[str, Difference]:
    """Return ``second - first`` in each headline metric that both have."""
    names = common_metrics([first, second])
    return {name: compare(first.scores[name], second.scores[name]) for name in names}


def compare_with_first(scores: Sequence[RunScore]) -> list[dict[str, Difference] | None]:
    """Return the differences of each later run from the first; None if they are not comparable."""
    first, others = scores[0], scores[1:]
    return [compare_runs(first, o) if is_comparable(first, o) else None for o in others]


def changed_problems(first: RunScore, second: RunScore) -> Iterator[dict[str, Any]]:
    """Yield a row for each problem whose score in a vote (or of a single sample) differs.

    In a row, ``first`` and ``second`` are scores from 0 to 1. The answers are those of the runs or
    of their votes: "18", "18 or 20" for a tie, "" where no sample votes. They are None where K
    differs and the compared scores are for fewer samples than a run has.
    """
    common = common_metrics([first, second])
    for name in [n for n in common if n.startswith("maj1@")] or common[:1]:
        unknown = [None] * len(first.problems)
        rows = zip(
            *(first.problems, first.scores[name], second.scores[name]),
            *(first.winners.get(name, unknown), second.winners.get(name, unknown)),
            strict=True,
        )
        for problem, first_score, second_score, first_answer, second_answer in rows:
            if first_score != second_score:
                yield {
                    "problem_id": problem.problem_id,
                    "metric": name,
                    "run": second.run,
                    "first": float(first_score),
                    "second": float(second_score),
                    "first_answer": first_answer,
                    "second_answer": second_answer,
                }


def changes_from_first(scores: Sequence[RunScore]) -> Iterator[dict[str, Any]]:
    """Yield the changed problems of each later run that is comparable with the first."""
    for score in scores[1:]:
        if is_comparable(scores[0], score):
            yield from changed_problems(scores[0], score)


def check_seeds(seeds: Sequence[RunScore], baseline: Sequence[RunScore]) -> None:
    """Raise UserError unless all runs scored the same problems, two or more."""
    for score in [*seeds, *baseline]:
        if not is_comparable(seeds[0], score):
            raise UserError(
                f"{score.run}: scored other problems than {seeds[0].run}; sample all seeds of a "
                "recipe, and of its baseline, for the same problems"
            )
    if len(seeds[0].problems) < 2:
        raise UserError(f"{seeds[0].data_path}: a single problem has no spread; give two or more")


def summarize_seeds(seeds: Sequence[RunScore]) -> dict[str, tuple[SeedMean, SeedSpread]]:
    """Return the mean and spread of each headline metric over the seeds of one recipe."""
    by_metric = _stack(seeds, common_metrics(seeds))
    return {name: (mean_over_seeds(s), spread_over_seeds(s)) for name, s in by_metric.items()}


def compare_seeds(baseline: Sequence[RunScore], seeds: Sequence[RunScore]) -> dict[str, SeedMean]:
    """Return ``seeds - baseline`` in each headline metric that all runs of both recipes have."""
    names = common_metrics([*baseline, *seeds])
    old, new = _stack(baseline, names), _stack(seeds, names)
    return {name: difference_over_seeds(old[name], new[name]) for name in names}


def _stack(seeds: Sequence[RunScore], names: Sequence[str]) -> dict[str, Floats]:
    """Return the scores by metric, (seeds, problems)."""
    return {name: np.stack([score.scores[name] for score in seeds]) for name in names}

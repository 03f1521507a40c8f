"""Rejection sampling: of a problem's samples keep one right, valid completion per equation path.

arXiv 2308.01825, Section 3.3 and Algorithm 1 of Appendix A.3.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cache

from rapidfuzz.distance import Levenshtein

from screl.answers import Answer, Fidelity, extract_answer, is_correct
from screl.equations import equation_path, has_valid_equations
from screl.table import format_table

FUNNEL_LABELS = {
    "n_sampled": "sampled",
    "n_answered": "with an answer",
    "n_right": "right",
    "n_valid": "right, all equations hold",
    "n_distinct": "distinct paths, kept",
    "n_distinct_with_solution": "distinct paths, solution's included",
}


@dataclass(frozen=True, slots=True)
class Funnel:
    """How many samples of one problem (or of all, see add_funnels) pass each step."""

    n_sampled: int
    n_answered: int
    n_right: int  # the paper's Table 1, per problem
    n_valid: int  # right, and every equation holds
    n_distinct: int  # kept
    n_distinct_with_solution: int  # paths among the kept ones and the solution: Table 2


@dataclass(frozen=True, slots=True)
class Selection:
    """What is kept of one problem's samples, and the counts on the way."""

    completions: list[str]
    funnel: Funnel


def reject_samples(
    completions: Sequence[str], solution: str, gold: Answer, fidelity: Fidelity
) -> Selection:
    """Keep the right completions whose equations hold, one for each distinct path.

    paper: in the order of arrival, and the solution's own path may be sampled again, as published.
    strict: in the order of their text, so that the order of arrival does not matter, and the
    solution's path counts as known: a sample that repeats it is not kept.
    """
    answers = [extract_answer(completion, fidelity) for completion in completions]
    right = [
        completion
        for completion, answer in zip(completions, answers, strict=True)
        if is_correct(answer, gold)
    ]
    valid = [completion for completion in right if has_valid_equations(completion, fidelity)]
    solution_path = equation_path(solution)
    if fidelity == "strict":
        kept = select_distinct_paths(sorted(set(valid)), known_paths={solution_path})
    else:
        kept = select_distinct_paths(valid)
    funnel = Funnel(
        n_sampled=len(completions),
        n_answered=sum(answer is not None for answer in answers),
        n_right=len(right),
        n_valid=len(valid),
        n_distinct=len(kept),
        n_distinct_with_solution=len({solution_path, *map(equation_path, kept)}),
    )
    return Selection(kept, funnel)


def select_distinct_paths(completions: Iterable[str], known_paths: Iterable[str] = ()) -> list[str]:
    """One completion for each equation path that is not in ``known_paths``: Algorithm 1 of A.3.

    The first completion of a path represents it. A later one takes its place if its Levenshtein
    distances to the other kept completions add up to strictly more. "Other" is by text, as
    published: those that differ from the present representative.
    """
    ignored = set(known_paths)
    distance = cache(Levenshtein.distance)  # a representative is compared again and again

    def total_distance(text: str, others: Iterable[str]) -> int:
        return sum(distance(text, other) for other in others)

    kept: dict[str, str] = {}  # path -> its representative, in the order of the paths' arrival
    for completion in completions:
        path = equation_path(completion)
        if path in ignored:
            continue
        current = kept.setdefault(path, completion)
        if current == completion:
            continue
        others = [other for other in kept.values() if other != current]
        if total_distance(completion, others) > total_distance(current, others):
            kept[path] = completion
    return list(kept.values())


def add_funnels(funnels: Iterable[Funnel]) -> Funnel:
    """The sum of every count."""
    rows = list(funnels)
    return Funnel(**{f.name: sum(getattr(row, f.name) for row in rows) for f in fields(Funnel)})


def funnel_table(funnel: Funnel, n_problems: int) -> str:
    """The counts as a table: in all, and per problem."""
    rows = [["", "total", "per problem"]]
    for name, label in FUNNEL_LABELS.items():
        count = getattr(funnel, name)
        rows.append([label, str(count), f"{count / n_problems:.2f}"])
    return format_table(rows)

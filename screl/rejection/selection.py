"""Select which of a problem's valid completions to keep: one per equation path, or a control.

``paper`` uses Algorithm 1 of Appendix A.3 in arXiv 2308.01825, whose result depends on the order of
samples; ``strict`` takes a maximum, which does not depend on the order.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Literal, NamedTuple

from rapidfuzz.distance import Levenshtein

from screl.samples.store import Sample

Keep = Literal["distinct", "all", "random_rows", "random_tokens"]


class Candidate(NamedTuple):
    """A valid sample, its equation path, and its run: ``source`` is the run's position."""

    sample: Sample
    path: str
    source: int

    @property
    def text(self) -> str:
        """The sample's completion."""
        return self.sample.completion

    @property
    def length(self) -> int:
        """The sample's length in tokens or, if that is not known, in characters."""
        n_tokens = self.sample.n_tokens
        return len(self.text) if n_tokens is None else n_tokens

    @property
    def order(self) -> tuple[str, int, int]:
        """The key that breaks ties between candidates."""
        return self.text, self.source, self.sample.sample_id


def select_as_published(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Select one candidate per equation path by Algorithm 1 of Appendix A.3.

    A path's first candidate represents it. A later one replaces it if the sum of its Levenshtein
    distances to the other representatives is strictly larger. As published, the "other" ones are
    those whose text differs from the current representative's text.
    """
    chosen: dict[str, Candidate] = {}
    lines: dict[str, list[str]] = {}  # each representative's lines
    far: dict[str, dict[str, int]] = {}  # far[p][q]: distance of the representatives of p and q
    lost: set[str] = set()  # texts that cannot win until a representative changes
    line_distance = cache(Levenshtein.distance)  # a problem's samples share many lines

    for candidate in candidates:
        path, text = candidate.path, candidate.text
        current = chosen.get(path)
        text_lines = text.split("\n")
        if current is not None:
            if current.text == text or text in lost:
                continue
            to_beat, bound = sum(far[path].values()), 0
            for other in far[path]:
                bound += distance_bound(text_lines, lines[other], line_distance)
            if bound <= to_beat:
                lost.add(text)
                continue
        others = [other for other in chosen if other != path]
        distances = {other: Levenshtein.distance(text, chosen[other].text) for other in others}
        if current is not None and sum(distances.values()) <= to_beat:
            lost.add(text)
            continue
        chosen[path], lines[path], far[path] = candidate, text_lines, distances
        for other, distance in distances.items():
            far[other][path] = distance
        lost.clear()
    return list(chosen.values())


def distance_bound(
    a: Sequence[str], b: Sequence[str], line_distance: Callable[[str, str], int]
) -> int:
    """Return an upper bound on the Levenshtein distance between two texts, given as lines.

    The bound is the cost of editing line by line. It is usually close to the distance and much
    cheaper to compute, because lines are short and ``line_distance`` may be a cache.
    """
    total = sum(map(line_distance, a, b))
    if len(a) != len(b):
        n = min(len(a), len(b))
        total += sum(len(line) + 1 for line in (*a[n:], *b[n:]))
    return total


def select_farthest(
    candidates: Iterable[Candidate], solution: str, solution_path: str | None
) -> list[Candidate]:
    """Select the candidate farthest from ``solution`` for each path but the solution's own.

    Distances are Levenshtein. Ties go to the smallest text, then to the first source and sample.
    Because it is a maximum, the result depends neither on the order of samples nor on the order of
    runs. It is sorted by path.
    """
    best: dict[str, tuple[int, Candidate]] = {}
    for candidate in candidates:
        if candidate.path == solution_path:
            continue
        far = Levenshtein.distance(candidate.text, solution)
        current = best.get(candidate.path)
        if current is None or (-far, candidate.order) < (-current[0], current[1].order):
            best[candidate.path] = (far, candidate)
    return [best[path][1] for path in sorted(best)]


def select_at_random(
    candidates: Sequence[Candidate], chosen: Sequence[Candidate], keep: Keep, seed: str
) -> list[Candidate]:
    """Select random candidates as a control: as many rows, or tokens, as ``chosen`` has.

    ``random_tokens`` shuffles the candidates and takes the first ones, as many as bring the total
    length nearest to that of ``chosen``.
    """
    order = list(candidates)
    random.Random(seed).shuffle(order)
    if keep == "random_rows":
        return order[: len(chosen)]
    wanted, total = sum(candidate.length for candidate in chosen), 0
    for n_taken, candidate in enumerate(order):
        if total + candidate.length / 2 >= wanted:  # as near without it as with it
            return order[:n_taken]
        total += candidate.length
    return order

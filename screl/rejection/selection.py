"""Which of a problem's right and valid completions are kept: one for each equation path, or others.

arXiv 2308.01825, Algorithm 1 of Appendix A.3, an order-independent form of it, and random controls.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Literal, NamedTuple

from rapidfuzz.distance import Levenshtein

from screl.grading.equations import equation_path
from screl.samples.store import Sample

Keep = Literal["distinct", "all", "random_rows", "random_tokens"]


class Candidate(NamedTuple):
    """A right and valid sample with its equation path. ``source`` is the place of its run among
    the runs."""

    sample: Sample
    path: str
    source: int

    @property
    def text(self) -> str:
        """Return the completion."""
        return self.sample.completion

    @property
    def order(self) -> tuple[str, int, int]:
        """Return what decides between candidates that are otherwise equal."""
        return self.text, self.source, self.sample.sample_id


def select_as_published(
    candidates: Iterable[Candidate], kept: Sequence[Candidate] = ()
) -> list[Candidate]:
    """One candidate for each equation path: Algorithm 1 of A.3.

    The first candidate of a path represents it. A later one takes its place if its Levenshtein
    distances to the other kept texts add up to strictly more. "Other" is by text, as published:
    those that differ from the present representative.
    """
    chosen: dict[str, Candidate] = {}
    lines: dict[str, list[str]] = {}  # of the representatives
    far: dict[str, dict[str, int]] = {}  # far[p][q]: distance of the representatives of p and q
    lost: set[str] = set()  # texts that did not win, until a representative changes
    line_distance = cache(Levenshtein.distance)  # samples of a problem share many lines

    for candidate in (*kept, *candidates):
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
    """At least the Levenshtein distance of two texts, given as lines: that of editing line by line.

    Mostly close to it, and much cheaper, as lines are short and ``line_distance`` may be a cache.
    """
    total = sum(map(line_distance, a, b))
    if len(a) != len(b):
        n = min(len(a), len(b))
        total += sum(len(line) + 1 for line in (*a[n:], *b[n:]))
    return total


def select_farthest(
    candidates: Iterable[Candidate], solution: str, kept: Sequence[Candidate] = ()
) -> list[Candidate]:
    """For each path but the solution's, the text with the largest Levenshtein distance to it.

    Of texts equally far the smallest, of equal texts the first source and sample. This is a
    maximum, so that neither the order of samples nor that of runs matters. In the order of paths.
    """
    solution_path = equation_path(solution, "strict")
    best: dict[str, tuple[int, Candidate]] = {}
    for candidate in (*kept, *candidates):
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
    """A control: random candidates, distinct or not, as many as ``chosen`` or of as many tokens.

    For tokens (characters, where those are not known) as many as come nearest to them, in a random
    order of the candidates.
    """
    order = list(candidates)
    random.Random(seed).shuffle(order)
    if keep == "random_rows":
        return order[: len(chosen)]
    wanted, total = sum(map(length, chosen)), 0
    for n_taken, candidate in enumerate(order):
        if total + length(candidate) / 2 >= wanted:  # without it is as near as with it
            return order[:n_taken]
        total += length(candidate)
    return order


def length(candidate: Candidate) -> int:
    """In tokens, or in characters where tokens are not known."""
    n_tokens = candidate.sample.n_tokens
    return len(candidate.text) if n_tokens is None else n_tokens

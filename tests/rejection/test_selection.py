"""The selection of one completion per path, against references written from the rule alone."""

import random
from collections.abc import Callable
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from screl.core.problems import Problem
from screl.grading.equations import equation_path
from screl.rejection.filter import FilterRules, filter_problem
from screl.rejection.selection import (
    Candidate,
    distance_bound,
    select_as_published,
    select_at_random,
    select_farthest,
)
from screl.samples.store import Sample

SOLUTION = "Together <<1+2=3>>3.\n#### 3"
PATH = "1+2=3"


def edit_distance(a: str, b: str) -> int:
    """Return the Levenshtein distance by the textbook recurrence."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        previous, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (x != y))
    return row[-1]


def algorithm_1(completions: list[str]) -> list[str]:
    """Select as Appendix A.3 describes it, word for word."""
    keys: list[str] = []
    kept: list[str] = []
    for text in completions:
        key = equation_path(text)
        if key not in keys:
            keys.append(key)
            kept.append(text)
            continue
        slot = keys.index(key)
        now = kept[slot]
        others = [other for other in kept if other != now]
        if sum(edit_distance(text, o) for o in others) > sum(edit_distance(now, o) for o in others):
            kept[slot] = text
    return kept


def candidates(texts: list[str], source: int = 0) -> list[Candidate]:
    return [Candidate(Sample("p", i, t), equation_path(t), source) for i, t in enumerate(texts)]


def published(texts: list[str]) -> list[str]:
    return [candidate.text for candidate in select_as_published(candidates(texts))]


texts = st.lists(
    st.builds(
        lambda head, path, tail: f"{head}<<{path}>>{tail}",
        st.text("ab\n", max_size=4),
        st.sampled_from(["1+2=3", "2+1=3", "3=3", "4-1=3"]),
        st.text("abc\n", max_size=5),
    ),
    max_size=14,
)


@given(texts)
def test_selection_is_algorithm_1(completions: list[str]) -> None:
    assert published(completions) == algorithm_1(completions)


def test_the_later_completion_wins_only_if_strictly_farther() -> None:
    other = "<<2+1=3>>zz"
    near, far, as_near = "<<1+2=3>>zz", "<<1+2=3>>abcdef", "<<1+2=3>>zy"
    assert published([near, other, far]) == [far, other]
    assert published([far, other, near]) == [far, other]
    assert published([as_near, other, "<<1+2=3>>yz"]) == [as_near, other]
    # alone, every distance sum is zero: the first stays
    assert published([near, far]) == [near]
    # a text that has lost may win once there are others to be far from
    assert published([near, far, other, far]) == [far, other]


@given(st.text("ab\n", max_size=30), st.text("abc\n", max_size=30))
def test_the_bound_is_never_below_the_distance(a: str, b: str) -> None:
    bound = distance_bound(a.split("\n"), b.split("\n"), cache(Levenshtein.distance))
    assert bound >= edit_distance(a, b)
    if "\n" not in a + b:
        assert bound == edit_distance(a, b)


def test_an_extra_line_costs_its_characters_and_a_line_break() -> None:
    for a, b, bound in ((["a", "bc"], ["a"], 3), (["ab"], ["b", "c", ""], 4)):
        assert distance_bound(a, b, cache(Levenshtein.distance)) == bound


def test_no_distance_is_computed_for_a_text_that_cannot_win(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bounds, distances = [], []

    class Counting:
        @staticmethod
        def distance(a: str, b: str) -> int:
            if "\n" in a:  # a text, not a line
                distances.append(a)
            return Levenshtein.distance(a, b)

    def counting_bound(a: list[str], b: list[str], line_distance: Callable[[str, str], int]) -> int:
        bounds.append("\n".join(a))
        return distance_bound(a, b, line_distance)

    monkeypatch.setattr("screl.rejection.selection.Levenshtein", Counting)
    monkeypatch.setattr("screl.rejection.selection.distance_bound", counting_bound)
    first, other = "<<1+2=3>>\nabcdef", "<<2+1=3>>\nzz"
    as_far = "<<1+2=3>>\nabcdeg"  # the bound rules it out
    shifted = "\n<<1+2=3>>\nzz"  # close to the other text, but not line by line
    assert published([first, other, first, *[as_far] * 2, *[shifted] * 2]) == [first, other]
    assert bounds == [as_far, shifted]
    assert distances == [other, shifted]


def farthest(completions: list[str]) -> list[str]:
    """Select by the strict rule: farthest from the solution, ties to the smallest text."""
    by_path: dict[str, list[str]] = {}
    for text in completions:
        by_path.setdefault(equation_path(text), []).append(text)
    by_path.pop("1+2=3", None)
    return [
        min(by_path[path], key=lambda text: (-edit_distance(text, SOLUTION), text))
        for path in sorted(by_path)
    ]


@given(texts)
def test_strict_keeps_the_farthest_from_the_solution(completions: list[str]) -> None:
    kept = select_farthest(candidates(completions), SOLUTION, PATH)
    assert [candidate.text for candidate in kept] == farthest(completions)


@given(texts, texts, st.randoms(use_true_random=False))
def test_strict_does_not_depend_on_the_order(
    a: list[str], b: list[str], rng: random.Random
) -> None:
    everything = [*candidates(a, source=0), *candidates(b, source=1)]
    shuffled = rng.sample(everything, len(everything))
    assert select_farthest(everything, SOLUTION, PATH) == select_farthest(shuffled, SOLUTION, PATH)


def test_of_equal_texts_the_first_run_and_sample_is_kept() -> None:
    (kept,) = select_farthest(
        [*candidates(["<<2+1=3>>"] * 2, source=1), *candidates(["<<2+1=3>>"] * 2, source=0)],
        SOLUTION,
        PATH,
    )
    assert (kept.source, kept.sample.sample_id) == (0, 0)


def test_strict_compares_paths_with_the_solution_s_strict_path() -> None:
    texts = ["a <<1+2=3>>\n#### 3", "b <<2+1=3>>\n#### 3"]
    problem = Problem(0, "q", "Together <<$1 + $2 = $3>>3.\n#### 3", 1)
    samples = [Sample("p", i, text) for i, text in enumerate(texts)]
    kept = filter_problem(problem, [samples], FilterRules("strict")).kept
    assert [candidate.text for candidate in kept] == texts[1:]


def pool(n_tokens: list[int]) -> list[Candidate]:
    return [Candidate(Sample("p", i, f"text {i}", n), "p", 0) for i, n in enumerate(n_tokens)]


def test_random_rows_are_as_many_and_depend_on_the_seed() -> None:
    everything = pool([10, 1000] * 15)
    chosen = everything[:14:2]
    kept = select_at_random(everything, chosen, "random_rows", "0 a")
    assert len({candidate.sample.sample_id for candidate in kept}) == 7
    assert kept == select_at_random(everything, chosen, "random_rows", "0 a")
    assert kept != select_at_random(everything, chosen, "random_rows", "1 a")


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(0, 30))
def test_random_tokens_get_as_near_as_the_order_allows(lengths: list[int], n: int) -> None:
    everything = pool(lengths)
    chosen = everything[:n]
    kept = select_at_random(everything, chosen, "random_tokens", "seed")
    order = select_at_random(everything, everything, "random_rows", "seed")
    wanted = sum(candidate.length for candidate in chosen)
    misses = [abs(sum(c.length for c in order[:m]) - wanted) for m in range(len(order) + 1)]
    assert kept == order[: len(kept)]
    assert misses[len(kept)] == min(misses)


def test_of_two_equally_near_totals_the_smaller_is_taken() -> None:
    assert len(select_at_random(pool([4] * 3), pool([6]), "random_tokens", "s")) == 1


def test_characters_count_where_tokens_are_not_known() -> None:
    everything = [Candidate(Sample("p", i, "x" * 10), "p", 0) for i in range(9)]
    assert len(select_at_random(everything, everything[:4], "random_tokens", "s")) == 4
    assert everything[0].length == 10
    assert Candidate(Sample("p", 0, "x" * 10, 7), "p", 0).length == 7

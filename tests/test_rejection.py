"""The filter and the choice of one completion per path."""

import random
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from screl.equations import equation_path
from screl.rejection import Funnel, add_funnels, reject_samples, select_distinct_paths

SOLUTION = "Together <<1+2=3>>3.\n#### 3"


def edit_distance(a: str, b: str) -> int:
    """The textbook recurrence, to check against."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        previous, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (x != y))
    return row[-1]


def algorithm_1(completions: list[str]) -> list[str]:
    """The published selection, word for word from its description in A.3."""
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


texts = st.lists(
    st.builds(
        lambda head, path, tail: f"{head}<<{path}>>{tail}",
        st.text("ab", max_size=3),
        st.sampled_from(["1+2=3", "2+1=3", "3=3"]),
        st.text("abc", max_size=4),
    ),
    max_size=10,
)


@given(texts)
def test_selection_is_algorithm_1(completions: list[str]) -> None:
    assert select_distinct_paths(completions) == algorithm_1(completions)


def test_the_later_completion_wins_only_if_strictly_farther() -> None:
    other = "<<2+1=3>>zz"
    near, far, as_near = "<<1+2=3>>zz", "<<1+2=3>>abcdef", "<<1+2=3>>zy"
    assert select_distinct_paths([near, other, far]) == [far, other]
    assert select_distinct_paths([far, other, near]) == [far, other]
    assert select_distinct_paths([as_near, other, "<<1+2=3>>yz"]) == [as_near, other]
    # alone, every distance sum is zero: the first stays
    assert select_distinct_paths([near, far]) == [near]


def test_known_paths_are_not_kept() -> None:
    completions = ["<<1+2=3>>", "<<2+1=3>>"]
    assert select_distinct_paths(completions, known_paths={"1+2=3"}) == ["<<2+1=3>>"]


@given(texts, st.integers())
def test_strict_does_not_depend_on_the_order_of_arrival(completions: list[str], seed: int) -> None:
    completions = [text + "\n#### 3" for text in completions]
    shuffled = random.Random(seed).sample(completions, len(completions))
    first = reject_samples(completions, SOLUTION, Fraction(3), "strict")
    assert first == reject_samples(shuffled, SOLUTION, Fraction(3), "strict")
    assert sorted(map(equation_path, first.completions)) == sorted(
        set(map(equation_path, completions)) - {"1+2=3"}
    )


def test_paper_does_depend_on_the_order_and_may_repeat_the_solution() -> None:
    a, b = "a <<1+2=3>>\n#### 3", "b <<1 + 2=3>>\n#### 3"
    assert reject_samples([a, b], SOLUTION, "3", "paper").completions == [a]
    assert reject_samples([b, a], SOLUTION, "3", "paper").completions == [b]


COMPLETIONS = [
    "no answer <<2+1=3>>",
    "wrong <<2+2=4>>\n#### 4",
    "bad arithmetic <<2+2=3>>\n#### 3",
    "solution's path <<1+2=3>>\n#### 3",
    "new path <<2+1=3>>\n#### 3.0",
    "new path again <<2+1=3>>\n#### 3",
    "in dollars <<4-1=3>>\n#### $3",
]


def test_the_funnel_of_both_fidelities() -> None:
    strict = reject_samples(COMPLETIONS, SOLUTION, Fraction(3), "strict")
    assert strict.funnel == Funnel(7, 6, 5, 4, 2, 3)
    assert set(map(equation_path, strict.completions)) == {"2+1=3", "4-1=3"}
    paper = reject_samples(COMPLETIONS, SOLUTION, "3", "paper")
    assert paper.funnel == Funnel(7, 5, 4, 3, 2, 2)
    assert [equation_path(text) for text in paper.completions] == ["1+2=3", "2+1=3"]


def test_no_samples_leave_the_solution_as_the_only_path() -> None:
    selection = reject_samples([], SOLUTION, Fraction(3), "strict")
    assert selection.completions == []
    assert selection.funnel == Funnel(0, 0, 0, 0, 0, 1)


def test_funnels_add_up() -> None:
    assert add_funnels([Funnel(6, 5, 4, 3, 2, 1)] * 2) == Funnel(12, 10, 8, 6, 4, 2)
    assert add_funnels([]) == Funnel(0, 0, 0, 0, 0, 0)

"""Votes, pass@K and standard errors against brute force and numbers worked out by hand."""

import itertools
import json
import math
import statistics
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from screl.answers import extract_answer, gold_answers
from screl.completions import load_completions
from screl.metrics import (
    Metric,
    maj_at_k,
    majority_answers,
    mean_over_problems,
    paired_difference,
    pass_at_k,
)
from screl.problems import load_problems

GOLDEN = Path(__file__).parent / "data/golden"


def exact(*texts: str | None) -> list[Fraction | str | None]:
    return [None if text is None else Fraction(text) for text in texts]


def test_paper_votes_on_texts_and_gives_a_tie_to_the_first_seen() -> None:
    assert majority_answers(["18", "18.0", "7", "7", None, None, None]) == ["7"]
    assert majority_answers(["3", "5", "5", "3"]) == ["3", "5"]
    assert maj_at_k(["3", "5", "5", "3"], "5", "paper") == 0.0
    assert maj_at_k(["5", "3", "5", "3"], "5", "paper") == 1.0
    assert maj_at_k(["18", "18.0", "7", "7"], "18", "paper") == 0.0
    assert maj_at_k(["18.00005"], "18", "paper") == 1.0
    assert maj_at_k([None, None], "18", "paper") == 0.0


def test_strict_votes_on_numbers_and_splits_a_tie() -> None:
    assert maj_at_k(exact("18", "18.0", "7"), Fraction(18), "strict") == 1.0
    assert maj_at_k(exact("3", "5", "5", "3"), Fraction(5), "strict") == 0.5
    assert maj_at_k(exact("1", "2", "3"), Fraction(2), "strict") == pytest.approx(1 / 3)
    assert maj_at_k(exact(None, None, "4"), Fraction(4), "strict") == 1.0
    assert maj_at_k([], Fraction(4), "strict") == 0.0


votes = st.lists(st.none() | st.integers(0, 3).map(Fraction), max_size=9)


@given(votes, st.randoms())
def test_strict_vote_is_the_expectation_of_a_random_choice_among_the_most_frequent(
    answers: list[Fraction | None], random: object
) -> None:
    cast = [answer for answer in answers if answer is not None]
    best = max((cast.count(answer) for answer in cast), default=0)
    tied = {answer for answer in cast if cast.count(answer) == best}
    expected = float(Fraction(2) in tied) / len(tied) if tied else 0.0
    assert maj_at_k(answers, Fraction(2), "strict") == pytest.approx(expected)
    random.shuffle(answers)  # type: ignore[attr-defined]
    assert maj_at_k(answers, Fraction(2), "strict") == pytest.approx(expected)


@given(st.lists(st.none() | st.sampled_from(["2", "2.0", "2.", "3"]), max_size=9))
def test_paper_vote_is_the_published_one(answers: list[str | None]) -> None:
    counts = Counter(answer for answer in answers if answer is not None)
    winner = max(counts, key=lambda text: counts[text]) if counts else None
    expected = float(winner is not None and float(winner) == 2)
    assert maj_at_k(answers, "2", "paper") == expected


def test_golden_votes_of_the_published_code() -> None:
    path = GOLDEN / "problems.jsonl"
    problems = load_problems(path)
    golds = gold_answers(problems, path, "paper")
    expected = json.loads((GOLDEN / "expected_votes.json").read_text())
    sampled, greedy = load_completions(GOLDEN / "votes", problems, "test")
    winners = []
    scores = []
    for texts, gold in zip(sampled.by_problem, golds, strict=True):
        answers = [extract_answer(text, "paper") for text in texts]
        winners.append(next(iter(majority_answers(answers)), "[invalid]"))
        scores.append(maj_at_k(answers, gold, "paper"))
    assert winners == expected["majority_answers"]
    assert sum(scores) == expected["majority_correct"] == 53
    answers = [extract_answer(texts[0], "paper") for texts in greedy.by_problem]
    assert [answer or "[invalid]" for answer in answers] == expected["greedy_answers"]


@given(
    st.integers(1, 7).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n)))
)
def test_pass_at_k_is_the_share_of_subsets_with_a_right_sample(
    numbers: tuple[int, int, int],
) -> None:
    n, c, k = numbers
    subsets = list(itertools.combinations([True] * c + [False] * (n - c), k))
    expected = sum(map(any, subsets)) / len(subsets)
    assert pass_at_k(n, c, k) == pytest.approx(expected)


def test_pass_at_k_of_many_samples_and_of_nonsense() -> None:
    assert pass_at_k(1000, 1, 500) == pytest.approx(0.5)
    for n, c, k in [(3, 4, 1), (3, -1, 1), (3, 1, 4), (3, 1, 0)]:
        with pytest.raises(ValueError, match=f"n={n}, c={c}, k={k}"):
            pass_at_k(n, c, k)


def test_mean_and_standard_error_worked_by_hand() -> None:
    # three of four right: p = .75, sample variance = 4/3 * .75 * .25 = .25, its root over 2 = .25
    assert mean_over_problems([1, 1, 1, 0]) == Metric(75.0, 25.0, 3)
    assert mean_over_problems([0.5, 1, 0, 0]).n_correct is None
    assert mean_over_problems([1 / 3, 1 / 3, 1 / 3]).n_correct == 1
    assert mean_over_problems([1.0]) == Metric(100.0, None, 1)
    with pytest.raises(statistics.StatisticsError):
        mean_over_problems([])


def test_a_paired_difference_is_taken_problem_by_problem() -> None:
    a, b = [1.0, 1.0, 0.0, 1.0], [0.0, 1.0, 0.0, 0.0]
    value, error = paired_difference(a, b)
    assert value == 50.0
    assert error == pytest.approx(100 * statistics.stdev([1, 0, 0, 1]) / math.sqrt(4))
    assert paired_difference(b, a)[0] == -50.0
    assert paired_difference(a, a) == (0.0, 0.0)
    with pytest.raises(ValueError, match="zip"):
        paired_difference(a, b[:3])

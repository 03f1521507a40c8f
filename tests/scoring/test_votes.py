"""maj1@k and pass@k at every k against all subsets, a simulation, and the published code."""

import itertools
import json
import math
import random
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from screl.core.problems import Problem, load_problems
from screl.grading.verdict import JudgeRules
from screl.samples.reader import map_problems, open_runs
from screl.samples.store import Sample
from screl.scoring.score import AnswerReading, read_answers
from screl.scoring.votes import MAX_SAMPLES, expected_maj, expected_pass, first_k_maj, majority

GOLDEN = Path(__file__).parents[1] / "data/golden"
RIGHT = {2}


def vote_of_all_subsets(answers: Sequence[int | None], k: int) -> Fraction:
    """Return strict maj1@k by its definition, exactly."""
    scores = []
    for subset in itertools.combinations(answers, k):
        counts = Counter(answer for answer in subset if answer is not None)
        most = max(counts.values(), default=0)
        tied = [answer for answer, count in counts.items() if count == most]
        scores.append(Fraction(2 in tied, len(tied)) if tied else Fraction(0))
    return sum(scores, Fraction(0)) / len(scores)


pools = st.lists(st.sampled_from([None, 1, 2, 2, 2, 3, 3, 4, 5]), min_size=1, max_size=9)


@settings(deadline=None)
@given(pools, st.randoms())
def test_the_expected_vote_is_the_mean_over_all_subsets(
    answers: list[int | None], shuffler: random.Random
) -> None:
    curve = expected_maj(answers, RIGHT, len(answers))
    exact = [float(vote_of_all_subsets(answers, k)) for k in range(1, len(answers) + 1)]
    assert curve == pytest.approx(exact, abs=1e-14)
    shuffler.shuffle(answers)
    assert expected_maj(answers, RIGHT, len(answers)).tolist() == curve.tolist()
    assert expected_maj(answers, RIGHT, 1).tolist() == curve[:1].tolist()


def test_many_ties_against_all_subsets() -> None:
    """Use pools in which several rivals reach the right answer's count together."""
    for wrong in ([3, 3, 3], [2, 2, 2, 2], [4, 3, 1, 1], [1] * 8):
        answers = [2] * 3 + [None] + [10 + i for i, count in enumerate(wrong) for _ in range(count)]
        exact = [float(vote_of_all_subsets(answers, k)) for k in range(1, len(answers) + 1)]
        assert expected_maj(answers, RIGHT, len(answers)) == pytest.approx(exact, abs=1e-14)


def test_the_expected_vote_of_100_samples_against_a_simulation() -> None:
    rng = random.Random(0)
    answers = [2] * 30 + [3] * 28 + [4] * 9 + list(range(10, 28)) + [None] * 15
    curve = expected_maj(answers, RIGHT, 100)
    for k in (5, 25, 60):
        scores = []
        for _ in range(4000):
            winners = majority(rng.sample(answers, k))
            scores.append((2 in winners) / len(winners) if winners else 0.0)
        error = math.sqrt(1 / 4 / len(scores))  # at most
        assert curve[k - 1] == pytest.approx(sum(scores) / len(scores), abs=4 * error)
    assert curve[0] == pytest.approx(0.3)
    assert curve[-1] == pytest.approx(1.0)


def test_the_largest_pool_is_still_exact() -> None:
    half = MAX_SAMPLES // 2
    curve = expected_maj([2] * half + [3] * half, RIGHT, MAX_SAMPLES)
    assert curve == pytest.approx([0.5] * MAX_SAMPLES)  # by symmetry
    alone = expected_maj([2] + [None] * (MAX_SAMPLES - 1), RIGHT, MAX_SAMPLES)
    assert alone == pytest.approx([k / MAX_SAMPLES for k in range(1, MAX_SAMPLES + 1)])


def test_rounding_neither_exceeds_1_nor_depends_on_the_order() -> None:
    assert expected_maj([2] * 57 + [None], RIGHT, 58).max() == 1.0
    rivals = [[10] * 20, [11] * 13, [12] * 17, [13] * 11]
    forwards, backwards = (
        expected_maj([2] * 30 + list(itertools.chain(*order)) + [None] * 9, RIGHT, 100)
        for order in (rivals, reversed(rivals))
    )
    assert forwards.tolist() == backwards.tolist()


def test_all_right_answers_vote_as_one() -> None:
    assert expected_maj(["1/2", "0.5", "3", "4"], {"1/2", "0.5"}, 4)[-1] == 1.0


def test_a_vote_that_nobody_casts_scores_0() -> None:
    assert expected_maj([None, None], RIGHT, 2).tolist() == [0.0, 0.0]
    assert first_k_maj([None, None], RIGHT, 2).tolist() == [0.0, 0.0]
    assert first_k_maj([None, None], {None}, 2).tolist() == [0.0, 0.0]
    assert majority([None]) == []


@given(st.lists(st.none() | st.sampled_from(["2", "2.0", "2.", "3"]), min_size=1, max_size=9))
def test_in_paper_the_first_k_texts_vote(answers: list[str | None]) -> None:
    right = {"2", "2.0", "2."}
    expected = []
    for k in range(1, len(answers) + 1):
        counts = Counter(answer for answer in answers[:k] if answer is not None)
        winner = (
            max(counts, key=lambda text: counts[text]) if counts else None
        )  # the first of a tie
        expected.append(float(winner in right))
    assert first_k_maj(answers, right, len(answers)).tolist() == expected


def test_in_paper_the_answer_seen_first_wins_a_tie() -> None:
    assert first_k_maj(["3", "5", "5", "3"], {"5"}, 4).tolist() == [0, 0, 1, 0]
    assert first_k_maj(["5", "3", "3", "5"], {"5"}, 4).tolist() == [1, 1, 0, 1]
    assert first_k_maj(["18", "18.0", "7", "7"], {"18", "18.0"}, 4).tolist() == [1, 1, 1, 0]
    assert first_k_maj(["3", "5", "5", "5", "3"], {"5"}, 5).tolist() == [0, 0, 1, 1, 1]
    assert first_k_maj(["3", "5", "5"], {"5"}, 2).tolist() == [0, 0]


@given(st.integers(1, 8).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))))
def test_pass_at_k_is_the_share_of_subsets_with_a_right_sample(numbers: tuple[int, int]) -> None:
    n, n_right = numbers
    pool = [True] * n_right + [False] * (n - n_right)
    shares = []
    for k in range(1, n + 1):
        subsets = list(itertools.combinations(pool, k))
        shares.append(sum(map(any, subsets)) / len(subsets))
    assert expected_pass(n, n_right, n) == pytest.approx(shares, abs=1e-14)


def test_pass_at_k_of_many_samples_and_of_invalid_numbers() -> None:
    for n_right, k in ((1, 500), (3, 17), (600, 300)):
        exact = 1 - Fraction(math.comb(1000 - n_right, k), math.comb(1000, k))
        assert expected_pass(1000, n_right, k)[-1] == pytest.approx(float(exact), rel=1e-12)
    for n, n_right, k in [(3, 4, 1), (3, -1, 1), (3, 1, 4)]:
        with pytest.raises(ValueError, match=f"n={n}, c={n_right}, k={k}"):
            expected_pass(n, n_right, k)


def test_golden_votes_of_the_published_code() -> None:
    problems = load_problems(GOLDEN / "problems.jsonl")
    expected = json.loads((GOLDEN / "expected_votes.json").read_text())
    runs = open_runs(GOLDEN / "votes", problems, "test")
    winners, greedy_answers, n_correct = [], [], 0.0
    for sampled, greedy in map_problems(read_golden_answers, problems, runs, n_workers=1):
        winners.append(next(iter(majority(sampled.answers)), "[invalid]"))
        greedy_answers.append(greedy.answers[0] or "[invalid]")
        n_correct += first_k_maj(sampled.answers, sampled.right, len(sampled.answers))[-1]
    assert winners == expected["majority_answers"]
    assert n_correct == expected["majority_correct"] == 53
    assert greedy_answers == expected["greedy_answers"]


def read_golden_answers(problem: Problem, samples: list[list[Sample]]) -> list[AnswerReading]:
    return [read_answers(problem, run_samples, JudgeRules("paper")) for run_samples in samples]

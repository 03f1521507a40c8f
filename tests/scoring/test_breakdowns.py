"""Groups of problems and of completions, and the error of a share of completions."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from screl.core.io import UserError
from screl.core.problems import Problem
from screl.scoring.breakdown import break_down, breakdown_to_json, check_key, clustered_mean
from screl.scoring.score import UNKNOWN, Graded, RunScore, ScoreRules
from screl.scoring.statistics import mean_and_error


def graded(
    right: list[int], lengths: list[int], cut_off: list[int], has_tokens: bool = True
) -> Graded:
    return Graded(
        is_right=np.array(right, bool),
        has_answer=np.ones(len(right), bool),
        is_cut_off=np.array(cut_off, np.int8),
        n_tokens=np.array(lengths if has_tokens else [UNKNOWN] * len(right), np.int32),
        n_characters=np.array(lengths, np.int32) * 4,
    )


def make_score(cut_off: int = 0, tokens: bool = True) -> RunScore:
    """Three problems of 1, 1 and 9 steps, two samples each: of them 2, 1 and 0 are right."""
    steps = "<<1+1=2>>"
    problems = [
        Problem(0, "q", f"{steps}#### 2", 1, {"level": 10}),
        Problem(1, "q", f"{steps}#### 2", 2, {"level": 9}),
        Problem(2, "q", f"{steps * 9}#### 2", 3),
    ]
    return RunScore(
        run="run",
        data_path="d.jsonl",
        rules=ScoreRules(),
        n_samples=2,
        problems=problems,
        left_out=[],
        n_completions=6,
        n_completions_expected=6,
        scores={"mean@1": np.array([1, 0.5, 0]), "maj1@2": np.array([1, 0.5, 0])},
        winners={},
        graded=[
            graded([1, 1], [10, 11], [0, 0], tokens),
            graded([1, 0], [12, 20], [0, cut_off]),
            graded([0, 0], [21, 30], [cut_off, cut_off]),
        ],
        share_without_answer=0.0,
        share_cut_off=0.0,
    )


def test_by_steps_and_by_a_key_of_the_data() -> None:
    one, many = break_down(make_score(), "steps")
    assert (one.name, one.n_problems, one.n_completions) == ("1", 2, 4)
    assert one.scores["mean@1"] == (75.0, pytest.approx(25.0))  # 1, 1/2: deviation .354 / 1.414
    assert (many.name, many.scores["maj1@2"]) == ("8+", (0.0, None))
    groups = break_down(make_score(), "level")
    assert [group.name for group in groups] == ["9", "10", "-"]
    assert breakdown_to_json(groups)[0]["metrics"]["mean@1"] == {
        "value": 50.0,
        "standard_error": None,
    }


def test_by_cut_off() -> None:
    whole, cut_off = break_down(make_score(cut_off=1), "cut_off")
    assert (whole.name, whole.n_problems, whole.n_completions) == ("whole", 2, 3)
    assert whole.scores["mean@1"][0] == 100.0
    assert (cut_off.n_completions, cut_off.scores["mean@1"][0]) == (3, 0.0)
    assert [group.name for group in break_down(make_score(), "cut_off")] == ["whole"]
    with pytest.raises(UserError, match="does not record which completions were cut off"):
        break_down(make_score(cut_off=UNKNOWN), "cut_off")


def test_by_quarters_of_length() -> None:
    groups = break_down(make_score(), "length")
    names = ["10 to 11 tokens", "12 to 12 tokens", "20 to 20 tokens", "21 to 30 tokens"]
    assert [group.name for group in groups] == names
    assert [group.scores["mean@1"][0] for group in groups] == [100, 100, 0, 0]
    groups = break_down(make_score(tokens=False), "length")
    assert groups[0].name == "40 to 44 characters"
    assert sum(group.n_completions for group in groups) == 6


def test_an_unknown_key_names_those_that_there_are() -> None:
    problems = make_score().problems
    check_key(problems, "level", Path("d.jsonl"))
    with pytest.raises(UserError, match="'type'; --breakdown takes steps, length, cut_off, level"):
        check_key(problems, "type", Path("d.jsonl"))


@given(st.integers(2, 6), st.integers(1, 4), st.randoms())
def test_equally_many_completions_have_the_error_of_their_problems_means(
    n: int, k: int, random: object
) -> None:
    right = np.array([[random.random() < 0.5 for _ in range(k)] for _ in range(n)])  # type: ignore[attr-defined]
    value, error, n_problems = clustered_mean(right.ravel(), np.repeat(np.arange(n), k))
    (expected,), (expected_error,) = mean_and_error(right.mean(axis=1)[:, None])
    assert n_problems == n
    assert value == pytest.approx(expected)
    assert error == pytest.approx(expected_error)


def test_the_error_of_a_share_worked_by_hand() -> None:
    """Problem 3 has 2 of 3 right, problem 7 has 0 of 1: share 1/2, residuals 1/2 and -1/2."""
    value, error, n = clustered_mean(np.array([1, 1, 0, 0], bool), np.array([3, 3, 3, 7]))
    assert (value, n) == (50.0, 2)
    assert error == pytest.approx(100 * float(Fraction(1, 4)))  # root of 2/1 (1/4 + 1/4), over 4
    assert clustered_mean(np.array([True]), np.array([0])) == (100.0, None, 1)

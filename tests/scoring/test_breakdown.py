"""Scores by group, the error of a share of completions, and the kinds of mistakes."""

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from screl.core.io import UserError
from screl.core.problems import Problem
from screl.grading.verdict import JudgeRules
from screl.samples.store import Sample
from screl.scoring.breakdown import (
    CUT_OFF,
    break_down,
    clustered_mean,
    find_mistakes,
    mistake_kind,
)
from screl.scoring.score import UNKNOWN, CompletionStats, RunScore
from screl.scoring.statistics import mean_and_error


def stats(right: list[int], n_tokens: list[int], cut_off: list[int]) -> CompletionStats:
    return CompletionStats(
        is_right=np.array(right, bool),
        has_answer=np.ones(len(right), bool),
        is_cut_off=np.array(cut_off, np.int8),
        n_tokens=np.array(n_tokens, np.int64),
        n_characters=np.array([40, 44], np.int32),
    )


def make_score(cut_off: int = 0, n_tokens: int = 10) -> RunScore:
    """Return the score of three problems of 1, 1, and 9 steps with 2, 1, and 0 of 2 samples right.

    ``cut_off`` is that of the last three completions.
    """
    steps = "<<1+1=2>>"
    problems = [
        Problem(0, "q", f"{steps}#### 2", 1, {"level": 10}),
        Problem(1, "q", f"{steps}#### 2", 2, {"level": 9}),
        Problem(2, "q", f"{steps * 9}#### 2", 3),
    ]
    return RunScore(
        run="run", data_path="d.jsonl", rules=JudgeRules(), n_samples=2, problems=problems,
        left_out=[], n_completions=6, n_completions_expected=6,
        scores={"mean@1": np.array([1, 0.5, 0]), "maj1@2": np.array([1, 0.5, 0])}, winners={},
        completions=[
            stats([1, 1], [n_tokens, 11], [0, 0]),
            stats([1, 0], [12, 20], [0, cut_off]),
            stats([0, 0], [21, 30], [cut_off, cut_off]),
        ],
        share_without_answer=0.0, share_cut_off=0.0,
    )  # fmt: skip


def test_by_steps_and_by_a_key_of_the_data() -> None:
    one, many = break_down(make_score(), "steps")
    assert (one.name, one.n_problems, one.n_completions) == ("1", 2, 4)
    assert one.scores["mean@1"] == (75.0, pytest.approx(25.0))  # 1, 1/2: deviation .354 / 1.414
    assert (many.name, many.scores["maj1@2"]) == ("8+", (0.0, None))
    assert [group.name for group in break_down(make_score(), "level")] == ["9", "10", "-"]


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
    groups = break_down(make_score(n_tokens=UNKNOWN), "length")
    assert [group.name for group in groups] == ["40 to 40 characters", "44 to 44 characters"]


@given(st.integers(2, 6), st.integers(1, 4), st.randoms())
def test_equally_many_completions_per_problem_have_the_error_of_the_problems_means(
    n: int, k: int, random: object
) -> None:
    right = np.array([[random.random() < 0.5 for _ in range(k)] for _ in range(n)])  # type: ignore[attr-defined]
    value, error, n_problems = clustered_mean(right.ravel(), np.repeat(np.arange(n), k))
    (expected,), (expected_error,) = mean_and_error(right.mean(axis=1)[:, None])
    assert n_problems == n
    assert value == pytest.approx(expected)
    assert error == pytest.approx(expected_error)


def test_the_error_of_a_share_by_hand() -> None:
    """Problem 3 has 2 of 3 right, problem 7 has 0 of 1: share 1/2, residuals 1/2 and -1/2."""
    value, error, n = clustered_mean(np.array([1, 1, 0, 0], bool), np.array([3, 3, 3, 7]))
    assert (value, n) == (50.0, 2)
    assert error == pytest.approx(25.0)  # root of 2/1 (1/4 + 1/4), over 4
    assert clustered_mean(np.array([True]), np.array([0])) == (100.0, None, 1)


def test_kinds_of_mistakes() -> None:
    assert mistake_kind("2+3=<<2+3=6>>6\n#### 6", True, "strict") == "arithmetic_slip"
    assert mistake_kind("2*3=<<2*3=6>>6\n#### 6", True, "strict") == "wrong_plan"
    assert mistake_kind("<<2*3=6>> <<5k=5>>#### 6", True, "strict") == "wrong_plan"  # 5k: unknown
    assert mistake_kind("<<2+3=6>>", False, "strict") == "no_answer"


def test_wrong_completions_are_listed_and_all_are_counted() -> None:
    problem = Problem("p", "How many?", "2+3=<<2+3=5>>5\n#### 5", 1)
    samples = [
        Sample("p", 0, "#### 5", 2, "stop"),
        Sample("p", 1, "<<2+3=6>>#### 6", 9, "stop"),
        Sample("p", 4, "and so", 9, "length"),
        Sample("p", 5, "so", 9, "stop"),
    ]
    lines, counts = find_mistakes(problem, [samples], ["run"], JudgeRules())
    rows = [orjson.loads(line) for line in lines.splitlines()]
    assert [(row["sample_id"], row["answer"]) for row in rows] == [(1, "6"), (4, None), (5, None)]
    assert rows[0] == {
        "run": "run",
        "problem_id": "p",
        "sample_id": 1,
        "category": "arithmetic_slip",
        "is_cut_off": False,
        "answer": "6",
        "gold": "5",
        "question": "How many?",
        "solution": problem.solution,
        "text": "<<2+3=6>>#### 6",
    }
    assert counts == {"all": 4, "wrong": 3, "no_answer": 2, CUT_OFF: 1, "arithmetic_slip": 1}

"""Kinds of wrong completions."""

from collections import Counter

import orjson

from screl.core.problems import Problem
from screl.samples.store import Sample
from screl.scoring.breakdown import CUT_OFF, categorise, wrong_completions
from screl.scoring.score import ScoreRules

PROBLEM = Problem("p", "How many?", "2+3=<<2+3=5>>5\n#### 5", 1)


def test_categories() -> None:
    assert categorise("2+3=<<2+3=6>>6\n#### 6", True, "strict") == "arithmetic_slip"
    assert categorise("2*3=<<2*3=6>>6\n#### 6", True, "strict") == "wrong_plan"
    assert categorise("<<2*3=6>> <<5k=5>>#### 6", True, "strict") == "wrong_plan"  # not arithmetic
    assert categorise("<<2+3=6>>", False, "strict") == "no_answer"


def test_only_wrong_completions_are_listed_and_all_are_counted() -> None:
    completions = [
        Sample("p", 0, "#### 5", 2, "stop"),
        Sample("p", 1, "<<2+3=6>>#### 6", 9, "stop"),
        Sample("p", 4, "and so", 9, "length"),
        Sample("p", 5, "so", 9, "stop"),
    ]
    lines, counts = wrong_completions(PROBLEM, [completions], ["run"], ScoreRules())
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
        "solution": PROBLEM.solution,
        "text": "<<2+3=6>>#### 6",
    }
    expected = {"all": 4, "wrong": 3, "no_answer": 2, CUT_OFF: 1, "arithmetic_slip": 1}
    assert counts == Counter(expected)

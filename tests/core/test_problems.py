"""Problems: their keys and ids; a bad row is named by its line."""

import json
from pathlib import Path

import pytest

from screl.core.io import UserError
from screl.core.problems import build_prompt, load_problems
from tests.conftest import write_lines


def test_ids_are_row_numbers_or_given(tmp_path: Path) -> None:
    rows = [{"query": "a", "response": "b"}, {"query": "c", "response": "d", "problem_id": "x"}]
    problems = load_problems(write_lines(tmp_path / "p.jsonl", list(map(json.dumps, rows))))
    assert [(p.problem_id, p.question, p.solution, p.line) for p in problems] == [
        (0, "a", "b", 1),
        ("x", "c", "d", 2),
    ]


def test_the_keys_of_gsm8k_and_math_are_understood_and_others_kept(tmp_path: Path) -> None:
    gsm8k = {"question": "a", "answer": "1+1=<<1+1=2>>2\n#### 2"}
    math = {"problem": "c", "solution": "d", "level": "Level 5", "type": "Algebra"}
    lines = [json.dumps(gsm8k), json.dumps(math)]
    first, second = load_problems(write_lines(tmp_path / "p.jsonl", lines))
    assert (first.question, first.solution, first.extra) == ("a", gsm8k["answer"], {})
    assert (second.question, second.solution) == ("c", "d")
    assert second.extra == {"level": "Level 5", "type": "Algebra"}


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ('{"q": "a", "answer": "b"}', ":2: no text under 'query'.*q, answer"),
        ('{"problem": " ", "solution": "b"}', ":2: the problem is empty; fix or delete this line"),
        ('{"query": "a", "response": 5}', ":2: no text under 'response'"),
        ('{"query": "a", "response": "b", "problem_id": 0}', ":2: problem_id 0 is already on line"),
        ('{"query": "a", "response": "b", "problem_id": [1]}', ":2: problem_id must be"),
        ('{"query": "a", "resp', ":2: not valid JSON"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, second: str, message: str) -> None:
    path = write_lines(tmp_path / "p.jsonl", ['{"query": "a", "response": "b"}', second])
    with pytest.raises(UserError, match=message):
        load_problems(path)


def test_the_prompt_is_the_published_one_and_takes_braces() -> None:
    assert build_prompt("{x} 50% {}") == (
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\n{x} 50% {}\n\n### Response:"
    )

"""Rows of every usual layout, as train.py, sample.py, the filter and eval.py read them."""

import json
from pathlib import Path
from typing import Any

import pytest

from screl.core.io import UserError
from screl.core.layouts import RowKeys
from screl.core.problems import Problem, load_problems
from tests.conftest import ROOT, write_lines

CASES = [
    json.loads(line)
    for line in (ROOT / "tests/data/cases/training_rows.jsonl").read_text().splitlines()
]
Q, S = "Tom has 3 pens and gets 4. How many?", "3+4=<<3+4=7>>7\n#### 7"
USER, ASSISTANT = {"role": "user", "content": Q}, {"role": "assistant", "content": S}
SYSTEM = {"role": "system", "content": "Be brief."}


def load(folder: Path, *rows: dict[str, Any], train: bool = True, **keys: Any) -> list[Problem]:
    path = write_lines(folder / "p.jsonl", [json.dumps(row) for row in rows])
    return load_problems(path, RowKeys(**keys), needs_solution=train)


def said(folder: Path, *rows: dict[str, Any], **keys: Any) -> str:
    path = write_lines(folder / "p.jsonl", [json.dumps(row) for row in rows])
    lines: list[str] = []
    load_problems(path, RowKeys(**keys), say=lines.append)
    (line,) = lines
    return line.removeprefix(f"{path}: ")


@pytest.mark.parametrize("case", CASES)
def test_the_rows_that_users_have(tmp_path: Path, case: dict[str, Any]) -> None:
    if case["expect"] == "refuse":
        with pytest.raises(UserError, match=r"p\.jsonl:1: .*; "):
            load(tmp_path, case["row"])
    else:
        (problem,) = load(tmp_path, case["row"])
        assert problem.question == case["expect"]["query"]
        assert problem.solution == case["expect"]["response"]


@pytest.mark.parametrize(
    "row",
    [
        {"Question": Q, "Solution": S},
        {"prompt": Q, "response": S},
        {"input": Q, "output": S},
        {"problem": Q, "solution": S, "messages": [USER, ASSISTANT]},  # NuminaMath-CoT
        {"question": Q, "answer": S, "solution": None},
        {"messages": [SYSTEM, USER, {"role": "assistant", "content": [{"text": S}]}]},
        {"conversations": [{"from": "user", "value": Q}, {"from": "model", "value": S}]},
        {"prompt": [SYSTEM, USER], "completion": S},
        {"prompt": [USER], "completion": [ASSISTANT], "chat_template_kwargs": {}},
        {"query": Q, "body": " ", "context": None, "response": S},
        {"query": Q, "body": Q, "response": S},
    ],
)
def test_other_spellings_of_the_same_row(tmp_path: Path, row: dict[str, Any]) -> None:
    (problem,) = load(tmp_path, row)
    assert (problem.question, problem.solution, problem.answer) == (Q, S, None)


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        ({"answer": "7"}, "7"),
        ({"Answer": 7.0}, "7"),
        ({"target": 7.5}, "7.5"),
        ({"final_answer": ["7"]}, "7"),
        ({"expected_answer": "7", "answer": 7}, "7"),
        ({"reward_model": {"style": "rule", "ground_truth": "7"}}, "7"),
        ({"answer": "7", "solution": S}, "7"),
        ({"answer": "9 (apples)", "response": S}, "9 (apples)"),
        ({"answer": r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", "solution": S}, r"\begin{pmatrix} 1"),
    ],
)
def test_a_short_answer_is_the_gold(tmp_path: Path, row: dict[str, Any], answer: str) -> None:
    (problem,) = load(tmp_path, {"question": Q} | row, train=False)
    assert (problem.answer or "").startswith(answer)
    assert problem.solution == (S if S in row.values() else "")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"response": S, "solution": "x"}, "'response' and 'solution' hold different texts, .* "
         "choose with --response_key response or --response_key solution"),
        ({"solution": "x", "answer": S}, "--response_key solution or --response_key answer"),
        ({"solution": "x", "messages": [USER, ASSISTANT]}, "--response_key messages"),
        ({"response": S, "problem": "other"}, "--query_key question or --query_key problem"),
        ({"response": S, "answer": "7", "final_answer": "8"}, "--answer_key answer or --answer_k"),
        ({"response": S, "body": "Tom."}, "'body' stands beside 'question' .* give --query_key "
         "body question to join them, or --query_key question"),
        ({"response": S, "input": "Tom."}, "--query_key input question"),
        ({"response": 5}, "no text under 'response'"),
        ({"response": " "}, "the response is empty"),
        ({"answer": "7"}, r"only a final answer \('7'\), no worked .* --response_key answer"),
        ({"answer": "7", "r1_solution": S}, r"--response_key \(r1_solution\), or train on bare"),
        ({"my_text": S}, r"give the solution's key with --response_key \(my_text\)"),
    ],
)  # fmt: skip
def test_two_readings_are_an_error_with_the_option_that_chooses(
    tmp_path: Path, row: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=rf"p\.jsonl:1: .*{message}"):
        load(tmp_path, {"question": Q} | row)


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([USER, ASSISTANT, USER, ASSISTANT], r"several turns \(user, assistant, user, assistant\)"),
        ([USER, ASSISTANT, {"role": "tool", "content": "x"}], "a message of role 'tool'"),
        (
            [{"role": "user", "content": [{"type": "image"}]}, ASSISTANT],
            "a message that is not text",
        ),
        ([ASSISTANT, USER], "several turns"),
    ],
)
def test_chats_that_are_not_one_exchange_are_refused(
    tmp_path: Path, messages: list[dict[str, Any]], message: str
) -> None:
    for row in ({"messages": messages}, {"conversations": messages}):
        with pytest.raises(UserError, match=rf"p\.jsonl:1: {message}"):
            load(tmp_path, row)


def test_options_choose_the_keys(tmp_path: Path) -> None:
    row = {"body": "Seven apples are here.", "question": "How many?", "x": S, "solution": "no"}
    (problem,) = load(tmp_path, row, query=("body", "question"), response="x", train=True)
    assert problem.question == "Seven apples are here. How many?"
    assert (problem.solution, problem.extra) == (S, {"solution": "no"})
    row = {"question": Q, "answer": "7", "other": "8"}
    (problem,) = load(tmp_path, row, response="answer")
    assert (problem.solution, problem.answer) == ("7", None)
    (problem,) = load(tmp_path, row, answer="other", train=False)
    assert (problem.solution, problem.answer) == ("", "8")
    nested = {"extra_info": {"question": Q}, "prompt": "no", "response": S}
    assert load(tmp_path, nested, query=("extra_info.question",))[0].question == Q
    for keys in ({"query": ("none",)}, {"response": "none"}, {"answer": "none"}):
        with pytest.raises(UserError, match=r"p\.jsonl:1: .*'none'"):
            load(tmp_path, row, train=False, **keys)


def test_an_answer_key_means_the_same_in_the_whole_file(tmp_path: Path) -> None:
    worked, short = {"question": Q, "answer": S}, {"question": "Why?", "answer": "7"}
    message = "worked solution on line 1 and a short answer on line 2; .*--answer_key answer"
    with pytest.raises(UserError, match=message):
        load(tmp_path, worked, short, train=False)
    first, second = load(tmp_path, worked, short, response="answer")
    assert (first.solution, second.solution) == (S, "7")


def test_alpaca_input_is_the_second_half_of_the_question(tmp_path: Path) -> None:
    (problem,) = load(tmp_path, {"instruction": "Solve it.", "input": Q, "output": S})
    assert problem.question == f"Solve it.\n{Q}"


def test_the_first_line_says_what_was_read(tmp_path: Path) -> None:
    plain = {"query": Q, "response": S}
    assert said(tmp_path, plain) == "1 row; question from 'query', solution from 'response'"
    math = {"problem": Q, "solution": S, "answer": "7", "level": "5", "n": 1}
    assert said(tmp_path, math, math) == (
        "2 rows; question from 'problem', solution from 'solution', answer from 'answer'; other "
        "texts, not used: level"
    )
    assert said(tmp_path, {"messages": [SYSTEM, USER, ASSISTANT]}, plain) == (
        "2 rows; question from 'messages' (1) and 'query' (1), solution from 'messages' (1) and "
        "'response' (1); 1 system message left out"
    )
    body = {"body": "b", "question": Q, "answer": "7"}
    assert said(tmp_path, body, query=("body", "question")) == (
        "1 row; question from 'body + question', no solution, answer from 'answer'"
    )

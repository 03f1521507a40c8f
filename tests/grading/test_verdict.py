"""The reason for each rejection, in order; the path of a valid completion; remembered verdicts."""

import pytest

from screl.core.problems import Problem
from screl.grading import verdict
from screl.grading.equations import find_equations
from screl.grading.verdict import Reason, Verdict, judge_equations, make_judge

PROBLEM = Problem("p", "How many are 1 and 2?", "Together <<1+2=3>>3.\n#### 3", 1)


@pytest.mark.parametrize(
    ("text", "strict", "paper"),
    [
        ("no answer <<2+2=3>>", "no_answer", "no_answer"),
        ("wrong <<two+2=3>>\n#### 4", "wrong_answer", "wrong_answer"),
        ("<<two+1=3>> <<2+2=3>>\n#### 3", "unparsed_equation", "unparsed_equation"),
        ("<<2+2=3>> <<two+1=3>>\n#### 3", "unparsed_equation", "unparsed_equation"),
        ("<<2+1=3>> <<2+2=3>>\n#### 3", "false_equation", "false_equation"),
        ("<<2+1=3>>\n#### 3", "valid", "valid"),
        ("no equation\n#### 3", "valid", "valid"),
        ("<<4-1=3>>\n#### $3", "valid", "no_answer"),
        ("<<4-1=3=5>>\n#### 3", "false_equation", "valid"),
    ],
)
def test_the_first_fault_is_the_reason(text: str, strict: Reason, paper: Reason) -> None:
    assert make_judge(PROBLEM, "strict")(text).reason == strict
    assert make_judge(PROBLEM, "paper")(text).reason == paper


def test_only_a_valid_completion_has_a_path() -> None:
    judge = make_judge(PROBLEM, "strict")
    assert judge("<<2+1=3>>") == Verdict("no_answer", "", ())
    assert judge("<<2+2=3>>\n#### 3") == Verdict("false_equation", "", ())
    assert judge("<<$2+1=3>> <<3=3>>\n#### 3") == Verdict("valid", "2+1=3|3=3", ())
    equations = find_equations("<<$2+1=3>>")
    assert judge_equations(equations, "strict") == Verdict("valid", "2+1=3")
    assert judge_equations(equations, "paper") == Verdict("unparsed_equation")
    assert judge_equations(["2 + 1=3"], "paper") == Verdict("valid", "2+1=3")


def test_the_same_text_and_the_same_equations_are_judged_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[object] = []
    extract, judge_all = verdict.extract_answer, verdict.judge_equations
    monkeypatch.setattr(
        verdict, "extract_answer", lambda text, f: calls.append(text) or extract(text, f)
    )
    monkeypatch.setattr(
        verdict, "judge_equations", lambda eqs, f: calls.append(eqs) or judge_all(eqs, f)
    )
    texts = ["a <<2+1=3>>\n#### 3", "b <<2+1=3>>\n#### 3"]
    judge = make_judge(PROBLEM, "strict")
    assert len({judge(text) for text in texts * 2}) == 1
    assert calls == [texts[0], ("2+1=3",), texts[1]]


def test_process_checks_apply_to_valid_completions_only() -> None:
    judge = make_judge(PROBLEM, "strict", ("unused_result",))
    assert judge("<<2+1=3>> <<3*5=15>>\n#### 3") == Verdict("process_check", "", ["unused_result"])
    assert judge("<<2+1=3>> <<3*5=16>>\n#### 3") == Verdict("false_equation")
    assert judge("<<2+1=3>>\n#### 3") == Verdict("valid", "2+1=3")

"""Decide by the data's solutions how answers are written."""

import time
from pathlib import Path

import pytest

from screl.core.io import UserError
from screl.core.problems import Problem
from screl.grading.answers import AnswerStyle, styled_answer
from screl.grading.styles import settle_styles
from screl.grading.verdict import JudgeRules

PATH = Path("d.jsonl")
AUTO = JudgeRules(answer_style="auto")
HASH, BOXED, SAID = "so\n#### 5", r"so $\boxed{5}$", "so. The answer is: 5"


def settled(solutions: list[str], rules: JudgeRules = AUTO) -> tuple[AnswerStyle, str]:
    problems = [Problem(i, "q", text, i + 1, answer="5") for i, text in enumerate(solutions)]
    rules, line = settle_styles(rules, problems, PATH)
    return rules.answer_style, line


@pytest.mark.parametrize(
    ("solutions", "style", "line"),
    [
        ([HASH] * 3, "hash", "answers after #### (3 of 3 solutions)"),
        ([BOXED] * 3, "boxed", r"answers in \boxed{...} (3 of 3 solutions)"),
        ([SAID] * 98 + [HASH] * 2, "the_answer_is", 'after "The answer is" (98 of 100 solutions)'),
        ([HASH + SAID, BOXED + SAID], "the_answer_is", "(2 of 2 solutions)"),  # MetaMath
        ([HASH + SAID] * 2, "hash", "(2 of 2"),
        ([BOXED, "no mark", "<think>#### 5</think>" + BOXED], "boxed", "(2 of 3 solutions)"),
        (["no mark"], "hash", "answers after ####"),
        ([""], "hash", "no solutions to look at; choose with --answer_style"),
    ],
)
def test_auto_is_the_style_of_the_solutions(
    solutions: list[str], style: AnswerStyle, line: str
) -> None:
    found, text = settled(solutions)
    assert found == style
    assert line in text


def test_a_mixture_is_refused_and_counted() -> None:
    with pytest.raises(
        UserError, match=r"d\.jsonl: .*different styles \(97 after ####, 3 in \\boxed.*, of 100"
    ):
        settled([HASH] * 97 + [BOXED] * 3)
    chosen = JudgeRules(answer_style="boxed")
    assert settled([HASH] * 97 + [BOXED] * 3, chosen)[0] == "boxed"
    formulas = JudgeRules(grader="math_verify", answer_style="auto")
    style, line = settled([HASH, BOXED], formulas)
    assert style == "hash"
    assert r"in \boxed{...}, or else after ####" in line


def test_rules_that_do_not_go_together_are_refused() -> None:
    for rules, match in (
        (JudgeRules("paper", answer_style="boxed"), "--fidelity paper .* leave out --answer_style"),
        (JudgeRules("paper", think="drop"), "--fidelity paper .* leave out --think"),
        (JudgeRules(grader="choice", answer_style="last_number"), "--grader choice reads a letter"),
        (JudgeRules(answer_style="boxed", process_checks=("unused_result",)), "--process_checks"),
    ):
        with pytest.raises(UserError, match=match):
            settled([HASH], rules)
    assert settled([BOXED], JudgeRules("paper", answer_style="auto"))[0] == "hash"


@pytest.mark.parametrize("junk", ["the answer is ", "the  ", ". ", r"\boxed{", "####", "1,", "{"])
def test_hostile_text_takes_linear_time(junk: str) -> None:
    start = time.perf_counter()
    for style in ("hash", "boxed", "the_answer_is", "last_number"):
        styled_answer(junk * 20_000, style)  # type: ignore[arg-type]
    assert time.perf_counter() - start < 2

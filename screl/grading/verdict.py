r"""Judge a completion: whether its answer and equations are right, and find its equation path.

Answers and gold answers are read by one reader, which JudgeRules chooses."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from screl.core.io import UserError
from screl.core.problems import Problem
from screl.grading.answers import (
    AnswerStyle,
    Fidelity,
    extract_answer,
    gold_text,
    is_correct,
    styled_answer,
)
from screl.grading.choices import read_choice
from screl.grading.equations import (
    check_equation,
    find_equations,
    has_odd_equation,
)
from screl.grading.numbers import read_number
from screl.grading.paths import PathStyle, Steps, read_steps
from screl.grading.process_checks import ProcessCheck, failed_checks
from screl.grading.thinking import outside_thinking
from screl.grading.verifiers import verify

Grader = Literal["number", "math_verify", "choice"]
Think = Literal["keep", "drop", "only_answer"]
Rules = TypeVar("Rules", bound="JudgeRules")
# The reason for rejecting a completion, in the order of the checks; "valid" if it passes them all.
Reason = Literal[
    "no_answer", "not_verified", "wrong_answer", "unparsed_equation", "false_equation",
    "process_check", "valid",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class JudgeRules:
    """The rules by which the filter, the scorer and sample.py judge a completion.

    The defaults are GSM8K's: a number after ``####`` and equations ``<<a=b>>``. ``verifier`` is the
    user's own function, FILE.py:function.
    """

    fidelity: Fidelity = "strict"
    grader: Grader = "number"
    answer_style: AnswerStyle = "hash"
    path_style: PathStyle = "calculator"
    think: Think = "keep"
    process_checks: tuple[ProcessCheck, ...] = ()
    verifier: str | None = None


def as_published(rules: Rules) -> Rules:
    """Return ``rules`` with paper's only reading: ``#### n``, ``<<a=b>>`` and all of the text."""
    return replace(
        rules, fidelity="paper", answer_style="hash", path_style="calculator", think="keep"
    )


class Verdict(NamedTuple):
    """The verdict on one completion; ``path`` is its equation path if it is valid, else empty.

    ``odd_brackets`` marks an unparsed equation that is not within ``<<...>>`` (has_odd_equation).
    ``failure`` says why the verifier could not judge it (not_verified).
    """

    reason: Reason
    path: str = ""
    failed_checks: Sequence[ProcessCheck] = ()
    odd_brackets: bool = False
    failure: str = ""


GOLD_KINDS: dict[Grader, str] = {
    "number": "a number", "math_verify": "a formula that Math-Verify reads", "choice": "A to E"
}  # fmt: skip
GOLD_FORMS: dict[Grader, str] = {"number": "number", "math_verify": "formula", "choice": "letter"}
ANSWER_FORMS: dict[AnswerStyle, str] = {
    "hash": "'#### <{}>'", "boxed": "\\boxed{{<{}>}}", "the_answer_is": "'The answer is: <{}>'",
    "last_number": "<{}>",
}  # fmt: skip
FOR_FORMULAS = "; for formulas, give --grader math_verify"

NO_ANSWER, WRONG_ANSWER = Verdict("no_answer"), Verdict("wrong_answer")
ODD_BRACKETS = Verdict("unparsed_equation", odd_brackets=True)


def read_text(text: str, rules: JudgeRules) -> str:
    """Return the part of a completion that is searched for its answer and its equations.

    It is what stands outside the thinking. Where that is nothing, keep searches all of it, while
    with drop and only_answer the completion says nothing. paper searches everything.
    """
    if rules.fidelity == "paper":
        return text
    outside = outside_thinking(text)
    return outside if rules.think != "keep" or outside.strip() else text


def answer_reader(rules: JudgeRules) -> Callable[[str], Hashable | None]:
    """Return the function that reads the answer in a text; it returns None if there is none.

    Equal answers of the graders number and choice are equal objects. For math_verify, boxed and
    hash are one style: the last box or else the line after the first ``####``.
    """
    style = rules.answer_style
    match rules.grader:
        case "number" if style == "hash":
            return lambda text: extract_answer(text, rules.fidelity)
        case "number":
            return _read_styled(style, read_number)
        case "choice":
            return _read_styled(style, read_choice)
    from screl.grading.formulas import math_answer, read_formula  # sympy is slow to import

    if style in ("hash", "boxed"):
        return math_answer
    return _read_styled(style, lambda answer: read_formula(answer.strip("$"), is_latex=True))


def _read_styled(
    style: AnswerStyle, read: Callable[[str], Hashable | None]
) -> Callable[[str], Hashable | None]:
    def read_answer(text: str) -> Hashable | None:
        answer = styled_answer(text, style)
        return None if answer is None else read(answer)

    return read_answer


def equality(rules: JudgeRules, tolerance: float = 0.0) -> Callable[[Any, Any], bool]:
    """Return ``is_equal(gold, answer)`` of the grader; ``tolerance`` is for paper's floats."""
    if rules.grader == "math_verify":
        from screl.grading.formulas import math_answers_equal

        return math_answers_equal
    if rules.grader == "choice":
        return lambda gold, answer: bool(gold == answer)
    return lambda gold, answer: is_correct(answer, gold, tolerance)


def gold_answer(problem: Problem, rules: JudgeRules) -> Hashable | None:
    """Return the problem's gold answer as the rules' reader reads it; None if it cannot.

    A short ``answer`` has no style: its box, if it has one, or all of it is the answer.
    """
    if problem.answer is None:
        return answer_reader(rules)(read_text(problem.solution, rules))
    return answer_reader(replace(rules, answer_style="hash"))(gold_text(problem))


def require_gold(problem: Problem, rules: JudgeRules, path: Path | None = None) -> Hashable:
    """Return the gold answer; raise UserError, with the line in ``path``, if it cannot be read."""
    gold = gold_answer(problem, rules)
    if gold is not None:
        return gold
    where = f"{path}:{problem.line}" if path else f"line {problem.line} of the data"
    kind = GOLD_KINDS[rules.grader]
    if problem.answer is not None:
        raise UserError(
            f"{where}: the answer {problem.answer!r} is not {kind}; fix it or delete this line"
            + (FOR_FORMULAS if rules.grader == "number" else "")
        )
    form = ANSWER_FORMS[rules.answer_style].format(GOLD_FORMS[rules.grader])
    raise UserError(
        f"{where}: the response has no {form}; end it with its final answer or delete this line"
        + (FOR_FORMULAS if rules.grader == "number" else "")
    )


def require_golds(problems: Sequence[Problem], path: Path, rules: JudgeRules) -> None:
    """Raise UserError, with the line in ``path``, if a gold answer cannot be read.

    Formulas are left to the stage, problem by problem, since parsing a whole file takes seconds.
    """
    if rules.grader != "math_verify" and not rules.verifier:
        for problem in problems:
            require_gold(problem, rules, path)


def solution_path(problem: Problem, rules: JudgeRules) -> str | None:
    """Return the path of the problem's own solution, which is not checked; None without one."""
    if not problem.solution:
        return None
    text = read_text(problem.solution, rules)
    return read_steps(text, rules.path_style, rules.fidelity).path


def make_judge(problem: Problem, rules: JudgeRules) -> Callable[[str], Verdict]:
    """Return a function that judges a completion of ``problem``, which has a gold answer.

    With a verifier, it needs none. It caches its verdicts, because at low temperatures many
    completions have the same text.
    """
    fidelity = rules.fidelity
    find_fault = _verifier_fault(problem, rules) if rules.verifier else _fault(problem, rules)
    verdict_on_text: dict[str, Verdict] = {}
    verdict_on_steps: dict[Steps, Verdict] = {}

    def judge(text: str) -> Verdict:
        verdict = verdict_on_text.get(text)
        if verdict is None:
            verdict = verdict_on_text[text] = judge_text(text)
        return verdict

    def judge_text(text: str) -> Verdict:
        fault = find_fault(text)
        if fault is not None:
            return fault
        text = read_text(text, rules)
        steps = read_steps(text, rules.path_style, fidelity)
        has_marks = fidelity == "strict" and rules.path_style in ("calculator", "arithmetic")
        if has_marks and has_odd_equation(text, find_equations(text)):
            return ODD_BRACKETS
        verdict = verdict_on_steps.get(steps)
        if verdict is None:
            verdict = verdict_on_steps[steps] = judge_steps(steps, fidelity)
        if verdict.reason == "valid" and rules.process_checks:
            failed = failed_checks(text, problem.question, rules.process_checks)
            return Verdict("process_check", failed_checks=failed) if failed else verdict
        return verdict

    return judge


def _fault(problem: Problem, rules: JudgeRules) -> Callable[[str], Verdict | None]:
    """Return the function that says what is wrong with a completion's answer; None if nothing."""
    read, is_equal = answer_reader(rules), equality(rules)
    gold = require_gold(problem, rules)

    def fault(text: str) -> Verdict | None:
        answer = read(read_text(text, rules))
        if answer is None:
            return NO_ANSWER
        return None if is_equal(gold, answer) else WRONG_ANSWER

    return fault


def _verifier_fault(problem: Problem, rules: JudgeRules) -> Callable[[str], Verdict | None]:
    """Return _fault's function for the user's verifier, which gets the completion as sampled."""

    def fault(text: str) -> Verdict | None:
        answer, is_right, failure = verify(problem, text, str(rules.verifier))
        if failure:
            return Verdict("not_verified", failure=failure)
        if answer is None:
            return NO_ANSWER
        return None if is_right else WRONG_ANSWER

    return fault


def judge_steps(steps: Steps, fidelity: Fidelity) -> Verdict:
    """Return the verdict on a right answer's ``steps``; without any, it is valid (A.3)."""
    statuses = {check_equation(equation, fidelity) for equation in steps.equations}
    if "unparsed" in statuses:
        return Verdict("unparsed_equation")
    if "false" in statuses:
        return Verdict("false_equation")
    return Verdict("valid", steps.path)

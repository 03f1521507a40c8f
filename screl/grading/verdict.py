"""Judge a completion: whether its answer and equations are right, and find its equation path."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from screl.core.problems import Problem
from screl.grading.answers import Fidelity, extract_answer, gold_answer, is_correct
from screl.grading.equations import (
    check_equation,
    find_equations,
    has_odd_equation,
    join_equations,
)
from screl.grading.process_checks import ProcessCheck, failed_checks

# The reason for rejecting a completion, in the order of the checks; "valid" if it passes them all.
Reason = Literal[
    "no_answer", "wrong_answer", "unparsed_equation", "false_equation", "process_check", "valid"
]


class Verdict(NamedTuple):
    """The verdict on one completion; ``path`` is its equation path if it is valid, else empty.

    ``odd_brackets`` marks an unparsed equation that is not within ``<<...>>`` (has_odd_equation).
    """

    reason: Reason
    path: str = ""
    failed_checks: Sequence[ProcessCheck] = ()
    odd_brackets: bool = False


NO_ANSWER, WRONG_ANSWER = Verdict("no_answer"), Verdict("wrong_answer")
ODD_BRACKETS = Verdict("unparsed_equation", odd_brackets=True)


def make_judge(
    problem: Problem, fidelity: Fidelity, process_checks: Sequence[ProcessCheck] = ()
) -> Callable[[str], Verdict]:
    """Return a function that judges a completion of ``problem``, which has a gold answer.

    It caches its verdicts, because at low temperatures many completions have the same text.
    """
    gold = gold_answer(problem, fidelity)
    assert gold is not None  # callers check it with gold_answers
    verdict_on_text: dict[str, Verdict] = {}
    verdict_on_equations: dict[tuple[str, ...], Verdict] = {}

    def judge(text: str) -> Verdict:
        verdict = verdict_on_text.get(text)
        if verdict is None:
            verdict = verdict_on_text[text] = judge_text(text)
        return verdict

    def judge_text(text: str) -> Verdict:
        answer = extract_answer(text, fidelity)
        if not is_correct(answer, gold):
            return NO_ANSWER if answer is None else WRONG_ANSWER
        equations = tuple(find_equations(text))
        if fidelity == "strict" and has_odd_equation(text, equations):
            return ODD_BRACKETS
        verdict = verdict_on_equations.get(equations)
        if verdict is None:
            verdict = verdict_on_equations[equations] = judge_equations(equations, fidelity)
        if verdict.reason == "valid" and process_checks:
            failed = failed_checks(text, problem.question, process_checks)
            return Verdict("process_check", failed_checks=failed) if failed else verdict
        return verdict

    return judge


def judge_equations(equations: Sequence[str], fidelity: Fidelity) -> Verdict:
    """Return the verdict on a right answer's ``equations``; without any, it is valid (A.3)."""
    statuses = {check_equation(equation, fidelity) for equation in equations}
    if "unparsed" in statuses:
        return Verdict("unparsed_equation")
    if "false" in statuses:
        return Verdict("false_equation")
    return Verdict("valid", join_equations(equations, fidelity))

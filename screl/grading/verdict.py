"""Judge one completion: is its answer right, are its equations true, what is their path."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from screl.core.problems import Problem
from screl.grading.answers import Fidelity, extract_answer, is_correct
from screl.grading.equations import check_equation, find_equations, path_of
from screl.grading.process_checks import ProcessCheck, failed_checks

# Why a sample is rejected, in the order in which it is looked at; what passes is valid.
Reason = Literal[
    "no_answer", "wrong_answer", "unparsed_equation", "false_equation", "process_check", "valid"
]


class Verdict(NamedTuple):
    """On one text. ``path`` is its equation path if it is valid, else empty."""

    reason: Reason
    path: str = ""
    failed_checks: Sequence[ProcessCheck] = ()


NO_ANSWER, WRONG_ANSWER = Verdict("no_answer"), Verdict("wrong_answer")


def make_judge(
    problem: Problem, fidelity: Fidelity, process_checks: Sequence[ProcessCheck] = ()
) -> Callable[[str], Verdict]:
    """A function that judges a text, and remembers: at low temperatures many texts are the same.

    The solution must have an answer (see gold_answers).
    """
    gold = extract_answer(problem.solution, fidelity)
    assert gold is not None
    of_texts: dict[str, Verdict] = {}
    of_equations: dict[tuple[str, ...], Verdict] = {}

    def judge(text: str) -> Verdict:
        verdict = of_texts.get(text)
        if verdict is None:
            verdict = of_texts[text] = judge_text(text)
        return verdict

    def judge_text(text: str) -> Verdict:
        answer = extract_answer(text, fidelity)
        if not is_correct(answer, gold):
            return NO_ANSWER if answer is None else WRONG_ANSWER
        equations = tuple(find_equations(text))
        verdict = of_equations.get(equations)
        if verdict is None:
            verdict = of_equations[equations] = judge_equations(equations, fidelity)
        if verdict.reason == "valid" and process_checks:
            failed = failed_checks(text, problem.question, process_checks)
            return Verdict("process_check", failed_checks=failed) if failed else verdict
        return verdict

    return judge


def judge_equations(equations: Sequence[str], fidelity: Fidelity) -> Verdict:
    """The verdict on a completion whose answer is right, by its equations."""
    statuses = {check_equation(equation, fidelity) for equation in equations}
    if "unparsed" in statuses:
        return Verdict("unparsed_equation")
    if "false" in statuses:
        return Verdict("false_equation")
    return Verdict("valid", path_of(equations, fidelity))

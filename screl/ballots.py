"""What each completion of a problem answers, and which answers are right.

Two ways to read answers: ``number`` is the ``#### <number>`` of screl.answers, in strict or as
published; ``math_verify`` is for data whose answers are formulas, such as MATH.
"""

from collections.abc import Hashable, Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Literal, NamedTuple

from screl.answers import SCORING_TOLERANCE, Fidelity, extract_answer, gold_answers, is_correct
from screl.files import UserError
from screl.problems import Problem

Grader = Literal["number", "math_verify"]


class Rules(NamedTuple):
    """How answers are read and counted."""

    fidelity: Fidelity = "strict"
    grader: Grader = "number"


class Ballot(NamedTuple):
    """The answers to one problem: ``answers[j]`` is that of completion j, None if it has none."""

    gold: Hashable
    answers: list[Hashable | None]
    right: frozenset[Hashable]  # those of the answers that are right


def read_ballot(problem: Problem, texts: Sequence[str], rules: Rules) -> Ballot:
    """The answers of ``texts``; one that is there several times is read once."""
    read = _read_formulas if rules.grader == "math_verify" else _read_numbers
    return read(problem, texts, rules.fidelity)


def check_golds(problems: Sequence[Problem], path: Path, rules: Rules) -> None:
    """UserError naming the line of ``path`` whose solution has no answer to compare with.

    Formulas are not looked at here: reading those of a whole file would take seconds.
    """
    if rules.grader == "number":
        try:
            gold_answers(problems, path, rules.fidelity)
        except UserError as error:
            raise UserError(f"{error}, or for formulas give --grader math_verify") from None


def show_answer(answer: Hashable | None) -> str | None:
    """An answer as text: numbers as decimals."""
    if isinstance(answer, Fraction):
        if answer.denominator == 1:
            return str(answer.numerator)
        return format(Decimal(answer.numerator) / Decimal(answer.denominator), "f")
    return None if answer is None else str(answer)


def _read_numbers(problem: Problem, texts: Sequence[str], fidelity: Fidelity) -> Ballot:
    gold = extract_answer(problem.solution, fidelity)
    answer_of = {text: extract_answer(text, fidelity) for text in dict.fromkeys(texts)}
    answers = set(answer_of.values())
    right = [a for a in answers if gold is not None and is_correct(a, gold, SCORING_TOLERANCE)]
    return Ballot(gold, [answer_of[text] for text in texts], frozenset(right))


def _read_formulas(problem: Problem, texts: Sequence[str], _: Fidelity) -> Ballot:
    from screl.math_answers import math_answer, math_answers_equal

    gold = math_answer(problem.solution)
    if gold is None:
        raise UserError(
            f"problem {problem.problem_id!r} (line {problem.line} of the data): Math-Verify finds "
            r"no answer in its response; write it as \boxed{...} or delete this line"
        )
    answer_of = {text: math_answer(text) for text in dict.fromkeys(texts)}
    answers = {answer for answer in answer_of.values() if answer is not None}
    right = frozenset(answer for answer in answers if math_answers_equal(gold, answer))
    return Ballot(gold, [answer_of[text] for text in texts], right)

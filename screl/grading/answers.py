"""Extract the final answer of a completion, ``#### n``, and compare it with the gold answer.

``paper`` follows the published code, with text and floats; ``strict`` reads exact numbers.
"""

import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Literal

from screl.core.io import UserError
from screl.core.problems import Problem
from screl.grading.boxed import last_boxed
from screl.grading.numbers import read_number

Fidelity = Literal["strict", "paper"]
# strict: an exact number. paper: text without commas, because the published vote counts texts.
Answer = Fraction | str

SCORING_TOLERANCE = 1e-4  # published eval.py; the published filter compares floats exactly

PAPER_ANSWER = re.compile(r"#### (-?[0-9.,]+)")
CORRECTION = ("####", "\n####")  # directly after an answer that cannot be read, it replaces it
# A Markdown heading, "#### 1. Find the cost", is not an answer.
HEADING = re.compile(r"[ *_]*(?:(?:step|part|case) +)?[0-9]+[.):][ *_]+[A-Za-z]", re.IGNORECASE)
ANSWER_LINE = re.compile(r"####[ \t#]*+((?:(?!####)[^\n\r])*+)")


def extract_answer(text: str, fidelity: Fidelity) -> Answer | None:
    """Return the final answer in ``text``, or None if it has none; ignore text after a NUL.

    paper: the first ``#### `` followed by digits, dots and commas, if it is a float without the
    commas (published extract_answer, which returns "[invalid]" instead of None).
    strict: the number on the line of the first ``####`` whose line has a digit and is not a
    numbered heading, by the grammar of screl.grading.numbers. A line that is not certainly one
    number is no answer, unless another ``####`` follows directly.

    >>> extract_answer("#### $1,234.50 a day", "strict")
    Fraction(2469, 2)
    >>> extract_answer("#### 1,234.50", "paper")
    '1234.50'
    """
    if "\0" in text:
        text = text.split("\0", maxsplit=1)[0]
    return _extract_exact(text) if fidelity == "strict" else _extract_published(text)


def is_correct(answer: Answer | None, gold: Answer, tolerance: float = 0.0) -> bool:
    """Return whether ``answer`` equals ``gold``; ``tolerance`` applies only to paper's floats."""
    if answer is None:
        return False
    if type(answer) is Fraction:  # isinstance is slow for numbers.Rational
        return answer == gold
    if tolerance:
        return abs(float(answer) - float(gold)) < tolerance
    return float(answer) == float(gold)


def gold_text(problem: Problem) -> str:
    r"""Return the text from which every grader reads the gold answer of ``problem``.

    It is the solution or, where the problem has a short ``answer``, that answer both in ``\boxed``
    and after ``####``, so that each grader finds it where it looks.

    >>> gold_text(Problem(0, "1/4+1/4?", "Add them.", 1, answer=r"$\boxed{\frac12}$"))
    '\\boxed{\\frac12}\n#### \\frac12'
    """
    if problem.answer is None:
        return problem.solution
    boxed = last_boxed(problem.answer)
    answer = problem.answer.strip().strip("$") if boxed is None else boxed
    return f"\\boxed{{{answer}}}\n#### {answer}"


def gold_answer(problem: Problem, fidelity: Fidelity) -> Answer | None:
    """Return the problem's gold answer as a number; None if it is not a number."""
    return extract_answer(gold_text(problem), fidelity)


def gold_answers(problems: Sequence[Problem], path: Path, fidelity: Fidelity) -> list[Answer]:
    """Return every gold answer; raise UserError, with its line, if one is not a number."""
    answers = []
    for problem in problems:
        answer = gold_answer(problem, fidelity)
        if answer is None and problem.answer is not None:
            raise UserError(
                f"{path}:{problem.line}: the answer {problem.answer!r} is not a number; fix it or "
                "delete this line"
            )
        if answer is None:
            raise UserError(
                f"{path}:{problem.line}: the response has no '#### <number>'; "
                "end it with its final answer or delete this line"
            )
        answers.append(answer)
    return answers


def _extract_published(text: str) -> str | None:
    match = PAPER_ANSWER.search(text)
    if match is None:
        return None
    answer = match[1].replace(",", "")
    try:
        float(answer)
    except ValueError:
        return None
    return answer


def _extract_exact(text: str) -> Fraction | None:
    for match in ANSWER_LINE.finditer(text):
        line = match[1]
        if any(character.isnumeric() for character in line) and not HEADING.match(line):
            number = read_number(line)
            if number is not None or not text.startswith(CORRECTION, match.end()):
                return number
    return None

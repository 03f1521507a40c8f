r"""Extract the final answer of a completion and compare it with the gold answer.

``paper`` follows the published code, with text and floats after ``####``; ``strict`` reads exact
numbers, after ``####`` or in another style: ``\boxed{...}``, "The answer is: ...".
"""

import re
from fractions import Fraction
from typing import Literal

from screl.core.problems import Problem
from screl.grading.boxed import last_boxed
from screl.grading.numbers import MAX_DIGITS, read_number

Fidelity = Literal["strict", "paper"]
# strict: an exact number. paper: text without commas, because the published vote counts texts.
Answer = Fraction | str

AnswerStyle = Literal["hash", "boxed", "the_answer_is", "last_number", "auto"]

SCORING_TOLERANCE = 1e-4  # published eval.py; the published filter compares floats exactly

PAPER_ANSWER = re.compile(r"#### (-?[0-9.,]+)")
CORRECTION = ("####", "\n####")  # directly after an answer that cannot be read, it replaces it
# A Markdown heading, "#### 1. Find the cost", is not an answer.
HEADING = re.compile(r"[ *_]*(?:(?:step|part|case) +)?[0-9]+[.):][ *_]+[A-Za-z]", re.IGNORECASE)
ANSWER_LINE = re.compile(r"####[ \t#]*+((?:(?!####)[^\n\r])*+)")
ANSWER_IS = re.compile(
    r"\bthe\s{1,3}(?:final\s{1,3}|correct\s{1,3})?answer\s{1,3}is\b[*_\s]{0,5}:?[*_\s]{0,5}",
    re.IGNORECASE,
)
SENTENCE_END = re.compile(r"[\n\r]|####|(?<=[^\s.])\.(?=[*_$)\"'\]]{0,4}(?:\s|$))")
# "5-3" ends in 3, not in -3.
SIGNED_NUMBER = re.compile(r"((?<![0-9)])[-−]\$?|\$[-−])?(\.[0-9]+|[0-9][0-9,]*(?:\.[0-9]+)?)")


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


def styled_answer(text: str, style: AnswerStyle) -> str | None:
    r"""Return the text of the answer that ``text`` gives in ``style``; None if it gives none.

    boxed: the last box, see last_boxed. the_answer_is: the rest of the sentence after the last "The
    answer is", with or without a colon (MetaMath and MuggleMATH). hash: the rest of the line after
    the first ``####`` that is not blank. last_number: the last digits anywhere.

    >>> styled_answer("The answer is: $5$. I hope so.", "the_answer_is")
    '$5$'
    """
    match style:
        case "boxed":
            return last_boxed(text)
        case "the_answer_is":
            ends = [match.end() for match in ANSWER_IS.finditer(text)]
            return SENTENCE_END.split(text[ends[-1] :], maxsplit=1)[0].strip() if ends else None
        case "last_number":
            number = last_number(text)
            return None if number is None else str(number)
    lines = (match[1].strip() for match in ANSWER_LINE.finditer(text))
    return next(filter(None, lines), None)


def last_number(text: str) -> Fraction | None:
    """Return the last number anywhere in ``text``, without ``$``, commas and a trailing dot."""
    numbers = SIGNED_NUMBER.findall(text)
    if not numbers or len(numbers[-1][1]) > MAX_DIGITS:
        return None
    sign, digits = numbers[-1]
    number = Fraction(digits.replace(",", ""))
    return -number if sign else number


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

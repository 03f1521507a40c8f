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

Fidelity = Literal["strict", "paper"]
# strict: an exact number. paper: text without commas, because the published vote counts texts.
Answer = Fraction | str

SCORING_TOLERANCE = 1e-4  # published eval.py; the published filter compares floats exactly
MAX_DIGITS = 100  # a longer number is degenerate output and slow to compare

PAPER_ANSWER = re.compile(r"#### (-?[0-9.,]+)")
# The group (?>...) does not backtrack: "1,2345" must not be read as 1,234.
STRICT_ANSWER = re.compile(
    r"""\#\#\#\#[ \t]*
    (?P<minus>[-−])? (?:[$€£][ ]?)? (?(minus)|(?P<inner_minus>[-−])?)  # -$5 and $-5, not -$-5
    (?P<number>(?>
        (?: [0-9]{1,3}(?:,[0-9]{3})+ | [0-9]+ ) (?:\.[0-9]*)?
        | \.[0-9]+
    ))
    (?! [.,]?[0-9] | [eE][-+]?[0-9] | [ ]*[-−+*/^=:×÷xX][ ]*[$€£]?[.0-9] )  # 1.2.3, 3/4, 5+3
    """,
    re.VERBOSE,
)


def extract_answer(text: str, fidelity: Fidelity) -> Answer | None:
    """Return the final answer in ``text``, or None if it has none; ignore text after a NUL.

    paper: the first ``#### `` followed by digits, dots and commas, if it is a float without the
    commas (published extract_answer, which returns "[invalid]" instead of None).
    strict: the first ``####`` followed by one well-formed number on the same line. A currency sign,
    thousands commas, a trailing dot or comma, a unit and ``%`` are allowed and ignored; ``1.2.3``,
    ``1,23``, ``3/4`` and ``5+3`` are not numbers.

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


def gold_answers(problems: Sequence[Problem], path: Path, fidelity: Fidelity) -> list[Answer]:
    """Return the answer of every solution; raise UserError, with its line, if one has none."""
    answers = []
    for problem in problems:
        answer = extract_answer(problem.solution, fidelity)
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
    match = STRICT_ANSWER.search(text)
    if match is None or len(match["number"]) > MAX_DIGITS:
        return None
    number = Fraction(match["number"].replace(",", ""))
    return -number if match["minus"] or match["inner_minus"] else number

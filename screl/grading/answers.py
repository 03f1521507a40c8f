"""The final answer of a completion, ``#### n``, and when two answers are the same.

``paper`` does what the published code does, on text and floats; ``strict`` reads exact numbers.
"""

import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Literal

from screl.core.io import UserError
from screl.core.problems import Problem

Fidelity = Literal["strict", "paper"]
# Exact in strict. In paper the text without commas, because the published vote counts texts.
Answer = Fraction | str

SCORING_TOLERANCE = 1e-4  # published eval.py; the published filter compares floats exactly
MAX_DIGITS = 100  # a longer number is degenerate output, and costs time to compare

PAPER_ANSWER = re.compile(r"#### (-?[0-9.,]+)")
# The group (?>...) never gives back what it took: "1,2345" must not be read as 1,234.
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
    """The final answer in ``text``, None if there is none; what follows a NUL is not read.

    paper: the first ``#### `` followed by digits, dots and commas, if what is left without the
    commas is a float (published extract_answer; None is its "[invalid]").
    strict: the first ``####`` followed by one well-formed number on the same line: a currency sign,
    thousands commas, a trailing dot or comma, a unit or ``%`` are allowed and mean nothing;
    ``1.2.3``, ``1,23``, ``3/4`` and ``5+3`` are no numbers.

    >>> extract_answer("#### $1,234.50 a day", "strict")
    Fraction(2469, 2)
    >>> extract_answer("#### 1,234.50", "paper")
    '1234.50'
    """
    if "\0" in text:
        text = text.split("\0", maxsplit=1)[0]
    return _extract_exact(text) if fidelity == "strict" else _extract_published(text)


def is_correct(answer: Answer | None, gold: Answer, tolerance: float = 0.0) -> bool:
    """Whether ``answer`` is the gold one; ``tolerance`` applies to the paper's floats only."""
    if answer is None:
        return False
    if type(answer) is Fraction:  # isinstance is slow for numbers.Rational
        return answer == gold
    if tolerance:
        return abs(float(answer) - float(gold)) < tolerance
    return float(answer) == float(gold)


def gold_answers(problems: Sequence[Problem], path: Path, fidelity: Fidelity) -> list[Answer]:
    """The answer of every solution; UserError names the line of ``path`` that has none."""
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

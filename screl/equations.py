"""The equations ``<<3*4=12>>`` of a completion: find them, join them to a path, check them."""

import re
from fractions import Fraction
from functools import lru_cache

from screl.answers import Fidelity
from screl.arithmetic import MAX_LENGTH, NotArithmeticError, exact_value, python_value

PAPER_TOLERANCE = 1e-3  # published check_equation

NUMBER = r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)"
THOUSANDS = re.compile(r"(?<![0-9.,])[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])")
LETTER_TIMES = re.compile(r"(?<=[0-9).%])(\s*)[xX](?=\s*[-$(.0-9])")
PERCENT = re.compile(rf"(?<![0-9.])({NUMBER})\s*%(?=\s*(?:$|[-+*/)]))")
ROUNDED = re.compile(r"-?\s*[0-9]*\.([0-9]{2,})\s*(%?)")


def find_equations(completion: str) -> list[str]:
    """What stands between ``<<`` and ``>>``, in order: the published ``<<([^>]*)>>``.

    >>> find_equations("2+3=<<2+3=5>>5, so <<5*2=10>>10")
    ['2+3=5', '5*2=10']
    """
    # By hand, as the regular expression needs quadratic time for a degenerate "<<<<<<...".
    equations = []
    start = completion.find("<<")
    while start >= 0:
        close = completion.find(">", start + 2)
        if close < 0:
            break
        if completion.startswith(">>", close):
            equations.append(completion[start + 2 : close])
        start = completion.find("<<", close + 1)
    return equations


def equation_path(completion: str) -> str:
    """The identity of a reasoning path: its equations joined by ``|``, without spaces (A.3)."""
    return "|".join(find_equations(completion)).replace(" ", "")


def has_valid_equations(completion: str, fidelity: Fidelity) -> bool:
    """Whether every equation of ``completion`` holds; one without equations is valid (A.3)."""
    return all(is_valid_equation(text, fidelity) for text in find_equations(completion))


@lru_cache(maxsize=2**17)  # the samples of a problem repeat the same few equations
def is_valid_equation(equation: str, fidelity: Fidelity) -> bool:
    """Whether ``equation`` (what is between ``<<`` and ``>>``) holds.

    paper: the text before the first ``=``, with Python's arithmetic, is within 0.001 of the float
    between the first and the second ``=`` (published check_equation, without its ``eval``).
    strict: every part of ``a=b=c`` is exactly the value of the first, in rational arithmetic; a
    later part written with two or more decimals may also be that value correctly rounded (0.33 for
    1/3, a tie to either side). ``$``, thousands commas, ``×``, ``÷`` and ``x`` are understood.
    ``%`` after a number is one hundredth, unless a number or a bracket follows: 7%3 is 1.

    >>> is_valid_equation("10/3=3.33", "strict"), is_valid_equation("10/3=3", "strict")
    (True, False)
    """
    try:
        return _holds_exactly(equation) if fidelity == "strict" else _holds_published(equation)
    except NotArithmeticError:
        return False


def _holds_published(equation: str) -> bool:
    parts = equation.split("=")
    if len(parts) < 2:
        return False
    value = python_value(parts[0])
    try:
        return abs(float(value) - float(parts[1])) < PAPER_TOLERANCE
    except (ValueError, OverflowError):  # no number; too large for a float
        return False


def _holds_exactly(equation: str) -> bool:
    if len(equation) > MAX_LENGTH:
        return False  # before the regular expressions
    first, *others = (_to_plain_arithmetic(part) for part in equation.split("="))
    value = _plain_value(first)
    return bool(others) and all(_equals(value, part) for part in others)


def _to_plain_arithmetic(part: str) -> str:
    """``part`` with the signs of word problems written as ASCII arithmetic."""
    part = THOUSANDS.sub(lambda match: match[0].replace(",", ""), part)
    part = LETTER_TIMES.sub(r"\1*", part)
    # a space for the $, so that the two numbers of "1$2" do not become one
    return part.translate({ord("×"): "*", ord("÷"): "/", ord("−"): "-", ord("$"): " "}).strip()


def _plain_value(part: str) -> Fraction:
    return exact_value(PERCENT.sub(r"(\1/100)", part))


def _equals(value: Fraction, part: str) -> bool:
    """Whether ``part`` is ``value``, or is it rounded to the two or more decimals it shows."""
    stated = _plain_value(part)
    rounded = ROUNDED.fullmatch(part)
    if rounded is None:
        return stated == value
    last_place = Fraction(1, 10 ** len(rounded[1])) / (100 if rounded[2] else 1)
    return abs(stated - value) <= last_place / 2

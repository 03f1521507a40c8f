"""The equations ``<<3*4=12>>`` of a completion: find them, join them to a path, check them."""

import re
from collections.abc import Iterable
from fractions import Fraction
from functools import lru_cache
from keyword import kwlist
from typing import Literal

from screl.grading.answers import Fidelity
from screl.grading.arithmetic import (
    EXACT_TEXT,
    MAX_LENGTH,
    NotArithmeticError,
    exact_value,
    python_value,
)

EquationStatus = Literal["right", "false", "unparsed"]

PAPER_TOLERANCE = 1e-3  # published check_equation

EQUATION = re.compile(r"<<([^>]*)>>")
SHORT = 1000  # characters, up to which the quadratic time of EQUATION for "<<<<<<..." does no harm

NUMBER = r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)"
THOUSANDS = re.compile(r"(?<![0-9.,])[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])")
LETTER_TIMES = re.compile(r"(?<=[0-9).%])(\s*)[xX](?=\s*[-$(.0-9])")
PERCENT_WORD = re.compile(r"(?<=[0-9.]) *per ?cent(?= *(?:$|[-+*/)]))", re.IGNORECASE)
PERCENT = re.compile(rf"(?<![0-9.])({NUMBER})\s*%(?=\s*(?:$|[-+*/)]))")
ROUNDED = re.compile(r"-?\s*[0-9]*\.([0-9]{2,})\s*(%?)")

_WORD = r"(?![xX])[A-Za-z]{2,}+"  # neither 3xten nor 0xff has a unit
UNIT = re.compile(rf"(?<=[0-9.]) *(?:/ *)?{_WORD}(?:(?: */ *| +){_WORD})*+")
# Words (a plural s aside) that change the number before them, or join it to what follows.
_SCALES = """
    hundred thousand million billion trillion grand lakh crore mil mln mio mm mn mill bil bln bn
    trn tn dozen score gross pair couple half halve quarter third fourth fifth sixth seventh eighth
    ninth tenth hundredth thousandth single double triple quadruple twice thrice doubled tripled
    quadrupled halved squared cubed factorial power root pi inf infinity nan pct permille
"""
_ONES = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
    sixteen seventeen eighteen nineteen
"""
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
ONES, TENS = _ONES.split(), _TENS.split()
_OPERATIONS = """
    plus minus times multiplied divided over by into of to off less than mod modulo equal
"""
_PYTHON = " ".join(kwlist).lower()  # "5 and -3" is neither 2 nor Python's -3
NOT_UNITS = frozenset(" ".join((_SCALES, _ONES, _TENS, _OPERATIONS, _PYTHON)).split())


def find_equations(completion: str) -> list[str]:
    """What stands between ``<<`` and ``>>``, in order: the published ``<<([^>]*)>>``.

    >>> find_equations("2+3=<<2+3=5>>5, so <<5*2=10>>10")
    ['2+3=5', '5*2=10']
    """
    if len(completion) <= SHORT:
        return EQUATION.findall(completion)
    # The same in linear time: between two ">>" there may be one equation, behind any single ">".
    parts = [part.rpartition(">")[2].partition("<<") for part in completion.split(">>")[:-1]]
    return [equation for _, begin, equation in parts if begin]


def equation_path(completion: str, fidelity: Fidelity = "paper") -> str:
    """The path of a completion's equations, see path_of."""
    return path_of(find_equations(completion), fidelity)


def path_of(equations: Iterable[str], fidelity: Fidelity) -> str:
    """The identity of a reasoning path: its equations joined by ``|``, without spaces (A.3).

    strict: without ``$``, thousands commas and units too, and with ``*`` for every times sign.

    >>> path_of(["$5 * 3=$15"], "paper"), path_of(["$5 * 3=$15"], "strict")
    ('$5*3=$15', '5*3=15')
    """
    if fidelity == "strict":
        equations = map(_plain_equation, equations)
    return "|".join(equations).replace(" ", "")


def has_valid_equations(completion: str, fidelity: Fidelity) -> bool:
    """Whether every equation of ``completion`` is right; one without equations is valid (A.3)."""
    return all(check_equation(text, fidelity) == "right" for text in find_equations(completion))


@lru_cache(maxsize=2**17)  # the samples of a problem repeat the same few equations
def check_equation(equation: str, fidelity: Fidelity) -> EquationStatus:
    """Whether ``equation`` (what is between ``<<`` and ``>>``) is right, false, or unparsed: no
    ``=``, no arithmetic, without a value (1/0) or too large to compute.

    paper: the text before the first ``=``, with Python's arithmetic, is within 0.001 of the float
    between the first and the second ``=`` (published check_equation, without its ``eval``).
    strict: every part of ``a=b=c`` is exactly the value of the first, in rational arithmetic; a
    later part written with two or more decimals may also be that value correctly rounded (0.33 for
    1/3, a tie to either side). ``$``, thousands commas, ``×``, ``÷`` and ``x`` are understood.
    ``%`` (or percent) after a number is one hundredth, unless a number or a bracket follows: 7%3
    is 1.

    Units (strict): one or more words of two or more letters behind a number, joined by blanks or
    ``/``, are its unit and are dropped; units are neither compared nor converted. A word anywhere
    else and a single letter (``5x=10``, ``5k``) leave the equation unparsed. So does a word that
    is itself a number, a scale or an operation (NOT_UNITS: million, dozen, half, squared, and).

    >>> check_equation("10/3=3.33", "strict"), check_equation("10/3=3", "strict")
    ('right', 'false')
    >>> check_equation("60 miles/hour*2=120 miles", "strict"), check_equation("5k=5", "strict")
    ('right', 'unparsed')
    """
    try:
        holds = _holds_exactly(equation) if fidelity == "strict" else _holds_published(equation)
    except NotArithmeticError:
        return "unparsed"
    return "right" if holds else "false"


@lru_cache(maxsize=2**17)
def _plain_equation(equation: str) -> str:
    return "=".join(map(plain_arithmetic, equation.split("=")))


def plain_arithmetic(part: str) -> str:
    """One side of an equation as ASCII arithmetic: without ``$``, commas and units, ``*`` for ×."""
    if EXACT_TEXT.fullmatch(part):
        return part.strip(" ")
    part = PERCENT_WORD.sub("%", part)
    part = UNIT.sub(_drop_unit, part)
    part = THOUSANDS.sub(lambda match: match[0].replace(",", ""), part)
    part = LETTER_TIMES.sub(r"\1*", part)
    # a space for the $, so that the two numbers of "1$2" do not become one
    return part.translate({ord("×"): "*", ord("÷"): "/", ord("−"): "-", ord("$"): " "}).strip()


def plain_value(part: str) -> Fraction:
    """The value of what plain_arithmetic returns. Raises NotArithmeticError, and nothing else."""
    return exact_value(PERCENT.sub(r"(\1/100)", part) if "%" in part else part)


def _holds_published(equation: str) -> bool:
    parts = equation.split("=")
    if len(parts) < 2:
        raise NotArithmeticError("no =")
    value = python_value(parts[0])
    try:
        return abs(float(value) - float(parts[1])) < PAPER_TOLERANCE
    except (ValueError, OverflowError):  # no number; too large for a float
        raise NotArithmeticError(equation) from None


def _holds_exactly(equation: str) -> bool:
    if len(equation) > MAX_LENGTH:  # before the regular expressions
        raise NotArithmeticError("too long")
    first, *others = (plain_arithmetic(part) for part in equation.split("="))
    if not others:
        raise NotArithmeticError("no =")
    value = plain_value(first)
    return all([_equals(value, part) for part in others])  # a list: every part has to have a value


def _drop_unit(match: re.Match[str]) -> str:
    """A blank for a unit, so that numbers do not join; what is none stays, and is no arithmetic."""
    words = match[0].lower().replace("/", " ").split()
    is_unit = (
        all(NOT_UNITS.isdisjoint((word, word.removesuffix("s"))) for word in words)
        and words[-1] != "per"
        and "percent" not in "".join(words)
    )
    return " " if is_unit else match[0]


def _equals(value: Fraction, part: str) -> bool:
    """Whether ``part`` is ``value``, or is it rounded to the two or more decimals it shows."""
    stated = plain_value(part)
    if stated == value:
        return True
    rounded = ROUNDED.fullmatch(part)
    if rounded is None:
        return False
    last_place = Fraction(1, 10 ** len(rounded[1])) / (100 if rounded[2] else 1)
    return abs(stated - value) <= last_place / 2

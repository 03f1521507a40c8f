"""Find the equations ``<<3*4=12>>`` in a completion, join them into a path, and check them."""

import re
from collections.abc import Iterable, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Literal

from screl.grading.answers import Fidelity
from screl.grading.arithmetic import (
    EXACT_TEXT,
    MAX_LENGTH,
    NotArithmeticError,
    exact_value,
    python_value,
)
from screl.grading.units import NOT_UNITS

EquationStatus = Literal["right", "false", "unparsed"]

PAPER_TOLERANCE = 1e-3  # published check_equation

EQUATION = re.compile(r"<<([^>]*)>>")
# An equation in brackets that are not <<...>>: unclosed, doubled otherwise, or of another script.
_INSIDE = r"[^<>\[\]《》«»≪≫⟪⟫＜＞\n]*+"
ODD_EQUATION = re.compile(rf"(<<++|\[\[++|[《«≪⟪＜]++|<)({_INSIDE})(>>)?")
ODD_BRACKET = re.compile(r"\[\[|[《«≪⟪＜]")
SHORT = 1000  # characters; EQUATION takes quadratic time on longer texts like "<<<<<<..."

NUMBER = r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)"
THOUSANDS = re.compile(r"(?<![0-9.,])[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])")
LETTER_TIMES = re.compile(r"(?<=[0-9).%])(\s*)[xX](?=\s*[-$(.0-9])")
PERCENT_WORD = re.compile(r"(?<=[0-9.]) *per ?cent(?= *(?:$|[-+*/)]))", re.IGNORECASE)
PERCENT = re.compile(rf"(?<![0-9.])({NUMBER})\s*%(?=\s*(?:$|[-+*/)]))")
ROUNDED = re.compile(r"-?\s*[0-9]*\.([0-9]{2,})\s*(%?)")

_WORD = r"(?![xX])[A-Za-z]{2,}+"  # neither 3xten nor 0xff has a unit
UNIT = re.compile(rf"(?<=[0-9.]) *(?:/ *)?{_WORD}(?:(?: */ *| +){_WORD})*+")


def find_equations(completion: str) -> list[str]:
    """Return the texts between ``<<`` and ``>>`` in order, as the published ``<<([^>]*)>>`` does.

    >>> find_equations("2+3=<<2+3=5>>5, so <<5*2=10>>10")
    ['2+3=5', '5*2=10']
    """
    if len(completion) <= SHORT:
        return EQUATION.findall(completion)
    # The same in linear time: before a ">>" there is at most one equation, after any single ">".
    parts = [part.rpartition(">")[2].partition("<<") for part in completion.split(">>")[:-1]]
    return [equation for _, begin, equation in parts if begin]


def has_odd_equation(completion: str, equations: Sequence[str]) -> bool:
    """Return whether a text has odd_equations."""
    return bool(odd_equations(completion, equations))


def odd_equations(completion: str, equations: Sequence[str]) -> list[str]:
    """Return the equations of a text in other brackets than ``<<...>>``, or not closed.

    ``equations`` are its find_equations. An equation has a digit and a ``=`` within the brackets,
    on one line, so ``a << b`` and the matrix ``[[1,2],[3,4]]`` are none.

    >>> [odd_equations(text, []) for text in ("<<48/2=25>", "[[48/2=25]]", "[[1,2],[3,4]]")]
    [['<<48/2=25'], ['[[48/2=25'], []]
    """
    is_closed = completion.count("<<") == completion.count(">>") == len(equations)
    if is_closed and not ODD_BRACKET.search(completion):
        return []
    for equation in equations:
        completion = completion.replace(f"<<{equation}>>", "\n", 1)
    return [
        opening + inside + closing
        for opening, inside, closing in ODD_EQUATION.findall(completion)
        if (opening != "<" or closing) and "=" in inside and any(map(str.isdigit, inside))
    ]


def equation_path(completion: str, fidelity: Fidelity = "paper") -> str:
    """Return the path of a completion's equations (see join_equations)."""
    return join_equations(find_equations(completion), fidelity)


def join_equations(equations: Iterable[str], fidelity: Fidelity) -> str:
    """Return the equation path: ``equations`` joined by ``|``, without spaces (A.3).

    Two completions with the same path count as the same reasoning. strict also drops ``$``,
    thousands commas and units, and writes every multiplication sign as ``*``.

    >>> join_equations(["$5 * 3=$15"], "paper"), join_equations(["$5 * 3=$15"], "strict")
    ('$5*3=$15', '5*3=15')
    """
    if fidelity == "strict":
        equations = map(_plain_equation, equations)
    return "|".join(equations).replace(" ", "")


@lru_cache(maxsize=2**17)  # the samples of a problem repeat the same few equations
def check_equation(equation: str, fidelity: Fidelity) -> EquationStatus:
    """Return whether ``equation``, the text between ``<<`` and ``>>``, is right.

    "unparsed" means that it has no ``=``, is not arithmetic, has no value (1/0) or is too large to
    compute.

    paper: the text before the first ``=``, in Python's arithmetic, must be within 0.001 of the
    float between the first and the second ``=`` (published check_equation, without its ``eval``).
    strict: every part of ``a=b=c`` must equal the first in exact rational arithmetic. A later part
    with two or more decimals may also be the first correctly rounded (0.33 for 1/3, a tie either
    way). ``$``, thousands commas, ``×``, ``·``, ``÷``, ``x`` and ``^`` (a power) are understood;
    ``5(3)`` and ``==`` are not. ``%`` (or percent) after a number is one hundredth, unless a number
    or a parenthesis follows: 7%3 is 1.

    Units (strict): words of two or more letters after a number, joined by blanks or ``/``, are its
    unit and are dropped; units are neither compared nor converted. A word anywhere else or a single
    letter (``5x=10``, ``5k``) leaves the equation unparsed, and so does a word that is a number, a
    scale or an operation (NOT_UNITS: million, dozen, half, squared, and).

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
    """Return one side of an equation in ASCII: no ``$``, commas or units, and ``*`` for ×."""
    if EXACT_TEXT.fullmatch(part):
        return part.strip(" ")
    part = PERCENT_WORD.sub("%", part)
    part = UNIT.sub(_drop_unit, part)
    part = THOUSANDS.sub(lambda match: match[0].replace(",", ""), part)
    part = LETTER_TIMES.sub(r"\1*", part).replace("^", "**")
    # a space for the $, so that the numbers in "1$2" do not join
    return part.translate(
        {ord("×"): "*", ord("·"): "*", ord("⋅"): "*", ord("÷"): "/", ord("−"): "-", ord("$"): " "}
    ).strip()


def plain_value(part: str) -> Fraction:
    """Return the value of plain_arithmetic's text; raise NotArithmeticError and nothing else."""
    return exact_value(PERCENT.sub(r"(\1/100)", part) if "%" in part else part)


def _holds_published(equation: str) -> bool:
    parts = equation.split("=")
    if len(parts) < 2:
        raise NotArithmeticError("no =")
    value = python_value(parts[0])
    try:
        return abs(float(value) - float(parts[1])) < PAPER_TOLERANCE
    except (ValueError, OverflowError):  # not a number; too large for a float
        raise NotArithmeticError(equation) from None


def _holds_exactly(equation: str) -> bool:
    if len(equation) > MAX_LENGTH:  # before the regular expressions
        raise NotArithmeticError("too long")
    first, *others = (plain_arithmetic(part) for part in equation.split("="))
    if not others:
        raise NotArithmeticError("no =")
    value = plain_value(first)
    return all([_equals(value, part) for part in others])  # a list: every part must have a value


def _drop_unit(match: re.Match[str]) -> str:
    """Return a blank for a unit, so that numbers do not join; keep other words to be refused."""
    words = match[0].lower().replace("/", " ").split()
    is_unit = (
        all(NOT_UNITS.isdisjoint((word, word.removesuffix("s"))) for word in words)
        and words[-1] != "per"
        and "percent" not in "".join(words)
    )
    return " " if is_unit else match[0]


def _equals(value: Fraction, part: str) -> bool:
    """Return whether ``part`` is ``value``, or ``value`` rounded to its two or more decimals."""
    stated = plain_value(part)
    if stated == value:
        return True
    rounded = ROUNDED.fullmatch(part)
    if rounded is None:
        return False
    last_place = Fraction(1, 10 ** len(rounded[1])) / (100 if rounded[2] else 1)
    return abs(stated - value) <= last_place / 2

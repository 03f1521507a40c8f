"""Detect signs of wrong reasoning in a completion whose answer and equations are right.

There are three heuristics on numbers, each of them sometimes wrong; the paper has no such filter.

unused_result: an equation's result is neither used in a later calculation nor the answer.
last_equation_not_answer: the last result is not the answer. Passes without equations.
unexplained_number: an operand is neither in the question, nor an earlier result, nor in CONSTANTS.
An equation without an operation, ``<<5=5>>``, has no operands.

Numbers are compared exactly, but 20, 20% and 0.2 are one number, and so are $0.50 and 50 cents, and
a loss of 5 and -5; a result of 7.5 cans may be used as 7 or 8. An operand uses every earlier result
with its value. Calculations in the text outside ``<<>>`` count as uses and as results.
"""

import math
import re
from collections.abc import Collection, Iterator
from fractions import Fraction
from functools import lru_cache
from typing import Literal, NamedTuple, get_args

from screl.grading.answers import Answer, extract_answer
from screl.grading.arithmetic import MAX_LENGTH, NotArithmeticError
from screl.grading.equations import (
    THOUSANDS,
    find_equations,
    plain_arithmetic,
    plain_value,
)
from screl.grading.numbers import MAX_DIGITS
from screl.grading.units import ONES, TENS

ProcessCheck = Literal["unused_result", "last_equation_not_answer", "unexplained_number"]
ExactNumber = int | Fraction

# Numbers that need no explanation. 3, 4 and 5 may count people or days that the question lists by
# name, weeks in a month, or days in a school week; the others are percent, time and units.
CONSTANTS = (0, 1, 2, 3, 4, 5, 7, 12, 16, 24, 30, 31, 52, 60, 365, 1000)

# Possessive quantifiers, so that every pattern below takes linear time on any text.
_VALUE = r"(?<![0-9.])([0-9]++\.?[0-9]*+|\.[0-9]++)"
_UNIT = r" ?%?(?:[ /]{0,2}[A-Za-z]{2,}+){0,3}+\)? {0,2}"
_OPERATOR = r"[-+*/×÷−–<>=xX]"
VALUE = re.compile(_VALUE)
# At most 5 blanks: an equation, blanked out, leaves at least 7 before its result.
TEXT_OPERAND = re.compile(
    rf"(?<={_OPERATOR})[ $(]{{0,5}}+{_VALUE}|{_VALUE}(?:\(|{_UNIT}(?={_OPERATOR}))"
)
TEXT_RESULT = re.compile(rf"=[ $−-]{{0,5}}+{_VALUE}")
QUESTION_TOKEN = re.compile(rf"{_VALUE}|[a-z]+|[%/]")

_ORDINALS = (
    "zeroth first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth "
    "thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth"
)
MULTIPLES_OF_TEN = {word: 10 * tens for tens, word in enumerate(TENS, 2)}
SCALES = {"hundred": 100, "thousand": 1000, "k": 1000, "million": 10**6, "billion": 10**9}
ORDINALS = {word: n for n, word in enumerate(_ORDINALS.split())} | {"quarter": 4, "half": 2}
WORDS = (
    {word: n for n, word in enumerate(ONES)}
    | {"a": 1, "an": 1, "once": 1, "twice": 2, "double": 2, "doubled": 2, "both": 2, "couple": 2}
    | {"pair": 2, "halves": 2, "thrice": 3, "triple": 3, "tripled": 3, "quadruple": 4, "dozen": 12}
    | {"nickel": 5, "dime": 10}
    | MULTIPLES_OF_TEN
    | ORDINALS
)


class Step(NamedTuple):
    """An equation of a completion, or a result in its text, which has no operands."""

    start: int
    end: int
    operands: list[ExactNumber]
    results: frozenset[ExactNumber]  # all numbers that count as the result
    is_equation: bool


def failed_checks(
    completion: str, question: str, checks: Collection[ProcessCheck]
) -> list[ProcessCheck]:
    """Return those of ``checks`` that the completion fails, in the order of ProcessCheck.

    Answer and equations are read as in ``strict``; equations that cannot be read are skipped.
    """
    if not checks:
        return []
    steps, text_operands = _read_steps(completion)
    answer = extract_answer(completion, "strict")

    def fails(check: ProcessCheck) -> bool:
        match check:
            case "unused_result":
                return _has_unused_result(steps, text_operands, answer)
            case "last_equation_not_answer":
                return _ends_without_answer(steps, answer)
            case "unexplained_number":
                return _has_unexplained_number(steps, question)

    return [check for check in get_args(ProcessCheck) if check in checks and fails(check)]


def question_numbers(question: str) -> frozenset[ExactNumber]:
    """Return the numbers that ``question`` states in digits or words, and the ones they imply.

    A number n implies 1/n (one in five); a fraction f=a/b or a percentage f implies 1-f, 1+f and
    b-a (20% off).

    >>> [str(number) for number in sorted(question_numbers("twenty-five dozen"))]
    ['1/25', '1/20', '1/12', '1/5', '5', '12', '20', '25']
    """
    text = _without_commas(question.lower())
    text += "\n" + re.sub(r"(?<=[0-9]) (?=[0-9]{3}(?![0-9]))", "", text)  # 400 000 is both
    tokens = [match[0] for match in QUESTION_TOKEN.finditer(text)]
    numbers: set[ExactNumber] = set()
    for i in range(len(tokens)):
        numbers.update(_numbers_at(tokens[i : i + 6]))
    return frozenset(numbers | {Fraction(1) / number for number in numbers if number})


def _has_unused_result(
    steps: list[Step], text_operands: list[tuple[int, ExactNumber]], answer: Answer | None
) -> bool:
    # A result in the text counts as its own use, since it follows a "=": only equations can fail.
    last_use = {number: place for place, number in text_operands}
    for step in steps:
        for number in step.operands:
            last_use[number] = max(step.start, last_use.get(number, 0))
    return any(
        not _is_answer(step, answer)
        and all(last_use.get(form, 0) < step.end for form in step.results)
        for step in steps
    )


def _ends_without_answer(steps: list[Step], answer: Answer | None) -> bool:
    has_equation = any(step.is_equation for step in steps)
    return has_equation and not _is_answer(steps[-1], answer)


def _has_unexplained_number(steps: list[Step], question: str) -> bool:
    known = set(_known_from_start(question))
    for step in steps:
        if len(step.operands) > 1 and not known.issuperset(step.operands):
            return True
        known |= step.results
    return False


def _is_answer(step: Step, answer: Answer | None) -> bool:
    return isinstance(answer, Fraction) and abs(answer) in step.results


def _read_steps(completion: str) -> tuple[list[Step], list[tuple[int, ExactNumber]]]:
    """Return the steps in order, and the position and value of each operand outside ``<<>>``."""
    steps = []
    text = []  # the completion with its equations blanked out
    place = 0
    for equation in find_equations(completion):
        start = completion.index(f"<<{equation}>>", place)
        end = start + len(equation) + 4
        steps += _read_equation(equation, start, end)
        text += [completion[place:start], " " * (end - start)]
        place = end
    outside = _without_commas("".join([*text, completion[place:]]))
    for place, number in _numbers(TEXT_RESULT, outside):
        steps.append(Step(place, place, [], _forms_of_result(number), is_equation=False))
    return sorted(steps, key=lambda step: step.start), _numbers(TEXT_OPERAND, outside)


def _read_equation(equation: str, start: int, end: int) -> list[Step]:
    """Return the equation as one step, or no step if it cannot be read."""
    if len(equation) > MAX_LENGTH:
        return []
    parts = [plain_arithmetic(part) for part in equation.split("=")]
    try:
        result = plain_value(parts[-1])
    except NotArithmeticError:
        return []
    operands = [number for _, number in _numbers(VALUE, parts[0])]
    return [Step(start, end, operands, _forms_of_result(result), is_equation=True)]


def _forms(number: ExactNumber) -> set[ExactNumber]:
    """Return the numbers that count as ``number``: without its sign, as a percentage, in cents."""
    size = -number if number < 0 else number
    if size.denominator == 1:
        size = size.numerator  # an int, which is faster than a Fraction
    return {size, size * 100, Fraction(size, 100)}


@lru_cache(maxsize=2**12)  # small numbers recur
def _forms_of_result(result: ExactNumber) -> frozenset[ExactNumber]:
    """Return the forms of ``result`` and the two integers next to it."""
    forms = _forms(result)
    if result.denominator != 1:
        forms |= {abs(math.floor(result)), abs(math.ceil(result))}
    return frozenset(forms)


@lru_cache(maxsize=2**10)  # the samples of a problem come in a row
def _known_from_start(question: str) -> frozenset[ExactNumber]:
    numbers = question_numbers(question).union(CONSTANTS)
    return frozenset(form for number in numbers for form in _forms(number))


def _numbers(pattern: re.Pattern[str], text: str) -> list[tuple[int, ExactNumber]]:
    """Return the position and value of each match, skipping numbers longer than MAX_DIGITS."""
    found = []
    for match in pattern.finditer(text):
        digits = match[match.lastindex or 0]
        if len(digits) <= MAX_DIGITS:
            found.append((match.start(), _number(digits)))
    return found


def _number(digits: str) -> ExactNumber:
    return int(digits) if digits.isdigit() else Fraction(digits)


def _without_commas(text: str) -> str:
    """Return ``text`` without thousands commas, padded to the same length."""
    return THOUSANDS.sub(lambda match: match[0].replace(",", "").rjust(len(match[0])), text)


def _numbers_at(tokens: list[str]) -> Iterator[ExactNumber]:
    """Yield the numbers stated and implied by a number that begins at the first token."""
    value = _token_value(tokens[0])
    if value is None:
        return
    yield value
    rest = tokens[1:]
    if tokens[0] in MULTIPLES_OF_TEN and rest and WORDS.get(rest[0], 10) < 10:  # twenty-five
        value += WORDS[rest.pop(0)]
        yield value
    is_scaled = False
    while rest and rest[0] in SCALES:
        value *= SCALES[rest.pop(0)]
        is_scaled = True
    yield value
    after_and = rest[1:] if rest[:1] == ["and"] else rest
    if is_scaled and after_and:  # one hundred twenty
        yield from (value + number for number in _numbers_at(after_and))
    if rest[:1] in (["%"], ["percent"]):
        yield from (1 - value / Fraction(100), 1 + value / Fraction(100))
    if (fraction := _fraction_at(tokens)) is not None:
        yield from (fraction, 1 - fraction, 1 + fraction)
        yield fraction.denominator - fraction.numerator
    if (part := _fraction_at(after_and)) is not None and part < 1:  # two and a half, 2 1/2
        yield value + part


def _fraction_at(tokens: list[str]) -> Fraction | None:
    """Return the fraction at the first token: 3/4, three quarters, half; not a lone ordinal."""
    value = _token_value(tokens[0]) if tokens else None
    if value is None:
        return None
    if tokens[0] == "half":
        return Fraction(1, 2)
    below: ExactNumber | None = None
    if len(tokens) > 2 and tokens[1] == "/":
        below = _token_value(tokens[2])
    elif len(tokens) > 1 and (tokens[1].removesuffix("s") in ORDINALS or tokens[1] == "halves"):
        below = _token_value(tokens[1])
    return Fraction(value) / below if below else None


def _token_value(token: str) -> ExactNumber | None:
    if token[0] in ".0123456789":
        return _number(token) if len(token) <= MAX_DIGITS else None
    return WORDS.get(token, WORDS.get(token.removesuffix("s"), SCALES.get(token)))

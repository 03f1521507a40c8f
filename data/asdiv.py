"""Write a worked solution, one sentence a step, from a formula of ASDiv such as ``(35+48)*4=332``.

Every step is checked by the filter's own exact arithmetic, and the last one must give the answer.
"""

import ast
import re
from decimal import Decimal
from fractions import Fraction

from screl.grading.arithmetic import NotArithmeticError, exact_value
from screl.grading.equations import check_equation
from screl.grading.numbers import read_number

ANSWER = re.compile(r"\s*(?P<number>.*?)\s*\((?P<unit>[^()]*)\)\s*")
UNIT = re.compile(r"\s*\((?:[a-z .]+/)?[a-z .]+\)", re.IGNORECASE)
EQUATION = re.compile(r"([-+*/^().0-9 ]+)=([-0-9. ]+?)\s*(?:r(\d+))?")
MAX_DECIMALS = 6
SIGNS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
SENTENCES = {
    "+": "Add {left} and {right}",
    "-": "Take {right} from {left}",
    "*": "Multiply {left} by {right}",
    "/": "Divide {left} by {right}",
}
FITTING = "The largest multiple that fits is {left} times {right}"
WITHOUT_REST = "Leave out the {right} that remain"
ONE_MORE = "One more is needed for the rest"
NO_ARITHMETIC = "the formula is not arithmetic ({})"
# What a formula without arithmetic is, in the order of the tests.
KINDS = (
    (re.compile(r"GCD|LCM"), "a common divisor or multiple"),
    (re.compile(r"[<>]|equals"), "a comparison"),
    (re.compile(r"\d\s*:"), "a ratio or a time"),
    (re.compile(r"\d\s*,"), "a sequence"),
    (re.compile(r"[A-Za-z]"), "words or an unknown"),
)


class LeftOut(Exception):
    """An expected reason, in words, not to make a problem of a row."""


def unit_and_number(answer: str) -> tuple[str, str]:
    """Return the number and the unit of an answer.

    >>> unit_and_number("9 (apples)"), unit_and_number("383")
    (('9', 'apples'), ('383', ''))
    """
    match = ANSWER.fullmatch(answer)
    return (match["number"], match["unit"]) if match else (answer.strip(), "")


def worked_solution(formula: str, answer: str) -> str:
    """Return the steps of ``formula`` and ``#### n``; raise LeftOut with the reason if it has none.

    >>> print(worked_solution("(3+4)*2=14", "14 (legs)"))
    Add 3 and 4: 3 + 4 = <<3+4=7>>7.
    Multiply 7 by 2: 7 * 2 = <<7*2=14>>14 legs.
    #### 14
    """
    number, unit = unit_and_number(answer)
    gold = read_number(number)
    steps: list[str] = []
    last: Fraction | None = None
    parts = UNIT.sub("", formula).split(";")
    for i, part in enumerate(parts, start=1):
        match = EQUATION.fullmatch(part.strip())
        if match is None:
            raise LeftOut(NO_ARITHMETIC.format(_kind(formula)))
        expression, stated, remainder = match.groups()
        if remainder is None:
            last = _expression_steps(expression, steps)
            if last != _value(stated):
                raise LeftOut("the formula rounds its result")
        else:
            asked = gold if i == len(parts) else None
            last = _division_steps(expression, int(stated), int(remainder), steps, asked)
    if last is None or last != gold:
        raise LeftOut("the formula does not end in the answer")
    if not steps:
        raise LeftOut("the formula has no operation")
    with_unit = f"{steps.pop().removesuffix('.')} {unit}".rstrip() + "."
    return "\n".join([*steps, with_unit, f"#### {number}"])


def _kind(formula: str) -> str:
    return next((kind for pattern, kind in KINDS if pattern.search(formula)), "other text")


def _parse(expression: str) -> ast.expr:
    try:
        return ast.parse(expression.strip().replace("^", "**"), mode="eval").body
    except SyntaxError:
        raise LeftOut("the formula cannot be computed") from None


def _expression_steps(expression: str, steps: list[str]) -> Fraction:
    """Add one step per operation, innermost first, and return the value."""
    return _value(_reduce(_parse(expression), steps))


def _value(text: str) -> Fraction:
    try:
        return exact_value(text)
    except NotArithmeticError:
        raise LeftOut("the formula cannot be computed") from None


def _reduce(node: ast.expr, steps: list[str]) -> str:
    """Add the steps that compute ``node`` and return its value as text.

    An operation without a short decimal value, such as 1/3, stays a part of the next step.
    """
    if not isinstance(node, ast.BinOp):
        return ast.unparse(node)
    sign = SIGNS.get(type(node.op))
    if sign is None:
        raise LeftOut("the formula has a power")
    left, right = _reduce(node.left, steps), _reduce(node.right, steps)
    joined = f"{_bracketed(left)}{sign}{_bracketed(right)}"
    value = short_decimal(_value(joined))
    if value is None:
        return joined
    steps.append(_step(left, sign, right, value, SENTENCES[sign]))
    return value


def _step(left: str, sign: str, right: str, value: str, sentence: str) -> str:
    """Return one step as a sentence; its equation is checked."""
    first, second = _bracketed(left), _bracketed(right)
    equation = f"{first}{sign}{second}={value}"
    assert check_equation(equation, "strict") == "right"
    words = sentence.format(left=left, right=right, value=value)
    return f"{words}: {first} {sign} {second} = <<{equation}>>{value}."


def _bracketed(text: str) -> str:
    return text if re.fullmatch(r"[0-9.]+", text) else f"({text})"


def short_decimal(value: Fraction) -> str | None:
    """Return a value as a decimal of at most MAX_DECIMALS places; None if that is not exact.

    >>> short_decimal(Fraction(5, 4)), short_decimal(Fraction(300)), short_decimal(Fraction(1, 3))
    ('1.25', '300', None)
    """
    scaled = value * 10**MAX_DECIMALS
    if scaled.denominator != 1:
        return None
    return f"{Decimal(int(scaled)).scaleb(-MAX_DECIMALS).normalize():f}"


def _division_steps(
    expression: str, quotient: int, remainder: int, steps: list[str], asked: Fraction | None
) -> Fraction:
    """Add the steps of a division with a remainder, and return the result that is used.

    It is the remainder, unless ``asked`` is the quotient or one more (the last box is not full).
    """
    node = _parse(expression)
    if not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)):
        raise LeftOut("the formula cannot be computed")
    whole, by = _reduce(node.left, steps), _reduce(node.right, steps)
    can_be = whole.isdigit() and by.isdigit() and int(by) > 0
    if not can_be or divmod(int(whole), int(by)) != (quotient, remainder):
        raise LeftOut("the formula cannot be computed")
    if asked == remainder and remainder in (quotient, quotient + 1):
        raise LeftOut("the quotient equals the remainder, and either may be asked for")
    if asked in (quotient, quotient + 1):
        fitting = int(whole) - remainder
        steps.append(_step(whole, "-", str(remainder), str(fitting), WITHOUT_REST))
        steps.append(_step(str(fitting), "/", by, str(quotient), SENTENCES["/"]))
        if asked == quotient + 1:
            steps.append(_step(str(quotient), "+", "1", str(quotient + 1), ONE_MORE))
        return Fraction(asked)
    fitting = quotient * int(by)
    steps.append(_step(str(quotient), "*", by, str(fitting), FITTING))
    steps.append(_step(whole, "-", str(fitting), str(remainder), SENTENCES["-"]))
    return Fraction(remainder)

"""Evaluate an arithmetic expression that a model wrote, without ever running it as code.

The text is parsed to a syntax tree in which only numbers and operators are evaluated: no names,
calls, attributes, containers or strings. Length, depth and the size of numbers are bounded, so
``9**9**9**9`` and ten thousand parentheses are refused immediately.
"""

import ast
import operator
import re
import warnings
from collections.abc import Callable
from fractions import Fraction
from typing import Any

Number = int | float | complex | Fraction

MAX_LENGTH = 1000  # characters; a completion of 256 tokens is about as long
MAX_DEPTH = 200  # nested operations; far below Python's recursion limit
MAX_BITS = 33_220  # of an integer: 10,000 decimal digits

OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
    ast.BitAnd: operator.and_,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Invert: operator.invert,
    ast.Not: operator.not_,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}

# A chain such as "48/2+3.5", like nine in ten equations. It has fewer operations than MAX_DEPTH.
_NUMBER = r"(?:[0-9]+\.[0-9]*|\.[0-9]+|[1-9][0-9]*|0)"
CHAIN = re.compile(rf" *{_NUMBER}(?: *[-+*/] *{_NUMBER}){{0,50}} *")
CHAIN_OPERATOR = re.compile(r" *([-+*/]) *")

EXACT_TEXT = re.compile(r"[0-9eE.+\-*/%() ]*")
EXACT_NUMBER = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?")


class NotArithmeticError(Exception):
    """An error for text that is not arithmetic, has no value (1/0) or is too large to compute."""


def python_value(text: str) -> int | float:
    """Return what Python's ``eval`` returns for ``text``, in int and float arithmetic.

    Drops leading blanks as ``eval`` does. Raises NotArithmeticError and nothing else, even for a
    complex result such as (-8)**0.5.
    """
    value = _chain_value(text, float, operator.truediv)
    if value is None:
        value = _compute(text.lstrip(" \t"), _read_python_number)
    if not isinstance(value, int | float):
        raise NotArithmeticError(text)
    return value


def exact_value(text: str) -> Fraction:
    """Return the exact rational value of ``+ - * / // % **`` and parentheses; 0.1 is one tenth.

    Raises NotArithmeticError and nothing else, even for an irrational power.
    """
    value = _chain_value(text, Fraction, Fraction)
    if value is not None:
        return Fraction(value)
    text = text.strip(" ")
    if not EXACT_TEXT.fullmatch(text):
        raise NotArithmeticError(text)
    # "080" is eighty to a reader, but a syntax error to Python
    text = re.sub(r"(?<![0-9.])0+(?=[0-9])", "", text)
    value = _compute(text, lambda node: _read_exact_number(node, text))
    if not isinstance(value, int | Fraction):  # Fraction // Fraction is an int
        raise NotArithmeticError(text)
    return Fraction(value)


def _chain_value(
    text: str, read_decimal: Callable[[str], Number], divide: Callable[[Any, Any], Any]
) -> Any:
    """Return the value of a CHAIN as _compute does, but several times faster; None for other text.

    No value gets near MAX_BITS, because the numbers have at most MAX_LENGTH digits in total.
    """
    if len(text) > MAX_LENGTH or not CHAIN.fullmatch(text):
        return None
    first, *tokens = CHAIN_OPERATOR.split(text.strip(" "))
    total: Any = 0
    term: Any = int(first) if first.isdigit() else read_decimal(first)
    try:
        for op, token in zip(tokens[::2], tokens[1::2], strict=True):
            number: Any = int(token) if token.isdigit() else read_decimal(token)
            if op == "*":
                term *= number
            elif op == "/":
                term = divide(term, number)
            else:  # left to right, and -(x*y) as (-x)*y: Python's order of rounding
                total += term
                term = number if op == "+" else -number
        return total + term
    except ArithmeticError:
        raise NotArithmeticError(text) from None


def _compute(text: str, read_number: Callable[[ast.Constant], Number]) -> Number:
    if len(text) > MAX_LENGTH:
        raise NotArithmeticError("too long")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about invalid escapes etc. in model output
            tree = ast.parse(text, mode="eval")
        return _evaluate(tree.body, read_number, 0)
    except (SyntaxError, ValueError, TypeError, ArithmeticError, MemoryError, RecursionError):
        raise NotArithmeticError(text) from None


def _evaluate(node: ast.expr, read: Callable[[ast.Constant], Number], depth: int) -> Any:
    """Return a node's value; ``and``, ``or``, ``if`` and chained ``<`` are lazy, as in Python."""
    if depth > MAX_DEPTH:
        raise NotArithmeticError("nested too deeply")
    depth += 1
    match node:
        case ast.Constant():
            return read(node)
        case ast.UnaryOp(op, operand):
            return _apply(op, _evaluate(operand, read, depth))
        case ast.BinOp(left, op, right):
            return _apply(op, _evaluate(left, read, depth), _evaluate(right, read, depth))
        case ast.Compare(left, ops, comparators):
            first = _evaluate(left, read, depth)
            for comparison, comparator in zip(ops, comparators, strict=True):
                second = _evaluate(comparator, read, depth)
                if not _apply(comparison, first, second):
                    return False
                first = second
            return True
        case ast.BoolOp(op, values):
            for value_node in values:
                value = _evaluate(value_node, read, depth)
                if bool(value) == isinstance(op, ast.Or):
                    break
            return value
        case ast.IfExp(test, body, orelse):
            return _evaluate(body if _evaluate(test, read, depth) else orelse, read, depth)
    raise NotArithmeticError(type(node).__name__)


def _apply(op: ast.AST, *operands: Any) -> Any:
    """Return the result of one operation; raise NotArithmeticError if it is too large."""
    if type(op) not in OPERATORS:
        raise NotArithmeticError(type(op).__name__)
    if isinstance(op, ast.Pow | ast.LShift) and _min_result_bits(op, *operands) > MAX_BITS:
        raise NotArithmeticError("too large")
    result = OPERATORS[type(op)](*operands)
    if _bits(result) > MAX_BITS:
        raise NotArithmeticError("too large")
    return result


def _bits(value: Number) -> int:
    """Return the bits of an integer, or of the larger part of a fraction; 0 for floats."""
    if isinstance(value, Fraction):
        return max(value.numerator.bit_length(), value.denominator.bit_length())
    return value.bit_length() if isinstance(value, int) else 0


def _min_result_bits(op: ast.AST, left: Number, right: Any) -> int | Fraction:
    """Return a lower bound on the bits of ``left ** right`` or ``left << right``."""
    if isinstance(right, float | complex) or _bits(left) == 0:
        return 0  # floats and zero do not grow
    if isinstance(op, ast.LShift):
        return right
    # int ** negative is a float in Python, but exact and long for a Fraction; 1 ** n is 1
    return (_bits(left) - 1) * (abs(right) if isinstance(left, Fraction) else right)


def _read_python_number(node: ast.Constant) -> Number:
    if isinstance(node.value, int | float | complex):  # True and False are ints
        return node.value
    raise NotArithmeticError(repr(node.value))


def _read_exact_number(node: ast.Constant, text: str) -> Fraction:
    source = text[node.col_offset : node.end_col_offset]  # node.value is a rounded float
    if not EXACT_NUMBER.fullmatch(source):
        raise NotArithmeticError(source)
    return Fraction(source)

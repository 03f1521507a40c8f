"""Make mutants of a source file, copies with one small fault each, for scripts/mutation_check.py.

A mutant changes a comparison, operator, constant, condition, slice, default, or return value; or it
drops an operand, a statement, one of several unpacked lists, or one character of a regular
expression. Annotations, decorators, docstrings, asserts, and zip's ``strict`` are left alone.
"""

import ast
import copy
import io
import re
import warnings
from collections.abc import Iterator
from contextlib import redirect_stdout
from itertools import chain

Change = tuple[ast.expr | ast.stmt, str]  # a node and the source that replaces it

OPERATORS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
}  # fmt: skip
FUNCTIONS = {"min": "max", "max": "min", "any": "all", "all": "any", "sorted": "list"}


def walk(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that may be changed (see the top of this file)."""
    yield node
    if isinstance(node, ast.JoinedStr):  # before Python 3.12 its parts have no position
        return
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            match child:
                case ast.Assert() | ast.Expr(value=ast.Constant()) | ast.keyword(arg="strict"):
                    pass
                case ast.Subscript(value=ast.Name(id="Literal")):
                    pass
                case ast.AST():
                    yield from walk(child)


def changes(node: ast.AST) -> Iterator[Change]:
    """Yield the faults to try at ``node``."""
    return chain(
        operator_changes(node), value_changes(node), list_changes(node), flow_changes(node)
    )


def operator_changes(node: ast.AST) -> Iterator[Change]:
    """Yield other operators, and expressions without one operand."""
    match node:
        case ast.Compare(ops=ops):
            for i, op in enumerate(ops):
                yield node, unparse(node, ops=[*ops[:i], OPERATORS[type(op)](), *ops[i + 1 :]])
        case ast.BinOp(op=op) | ast.AugAssign(op=op) if type(op) in OPERATORS:
            yield node, unparse(node, op=OPERATORS[type(op)]())
        case ast.BoolOp(op=op, values=values):
            yield node, unparse(node, op=OPERATORS[type(op)]())
            yield from ((node, unparse(node, values=rest)) for rest in one_less(values))
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield node, unparse(operand)
        case ast.Call(func=ast.Name(id=name)) if name in FUNCTIONS:
            yield node.func, FUNCTIONS[name]


def value_changes(node: ast.AST) -> Iterator[Change]:
    """Yield other constants, patterns, and defaults."""
    match node:
        case ast.Constant(value=bool() | int() | float() as value):
            yield node, repr(not value if isinstance(value, bool) else value + 1)
        case ast.Constant(value=str() as value):
            yield node, repr("XX" + value)
        case ast.JoinedStr():
            yield node, "''"
        case ast.Call(func=ast.Attribute(attr="compile"), args=[ast.Constant() as text, *flags]):
            yield from ((text, pattern) for pattern in shorter_patterns(str(text.value), flags))
        case ast.arguments(defaults=defaults):
            yield from ((d, "None") for d in defaults if not isinstance(d, ast.Constant))


def list_changes(node: ast.AST) -> Iterator[Change]:
    """Yield slices without an end, lists without one part, and filters that do nothing."""
    match node:
        case ast.Slice(lower=lower, upper=upper):
            yield from ((end, "") for end in (lower, upper) if end is not None)
        case ast.Tuple(elts=items) | ast.List(elts=items):
            if any(isinstance(item, ast.Starred) for item in items):
                yield from ((node, unparse(node, elts=rest)) for rest in one_less(items))
        case ast.comprehension(ifs=[test]):
            yield from ((test, "True"), (test, "False"))


def flow_changes(node: ast.AST) -> Iterator[Change]:
    """Yield conditions set to a constant, dropped statements, and other return values."""
    match node:
        case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
            yield from ((test, "True"), (test, "False"))
        case ast.Return(value=ast.expr() as value):
            yield value, "None"
        case ast.Break() | ast.Continue():
            yield from ((node, text) for text in ("break", "continue", "pass"))
        case (
            ast.Assign() | ast.AugAssign() | ast.AnnAssign() | ast.Expr() | ast.For() | ast.Raise()
        ):
            yield node, "pass"


def one_less(items: list[ast.expr]) -> list[list[ast.expr]]:
    return [items[:i] + items[i + 1 :] for i in range(len(items))]


def unparse(node: ast.AST, **fields: object) -> str:
    """Return the source of ``node`` with ``fields`` replaced; an expression in parentheses."""
    node = copy.copy(node)
    for name, value in fields.items():
        setattr(node, name, value)
    source = ast.unparse(node)
    return f"({source})" if isinstance(node, ast.expr) else source


def shorter_patterns(text: str, flags: list[ast.expr]) -> Iterator[str]:
    """Yield literals of ``text`` without one character, if valid and different to ``re``."""
    flag = re.NOFLAG
    for name in flags:
        flag |= re.RegexFlag[ast.unparse(name).removeprefix("re.")]
    parsed = parse_pattern(text, flag)
    for i in range(len(text)):
        pattern = text[:i] + text[i + 1 :]
        if parse_pattern(pattern, flag) not in ("", parsed):
            yield f'r"""{pattern}"""'


def parse_pattern(pattern: str, flag: re.RegexFlag) -> str:
    """Return how ``re`` parses ``pattern``; empty if that is an error."""
    printed = io.StringIO()
    try:
        with redirect_stdout(printed), warnings.catch_warnings():
            warnings.simplefilter("error")
            re.compile(pattern, flag | re.DEBUG)
    except (re.error, Warning):
        return ""
    return printed.getvalue()


def mutants(source: str) -> dict[str, tuple[int, str]]:
    """Return the mutated sources, each with its first changed line and ``was -> now``."""
    lines = source.encode().splitlines(keepends=True)  # ast's offsets count bytes
    starts = [sum(map(len, lines[:i])) for i in range(len(lines) + 1)]
    found = {}
    for node, text in chain.from_iterable(map(changes, walk(ast.parse(source)))):
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        begin = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        new = (b"".join(lines)[:begin] + text.encode() + b"".join(lines)[end:]).decode()
        if new != source:
            found[new] = difference(source.splitlines(), new.splitlines())
    return found


def difference(old: list[str], new: list[str]) -> tuple[int, str]:
    """Return the first line that differs, and all that differ as ``was -> now``."""
    first = next(i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b)
    while old[-1] == new[-1] and min(len(old), len(new)) > first + 1:
        old, new = old[:-1], new[:-1]
    was, now = (" ".join(map(str.strip, lines[first:])) for lines in (old, new))
    return first + 1, f"{was} -> {now}"

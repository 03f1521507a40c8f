"""Read and compare answers that are formulas, as in MATH.

Math-Verify parses and compares them. Time and size are bounded here, because it may hang on hostile
text. Answers are rewritten to one canonical LaTeX text, because votes are counted by text.
"""

import logging
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import lru_cache
from types import FrameType
from typing import Any, TypeVar

from screl.grading.boxed import last_boxed
from screl.grading.spelling import equal_as_written, respell, written_answer

T = TypeVar("T")

MAX_CHARS = 200  # the longest answer in MATH's test set has 81
MAX_VALUE_BITS = 10_000  # 2^{2005} is an answer of MATH; 9^{9^9} has 1.2 billion bits
MAX_SECONDS = 2.0  # of CPU time; the slowest gold answer of MATH takes a tenth of it
INTEGER = re.compile(r"-?[0-9]+", re.ASCII)
WORD = re.compile(r"[a-z]{3,}", re.IGNORECASE | re.ASCII)  # else "even" is the product e v e n
LATEX_OR_EQUATION = re.compile(r"[=\\^{]")
# Evaluated during parsing, before the size is known, or without end. No MATH answer has any.
UNSAFE = re.compile(r"//|choose|binom|gcd|lcm|\\(?:i*int|oint|sum|prod|lim)(?![a-z])")


def math_answer(text: str) -> str | None:
    r"""Return the answer in ``text`` as canonical LaTeX: where possible, one text per value.

    The answer is the last ``\boxed{...}`` (see last_boxed), or else the rest of the line after the
    first ``####``. Degree signs and units are dropped.
    Returns None if ``text`` has neither or the answer is longer than MAX_CHARS. ``x = 5`` is 5. A
    percent sign is a unit, as in GSM8K: for Math-Verify, 50% equals both 50 and 0.5, which cannot
    be one vote. An answer that cannot be parsed or is too large is returned as written.

    >>> math_answer(r"so it is \boxed{0.5}") == math_answer(r"\boxed{\frac12}") == r"\frac{1}{2}"
    True
    """
    boxed = last_boxed(text)
    answer = text.partition("####")[2].split("\n", maxsplit=1)[0] if boxed is None else boxed
    return read_formula(answer, is_latex=boxed is not None)


def read_formula(answer: str, is_latex: bool) -> str | None:
    """Return an answer, without what surrounds it, as math_answer does."""
    answer = answer.strip().rstrip(".")
    if not 0 < len(answer) <= MAX_CHARS:
        return None
    answer = respell(" ".join(answer.split()))
    if (written := written_answer(answer)) is not None:
        return written
    if WORD.fullmatch(answer):
        return rf"\text{{{answer.lower()}}}"
    return _canonical(answer, is_latex)


@lru_cache(maxsize=4096)
def math_answers_equal(gold: str, answer: str) -> bool:
    """Return whether Math-Verify accepts ``answer`` for ``gold``; both come from math_answer.

    This is not symmetric: gold ``1<x<2`` accepts the answer ``(1,2)``, but not vice versa.
    """
    if gold == answer:
        return True
    if INTEGER.fullmatch(gold) and INTEGER.fullmatch(answer):
        return False
    as_written = equal_as_written(gold, answer)
    if as_written is not None:
        return as_written
    return _within_limit(lambda: _is_verified(gold, answer)) or False


def _is_verified(gold: str, answer: str) -> bool:
    gold_value, value = _parse(gold, is_latex=True), _parse(answer, is_latex=True)
    if gold_value is None or value is None:
        return False
    return bool(_libraries()[1].verify(gold_value, value, timeout_seconds=None))


@lru_cache(maxsize=4096)
def _canonical(answer: str, is_latex: bool) -> str:
    if INTEGER.fullmatch(answer):
        return str(int(answer))
    return _within_limit(lambda: _rewritten(answer, is_latex)) or answer


def _rewritten(answer: str, is_latex: bool) -> str | None:
    """Return ``answer`` in sympy's LaTeX; None if Math-Verify does not read that as the same."""
    sympy, library = _libraries()
    value = _parse(answer, is_latex)
    if value is None:
        return None
    value = _simplest(value)
    words = [s for s in value.free_symbols if len(s.name) > 1 and sympy.latex(s) == s.name]
    text = sympy.latex(value, symbol_names={s: rf"\text{{{s.name}}}" for s in words})
    if len(text) > MAX_CHARS:
        return None
    again = _parse(text, is_latex=True)
    is_same = again is not None and library.verify(value, again, timeout_seconds=None)
    return text if is_same else None


def _simplest(value: Any) -> Any:
    """Return the same sympy object for equal values: evaluated, expanded, decimals as fractions."""
    sympy = _libraries()[0]
    if isinstance(value, sympy.Eq) and value.lhs.is_Symbol and not value.rhs.free_symbols:
        value = value.rhs
    percent = sympy.UnevaluatedExpr(sympy.Rational(1, 100))
    value = value.xreplace({percent: sympy.Integer(1)})
    # Six or more decimals may be a rounded 1/3, which Math-Verify compares as a float.
    exact = {number: sympy.Rational(str(number)) for number in value.atoms(sympy.Float)}
    value = value.xreplace({k: v for k, v in exact.items() if (v * 10**5).is_Integer}).doit()
    return sympy.expand(value) if isinstance(value, sympy.Expr) else value


def _parse(answer: str, is_latex: bool) -> Any:
    """Return the sympy object of ``answer``; None if it is unsafe, too large or not mathematics.

    LaTeX and equations outside ``\\boxed`` are also passed as LaTeX. Math-Verify's parser for plain
    text would extract one number from them: 2 from ``2\\sqrt{3}``, or an equation's right side, so
    ``3x - y + 13 = 0`` and ``3x + 4y + 14 = 0`` would both be 0 (Math-Verify issue 60).
    """
    if UNSAFE.search(answer):
        return None
    as_latex = is_latex or LATEX_OR_EQUATION.search(answer) is not None
    text = rf"\boxed{{{answer}}}" if as_latex else answer
    library = _libraries()[1]
    plain = [] if as_latex else [library.ExprExtractionConfig()]
    found = library.parse(
        text,
        extraction_config=[library.LatexExtractionConfig(), *plain],
        fallback_mode="no_fallback",
        parsing_timeout=None,
    )
    if not found:
        return None
    value = found[0].as_immutable() if hasattr(found[0], "as_immutable") else found[0]
    return None if _n_bits(value) > MAX_VALUE_BITS else _with_imaginary_unit(value)


def _with_imaginary_unit(value: Any) -> Any:
    """Return ``value`` with a single symbol for i; Math-Verify reads ``2i`` and ``2 i`` as two."""
    sympy = _libraries()[0]
    if not any(symbol.name == "i" for symbol in value.free_symbols):
        return value
    names = {symbol: sympy.Symbol(symbol.name, real=True) for symbol in value.free_symbols}
    return value.xreplace({k: sympy.I if k.name == "i" else v for k, v in names.items()})


def _n_bits(value: Any) -> float:
    """Return roughly the number of bits of ``value`` once every power in it is evaluated."""
    if not value.args:
        if value.is_Rational:
            return value.p.bit_length() + value.q.bit_length()
        return 1 if value.is_Symbol else 64
    bits = [_n_bits(part) for part in value.args]
    if value.is_Pow and value.exp.is_Rational:
        return bits[0] * max(1.0, min(abs(value.exp.p), MAX_VALUE_BITS + 1))
    if value.is_Pow or getattr(value.func, "__name__", "").startswith("factorial"):
        return sum(bits) * 2.0 ** min(bits[-1], 64)
    return sum(bits)


@lru_cache(maxsize=1)
def _libraries() -> tuple[Any, Any]:
    """Return sympy and Math-Verify, whose import takes half a second and is rarely needed."""
    import math_verify as library  # type: ignore[import-untyped]
    import sympy  # type: ignore[import-untyped]

    # It warns that its timeouts are off. They work only in the main thread, so we use our own.
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    return sympy, library


class _OutOfTime(BaseException):
    """The signal that time is up; not an Exception, because sympy catches those."""


def _within_limit(work: Callable[[], T]) -> T | None:
    """Return the result of ``work``; None if it fails or takes more than MAX_SECONDS of CPU time.

    CPU time is used so that a busy machine does not change a verdict. A signal stops the main
    thread (of a worker process too). Other threads get no signals, so a trace function checks the
    clock at every line.
    """
    _libraries()  # an import must not be interrupted
    in_main_thread = threading.current_thread() is threading.main_thread()
    try:
        return (_with_signal if in_main_thread else _with_trace)(MAX_SECONDS, work)
    except (_OutOfTime, Exception):
        return None


def _with_signal(seconds: float, work: Callable[[], T]) -> T:
    def stop(signum: int, frame: FrameType | None) -> None:
        raise _OutOfTime

    def report(unraisable: "sys.UnraisableHookArgs") -> None:
        if unraisable.exc_type is not _OutOfTime:
            old_hook(unraisable)

    old_handler, old_hook = signal.signal(signal.SIGVTALRM, stop), sys.unraisablehook
    # The signal is repeated, in case a bare "except:" or a callback of the garbage collector
    # swallows the first. Python would print the latter.
    sys.unraisablehook = report
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds, seconds)
    try:
        return work()
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, old_handler)
        sys.unraisablehook = old_hook


def _with_trace(seconds: float, work: Callable[[], T]) -> T:
    deadline = time.thread_time() + seconds

    def watch(frame: FrameType, event: str, arg: Any) -> Any:
        if time.thread_time() > deadline:
            raise _OutOfTime
        return watch

    old_trace = sys.gettrace()
    sys.settrace(watch)
    try:
        return work()
    finally:
        sys.settrace(old_trace)

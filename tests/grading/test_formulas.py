"""Formulas: one text per value, equality by value, and bounded time for hostile text."""

import gc
import json
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from screl.grading import formulas
from screl.grading.formulas import math_answer, math_answers_equal
from screl.grading.graders import math_verify
from tests.conftest import ROOT, read_cases

MATH = ROOT.parent / "shared/math/test.jsonl"

HOSTILE = [
    "9^{9^{9^9}}",
    "10^{1000000000}",
    "2^{-1000000000}",
    "99999999!",
    "9!!!",
    r"\binom{1000000000}{500000000}",
    r"\gcd(10^{1000000},10^{99999})",
    r"\sum_{i=1}^{100000} \frac{1}{i}",
    r"\int \sin(x^2)\cos(x)^3 e^{x} dx",
    "(x+1)^{10000}",
    "(x+y+z)^{100}-(z+x+y)^{99}",
    r"\lfloor 10^{10^{8}}\rfloor",
    "(" * 90 + "1" + ")" * 90,
    r"\sqrt{" * 25 + "2" + "}" * 25,
    "9**9**9//1",
    "$" * 150,
]


def boxed(answer: str) -> str:
    return rf"so it is $\boxed{{{answer}}}$."


def answer_of(answer: str) -> str:
    text = math_answer(boxed(answer))
    assert text is not None
    return text


@pytest.mark.parametrize(
    "equal",
    [
        [r"\frac{1}{2}", r"\dfrac12", r"\tfrac{2}{4}", "0.5", ".5", "1/2", "0.50"],
        ["5", "5.0", "5.", "x = 5", r"5\%", r"\$5", r"5\text{ cm}", "2+3", "05"],
        ["1234", "1,234", "1{,}234", r"\$1,\!234"],
        [r"2\sqrt{3}", r"\sqrt{12}", r"2\sqrt3"],
        ["(x+1)^2", "x^2+2x+1"],
        ["6+9i", "9i + 6", r"6 + 9\,i"],
        ["(1,2)", r"\left( 1, 2 \right)"],
        ["1,2", "2,1", r"\{1, 2\}"],
        [r"\text{Evelyn}", r"\mathrm{Evelyn}", "Evelyn"],
        [r"\text{even}", "even", "Even"],
        [r"2\pi + \theta", r"\theta+2\pi"],
        [r"\text{(A)}", "A", "(A)"],
        [r"\frac{\pi}{2}", r"\frac12\pi"],
    ],
)
def test_equal_answers_are_one_vote(equal: list[str]) -> None:
    assert len({answer_of(answer) for answer in equal}) == 1


@pytest.mark.parametrize(
    ("gold", "answer", "expected"),
    [
        ("1/3", "0.333333", True),
        ("1/3", "0.333", False),
        ("5", "6", False),
        ("2x+1", "y=2x+1", True),
        ("2^{-99}", "2^{-98}", False),
        (r"\frac{1}{2004!}", r"\frac{1}{2006!}", False),
        ("(1,2)", "(2,1)", False),
        ("6+9i", "6+8i", False),
        (r"\text{Monday}", r"\text{Tuesday}", False),
        (r"\text{listen}", r"\text{silent}", False),
    ],
)
def test_math_answers_are_compared_as_values(gold: str, answer: str, expected: bool) -> None:
    assert math_answers_equal(answer_of(gold), answer_of(answer)) is expected


@pytest.mark.parametrize(("gold", "answer"), [("1<x<2", "(1,2)"), ("5", "9=5")])
def test_equality_depends_on_which_answer_is_gold(gold: str, answer: str) -> None:
    assert math_answers_equal(answer_of(gold), answer_of(answer))
    assert not math_answers_equal(answer_of(answer), answer_of(gold))
    assert math_verify(boxed(answer), boxed(gold)).is_right


@pytest.mark.parametrize("case", read_cases("formulas"), ids=str)
@pytest.mark.parametrize("turn", [1, -1])
def test_formula_cases(case: dict[str, Any], turn: int) -> None:
    gold, text = (case["gold"], case["text"])[::turn]
    assert math_verify(text, gold).is_right == case["equal"]


@pytest.mark.parametrize(
    ("gold", "text", "expected"),
    [
        (r"\boxed{1} or \boxed{2}", r"\boxed{2}", True),
        (r"$\boxed{1}$, $\boxed{2}$ and $\boxed{3}$", r"\boxed{3,2,1}", True),
        (r"\boxed{5}, \boxed{5}", r"\boxed{5}", True),
        (r"\boxed{5 million}", r"\boxed{5}", False),
        (r"\boxed{4343_6}", r"\boxed{4343_{\text{six}}}", True),
        (r"\boxed{2A_{16}}", r"\boxed{2A_{12}}", False),
        (r"\boxed{10:45 \text{ a.m.}}", r"\boxed{10:45}", True),
        (r"\boxed{10:45 \text{ a.m.}}", r"\boxed{10:45 PM}", False),
        (r"\boxed{45^{\circ}}", r"\boxed{45 \degree}", True),
        (r"\boxed{1,234,567}", r"\boxed{1\,234\,567}", True),
        (r"\boxed{D,A}", r"\boxed{\text{A, D}}", True),
        (r"\boxed{A,B}", r"\boxed{A,D}", False),
    ],
)
def test_spellings(gold: str, text: str, expected: bool) -> None:
    assert math_verify(text, gold).is_right is math_verify(gold, text).is_right is expected


def test_bare_equations_are_not_the_number_after_the_equals_sign() -> None:
    first, second = "#### 3*x - 1*y + 13 = 0", "#### 3x + 4y + 14 = 0"
    library = formulas._libraries()[1]
    assert library.verify(library.parse(first), library.parse(second))  # its issue 60
    assert not math_verify(second, first).is_right
    assert math_verify("#### 3x + 13 = y", first).is_right
    assert math_verify("#### 0", first).answer == "0"


def test_a_percent_sign_is_a_unit() -> None:
    """For Math-Verify 50% equals both 50 and 0.5, which differ: no vote could be counted so."""
    assert answer_of(r"50\%") == answer_of("50") == math_answer("#### 50%") == "50"
    assert not math_answers_equal(answer_of("0.5"), answer_of(r"50\%"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\boxed{1} or \boxed{2}", "2"),
        (r"\boxed{5}" + "\n#### 6", "5"),
        (r"\boxed{\frac{1}{2}} {", r"\frac{1}{2}"),
        ("#### 18 dollars\n#### 3", "18"),
        ("####18.", "18"),
        (r"#### 2\sqrt{3}", r"2 \sqrt{3}"),
        ("#### x^2", "x^{2}"),
        (r"\boxed{5", None),
        (r"\boxed{}", None),
        ("#### ", None),
        ("the answer is 5", None),
        ("#### " + "9" * 201, None),
        (boxed("7" * 200), "7" * 200),
        (boxed(r"\theta+1"), r"\theta + 1"),
        (boxed(r"\text{1:03 PM}"), r"\text{1:03pm}"),
    ],
)
def test_math_answer_finds_the_answer(text: str, expected: str | None) -> None:
    assert math_answer(text) == expected


@given(st.fractions(max_denominator=1000).filter(lambda f: abs(f) < 10**6))
def test_every_fraction_has_one_text(number: Fraction) -> None:
    p, q = number.numerator, number.denominator
    texts = {answer_of(rf"\frac{{{p}}}{{{q}}}"), answer_of(rf"\dfrac{{{3 * p}}}{{{3 * q}}}")}
    assert len(texts) == 1
    assert math_answers_equal(texts.pop(), answer_of(f"{p}/{q}"))


@pytest.fixture
def short_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formulas, "MAX_SECONDS", 0.1)
    formulas._canonical.cache_clear()
    math_answers_equal.cache_clear()
    math_answer(boxed("1+1"))  # imports


def grade_hostile() -> list[bool]:
    """Return whether each hostile text equals itself and nothing else."""
    return [
        math_verify(boxed(text), boxed(text)).is_right
        and not math_verify(boxed(text), boxed("x+18")).is_right
        and math_verify(f"#### {text}", "#### 18.5").is_right is False
        for text in HOSTILE
    ]


# Hypothesis has a callback in the garbage collector, which the time limit may interrupt.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("short_limit")
def test_hostile_answers_are_given_up() -> None:
    assert all(grade_hostile())


@pytest.mark.usefixtures("short_limit")
def test_hostile_answers_are_given_up_in_threads() -> None:
    """Signals only reach the main thread.

    Without garbage collection, whose callback here is hypothesis's: an exception that a trace
    function raises there is lost, and the trace with it.
    """
    found: list[list[bool]] = []
    thread = threading.Thread(target=lambda: found.append(grade_hostile()))
    gc.disable()
    try:
        thread.start()
        thread.join()
    finally:
        gc.enable()
    assert len(found) == 1
    assert all(found[0])


@pytest.mark.parametrize("pool", [ProcessPoolExecutor, ThreadPoolExecutor])
def test_it_grades_in_pools(pool: type[ProcessPoolExecutor | ThreadPoolExecutor]) -> None:
    formulas._canonical.cache_clear()
    math_answers_equal.cache_clear()
    with pool(1) as workers:
        verdict = workers.submit(math_verify, boxed("0.333333"), boxed("1/3")).result()
        assert workers.submit(math_answer, boxed("0.5")).result() == r"\frac{1}{2}"
    assert verdict == ("0.333333", True)


@pytest.mark.parametrize("in_thread", [False, True])
def test_work_without_end_is_stopped(in_thread: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    swallowed: list[Exception] = []

    def endless() -> int:
        while True:
            try:
                sum(range(100))
            except Exception as error:
                swallowed.append(error)

    monkeypatch.setattr(formulas, "MAX_SECONDS", 0.05)
    results: list[object] = []

    def work() -> None:
        results.append(formulas._within_limit(endless))
        results.append(formulas._within_limit(lambda: 5))

    if in_thread:
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(5)
    else:
        work()
    assert results == [None, 5]
    assert not swallowed


def test_time_that_ends_in_a_finalizer_is_not_reported(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python prints what a finalizer raises and goes on; the next signal ends the work."""

    class Endless:
        def __del__(self) -> None:
            while True:
                pass

    def work() -> None:
        Endless()
        while True:
            pass

    monkeypatch.setattr(formulas, "MAX_SECONDS", 0.05)
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)  # not pytest's
    assert formulas._within_limit(work) is None
    assert capsys.readouterr().err == ""
    assert sys.unraisablehook is sys.__unraisablehook__


@pytest.mark.skipif(not MATH.is_file(), reason="needs MATH in ../shared/math")
def test_math_solutions_are_right() -> None:
    """Every 20th, to save time; all 5,000 are."""
    for line in MATH.read_text().splitlines()[::20]:
        solution = json.loads(line)["solution"]
        assert math_verify(solution, solution).is_right, solution
        answer = math_answer(solution)
        assert answer is not None
        again = math_answer(boxed(answer))
        assert again is not None
        assert formulas._is_verified(answer, again) or again == answer

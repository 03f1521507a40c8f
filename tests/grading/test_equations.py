"""Equations: found, joined into paths and checked; model output is hostile."""

import re
import time
import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from screl.core.problems import load_problems
from screl.grading.answers import Fidelity
from screl.grading.equations import (
    check_equation,
    equation_path,
    find_equations,
    has_odd_equation,
)
from tests.conftest import read_cases

GSM8K = Path(__file__).parents[3] / "shared/gsm8k"

HOSTILE = [
    "9**9**9**9=1",
    "9**(9**9)=1",
    "9.0**9**9=1",
    "1<<99999999999=0",
    "-1<<99999999999=0",
    "(9**9999)**9999=1",
    "2**-99999999999=1",
    "(1/3)**99999999=1",
    "1e999999999=1",
    "10**1e308=1",
    "(" * 5000 + "1=1",
    "(" * 50_000 + "1" + ")" * 50_000 + "=1",
    "-" * 5000 + "1=1",
    "1+" * 50_000 + "1=1",
    "~" * 900 + "1=1",
    "[" * 900 + "]" * 900 + "=1",
    "2=" + "1=" * 50_000,
    "9" * 100_000 + "=1",
    "9" * 999 + "%" * 999 + "=1",
    "x" * 100_000,
    "__import__('os').system('true')=0",
    "().__class__.__bases__[0]=1",
    "[i for i in range(10**9)]=1",
    "(lambda: 1)()=1",
    "exit()=1",
    "abs(-1)=1",
    "f'{1}'=1",
    "'1'=1",
    "'\\d'=1",
    "1\x00=1",
    "\ud800=1",
    "1/0=1",
    "0**-1=1",
    "5%0=0",
    "(-8)**0.5=2",
    "...=1",
    "None=0",
    "=",
    "==",
    "",
]


@pytest.mark.parametrize("fidelity", ["strict", "paper"])
@pytest.mark.parametrize("equation", HOSTILE, ids=lambda text: text[:20].encode("unicode_escape"))
def test_hostile_equations_are_refused_quickly(equation: str, fidelity: Fidelity) -> None:
    started = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_equation(equation, fidelity) != "right"
    assert time.process_time() - started < 0.5


def test_model_output_causes_no_warnings() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for equation in ("1if 2else 3=1", "'\\d'=2", "1 is 1=1", "2(3)=6"):
            check_equation(equation, "paper")
    assert caught == []


def published_check(equation: str) -> bool:
    """Return the published verdict: Python's eval on the left, a float on the right."""
    if "=" not in equation:
        return False
    left, right = equation.split("=")[:2]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return abs(float(eval(left)) - float(right)) < 1e-3
    except Exception:
        return False


def assume_small_power(text: str) -> None:
    """Skip what eval computes for minutes or we refuse for its size: nested powers and exponents
    of more than three digits."""
    _, _, exponent = text.partition("**")
    assume("**" not in exponent and sum(map(str.isdigit, exponent.partition("=")[0])) <= 3)


@settings(max_examples=1500)
@given(st.text(alphabet="0123456789.+-*/%() =e", max_size=14))
@example("007+1=8")
@example(" 1+1=2")
@example("1+1= 2 ")
@example("7//2=3")
@example("2**10=1024")
@example("5 =5=6")
@example("1(2)=2")
@example("1e5=100000")
def test_paper_decides_as_python_eval_on_any_text(text: str) -> None:
    assume_small_power(text)
    assert (check_equation(text, "paper") == "right") == published_check(text)


TOKENS = (
    *("0", "1", "2", "7", "10", ".5", "1.", "2e1", "0x1f", "1_0", "1j", "True", "007"),
    *("+", "-", "*", "/", "//", "%", "**", "(", ")", " ", "~", "&", "|", "^", "<", ">"),
    *(" if ", " else ", " and ", " or ", "not "),
)


@settings(max_examples=1500)
@given(st.lists(st.sampled_from(TOKENS), min_size=1, max_size=9).map("".join))
@example("0 and 1/0")
@example("1 or 1/0")
@example("1 if 2 else 1/0")
@example("2<1<1/0")
@example("1<2<3")
@example("0<<99")
@example("1<<9")
def test_paper_agrees_with_the_value_that_python_eval_gives(left: str) -> None:
    assume_small_power(left)
    assume("<<" not in left or left in ("0<<99", "1<<9"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            right = float(eval(left))
    except Exception:
        right = 1.0
    for stated in (right, right + 0.01):
        equation = f"{left}={stated}"
        assert (check_equation(equation, "paper") == "right") == published_check(equation)


@pytest.mark.parametrize(
    ("equation", "paper", "strict"),
    [
        ("3*4=12", "right", "right"),
        ("3*4=13", "false", "false"),
        ("3*4", "unparsed", "unparsed"),
        ("12=", "unparsed", "unparsed"),
        ("5=5=6", "right", "false"),
        ("2+3=5=4+1", "right", "right"),
        ("3/4=3/4", "unparsed", "right"),
        ("0.1+0.2=0.3", "right", "right"),
        ("1000*0.001=1.0005", "right", "false"),
        ("1000*0.001=1.002", "false", "false"),
        ("1/3=0.33", "false", "right"),
        ("1/3=0.34", "false", "false"),
        ("1/3=0.333", "right", "right"),
        ("10/3=3.33", "false", "right"),
        ("10/3=3.3", "false", "false"),
        ("10/3=3", "false", "false"),
        ("1/8=0.12", "false", "right"),
        ("1/8=0.13", "false", "right"),
        ("-1/3=-0.33", "false", "right"),
        ("1/3=33.33%", "unparsed", "right"),
        ("1/3=33.34%", "unparsed", "false"),
        ("10/3=$3.33", "unparsed", "right"),
        ("0.33=1/3", "unparsed", "false"),
        ("080+37=117", "unparsed", "right"),
        ("$5*3=$15", "unparsed", "right"),
        ("1,200+5=1,205", "unparsed", "right"),
        ("1,20+5=125", "unparsed", "unparsed"),
        ("1$2=12", "unparsed", "unparsed"),
        ("3×4=12", "unparsed", "right"),
        ("12÷4=3", "unparsed", "right"),
        ("5−2=3", "unparsed", "right"),
        ("3x4=12", "unparsed", "right"),
        ("3 x $4 = $12", "unparsed", "right"),
        ("(1+2)X(3)=9", "unparsed", "right"),
        ("x*4=12", "unparsed", "unparsed"),
        ("20%*50=10", "unparsed", "right"),
        ("100%-20%=80%", "unparsed", "right"),
        ("50*(20%)=10", "unparsed", "right"),
        ("7%3=1", "right", "right"),
        ("17%(2+3)=2", "right", "right"),
        ("7//2=3", "right", "right"),
        ("2**10=1024", "right", "right"),
        ("2**-1=0.5", "right", "right"),
        ("4**0.5=2", "right", "unparsed"),
        ("1**999999999=1", "right", "right"),
        ("9**-99999=0", "right", "unparsed"),
        ("9**9000%7=1", "right", "right"),
        ("9**9000*9**9000%7=1", "unparsed", "unparsed"),
        ("1e1*2=20", "right", "right"),
        ("3<4=1", "right", "unparsed"),
        ("5 and 3=3", "right", "unparsed"),
        ("True=1", "right", "unparsed"),
        ("6|1=7", "right", "unparsed"),
        ("74 plus 10=84", "unparsed", "unparsed"),
        ("2(3)=6", "unparsed", "unparsed"),
        ("1 1/2=1.5", "unparsed", "unparsed"),
        ("5*٣=15", "unparsed", "unparsed"),
        ("3*4=", "unparsed", "unparsed"),
        ("=12", "unparsed", "unparsed"),
        ("1/0=1", "unparsed", "unparsed"),
        ("3*4=12=x", "right", "unparsed"),
        ("3*4=13=x", "false", "unparsed"),
        ("3*4=12=13", "right", "false"),
        ("9**99999=1", "unparsed", "unparsed"),
        ("9**9000=1", "unparsed", "false"),  # too large for a float
        ("(-8)**0.5=2", "unparsed", "unparsed"),
        ("1" * 1000 + "=1", "unparsed", "unparsed"),
    ],
    ids=lambda text: text[:20],
)
def test_the_status_in_both_fidelities(equation: str, paper: str, strict: str) -> None:
    assert check_equation(equation, "paper") == paper
    assert check_equation(equation, "strict") == strict


@pytest.mark.parametrize(
    ("equation", "strict"),
    [
        ("5 apples*2=10 apples", "right"),
        ("5 apples*2=11 apples", "false"),
        ("3kg+2 kg=5kg", "right"),
        ("60 miles/hour*2 hours=120 miles", "right"),
        ("60 miles / hour * 2 hours = 120 miles", "right"),
        ("60 miles per hour*2=120", "right"),
        ("500/month*12=6000", "right"),
        ("$5*3=$15", "right"),
        ("5 dollars*4=$20", "right"),
        ("5 dollars an hour*4=20 dollars", "right"),
        ("1,200 apples+1=1,201 apples", "right"),
        ("10 dollars/3=3.33 dollars", "right"),
        ("10 dollars/3=3.34 dollars", "false"),
        ("3 apples x 4 = 12 apples", "right"),
        ("5 square feet*2=10 square feet", "right"),
        ("60 seconds*2=120 seconds", "right"),
        ("2e5 miles=200000", "right"),
        ("5.miles=5", "right"),
        ("1 hour=60 minutes", "false"),  # units are not converted
        ("50 percent*20=10", "right"),
        ("50 per cent*20=10", "right"),
        ("50Percent*20=10", "right"),
        ("1/3=33.33 percent", "right"),
        ("50 percent-20=-19.5", "right"),
        ("50 percent of 20=10", "unparsed"),
        ("50 percent 20=10", "unparsed"),  # not 50 modulo 20
        ("50 percent (20)=10", "unparsed"),
        ("50 per cent apples=50", "unparsed"),
        ("5k=5", "unparsed"),
        ("5m+1m=6m", "unparsed"),
        ("2bn=2", "unparsed"),
        ("5 hundred=5", "unparsed"),
        ("5 Thousand dollars=5", "unparsed"),
        ("5 dozens=60", "unparsed"),
        ("3 halves=3", "unparsed"),
        ("6/two=6", "unparsed"),
        ("half of 10=5", "unparsed"),
        ("apples*5=5", "unparsed"),
        ("5*apples=5", "unparsed"),
        ("5=apples", "unparsed"),
        ("(2+3) apples=5", "unparsed"),
        ("5 apples 3=53", "unparsed"),
        ("5 apples3=5", "unparsed"),
        ("5 apples.5=5.5", "unparsed"),  # the numbers do not join
        ("5\tapples=5", "unparsed"),
        ("2 hours 30 minutes=150 minutes", "unparsed"),
        ("5x=10", "unparsed"),
        ("5 x=10", "unparsed"),
        ("5xapples=5", "unparsed"),
        ("3x4=12", "right"),
        ("2e5=200000", "right"),
        ("0xff=0", "unparsed"),
        ("5 if 3 else 2=5", "unparsed"),
        ("5 if -3=2", "unparsed"),
        ("5 and 3=3", "unparsed"),
        ("5 and -3=2", "unparsed"),
        ("not 5=0", "unparsed"),
        ("5 True=5", "unparsed"),
        ("5 minus -3=2", "unparsed"),
        ("10 divided by -2=8", "unparsed"),
        ("60 per -2=58", "unparsed"),
        ("5 äpfel=5", "unparsed"),
    ],
)
def test_units_are_dropped_and_other_words_are_refused(equation: str, strict: str) -> None:
    assert check_equation(equation, "strict") == strict


UNITS = ("apples", " apples", " per box", "/hour", " miles / hour", "kg", " green apples")


@given(
    st.lists(
        st.tuples(st.sampled_from(("7", "2.50", "1,000", "20%", "$3")), st.sampled_from("+-*/")),
        min_size=1,
        max_size=5,
    ),
    st.lists(st.sampled_from(UNITS), min_size=5, max_size=5),
    st.integers(-30, 30),
)
def test_units_change_nothing(
    operations: list[tuple[str, str]], units: list[str], result: int
) -> None:
    def equation(units: list[str]) -> str:
        terms = zip(operations, units, strict=False)
        left = "".join(
            number + ("" if "%" in number else unit) + op for (number, op), unit in terms
        )
        return f"{left}2={result}{units[0]}"

    expected = check_equation(equation([""] * 5), "strict")
    assert check_equation(equation(units), "strict") == expected
    for refused in ("k", " dozen", " squared", " and", " percent of", " x"):
        assert check_equation(equation([refused] * 5), "strict") == "unparsed"


@given(st.fractions(max_denominator=1000), st.integers(2, 5))
def test_strict_accepts_the_rounded_value_and_no_neighbor(value: Fraction, n_decimals: int) -> None:
    left = f"({value.numerator})/{value.denominator}"
    rounded = round(value * 10**n_decimals)
    for shift, expected in ((0, True), (2, False), (-2, False)):
        sign = "-" if rounded + shift < 0 else ""
        whole, decimals = divmod(abs(rounded + shift), 10**n_decimals)
        equation = f"{left}={sign}{whole}.{decimals:0{n_decimals}d}"
        assert check_equation(equation, "strict") == ("right" if expected else "false")


@given(st.text(alphabet="<>=1+ |", max_size=40))
@example("<<<1=1>>>")
@example("<<1=1> >><<2=2>>")
def test_equations_are_found_as_by_the_published_pattern(text: str) -> None:
    assert find_equations(text) == re.findall(r"<<([^>]*)>>", text)


def test_finding_equations_takes_linear_time() -> None:
    started = time.process_time()
    assert find_equations("<<" * 100_000) == []
    assert find_equations("<<>" * 100_000) == []
    assert time.process_time() - started < 1


def test_the_path_is_the_equations_without_spaces() -> None:
    assert equation_path("a << 1 + 2 = 3 >>3 b <<3*2=6>>6") == "1+2=3|3*2=6"
    assert equation_path("<<1\t+2=3>>") == "1\t+2=3"  # only the space character, as published
    assert equation_path("no equations") == ""
    text = "<<$1,200 * 2 apples=2400>> <<2×3=6>>"
    assert equation_path(text, "strict") == "1200*2=2400|2*3=6"
    assert equation_path(text, "paper") == "$1,200*2apples=2400|2×3=6"


@pytest.mark.skipif(not GSM8K.is_dir(), reason="needs GSM8K in ../shared/gsm8k")
def test_gsm8k_solutions_are_valid() -> None:
    solutions = [problem.solution for problem in load_problems(GSM8K / "train.jsonl")]
    for equation in {equation for text in solutions for equation in find_equations(text)}:
        assert check_equation(equation, "strict") == "right"
        assert check_equation(equation, "paper") == "right"


@pytest.mark.parametrize("case", read_cases("equations"), ids=str)
def test_equation_cases(case: dict[str, Any]) -> None:
    decided = {"3^2=9": True, "5(3)=15": False, "3==3": False, "2·3=6": True}  # docs/filter.md
    valid = decided[case["equation"]] if case["valid"] is None else case["valid"]
    assert (check_equation(case["equation"], "strict") == "right") is valid


@pytest.mark.parametrize(
    ("text", "is_odd"),
    [
        ("<<48/2=25>", True),
        ("<<48/2=25", True),
        ("<48/2=25>>", True),
        ("[[48/2=25]]", True),
        ("《48/2=25》", True),
        ("«48/2=25»", True),
        ("＜＜48/2=25＞＞", True),
        ("<<2+3=5>>5 and <<48/2=25>24", True),
        ("<<2+3=5>>5 and <<48/2=24>>24", False),
        ("a << b", False),
        ("x = [[1,2],[3,4]]", False),
        ("[48/2=25] <b>x=3</b>", False),
        ("《a=b》", False),
    ],
)
def test_equations_in_odd_brackets_are_noticed(text: str, is_odd: bool) -> None:
    assert has_odd_equation(text, find_equations(text)) is is_odd


@pytest.mark.parametrize(
    "junk", ["<" * 50_000, "[[1" * 20_000, "<<1=" * 20_000, "=<1" * 20_000], ids="abcd"
)
def test_odd_brackets_are_searched_in_linear_time(junk: str) -> None:
    start = time.process_time()
    has_odd_equation(junk, find_equations(junk))
    assert time.process_time() - start < 1

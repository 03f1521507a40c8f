"""Equations: found, joined, checked; model output is hostile."""

import re
import time
import warnings
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from screl.core.problems import load_problems
from screl.grading import arithmetic
from screl.grading.answers import Fidelity
from screl.grading.arithmetic import CHAIN, NotArithmeticError, exact_value, python_value
from screl.grading.equations import (
    check_equation,
    equation_path,
    find_equations,
)
from screl.grading.verdict import judge_equations

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
def test_hostile_equations_are_not_right_at_once(equation: str, fidelity: Fidelity) -> None:
    started = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_equation(equation, fidelity) != "right"
    assert time.process_time() - started < 0.5


def test_model_output_makes_no_noise() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for equation in ("1if 2else 3=1", "'\\d'=2", "1 is 1=1", "2(3)=6"):
            check_equation(equation, "paper")
    assert caught == []


def published_check(equation: str) -> bool:
    """What the published code decides: Python's eval on the left, a float on the right."""
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
    """Leave out what real eval computes for minutes, or we refuse for its size: two powers in a
    row, and exponents of more than three digits."""
    _, _, exponent = text.partition("**")
    assume("**" not in exponent and sum(map(str.isdigit, exponent.partition("=")[0])) <= 3)


@settings(max_examples=1500, deadline=None)
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


@settings(max_examples=1500, deadline=None)
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
        ("3*4=12", True, True),
        ("3*4=13", False, False),
        ("3*4", False, False),
        ("12=", False, False),
        ("5=5=6", True, False),
        ("2+3=5=4+1", True, True),
        ("3/4=3/4", False, True),
        ("0.1+0.2=0.3", True, True),
        ("1000*0.001=1.0005", True, False),
        ("1000*0.001=1.002", False, False),
        ("1/3=0.33", False, True),
        ("1/3=0.34", False, False),
        ("1/3=0.333", True, True),
        ("10/3=3.33", False, True),
        ("10/3=3.3", False, False),
        ("10/3=3", False, False),
        ("1/8=0.12", False, True),
        ("1/8=0.13", False, True),
        ("-1/3=-0.33", False, True),
        ("1/3=33.33%", False, True),
        ("1/3=33.34%", False, False),
        ("10/3=$3.33", False, True),
        ("0.33=1/3", False, False),
        ("080+37=117", False, True),
        ("$5*3=$15", False, True),
        ("1,200+5=1,205", False, True),
        ("1,20+5=125", False, False),
        ("1$2=12", False, False),
        ("3×4=12", False, True),
        ("12÷4=3", False, True),
        ("5−2=3", False, True),
        ("3x4=12", False, True),
        ("3 x $4 = $12", False, True),
        ("(1+2)X(3)=9", False, True),
        ("x*4=12", False, False),
        ("20%*50=10", False, True),
        ("100%-20%=80%", False, True),
        ("50*(20%)=10", False, True),
        ("7%3=1", True, True),
        ("17%(2+3)=2", True, True),
        ("7//2=3", True, True),
        ("2**10=1024", True, True),
        ("2**-1=0.5", True, True),
        ("4**0.5=2", True, False),
        ("1**999999999=1", True, True),
        ("9**-99999=0", True, False),
        ("9**9000%7=1", True, True),
        ("9**9000*9**9000%7=1", False, False),
        ("1e1*2=20", True, True),
        ("3<4=1", True, False),
        ("5 and 3=3", True, False),
        ("True=1", True, False),
        ("6|1=7", True, False),
        ("74 plus 10=84", False, False),
        ("2(3)=6", False, False),
        ("1 1/2=1.5", False, False),
        ("5*٣=15", False, False),
    ],
)
def test_the_two_fidelities(equation: str, paper: bool, strict: bool) -> None:
    assert (check_equation(equation, "paper") == "right") is paper
    assert (check_equation(equation, "strict") == "right") is strict


@pytest.mark.parametrize(
    ("equation", "paper", "strict"),
    [
        ("3*4=12", "right", "right"),
        ("3*4=13", "false", "false"),
        ("3*4", "unparsed", "unparsed"),
        ("3*4=", "unparsed", "unparsed"),
        ("=12", "unparsed", "unparsed"),
        ("1/0=1", "unparsed", "unparsed"),
        ("3*4=12=x", "right", "unparsed"),
        ("3*4=13=x", "false", "unparsed"),
        ("3*4=12=13", "right", "false"),
        ("3/4=3/4", "unparsed", "right"),
        ("9**99999=1", "unparsed", "unparsed"),
        ("9**9000=1", "unparsed", "false"),  # too large for a float
        ("(-8)**0.5=2", "unparsed", "unparsed"),
        ("1" * 1000 + "=1", "unparsed", "unparsed"),
    ],
    ids=lambda text: text[:20],
)
def test_false_is_not_unparsed(equation: str, paper: str, strict: str) -> None:
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
        ("5k=5000", "unparsed"),
        ("5m+1m=6m", "unparsed"),
        ("5K=5000", "unparsed"),
        ("2M*3=6M", "unparsed"),
        ("1b=1", "unparsed"),
        ("2bn=2", "unparsed"),
        ("5 hundred=5", "unparsed"),
        ("5 Thousand dollars=5", "unparsed"),
        ("5 million*2=10 million", "unparsed"),
        ("5 dozen eggs=5", "unparsed"),
        ("5 dozens=60", "unparsed"),
        ("3 quarters=3", "unparsed"),
        ("2 thirds*3=6", "unparsed"),
        ("1 half=1", "unparsed"),
        ("3 halves=3", "unparsed"),
        ("6/two=6", "unparsed"),
        ("6/dozen=6", "unparsed"),
        ("2 pi=2", "unparsed"),
        ("half of 10=5", "unparsed"),
        ("apples*5=5", "unparsed"),
        ("apples 5=5", "unparsed"),
        ("5*apples=5", "unparsed"),
        ("5=apples", "unparsed"),
        ("(2+3) apples=5", "unparsed"),
        ("5 apples 3=53", "unparsed"),
        ("5 apples3=5", "unparsed"),
        ("5 apples.5=5.5", "unparsed"),  # the numbers do not join
        ("5 (apples)=5", "unparsed"),
        ("5\tapples=5", "unparsed"),
        ("2 hours 30 minutes=150 minutes", "unparsed"),
        ("5x=10", "unparsed"),
        ("5 x=10", "unparsed"),
        ("5xapples=5", "unparsed"),
        ("5y+1=6", "unparsed"),
        ("3x4=12", "right"),
        ("2e5=200000", "right"),
        ("0xff=0", "unparsed"),
        ("5 if 3 else 2=5", "unparsed"),
        ("5 if (3) else (2)=5", "unparsed"),
        ("5 if -3=2", "unparsed"),
        ("5 and 3=3", "unparsed"),
        ("5 and -3=2", "unparsed"),
        ("5 or -3=2", "unparsed"),
        ("not 5=0", "unparsed"),
        ("5 in -3=2", "unparsed"),
        ("5 True=5", "unparsed"),
        ("5 minus -3=2", "unparsed"),
        ("10 divided by -2=8", "unparsed"),
        ("60 per -2=58", "unparsed"),
        ("5 squared=5", "unparsed"),
        ("5 äpfel=5", "unparsed"),
    ],
)
def test_units_are_dropped_and_other_words_refused(equation: str, strict: str) -> None:
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


DIGITS = st.text("0123456789", min_size=1, max_size=25)
NUMBERS = DIGITS | st.builds("{}.{}".format, DIGITS | st.just(""), DIGITS | st.just(""))
BLANKS = st.sampled_from(("", "", " ", "  "))
CHAINS = st.lists(
    st.tuples(st.sampled_from("+-*/"), BLANKS, NUMBERS, BLANKS).map("".join), max_size=60
).map("".join)


@settings(max_examples=500, deadline=None)
@given(BLANKS, NUMBERS, CHAINS)
@example("", "0.1", "+0.2+0.3-0.6")
@example("", "10", "-3*0.1*7/3+1")
@example("", "1", "/0")
@example("", "0", "/7*3-0.0")
@example("", "9" * 310, "+0.5")
@example("", "9" * 310, "/3")
@example("", "9" * 310 + ".0", "*0")
@example("", "007", "+1")
@example("", ".", "+1")
@example("", "1", "+1" * 51)
@example("", "1", "+1" * 250)  # too deep
@example("", "9" * 999, "*9")
def test_the_short_way_gives_what_the_general_one_gives(blank: str, first: str, rest: str) -> None:
    text = blank + first + rest
    for read in (python_value, exact_value):
        short = value_or_none(read, text)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(arithmetic, "CHAIN", re.compile("(?!)"))
            general = value_or_none(read, text)
        assert repr(short) == repr(general)  # 5 is not 5.0, and nan is nan


def value_or_none(read: Callable[[str], int | float | Fraction], text: str) -> object:
    try:
        return read(text)
    except NotArithmeticError:
        return None


@pytest.mark.parametrize("text", ["1", "48/2", " 1.5 + .5*3. ", "1" + "+1" * 50])
def test_a_chain_of_plain_numbers_takes_the_short_way(text: str) -> None:
    assert CHAIN.fullmatch(text)


@given(st.fractions(max_denominator=1000), st.integers(2, 5))
def test_strict_accepts_the_rounded_value_and_no_neighbour(
    value: Fraction, n_decimals: int
) -> None:
    left = f"({value.numerator})/{value.denominator}"
    rounded = round(value * 10**n_decimals)
    for shift, expected in ((0, True), (2, False), (-2, False)):
        sign = "-" if rounded + shift < 0 else ""
        whole, decimals = divmod(abs(rounded + shift), 10**n_decimals)
        equation = f"{left}={sign}{whole}.{decimals:0{n_decimals}d}"
        assert check_equation(equation, "strict") == ("right" if expected else "false")


def test_exact_values_are_read_from_the_text_not_from_floats() -> None:
    assert exact_value("0.1+0.2") == Fraction(3, 10)
    assert exact_value("0.12345678901234567890123") == Fraction("0.12345678901234567890123")
    with pytest.raises(NotArithmeticError):
        exact_value("2**0.5")


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


@pytest.mark.parametrize("fidelity", ["strict", "paper"])
def test_all_equations_must_hold(fidelity: Fidelity) -> None:
    def reason(text: str) -> str:
        return judge_equations(find_equations(text), fidelity).reason

    assert reason("<<1+1=2>> <<2*2=4>>") == "valid"
    assert reason("<<1+1=3>> <<2*2=4>>") == "false_equation"
    assert reason("<<1+1=2>> <<2*2=5>>") == "false_equation"
    assert reason("none at all") == "valid"


@pytest.mark.skipif(not GSM8K.is_dir(), reason="needs GSM8K in ../shared/gsm8k")
def test_gsm8k_solutions_are_valid() -> None:
    solutions = [problem.solution for problem in load_problems(GSM8K / "train.jsonl")]
    for equation in {equation for text in solutions for equation in find_equations(text)}:
        assert check_equation(equation, "strict") == "right"
        assert check_equation(equation, "paper") == "right"

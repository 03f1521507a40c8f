"""Values of expressions: exact, and the same on the fast path for plain chains."""

import re
from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from screl.grading import arithmetic
from screl.grading.arithmetic import CHAIN, NotArithmeticError, exact_value, python_value

DIGITS = st.text("0123456789", min_size=1, max_size=25)
NUMBERS = DIGITS | st.builds("{}.{}".format, DIGITS | st.just(""), DIGITS | st.just(""))
BLANKS = st.sampled_from(("", "", " ", "  "))
CHAINS = st.lists(
    st.tuples(st.sampled_from("+-*/"), BLANKS, NUMBERS, BLANKS).map("".join), max_size=60
).map("".join)


@settings(max_examples=500)
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
def test_the_fast_path_gives_what_the_general_one_gives(blank: str, first: str, rest: str) -> None:
    text = blank + first + rest
    for read in (python_value, exact_value):
        fast = value_or_none(read, text)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(arithmetic, "CHAIN", re.compile("(?!)"))
            general = value_or_none(read, text)
        assert repr(fast) == repr(general)  # 5 is not 5.0, and nan is nan


def value_or_none(read: Callable[[str], int | float | Fraction], text: str) -> object:
    try:
        return read(text)
    except NotArithmeticError:
        return None


@pytest.mark.parametrize("text", ["1", "48/2", " 1.5 + .5*3. ", "1" + "+1" * 50])
def test_a_chain_of_plain_numbers_takes_the_fast_path(text: str) -> None:
    assert CHAIN.fullmatch(text)


def test_exact_values_come_from_the_text_not_from_floats() -> None:
    assert exact_value("0.1+0.2") == Fraction(3, 10)
    assert exact_value("0.12345678901234567890123") == Fraction("0.12345678901234567890123")
    with pytest.raises(NotArithmeticError):
        exact_value("2**0.5")

"""Extract and compare final answers."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from screl.core.problems import Problem
from screl.grading.answers import (
    SCORING_TOLERANCE,
    AnswerStyle,
    Fidelity,
    extract_answer,
    gold_text,
    is_correct,
    styled_answer,
)
from screl.grading.numbers import MAX_DIGITS
from tests.conftest import read_cases

GSM8K = Path(__file__).parents[3] / "shared/gsm8k"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("so it is 5.\n#### 18", "18"),
        ("#### 18.0", "18.0"),
        ("#### 18.", "18."),
        ("#### -3", "-3"),
        ("#### 1,234,567", "1234567"),
        ("#### 1,23", "123"),
        ("#### 5\n#### 6", "5"),
        ("#### x\n#### 6", "6"),
        ("#### 3/4", "3"),
        ("#### 7\x00 #### 8", "7"),
        ("x\x00#### 8", None),
        ("####18", None),
        ("####  18", None),
        ("#### $18", None),
        ("#### .", None),
        ("#### 1.2.3\n#### 5", None),
        ("the answer is 18", None),
        ("### 18", None),
        ("#### 1٢", "1"),
    ],
)
def test_the_paper_reads_the_first_match_as_text(text: str, expected: str | None) -> None:
    assert extract_answer(text, "paper") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("#### 18", 18),
        ("#### 1. Find the cost\n...\n#### 18", 18),
        ("#### **Step 1:** Compute 3*6\n#### 18", 18),
        ("#### 2) Add them up", None),
        ("####18", 18),
        ("####\t 18", 18),
        ("#### 18.0", 18),
        ("#### 18.", 18),
        ("#### 18,", 18),
        ("#### 18..", 18),
        ("#### -5", -5),
        ("#### −5", -5),
        ("#### -$5", -5),
        ("#### $-5", -5),
        ("#### $−5", -5),
        ("#### −$5", -5),
        ("#### $ 5", 5),
        ("#### €5", 5),
        ("#### £5", 5),
        ("#### $1,234.50", Fraction(2469, 2)),
        ("#### .5", Fraction(1, 2)),
        ("#### .25", Fraction(1, 4)),
        ("#### -.5", Fraction(-1, 2)),
        ("#### 0.1", Fraction(1, 10)),
        ("#### 20%", 20),
        ("#### 20 dollars", 20),
        ("#### 5km", 5),
        ("#### 12345", 12345),
        ("#### 5\n#### 6", 5),
        ("#### none\n#### 6", 6),
        ("#### 1.2.3\n#### 6", 6),
        ("#### 18-20\n\nQuestion: next?\n#### 6", None),
        ("#### 7\x00 #### 8", 7),
        ("x\x00#### 8", None),
        ("####\n5", None),
        ("#### -$-5", None),
        ("#### 1.2.3", None),
        ("#### 1,23", None),
        ("#### 1,2345", None),
        ("#### 1234,567", None),
        ("#### ,567", None),
        ("#### 12,345,6", None),
        ("#### 3/4", None),
        ("#### 3./4", None),
        ("#### 5 + 3", None),
        ("#### 10-12", None),
        ("#### 10−12", None),
        ("#### 2*3", None),
        ("#### 2^3", None),
        ("#### 6=6", None),
        ("#### 2:3", None),
        ("#### 2×3", None),
        ("#### 6÷3", None),
        ("#### 2x3", None),
        ("#### 2X3", None),
        ("#### 5+.5", None),
        ("#### 5+ $3", None),
        ("#### 5+€3", None),
        ("#### 5+£3", None),
        ("#### 5+ -3", None),
        ("#### 5 -", 5),
        ("#### 5+$", 5),
        ("#### 5+/", 5),
        ("#### 1e5", None),
        ("#### 1E5", None),
        ("#### 1e-5", None),
        ("#### 1e+5", None),
        ("#### 1e-", None),
        ("#### x", None),
        ("#### ٥", None),
        ("", None),
    ],
)
def test_strict_reads_one_exact_number(text: str, expected: Fraction | int | None) -> None:
    assert extract_answer(text, "strict") == expected


@pytest.mark.parametrize("case", read_cases("numbers"), ids=str)
def test_number_cases(case: dict[str, Any]) -> None:
    accepted = [None if value is None else Fraction(value) for value in case["value"]]
    assert extract_answer(case["text"], "strict") in accepted


ADORNED = [
    "{}",
    "**{}**",
    "`{}`",
    "_{}_",
    "${}$",
    "$${}$$",
    r"\boxed{{{}}}",
    r"\text{{{}}}",
    r"\({}\)",
]
ADORNED += [
    "{} apples",
    "{} a day",
    "{}%",
    "{} °C",
    "{} (eighteen)",
    "{}. So it is.",
    "{}</s>",
    "+{}",
]
SIGNS = [
    "{}",
    "${}",
    r"\${}",
    "€{}",
    "¥ {}",
    "US${}",
    "₹{}",
    "−{}",
    "–{}",
    "-${}",
    "$-{}",
    r"-\${}",
]
CHANGED = ["{} million", "{}k", "{} dozen", "{} thousand", "{}-{}", "{} to {}", "{} or {}", "{}/{}"]
CHANGED += [
    "{}e3",
    "{} x 10^3",
    "{}²",
    "{}!",
    "{}π",
    r"{}\sqrt{{2}}",
    "{} and a half",
    "{}:{}",
    "{}_7",
]
CHANGED += [
    "{},5",
    "{}.000,5",
    "{} feet 6",
    "0,{}",
    "{} + x",
    "{}M",
    "{} hundredths",
    "±{}",
    "{}.3...",
]


@given(st.integers(0, 10**8), st.sampled_from(SIGNS), st.sampled_from(ADORNED), st.data())
def test_strict_reads_a_number_in_any_form_or_not_at_all(
    number: int, sign: str, adorned: str, data: st.DataObject
) -> None:
    separator = data.draw(st.sampled_from(["", ",", " ", "'", "’", "\xa0", "\u202f", r"\,", "{,}"]))
    text = f"{number:,}".replace(",", separator)
    ending = data.draw(st.sampled_from(["", "", ".", ".0", ".00"]))
    if data.draw(st.booleans()):
        text = "".join(chr(ord(c) + 0xFEE0) if c.isascii() and c.isdigit() else c for c in text)
    value = -number if any(minus in sign for minus in "-−–") else number
    line = adorned.format(sign.format(text + ending))
    is_plain = adorned == "{}" and sign in ("{}", "${}")
    assert extract_answer(f"#### {line}", "strict") in ({value} if is_plain else {value, None}), (
        line
    )


@given(st.integers(1, 999), st.sampled_from(CHANGED))
def test_strict_never_reads_the_first_digits_of_something_else(number: int, form: str) -> None:
    assert extract_answer("#### " + form.format(number, number + 2), "strict") is None


def test_strict_bounds_the_digits() -> None:
    assert extract_answer("#### " + "9" * 100, "strict") == 10**100 - 1
    assert extract_answer("#### " + "9" * 101, "strict") is None


@pytest.mark.parametrize("fidelity", ["strict", "paper"])
@pytest.mark.parametrize(
    "junk", ["#" * 50_000, "#### " * 20_000, "####" + " " * 50_000, "9" * 50_000]
)
def test_long_junk_is_read_quickly(junk: str, fidelity: Fidelity) -> None:
    assert extract_answer(junk, fidelity) is None
    assert extract_answer("#### " + junk + "#### 1.2.3", fidelity) is None or "9" in junk


@given(st.fractions(), st.integers(0, 6), st.booleans())
def test_strict_reads_back_what_was_written(
    number: Fraction, n_decimals: int, with_commas: bool
) -> None:
    scaled = round(number * 10**n_decimals)
    whole, decimals = divmod(abs(scaled), 10**n_decimals)
    text = f"{whole:,}" if with_commas else str(whole)
    text += f".{decimals:0{n_decimals}d}" if n_decimals else ""
    sign = "-" if scaled < 0 else ""
    if len(text) <= MAX_DIGITS:
        answer = extract_answer(f"#### {sign}{text}", "strict")
        assert answer == Fraction(scaled, 10**n_decimals)


def test_the_filter_is_exact_and_the_scorer_tolerates() -> None:
    assert is_correct("18.0", "18")
    assert not is_correct("18.00005", "18")
    assert is_correct("18.00005", "18", SCORING_TOLERANCE)
    assert not is_correct("18.0002", "18", SCORING_TOLERANCE)
    assert not is_correct("18.5", "18", tolerance=0.5)
    assert not is_correct(Fraction("18.00005"), Fraction(18), SCORING_TOLERANCE)
    assert is_correct(Fraction("18.0"), Fraction(18))
    assert is_correct(None, Fraction(18)) is False


@pytest.mark.parametrize(
    "line",
    [
        "the answer", "1. Find it", "12) _Find", "3: *Find it", "Step 2: Do it", "*Part 2.* Do",
        "case  3) do it", "_step 1. A", "1. Z", "1. a", "1. z",
    ],
)  # fmt: skip
def test_a_line_without_a_number_or_with_a_heading_is_passed_over(line: str) -> None:
    assert extract_answer(f"#### {line}\nso\n#### 18", "strict") == 18


def test_only_what_follows_directly_corrects_an_answer() -> None:
    assert extract_answer("#### 5 or 6#### 5", "strict") == 5
    assert extract_answer("#### 5 or 6\n#### 5", "strict") == 5
    assert extract_answer("#### 5 or 6\n\n#### 5", "strict") is None


@pytest.mark.parametrize(
    ("style", "text", "answer"),
    [
        ("boxed", r"\boxed{1} or \boxed{x}.", "x"), ("boxed", "#### 5", None),
        ("hash", "####\n#### 5 apples \n#### 6", "5 apples"), ("hash", "5", None),
        ("the_answer_is", "The answer is: 3. The  answer is 4.5. Or 5", "4.5"),
        ("the_answer_is", "the correct answer is **12.** #### 3", "12"),
        ("the_answer_is", "THE FINAL ANSWER IS:\n x = 5\nso", "x = 5"),
        ("the_answer_is", "The answer is 5####6", "5"), ("the_answer_is", "bathe answer is", None),
        ("the_answer_is", "The answer isnt 5", None), ("the_answer_is", "answer: 5", None),
        ("last_number", "1 then -$1,234.50.", "-2469/2"), ("last_number", "5-3", "3"),
        ("last_number", "x $-7 y", "-7"), ("last_number", "a .5", "1/2"), ("last_number", "", None),
        ("last_number", "9" * (MAX_DIGITS + 1), None), ("last_number", "9" * MAX_DIGITS, "9" * 100),
    ],
)  # fmt: skip
def test_an_answer_is_found_in_each_style(
    style: AnswerStyle, text: str, answer: str | None
) -> None:
    assert styled_answer(text, style) == answer


def test_a_short_answer_is_where_every_grader_looks() -> None:
    assert gold_text(Problem(0, "q", "s", 1, answer=" $5$ ")) == "\\boxed{5}\n#### 5"
    assert gold_text(Problem(0, "q", "s", 1, answer=r"$\boxed 5$.")) == "\\boxed{5}\n#### 5"
    assert gold_text(Problem(0, "q", "s", 1)) == "s"

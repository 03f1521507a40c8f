"""Extract and compare final answers."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from screl.core.io import UserError
from screl.core.problems import Problem, load_problems
from screl.grading.answers import (
    SCORING_TOLERANCE,
    Fidelity,
    extract_answer,
    gold_answer,
    gold_answers,
    gold_text,
    is_correct,
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


def test_a_short_answer_is_the_gold() -> None:
    problem = Problem(0, "q", "so #### 4", 1, answer=r"\boxed{5}")
    assert gold_answers([problem], Path("d.jsonl"), "strict") == [5]
    for text in ("5", " $5$ ", r"\$5", r"$\boxed 5$"):
        assert gold_answer(Problem(0, "q", "so #### 4", 1, answer=text), "strict") == 5
    assert gold_text(Problem(0, "q", "s", 1, answer=" $5$ ")) == "\\boxed{5}\n#### 5"
    formula = Problem(1, "q", "so #### 4", 7, answer=r"\frac12")
    with pytest.raises(UserError, match=r"^d\.jsonl:7: the answer .* is not a number"):
        gold_answers([formula], Path("d.jsonl"), "strict")


@pytest.mark.parametrize("fidelity", ["strict", "paper"])
def test_a_solution_without_answer_is_named_by_its_line(fidelity: Fidelity) -> None:
    problems = [Problem(0, "q", "so #### 4", 1), Problem(1, "q2", "no number", 7)]
    assert len(gold_answers(problems[:1], Path("d.jsonl"), fidelity)) == 1
    with pytest.raises(UserError, match=r"^d\.jsonl:7: the response has no '#### <number>'; end"):
        gold_answers(problems, Path("d.jsonl"), fidelity)


@pytest.mark.skipif(not GSM8K.is_dir(), reason="needs GSM8K in ../shared/gsm8k")
def test_both_fidelities_read_gsm8k_solutions_alike() -> None:
    for path in (GSM8K / "train.jsonl", GSM8K / "test.jsonl"):
        problems = load_problems(path)
        exact = gold_answers(problems, path, "strict")
        published = gold_answers(problems, path, "paper")
        assert exact == [Fraction(text) for text in published]

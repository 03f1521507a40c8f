"""Extract and compare final answers."""

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from screl.core.io import UserError
from screl.core.problems import Problem, load_problems
from screl.grading.answers import (
    MAX_DIGITS,
    SCORING_TOLERANCE,
    Fidelity,
    extract_answer,
    gold_answers,
    is_correct,
)

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
        ("#### 5+ -3", 5),
        ("#### 5 -", 5),
        ("#### 5+$", 5),
        ("#### 5+/", 5),
        ("#### 1e5", None),
        ("#### 1E5", None),
        ("#### 1e-5", None),
        ("#### 1e+5", None),
        ("#### 1e-", 1),
        ("#### x", None),
        ("#### ٥", None),
        ("", None),
    ],
)
def test_strict_reads_one_exact_number(text: str, expected: Fraction | int | None) -> None:
    assert extract_answer(text, "strict") == expected


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

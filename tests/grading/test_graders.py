"""Six graders: what each reads, where they differ, and that junk is never right."""

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from screl.grading import graders
from screl.grading.graders import GRADERS, GraderVerdict
from tests.conftest import ROOT

GSM8K = ROOT.parent / "shared/gsm8k"


# Verdicts by lm-evaluation-harness's own RegexFilter and exact_match_hf_evaluate with the settings
# of gsm8k.yaml (commit 4e7e0d47): strict-match, then flexible-extract.
@pytest.mark.parametrize(
    ("completion", "solution", "strict", "flexible"),
    [
        ("x 5\n#### 18", "#### 18", ("18", True), ("18", True)),
        ("#### 18.", "#### 18", ("18.", True), ("18.", True)),
        ("#### 1,234", "a\n#### 1234", ("1,234", True), ("1,234", True)),
        ("#### 1234", "a\n#### 1,234", ("1234", True), ("1234", True)),
        ("#### $18", "#### 18", (None, False), ("$18", True)),
        ("#### 18.0", "#### 18", ("18.0", False), ("18.0", False)),
        ("#### 5\n#### 6", "#### 5", ("5", True), ("6", False)),
        ("#### 5\n#### 6", "#### 6", ("5", False), ("6", True)),
        ("The answer is 18.", "#### 18", (None, False), ("18.", True)),
        ("The answer is $18.00", "#### 18", (None, False), ("$18.00", False)),
        ("It is 18 dollars ...", "#### 18", (None, False), ("...", False)),
        ("none at all", "#### 18", (None, False), (None, False)),
        ("#### -5", "#### -5", ("-5", True), ("-5", True)),
        ("10-12", "#### -12", (None, False), ("-12", True)),
        ("10 - 12", "#### 12", (None, False), ("12", True)),
        ("####18", "#### 18", (None, False), ("18", True)),
        ("#### 18 dollars", "#### 18", ("18", True), ("18", True)),
        ("#### 1,2,3", "#### 123", ("1,2,3", True), ("1,2,3", True)),
        ("A $5 note, and 7, then", "#### 7", (None, False), ("7,", True)),
        ("#### .", "#### 18", (".", False), (None, False)),
        ("#### 18..", "#### 18", ("18..", False), ("18..", False)),
        ("#### 3\n\n1. 2.", "#### 2", ("3", False), ("2.", True)),
        ("x\x00#### 8", "#### 8", ("8", True), ("8", True)),
        ("#### 07", "#### 7", ("07", False), ("07", False)),
        ("x = 3, y = 4,", "y #### 3\n#### 4", (None, False), ("4,", True)),
        ("", "#### 18", (None, False), (None, False)),
    ],
)
def test_lm_eval_answers_as_the_harness_does(
    completion: str, solution: str, strict: tuple[str | None, bool], flexible: GraderVerdict
) -> None:
    assert graders.lm_eval_strict(completion, solution) == strict
    assert graders.lm_eval_flexible(completion, solution) == flexible


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("we get 5 and then 18.", "18"),
        ("#### 1,234.50", "2469/2"),
        ("costs -$5", "-5"),
        ("costs $-5", "-5"),
        ("costs −5 dollars", "-5"),
        ("10-12", "12"),
        ("10 - 12", "12"),
        ("(3)-4", "4"),
        ("about .5", "1/2"),
        ("3, 4,", "4"),
        ("9" * 101, None),
        ("none", None),
    ],
)
def test_last_number_reads_the_last_number(text: str, expected: str | None) -> None:
    assert graders.last_number(text, "#### 7").answer == expected


@given(st.integers(-(10**9), 10**9), st.text(alphabet="ab \n$,", max_size=20))
def test_last_number_finds_a_number_after_any_words(number: int, words: str) -> None:
    verdict = graders.last_number(f"{words} {number:,}.", f"#### {number}")
    assert verdict == (str(number), True)


@pytest.mark.parametrize(
    ("completion", "right"),
    [
        ("#### 18", "111111"),
        ("#### $18", "101011"),
        ("####18", "101011"),
        ("#### 18.0", "111001"),
        ("#### 18.00005", "010000"),
        ("it is 18", "001010"),
        ("#### 18\n\nThat is 3 more.", "110101"),
        ("#### 3\n#### 18", "001010"),
        ("#### 36/2", "000001"),
        (r"#### \boxed{18}", "101011"),
        ("#### 18 of 20", "010100"),
        (r"#### 18\sqrt{2}", "010100"),
    ],
)
def test_where_the_graders_differ(completion: str, right: str) -> None:
    """``right`` has one digit per grader, in the order of GRADERS; 1 is right."""
    verdicts = [grade(completion, "so 9 + 9 = 18\n#### 18") for grade in GRADERS.values()]
    assert "".join(str(int(verdict.is_right)) for verdict in verdicts) == right


@pytest.mark.parametrize("grade", GRADERS.values(), ids=GRADERS)
def test_nothing_is_right_without_a_gold_answer(grade: object) -> None:
    assert callable(grade)
    assert not grade("no number", "no number").is_right
    assert not grade("#### 18", "no number").is_right


@pytest.mark.parametrize("grade", GRADERS.values(), ids=GRADERS)
@pytest.mark.parametrize(
    "junk",
    ["#" * 50_000, "#### " * 10_000, "9" * 50_000, "\\boxed{" * 7_000, "{" * 50_000, "-$" * 25_000,
     "1," * 25_000, "#### \\boxed{" + "(" * 50_000],
)  # fmt: skip
def test_long_junk_is_never_right(grade: object, junk: str) -> None:
    assert callable(grade)
    assert not grade(junk, "#### 18").is_right


def test_importing_the_graders_does_not_load_sympy() -> None:
    code = "import screl.grading.graders, sys; print('sympy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


@pytest.mark.skipif(not GSM8K.is_dir(), reason="needs GSM8K in ../shared/gsm8k")
@pytest.mark.parametrize("name", ["train", "test"])
def test_every_gsm8k_solution_is_right(name: str) -> None:
    for line in (GSM8K / f"{name}.jsonl").read_text().splitlines():
        solution = json.loads(line)["response"]
        wrong = [name for name, grade in GRADERS.items() if not grade(solution, solution).is_right]
        assert not wrong, solution

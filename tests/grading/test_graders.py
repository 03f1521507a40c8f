"""Six graders: what each reads, where they differ, and that hostile text costs bounded time."""

import json
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from screl.grading import formulas as math_answers
from screl.grading import graders
from screl.grading.formulas import math_answer, math_answers_equal
from screl.grading.graders import GRADERS, GraderVerdict
from tests.conftest import ROOT

SHARED = ROOT.parent / "shared"

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


# The verdicts of lm-evaluation-harness's own RegexFilter and exact_match_hf_evaluate with the
# settings of gsm8k.yaml (commit 4e7e0d47): strict-match, then flexible-extract.
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
def test_last_number_finds_a_number_behind_any_words(number: int, words: str) -> None:
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
        (r"#### \boxed{18}", "001011"),
        ("#### 18 of 20", "110100"),
        (r"#### 18\sqrt{2}", "110100"),
    ],
)
def test_where_the_graders_differ(completion: str, right: str) -> None:
    """One digit per grader, in the order of GRADERS; 1: right."""
    verdicts = [grade(completion, "so 9 + 9 = 18\n#### 18") for grade in GRADERS.values()]
    assert "".join(str(int(verdict.is_right)) for verdict in verdicts) == right


@pytest.mark.parametrize("grade", GRADERS.values(), ids=GRADERS)
def test_nothing_is_right_where_there_is_no_gold_answer(grade: object) -> None:
    assert callable(grade)
    assert not grade("no number", "no number").is_right
    assert not grade("#### 18", "no number").is_right


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
def test_the_gold_answer_comes_first(gold: str, answer: str) -> None:
    assert math_answers_equal(answer_of(gold), answer_of(answer))
    assert not math_answers_equal(answer_of(answer), answer_of(gold))
    assert graders.math_verify(boxed(answer), boxed(gold)).is_right


def test_bare_equations_are_not_the_number_after_the_equals_sign() -> None:
    first, second = "#### 3*x - 1*y + 13 = 0", "#### 3x + 4y + 14 = 0"
    library = math_answers._libraries()[1]
    assert library.verify(library.parse(first), library.parse(second))  # issue 60, still there
    assert not graders.math_verify(second, first).is_right
    assert graders.math_verify("#### 3x + 13 = y", first).is_right
    assert graders.math_verify("#### 0", first).answer == "0"


def test_a_percent_sign_is_a_unit() -> None:
    """For Math-Verify 50% is 50 and 0.5, which are not each other: no vote could be by that."""
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


@settings(deadline=None)  # the first call imports sympy
@given(st.fractions(max_denominator=1000).filter(lambda f: abs(f) < 10**6))
def test_every_fraction_has_one_text(number: Fraction) -> None:
    p, q = number.numerator, number.denominator
    texts = {answer_of(rf"\frac{{{p}}}{{{q}}}"), answer_of(rf"\dfrac{{{3 * p}}}{{{3 * q}}}")}
    assert len(texts) == 1
    assert math_answers_equal(texts.pop(), answer_of(f"{p}/{q}"))


@pytest.fixture
def short_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(math_answers, "MAX_SECONDS", 0.1)
    math_answers._canonical.cache_clear()
    math_answers_equal.cache_clear()
    math_answer(boxed("1+1"))  # imports


def grade_hostile() -> list[bool]:
    """Of every hostile text: whether it is itself, and nothing else."""
    return [
        graders.math_verify(boxed(text), boxed(text)).is_right
        and not graders.math_verify(boxed(text), boxed("x+18")).is_right
        and graders.math_verify(f"#### {text}", "#### 18.5").is_right is False
        for text in HOSTILE
    ]


# Hypothesis has a callback in the garbage collector; where the limit hits that, it hits again.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("short_limit")
def test_hostile_answers_are_given_up() -> None:
    assert all(grade_hostile())


@pytest.mark.usefixtures("short_limit")
def test_hostile_answers_are_given_up_in_threads() -> None:
    """Where no signal can stop it: signals belong to the main thread."""
    found: list[list[bool]] = []
    thread = threading.Thread(target=lambda: found.append(grade_hostile()))
    thread.start()
    thread.join()
    assert len(found) == 1
    assert all(found[0])


@pytest.mark.parametrize("pool", [ProcessPoolExecutor, ThreadPoolExecutor])
def test_it_grades_in_pools(pool: type[ProcessPoolExecutor | ThreadPoolExecutor]) -> None:
    math_answers._canonical.cache_clear()
    math_answers_equal.cache_clear()
    with pool(1) as workers:
        verdict = workers.submit(graders.math_verify, boxed("0.333333"), boxed("1/3")).result()
        assert workers.submit(math_answer, boxed("0.5")).result() == r"\frac{1}{2}"
    assert verdict == ("0.333333", True)


@pytest.mark.parametrize("in_thread", [False, True])
def test_endless_work_is_stopped(in_thread: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    swallowed: list[Exception] = []

    def endless() -> int:
        while True:
            try:
                sum(range(100))
            except Exception as error:
                swallowed.append(error)

    monkeypatch.setattr(math_answers, "MAX_SECONDS", 0.05)
    results: list[object] = []

    def work() -> None:
        results.append(math_answers._within_limit(endless))
        results.append(math_answers._within_limit(lambda: 5))

    if in_thread:
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(5)
    else:
        work()
    assert results == [None, 5]
    assert not swallowed


@pytest.mark.parametrize("grade", GRADERS.values(), ids=GRADERS)
@pytest.mark.parametrize(
    "junk",
    ["#" * 50_000, "#### " * 10_000, "9" * 50_000, "\\boxed{" * 7_000, "{" * 50_000, "-$" * 25_000,
     "1," * 25_000, "#### \\boxed{" + "(" * 50_000],
)  # fmt: skip
def test_long_junk_is_no_right_answer(grade: object, junk: str) -> None:
    assert callable(grade)
    assert not grade(junk, "#### 18").is_right


def test_importing_it_does_not_load_sympy() -> None:
    code = "import screl.grading.graders, sys; print('sympy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def solutions_of(path: Path, key: str) -> list[str]:
    return [json.loads(line)[key] for line in path.read_text().splitlines()]


@pytest.mark.skipif(not (SHARED / "gsm8k").is_dir(), reason="needs GSM8K in ../shared/gsm8k")
@pytest.mark.parametrize("name", ["train", "test"])
def test_every_gsm8k_solution_is_right(name: str) -> None:
    for solution in solutions_of(SHARED / f"gsm8k/{name}.jsonl", "response"):
        wrong = [name for name, grade in GRADERS.items() if not grade(solution, solution).is_right]
        assert not wrong, solution


@pytest.mark.skipif(not (SHARED / "math").is_dir(), reason="needs MATH in ../shared/math")
def test_math_solutions_are_right() -> None:
    """Every 20th, for time; all 5,000 are."""
    for solution in solutions_of(SHARED / "math/test.jsonl", "solution")[::20]:
        assert graders.math_verify(solution, solution).is_right, solution
        answer = math_answer(solution)
        assert answer is not None
        again = math_answer(boxed(answer))
        assert again is not None
        assert math_answers._is_verified(answer, again) or again == answer

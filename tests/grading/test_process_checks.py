"""Signs of wrong reasoning: what each check passes and what it rejects."""

from fractions import Fraction
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from screl.core.problems import load_problems
from screl.grading.equations import find_equations
from screl.grading.process_checks import ProcessCheck, failed_checks, question_numbers

GSM8K = Path(__file__).parents[3] / "shared/gsm8k"
ALL = get_args(ProcessCheck)


def fails(check: ProcessCheck, completion: str, question: str = "") -> bool:
    return failed_checks(completion, question, {check}) == [check]


@pytest.mark.parametrize(
    "completion",
    [
        "<<2*3=6>>6 <<6*4=24>>24\n#### 24",
        "#### 5",
        "<<2*3=6>>6\n#### 6",
        "<<6*4=24>>24 is it, less <<1+1=2>>2 is <<24-2=22>>22\n#### 22",
        "<<2*3=6.0>>6 <<6*4=24>>24\n#### 24",
        "<<600*2=$1,200>> <<1200*2=2400>>\n#### 2,400",
        "<<600*2=1200>> <<$1,200*2=2400>>\n#### 2400",
        "<<1/5=20%>> <<0.2*50=10>>\n#### 10",
        "<<100/5=20>>20% <<20/100*50=10>>\n#### 10",
        "<<1/5=0.2>> <<20%*50=10>>\n#### 10",
        "<<3-8=-5>> so 5 short, <<5*2=10>>\n#### 10",
        "<<15/2=7.5>> so 8 cans, <<8*2=16>>\n#### 16",
        "<<15/2=7.5>>7.5, so 8 cans\n#### 8",
        "<<3+2=5>> <<1+4=5>> <<5*2=10>>\n#### 10",  # one operand uses both
        "<<2*3=6>>6 dogs. 6 dogs * 4 = 24 legs\n#### 24",
        "<<2*3=6>>6 and 4 + $6 = $10\n#### 10",
        "<<2*3=6>>6*4=24\n#### 24",
        "<<2*300=600>>600. 1,000 - 600 = 400\n#### 400",
        "<<2*300=600>>600. 600(2) = 1200\n#### 1200",
        "<<10+20=30>>. We know x + 2x = 30, x = 10\n#### 10",
        "2 + 3 = 5 <<2*3=6>>\n#### 6",  # results in the text may stay unused
        "<<x+1=y>> <<2*3=6>>\n#### 6",  # unreadable, so skipped
    ],
)
def test_every_result_is_used(completion: str) -> None:
    assert not fails("unused_result", completion)


@pytest.mark.parametrize(
    "completion",
    [
        "<<2*3=6>>6 <<5*4=20>>20\n#### 20",
        "<<2*3=6>>6 dogs. So 6 dogs. <<5*4=20>>20\n#### 20",
        "<<5*4=20>>20 <<2*3=6>>6\n#### 20",
        "2*3=<<2*3=6>>6 dogs. <<5*4=20>>20\n#### 20",
        "6=<<6=6>>6 dogs. <<5*4=20>>20\n#### 20",
        "4 * 6, <<2*3=6>>6, <<5*4=20>>20\n#### 20",  # used before it is computed
        "<<6*1=6>> <<5*4=20>>\n#### 20",  # its own operand does not use it
        "<<600*2=1200>> <<120*2=240>>\n#### 240",
        "<<100/5=20>> <<2*3=6>>\n#### 6",
        "<<15/2=7.5>> <<9*2=18>>\n#### 18",
        "<<3-8=-5>> <<6*2=12>>\n#### 12",
        "<<2*3=6>>\n####",
    ],
)
def test_a_result_is_not_used(completion: str) -> None:
    assert fails("unused_result", completion)


@pytest.mark.parametrize(
    "completion",
    [
        "no equation\n#### 5",
        "3 + 3 = 6\n#### 5",
        "<<2*3=6>>6\n#### 6",
        "<<2*3=6>>6\n#### $6.00",
        "<<600*2=1200>>1200\n#### 1,200",
        "<<1/5=0.2>>20%\n#### 20",
        "<<50*3=150>>150 cents\n#### 1.50",
        "<<3-8=-5>>\n#### 5",
        "<<15/2=7.5>>\n#### 8",
        "<<15/2=7.5>>\n#### 7",
        "<<2*3=6>>6. 6 * 4 = $24\n#### 24",
        "<<2*3=6>>6. 600*2=1,200\n#### 1200",
        "<<2*3=6=6.0>>6\n#### 6",
    ],
)
def test_the_last_result_is_the_answer(completion: str) -> None:
    assert not fails("last_equation_not_answer", completion)


@pytest.mark.parametrize(
    "completion",
    [
        "<<2*3=6>>6\n#### 7",
        "<<2*3=6>>6 <<5*4=20>>20\n#### 6",
        "<<2*3=6>>6 <<5*4=20>>20\n#### 26",
        "<<600*2=1200>>\n#### 120",
        "<<15/2=7.5>>\n#### 9",
        "<<2*3=6>>6. 6 * 4 = 24\n#### 6",
        "<<2*3=6>>6",
        "<<2*3=6>>6\n#### 6\n<<1+1=2>>2",
    ],
)
def test_the_last_result_is_not_the_answer(completion: str) -> None:
    assert fails("last_equation_not_answer", completion)


@pytest.mark.parametrize(
    ("question", "equation"),
    [
        ("He has 17 boxes of 23.", "17*23=391"),
        ("He has seventeen boxes of twenty-three.", "17*23=391"),
        ("He has twenty three thousand.", "23000*1=23000"),
        ("One hundred twenty-five of 17", "125-17=108"),
        ("Two thousand and fifty", "2050+1=2051"),
        ("It costs $1,234.50.", "1234.5*2=2469"),
        ("It costs $400 000.", "400000/2=200000"),
        ("17 cents", "0.17*2=0.34"),
        ("17% of it", "17/100*2=0.34"),
        ("17% of it", "0.17*2=0.34"),
        ("17% off", "0.83*2=1.66"),
        ("17 percent more", "117/100*2=2.34"),
        ("5/18 are red", "13/18*2=13/9"),
        ("Half are red", "0.5*2=1"),
        ("A third of 17", "17*1/3=17/3"),
        ("Three quarters are red", "0.75*2=1.5"),
        ("two and a half hours", "2.5*2=5"),
        ("1 1/2 cups", "1.5*2=3"),
        ("one in eight", "0.125*2=0.25"),
        ("8 dozen", "8*12=96"),
        ("the ninth day", "9*2=18"),
        ("triple of 17", "3*17=51"),
        ("17 dimes", "17*0.10=1.7"),
        ("a year", "365/7=52.14"),
        ("", "60*24=1440"),
        ("", "777=777"),
        ("", "x*777=777"),
        ("", "-(-2)*2=4"),
    ],
)
def test_every_operand_is_explained(question: str, equation: str) -> None:
    assert not fails("unexplained_number", f"<<{equation}>>", question)


@pytest.mark.parametrize(
    "completion",
    [
        "<<17+1=18>> <<18*2=36>>",
        "<<17-36=-19>> <<19*2=38>>",
        "<<17/2=8.5>> <<9*2=18>>",
        "so 17 + 2 = 19. <<19*2=38>>",
        "<<17*17=289>> <<2.89*2=5.78>>",
    ],
)
def test_an_earlier_result_explains_an_operand(completion: str) -> None:
    question = "17 and 36"
    assert not fails("unexplained_number", completion, question)
    *earlier, last = completion.split("<<")
    assert fails("unexplained_number", f"<<{last}{'<<'.join(earlier)}", question)


@pytest.mark.parametrize(
    ("question", "completion"),
    [
        ("He has 17.", "<<17*23=391>>"),
        ("He has 17.", "<<18+1=19>>"),
        ("He has 1,234.", "<<234+1=235>>"),
        ("He has 123.", "<<23+1=24>>"),
        ("seventeen", "<<70+1=71>>"),
        ("someone tennis freight", "<<10+8=18>>"),
        ("17% off", "<<0.73*2=1.46>>"),
        ("5/17 are red", "<<13/17=13/17>>"),
        ("17", "<<17/2=8.5>> <<8.6*2=17.2>>"),
        ("17", "<<19+1=20>> so 17 + 2 = 19."),
        ("17", "<<17*2=34>> <<3.4*2=6.8>>"),
        ("", "<<2*3=6>> <<6+777=783>>"),
    ],
)
def test_an_operand_is_not_explained(question: str, completion: str) -> None:
    assert fails("unexplained_number", completion, question)


def test_the_numbers_of_a_question() -> None:
    assert question_numbers("no number") == frozenset()
    assert question_numbers("20% of 7") == {
        *(20, 7, Fraction(4, 5), Fraction(6, 5)),
        *(Fraction(1, 20), Fraction(1, 7), Fraction(5, 4), Fraction(5, 6)),
    }
    assert question_numbers("0 and 9" + "9" * 200) == {0}  # numbers of absurd length are skipped


def test_only_the_given_checks_run_in_a_fixed_order() -> None:
    bad = "<<2*3=6>> <<777+1=778>>\n#### 5"
    assert failed_checks(bad, "", []) == []
    assert failed_checks(bad, "", ALL[::-1]) == list(ALL)
    for check in ALL:
        assert failed_checks(bad, "", [check]) == [check]
    assert failed_checks("no equation\n#### 5", "", ALL) == []


@given(st.text(alphabet="<>=0123456789.,/%$ +-*()#ax\n\0", max_size=60), st.text(max_size=30))
@example("<<<1=1>>>", "")
@example("<<1=1>> >><<=>><<1=1/0>><<9**99999=1>>", "1/0 half / 0")
@example("<<" + "9" * 900 + "*1=2>>", "9" * 5000 + " 1/" + "9" * 5000)
@example("9" * 5000 + "+1=" + "9" * 5000, "")
@example("#### ٣", "٣ ² Ⅷ")
def test_any_text_gets_a_verdict(completion: str, question: str) -> None:
    failed = failed_checks(completion, question, ALL)
    assert set(failed) <= set(ALL)
    if not find_equations(completion):
        assert failed == []


@pytest.mark.skipif(not GSM8K.is_dir(), reason="needs GSM8K in ../shared/gsm8k")
def test_few_gsm8k_solutions_are_rejected() -> None:
    problems = load_problems(GSM8K / "test.jsonl")
    failed = [failed_checks(problem.solution, problem.question, ALL) for problem in problems]
    counts = {check: sum(check in row for row in failed) for check in ALL}
    assert counts == {
        "unused_result": 22,
        "last_equation_not_answer": 6,
        "unexplained_number": 20,
    }

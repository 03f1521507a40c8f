r"""Read arithmetic in prose and LaTeX."""

import time

import pytest

from screl.grading.written import canonical_mark, find_written


def canonical(text: str) -> list[str]:
    return [one.canonical for one in find_written(text)]


@pytest.mark.parametrize(
    "text",
    [
        "3*4=12", "<<3*4=12>>", "3 * 4 = <<3*4=12>>12 eggs", "3 × 4 = 12", "1 = 3 * 4 = 12",
        r"$3\cdot4=12$", r"3 \times 4 = 12", r"\(3 \times 4 = 12\)", r"\[3\cdot 4=\boxed{12}\]",
        "3 x 4 = $12.00", "3 pens x 4 = 12 pens", "3 boxes * 4 pens/box = 12 pens", "$3 X 4 = 12",
        "3 times 4 equals 12", "3 multiplied by 4 is equal to 12", "Total = 3 * 4 = 12 in total.",
        "He pays 3 * 4 =\n12", "3 * 4\n= 12", "- 3 * 4 = 12", "1. 3 * 4 = 12", "**3 * 4 = 12**",
        "room 1 = 3 * 4 = 12", "12 apples. 3 * 4 = 12, so 5", "a total of 3 * 4 = 12",
        "03 * 4.0 = 12", r"3 \text{ boxes} \times 4 &= 12 \\", "(3 * 4 = 12)", "3 * (4) = 12",
        "the 3 bags of pens for nice people * 4 = 12", "3-liter jugs * 4 = 12",
        r"$$\begin{align*}3*4&=12\end{align*}$$", "3 * 4 = 12 x",
    ],
)  # fmt: skip
def test_every_spelling_is_one_equation(text: str) -> None:
    assert canonical(text) == ["3*4=12"]


@pytest.mark.parametrize(
    ("text", "equations"),
    [
        (r"$\frac{12}{3} = 4$", ["12/3=4"]),
        (r"\dfrac12 + 1 = 1.5", ["(1/2)+1=1.5"]),
        ("3*15 + 9\n= 45 + 9 = 54", ["3*15+9=45+9=54"]),
        ("= 45 + 9 = 54", ["45+9=54"]),
        ("4*3=12", ["4*3=12"]),
        ("1,200 - 200.50 = 999.50", ["1200-200.5=999.5"]),
        ("2 * (3 + 4) = 14", ["2*(3+4)=14"]),
        ("2(3 + 4) = 14", ["2*(3+4)=14"]),
        ("-5 + 3 = -2", ["-5+3=-2"]),
        ("5^2 + 1 = 26. 2**3 = 8", ["5**2+1=26", "2**3=8"]),
        ("50 * 20% = 10", ["50*20%=10"]),
        ("50*20*.01 = <<50*20*.01=10>>10", ["50*20%=10"]),
        ("60 / 12 = 5 dozen", ["60/12=5"]),
        ("Half is <<48/2=24>>24, and 24 + 1 = 25", ["48/2=24", "24+1=25"]),
        ("7 - 2 = <<5=5>>5", ["7-2=5"]),
        ("3*4 = 12 and 12 + 5 = 17", ["3*4=12", "12+5=17"]),
        ("220 – 22 = 198", ["220-22=198"]),
    ],
)
def test_equations_keep_their_order_and_parts(text: str, equations: list[str]) -> None:
    assert canonical(text) == equations


@pytest.mark.parametrize(
    "text",
    [
        "", "no equation", "12", "x = 5", "5x = 10", "2x + 5 + 3 = 10", "x + 5 + 3 = 10",
        "5 + 3 = x + 2", "5 - x + 1 = 3", "half of 20 + 5 = 15", "10% of 50 + 3 = 8", "2 * 3 = ",
        "2 1/2 * 3 = 8", "12 x 1 and 1/4 = 15", "17/3 = 5 and 2/3", "3/4 * 2 = 1 1/2",
        "5000 * 3 = 15 thousand", "2 dozen * 3 = 72", "at 7:50 + 30 = 8:20", "100 - 50 = 50%",
        "2000 / 2/3 = 3000", "12 = 12", "5 = 5 = 5", "3 + = 4", "3 == 3 * 1",
        "10/3 ≈ 3.3", "the answer - 3 + 4 = 8", "twice 4 + 2 = 10",
        "10 = 15 - cost", "1 < 3 * 2 > 4 = 5", "#### 12",
    ],
)  # fmt: skip
def test_what_is_not_certainly_arithmetic_is_no_equation(text: str) -> None:
    assert canonical(text) == []


def test_marks_are_checked_as_written_and_compared_canonically() -> None:
    (one,) = find_written("<<$5.00 × 3 = $15>>")
    assert one.canonical == "5*3=15"
    assert canonical_mark("5=5") == canonical_mark("5") == ""
    assert canonical_mark("2+x=3") == "2+x=3"


@pytest.mark.parametrize(
    "junk",
    [
        "1", "1 ", "1+", "1=", "(", ")", "1*(", "<<", "<<1=1", "\\frac{", "\\frac{1}{", "{", "a ",
        "1 a ", "1,000", "1,", "= ", "\n= ", "\\\\", "**", "-", "1/", ".", "1 x ", "$", "\\text{ ",
        "1 plus ", "plus ", "\\begin{", "^{1", "1:00 ",
    ],
)  # fmt: skip
def test_hostile_text_takes_linear_time(junk: str) -> None:
    start = time.process_time()
    find_written(junk * (20_000 // len(junk)))
    assert time.process_time() - start < 2

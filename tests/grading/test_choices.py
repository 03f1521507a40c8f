"""Read the letter of a multiple-choice answer."""

import time

import pytest

from screl.grading.choices import read_choice


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"), ("b", "B"), (" (e) ", "E"), ("**C**", "C"), ("C.", "C"), ("D) 12 apples", "D"),
        (r"$\textbf{(A)}\ 12$", "A"), (r"\text{E}", "E"), ("Option B: six", "B"), ("A: a bag", "A"),
        ("Choice (D), because A is too large", "D"), ("answer: C", "C"), (r"\(A\)", "A"),
        ("F", None), ("", None), ("12", None), ("A bag", None), ("A or B", None), ("A and C", None),
        ("B, C", None), ("(B)/(C)", None), ("Because", None), ("AB", None), ("none of these", None),
    ],
)  # fmt: skip
def test_one_certain_letter_is_read(text: str, letter: str | None) -> None:
    assert read_choice(text) == letter


@pytest.mark.parametrize("junk", [" ", "(", "\\", "option ", "A,", "{", "A or "])
def test_hostile_text_takes_linear_time(junk: str) -> None:
    start = time.perf_counter()
    read_choice(junk * 200_000)
    assert time.perf_counter() - start < 0.5

r"""Find a completion's path in each style, and join near-duplicate texts."""

import random
import time

import pytest

from screl.grading.paths import TEXT, PathStyle, displayed_equations, join_paths, read_steps


def path(text: str, style: PathStyle) -> str:
    return read_steps(text, style, "strict").path


def test_each_style_reads_its_own_steps() -> None:
    text = r"So <<1+2=3>>3 and 3 × 4 = 12, thus $2x = 6$."
    assert read_steps(text, "calculator", "strict") == (("1+2=3",), "1+2=3")
    assert read_steps(text, "arithmetic", "strict") == (("1+2=3", "3*4=12"), "1+2=3|3*4=12")
    assert read_steps(text, "symbolic", "strict") == ((), "2x=6")
    assert path(text, "text").startswith(f"{TEXT}so < < 1 + 2 = 3 > > 3 and 3")
    assert (
        path("No equations!", "symbolic") == path("no  equations", "text") == TEXT + "no equations"
    )
    assert path("in words", "arithmetic") == ""


@pytest.mark.parametrize(
    ("text", "equations"),
    [
        (r"$x = \dfrac12$, and \(y\le 3\).", [r"x=\frac{1}{2}", r"y\le3"]),
        (r"\[ x^{2} \leq \left( 3\cdot y \right). \]", [r"x^2\le(3*y)"]),
        (r"\begin{align*} a &= b \\ c &= d, \end{align*}", ["a=b", "c=d"]),
        (r"$$a=b$$ then $c$ and $\boxed{d = 4}$", ["a=b", "{d=4}"]),
        (r"it costs \$5 = five \$", []),
        ("a = b outside", []),
        (r"$a=1\text{ cm}$ and $a = 1$", ["a=1", "a=1"]),
        ("$x=1", ["x=1"]),
    ],
)
def test_displayed_equations_are_normalized(text: str, equations: list[str]) -> None:
    assert displayed_equations(text) == equations


WORDS = tuple("abcdefghijklmnopqrstuvwxyz")


def test_near_duplicates_are_joined_in_any_order() -> None:
    long = WORDS * 3
    near, nearer, far = [*long, "today"], [*long, "today", "too"], [*long[::-1]]
    paths = [path(" ".join(words), "text") for words in (long, near, nearer, far)]
    joined = join_paths([*paths, "1+2=3", ""])
    assert joined[paths[0]] == joined[paths[1]] == joined[paths[2]] == min(paths[:3])
    assert joined[paths[3]] == paths[3]
    assert (joined["1+2=3"], joined[""]) == ("1+2=3", "")
    for seed in range(5):
        assert join_paths(random.Random(seed).sample([*paths, "1+2=3", ""], 6)) == joined


def test_short_texts_that_differ_in_a_number_are_not_joined() -> None:
    texts = [path(f"he has {n} apples", "text") for n in range(3)] + [TEXT + "a", TEXT + "b", TEXT]
    assert join_paths(texts) == {text: text for text in texts}


@pytest.mark.parametrize("junk", ["$", r"\(", "$=$", r"\text{", "a ", r"\\", r"\frac1", "=", "."])
@pytest.mark.parametrize("style", ["symbolic", "text"])
def test_hostile_text_takes_linear_time(junk: str, style: PathStyle) -> None:
    start = time.perf_counter()
    join_paths([path(junk * 5_000 + str(i), style) for i in range(5)])
    assert time.perf_counter() - start < 2

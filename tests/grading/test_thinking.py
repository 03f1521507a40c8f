"""Separate thinking from what a completion writes besides."""

import time

import pytest

from screl.grading.thinking import has_thinking, outside_thinking


@pytest.mark.parametrize(
    ("text", "outside"),
    [
        ("a < b and think", "a < b and think"),
        ("rethink> it", "rethink> it"),
        ("<think>x</think>y", "y"),
        ("a<think>x</think>b<think>y</think>c", "abc"),
        ("x</think>y", "y"),  # the template's prompt began the thinking
        ("x</think>y<think>z", "y"),
        ("<think>cut off", ""),
        ("<think></think>y", "y"),
        ("<think>x<think>y</think>z", "z"),
        ("y</think>", ""),
    ],
)
def test_thinking_is_left_out(text: str, outside: str) -> None:
    assert outside_thinking(text) == outside
    assert has_thinking(text) == (outside != text)


@pytest.mark.parametrize("junk", ["<think>", "</think>", "<think></think>", "<", "<think"])
def test_hostile_text_takes_linear_time(junk: str) -> None:
    start = time.perf_counter()
    outside_thinking(junk * 100_000)
    assert time.perf_counter() - start < 1

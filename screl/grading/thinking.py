"""Separate a completion's thinking, ``<think>...</think>``, from what it writes besides."""

import re

TAG = re.compile(r"<(/?)think>")


def has_thinking(text: str) -> bool:
    """Return whether ``text`` has a tag of thinking."""
    return "think>" in text and TAG.search(text) is not None


def outside_thinking(text: str) -> str:
    """Return ``text`` without its thinking.

    A chat template may have written ``<think>`` into the prompt, so a first ``</think>`` ends
    thinking that began with the text. Thinking that is not closed lasts until the end.

    >>> outside_thinking("<think>6*7?</think> It is 42."), outside_thinking("So 42.</think>42")
    (' It is 42.', '42')
    """
    first = TAG.search(text) if "think>" in text else None
    if first is None:
        return text
    is_thinking, begin, parts = bool(first[1]), 0, []
    for tag in TAG.finditer(text):
        if not is_thinking:
            parts.append(text[begin : tag.start()])
        is_thinking, begin = not tag[1], tag.end()
    if not is_thinking:
        parts.append(text[begin:])
    return "".join(parts)

"""Read the letter of a multiple-choice answer, A to E."""

import re

MAX_CHARS = 300  # of a line; what follows is not looked at
# What only formats the letter: "$\\textbf{(B)}$", "**Option B**".
FORMATTING = re.compile(r"\\[A-Za-z]{1,12}|[*_$`\"'{}\[\]\\]")
LABEL = re.compile(r"\s{0,3}(?:(?:option|choice|answer)\s{0,3}:?\s{0,3})?", re.IGNORECASE)
LETTER = re.compile(r"\(\s?([A-Ea-e])\s?\)|([A-Ea-e])(?=\s*(?:[).:,;]|$))")
# "A or B" and "(A), (C)" name no single choice.
SECOND = re.compile(r"(?:\b(?:or|and)\b|[,/&])\s{0,3}\(?[A-E](?![A-Za-z'])")


def read_choice(text: str) -> str | None:
    """Return the letter that ``text`` begins with; None if it is not certainly one choice.

    The letter stands alone, in parentheses, or before ``).:,;`` and the choice's own text.

    >>> read_choice("**(B)** 12 apples"), read_choice(r"\\text{d}"), read_choice("A or B")
    ('B', 'D', None)
    >>> read_choice("A bag"), read_choice("F")
    (None, None)
    """
    plain = FORMATTING.sub("", text[:MAX_CHARS]).strip()
    label = LABEL.match(plain)
    assert label is not None  # every part is optional
    letter = LETTER.match(plain, label.end())
    if letter is None or SECOND.search(plain, letter.end()):
        return None
    return (letter[1] or letter[2]).upper()

"""Judge multiple choice: the last "answer is (C)" of a completion, or a choice's own text.

A row has "choices", a list of texts, and "answer", the letter of the right one.
"""

import re
from typing import Any


def check(row: dict[str, Any], completion: str) -> str:
    """Return the chosen letter, "" if none was chosen; it is compared with the row's answer."""
    letters = "ABCDE"[: len(row["choices"])]
    found = re.findall(rf"answer is:? *\(?([{letters}])\b", completion)
    if found:
        return str(found[-1])
    last_line = completion.strip().rpartition("\n")[2].strip(" .").casefold()
    named = [
        letter
        for letter, text in zip(letters, row["choices"], strict=True)
        if text.casefold() == last_line
    ]
    return named[0] if len(named) == 1 else ""

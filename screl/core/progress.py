"""Show progress: a bar on a terminal, a line every ten seconds in a log file."""

import io
import sys
from typing import Any

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 10.0  # in a log file


def progress_bar(total: int, desc: str, unit: str, initial: int = 0, is_shown: bool = True) -> Any:
    """Return tqdm's bar on stderr, for ``initial`` of ``total`` units done.

    If stderr is not a terminal, the bar writes its state as a line: when it starts, at most every
    SECONDS_BETWEEN_LINES, and when it is closed. ``is_shown`` is false for processes other than the
    first, whose bars write nothing.
    """
    settings: dict[str, Any] = {
        "total": total, "desc": desc, "unit": unit, "initial": initial, "disable": not is_shown,
    }  # fmt: skip
    if sys.stderr.isatty():
        return tqdm(**settings)
    # miniters: check the time at each update, however many units it has
    return tqdm(**settings, file=_Lines(), mininterval=SECONDS_BETWEEN_LINES, miniters=1)


class _Lines(io.TextIOBase):
    """The standard error, to which each state that tqdm draws is written as a line."""

    def write(self, text: str) -> int:
        if state := text.strip():  # without the returns and spaces that redraw a terminal's line
            sys.stderr.write(f"{state}\n")
            sys.stderr.flush()
        return len(text)

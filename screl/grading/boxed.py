r"""Find the final answers that a text puts into ``\boxed{...}``, as MATH does."""

import re
from itertools import pairwise
from typing import NamedTuple

BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s{0,3}")
BARE_CONTENT = re.compile(r"[^\s${}]+")  # of "\boxed 2", which MATH's own solutions contain
# Between the boxes of one list: "$\boxed{1}$, $\boxed{2}$ and $\boxed{3}$". Not a line break.
LIST_SEPARATOR = re.compile(r"\$? *(?:, *(?:and\b)?|and\b|\\text\{ *and *\}) *\$?")


class Box(NamedTuple):
    """The content of one box and its place in the text."""

    start: int
    end: int
    content: str


def last_boxed(text: str) -> str | None:
    r"""Return the content of the last box; if it ends a list of boxes, all of them with commas.

    A box is ``\boxed{2}``, ``\boxed {2}``, ``\boxed 2``, or the same with ``\fbox``. Returns None
    if there is none or the last one is not closed.

    >>> last_boxed(r"so $\boxed{1}$ and $\boxed{-2}$"), last_boxed(r"$\boxed 2$.")
    ('1,-2', '2')
    """
    starts = list(BOX.finditer(text))[-20:]
    boxes = [_box_at(text, match) for match in starts]
    if not boxes or boxes[-1] is None:
        return None
    found = [boxes[-1]]
    for before, after in pairwise(reversed(boxes)):
        if before is None or after is None or not _is_listed(text, after, before):
            break
        found.insert(0, after)
    contents = [box.content.strip() for box in found]
    return ",".join(dict.fromkeys(contents))


def _is_listed(text: str, first: Box, second: Box) -> bool:
    return LIST_SEPARATOR.fullmatch(text, first.end, second.start) is not None


def _box_at(text: str, match: re.Match[str]) -> Box | None:
    start = match.end()
    if not text.startswith("{", start):
        bare = BARE_CONTENT.match(text, start)
        return bare and Box(match.start(), bare.end(), bare[0].rstrip(".,;:"))
    depth = 0
    for i in range(start, len(text)):
        depth += (text[i] == "{") - (text[i] == "}")
        if depth == 0:
            return Box(match.start(), i + 1, text[start + 1 : i])
    return None

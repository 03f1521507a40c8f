"""Read a number as models write it after ``####``: the grammar of docs/scorer.md.

What is not certainly one number, such as ``18-20``, ``5 million`` or ``1.000,5``, is no number.
"""

import re
import unicodedata
from fractions import Fraction
from functools import lru_cache

from screl.grading.units import NUMBER_WORDS, ONES, TENS

MAX_DIGITS = 100  # a longer number is degenerate output and slow to compare
MAX_CHARS = 300  # of a line; what follows is not looked at

_INVISIBLE = "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\u00ad\ufe0e\ufe0f"
CHARACTERS = str.maketrans(
    {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}  # full width
    | dict.fromkeys("−–‐‑‒﹣", "-")
    | dict.fromkeys("\u00a0\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B))), " ")
    | dict.fromkeys("’ʼ′`＇", "'")
    | {"⁄": "/"}
    | dict.fromkeys(_INVISIBLE, "")
)
# LaTeX that only formats a number: each pattern and what stands for it.
FORMATTING = [
    (re.compile(pattern), text)
    for pattern, text in (
        (r"\\[dt]?frac *\{([0-9]+)\} *\{([0-9]+)\}", r" \1/\2"),
        (r"\\(?:boxed|fbox|mbox|text[a-z]*|math(?:bf|rm|it|sf)|left|right)(?![a-z])", ""),
        (r"\\[()\[\]]", ""),
        (r"\{,\}", ","),
        (r"\\!", ""),
        (r"\\[,;: ]|~", " "),
        (r"\\([$%£€#&])", r"\1"),
        (r" *(?:\^ *\{? *\\circ *\}?|\\degree|[°º]) *(?:[CFK](?![A-Za-z]))?", " "),
        (r"(?<=[A-Za-z]{2})(?:\^?\{?[23]\}?(?![0-9])|[²³])", ""),  # cm²
        (r"[{}]", ""),
    )
]  # fmt: skip
_CURRENCY = "".join(
    c for c in map(chr, range(0x24, 0x20D0)) if unicodedata.category(c) == "Sc"
).replace("$", r"\$")
WRITTEN = re.compile(
    rf"""[ *_'"“”‘]* (?:[A-Z]{{1,3}}(?=[{_CURRENCY}]))? [{_CURRENCY}]{{0,2}}[ ]?
    (?P<sign>[-+])? (?:[A-Z]{{1,3}}(?=[{_CURRENCY}]))? (?:[{_CURRENCY}][ ]?)?
    (?P<whole>
        [1-9][0-9]{{0,2}} (?: (?:,[0-9]{{3}})++ | (?:[ ][0-9]{{3}})++ | (?:'[0-9]{{3}})++ )(?![0-9])
        | [0-9]*+
    )
    (?:
        (?P<decimals>\.[0-9]*+)
        | [ ]?(?P<vulgar>[¼-¾⅐-⅞])
        | [ ](?P<part>[0-9]+/[0-9]+)(?![0-9/.,])
    )?
    (?P<rest>.*)""",
    re.VERBOSE | re.DOTALL,
)  # fmt: skip
SENTENCE = re.compile(r"[.;] +(?=[A-Za-z])")  # what follows is another sentence
# A sign, letter or mark that continues the number: 18!, 18x, 18 - x, 18k, 0.33…
CONTINUED = re.compile(r" *[-+*/^=×÷·]? *(?!(?<= )a )[A-Za-zα-ωΑ-Ω](?![A-Za-z])| *[!^]")
IN_WORDS = re.compile(rf" *\((?:{'|'.join(ONES + TENS)})(?![a-z])[a-z -]*\)", re.IGNORECASE)
UNREADABLE = re.compile(r"\\[A-Za-z]|[√∞‰‱±∓]")
WORD = re.compile(r"[a-z]+")
LARGE = re.compile(r"[a-z]*(?:illi(?:on|ard)[a-z]*|ieths?|teenths?)|mille|plus|minus")


@lru_cache(maxsize=2**14)  # the samples of a problem repeat their last lines
def read_number(line: str) -> Fraction | None:
    """Return the number that ``line`` begins with; None if it is not certainly one number.

    >>> read_number("**$1 250.50** a day"), read_number("1 1/2 cups")
    (Fraction(2501, 2), Fraction(3, 2))
    >>> read_number("18-20"), read_number("5 million"), read_number("1,23")
    (None, None, None)
    """
    text = line[:MAX_CHARS].translate(CHARACTERS)
    if "\\" in text or not text.isascii() or "^" in text or "{" in text or "~" in text:
        for pattern, replacement in FORMATTING:
            text = pattern.sub(replacement, text)
    match = WRITTEN.match(text)
    assert match is not None  # every part is optional
    whole, decimals = re.sub("[ ,']", "", match["whole"]), match["decimals"] or ""
    fraction = match["part"] or unicodedata.normalize("NFKC", match["vulgar"] or "0").replace(
        "⁄", "/"
    )
    digits = whole + decimals
    if not (digits.strip(".") or match["vulgar"]) or len(digits) > MAX_DIGITS:
        return None
    if len(fraction) > MAX_DIGITS or not _ends_number(match["rest"], len(decimals) > 1):
        return None
    part = _proper_fraction(fraction)
    if part is None:
        return None
    number = Fraction(digits or "0") + part
    return -number if match["sign"] == "-" else number


def _proper_fraction(text: str) -> Fraction | None:
    """Return ``3/4`` as a number; None if it is not less than one, as in ``1 3/2``."""
    above, _, below = text.partition("/")
    return Fraction(int(above), int(below or 1)) if int(above) < int(below or 1) else None


def _ends_number(rest: str, has_decimals: bool) -> bool:
    """Return whether ``rest``, what follows a number, leaves it as it is: a unit, a remark."""
    rest = IN_WORDS.sub("", SENTENCE.split(rest, maxsplit=1)[0])
    if any(c.isnumeric() for c in rest) or unicodedata.combining(rest[:1] or " "):
        return False
    if has_decimals and rest.startswith(("..", "…")):  # 0.333... is not 0.333
        return False
    if CONTINUED.match(rest) or UNREADABLE.search(rest):
        return False
    return not any(
        word in NUMBER_WORDS or word.removesuffix("s") in NUMBER_WORDS or LARGE.fullmatch(word)
        for word in WORD.findall(rest.lower())
    )

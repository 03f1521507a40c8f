r"""Respell an answer for Math-Verify, which misreads some common spellings.

For it ``17 280`` is a sum or a product, ``90°`` and ``2√3`` are nothing, ``12:00`` is a division by
zero, and ``4343_6`` is 4343 in any base.
"""

import re

from screl.grading.numbers import CHARACTERS
from screl.grading.units import NOT_UNITS, ONES

DEGREES = re.compile(r"\s*(?:\^\s*\{?\s*\\circ\s*\}?|\\degree(?![A-Za-z])|[°º])\s*(?:[CF]\b)?")
DEGREE_LIST = re.compile(rf"{DEGREES.pattern}\s*,\s*")
FRACTION = re.compile(r"\\[dt]frac(?![A-Za-z])")
_GAP = r"(?:,?\s*\\!\s*|\\[,;:]\s*|\\ |\{,\}|~| )"  # not a comma and a space: a list
GROUPED = re.compile(
    r"(?<![0-9.,])(?<!\\[,;:! ])(?<![0-9] )[1-9][0-9]{0,2}"
    rf"(?:{_GAP}[0-9]{{3}})+(?![0-9]|{_GAP}[0-9])"
)
NOT_DIGIT = re.compile(r"[^0-9]")
ROOT = re.compile(r"√\s*(?:\(([^()]*)\)|\{([^{}]*)\}|([0-9]+(?:\.[0-9]+)?|[A-Za-z]))")
UNIT = re.compile(
    r"(-?\\?\$?[0-9][0-9.,/]*|-?\\[dt]?frac\{[0-9]+\}\{[0-9]+\})((?: +[A-Za-z]{2,})+)\.?"
)
LETTERS = re.compile(r"(?:\\text\{)?\s*[A-Z](?:\s*,\s*[A-Z])+\s*\}?")
TIME = re.compile(
    r"([0-9]{1,2}):([0-5][0-9])\s*(?:\\[,;: ]|~)?\s*"
    r"(?:\\(?:text|mathrm)\{\s*)?(?:([ap])\.?\s*m\.?)?\s*\}?",
    re.IGNORECASE,
)
BASE = re.compile(
    r"([0-9][0-9A-Z]*)\s*_\s*\{?\s*(?:\\(?:text|mathrm)\{\s*)?([0-9]+|[a-z]+)\s*\}?\s*\}?",
    re.IGNORECASE,
)


def respell(answer: str) -> str:
    r"""Return ``answer`` with the same value, in LaTeX that Math-Verify reads as people do.

    >>> respell("１7 280"), respell(r"\frac{12}{5,\!525}"), respell("2√3"), respell("90°")
    ('17280', '\\frac{12}{5525}', '2\\sqrt{3}', '90')
    >>> respell("18 dollars"), respell("5 million")
    ('18', '5 million')
    """
    answer = answer.translate(CHARACTERS)
    answer = DEGREE_LIST.sub(", ", answer)  # without the signs, 45,135 is a number
    answer = DEGREES.sub("", FRACTION.sub(r"\\frac", answer))
    answer = GROUPED.sub(lambda match: NOT_DIGIT.sub("", match[0]), answer)
    answer = ROOT.sub(lambda match: rf"\sqrt{{{match[1] or match[2] or match[3]}}}", answer)
    unit = UNIT.fullmatch(answer)
    if unit and NOT_UNITS.isdisjoint(
        form for word in unit[2].lower().split() for form in (word, word.removesuffix("s"))
    ):
        answer = unit[1]
    return answer.strip()


def written_answer(answer: str) -> str | None:
    r"""Return the canonical text of an answer that is compared as written; None for a formula.

    These are a time of day, a number with its base, and a list of letters, whose order is free.

    >>> written_answer("1:05 PM"), written_answer("4343_6"), written_answer(r"\text{D,A}")
    ('\\text{1:05 pm}', '4343_{6}', '\\text{A,D}')
    """
    if time := TIME.fullmatch(answer):
        hour, minute, half = time.groups()
        return rf"\text{{{int(hour)}:{minute}{f' {half.lower()}m' if half else ''}}}"
    if based := BASE.fullmatch(answer):
        digits, base = based[1].upper().lstrip("0") or "0", based[2].lower()
        number = ONES.index(base) if base in ONES else base
        return f"{digits}_{{{number}}}"
    if LETTERS.fullmatch(answer):
        letters = re.findall(r"(?<![a-z])[A-Z](?![a-z])", answer)
        return rf"\text{{{','.join(sorted(letters))}}}"
    return None


def equal_as_written(gold: str, answer: str) -> bool | None:
    r"""Compare answers of which one comes from written_answer; None if neither does.

    A base, and am or pm, count only where both have them.

    >>> equal_as_written("4343_{6}", "4343_{7}"), equal_as_written("4343_{6}", "4343")
    (False, True)
    """
    kinds = {_kind(gold), _kind(answer)}
    if kinds == {None}:
        return None
    if "base" in kinds:
        (a, _, base_a), (b, _, base_b) = gold.partition("_"), answer.partition("_")
        return a == b and (not base_a or not base_b or base_a == base_b)
    if kinds == {"time"}:
        (a, _, half_a), (b, _, half_b) = (
            _unwrapped(gold).partition(" "),
            _unwrapped(answer).partition(" "),
        )
        return a == b and (not half_a or not half_b or half_a == half_b)
    return gold == answer


def _kind(answer: str) -> str | None:
    patterns = {"time": TIME, "base": BASE, "letters": LETTERS}
    text = _unwrapped(answer)
    return next((kind for kind, pattern in patterns.items() if pattern.fullmatch(text)), None)


def _unwrapped(text: str) -> str:
    return text.removeprefix("\\text{").removesuffix("}") if text.startswith("\\text{") else text

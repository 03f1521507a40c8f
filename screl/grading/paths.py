r"""Find the path of a completion, by which its reasoning is compared, in one of four styles.

calculator: the equations ``<<a=b>>`` of the papers. arithmetic: those and the arithmetic in prose
and LaTeX (screl.grading.written). symbolic: the displayed equations of MATH, normalized but not
checked; without any, the text. text: the normalized text, where near-duplicates count as one path.

Near-duplicates are texts whose sets of three-word sequences have a Jaccard similarity of at least
MIN_SIMILARITY, directly or through others. MinHash estimates this number for millions of texts; a
problem has a few hundred, so it is computed exactly, whatever the order of the texts.
"""

import re
from collections.abc import Collection
from itertools import combinations
from typing import Literal, NamedTuple

from screl.grading.answers import Fidelity
from screl.grading.equations import find_equations, join_equations
from screl.grading.written import find_written

PathStyle = Literal["calculator", "arithmetic", "symbolic", "text", "auto"]

MIN_SIMILARITY = 0.8
SHINGLE = 3  # words
MAX_WORDS = 2000  # of a text; what follows is not compared
TEXT = "text: "  # begins a path that is not made of equations

WORD = re.compile(r"[A-Za-z]++|[0-9]++(?:\.[0-9]++)?|[^\sA-Za-z0-9.,;:!?$*#'\"()\[\]{}\\]")
DELIMITER = re.compile(
    r"(?<!\\)(\$\$?|\\[()\[\]]|\\(?:begin|end) ?\{(?:align|equation|gather|multline|eqnarray)\*?\})"
)
RELATION = re.compile(r"[=<>≤≥≈≡]|\\(?:l|g|n)?eq?(?![A-Za-z])|\\(?:equiv|approx)(?![A-Za-z])")
NORMAL = [
    (re.compile(pattern), text)
    for pattern, text in (
        (r"\\(?:left|right|displaystyle|boxed|q?quad|[bB]igg?[lr]?)(?![A-Za-z])", ""),
        (r"\\[,;:! ]|[&~]", ""),
        (r"\\(?:text|mathrm|mbox) ?\{[^{}]{0,60}\}", ""),
        (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
        (r"\\frac ?([0-9]) ?([0-9])", r"\\frac{\1}{\2}"),
        (r"\\(?:cdot|times)(?![A-Za-z])|[×·⋅]", "*"),
        (r"\\le(?:q|qslant)?(?![A-Za-z])|≤", r"\\le"),
        (r"\\ge(?:q|qslant)?(?![A-Za-z])|≥", r"\\ge"),
        (r"([_^])\{([A-Za-z0-9])\}", r"\1\2"),
        (r"\s+", ""),
        (r"^[.,;:]+|[.,;:]+$", ""),
    )
]  # fmt: skip


class Steps(NamedTuple):
    """The equations of a text that are checked, and its path."""

    equations: tuple[str, ...]
    path: str


def read_steps(text: str, style: PathStyle, fidelity: Fidelity) -> Steps:
    r"""Return the equations and the path of ``text``.

    >>> read_steps("3 × 4 = 12", "arithmetic", "strict") == read_steps(
    ...     r"so $3\cdot4=12$", "arithmetic", "strict") == (("3*4=12",), "3*4=12")
    True
    >>> read_steps(r"Since $2x = 6$, $x=\dfrac62$.", "symbolic", "strict").path
    '2x=6|x=\\frac{6}{2}'
    """
    match style:
        case "arithmetic":
            found = find_written(text)
            path = "|".join(one.canonical for one in found if one.canonical)
            return Steps(tuple(one.text for one in found), path)
        case "symbolic":
            return Steps((), "|".join(displayed_equations(text)) or _text_path(text))
        case "text":
            return Steps((), _text_path(text))
    equations = find_equations(text)
    return Steps(tuple(equations), join_equations(equations, fidelity))


def displayed_equations(text: str) -> list[str]:
    r"""Return the relations between ``$``, ``\(``, ``\[`` or in an environment, normalized."""
    equations = []
    is_inside = False
    for part in DELIMITER.split(text):
        if DELIMITER.fullmatch(part):
            is_inside = not is_inside if part[0] == "$" else part[1] in "([b"
        elif is_inside:
            lines = (line for line in part.split("\\\\") if RELATION.search(line))
            equations += [line for line in map(_normalized, lines) if line]
    return equations


def join_paths(paths: Collection[str]) -> dict[str, str]:
    """Return, for each path, the path that stands for it and for its near-duplicates.

    Paths of equations stand for themselves. The result does not depend on the order.
    """
    stands_for = {path: path for path in paths}

    def root(path: str) -> str:
        while stands_for[path] != path:
            path = stands_for[path]
        return path

    texts = sorted(path for path in stands_for if path.startswith(TEXT))
    shingles = {path: _shingles(path) for path in texts}
    for a, b in combinations(texts, 2):
        if _is_similar(shingles[a], shingles[b]):
            first, second = sorted((root(a), root(b)))
            stands_for[second] = first
    return {path: root(path) for path in stands_for}


def _is_similar(a: frozenset[tuple[str, ...]], b: frozenset[tuple[str, ...]]) -> bool:
    small, large = sorted((len(a), len(b)))
    if small == 0 or small < MIN_SIMILARITY * large:
        return False
    n_both = len(a & b)
    return n_both >= MIN_SIMILARITY * (small + large - n_both)


def _shingles(path: str) -> frozenset[tuple[str, ...]]:
    words = path.split()[:MAX_WORDS]
    return frozenset(zip(*(words[i:] for i in range(SHINGLE)), strict=False))


def _text_path(text: str) -> str:
    return TEXT + " ".join(WORD.findall(text.lower()))


def _normalized(equation: str) -> str:
    for pattern, replacement in NORMAL:
        equation = pattern.sub(replacement, equation)
    return equation

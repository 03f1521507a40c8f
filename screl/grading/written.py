r"""Read arithmetic as people write it in prose and LaTeX: ``3 × 4 = 12``, ``$\frac{12}{3} = 4$``.

What is not certainly arithmetic, such as ``5x = 10``, ``half of 20 + 5 = 15`` or ``2 1/2 * 3 = 8``,
is no equation. Units are dropped. A chain ``a = b = c`` is one equation, also over line ends. A
text is read once from left to right, so this takes linear time on any text.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from screl.grading.equations import check_equation, plain_arithmetic
from screl.grading.numbers import MAX_DIGITS
from screl.grading.units import NUMBER_WORDS

MAX_WORDS = 10  # of a unit: "4 extra donuts for Andrew's friends = 16"
# Not scales of the number before them: 3 pairs of shoes, 4 quarters.
COUNTED = frozenset(
    ("pair", "score", "single", "couple", "double", "triple", "quarter", "third", "fourth", "fifth")
)
MAX_TOKENS = 100  # of an equation; a longer one is degenerate output

CHARACTERS = str.maketrans(
    {"×": "*", "·": "*", "⋅": "*", "∗": "*", "÷": "/", "∕": "/", "−": "-", "–": "-", "$": " "}
    | dict.fromkeys("£€¥\u00a0\u2009\u202f", " ")
)
# LaTeX as plain text, in this order: what stands for arithmetic, for a unit or for nothing.
LATEX = [
    (re.compile(pattern), text)
    for pattern, text in (
        (r"\\\\(?:\[[^\[\]]{0,9}\])?", "\n"),
        (r"\\(?:text|textbf|mathrm|mathbf|mbox|boxed) ?\{([^{}]{0,60})\}", r" \1 "),
        (r"\\[dtc]?frac ?\{([^{}]{1,60})\} ?\{([^{}]{1,60})\}", r"((\1)/(\2))"),
        (r"\\[dtc]?frac ?([0-9]) ?([0-9])", r"(\1/\2)"),
        (r"\\(?:begin|end) ?\{[a-z]{1,12}\*?\}", "\n"),
        (r"\\(?:left|right|displaystyle|qquad|quad)(?![A-Za-z])", " "),
        (r"\\(?:times|cdot|ast)(?![A-Za-z])", "*"),
        (r"\\div(?![A-Za-z])", "/"),
        (r"\^ ?\{ ?([0-9]{1,3}) ?\}", r"^\1"),
        (r"\{,\}", ","),
        (r"\\[()]|\\[,;:! ]|&", " "),
        (r"\\[\[\]]", "\n"),
        (r"\\%", "%"),
    )
]  # fmt: skip
IN_WORDS = [
    (re.compile(rf"(?<=[0-9)%]) {words} (?=\(? ?[.0-9])", re.IGNORECASE), f" {sign} ")
    for words, sign in (
        ("plus", "+"), ("minus", "-"), ("(?:times|multiplied by)", "*"), ("divided by", "/"),
        ("(?:equals|is equal to)", "="),
    )
]  # fmt: skip
BOLD = re.compile(r"\*\*(?![0-9(])|(?<![0-9)])\*\*|__")
TOKEN = re.compile(
    r"""<<(?P<mark>[^<>]{0,300})>>
    | (?P<time>[0-9]{1,2}:[0-9]{2}(?![0-9]))
    | (?P<number> [0-9]{1,3}(?:,[0-9]{3})++(?![0-9])(?:\.[0-9]++)?
      | [0-9]++(?:\.[0-9]++)? | \.[0-9]++ )
      (?P<percent>[ ]?%)?
    | (?P<power>\*\*|\^) | (?P<operator>[-+*/]) | (?P<equal>=) | (?P<open>\() | (?P<close>\))
    | (?P<word>[A-Za-z][A-Za-z'’]*+) | (?P<line>\n) | (?P<other>\S)""",
    re.VERBOSE,
)  # fmt: skip
# Words that make an operand of what stands on both sides of them.
JOINING = frozenset(("of", "times", "plus", "minus", "by", "over", "less", "than", "percent"))


DIGITS = "0123456789."
NUMBER = re.compile(r"(?<![0-9.])(?:[0-9]++\.?[0-9]*+|\.[0-9]++)%?")
ONE_NUMBER = re.compile(r"\(([0-9.]++%?)\)(?!\*\*)")
PERCENT = re.compile(r"(?<![0-9.])([0-9.]++)\*0\.01(?![0-9])")
# Of several readings, one is taken only if it holds: 100-50=50%, 2 / 1/6, and _Chain.is_broken.
UNCLEAR = re.compile(r"%|/[0-9.]++/")
WHOLE = re.compile(r"\([^()]*\)")
OPERATION = re.compile(r"[0-9)%][-+*/]")


class Written(NamedTuple):
    """An equation as it is checked, and its canonical text, by which paths are compared."""

    text: str
    canonical: str


class _Token(NamedTuple):
    kind: str
    text: str
    start: int
    end: int


END = _Token("end", "", -1, -1)


def find_written(text: str) -> list[Written]:
    r"""Return the equations of ``text`` in order: those in ``<<...>>``, and those around them.

    ``<<...>>`` within an equation in prose stands for it. Numbers, signs and parentheses are made
    canonical; operands and steps keep their order.

    >>> [one.canonical for one in find_written(r"$\frac{12}{3} = 4$ bags, 4 x $1.50 = $6.00")]
    ['12/3=4', '4*1.5=6']
    """
    text = text.translate(CHARACTERS)
    if "\\" in text:
        for pattern, replacement in LATEX:
            text = pattern.sub(replacement, text)
    for words, sign in IN_WORDS:
        text = words.sub(sign, text)
    tokens = [
        _Token(str(match.lastgroup), match[0], *match.span())
        for match in TOKEN.finditer(BOLD.sub(" ", text))
    ]
    return [found for chain in _chains(tokens) for found in chain]


def canonical_mark(equation: str) -> str:
    """Return the canonical text of ``<<equation>>``; "" for one that computes nothing: 5=5."""
    sides = [_canonical_side(plain_arithmetic(side)) for side in equation.split("=")]
    return "=".join(sides) if any(map(_computes, sides)) else ""


class _Chain:
    """The equation that is being read: finished sides, and the side to which tokens are added."""

    def __init__(self, is_tainted: bool = False) -> None:
        self.sides: list[list[str]] = []
        self.side: list[str] = []
        self.marks: list[str] = []
        self.depth = self.n_words = 0
        self.is_broken = False  # what follows the last operand changes it: 5x, 2 dozen, 1 1/2
        self.is_tainted = is_tainted  # what precedes makes it part of something else: half of 20

    @property
    def has_operand(self) -> bool:
        """Whether the side ends in an operand, so that an operator or a ``=`` may follow."""
        return bool(self.side) and (self.side[-1] == ")" or self.side[-1][0] in DIGITS)

    def equations(self) -> Iterator[Written]:
        """Yield the marks within the chain or, if there is none, the chain as an equation."""
        marks = [Written(mark, canonical_mark(mark)) for mark in self.marks]
        if any(mark.canonical for mark in marks):
            yield from marks
            return
        is_whole = self.has_operand and self.depth == 0
        sides = [*self.sides, self.side] if is_whole else self.sides
        texts = [_canonical_side("".join(side)) for side in sides]
        if len(texts) > 1 and not _computes(texts[0]):
            del texts[0]  # a name: "room 1 = 11 * 11 = 121"
        if len(texts) > 1 and not self.is_tainted and any(map(_computes, texts)):
            equation = "=".join(texts)
            is_unclear = self.is_broken or UNCLEAR.search(equation)
            if not is_unclear or check_equation(equation, "strict") == "right":
                yield Written(equation, equation)


def _chains(tokens: Sequence[_Token]) -> Iterator[Iterator[Written]]:
    """Yield the equations of each chain; see _Chain."""
    chain = _Chain()
    for i, token in enumerate(tokens):
        after = tokens[i + 1] if i + 1 < len(tokens) else END
        before = tokens[i - 1] if i else END
        if not _continues(chain, token, before, after):
            if token.kind == "number" and chain.sides and _is_mixed(chain, before, after):
                chain.is_broken = True
            if chain.sides or chain.marks:
                yield chain.equations()
            chain = _next_chain(chain, token, before, after)
            _continues(chain, token, END, after)
    yield chain.equations()


def _continues(chain: _Chain, token: _Token, before: _Token, after: _Token) -> bool:
    """Add ``token`` to the chain; return False if it does not belong to it."""
    if len(chain.side) + 10 * len(chain.sides) > MAX_TOKENS:
        return False
    is_joined = before.end == token.start
    match token.kind:
        case "mark":
            chain.marks.append(token.text[2:-2])
            return True
        case "number" | "percent":
            if chain.has_operand or len(token.text) > MAX_DIGITS:
                return False
            chain.side.append(_canonical_number(token.text))
            chain.n_words, chain.is_broken = 0, False
            return True
        case "word":
            return _continues_with_word(chain, token, is_joined, after)
        case "operator" | "power":
            return _continues_with_operator(chain, token, is_joined, after)
        case "equal":
            if chain.depth == 1 and chain.side[0] == "(":  # around the equation: (3 * 4 = 12)
                del chain.side[0]
                chain.depth = 0
            if not chain.has_operand or chain.depth or chain.is_broken:
                return False
            chain.sides.append(chain.side)
            chain.side, chain.n_words = [], 0
            return True
        case "open":
            if chain.has_operand and is_joined and not chain.n_words:
                chain.side.append("*")
            if chain.has_operand:
                return False
            chain.side.append("(")
            chain.depth += 1
            return True
        case "close":
            if not chain.has_operand or not chain.depth:
                return False
            chain.side.append(")")
            chain.depth, chain.n_words = chain.depth - 1, 0
            return True
        case "line":  # an equation may go on with "= 54", or after a "="
            return after.kind == "equal" or bool(chain.sides and not chain.side)
    return False


def _continues_with_word(chain: _Chain, token: _Token, is_joined: bool, after: _Token) -> bool:
    word = token.text.lower()
    if not chain.has_operand:
        return False
    if word == "x" and after.kind in ("number", "percent", "open"):
        if chain.is_broken:
            return False
        chain.side.append("*")
        chain.n_words = 0
        return True
    chain.n_words += 1
    is_scale = _is_number_word(word) and COUNTED.isdisjoint((word, word.removesuffix("s")))
    if chain.n_words == 1 and (is_scale or (is_joined and len(word) == 1)):
        chain.is_broken = True  # 2 dozen, 5x
    elif (len(word) == 1 and word != "a") or chain.n_words > MAX_WORDS:
        return False  # "= 8 in total": the equation ends before it
    return True


def _continues_with_operator(chain: _Chain, token: _Token, is_joined: bool, after: _Token) -> bool:
    if chain.has_operand:
        if after.kind == "word" and token.text in "-/" and len(after.text) > 1:
            # "3 minutes/smoothie", "6-ounce"; else a formula or a dash
            is_unit = token.text == "/" or (is_joined and after.start == token.end)
            chain.is_broken |= not is_unit
        if chain.is_broken:
            return False
        if after.kind == "word" and token.text in "-/" and len(after.text) > 1:
            return True
        chain.side.append("**" if token.kind == "power" else token.text)
        chain.n_words = 0
        return True
    is_sign = token.text == "-" and after.kind in ("number", "percent") and after.start == token.end
    if is_sign and (not chain.side or chain.side[-1] == "("):
        chain.side.append("-")
        return True
    return False


def _next_chain(chain: _Chain, token: _Token, before: _Token, after: _Token) -> _Chain:
    """Return the chain that begins at ``token``, which does not belong to ``chain``."""
    word_before = before.text.lower() if before.kind == "word" else ""
    match token.kind:
        case "number" | "percent" | "open":
            is_tainted = chain.has_operand and (
                (word_before in JOINING and chain.n_words <= 2) or _is_mixed(chain, before, after)
            )
        case "word":  # "half of", "twice"
            is_of = token.text.lower() in JOINING and _is_number_word(word_before)
            is_tainted = is_of or _is_number_word(token.text.lower())
        case "operator" | "power" | "close":  # of a formula or a time: x + 5, 7:50 + 30
            is_tainted = before.kind not in ("line", "other", "end")
        case _:
            is_tainted = False
    return _Chain(is_tainted)


def _is_mixed(chain: _Chain, before: _Token, after: _Token) -> bool:
    """Return whether a number that follows the last operand belongs to it: 1 1/2, 1 and 1/2."""
    is_and = before.text == "and" and chain.n_words == 1 and after.text == "/"
    return chain.has_operand and (is_and or before.kind in ("number", "percent", "close"))


def _is_number_word(word: str) -> bool:
    return not NUMBER_WORDS.isdisjoint((word, word.removesuffix("s")))


def _canonical_number(text: str) -> str:
    whole, _, decimals = text.replace(",", "").replace(" ", "").rstrip("%").partition(".")
    decimals = decimals.rstrip("0")
    return f"{whole.lstrip('0') or '0'}{'.' * bool(decimals)}{decimals}{'%' * text.endswith('%')}"


def _canonical_side(side: str) -> str:
    side = NUMBER.sub(lambda match: _canonical_number(match[0]), side.replace(" ", ""))
    side = PERCENT.sub(r"\1%", ONE_NUMBER.sub(r"\1", side))
    return side[1:-1] if WHOLE.fullmatch(side) else side


def _computes(side: str) -> bool:
    return OPERATION.search(side) is not None

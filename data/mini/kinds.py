"""Define the miniature's kinds of word problems: their numbers, wordings, and valid solutions.

A path is written ``"a + b = s; s * c = t"``: each step computes one quantity from earlier ones,
strictly from left to right (``a + b * c`` means ``(a+b)*c``), and the last quantity is the answer.
``says`` has one sentence per quantity, in which ``{}`` stands for the annotated equation.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from random import Random

Numbers = dict[str, Fraction]
Draw = dict[str, int | Fraction]

PEOPLE = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gina", "Hugo", "Iris", "Jon", "Kira", "Leo",
          "Mia", "Noah", "Olga", "Paul", "Rosa", "Sam", "Tess", "Vera")  # fmt: skip
THINGS = ("apples", "books", "cards", "coins", "eggs", "hats", "lamps", "mugs", "nuts", "pens",
          "pins", "plums", "roses", "shells", "stamps", "tiles")  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """One kind of problem. ``draw`` draws its numbers; every path leads to the same answer."""

    name: str
    draw: Callable[[Random], Draw]
    questions: tuple[str, ...]
    paths: tuple[str, ...]
    says: dict[str, str]


def whole(**ranges: tuple[int, int]) -> Callable[[Random], Draw]:
    """Return a function that draws a whole number between two inclusive bounds for every name."""
    return lambda r: {name: r.randint(low, high) for name, (low, high) in ranges.items()}


def _half(r: Random, low: int, high: int) -> Fraction:
    """Draw a multiple of one half."""
    return Fraction(r.randint(2 * low, 2 * high), 2)


def _driving(r: Random) -> Draw:
    numbers = whole(a=(5, 18), b=(5, 18), h=(2, 5), k=(2, 5), d=(75, 99))(r)
    return numbers | {"a": 5 * numbers["a"], "b": 5 * numbers["b"], "d": 10 * numbers["d"]}


def _saving(r: Random) -> Draw:
    b = r.randint(12, 50)
    return whole(w=(3, 9), g=(5, 60))(r) | {"a": b + r.randint(6, 40), "b": b}


def _discount(r: Random) -> Draw:
    return {"p": 10 * r.randint(2, 29), "d": 10 * r.randint(1, 6), "n": r.randint(2, 6)}


def _weighing(r: Random) -> Draw:
    halves = {"x": _half(r, 1, 8), "y": _half(r, 1, 8), "e": _half(r, 1, 9)}
    return whole(a=(3, 9), b=(2, 9))(r) | halves


def _reading(r: Random) -> Draw:
    b, days, more = r.randint(3, 9), r.randint(2, 6), r.randint(3, 9)
    a = b * r.randint(2, 4)
    return {"a": a, "d": days, "b": b, "p": a * days + b * more}


def _sharing(r: Random) -> Draw:
    c = r.randint(2, 9)
    return {"a": c * r.randint(3, 12), "b": c * r.randint(2, 12), "c": c}


def _shopping(r: Random) -> Draw:
    a, b, p, q = r.randint(2, 7), r.randint(2, 7), _half(r, 1, 6), _half(r, 1, 6)
    return {"a": a, "b": b, "p": p, "q": q, "m": a * p + b * q + _half(r, 1, 30)}


KINDS: tuple[Kind, ...] = (
    Kind(
        "growing",
        whole(a=(11, 79), b=(11, 59), c=(2, 8)),
        (
            "{name} has {a} {things}. {friend} brings {b} more, and then the pile grows to {c}"
            " times its size. How many {things} are there?",
            "A pile of {a} {things} gets {b} more from {name}. Later it is {c} times as big."
            " How many {things} is that?",
        ),
        (
            "a + b = s; s * c = t",
            "a * c = u; b * c = v; u + v = t",
            "b + a = s; c * s = t",
            "c * b = v; c * a = u; v + u = t",
        ),
        {
            "s": "Together that is {} {things}.",
            "t": "In the end there are {} {things}.",
            "u": "The first part becomes {}.",
            "v": "The second part becomes {}.",
        },
    ),
    Kind(
        "giving",
        whole(a=(4, 9), b=(11, 19), c=(6, 19), d=(6, 19)),
        (
            "{name} buys {a} boxes of {b} {things}. {friend} gets {c} of them and {d} are lost."
            " How many {things} are left?",
            "There are {b} {things} in each of {a} boxes. {name} sells {c} and breaks {d}."
            " How many {things} remain?",
        ),
        (
            "a * b = s; s - c = u; u - d = t",
            "a * b = s; c + d = g; s - g = t",
            "b * a = s; s - d = v; v - c = t",
            "c + d = g; b * a = s; s - g = t",
        ),
        {
            "s": "The boxes hold {} {things}.",
            "u": "After the first loss there are {}.",
            "v": "Without the last ones there are {}.",
            "g": "In all {} are gone.",
            "t": "So {} {things} are left.",
        },
    ),
    Kind(
        "shopping",
        _shopping,
        (
            "{name} buys {a} {things} at ${p} each and {b} bags at ${q} each, and pays with ${m}."
            " How much change is there?",
            "With ${m} in hand, {name} takes {a} {things} for ${p} apiece and {b} cups for ${q}"
            " apiece. How many dollars are left?",
        ),
        (
            "a * p = x; b * q = y; x + y = s; m - s = t",
            "a * p = x; m - x = u; b * q = y; u - y = t",
            "b * q = y; m - y = v; a * p = x; v - x = t",
            "b * q = y; a * p = x; y + x = s; m - s = t",
        ),
        {
            "x": "The {things} cost ${}.",
            "y": "The others cost ${}.",
            "s": "The bill is ${}.",
            "u": "After the {things} ${} is left.",
            "v": "After the others ${} is left.",
            "t": "The change is ${}.",
        },
    ),
    Kind(
        "driving",
        _driving,
        (
            "{name} has {d} km to go and drives {h} hours at {a} km an hour, then {k} hours at {b}"
            " km an hour. How many km are left?",
            "A trip is {d} km long. {name} rides {a} km an hour for {h} hours and {b} km an hour"
            " for {k} hours. How far is it still?",
        ),
        (
            "a * h = x; b * k = y; x + y = s; d - s = t",
            "a * h = x; d - x = u; b * k = y; u - y = t",
            "k * b = y; d - y = v; h * a = x; v - x = t",
            "k * b = y; h * a = x; y + x = s; d - s = t",
        ),
        {
            "x": "The first part is {} km.",
            "y": "The second part is {} km.",
            "s": "Both parts are {} km.",
            "u": "Then {} km are ahead.",
            "v": "Without the second part {} km are ahead.",
            "t": "So {} km are left.",
        },
    ),
    Kind(
        "saving",
        _saving,
        (
            "{name} earns ${a} a week and spends ${b} of it. After {w} weeks {friend} adds ${g}."
            " How much money does {name} have?",
            "Each week {name} gets ${a} and pays ${b}. There were ${g} at the start. How many"
            " dollars are there after {w} weeks?",
        ),
        (
            "a - b = x; x * w = y; y + g = t",
            "a * w = e; b * w = f; e - f = y; y + g = t",
            "w * a = e; e + g = h; w * b = f; h - f = t",
            "w * b = f; w * a = e; e - f = y; g + y = t",
        ),
        {
            "x": "A week brings ${}.",
            "y": "The weeks bring ${}.",
            "e": "The income is ${}.",
            "f": "The costs are ${}.",
            "h": "With the gift it is ${}.",
            "t": "That makes ${}.",
        },
    ),
    Kind(
        "sharing",
        _sharing,
        (
            "{name} has {a} {things} and {friend} has {b}. They share them equally among {c}"
            " children. How many does each child get?",
            "{a} red and {b} blue {things} are dealt evenly into {c} bowls by {name}. How many"
            " {things} are in one bowl?",
        ),
        (
            "a + b = s; s / c = t",
            "a / c = x; b / c = y; x + y = t",
            "b / c = y; a / c = x; y + x = t",
            "b + a = s; s / c = t",
        ),
        {
            "s": "Together there are {} {things}.",
            "x": "The first lot gives {} to each.",
            "y": "The second lot gives {} to each.",
            "t": "Each share is {}.",
        },
    ),
    Kind(
        "seating",
        whole(a=(4, 12), b=(3, 9), c=(6, 15), e=(5, 29)),
        (
            "A hall has {a} rows and gets {b} more. Every row has {c} seats and {e} seats are"
            " broken. How many seats can be used?",
            "{name} sets up {a} rows and {friend} {b} rows, all of {c} chairs. {e} chairs stay"
            " empty. How many people sit?",
        ),
        (
            "a + b = r; r * c = s; s - e = t",
            "a * c = x; b * c = y; x + y = s; s - e = t",
            "b * c = y; y - e = z; a * c = x; z + x = t",
            "b + a = r; c * r = s; s - e = t",
        ),
        {
            "r": "There are {} rows.",
            "s": "That is {} seats.",
            "x": "The first rows have {} seats.",
            "y": "The other rows have {} seats.",
            "z": "Of these {} are good.",
            "t": "So {} seats are used.",
        },
    ),
    Kind(
        "fencing",
        whole(l=(11, 39), w=(4, 19), p=(2, 6)),
        (
            "A garden is {l} m long and {w} m wide. A fence costs ${p} a meter. How much does"
            " {name} pay to fence all four sides?",
            "{name} puts a rope around a field of {l} m by {w} m. One meter costs ${p}. What is"
            " the price in dollars?",
        ),
        (
            "l + w = h; h * 2 = r; r * p = t",
            "l * 2 = x; w * 2 = y; x + y = r; r * p = t",
            "l + w = h; h * p = c; c * 2 = t",
            "l * p = u; w * p = v; u + v = c; 2 * c = t",
        ),
        {
            "h": "Half way around is {} m.",
            "x": "The long sides are {} m.",
            "y": "The short sides are {} m.",
            "r": "All around is {} m.",
            "u": "A long side costs ${}.",
            "v": "A short side costs ${}.",
            "c": "Half of it costs ${}.",
            "t": "The price is ${}.",
        },
    ),
    Kind(
        "discount",
        _discount,
        (
            "A coat costs ${p}. {name} buys {n} of them at {d} percent off. How many dollars does"
            " {name} pay?",
            "{name} orders {n} lamps. One is ${p}, but today all is {d} percent cheaper. What is"
            " the total in dollars?",
        ),
        (
            "p * n = f; f * d / 100 = c; f - c = t",
            "p * d / 100 = o; p - o = q; q * n = t",
            "100 - d = r; p * r / 100 = q; q * n = t",
            "n * p = f; 100 - d = r; f * r / 100 = t",
        ),
        {
            "f": "The full price is ${}.",
            "c": "The cut is ${}.",
            "o": "One is ${} cheaper.",
            "q": "One costs ${}.",
            "r": "What is paid is {} percent.",
            "t": "The total is ${}.",
        },
    ),
    Kind(
        "ages",
        whole(a=(4, 29), b=(3, 19), k=(2, 4)),
        (
            "{name} is {a} years old. {friend} is {b} years older. Their aunt is {k} times as old"
            " as {name}. How old are all three together?",
            "{friend} is {b} years older than {name}, who is {a}. The neighbor is {k} times"
            " {name}'s age. What is the sum of the three ages?",
        ),
        (
            "a + b = f; a * k = u; a + f + u = t",
            "a * k = u; a + b = f; u + f = v; v + a = t",
            "k + 2 = m; a * m = w; w + b = t",
            "a + b = f; a + f = g; k * a = u; g + u = t",
        ),
        {
            "f": "{friend} is {}.",
            "u": "The oldest is {}.",
            "v": "These two make {}.",
            "g": "The young ones make {}.",
            "m": "The first age counts {} times.",
            "w": "That gives {}.",
            "t": "All together it is {}.",
        },
    ),
    Kind(
        "factory",
        whole(a=(3, 19), h=(2, 6), d=(2, 5), c=(3, 19)),
        (
            "{name} makes {a} {things} an hour and works {h} hours a day. After {d} days {c} of the"
            " {things} are bad. How many are good?",
            "A shop packs {a} {things} every hour, {h} hours a day, for {d} days. {friend} takes"
            " {c} away. How many {things} are left?",
        ),
        (
            "a * h = x; x * d = y; y - c = t",
            "h * d = z; a * z = y; y - c = t",
            "a * d = w; w * h = y; y - c = t",
            "h * a = x; d * x = y; y - c = t",
        ),
        {
            "x": "A day gives {} {things}.",
            "z": "The work takes {} hours.",
            "w": "One hour of each day gives {}.",
            "y": "All in all {} are made.",
            "t": "So {} remain.",
        },
    ),
    Kind(
        "reading",
        _reading,
        (
            "A book has {p} pages. {name} reads {a} pages a day for {d} days, then {b} pages a day."
            " How many more days does it take?",
            "{name} must print {p} pages: {a} a day for {d} days and from then on {b} a day. How"
            " many days are still needed?",
        ),
        (
            "a * d = x; p - x = l; l / b = t",
            "a / b = k; k * d = g; p / b = n; n - g = t",
            "d * a = x; p / b = n; x / b = g; n - g = t",
            "p / b = n; a / b = k; d * k = g; n - g = t",
        ),
        {
            "x": "The first days make {} pages.",
            "l": "There are {} pages left.",
            "k": "A fast day is worth {} slow days.",
            "g": "The first days are worth {} slow days.",
            "n": "All pages take {} slow days.",
            "t": "It takes {} more days.",
        },
    ),
    Kind(
        "times_as_many",
        whole(a=(6, 29), k=(2, 7), c=(3, 17)),
        (
            "{name} has {a} {things} and {friend} has {k} times as many. Together they lose {c}."
            " How many {things} do they still have?",
            "There are {k} times as many {things} in the box as the {a} on the table. {name} eats"
            " {c}. How many {things} are left?",
        ),
        (
            "a * k = m; a + m = s; s - c = t",
            "k + 1 = n; a * n = s; s - c = t",
            "k * a = m; m - c = z; z + a = t",
            "a - c + a = z; k - 1 = n; a * n = w; z + w = t",
        ),
        {
            "m": "The bigger lot is {}.",
            "s": "Both lots are {} {things}.",
            "n": "That counts {} times.",
            "z": "After the loss it is {}.",
            "w": "The rest is {}.",
            "t": "So there are {} {things}.",
        },
    ),
    Kind(
        "weighing",
        _weighing,
        (
            "A cart of {e} kg carries {a} sacks of {x} kg and {b} sacks of {y} kg. How many kg does"
            " it weigh in all?",
            "{name} loads {a} stones of {x} kg and {b} stones of {y} kg on a tray of {e} kg. What"
            " is the weight in kg?",
        ),
        (
            "a * x = u; b * y = v; u + v = s; s + e = t",
            "b * y = v; v + e = z; a * x = u; z + u = t",
            "a * x = u; u + e = q; b * y = v; q + v = t",
            "b * y = v; a * x = u; v + u + e = t",
        ),
        {
            "u": "The first ones weigh {} kg.",
            "v": "The others weigh {} kg.",
            "s": "The load is {} kg.",
            "z": "With the base it is {} kg.",
            "q": "So far it is {} kg.",
            "t": "The total is {} kg.",
        },
    ),
    Kind(
        "market",
        whole(a=(3, 6), b=(5, 12), c=(2, 9), p=(2, 6), w=(4, 19), g=(3, 29)),
        (
            "{name} picks {a} crates of {b} {things}. {c} are bad, the others sell at ${p} each."
            " The stall costs ${w} and {friend} tips ${g}. How many dollars does {name} end with?",
            "From {a} bags of {b} {things} {c} get lost. {name} sells the rest for ${p} apiece,"
            " pays ${w} for the road and finds ${g}. How much money is that?",
        ),
        (
            "a * b = s; s - c = r; r * p = i; i - w = n; n + g = t",
            "b * p = z; a * z = v; c * p = y; v - y = i; i - w + g = t",
            "b * a = s; s - c = r; p * r = i; i + g = m; m - w = t",
            "a * b = s; s * p = v; c * p = y; v - y = i; i + g - w = t",
        ),
        {
            "s": "At first there are {} {things}.",
            "r": "Of these {} can be sold.",
            "z": "One lot is worth ${}.",
            "v": "All of it would bring ${}.",
            "y": "The missing ones are worth ${}.",
            "i": "The sale brings ${}.",
            "n": "After the costs it is ${}.",
            "m": "With the gift it is ${}.",
            "t": "In the end there is ${}.",
        },
    ),
)

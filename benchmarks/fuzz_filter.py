"""Feed hostile and almost valid text to everything that reads completions in the filter.

    python benchmarks/fuzz_filter.py --n 1000000

Each string goes through extract_answer, find_equations, equation_path, and check_equation in both
fidelities, and through the process checks. Prints the number of strings and of exceptions, and the
mean and worst time per string. Verifies that nothing in a string is executed: an audit hook counts
every event that Python raises (exec, import, open, os.*, subprocess.*, socket.*, everything in
https://docs.python.org/3/library/audit_events.html except ``compile``, which ast.parse also
raises), and payloads try to call a function and to write a file. Exits with status 1 after an
exception, an event, or a trace of a payload; if the mean exceeds 1 ms per string; or if a string
takes more than 50 ms (the best of four attempts for a string that is the slowest so far).
"""

import argparse
import builtins
import math
import os
import random
import sys
import tempfile
import time
import unicodedata  # noqa: F401 - or Python's parser imports it at the first identifier like é
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from screl.grading.answers import Fidelity, extract_answer
from screl.grading.arithmetic import NotArithmeticError, python_value
from screl.grading.equations import check_equation, equation_path, find_equations
from screl.grading.process_checks import ProcessCheck, failed_checks

MAX_MEAN_SECONDS = 1e-3
MAX_SECONDS = 50e-3
MAX_CHARACTERS = 10_000  # about 3,000 tokens; the paper's completions have at most 256
CHECKS = get_args(ProcessCheck)
CANARY = "screl_fuzz_canary"  # name of the function and the file

_PAYLOADS = r"""
{canary}()
[{canary}() for i in range(3)]
(lambda: {canary}())()
(x:={canary}())
f'{{{canary}()}}'
{canary}() if 1 else 0
1 and {canary}()
{canary}.__call__()
__import__('os').system('touch {canary}')
open('{canary}','w')
exec('open("{canary}","w")')
eval(compile('{canary}()','','eval'))
__import__('subprocess').run(['touch','{canary}'])
__import__('socket').socket()
().__class__.__base__.__subclasses__()
import os
exit()
print(1)
9**9**9
9**(9**9)
(9**999)**(9**999)
9.9**9**9
1<<10**9
-1>>-10**9
'a'*10**9
"a"*10**9
[0]*10**9
(1,)*10**9
10**10**10%7
2**-10**9
1e999**9
1e999-1e999
0x7fffffff
0b1
1_000
1j*1j
'\d'
1if 1else 1
yield
await x
*1
1;2
#
\
''''
é
"""
PAYLOADS = _PAYLOADS.split("\n")[1:-1]
_NUMBERS = """
0 1 2 3 7 10 12 48 100 365 007 1,000 12,34 1.5 .5 2. 1e5 1e-5 1E999 1.2.3 20% $5 $1,200.50 -3 1/2 5k
3kg ½ ² ٣ １２ Ⅷ ① nan inf
"""
NUMBERS = (
    *_NUMBERS.split(),
    *("5 apples", "60 miles/hour", "60 miles per hour", "50 percent", "5 dozen", "2 million"),
    *("9" * 30, "9" * 999, "0." + "3" * 300, "1e" + "9" * 20),
)
_OPERATORS = "+ - * / ** // % = == < > << >> x X × ÷ − – ^ & | ~ , . ( ) () : ! @ %%"
OPERATORS = (
    *_OPERATORS.split(),
    *(" ", " and ", " or ", " if ", " else ", " not ", " in ", " is ", " of "),
    *("\n", "\t", "\0", "\ud800", "\u200b", "\xa0"),
)
_WORDS = "he sells 5 apples for $3 each so half a dozen is twice 2.5 thousand of 20% #### 1/2"
WORDS = _WORDS.split()


@dataclass
class Tally:
    """Counts and times of a run."""

    n_strings: int = 0
    n_statuses: Counter[str] = field(default_factory=Counter)
    n_failed_checks: Counter[str] = field(default_factory=Counter)
    exceptions: list[str] = field(default_factory=list)
    seconds: float = 0.0
    worst_seconds: float = 0.0
    worst: str = ""


class Watch:
    """Counts audit events while ``is_on``, since a hook cannot be removed."""

    def __init__(self) -> None:
        self.is_on = False
        self.events: Counter[str] = Counter()
        self.n_canary_calls = 0
        setattr(builtins, CANARY, self.call_canary)
        sys.addaudithook(self.count_event)

    def count_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Count an event; this is the audit hook."""
        if self.is_on:
            self.events[event] += 1

    def call_canary(self) -> int:
        """Count a call; payloads try to call this."""
        self.n_canary_calls += 1
        return 0

    def forbidden(self) -> dict[str, int]:
        """Return the counts of all events except ``compile``, which ast.parse raises."""
        return {event: count for event, count in self.events.items() if event != "compile"}


def main() -> None:
    """Fuzz, print the counts, and exit with status 1 if something went wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=1_000_000, help="number of strings")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    watch = Watch()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        tally = fuzz(arguments.n, arguments.seed, watch)
        traces = os.listdir(folder)
        os.chdir("/")
    faults = find_faults(tally, watch, traces)
    report(tally, watch)
    print("\n".join(faults) or "passed")
    sys.exit(1 if faults else 0)


def fuzz(n: int, seed: int, watch: Watch) -> Tally:
    """Feed ``n`` strings to the filter's functions; a warning counts as an exception."""
    rng = random.Random(seed)
    tally = Tally()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(n):
            text, question = make_string(rng), make_string(rng)[:300]
            seconds = timed(text, question, watch, tally)
            for _ in range(3):  # the machine may have been busy
                if seconds > tally.worst_seconds:
                    seconds = min(seconds, timed(text, question, watch, Tally()))
            tally.n_strings += 1
            tally.seconds += seconds
            if seconds > tally.worst_seconds:
                tally.worst_seconds, tally.worst = seconds, text
    return tally


def timed(text: str, question: str, watch: Watch, tally: Tally) -> float:
    """Return the seconds that one string takes with an empty cache of check_equation."""
    check_equation.cache_clear()
    watch.is_on = True
    started = time.perf_counter()
    try:
        read(text, question, tally)
    except (Exception, SystemExit) as error:
        tally.exceptions.append(f"{error!r} for {text[:300]!a}")
    seconds = time.perf_counter() - started
    watch.is_on = False
    return seconds


def read(text: str, question: str, tally: Tally) -> None:
    """Read ``text`` as the filter reads a completion, and also as an equation."""
    equations = find_equations(text)
    for fidelity in get_args(Fidelity):
        extract_answer(text, fidelity)
        equation_path(text, fidelity)
        for equation in [text, *equations]:
            status = check_equation(equation, fidelity)
            tally.n_statuses[f"{fidelity} {status}"] += 1
            if status != "right" and equation is not text:
                break  # like has_valid_equations
    tally.n_failed_checks.update(failed_checks(text, question, CHECKS))


def make_string(rng: random.Random) -> str:
    """Return a string of a random kind, of at most MAX_CHARACTERS."""
    kinds: tuple[Callable[[random.Random], str], ...] = (
        *(completion, completion, completion, equation, equation, mutated),
        *(mutated, payload, payload, soup, nested, flood),
    )
    return rng.choice(kinds)(rng)[:MAX_CHARACTERS]


def length(rng: random.Random, most: int) -> int:
    """Return a number from 1 to ``most``, with a uniform logarithm."""
    return int(math.exp(rng.uniform(0, math.log(most + 1))))


def equation(rng: random.Random) -> str:
    """Return an equation: right, rounded, formatted differently, chained, or off by one."""
    left = str(rng.randint(1, 99))
    for _ in range(rng.randint(0, 3)):
        left += rng.choice("+-*/") + rng.choice((str(rng.randint(1, 99)), rng.choice(NUMBERS)))
    right = rng.choice(NUMBERS)
    if all(character in "0123456789.+-*/" for character in left) and "**" not in left:
        with suppress(NotArithmeticError, OverflowError):
            value = python_value(left)
            right = rng.choice((str(value), f"{value:.2f}", f"{value:,}", str(value + 1)))
    return f"{left}={right}" + rng.choice(("", "", "", f"={right}", "=", " apples"))


def completion(rng: random.Random) -> str:
    """Return lines of text and equations, and an answer line."""
    lines = []
    for _ in range(rng.randint(0, 5)):
        words = " ".join(rng.choices(WORDS, k=rng.randint(0, 8)))
        inside = rng.choice((equation, equation, equation, payload, mutated))(rng)
        lines.append(f"{words} {inside} <<{inside}>>{rng.choice(NUMBERS)}")
    lines.append(f"#### {rng.choice(NUMBERS)}{rng.choice(('', '', ' apples', '.', '-3'))}")
    return "\n".join(lines)


def mutated(rng: random.Random) -> str:
    """Return an equation or a completion with characters dropped, replaced, or inserted."""
    characters = list(rng.choice((equation, completion))(rng))
    for _ in range(length(rng, 8)):
        place = rng.randrange(len(characters) + 1)
        any_character = chr(rng.randrange(0x110000))
        pieces = (rng.choice(OPERATORS), rng.choice(NUMBERS), any_character, "", "<<", ">>")
        characters[place : place + rng.randint(0, 3)] = rng.choice(pieces)
    return "".join(characters)


def payload(rng: random.Random) -> str:
    """Return code in place of arithmetic."""
    code = rng.choice(PAYLOADS).format(canary=CANARY)
    code = rng.choice(("{}", "({})", "1+{}", "{}*2", "1 if {} else 2", "{}=1", "1={}")).format(code)
    return rng.choice((f"{code}=1", f"<<{code}=1>>", f"1={code}", f"<<1=1>>{code}", f"#### {code}"))


def soup(rng: random.Random) -> str:
    """Return numbers, operators, words, and payloads in any order."""
    pieces = (NUMBERS, OPERATORS, OPERATORS, WORDS, PAYLOADS)
    return "".join(rng.choice(rng.choice(pieces)) for _ in range(length(rng, 200)))


def nested(rng: random.Random) -> str:
    """Return deeply nested brackets and signs."""
    depth = length(rng, MAX_CHARACTERS // 2)
    opening, closing = rng.choice(
        (("(", ")"), ("[", "]"), ("-", ""), ("~", ""), ("not ", ""), ("(1+", ")"), ("2**", ""))
    )
    inside = rng.choice(("1", "", equation(rng)))
    return rng.choice(("{}=1", "<<{}=1>>", "{}")).format(opening * depth + inside + closing * depth)


def flood(rng: random.Random) -> str:
    """Return the same few pieces repeated up to MAX_CHARACTERS."""
    special = ("<<", ">>", "<<1=1>>", "<<1+1=2>>2", "#### ", "#", "####5", "=", "1=", "1+", " ")
    pieces = (*special, *NUMBERS, *OPERATORS, *WORDS, equation(rng), chr(rng.randrange(0x110000)))
    unit = "".join(rng.choices(pieces, k=rng.randint(1, 3)))
    text = unit * (length(rng, MAX_CHARACTERS) // len(unit) + 1)
    return rng.choice(("", "1", "<<", "#### ")) + text + rng.choice(("", "=1", ">>", "!"))


def find_faults(tally: Tally, watch: Watch, traces: list[str]) -> list[str]:
    """Return one line for each fault."""
    n_strings = max(tally.n_strings, 1)
    faults = [f"FAILED exception: {error}" for error in tally.exceptions[:10]]
    if events := watch.forbidden():
        faults.append(f"FAILED audit events: {events}")
    if watch.n_canary_calls or traces:
        faults.append(f"FAILED: the canary was called {watch.n_canary_calls} times, files {traces}")
    if tally.seconds / n_strings > MAX_MEAN_SECONDS:
        faults.append(f"FAILED: more than {1e3 * MAX_MEAN_SECONDS:.0f} ms per string on average")
    if tally.worst_seconds > MAX_SECONDS:
        faults.append(f"FAILED: more than {1e3 * MAX_SECONDS:.0f} ms for one string")
    return faults


def report(tally: Tally, watch: Watch) -> None:
    """Print counts and times."""
    print(f"strings     {tally.n_strings:,} in {tally.seconds:.1f} s")
    print(f"mean        {1e6 * tally.seconds / max(tally.n_strings, 1):.0f} us")
    print(f"worst       {1e3 * tally.worst_seconds:.1f} ms, {len(tally.worst):,} characters:")
    print(f"            {tally.worst[:60]!a}")
    print(f"exceptions  {len(tally.exceptions)}")
    print(f"events      {dict(watch.events)}; forbidden: {sum(watch.forbidden().values())}")
    print(f"canary      {watch.n_canary_calls} calls")
    for name, count in sorted((tally.n_statuses + tally.n_failed_checks).items()):
        print(f"  {name:<26}{count:>12,}")


if __name__ == "__main__":
    main()

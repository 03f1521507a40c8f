r"""Grade MATH's gold answers against themselves and against 20 respellings each, by math_verify.

    python benchmarks/check_formulas.py --source MATH/test.jsonl

The file holds MATH's 5,000 test problems, JSONL of "problem" and "solution" (arXiv 2103.03874). A
respelling changes how an answer is written and not its value: spacing, ``\dfrac`` for ``\frac``,
``\left`` and ``\right``, degree signs. Each is graded in both directions. One that does not change
the text is not counted again. Exits with status 1 if a gold answer does not equal itself.
"""

import argparse
import re
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from screl.core.config import run_main
from screl.core.io import format_table
from screl.core.problems import load_problems
from screl.grading.boxed import last_boxed
from screl.grading.graders import math_verify


def sub(pattern: str, replacement: str) -> Callable[[str], str]:
    """Return a function that replaces ``pattern`` in the content of a box."""
    return lambda answer: re.sub(pattern, replacement, answer)


def boxed(answer: str) -> str:
    """Return the end of a completion with this answer."""
    return rf"The answer is $\boxed{{{answer}}}$."


def full_width(answer: str) -> str:
    """Return ``answer`` with full-width digits, unless it has LaTeX commands or a base."""
    is_plain = re.fullmatch(r"-?[0-9.]+", answer) is not None
    return "".join(chr(ord(c) + 0xFEE0) for c in answer) if is_plain else answer


RESPELLINGS: dict[str, Callable[[str], str]] = {
    "itself": lambda answer: answer,
    r"\dfrac": sub(r"\\[dt]?frac", r"\\dfrac"),
    r"\tfrac": sub(r"\\[dt]?frac", r"\\tfrac"),
    r"\frac12 as \frac{1}{2}": sub(r"\\frac(\d)(\d)", r"\\frac{\1}{\2}"),
    r"without \left, \right": sub(r"\\(?:left|right)(?![a-z])", ""),
    r"\left( \right)": lambda a: (
        sub(r"\)", r"\\right)")(sub(r"\(", r"\\left(")(a)) if "\\left" not in a else a
    ),
    "space at the ends": lambda answer: f" {answer} ",
    "space after commas": sub(r",(?=[^ !\d\\])", ", "),
    "no space after commas": sub(r"(?<!\\), +", ","),
    "space around + and -": sub(r"(?<=[0-9a-z}]) *([-+]) *(?=[0-9a-z\\])", r" \1 "),
    r"\! dropped": sub(r"\\! *", ""),
    "thousands by comma": sub(r"^(\d{1,3})(\d{3})$", r"\1,\2"),
    r"thousands by \,": sub(r"^(\d{1,3})(\d{3})$", r"\1\\,\2"),
    "thousands by space": sub(r"^(\d{1,3})(\d{3})$", r"\1 \2"),
    "full width": full_width,
    "degree sign": sub(r"\^\{?\\circ\}?", "°"),
    r"\degree": sub(r"\^\{?\\circ\}?", r"\\degree "),
    "unit": sub(r"^(-?\d+)$", r"\1 units"),
    r"\text unit": sub(r"^(-?\d+)$", r"\1\\text{ units}"),
    "root sign": sub(r"\\sqrt\{(\d+)\}", r"√\1"),
    "dollar": sub(r"^(\d+)$", r"\\$\1"),
}


def grade(solution: str) -> list[tuple[str, str, str, bool]]:
    """Return, for each respelling that differs: its name, the gold, the text, the verdict."""
    answer = last_boxed(solution)
    if answer is None:
        return [("itself", solution[-80:], "", False)]
    rows, seen = [], set()
    for name, respell in RESPELLINGS.items():
        text = respell(answer)
        if text in seen:
            continue
        seen.add(text)
        gold = solution if name == "itself" else boxed(answer)
        is_right = (
            math_verify(boxed(text), gold).is_right and math_verify(gold, boxed(text)).is_right
        )
        rows.append((name, answer, text, is_right))
    return rows


def main() -> None:
    """Print the counts by respelling and every exception."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, required=True, help="MATH's test.jsonl")
    solutions = [problem.solution for problem in load_problems(parser.parse_args().source)]
    with ProcessPoolExecutor() as pool:
        found = [row for rows in pool.map(grade, solutions, chunksize=50) for row in rows]
    graded, right = Counter(row[0] for row in found), Counter(row[0] for row in found if row[3])
    rows = [["respelling", "texts", "equal"]]
    rows += [[name, str(graded[name]), str(right[name])] for name in RESPELLINGS]
    print(format_table(rows))
    wrong = [row for row in found if not row[3]]
    print(f"\n{len(wrong)} of {len(found)} are not equal")
    for name, gold, text, _ in wrong:
        print(f"{name}: {gold!r} and {text!r}")
    if graded["itself"] > right["itself"]:
        sys.exit(1)


if __name__ == "__main__":
    run_main(main)

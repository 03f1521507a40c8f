"""Compare the arithmetic that is read from prose with the calculator marks of GSM8K's solutions.

    python benchmarks/check_paths.py --data_path data/train_use.jsonl
    python benchmarks/check_paths.py --data_path data/train_use.jsonl --samples SAMPLES

Reads each solution without its <<a=b>> and looks up the equation of every mark, in order. Prints
how many agree, and each kind of exception with its count and an example. With --samples,
also prints how many rows the filter keeps of the samples: as they are, and without their marks by
--path_style calculator and arithmetic.
"""

import argparse
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from screl.core.problems import Problem, load_problems
from screl.grading.equations import check_equation, find_equations
from screl.grading.paths import PathStyle
from screl.grading.written import canonical_mark, find_written
from screl.rejection.filter import FilterRules, filter_problem
from screl.samples.reader import map_problems, open_runs
from screl.samples.store import Sample

MARK = re.compile(r"<<[^>]*>>")
MARK_AFTER = re.compile(r"(= ?\$?)?<<([^>=]*)=[^>]*>>")
PARTS = re.compile(r"[0-9.]+|[-+*/]")
READ = (
    "all equal: the prose has the marks' equations and no others",
    "all equal: the prose has the marks' equations, and unmarked ones",
)
OTHER_ORDER = "the mark has the prose's numbers and operations in another order"
OTHER = "the mark has the prose's result from other numbers or operations (20*.01 for 0.2, x/2)"
CHAIN = "the mark is part of a chain in the prose"
MISSING = "not read from the prose, or not there as arithmetic"


def main() -> None:
    """Print the agreement and the exceptions."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data_path", type=Path, required=True)
    parser.add_argument("--samples", type=Path)
    arguments = parser.parse_args()
    problems = load_problems(arguments.data_path)
    print(compare([problem.solution for problem in problems if problem.solution]))
    if arguments.samples:
        print(count_rows(arguments.samples, problems))


def compare(solutions: Sequence[str]) -> str:
    """Return the report on ``solutions``, which have marks."""
    kinds: Counter[str] = Counter()
    examples: dict[str, str] = {}
    n_false = 0
    for solution in solutions:
        prose = find_written(MARK.sub("", solution))
        n_false += any(check_equation(one.text, "strict") == "false" for one in prose)
        marks = [mark for text in find_equations(solution) if (mark := canonical_mark(text))]
        found = list(exceptions(marks, [one.canonical for one in prose]))
        kinds[READ[len(prose) > len(marks)] if not found else worst(found)] += 1
        for kind, example in found:
            examples.setdefault(kind, example)
    lines = [f"{len(solutions)} solutions; {n_false} have a false equation in prose"]
    for kind in (*READ, OTHER_ORDER, OTHER, CHAIN, MISSING):
        example = f"; for example {examples[kind]}" if kind in examples else ""
        lines.append(f"{kinds[kind]:6} {kinds[kind] / len(solutions):6.1%}  {kind}{example}")
    n_equal = sum(kinds[kind] for kind in READ)
    n_read = n_equal + sum(kinds[kind] for kind in (OTHER_ORDER, OTHER, CHAIN))
    lines.append(f"equal to the marks: {n_equal / len(solutions):.1%}")
    lines.append(f"equal to what the prose itself says: {n_read / len(solutions):.1%}")
    return "\n".join(lines)


def exceptions(marks: Sequence[str], prose: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the kind and an example of every mark that the prose does not have, in order."""
    rest = list(prose)
    for mark in marks:
        if mark in rest:
            del rest[: rest.index(mark) + 1]
            continue
        result = mark.rpartition("=")[2]
        same_result = [one for one in rest if one.rpartition("=")[2] == result]
        same_parts = [one for one in same_result if _parts(one) == _parts(mark)]
        chained = [one for one in rest if mark in one]
        if same_parts:
            yield OTHER_ORDER, f"mark {mark}, prose {same_parts[0]}"
        elif chained:
            yield CHAIN, f"mark {mark}, prose {chained[0]}"
        elif same_result:
            yield OTHER, f"mark {mark}, prose {same_result[0]}"
        else:
            yield MISSING, f"mark {mark}"


def worst(found: Sequence[tuple[str, str]]) -> str:
    """Return the kind of a solution with several exceptions: the one that explains least."""
    kinds = {kind for kind, _ in found}
    return next(kind for kind in (MISSING, OTHER, CHAIN, OTHER_ORDER) if kind in kinds)


def _parts(equation: str) -> list[str]:
    return sorted(PARTS.findall(equation.partition("=")[0]))


def count_rows(path: Path, problems: Sequence[Problem]) -> str:
    """Return the numbers of rows that the filter keeps with marks and without."""
    lines = []
    styles: list[tuple[str, PathStyle, bool]] = [
        ("with marks, calculator", "calculator", False),
        ("without marks, calculator", "calculator", True),
        ("without marks, arithmetic", "arithmetic", True),
    ]
    for run in open_runs(path, problems, "train", allow_partial=True):
        for name, style, is_stripped in styles:
            rules = FilterRules("strict", path_style=style)
            counts = Counter[str]()
            for found in map_problems(filter_stripped, problems, [run], rules, is_stripped):
                counts.update(found)
            lines.append(
                f"{run.name}, {name}: {counts['right']} right samples, "
                f"{counts['false_equation']} with a false equation, {counts['paths']} paths, "
                f"{counts['kept']} rows kept"
            )
    return "\n".join(lines)


def as_prose(text: str) -> str:
    """Return ``text`` as a model writes it that does not know marks: ``<<3*4=12>>12`` as 3*4 = 12.

    A mark that follows its own equation, as in ``3*4 = <<3*4=12>>12``, is left out.
    """
    return MARK_AFTER.sub(lambda match: match[1] or f"{match[2]} = ", text)


def filter_stripped(
    problem: Problem, samples: Sequence[Sequence[Sample]], rules: FilterRules, is_stripped: bool
) -> Counter[str]:
    """Return counts over one problem's samples, without their marks if ``is_stripped``."""
    if is_stripped:
        problem = replace(problem, solution=as_prose(problem.solution))
        samples = [
            [replace(one, completion=as_prose(one.completion)) for one in of_run]
            for of_run in samples
        ]
    result = filter_problem(problem, samples, rules)
    (counts,) = result.counts
    n_right = counts["sampled"] - counts["no_answer"] - counts["wrong_answer"]
    return Counter(
        right=n_right, false_equation=counts["false_equation"], paths=len(result.first_seen),
        kept=len(result.kept),
    )  # fmt: skip


if __name__ == "__main__":
    main()

"""What the filter does to single samples: all of one problem, or where paper and strict differ."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from screl.completions import Completion
from screl.equations import check_equation, find_equations
from screl.problems import Problem, ProblemId
from screl.rejection import Fate, Rules, fates
from screl.table import format_table

EXAMPLE_WIDTH = 160


class Example(NamedTuple):
    """A sample that shows a difference."""

    problem_id: ProblemId
    source: int
    sample_id: int
    text: str


# (fate under paper, fate under strict) -> how many samples, and the first of them.
Differences = dict[tuple[Fate, Fate], tuple[int, Example]]


def explain(
    problem: Problem,
    completions: Sequence[Sequence[Completion]],
    names: Sequence[str],
    rules: Rules,
) -> Iterator[str]:
    """Lines that show a problem and, of every completion, its fate and its text."""
    yield f"problem {problem.problem_id!r}: {problem.question}\n\nsolution:\n{problem.solution}"
    of_all = fates(problem, completions, rules)
    for name, of_run, run_fates in zip(names, completions, of_all, strict=True):
        for completion, fate in zip(of_run, run_fates, strict=True):
            wrong = [
                f"{status} <<{equation}>>"
                for equation in find_equations(completion.text)
                if (status := check_equation(equation, rules.fidelity)) != "right"
            ]
            details = f" ({', '.join(wrong)})" if wrong else ""
            yield f"\n{name} sample {completion.sample_id}: {fate}{details}\n{completion.text}"


def compare_problem(
    problem: Problem, completions: Sequence[Sequence[Completion]], rules: Rules
) -> Differences:
    """The fates of one problem's samples under both fidelities."""
    pair = [
        fates(problem, completions, replace(rules, fidelity="paper")),
        fates(problem, completions, replace(rules, fidelity="strict")),
    ]
    found: Differences = {}
    for source, of_run in enumerate(completions):
        for completion, *of_both in zip(of_run, pair[0][source], pair[1][source], strict=True):
            paper, strict = of_both
            example = Example(problem.problem_id, source, completion.sample_id, completion.text)
            count, first = found.get((paper, strict), (0, example))
            found[paper, strict] = (count + 1, first)
    return found


def merge(parts: Iterator[Differences]) -> Differences:
    """The differences of all problems: counts added, the first example of each."""
    total: Differences = {}
    for part in parts:
        for key, (count, example) in part.items():
            before, first = total.get(key, (0, example))
            total[key] = (before + count, first)
    return total


def comparison_report(differences: Differences, names: Sequence[str]) -> str:
    """A table of where the two differ, most frequent first, with an example of each below it."""
    kept = Counter[str]()
    for (paper, strict), (count, _) in differences.items():
        kept.update({"paper": count * (paper == "kept"), "strict": count * (strict == "kept")})
        kept["both"] += count * (paper == strict == "kept")
    ordered = sorted(differences.items(), key=lambda item: -item[1][0])
    ordered = [(key, value) for key, value in ordered if key[0] != key[1]]
    rows = [["", "paper", "strict", "samples"]]
    rows += [
        [str(number), *key, str(count)] for number, (key, (count, _)) in enumerate(ordered, start=1)
    ]
    lines = [f"paper keeps {kept['paper']}, strict {kept['strict']}, both {kept['both']} of them\n"]
    lines.append(format_table(rows) if ordered else "they treat every sample alike")
    for number, ((paper, strict), (_, example)) in enumerate(ordered, start=1):
        where = (
            f"problem {example.problem_id!r}, {names[example.source]} sample {example.sample_id}"
        )
        text = " ⏎ ".join(example.text.splitlines())
        if len(text) > EXAMPLE_WIDTH:
            text = f"… {text[-EXAMPLE_WIDTH:]}"
        lines.append(f"\n{number}. {paper} / {strict}: {where}\n   {text}")
    return "\n".join(lines)

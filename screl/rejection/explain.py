"""Show the filter's decisions: on every sample of one problem, or where the fidelities differ.

These are ``--explain`` and ``--compare`` of collect_rejection_sampling.py.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from screl.core.io import format_table
from screl.core.problems import Problem
from screl.grading.equations import check_equation, find_equations, odd_equations
from screl.grading.paths import read_steps
from screl.grading.verdict import as_published, read_text
from screl.rejection.filter import Fate, FilterRules, sample_fates
from screl.samples.store import Sample

EXAMPLE_WIDTH = 160  # characters shown of an example


class FateCount(NamedTuple):
    """The number of samples with a pair of fates, and the first of them with its run."""

    n_samples: int
    example: Sample
    source: int


FatePairs = dict[tuple[Fate, Fate], FateCount]  # by the fates under paper and under strict


def explain_problem(
    problem: Problem,
    samples: Sequence[Sequence[Sample]],
    names: Sequence[str],
    rules: FilterRules,
) -> Iterator[str]:
    """Yield lines with the problem and, for every sample, its fate, faulty equations, and text."""
    yield f"problem {problem.problem_id!r}: {problem.question}\n\nsolution:\n{problem.solution}"
    fates = sample_fates(problem, samples, rules)
    for name, of_run, run_fates in zip(names, samples, fates, strict=True):
        for sample, fate in zip(of_run, run_fates, strict=True):
            wrong = _faults(sample.completion, rules)
            details = f" ({', '.join(wrong)})" if wrong else ""
            yield f"\n{name} sample {sample.sample_id}: {fate}{details}"
            yield sample.completion


def _faults(completion: str, rules: FilterRules) -> list[str]:
    """Return the equations that do not hold or cannot be read, each with what is wrong with it."""
    text = read_text(completion, rules)
    faults = [
        f"{status} <<{equation}>>"
        for equation in read_steps(text, rules.path_style, rules.fidelity).equations
        if (status := check_equation(equation, rules.fidelity)) != "right"
    ]
    if rules.fidelity == "strict" and rules.path_style in ("calculator", "arithmetic"):
        faults += [f"odd brackets {odd}" for odd in odd_equations(text, find_equations(text))]
    return faults


def compare_problem(
    problem: Problem, samples: Sequence[Sequence[Sample]], rules: FilterRules
) -> FatePairs:
    """Count one problem's samples by their fates under both fidelities."""
    paper = sample_fates(problem, samples, as_published(rules))
    strict = sample_fates(problem, samples, replace(rules, fidelity="strict"))
    found: FatePairs = {}
    for source, of_run in enumerate(samples):
        for sample, *pair in zip(of_run, paper[source], strict[source], strict=True):
            _add(found, (pair[0], pair[1]), FateCount(1, sample, source))
    return found


def compare_report(of_problems: Iterable[FatePairs], names: Sequence[str]) -> str:
    """Return a table of where the fidelities differ, most frequent first, with examples."""
    total: FatePairs = {}
    for of_problem in of_problems:
        for pair, count in of_problem.items():
            _add(total, pair, count)
    kept = Counter[str]()
    for (paper, strict), count in total.items():
        kept["paper"] += count.n_samples * (paper == "kept")
        kept["strict"] += count.n_samples * (strict == "kept")
        kept["both"] += count.n_samples * (paper == strict == "kept")
    lines = [
        f"paper keeps {kept['paper']} samples, strict {kept['strict']}; both keep {kept['both']}\n"
    ]
    differing = [item for item in total.items() if item[0][0] != item[0][1]]
    differing.sort(key=lambda item: -item[1].n_samples)
    rows = [["", "paper", "strict", "samples"]]
    for number, (pair, count) in enumerate(differing, start=1):
        rows.append([str(number), *pair, str(count.n_samples)])
    lines.append(format_table(rows) if differing else "they treat every sample alike")
    for number, ((paper, strict), (_, sample, source)) in enumerate(differing, start=1):
        where = f"problem {sample.problem_id!r}, {names[source]} sample {sample.sample_id}"
        text = " ⏎ ".join(sample.completion.splitlines())
        if len(text) > EXAMPLE_WIDTH:
            text = f"… {text[-EXAMPLE_WIDTH:]}"
        lines.append(f"\n{number}. {paper} / {strict}: {where}\n   {text}")
    return "\n".join(lines)


def _add(total: FatePairs, pair: tuple[Fate, Fate], count: FateCount) -> None:
    before = total.get(pair)
    total[pair] = before._replace(n_samples=before.n_samples + count.n_samples) if before else count

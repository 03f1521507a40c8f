"""What became of the samples: the funnel of the filter, per run and in total, as table and as JSON.

arXiv 2308.01825: Table 1 (right samples a problem), Table 2 (distinct paths a problem by k), the
histogram of how often a problem was solved, and Figure 6 (paths that only one model found).

What the filter does to single samples: all of one problem, or where paper and strict differ.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, NamedTuple, get_args

import numpy as np

from screl.core.io import format_table
from screl.core.problems import Problem, ProblemId
from screl.grading.equations import check_equation, find_equations
from screl.grading.process_checks import ProcessCheck
from screl.rejection.filter import Fate, FilterRules, ProblemState, fates
from screl.samples.store import Sample

PAPER_KS = (1, 3, 6, 12, 25, 50, 100)  # Table 2
# Shares of a problem's samples that are right: the published buckets, for any k.
SOLVED = ("never", "to 20%", "to 40%", "to 60%", "to 80%", "below 100%", "always")


@dataclass(frozen=True, slots=True)
class Funnel:
    """Counts of samples; ``n_distinct`` and ``n_kept`` of paths and of rows."""

    n_sampled: int
    n_answered: int
    n_right: int  # Table 1, per problem
    n_parsed: int  # right, and every equation can be read
    n_valid: int  # and every equation holds
    n_passed: int  # and passed the process checks
    n_distinct: int  # different paths among them
    n_kept: int  # written


@dataclass(frozen=True, slots=True)
class RunReport:
    """What the filter made of one run, or of all together (``name`` "all")."""

    name: str
    funnel: Funnel
    rejected_by_check: dict[str, int]
    solved: dict[str, int]  # problems by the share of their samples that is right
    distinct_paths: dict[int, tuple[float, float | None]]  # by k: per problem, and standard error
    n_exclusive: int | None  # paths that no other run has; None for all together
    n_cut_off: int | None  # samples that hit max_new_tokens; None where it is not recorded
    tokens: dict[str, float | None]  # mean length of samples and of kept rows
    characters: dict[str, float | None]


def report_runs(
    names: Sequence[str],
    n_samples: Sequence[int],
    states: Sequence[ProblemState],
    solution_paths: Sequence[str],
) -> list[RunReport]:
    """A report for every run, and with several runs one of all together.

    ``distinct_paths`` counts the solution's path as the paper's Table 2 does: at least one a
    problem. That of all together is of all their samples.
    """
    sources: list[tuple[str, int, Collection[int]]] = [
        (name, n, {source}) for source, (name, n) in enumerate(zip(names, n_samples, strict=True))
    ]
    if len(names) > 1:
        sources.append(("all", sum(n_samples), range(len(names))))
    return [_report(*source, states, solution_paths) for source in sources]


def funnel_to_json(report: RunReport) -> dict[str, Any]:
    """The report for run.json."""
    paths = {
        str(k): {"value": value, "standard_error": error}
        for k, (value, error) in report.distinct_paths.items()
    }
    return asdict(report) | {"distinct_paths": paths}


def report_tables(reports: Sequence[RunReport], n_problems: int) -> str:
    """The reports as tables for a terminal."""
    tables = [
        _funnel_table(reports, n_problems),
        _solved_table(reports),
        _paths_table(reports),
        _lengths_table(reports),
    ]
    if any(report.funnel.n_passed < report.funnel.n_valid for report in reports):
        tables.insert(1, _checks_table(reports))
    return "\n\n".join(tables)


def shared_paths(names: Sequence[str], states: Sequence[ProblemState]) -> list[dict[str, Any]]:
    """How many paths exactly these runs found: every cell of the Venn diagram (Figure 6)."""
    cells = Counter(frozenset(seen) for state in states for seen in state.first_seen.values())
    return [
        {"runs": [names[source] for source in sorted(cell)], "n_paths": count}
        for cell, count in sorted(cells.items(), key=lambda item: (len(item[0]), sorted(item[0])))
    ]


def _report(
    name: str,
    n_samples: int,
    sources: Collection[int],
    states: Sequence[ProblemState],
    solution_paths: Sequence[str],
) -> RunReport:
    per_problem = [_add(state.counts[source] for source in sources) for state in states]
    total = _add(per_problem)
    paths = [_first_seen(state, sources) for state in states]
    kept = [c for state in states for c in state.kept if c.source in sources]
    known = total["tokens_known"]
    n_tokens = [candidate.sample.n_tokens for candidate in kept]
    kept_tokens = [n for n in n_tokens if n is not None]
    return RunReport(
        name=name,
        funnel=_funnel(total, sum(map(len, paths)), len(kept)),
        rejected_by_check={check: total[check] for check in get_args(ProcessCheck)},
        solved=_solved(per_problem),
        distinct_paths=_distinct_paths(n_samples, len(sources) > 1, paths, solution_paths),
        n_exclusive=_n_exclusive(states, sources) if len(sources) == 1 else None,
        n_cut_off=total["cut_off"] if known else None,
        tokens={
            "sampled": _ratio(total["tokens"], known),
            "kept": _ratio(sum(kept_tokens), len(kept_tokens)),
        },
        characters={
            "sampled": _ratio(total["characters"], total["sampled"]),
            "kept": _ratio(sum(len(candidate.text) for candidate in kept), len(kept)),
        },
    )


def _add(counters: Iterable[Counter[str]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for counter in counters:
        total.update(counter)
    return total


def _ratio(total: int, n: int) -> float | None:
    return total / n if n else None


def _funnel(total: Mapping[str, int], n_distinct: int, n_kept: int) -> Funnel:
    n_answered = total["sampled"] - total["no_answer"]
    n_right = n_answered - total["wrong_answer"]
    n_parsed = n_right - total["unparsed_equation"]
    n_valid = n_parsed - total["false_equation"]
    n_passed = n_valid - total["process_check"]
    return Funnel(
        total["sampled"], n_answered, n_right, n_parsed, n_valid, n_passed, n_distinct, n_kept
    )


def _first_seen(state: ProblemState, sources: Collection[int]) -> dict[str, int]:
    """For each path that one of ``sources`` has, the first sample_id with it."""
    return {
        path: min(seen[source] for source in seen.keys() & set(sources))
        for path, seen in state.first_seen.items()
        if not seen.keys().isdisjoint(sources)
    }


def _solved(per_problem: Iterable[Counter[str]]) -> dict[str, int]:
    solved = dict.fromkeys(SOLVED, 0)
    for counts in per_problem:
        n_right = _funnel(counts, 0, 0).n_right
        if n_right in (0, counts["sampled"]):
            bucket = -1 if n_right else 0
        else:
            bucket = math.ceil(5 * n_right / counts["sampled"])
        solved[SOLVED[bucket]] += 1
    return solved


def _distinct_paths(
    n_samples: int,
    only_all: bool,
    paths: Sequence[Mapping[str, int]],
    solution_paths: Sequence[str],
) -> dict[int, tuple[float, float | None]]:
    ks = [] if only_all else [k for k in PAPER_KS if k < n_samples]
    curve = {}
    for k in [*ks, n_samples]:
        counts = [
            len({solution_path, *(path for path, first in of_problem.items() if first < k)})
            for of_problem, solution_path in zip(paths, solution_paths, strict=True)
        ]
        error = float(np.std(counts, ddof=1)) / math.sqrt(len(counts)) if len(counts) > 1 else None
        curve[k] = (float(np.mean(counts)), error)
    return curve


def _n_exclusive(states: Sequence[ProblemState], sources: Collection[int]) -> int:
    return sum(
        seen.keys() == set(sources) for state in states for seen in state.first_seen.values()
    )


def _funnel_table(reports: Sequence[RunReport], n_problems: int) -> str:
    labels = [field.name.removeprefix("n_") for field in fields(Funnel)]
    rows = [["samples", *labels]]
    for report in reports:
        counts = list(asdict(report.funnel).values())
        rows.append([report.name, *map(str, counts)])
        rows.append(["  per problem", *(f"{count / n_problems:.2f}" for count in counts)])
    return format_table(rows)


def _checks_table(reports: Sequence[RunReport]) -> str:
    checks = list(reports[0].rejected_by_check)
    rows = [["valid samples that fail", *checks]]
    for report in reports:
        shares = [
            f"{_ratio(report.rejected_by_check[check], report.funnel.n_valid) or 0:.1%}"
            for check in checks
        ]
        rows.append([report.name, *shares])
    return format_table(rows)


def _solved_table(reports: Sequence[RunReport]) -> str:
    rows = [["problems by share of right samples", *SOLVED]]
    rows += [[report.name, *map(str, report.solved.values())] for report in reports]
    return format_table(rows)


def _paths_table(reports: Sequence[RunReport]) -> str:
    """Distinct paths per problem at each k, and with several runs the paths that only one has."""
    ks = sorted({k for report in reports for k in report.distinct_paths})
    exclusive = ["exclusive"] if len(reports) > 1 else []
    rows = [["paths per problem, solution's included", *(f"k={k}" for k in ks), *exclusive]]
    n_all = reports[-1].funnel.n_distinct
    for report in reports:
        cells = [_show(report.distinct_paths.get(k)) for k in ks]
        if exclusive:
            n_exclusive = report.n_exclusive
            cells.append("-" if n_exclusive is None else f"{_ratio(n_exclusive, n_all) or 0:.1%}")
        rows.append([report.name, *cells])
    return format_table(rows)


def _lengths_table(reports: Sequence[RunReport]) -> str:
    rows = [["mean length", "sampled", "kept", "cut off"]]
    for report in reports:
        is_known = report.tokens["sampled"] is not None
        lengths = report.tokens if is_known else report.characters
        unit = "tokens" if is_known else "characters"
        cells = ["-" if value is None else f"{value:.1f} {unit}" for value in lengths.values()]
        share = (
            "-" if report.n_cut_off is None else f"{report.n_cut_off / report.funnel.n_sampled:.1%}"
        )
        rows.append([report.name, *cells, share])
    return format_table(rows)


def _show(value: tuple[float, float | None] | None) -> str:
    if value is None:
        return "-"
    mean, error = value
    return f"{mean:.2f}" if error is None else f"{mean:.2f} ± {error:.2f}"


EXAMPLE_WIDTH = 160


class DisagreementExample(NamedTuple):
    """A sample that shows a difference."""

    problem_id: ProblemId
    source: int
    sample_id: int
    text: str


# (fate under paper, fate under strict) -> how many samples, and the first of them.
Differences = dict[tuple[Fate, Fate], tuple[int, DisagreementExample]]


def explain(
    problem: Problem,
    completions: Sequence[Sequence[Sample]],
    names: Sequence[str],
    rules: FilterRules,
) -> Iterator[str]:
    """Lines that show a problem and, of every completion, its fate and its text."""
    yield f"problem {problem.problem_id!r}: {problem.question}\n\nsolution:\n{problem.solution}"
    of_all = fates(problem, completions, rules)
    for name, of_run, run_fates in zip(names, completions, of_all, strict=True):
        for completion, fate in zip(of_run, run_fates, strict=True):
            wrong = [
                f"{status} <<{equation}>>"
                for equation in find_equations(completion.completion)
                if (status := check_equation(equation, rules.fidelity)) != "right"
            ]
            details = f" ({', '.join(wrong)})" if wrong else ""
            yield f"\n{name} sample {completion.sample_id}: {fate}{details}"
            yield completion.completion


def compare_problem(
    problem: Problem, completions: Sequence[Sequence[Sample]], rules: FilterRules
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
            example = DisagreementExample(
                problem.problem_id, source, completion.sample_id, completion.completion
            )
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

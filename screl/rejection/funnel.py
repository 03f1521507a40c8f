"""Report the filter's results, per run and for all runs together: the funnel and other tables.

As in arXiv 2308.01825, they show right samples per problem (Table 1), distinct paths per problem by
k (Table 2), how often problems are solved, and the paths that only one model found (Figure 6).
"""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, get_args

import numpy as np

from screl.core.io import format_table
from screl.grading.process_checks import ProcessCheck
from screl.grading.verdict import Think
from screl.rejection.filter import FilterResult, FilterRules

PAPER_KS = (1, 3, 6, 12, 25, 50, 100)  # Table 2
# Share of a problem's samples that are right: the published buckets, for any k.
SOLVED = ("never", "to 20%", "to 40%", "to 60%", "to 80%", "below 100%", "always")
THINKING: dict[Think, str] = {
    "keep": "rows keep it, and it is searched for answer and equations only if nothing follows it",
    "drop": "rows lose it, and it is not searched for answer and equations",
    "only_answer": "rows keep it, and it is not searched for answer and equations",
}


@dataclass(frozen=True, slots=True)
class Funnel:
    """The number of samples that pass each step and, at the end, the numbers of paths and rows."""

    n_sampled: int
    n_answered: int
    n_right: int  # per problem in Table 1
    n_parsed: int  # right, and every equation can be read
    n_valid: int  # and every equation holds
    n_passed: int  # and every process check passes
    n_distinct: int  # distinct paths of these samples
    n_kept: int  # rows written


@dataclass(frozen=True, slots=True)
class RunReport:
    """The filter's results for one run, or for all runs together (named "all")."""

    name: str
    funnel: Funnel
    rejected_by_check: dict[str, int]
    solved: dict[str, int]  # problems by the share of their samples that is right
    distinct_paths: dict[int, tuple[float, float | None]]  # by k: mean per problem, standard error
    n_exclusive: int | None  # paths that no other run has; None for all runs together
    n_cut_off: int | None  # samples that hit max_new_tokens; None if not recorded
    tokens: dict[str, float | None]  # mean length of samples and of kept rows
    characters: dict[str, float | None]


def report_runs(
    names: Sequence[str],
    n_samples: Sequence[int],
    results: Sequence[FilterResult],
    solution_paths: Sequence[str | None],
) -> list[RunReport]:
    """Return a report on every run and, if there are several, on all of them together.

    ``names`` and ``n_samples`` are per run, ``results`` and ``solution_paths`` per problem. As in
    Table 2, ``distinct_paths`` includes the solution's path, so it is at least one.
    """
    reports = [
        _report(name, n, {source}, results, solution_paths)
        for source, (name, n) in enumerate(zip(names, n_samples, strict=True))
    ]
    if len(names) > 1:
        everything = range(len(names))
        reports.append(_report("all", sum(n_samples), everything, results, solution_paths))
    return reports


def reports_to_json(
    reports: Sequence[RunReport], names: Sequence[str], results: Sequence[FilterResult]
) -> dict[str, Any]:
    """Return the results for run.json: row counts, a report per run, and the shared paths."""
    n_kept = [len(result.kept) for result in results]
    total = _add(counts for result in results for counts in result.counts)
    values: dict[str, Any] = {
        "n_problems": len(results),
        "n_problems_without_path": n_kept.count(0),
        "n_rows": len(results) + sum(n_kept),
        "n_on_solution_path": total["solution_path"],
        "n_odd_brackets": total["odd_brackets"],
        "runs": [],
    }
    for report in reports:
        paths = {
            str(k): {"value": value, "standard_error": error}
            for k, (value, error) in report.distinct_paths.items()
        }
        values["runs"].append(asdict(report) | {"distinct_paths": paths})
    if len(names) > 1:
        values["shared_paths"] = shared_paths(names, results)
    return values


def notes(results: Sequence[FilterResult], rules: FilterRules) -> list[str]:
    """Return lines on right samples that are not kept for reasons that users may not expect.

    These are samples that repeat the solution's own path, and equations outside ``<<...>>``.
    """
    total = _add(counts for result in results for counts in result.counts)
    lines = []
    if total["thinking"]:
        lines.append(
            f"{total['thinking']} of {total['sampled']} samples think aloud (<think>), "
            f"{total['only_thinking']} of them to their end; {THINKING[rules.think]}"
        )
    if total["odd_brackets"]:
        lines.append(
            f"{total['odd_brackets']} right samples have an equation that is not closed or in "
            "other brackets than <<...>>; they count as not parsed"
        )
    n_valid = _funnel(total, 0, 0).n_passed
    if rules.path_style == "calculator" and total["no_equation"] > n_valid / 2:
        lines.append(
            f"{total['no_equation']} of {n_valid} passed samples have no <<a=b>> and share one "
            "empty path per problem; --path_style arithmetic reads 3 x 4 = 12, symbolic and text "
            "the rest"
        )
    if rules.fidelity == "strict" and rules.keep == "distinct" and total["solution_path"]:
        n_passed, n_kept = _funnel(total, 0, 0).n_passed, sum(len(r.kept) for r in results)
        lines.append(
            f"{total['solution_path']} of {n_passed} passed samples repeat the solution's own path "
            f"and are not kept: {n_kept} kept samples add {n_kept / len(results):.0%} to the "
            f"{len(results)} solutions. To keep more: more samples or a higher temperature (new "
            "paths), --fidelity paper (one sample on the solution's path too), or --no_dedup (all)"
        )
    return lines


def shared_paths(names: Sequence[str], results: Sequence[FilterResult]) -> list[dict[str, Any]]:
    """Count the paths found by exactly each set of runs: a Venn diagram's cells (Figure 6)."""
    cells = Counter(frozenset(seen) for result in results for seen in result.first_seen.values())
    return [
        {"runs": [names[source] for source in sorted(cell)], "n_paths": count}
        for cell, count in sorted(cells.items(), key=lambda item: (len(item[0]), sorted(item[0])))
    ]


def report_tables(reports: Sequence[RunReport], n_problems: int) -> str:
    """Format the reports as tables for a terminal."""
    tables = [_funnel_table(reports, n_problems)]
    if any(report.funnel.n_passed < report.funnel.n_valid for report in reports):
        tables.append(_checks_table(reports))
    tables += [_solved_table(reports), _paths_table(reports), _lengths_table(reports)]
    return "\n\n".join(tables)


def _report(
    name: str,
    n_samples: int,
    sources: Collection[int],
    results: Sequence[FilterResult],
    solution_paths: Sequence[str | None],
) -> RunReport:
    per_problem = [_add(result.counts[source] for source in sources) for result in results]
    total = _add(per_problem)
    paths = [_first_seen(result, sources) for result in results]
    kept = [c for result in results for c in result.kept if c.source in sources]
    kept_tokens = [c.sample.n_tokens for c in kept if c.sample.n_tokens is not None]
    n_known = total["tokens_known"]
    return RunReport(
        name=name,
        funnel=_funnel(total, sum(map(len, paths)), len(kept)),
        rejected_by_check={check: total[check] for check in get_args(ProcessCheck)},
        solved=_solved(per_problem),
        distinct_paths=_distinct_paths(n_samples, len(sources) > 1, paths, solution_paths),
        n_exclusive=_n_exclusive(results, sources) if len(sources) == 1 else None,
        n_cut_off=total["cut_off"] if n_known else None,
        tokens={
            "sampled": _ratio(total["tokens"], n_known),
            "kept": _ratio(sum(kept_tokens), len(kept_tokens)),
        },
        characters={
            "sampled": _ratio(total["characters"], total["sampled"]),
            "kept": _ratio(sum(len(c.text) for c in kept), len(kept)),
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
    n_answered = total["sampled"] - total["no_answer"] - total["not_verified"]
    n_right = n_answered - total["wrong_answer"]
    n_parsed = n_right - total["unparsed_equation"]
    n_valid = n_parsed - total["false_equation"]
    n_passed = n_valid - total["process_check"]
    return Funnel(
        total["sampled"], n_answered, n_right, n_parsed, n_valid, n_passed, n_distinct, n_kept
    )


def _first_seen(result: FilterResult, sources: Collection[int]) -> dict[str, int]:
    """Return, for each path found in ``sources``, its first sample_id in any of them."""
    return {
        path: min(seen[source] for source in seen.keys() & set(sources))
        for path, seen in result.first_seen.items()
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
    solution_paths: Sequence[str | None],
) -> dict[int, tuple[float, float | None]]:
    ks = [] if only_all else [k for k in PAPER_KS if k < n_samples]
    curve = {}
    for k in [*ks, n_samples]:
        counts = [
            len(
                {solution_path, *(path for path, first in of_problem.items() if first < k)} - {None}
            )
            for of_problem, solution_path in zip(paths, solution_paths, strict=True)
        ]
        error = float(np.std(counts, ddof=1)) / math.sqrt(len(counts)) if len(counts) > 1 else None
        curve[k] = (float(np.mean(counts)), error)
    return curve


def _n_exclusive(results: Sequence[FilterResult], sources: Collection[int]) -> int:
    return sum(
        seen.keys() == set(sources) for result in results for seen in result.first_seen.values()
    )


def _funnel_table(reports: Sequence[RunReport], n_problems: int) -> str:
    rows = [["samples", *(field.name.removeprefix("n_") for field in fields(Funnel))]]
    for report in reports:
        counts = list(asdict(report.funnel).values())
        rows.append([report.name, *map(str, counts)])
        rows.append(["  per problem", *(f"{count / n_problems:.2f}" for count in counts)])
    return format_table(rows)


def _checks_table(reports: Sequence[RunReport]) -> str:
    rows = [["valid samples that fail", *get_args(ProcessCheck)]]
    for report in reports:
        counts = report.rejected_by_check.values()
        shares = [f"{_ratio(count, report.funnel.n_valid) or 0:.1%}" for count in counts]
        rows.append([report.name, *shares])
    return format_table(rows)


def _solved_table(reports: Sequence[RunReport]) -> str:
    rows = [["problems by share of right samples", *SOLVED]]
    rows += [[report.name, *map(str, report.solved.values())] for report in reports]
    return format_table(rows)


def _paths_table(reports: Sequence[RunReport]) -> str:
    ks = sorted({k for report in reports for k in report.distinct_paths})
    exclusive = ["exclusive"] if len(reports) > 1 else []
    rows = [["paths per problem, solution's included", *(f"k={k}" for k in ks), *exclusive]]
    n_all = reports[-1].funnel.n_distinct
    for report in reports:
        cells = [_mean_and_error(report.distinct_paths.get(k)) for k in ks]
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
        n_cut_off, n_sampled = report.n_cut_off, report.funnel.n_sampled
        cells.append("-" if n_cut_off is None else f"{n_cut_off / n_sampled:.1%}")
        rows.append([report.name, *cells])
    return format_table(rows)


def _mean_and_error(value: tuple[float, float | None] | None) -> str:
    if value is None:
        return "-"
    mean, error = value
    return f"{mean:.2f}" if error is None else f"{mean:.2f} ± {error:.2f}"

"""Build the entries of metrics.json, one per SAMPLES; values are in percent.

Users' scripts read this file: keys may be added, but none may change its name or meaning.
"""

from collections.abc import Sequence
from typing import Any

from screl.grading.verifiers import record_verifier
from screl.samples.reader import Run
from screl.scoring.breakdown import GroupScore
from screl.scoring.comparison import compare_seeds, summarize_seeds
from screl.scoring.grader_panel import ProblemPanel, score_graders
from screl.scoring.score import RunScore
from screl.scoring.statistics import Difference, Metric

Entry = dict[str, Any]
Entries = list[Entry]


def score_entry(score: RunScore) -> Entry:
    """Return the entry of a run that was scored."""
    return {
        "run": score.run,
        "data_path": score.data_path,
        "fidelity": score.rules.fidelity,
        "grader": score.rules.grader,
        **record_verifier(score.rules.verifier, score.failures),
        "n_problems": len(score.problems),
        "n_problems_left_out": len(score.left_out),
        "n_samples": score.n_samples,
        "metrics": {name: _metric_entry(metric) for name, metric in score.metrics.items()},
    }


def add_differences(entries: Entries, differences: Sequence[dict[str, Difference] | None]) -> None:
    """Add to each later run its differences from the first, in points, if they are comparable."""
    for entry, by_metric in zip(entries[1:], differences, strict=True):
        if by_metric is not None:
            entry["difference_to_first"] = {name: d._asdict() for name, d in by_metric.items()}


def add_breakdowns(entries: Entries, key: str, breakdowns: Sequence[Sequence[GroupScore]]) -> None:
    """Add the groups by ``key`` to each run's entry; the entry of seeds, the last one, has none."""
    for entry, groups in zip(entries, breakdowns, strict=False):
        entry.setdefault("breakdown", {})[key] = [
            {
                "group": group.name,
                "n_problems": group.n_problems,
                "n_completions": group.n_completions,
                "metrics": {
                    name: {"value": value, "standard_error": error}
                    for name, (value, error) in group.scores.items()
                },
            }
            for group in groups
        ]


def seeds_entry(seeds: Sequence[RunScore], baseline: Sequence[RunScore]) -> Entry:
    """Return the entry of all seeds together, which follows the entries of the single runs."""
    entry: Entry = {
        "run": f"{len(seeds)} seeds",
        "seeds": [score.run for score in seeds],
        "metrics": {
            name: mean._asdict() | spread._asdict()
            for name, (mean, spread) in summarize_seeds(seeds).items()
        },
    }
    if baseline:
        entry["baseline"] = [score.run for score in baseline]
        differences = compare_seeds(baseline, seeds)
        entry["difference_to_baseline"] = {name: d._asdict() for name, d in differences.items()}
    return entry


def grader_entry(
    run: Run, data_path: str, n_problems: int, panels: Sequence[ProblemPanel]
) -> Entry:
    """Return the entry of a run under --graders, which has no other scores."""
    return {
        "run": run.name,
        "data_path": data_path,
        "n_problems": len(panels),
        "n_problems_left_out": n_problems - len(panels),
        "n_samples": run.n_samples,
        "n_completions": sum(panel.n_completions for panel in panels),
        "graders": {name: score._asdict() for name, score in score_graders(panels).items()},
    }


def _metric_entry(metric: Metric) -> Entry:
    entry: Entry = {
        "value": metric.value,
        "standard_error": metric.standard_error,
        "interval": metric.interval,
    }
    return entry if metric.n_correct is None else entry | {"n_correct": metric.n_correct}

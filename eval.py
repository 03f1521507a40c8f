"""Score samples: maj1@1 of greedy runs; mean@1, maj1@k, and pass@k of K samples per problem.

    python eval.py SAMPLES [SAMPLES2 ...] --data_path data/test_use.jsonl --output_path metrics.json
    python eval.py SEED0 SEED1 SEED2 --seeds --baseline OLD0 OLD1 OLD2
    python eval.py                      # list the stores under ./runs, with progress and scores

SAMPLES is a sample store, a folder or file in the published layout (raw_generation_*.json), or a
JSONL file of completions. Scores are in percent, ± the standard error over problems; [low, high]
is a 95% bootstrap interval over problems. Each later SAMPLES is compared with the first.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from screl.core.config import parse_config, run_main, show_config
from screl.core.cost import PROCESSORS, Stopwatch
from screl.core.io import sibling, write_atomic, write_json
from screl.core.run_info import write_run_info
from screl.grading.verifiers import failure_lines
from screl.scoring import metrics_json, report
from screl.scoring.breakdown import break_down, mistake_lines
from screl.scoring.comparison import changes_from_first, check_seeds, compare_with_first
from screl.scoring.config import EvalConfig, check_eval_options
from screl.scoring.grader_panel import grade_run, grader_report
from screl.scoring.metrics_json import Entries
from screl.scoring.runs import ScoringInput, open_inputs, store_table
from screl.scoring.score import score_runs

NO_RUNS = "no samples under ./runs yet; make some: bash scripts/quickstart.sh (or sample.py)"


def main() -> None:
    """Open the samples, score them, and print and save the results."""
    config = parse_config(EvalConfig, doc=__doc__)
    stopwatch = Stopwatch()
    check_eval_options(config)
    if config.dry_run:
        print(show_config(config))
    if not config.samples:
        print(store_table(Path("runs"), config.rules()) or NO_RUNS)
        return
    inputs = open_inputs(config)
    if config.dry_run:
        return
    entries, shares = compare_graders(inputs) if config.graders else score_all(config, inputs)
    if config.output_path:
        write_json(config.output_path, entries)
        results = shares | {"cost": stopwatch.time_of(PROCESSORS)}
        run_json = sibling(config.output_path, ".run.json")
        write_run_info(run_json, config, stopwatch.started, results)


def score_all(config: EvalConfig, inputs: Sequence[ScoringInput]) -> tuple[Entries, dict[str, Any]]:
    """Print all tables and write the changes and mistakes.

    Returns the entries of metrics.json, and each run's shares for run.json.
    """
    scores = [score_runs(i.runs, i.problems, i.data_path, i.rules) for i in inputs]
    for warning in filter(None, map(report.partial_warning, scores)):
        print(warning, file=sys.stderr)
    for score in scores:
        for line in failure_lines(score.failures):
            print(line if line.startswith(" ") else f"{score.run}: {line}", file=sys.stderr)
    entries = [metrics_json.score_entry(score) for score in scores]
    print(report.score_report(scores, with_curves=not config.seeds))
    if config.seeds:
        seeds, baseline = scores[: len(config.samples)], scores[len(config.samples) :]
        check_seeds(seeds, baseline)
        entries.append(metrics_json.seeds_entry(seeds, baseline))
        print(f"\n{report.seed_report(seeds, baseline)}")
    elif len(scores) > 1:
        differences = compare_with_first(scores)
        metrics_json.add_differences(entries, differences)
        print(f"\n{report.difference_report(scores, differences)}")
    for key in config.breakdown:
        breakdowns = [break_down(score, key) for score in scores]
        metrics_json.add_breakdowns(entries, key, breakdowns)
        print(f"\n{report.breakdown_report(key, scores, breakdowns)}")
    if config.changes_path:
        rows = changes_from_first(scores)
        write_atomic(config.changes_path, (orjson.dumps(row).decode() + "\n" for row in rows))
    if config.errors_path:
        print(f"\n{write_mistakes(config.errors_path, inputs)}")
    shares = ("share_without_answer", "share_cut_off")
    return entries, {score.run: {key: getattr(score, key) for key in shares} for score in scores}


def write_mistakes(path: Path, inputs: Sequence[ScoringInput]) -> str:
    """Write each wrong completion and return a table that counts them by kind."""
    counts: list[Counter[str]] = [Counter() for _ in inputs]

    def lines() -> Iterator[str]:
        for source, source_counts in zip(inputs, counts, strict=True):
            yield from mistake_lines(source.problems, source.runs, source.rules, source_counts)

    write_atomic(path, lines())
    return report.mistake_table([str(source.path) for source in inputs], counts)


def compare_graders(inputs: Sequence[ScoringInput]) -> tuple[Entries, dict[str, Any]]:
    """Print the verdicts of six graders on each run; return the metrics.json entries, no shares."""
    entries: Entries = []
    for _, data_path, problems, runs, _ in inputs:
        for run in runs:
            panels = grade_run(run, problems)
            print(("\n" if entries else "") + grader_report(run, panels))
            entries.append(metrics_json.grader_entry(run, str(data_path), len(problems), panels))
    return entries, {}


if __name__ == "__main__":
    run_main(main)

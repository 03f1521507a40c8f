"""Score samples: maj1@1 of greedy ones; mean@1, maj1@k and pass@k of K samples per problem.

    python eval.py SAMPLES [SAMPLES2 ...] --data_path data/test_use.jsonl --output_path metrics.json
    python eval.py SEED0 SEED1 SEED2 --seeds --baseline OLD0 OLD1 OLD2
    python eval.py                      # what is under ./runs, how far it is, and its scores

SAMPLES is a sample store, or a folder or file in the published layout (raw_generation_*.json), or
a JSONL file of completions. Scores are in percent, ± the standard error over problems; [low, high]
is a 95 % bootstrap interval over problems. Every later SAMPLES is compared with the first.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from screl.core.config import parse_config, run_main, show_config
from screl.core.cost import PROCESSORS, Cost, Stopwatch, cost_to_json
from screl.core.io import UserError, refuse_to_overwrite, sibling, write_atomic, write_json
from screl.core.problems import Problem, load_problems
from screl.core.run_info import write_run_info
from screl.samples.reader import Run, find_data_path, open_and_report, refuse_repeats
from screl.scoring.breakdown import check_key, mistake_lines
from screl.scoring.config import EvalConfig, check_options
from screl.scoring.report import (
    Entries,
    breakdown_report,
    changes,
    difference_report,
    mistake_table,
    partial_warning,
    score_report,
    seed_report,
)
from screl.scoring.runs import store_table
from screl.scoring.score import RunScore, ScoreRules, score_runs, score_to_json

NO_RUNS = "no samples under ./runs yet; make some: bash scripts/quickstart.sh (or sample.py)"


class Opened(NamedTuple):
    """What is at one of the given paths."""

    path: Path
    data_path: Path
    problems: list[Problem]
    runs: list[Run]


def main() -> None:
    """Load, score, print, save."""
    config = parse_config(EvalConfig, doc=__doc__)
    stopwatch = Stopwatch()
    check_options(config)
    if config.dry_run:
        print(show_config(config))
    if not config.samples:
        print(store_table(Path("runs"), ScoreRules(config.fidelity, config.grader)) or NO_RUNS)
        return
    opened = open_all(config)
    if config.dry_run:
        return
    entries, shares = grade(opened) if config.graders else score(config, opened)
    if config.output_path:
        write_json(config.output_path, entries)
        cost = cost_to_json(Cost(0.0, 0, stopwatch.time_of(PROCESSORS)))
        run_json = sibling(config.output_path, ".run.json")
        write_run_info(run_json, config, stopwatch.started, shares | {"cost": cost})


def open_all(config: EvalConfig) -> list[Opened]:
    """SAMPLES, and the baseline's after them; refuses what cannot end well before it is read."""
    paths = [*config.samples, *config.baseline]
    data_paths = [find_data_path(path, config.data_path) for path in paths]
    refuse_repeats(paths)
    outputs = [config.output_path, config.changes_path, config.errors_path]
    if config.output_path:
        outputs.append(sibling(config.output_path, ".run.json"))
    refuse_to_overwrite([path for path in outputs if path], [*data_paths, *paths])
    problems = {data_path: load_problems(data_path) for data_path in set(data_paths)}
    for by in config.breakdown:
        for data_path in problems:
            check_key(problems[data_path], by, data_path)
    stream = sys.stdout if config.dry_run else sys.stderr
    opened = []
    for path, data_path in zip(paths, data_paths, strict=True):
        of = problems[data_path]
        runs = open_and_report(path, data_path, of, "test", stream, config.allow_partial)
        if any(run.is_adaptive for run in runs):
            raise UserError(
                f"{path}: was sampled with --until_correct, more where answers were wrong; its "
                "scores would be too low: score a run with --n_samples"
            )
        opened.append(Opened(path, data_path, of, runs))
    return opened


def score(config: EvalConfig, opened: list[Opened]) -> tuple[Entries, dict[str, Any]]:
    """Print all tables, write what was asked for beside metrics.json.

    Returns the entries of metrics.json, and the shares that go to run.json.
    """
    rules = ScoreRules(config.fidelity, config.grader)
    scores = [score_runs(of.runs, of.problems, of.data_path, rules) for of in opened]
    for warning in filter(None, map(partial_warning, scores)):
        print(warning, file=sys.stderr)
    entries = [score_to_json(score) for score in scores]
    print(score_report(scores, with_curves=not config.seeds))
    n_seeds = len(config.samples)
    if config.seeds:
        print(f"\n{seed_report(scores[:n_seeds], scores[n_seeds:], entries)}")
    elif len(scores) > 1:
        print(f"\n{difference_report(scores, entries)}")
    for by in config.breakdown:
        print(f"\n{breakdown_report(scores, by, entries)}")
    if config.changes_path:
        lines = (orjson.dumps(row).decode() + "\n" for row in changes(scores))
        write_atomic(config.changes_path, lines)
    if config.errors_path:
        print(f"\n{write_errors(config.errors_path, opened, rules)}")
    return entries, {score.run: shares_of(score) for score in scores}


def write_errors(path: Path, opened: list[Opened], rules: ScoreRules) -> str:
    """Write every wrong completion to ``path``; a table of how many of which kind there are."""
    counts: list[Counter[str]] = [Counter() for _ in opened]

    def lines() -> Iterator[str]:
        for of_path, of_counts in zip(opened, counts, strict=True):
            yield from mistake_lines(of_path.problems, of_path.runs, rules, of_counts)

    write_atomic(path, lines())
    return mistake_table([str(of_path.path) for of_path in opened], counts)


def grade(opened: list[Opened]) -> tuple[Entries, dict[str, Any]]:
    """Print what every grader makes of every run; the entries of metrics.json, and nothing else."""
    from screl.scoring.grader_panel import grade_run, grader_entry, grader_report

    entries: Entries = []
    for _, data_path, problems, runs in opened:
        for run in runs:
            panels = grade_run(run, problems)
            print(("\n" if entries else "") + grader_report(run, panels))
            entries.append(grader_entry(run, str(data_path), len(problems), panels))
    return entries, {}


def shares_of(score: RunScore) -> dict[str, float | None]:
    """For run.json."""
    return {
        "share_without_answer": score.share_without_answer,
        "share_cut_off": score.share_cut_off,
    }


if __name__ == "__main__":
    run_main(main)

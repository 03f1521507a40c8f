"""RFT data: the solutions plus one right sample for each distinct equation path.

    python collect_rejection_sampling.py --data_path data/train_use.jsonl --samples SAMPLES \\
        --output_path rft.jsonl
    python collect_rejection_sampling.py --data_path data/train_use.jsonl --samples A B C D \\
        --output_path u13b.jsonl --fidelity paper
    python collect_rejection_sampling.py --data_path D --samples SAMPLES --compare
    python collect_rejection_sampling.py --data_path D --samples SAMPLES --explain PROBLEM_ID

Several SAMPLES are pooled and selected from once (the paper's union, U13B). SAMPLES is a sample
store, a folder or file in the published layout (raw_generation_*.json), or JSONL of completions.
rft.sources.jsonl (the run and sample of each row) and rft.run.json (the funnel) go beside it.
"""

import sys
from pathlib import Path
from typing import Any

from screl.core.config import parse_config, run_main, show_config
from screl.core.cost import PROCESSORS, Cost, Stopwatch, cost_to_json
from screl.core.io import UserError, sibling, write_atomic
from screl.core.problems import Problem, load_problems
from screl.core.run_info import write_run_info
from screl.grading.answers import gold_answers
from screl.grading.equations import equation_path
from screl.rejection.config import CollectConfig, check_options, rules_of
from screl.rejection.filter import (
    ProblemState,
    filter_problems,
    source_rows,
    training_rows,
)
from screl.rejection.report import (
    compare_problem,
    comparison_report,
    explain,
    funnel_to_json,
    merge,
    report_runs,
    report_tables,
    shared_paths,
)
from screl.samples.reader import Run, map_problems, open_and_tell, read_completions


def main() -> None:
    """Load, select, write, print the funnel."""
    config = parse_config(CollectConfig, doc=__doc__)
    stopwatch = Stopwatch()
    check_options(config)
    if config.dry_run:
        print(show_config(config))
    problems = load_problems(config.data_path)
    for fidelity in {config.fidelity, "paper", "strict"} if config.compare else {config.fidelity}:
        gold_answers(problems, config.data_path, fidelity)
    if config.dry_run:
        open_all(config, problems)
        print(f"{config.output_path}: would be written")
    elif config.explain is not None:
        explain_problem(config, config.explain, problems, open_all(config, problems))
    elif config.compare:
        compare(config, problems, open_all(config, problems))
    elif config.output_path is not None:  # as check() made sure
        collect(config, config.output_path, problems, stopwatch)


def open_all(config: CollectConfig, problems: list[Problem]) -> list[Run]:
    """Open the runs of all SAMPLES, in their order."""
    stream = sys.stdout if config.dry_run else sys.stderr
    rest = (stream, config.allow_partial, config.k, config.n_workers)
    runs = []
    for path in config.samples:
        runs += open_and_tell(path, config.data_path, problems, "train", *rest)
    return runs


def collect(
    config: CollectConfig, output: Path, problems: list[Problem], stopwatch: Stopwatch
) -> None:
    """Filter, write the RFT data and its sources, print the funnel."""
    runs = open_all(config, problems)
    states = filter_problems(problems, runs, rules_of(config), n_workers=config.n_workers)
    write_atomic(output, training_rows(problems, states))
    names = [run.name for run in runs]
    write_atomic(sibling(output, ".sources.jsonl"), source_rows(problems, states, names))
    report(config, output, problems, runs, states, stopwatch)


def report(
    config: CollectConfig,
    output: Path,
    problems: list[Problem],
    runs: list[Run],
    states: list[ProblemState],
    stopwatch: Stopwatch,
) -> None:
    """Print the funnel; write it to run.json."""
    names = [run.name for run in runs]
    solution_paths = [equation_path(problem.solution, config.fidelity) for problem in problems]
    reports = report_runs(names, [run.n_samples for run in runs], states, solution_paths)
    n_kept = [len(state.kept) for state in states]
    kept = "paths" if rules_of(config).keep == "distinct" else "samples"
    counts: dict[str, Any] = {
        "n_problems": len(problems),
        "n_problems_without_path": n_kept.count(0),
        "n_rows": len(problems) + sum(n_kept),
    }
    results = counts | {"runs": [funnel_to_json(of_run) for of_run in reports]}
    if len(runs) > 1:
        results["shared_paths"] = shared_paths(names, states)
    run_json, time = sibling(output, ".run.json"), stopwatch.time_of(PROCESSORS)
    results["cost"] = cost_to_json(Cost(0.0, 0, time))
    write_run_info(run_json, config, stopwatch.started, results)
    print(f"{report_tables(reports, len(problems))}\n")
    print(
        f"{output}: {counts['n_rows']} rows = {len(problems)} solutions + {sum(n_kept)} {kept}; "
        f"{counts['n_problems_without_path']} problems got none"
    )


def explain_problem(
    config: CollectConfig, problem_id: str, problems: list[Problem], runs: list[Run]
) -> None:
    """Print every completion of one problem with what becomes of it."""
    ids = [str(problem.problem_id) for problem in problems]
    if problem_id not in ids:
        raise UserError(f"{config.data_path}: no problem_id {problem_id!r}; they are like {ids[0]}")
    position = ids.index(problem_id)
    ((problem, completions),) = read_completions(problems, runs, position, position + 1)
    print("\n".join(explain(problem, completions, [run.name for run in runs], rules_of(config))))


def compare(config: CollectConfig, problems: list[Problem], runs: list[Run]) -> None:
    """Print what the two fidelities treat differently."""
    rules = rules_of(config)
    parts = map_problems(compare_problem, problems, runs, rules, n_workers=config.n_workers)
    differences = merge(parts)
    print(comparison_report(differences, [run.name for run in runs]))


if __name__ == "__main__":
    run_main(main)

"""Make the RFT data: every solution, plus one right sample for each distinct equation path.

    python collect_rejection_sampling.py --data_path data/train_use.jsonl --samples SAMPLES \\
        --output_path rft.jsonl
    python collect_rejection_sampling.py --data_path data/train_use.jsonl --samples A B C D \\
        --output_path u13b.jsonl --fidelity paper
    python collect_rejection_sampling.py --data_path D --samples SAMPLES --compare
    python collect_rejection_sampling.py --data_path D --samples SAMPLES --explain PROBLEM_ID

Several SAMPLES are pooled before the selection (the paper's union, U13B). SAMPLES is a sample
store, a folder or file in the published layout (raw_generation_*.json), or JSONL of completions.
Two more files are written next to rft.jsonl: rft.sources.jsonl (the run and sample of each row) and
rft.run.json (the funnel).
"""

import sys
from pathlib import Path

from screl.core.config import parse_config, run_main, say, show_config
from screl.core.cost import PROCESSORS, Stopwatch
from screl.core.io import UserError, sibling, write_atomic
from screl.core.problems import Problem
from screl.core.run_info import write_run_info
from screl.grading.styles import load_judged_problems
from screl.grading.verdict import as_published, require_golds
from screl.grading.verifiers import failure_lines, record_verifier
from screl.rejection.config import CollectConfig, check_options, rules_of
from screl.rejection.explain import compare_problem, compare_report, explain_problem
from screl.rejection.filter import FilterRules, filter_problems, source_rows, training_rows
from screl.rejection.funnel import notes, report_runs, report_tables, reports_to_json
from screl.samples.reader import Run, map_problems, open_and_report, read_completions


def main() -> None:
    """Load the problems and open the runs, then collect, explain, or compare."""
    config = parse_config(CollectConfig, doc=__doc__)
    stopwatch = Stopwatch()
    check_options(config)
    if config.dry_run:
        print(show_config(config))
    problems, rules = load_judged_problems(config.data_path, config.keys, rules_of(config), say)
    require_golds(problems, config.data_path, rules)
    if config.compare:
        require_golds(problems, config.data_path, as_published(rules))
    position = None if config.explain is None else find_problem(config, config.explain, problems)
    runs = open_all(config, problems)
    if config.dry_run:
        print(f"{config.output_path}: would be written")
    elif position is not None:
        explain(rules, position, problems, runs)
    elif config.compare:
        compare(config, rules, problems, runs)
    elif config.output_path is not None:  # as check_options made sure
        collect(config, rules, config.output_path, problems, runs, stopwatch)


def open_all(config: CollectConfig, problems: list[Problem]) -> list[Run]:
    """Open the runs of all SAMPLES, in the given order."""
    stream = sys.stdout if config.dry_run else sys.stderr
    rest = (stream, config.allow_partial, config.k, config.n_workers)
    runs = []
    for path in config.samples:
        runs += open_and_report(path, config.data_path, problems, "train", *rest)
    return runs


def collect(
    config: CollectConfig, rules: FilterRules, output: Path, problems: list[Problem],
    runs: list[Run], stopwatch: Stopwatch,
) -> None:  # fmt: skip
    """Filter, write the RFT data, its sources and run.json, and print the funnel."""
    names = [run.name for run in runs]
    results = filter_problems(problems, runs, rules, n_workers=config.n_workers)
    write_atomic(output, training_rows(problems, results, rules))
    write_atomic(sibling(output, ".sources.jsonl"), source_rows(problems, results, names))
    solution_paths = [result.solution_path for result in results]
    reports = report_runs(names, [run.n_samples for run in runs], results, solution_paths)
    info = reports_to_json(reports, names, results)
    n_solutions = sum(bool(problem.solution) for problem in problems)
    info["n_rows"] -= len(problems) - n_solutions  # with only an answer, there is none
    failures = {p.problem_id: result.failures for p, result in zip(problems, results, strict=True)}
    info |= record_verifier(rules.verifier, failures)
    info["cost"] = stopwatch.time_of(PROCESSORS)
    write_run_info(sibling(output, ".run.json"), config, stopwatch.started, info)
    kept = "paths" if rules.keep == "distinct" else "samples"
    print(
        f"{report_tables(reports, len(problems))}\n\n"
        f"{output}: {info['n_rows']} rows = {n_solutions} solutions + "
        f"{info['n_rows'] - n_solutions} {kept}; "
        f"{info['n_problems_without_path']} problems got none"
    )
    for note in [*notes(results, rules), *failure_lines(failures)]:
        print(note)


def find_problem(config: CollectConfig, problem_id: str, problems: list[Problem]) -> int:
    """Return the position of a problem; raise UserError if it does not exist."""
    ids = [str(problem.problem_id) for problem in problems]
    if problem_id not in ids:
        raise UserError(f"{config.data_path}: no problem_id {problem_id!r}; ids look like {ids[0]}")
    return ids.index(problem_id)


def explain(rules: FilterRules, position: int, problems: list[Problem], runs: list[Run]) -> None:
    """Print what happens to every sample of one problem."""
    names = [run.name for run in runs]
    ((problem, samples),) = read_completions(problems, runs, position, position + 1)
    print("\n".join(explain_problem(problem, samples, names, rules)))


def compare(
    config: CollectConfig, rules: FilterRules, problems: list[Problem], runs: list[Run]
) -> None:
    """Print where the two fidelities differ."""
    found = map_problems(compare_problem, problems, runs, rules, n_workers=config.n_workers)
    print(compare_report(found, [run.name for run in runs]))


if __name__ == "__main__":
    run_main(main)

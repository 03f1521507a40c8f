"""RFT data: the solutions plus one right sample for each distinct equation path.

    python collect_rejection_sampling.py --data_path data/train_use.jsonl --samples SAMPLES \\
        --output_path rft.jsonl
    python collect_rejection_sampling.py --data_path data/train_use.jsonl --samples A B C D \\
        --output_path u13b.jsonl --fidelity paper
    python collect_rejection_sampling.py --data_path D --samples SAMPLES --compare
    python collect_rejection_sampling.py --data_path D --samples SAMPLES --explain PROBLEM_ID

Several SAMPLES are pooled and selected from once (the paper's union, U13B). SAMPLES is a sample
store, a folder or file in the published layout (raw_generation_*.json), or JSONL of completions.
Beside rft.jsonl go rft.sources.jsonl (of each row its run and sample), rft.run.json (the funnel),
and rft.state.jsonl, by which the same command goes on when there are more samples.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from screl.answers import Fidelity, gold_answers
from screl.completions import Run, map_problems, read_completions
from screl.config import option, parse_config, run_main, show_config
from screl.equations import equation_path
from screl.fidelity_report import compare_problem, comparison_report, explain, merge
from screl.files import UserError, beside, refuse_to_overwrite, write_atomic
from screl.filter_state import SavedState, read_state, save_state
from screl.funnel import report_runs, report_tables, shared_paths, to_json
from screl.inputs import open_and_tell, refuse_repeats
from screl.problems import Problem, load_problems
from screl.process_checks import ProcessCheck
from screl.rejection import ProblemState, Rules
from screl.rft_data import filter_problems, source_rows, training_rows
from screl.run_cost import PROCESSORS, Cost, Stopwatch, add_session, cost_to_json, read_cost
from screl.run_info import write_run_info
from screl.sample_index import NOTHING
from screl.selection import Keep

KEEP: dict[str, Keep] = {"none": "distinct", "rows": "random_rows", "tokens": "random_tokens"}


@dataclass(frozen=True)
class CollectConfig:
    """Options of collect_rejection_sampling.py."""

    data_path: Path = option('the problems sampled: JSONL of {"query", "response"}')
    samples: tuple[Path, ...] = option("sample stores, or folders or files as published, or JSONL")
    output_path: Path | None = option("the RFT data; not for --compare and --explain", None)
    fidelity: Fidelity = option("strict: exact numbers; paper: as the published code", "strict")
    k: int | None = option("use the first k samples per problem of every run; else all", None)
    process_checks: tuple[ProcessCheck, ...] = option(
        "also reject right answers with: unused_result, last_equation_not_answer, "
        "unexplained_number",
        (),
    )
    no_dedup: bool = option("keep every right sample, not one per path", False)
    control: Literal["none", "rows", "tokens"] = option(
        "keep random right samples instead, as many rows, or tokens, a problem as would be kept",
        "none",
    )
    seed: int = option("of --control", 0)
    compare: bool = option("print what paper and strict treat differently; write nothing", False)
    explain: str | None = option("print what becomes of every sample of this problem_id", None)
    allow_partial: bool = option("use what is there of an unfinished run", False)
    n_workers: int | None = option("processes; not given: one a processor", None)
    dry_run: bool = option("print the resolved config and what would be read, then stop", False)


def main() -> None:
    """Load, select, write, print the funnel."""
    config = parse_config(CollectConfig, doc=__doc__)
    stopwatch = Stopwatch()
    check(config)
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


def check(config: CollectConfig) -> None:
    """UserError for options that contradict each other, and for outputs that are inputs."""
    refuse_repeats(config.samples)
    if config.no_dedup and config.control != "none":
        raise UserError("--no_dedup keeps every right sample; leave out --control or --no_dedup")
    if config.output_path is None:
        if config.explain is None and not config.compare:
            raise UserError("where to? give --output_path RFT.jsonl")
        return
    endings = (".run.json", ".sources.jsonl", ".state.jsonl")
    outputs = [config.output_path, *(beside(config.output_path, ending) for ending in endings)]
    refuse_to_overwrite(outputs, [config.data_path, *config.samples])


def rules_of(config: CollectConfig) -> Rules:
    """How samples are judged and chosen."""
    keep = "all" if config.no_dedup else KEEP[config.control]
    return Rules(config.fidelity, config.process_checks, keep, config.seed)


def open_all(
    config: CollectConfig, problems: list[Problem], saved: SavedState | None = None
) -> list[Run]:
    """The runs of all SAMPLES, in their order, without what is saved of them."""
    stream = sys.stdout if config.dry_run else sys.stderr
    rest = (stream, config.allow_partial, config.k, config.n_workers)
    runs = []
    for path in config.samples:
        known = saved.known(str(path)) if saved else NOTHING
        runs += open_and_tell(path, config.data_path, problems, "train", *rest, known)
    return runs


def collect(
    config: CollectConfig, output: Path, problems: list[Problem], stopwatch: Stopwatch
) -> None:
    """Filter, write the RFT data and what lies beside it, print the funnel."""
    rules = rules_of(config)
    state_path = beside(output, ".state.jsonl")
    saved = None
    if rules.keep == "distinct":  # what the others keep depends on all samples at once
        saved = read_state(state_path, rules, config.data_path)
    runs = open_all(config, problems, saved)
    if saved and not saved.is_continued_by(runs, config.fidelity):
        saved, runs = None, open_all(config, problems)
    known = None
    if saved:
        print(f"{state_path}: going on from there", file=sys.stderr)
        known = {p.problem_id: s for p, s in zip(problems, saved.states, strict=True)}
    states = filter_problems(problems, runs, rules, known, config.n_workers)
    write_atomic(output, training_rows(problems, states))
    names = [run.name for run in runs]
    write_atomic(beside(output, ".sources.jsonl"), source_rows(problems, states, names))
    if rules.keep == "distinct":
        save_state(state_path, states, rules, config.data_path, runs, saved)
    report(config, output, problems, runs, states, stopwatch, goes_on=saved is not None)


def report(
    config: CollectConfig,
    output: Path,
    problems: list[Problem],
    runs: list[Run],
    states: list[ProblemState],
    stopwatch: Stopwatch,
    goes_on: bool,
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
    results = counts | {"runs": [to_json(of_run) for of_run in reports]}
    if len(runs) > 1:
        results["shared_paths"] = shared_paths(names, states)
    run_json, time = beside(output, ".run.json"), stopwatch.time_of(PROCESSORS)
    if goes_on:
        before = read_cost(run_json)
        time = add_session(before.time if before else None, time)
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

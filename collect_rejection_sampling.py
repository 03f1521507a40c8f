"""RFT data: the solutions plus one right sample for each distinct equation path.

    python collect_rejection_sampling.py --data_path data/train_use.jsonl --samples SAMPLES \\
        --output_path rft.jsonl
    python collect_rejection_sampling.py --data_path data/train_use.jsonl --samples A B C D \\
        --output_path u13b.jsonl --fidelity paper

Several SAMPLES are pooled in the order given and selected from once (the paper's union, U13B).
SAMPLES is a sample store, or a folder or file in the published layout (raw_generation_*.json).
"""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from screl.answers import Fidelity, gold_answers
from screl.completions import Completions, load_completions, other_data_warning
from screl.config import option, parse_config, run_main, show_config
from screl.files import UserError, refuse_to_overwrite, write_atomic
from screl.problems import Problem, load_problems
from screl.rejection import Selection, add_funnels, funnel_table, reject_samples
from screl.run_info import write_run_info


@dataclass(frozen=True)
class CollectConfig:
    """Options of collect_rejection_sampling.py."""

    data_path: Path = option('the problems sampled: JSONL of {"query", "response"}')
    samples: tuple[Path, ...] = option("sample stores, or folders or files as published")
    output_path: Path = option("the RFT data; its .run.json goes beside it")
    fidelity: Fidelity = option("strict: exact numbers; paper: as the published code", "strict")
    k: int | None = option("use the first k samples per problem of every run; else all", None)
    allow_partial: bool = option("use what is there of an unfinished run", False)
    dry_run: bool = option("print the resolved config and what would be read, then stop", False)


def main() -> None:
    """Load, select, write, print the funnel."""
    config = parse_config(CollectConfig, doc=__doc__)
    started = time.time()
    check(config)
    if config.dry_run:
        print(show_config(config))
    problems = load_problems(config.data_path)
    golds = gold_answers(problems, config.data_path, config.fidelity)
    runs = [run for path in config.samples for run in load(config, path, problems)]
    if config.dry_run:
        print(f"{config.output_path}: would be written")
        return
    selections = [
        reject_samples(
            [text for run in runs for text in run.by_problem[i]],
            problem.solution,
            golds[i],
            config.fidelity,
        )
        for i, problem in enumerate(problems)
    ]
    write_atomic(config.output_path, training_rows(problems, selections))
    funnel = add_funnels(selection.funnel for selection in selections)
    results = asdict(funnel) | count_problems(selections)
    write_run_info(config.output_path.with_suffix(".run.json"), config, started, results)
    print(funnel_table(funnel, len(problems)))
    print(
        f"{config.output_path}: {results['n_rows']} rows = {len(problems)} solutions + "
        f"{funnel.n_distinct} paths; {results['n_problems_without_path']} problems got no path"
    )


def check(config: CollectConfig) -> None:
    """UserError for options that contradict each other."""
    resolved = [path.resolve() for path in config.samples]
    for path in config.samples:
        if resolved.count(path.resolve()) > 1:
            raise UserError(f"{path}: given twice; give every run once in --samples")
    refuse_to_overwrite(config.output_path, [config.data_path, *config.samples])


def load(config: CollectConfig, path: Path, problems: list[Problem]) -> list[Completions]:
    """The runs at ``path``; says what they are."""
    if warning := other_data_warning(path, config.data_path, problems):
        print(warning, file=sys.stderr)
    runs = load_completions(path, problems, "train", config.allow_partial, config.k)
    stream = sys.stdout if config.dry_run else sys.stderr
    for run in runs:
        print(f"{path}: {run.n_samples} samples of each of {len(problems)} problems", file=stream)
    return runs


def training_rows(problems: Sequence[Problem], selections: Sequence[Selection]) -> Iterator[str]:
    """Yield JSON lines: every problem's solution, then its kept completions."""
    for problem, selection in zip(problems, selections, strict=True):
        for response in (problem.solution, *selection.completions):
            yield json.dumps({"query": problem.question, "response": response}) + "\n"


def count_problems(selections: Sequence[Selection]) -> dict[str, Any]:
    """Rows written, and how many problems there are and got nothing."""
    n_kept = [len(selection.completions) for selection in selections]
    return {
        "n_problems": len(selections),
        "n_problems_without_path": n_kept.count(0),
        "n_rows": len(selections) + sum(n_kept),
    }


if __name__ == "__main__":
    run_main(main)

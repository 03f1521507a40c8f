"""Score samples: maj1@1 of greedy ones; mean@1, maj1@K and pass@K of k samples per problem.

    python eval.py SAMPLES [SAMPLES2 ...] --data_path data/test_use.jsonl --output_path metrics.json
    python eval.py                      # what is under ./runs, how far it is, and its scores

SAMPLES is a sample store, or a folder or file in the published layout (raw_generation_*.json).
Scores are in percent, ± the standard error over problems.
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

from screl.answers import Fidelity, gold_answers
from screl.completions import Completions, load_completions, other_data_warning
from screl.config import option, parse_config, run_main, show_config
from screl.files import UserError, refuse_to_overwrite, write_json
from screl.problems import Problem, load_problems
from screl.run_info import write_run_info
from screl.scoring import RunScore, difference_table, score_runs, score_table, store_table, to_json
from screl.store import is_store, read_manifest

NO_RUNS = "no samples under ./runs yet; make some: bash scripts/quickstart.sh (or sample.py)"


@dataclass(frozen=True)
class EvalConfig:
    """Options of eval.py."""

    samples: tuple[Path, ...] = option(
        "sample stores, or folders or files in the published layout; none: list ./runs",
        (),
        positional=True,
    )
    data_path: Path | None = option(
        'problems: JSONL of {"query", "response"}; not given: each store\'s own', None
    )
    fidelity: Fidelity = option("strict: exact numbers; paper: as the published code", "strict")
    output_path: Path | None = option("write metrics.json, and its .run.json beside it", None)
    allow_partial: bool = option("score what is there of an unfinished run", False)
    dry_run: bool = option("print the resolved config and what would be scored, then stop", False)


def main() -> None:
    """Load, score, print, save."""
    config = parse_config(EvalConfig, doc=__doc__)
    started = time.time()
    if config.dry_run:
        print(show_config(config))
    if not config.samples:
        print(store_table(Path("runs"), config.fidelity) or NO_RUNS)
        return
    data_paths = [find_data_path(path, config.data_path) for path in config.samples]
    if config.output_path:
        refuse_to_overwrite(config.output_path, [*data_paths, *config.samples])
    problems = {data_path: load_problems(data_path) for data_path in set(data_paths)}
    scores = []
    for path, data_path in zip(config.samples, data_paths, strict=True):
        runs = load(config, path, data_path, problems[data_path])
        golds = gold_answers(problems[data_path], data_path, config.fidelity)
        if not config.dry_run:
            scores.append(score_runs(runs, golds, data_path, config.fidelity))
    if not config.dry_run:
        report(config, scores, started)


def find_data_path(path: Path, given: Path | None) -> Path:
    """``given``, or the data that the store at ``path`` was sampled for.

    Exits with status 2 if ``path`` is in the published layout, which does not say.
    """
    if given is not None:
        return given
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; check the path")
    if not is_store(path):
        sys.stderr.write(f"error: {path} is not a sample store; say --data_path TEST.jsonl\n")
        sys.exit(2)
    data_path = Path(str(read_manifest(path).get("data_path")))
    if not data_path.is_file():
        raise UserError(f"{path}: its data, {data_path}, is not there; give --data_path TEST.jsonl")
    return data_path


def load(
    config: EvalConfig, path: Path, data_path: Path, problems: list[Problem]
) -> list[Completions]:
    """The runs at ``path``; says what they are."""
    if warning := other_data_warning(path, data_path, problems):
        print(warning, file=sys.stderr)
    runs = load_completions(path, problems, "test", config.allow_partial)
    stream = sys.stdout if config.dry_run else sys.stderr
    for run in runs:
        kind = "greedy sample" if run.greedy else "samples"
        print(f"{path}: {run.n_samples} {kind} of each of {len(problems)} problems", file=stream)
    return runs


def report(config: EvalConfig, scores: list[RunScore], started: float) -> None:
    """Print the table; write metrics.json and its run.json if asked to."""
    print(score_table(scores))
    if differences := difference_table(scores):
        print(f"\n{differences}")
    if config.output_path is None:
        return
    write_json(config.output_path, [to_json(score) for score in scores])
    shares = {
        score.run: {
            "share_without_answer": score.share_without_answer,
            "share_cut_off": score.share_cut_off,
        }
        for score in scores
    }
    write_run_info(config.output_path.with_suffix(".run.json"), config, started, shares)


if __name__ == "__main__":
    run_main(main)

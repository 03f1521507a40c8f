"""Open the runs that eval.py scores, or list the sample stores under a folder."""

import sys
from pathlib import Path
from typing import NamedTuple

from screl.core.config import say
from screl.core.io import UserError, format_table, refuse_to_overwrite, sibling
from screl.core.problems import Problem, load_problems
from screl.grading.styles import load_judged_problems, settle_styles
from screl.grading.verdict import JudgeRules
from screl.samples.reader import Run, find_data_path, open_and_report, open_runs, refuse_repeats
from screl.samples.store import MANIFEST, read_manifest, stored_n_samples
from screl.scoring.breakdown import check_breakdown_key
from screl.scoring.config import EvalConfig
from screl.scoring.recipe import check_recipe
from screl.scoring.report import show_mean
from screl.scoring.score import score_runs

# The list scores test sets with 100 samples per problem, but not the 747,300 samples of a training
# set, since training scores are rarely compared.
MAX_SCORED = 200_000
CHUNK_BYTES = 2**24


class ScoringInput(NamedTuple):
    """One of the SAMPLES: its runs (a sampled one, a greedy one, or both) and their problems."""

    path: Path
    data_path: Path
    problems: list[Problem]
    runs: list[Run]
    rules: JudgeRules


def open_inputs(config: EvalConfig) -> list[ScoringInput]:
    """Return SAMPLES followed by the seeds of the baseline.

    Before any sample is read, raises UserError for inputs that cannot be scored and for outputs
    that would overwrite something.
    """
    paths = [*config.samples, *config.baseline]
    data_paths = [find_data_path(path, config.data_path) for path in paths]
    refuse_repeats(paths)
    if config.seeds:
        check_recipe(config.samples)
        check_recipe(config.baseline)
    outputs = [config.output_path, config.changes_path, config.errors_path]
    if config.output_path:
        outputs.append(sibling(config.output_path, ".run.json"))
    refuse_to_overwrite([path for path in outputs if path], [*data_paths, *paths])
    data = {
        data_path: load_judged_problems(data_path, config.keys, config.rules(), say)
        for data_path in dict.fromkeys(data_paths)
    }
    for key in config.breakdown:
        for data_path, (problems, _) in data.items():
            check_breakdown_key(problems, key, data_path)
    stream = sys.stdout if config.dry_run else sys.stderr
    inputs = []
    for path, data_path in zip(paths, data_paths, strict=True):
        found, rules = data[data_path]
        runs = open_and_report(path, data_path, found, "test", stream, config.allow_partial)
        if any(run.is_adaptive for run in runs):
            raise UserError(
                f"{path}: was sampled with --until_correct, which takes more samples where answers "
                "are wrong, so its scores would be too low; score a run with --n_samples"
            )
        inputs.append(ScoringInput(path, data_path, found, runs, rules))
    return inputs


def store_table(root: Path, rules: JudgeRules) -> str | None:
    """Return the progress and scores of each sample store under ``root``; None if there is none.

    Finished stores of up to MAX_SCORED samples are scored; in others, only lines are counted.
    """
    paths = sorted(path.parent for path in root.rglob(MANIFEST))
    header = ["run", "model", "data", "samples done", "scores"]
    rows = [header, *(_store_row(path, rules) for path in paths)]
    return format_table(rows) if paths else None


def _store_row(path: Path, rules: JudgeRules) -> list[str]:
    """Return the row of one store; if it cannot be read or scored, its last cell says why."""
    try:
        manifest = read_manifest(path)
        n_samples = stored_n_samples(manifest, path)
        n_done = sum(_count_lines(file) for file in path.glob("samples-*.jsonl"))
    except UserError as error:
        return [str(path), "-", "-", "-", str(error)]
    model, data_path = (
        Path(str(manifest.get(key, "-"))) for key in ("model_name_or_path", "data_path")
    )
    n_problems = manifest.get("n_problems")
    n_expected = n_samples * n_problems if isinstance(n_problems, int) else None
    cells = [str(path), "/".join(model.parts[-2:]), data_path.name]
    cells.append(f"{n_done} of {n_expected or '?'}")
    if n_expected and n_done < n_expected:
        return [*cells, "unfinished"]
    if n_done > MAX_SCORED:
        return [*cells, f"not scored here (many samples): python eval.py {path}"]
    try:
        return [*cells, _scores(path, data_path, rules)]
    except UserError as error:
        return [*cells, f"not scored: {error}"]


def _scores(path: Path, data_path: Path, rules: JudgeRules) -> str:
    problems = load_problems(data_path)
    rules, _ = settle_styles(rules, problems, data_path)
    score = score_runs(open_runs(path, problems, "test"), problems, data_path, rules)
    names = [name for name in score.headline() if not name.startswith("pass@")]
    return ", ".join(f"{name} {show_mean(score.scores[name])}" for name in names)


def _count_lines(path: Path) -> int:
    """Return the number of line ends, so a last line without one is not counted."""
    with open(path, "rb") as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(CHUNK_BYTES), b""))

"""What lies under a folder of runs: every sample store, how far it is, and its scores."""

from pathlib import Path

from screl.core.io import UserError, format_table
from screl.core.problems import load_problems
from screl.samples.reader import open_runs
from screl.samples.store import MANIFEST, read_manifest, stored_n_samples
from screl.scoring.report import show_mean
from screl.scoring.score import ScoreRules, score_runs

# Test sets with 100 samples a problem are scored in the list; the 747,300 samples of a training
# set, which nobody compares by score, are not.
MAX_SCORED = 200_000
CHUNK_BYTES = 2**24


def store_table(root: Path, rules: ScoreRules) -> str | None:
    """Every sample store under ``root`` with its progress and scores; None if there is none.

    Finished stores of up to MAX_SCORED samples are scored. Of others only line ends are counted.
    """
    paths = sorted(path.parent for path in root.rglob(MANIFEST))
    header = ["run", "model", "data", "samples done", "scores"]
    rows = [header, *(_store_row(path, rules) for path in paths)]
    return format_table(rows) if paths else None


def _store_row(path: Path, rules: ScoreRules) -> list[str]:
    """A store that cannot be read or scored says why in the column of its scores."""
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


def _scores(path: Path, data_path: Path, rules: ScoreRules) -> str:
    problems = load_problems(data_path)
    score = score_runs(open_runs(path, problems, "test"), problems, data_path, rules)
    names = [name for name in score.headline() if not name.startswith("pass@")]
    return ", ".join(f"{name} {show_mean(score.scores[name])}" for name in names)


def _count_lines(path: Path) -> int:
    """Whole lines."""
    with open(path, "rb") as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(CHUNK_BYTES), b""))

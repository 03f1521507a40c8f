"""What a command line names: the data that samples are of, and the samples, with a word on them."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, TextIO

from screl.completions import Run, open_runs, other_data_warning
from screl.files import UserError, real_path
from screl.manifest import is_store, read_manifest
from screl.problems import Problem
from screl.published import Split
from screl.sample_index import NOTHING, Known


def find_data_path(path: Path, given: Path | None) -> Path:
    """``given``, or the data that the store at ``path`` was sampled for.

    Exits with status 2 if ``path`` is in another layout, which does not say.
    """
    if given is not None:
        return given
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; check the path")
    if not is_store(path):
        exit_with_usage(f"{path} is not a sample store; say --data_path TEST.jsonl")
    data_path = Path(str(read_manifest(path).get("data_path")))
    if not data_path.is_file():
        raise UserError(f"{path}: its data, {data_path}, is not there; give --data_path TEST.jsonl")
    return data_path


def refuse_repeats(paths: Sequence[Path]) -> None:
    """UserError if a run is given twice: under another name, or as a file of a folder too."""
    real = [real_path(path) for path in paths]
    for path, of_path in zip(paths, real, strict=True):
        is_part = path.is_file() and of_path.parent in real
        if is_part or real.count(of_path) > 1:
            raise UserError(f"{path}: given twice; give every run once")


def open_and_tell(
    path: Path,
    data_path: Path,
    problems: Sequence[Problem],
    split: Split,
    stream: TextIO,
    allow_partial: bool = False,
    k: int | None = None,
    n_workers: int | None = None,
    known: Known = NOTHING,
) -> list[Run]:
    """open_runs, with a line on ``stream`` about each run and a warning about other data."""
    if warning := other_data_warning(path, data_path, problems):
        print(warning, file=sys.stderr)
    runs = open_runs(path, problems, split, allow_partial, k, n_workers, known)
    for run in runs:
        kind = "greedy sample" if run.greedy else "samples"
        n_of_each = f"{'at most ' if run.is_adaptive else ''}{run.n_samples} {kind} of each"
        print(f"{path}: {n_of_each} of {len(problems)} problems", file=stream)
        n_missing = run.index.n_missing(run.n_known)
        if n_missing and not run.is_adaptive:
            n_expected = run.n_samples * len(problems)
            print(f"warning: {path}: {n_missing} of {n_expected} samples are missing", file=stream)
    return runs


def exit_with_usage(message: str) -> NoReturn:
    """One line on stderr, status 2."""
    sys.stderr.write(f"error: {message}\n")
    sys.exit(2)

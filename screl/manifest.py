"""The manifest of a sample store, a folder for each sampling run: what was sampled.

``manifest.json`` has the model and its hash, prompt, parameters and the hash of the data, and so
decides whether a run may go on in a folder. The samples are in files beside it: ``screl.store``.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from screl.files import UserError, read_json_object, write_json
from screl.problems import Problem
from screl.run_info import refuse_another_run
from screl.store import read_samples

MANIFEST = "manifest.json"
# What may change between two runs into one folder: how far to go and how, not what is drawn.
FREE_KEYS = frozenset(
    {
        "n_samples", "until_correct", "finished", "model_name_or_path", "data_path", "data_sha256",
        "n_problems", "questions_sha256", "shots_path", "versions",
    }
)  # fmt: skip


def is_store(path: Path) -> bool:
    """Whether ``path`` is a folder with a manifest."""
    return (path / MANIFEST).is_file()


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of the store at ``path``."""
    return read_json_object(path / MANIFEST)


def stored_n_samples(manifest: dict[str, Any], path: Path) -> int:
    """``n_samples`` of the manifest of the store at ``path``; UserError if it has none."""
    n_samples = manifest.get("n_samples")
    if not isinstance(n_samples, int) or n_samples < 1:
        raise UserError(f"{path}/manifest.json: no n_samples; the store must be made by sample.py")
    return n_samples


def open_store(path: Path, manifest: dict[str, Any], problems: Sequence[Problem]) -> None:
    """Create the store, or check that it is the same run; UserError names every difference.

    Samples and problems may be added: more of every problem, and more behind those that are there.
    The caller holds its lock.
    """
    if not is_store(path) or not any(read_samples(path)):  # nothing in it yet: start anew
        if not is_store(path) and path.is_dir() and any(path.glob("samples-*.jsonl")):
            raise UserError(f"{path}: has samples but no {MANIFEST}; give an empty --output_dir")
        path.mkdir(parents=True, exist_ok=True)
        write_json(path / MANIFEST, manifest)
        return
    stored = check_store(path, manifest, problems)
    n_stored = stored_n_samples(stored, path)
    if stored.get("until_correct") and not manifest["until_correct"] and (
        manifest["n_samples"] < n_stored
    ):  # fmt: skip
        raise UserError(
            f"{path}: holds up to {n_stored} samples a problem (--until_correct); to have equally "
            f"many of each, give --n_samples {n_stored} or more, or another --output_dir"
        )
    n_samples = max(manifest["n_samples"], n_stored)
    grown = manifest | {"n_samples": n_samples, "versions": stored["versions"]}
    if grown != stored:
        write_json(path / MANIFEST, grown)


def check_store(
    path: Path, manifest: dict[str, Any], problems: Sequence[Problem]
) -> dict[str, Any]:
    """The manifest of the store at ``path``. UserError naming every difference if it holds samples
    of another run, or of other problems than the first ones of ``problems``."""
    stored = read_manifest(path)
    once = {"prompt": "alpaca"}  # of stores from before there was another one
    refuse_another_run(path, once | stored, once | manifest, FREE_KEYS)
    if stored["questions_sha256"] != questions_sha256(problems[: stored["n_problems"]]):
        raise UserError(
            f"{path}: was sampled for other problems ({stored['data_path']}); those must be the "
            "first ones of --data_path: give them or another --output_dir"
        )
    return stored


def finish_store(path: Path) -> None:
    """Note that no problem needs more samples, which a store cannot tell itself if each has as many
    as it needs (``until_correct``)."""
    write_json(path / MANIFEST, read_manifest(path) | {"finished": True})


def questions_sha256(problems: Sequence[Problem]) -> str:
    """A hash of what the completions of ``problems`` depend on."""
    rows = [(problem.problem_id, problem.question) for problem in problems]
    return hashlib.sha256(orjson.dumps(rows)).hexdigest()

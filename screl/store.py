"""The sample store: one folder per sampling run, append-only, safe against a kill at any moment.

``manifest.json`` says what was sampled (model and its hash, prompt, parameters, data hash);
``samples-<worker>.jsonl`` holds one completion a line. A ``(problem_id, sample_id)`` is there once.
A last line torn by a kill is dropped on reading and cut off before the next one is appended.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from screl.files import UserError, parse_object, read_json_object, write_json
from screl.problems import ProblemId
from screl.run_info import refuse_another_run

MANIFEST = "manifest.json"
# What may change between two runs into one folder: how far to go and how, not what is drawn.
FREE_KEYS = frozenset({"n_samples", "model_name_or_path", "data_path", "versions"})


@dataclass(frozen=True, slots=True)
class Sample:
    """One completion. ``finish_reason`` is ``stop`` (EOS) or ``length`` (cut at the limit)."""

    problem_id: ProblemId
    sample_id: int
    completion: str
    n_tokens: int
    finish_reason: str


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


def open_store(path: Path, manifest: dict[str, Any]) -> None:
    """Create the store, or check that it is the same run; UserError names every difference."""
    if not is_store(path) or not any(read_samples(path)):  # nothing in it yet: start anew
        if not is_store(path) and path.is_dir() and any(path.glob("samples-*.jsonl")):
            raise UserError(f"{path}: has samples but no {MANIFEST}; give an empty --output_dir")
        path.mkdir(parents=True, exist_ok=True)
        write_json(path / MANIFEST, manifest)
        return
    stored = read_manifest(path)
    refuse_another_run(path, stored, manifest, FREE_KEYS)
    if manifest["n_samples"] > stored_n_samples(stored, path):
        write_json(path / MANIFEST, stored | {"n_samples": manifest["n_samples"]})


def read_samples(path: Path) -> Iterator[Sample]:
    """Yield every whole sample of the store at ``path``, file by file, in the order of writing.

    Raises UserError, with file and line, for a malformed line and for a sample that is there twice.
    """
    seen: set[tuple[ProblemId, int]] = set()
    for file in sorted(path.glob("samples-*.jsonl")):
        for number, line in _whole_lines(file):
            sample = _parse_sample(line, file, number)
            key = (sample.problem_id, sample.sample_id)
            if key in seen:
                raise UserError(
                    f"{file}:{number}: problem {key[0]!r} has sample {key[1]} twice; "
                    "delete one of the two lines"
                )
            seen.add(key)
            yield sample


class SampleWriter:
    """Appends to one worker's file; each ``write`` is on the disk when it returns."""

    def __init__(self, path: Path, worker: int = 0) -> None:
        self._path = path / f"samples-{worker}.jsonl"
        if self._path.is_file():
            _cut_torn_tail(self._path)
        # unbuffered: what could not be written must not be tried again when the file is closed
        self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115 - closed by __exit__

    def __enter__(self) -> "SampleWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, samples: Iterable[Sample]) -> None:
        """Append and flush to the disk. OSError (a full disk) names the file."""
        data = memoryview(b"".join(orjson.dumps(asdict(sample)) + b"\n" for sample in samples))
        try:
            while data:  # a disk that is filling up takes a part
                data = data[self._file.write(data) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from None


def _whole_lines(file: Path) -> Iterator[tuple[int, bytes]]:
    """Numbered lines that end in a newline; a kill can only tear the last one."""
    with open(file, "rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.endswith(b"\n"):
                yield number, line


def _parse_sample(line: bytes, file: Path, number: int) -> Sample:
    row = parse_object(line, file, number)
    try:
        sample = Sample(**row)
    except TypeError:
        raise UserError(
            f"{file}:{number}: expected the keys {', '.join(Sample.__slots__)}, "
            f"found {', '.join(row)}; mend or delete this line"
        ) from None
    for key, kind in (("problem_id", int | str), ("sample_id", int), ("completion", str)):
        if not isinstance(row[key], kind):
            raise UserError(
                f"{file}:{number}: {key} is {row[key]!r}, of the wrong type; "
                "mend or delete this line"
            )
    return sample


def _cut_torn_tail(file: Path) -> None:
    """Remove what follows the last newline, so that the next sample starts on a line of its own."""
    with open(file, "rb+") as stream:
        position = stream.seek(0, os.SEEK_END)
        while position > 0:
            step = min(4096, position)
            stream.seek(position - step)
            newline = stream.read(step).rfind(b"\n")
            if newline >= 0:
                stream.truncate(position - step + newline + 1)
                return
            position -= step
        stream.truncate(0)

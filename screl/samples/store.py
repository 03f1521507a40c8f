"""The samples of a store: files that are only appended to, safe against a kill at any moment.

``samples-<worker>.jsonl`` holds one completion a line. A ``(problem_id, sample_id)`` is there once.
A last line torn by a kill is dropped on reading and cut off before the next one is appended.
What was sampled is in the store's manifest, see ``screl.samples.store``.

The manifest of a sample store, a folder for each sampling run: what was sampled.

``manifest.json`` has the model and its hash, prompt, parameters and the hash of the data, and so
decides whether a run may go on in a folder. The samples are in files beside it.
"""

import hashlib
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from screl.core.io import UserError, parse_object, read_json_object, write_json
from screl.core.parallel import parallel_map
from screl.core.problems import Problem, ProblemId
from screl.core.run_info import refuse_another_run
from screl.samples.line_index import (
    NOTHING,
    Known,
    SampleIndex,
    Samples,
    byte_ranges,
    concatenate,
    find_lines,
    lines_in_range,
    make_index,
    place,
)

# Exact types: true is no number here.
SAMPLE_TYPES = {
    "problem_id": (int, str),
    "sample_id": (int,),
    "completion": (str,),
    "n_tokens": (int,),
    "finish_reason": (str,),
}
# The beginning of a line as SampleWriter writes it, so that finding samples needs no whole parse.
# Other ids than printable ASCII and numbers that fit 64 bits are left to the parser.
AS_WRITTEN = re.compile(
    rb'\{"problem_id":(?:([0-9]{1,18})|"([ !#-\[\]-~]*)"),"sample_id":([0-9]{1,18}),'
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One completion, from the engine to the tables.

    ``finish_reason`` is ``stop`` (EOS, or the next question of a few-shot prompt) or ``length``
    (cut at the limit). It and ``n_tokens`` are None where other layouts do not record them.
    """

    problem_id: ProblemId
    sample_id: int
    completion: str
    n_tokens: int | None = None
    finish_reason: str | None = None

    @property
    def is_cut_off(self) -> bool | None:
        """Return whether the completion hit the limit; None if that was not recorded."""
        return None if self.finish_reason is None else self.finish_reason == "length"


def read_samples(path: Path) -> Iterator[Sample]:
    """Yield every whole sample of the store at ``path``, file by file, in the order of writing.

    Raises UserError, with file and line, for a malformed line and for a sample that is there twice.
    """
    seen: set[tuple[ProblemId, int]] = set()
    for file in sorted(path.glob("samples-*.jsonl")):
        for offset, line in _whole_lines(file):
            sample = parse_sample(line, file, offset)
            key = (sample.problem_id, sample.sample_id)
            if key in seen:
                raise UserError(
                    f"{place(file, offset)}: problem {key[0]!r} has sample {key[1]} twice; "
                    "delete one of the two lines"
                )
            seen.add(key)
            yield sample


def parse_sample(line: bytes, file: Path, offset: int) -> Sample:
    """The sample on the line at byte ``offset`` of ``file``; UserError naming it if malformed."""
    try:
        sample = Sample(**orjson.loads(line))
    except (TypeError, orjson.JSONDecodeError):
        raise _malformed(line, place(file, offset)) from None
    for key, kinds in SAMPLE_TYPES.items():
        if type(getattr(sample, key)) not in kinds:
            raise _malformed(line, place(file, offset))
    return sample


def index_store(
    path: Path,
    problems: Sequence[Problem],
    n_samples: int,
    data_path: object = None,
    n_workers: int | None = None,
    known: Known = NOTHING,
) -> SampleIndex:
    """Where the first ``n_samples`` of every problem are in the store at ``path``.

    ``data_path``: what the store was sampled for, to be named in a message. What is ``known`` is
    not looked for. Raises UserError for a malformed line, a problem that is not among ``problems``,
    and a sample that is there twice.
    """
    files = sorted(path.glob("samples-*.jsonl"))
    ranges = [
        (file, begin, end)
        for file in files
        for begin, end in byte_ranges(file, known.n_bytes.get(file, 0))
    ]
    position_of = {problem.problem_id: i for i, problem in enumerate(problems)}
    parts: dict[Path, list[Samples]] = {file: [] for file in files}
    found = parallel_map(_find_samples, ranges, (position_of, data_path), n_workers)
    for (file, _, _), samples in zip(ranges, found, strict=True):
        parts[file].append(samples)
    return make_index(files, [concatenate(parts[file]) for file in files], problems, n_samples)


def _find_samples(
    limits: tuple[Path, int, int], position_of: dict[ProblemId, int], data_path: object
) -> Samples:
    """The samples in a range of a file."""
    file, begin, end = limits
    data, first = lines_in_range(file, begin, end)
    lines = find_lines(data, first, whole_only=True)
    positions, sample_ids = [], []
    for start, length in zip(lines.starts.tolist(), lines.lengths.tolist(), strict=True):
        at = start - first
        if head := AS_WRITTEN.match(data, at):
            problem_id: ProblemId = int(head[1]) if head[1] else head[2].decode()
            sample_id = int(head[3])
        else:
            sample = parse_sample(data[at : at + length], file, start)
            # any number that is beyond all samples does for a larger one
            problem_id, sample_id = sample.problem_id, min(sample.sample_id, sys.maxsize)
        position = position_of.get(problem_id)
        if position is None:
            raise UserError(
                f"{place(file, start)}: a sample of a problem {problem_id!r} that --data_path does "
                f"not have; give the data it was sampled for ({data_path})"
            )
        positions.append(position)
        sample_ids.append(sample_id)
    of_whom, which = np.array(positions, np.int64), np.array(sample_ids, np.int64)
    return Samples(of_whom, which, lines.starts, lines.lengths)


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
    """Offsets and lines that end in a newline, but blank ones; a kill only tears the last one."""
    offset = 0
    with open(file, "rb") as lines:
        for line in lines:
            if line.endswith(b"\n") and line.strip():
                yield offset, line
            offset += len(line)


def _malformed(line: bytes, where: str) -> UserError:
    """What is wrong with a line that is no sample."""
    try:
        row = parse_object(line, where)
    except UserError as error:
        return error
    if row.keys() != set(Sample.__slots__):
        wrong = f"expected the keys {', '.join(Sample.__slots__)}, found {', '.join(row)}"
    else:
        key = next(key for key, kinds in SAMPLE_TYPES.items() if type(row[key]) not in kinds)
        wrong = f"{key} is {row[key]!r}, of the wrong type"
    return UserError(f"{where}: {wrong}; mend or delete this line")


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

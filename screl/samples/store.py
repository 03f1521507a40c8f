"""Read and write the sample store: the folder of one sampling run, which survives a kill.

``manifest.json`` says what was sampled: the model and its hash, the prompt, the parameters, and the
hash of the data. It decides whether a run may continue in the folder.

``samples-<n>.jsonl`` holds one sample per line and is only appended to. Each sample appears once. A
last line torn by a kill is ignored by readers and removed before the next line is appended.
"""

import hashlib
import mmap
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
    SampleIndex,
    SampleLines,
    byte_ranges,
    duplicate_error,
    find_lines,
    lines_in_range,
    location,
    make_index,
)

MANIFEST = "manifest.json"
SAMPLE_FILES = "samples-*.jsonl"
# Keys that may differ between two runs into one folder: the number of samples, not their content.
FREE_KEYS = frozenset(
    {
        "n_samples", "until_correct", "finished", "model_name_or_path", "data_path", "data_sha256",
        "n_problems", "questions_sha256", "shots_path", "versions",
    }
)  # fmt: skip
# Exact types: true is not a number here.
SAMPLE_TYPES = {
    "problem_id": (int, str),
    "sample_id": (int,),
    "completion": (str,),
    "n_tokens": (int,),
    "finish_reason": (str,),
}
# The beginning of a line as SampleWriter writes it, which is enough to index the line.
# Ids other than printable ASCII and numbers that fit in 64 bits are left to the parser.
AS_WRITTEN = re.compile(
    rb'\{"problem_id":(?:([0-9]{1,18})|"([ !#-\[\]-~]*)"),"sample_id":([0-9]{1,18}),'
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One completion of a problem.

    ``finish_reason`` is ``stop`` (EOS, or the next question of a few-shot prompt) or ``length``
    (cut off at the limit). It and ``n_tokens`` are None in layouts that do not record them.
    """

    problem_id: ProblemId
    sample_id: int
    completion: str
    n_tokens: int | None = None
    finish_reason: str | None = None

    @property
    def is_cut_off(self) -> bool | None:
        """Whether the completion was cut off at the limit; None if that was not recorded."""
        return None if self.finish_reason is None else self.finish_reason == "length"


def is_store(path: Path) -> bool:
    """Return whether ``path`` is a folder with a manifest."""
    return (path / MANIFEST).is_file()


def read_manifest(path: Path) -> dict[str, Any]:
    """Return the manifest of the store at ``path``."""
    return read_json_object(path / MANIFEST)


def stored_n_samples(manifest: dict[str, Any], path: Path) -> int:
    """Return the manifest's ``n_samples``; raise UserError if it has none."""
    n_samples = manifest.get("n_samples")
    if not isinstance(n_samples, int) or n_samples < 1:
        raise UserError(f"{path}/{MANIFEST}: no n_samples; give a store made by sample.py")
    return n_samples


def open_store(path: Path, manifest: dict[str, Any], problems: Sequence[Problem]) -> None:
    """Create the store, or check that it belongs to the same run.

    A run may add samples to every problem, and problems after the stored ones. The caller holds the
    folder's lock. Raises UserError, naming every difference, if the store belongs to another run.
    """
    if not is_store(path) or not any(read_samples(path)):  # nothing sampled yet: start over
        if not is_store(path) and path.is_dir() and any(path.glob(SAMPLE_FILES)):
            raise UserError(f"{path}: has samples but no {MANIFEST}; give an empty --output_dir")
        path.mkdir(parents=True, exist_ok=True)
        write_json(path / MANIFEST, manifest)
        return
    stored = check_store(path, manifest, problems)
    n_stored, n_wanted = stored_n_samples(stored, path), manifest["n_samples"]
    if stored.get("until_correct") and not manifest["until_correct"] and n_wanted < n_stored:
        raise UserError(
            f"{path}: holds up to {n_stored} samples per problem (--until_correct); to get the "
            f"same number for each, give --n_samples {n_stored} or more, or another --output_dir"
        )
    grown = manifest | {"n_samples": max(n_wanted, n_stored), "versions": stored["versions"]}
    if grown != stored:
        write_json(path / MANIFEST, grown)


def check_store(
    path: Path, manifest: dict[str, Any], problems: Sequence[Problem]
) -> dict[str, Any]:
    """Return the manifest of the store at ``path``.

    Raises UserError that names every difference if its samples are from another run, or if its
    problems are not the first ones of ``problems``.
    """
    stored = read_manifest(path)
    default = {"prompt": "alpaca"}  # older stores record no prompt; all used this one
    refuse_another_run(path, default | stored, default | manifest, FREE_KEYS)
    if stored["questions_sha256"] != questions_sha256(problems[: stored["n_problems"]]):
        raise UserError(
            f"{path}: was sampled for other problems ({stored['data_path']}); they must come first "
            "in --data_path: give such a file, or another --output_dir"
        )
    return stored


def finish_store(path: Path) -> None:
    """Record in the manifest that no problem needs more samples.

    With ``until_correct``, the number of samples does not show this.
    """
    write_json(path / MANIFEST, read_manifest(path) | {"finished": True})


def questions_sha256(problems: Sequence[Problem]) -> str:
    """Return a hash of the problems' ids and questions, on which the completions depend."""
    rows = [(problem.problem_id, problem.question) for problem in problems]
    return hashlib.sha256(orjson.dumps(rows)).hexdigest()


class SampleWriter:
    """A writer that appends samples to a store; they are on disk when ``write`` returns."""

    def __init__(self, path: Path) -> None:
        self._path = path / "samples-0.jsonl"
        if self._path.is_file():
            _remove_torn_line(self._path)
        # unbuffered: a failed write must not be repeated when the file is closed
        self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115 - closed by __exit__

    def __enter__(self) -> "SampleWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, samples: Iterable[Sample]) -> None:
        """Append ``samples`` and flush them to disk; an OSError (disk full) names the file."""
        data = memoryview(b"".join(orjson.dumps(asdict(sample)) + b"\n" for sample in samples))
        try:
            while data:  # a nearly full disk accepts only a part
                data = data[self._file.write(data) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from None


def read_samples(path: Path) -> Iterator[Sample]:
    """Yield every complete sample of the store at ``path``, by file and in the order of writing.

    Raises UserError, with file and line, for a malformed line and for a sample that appears twice.
    """
    seen: set[tuple[ProblemId, int]] = set()
    for file in sorted(path.glob(SAMPLE_FILES)):
        with open(file, "rb") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip() or not line.endswith(b"\n"):  # blank, or torn by a kill
                    continue
                sample = _parse_sample(line)
                if sample is None:
                    raise _malformed_sample(line, f"{file}:{number}")
                key = (sample.problem_id, sample.sample_id)
                if key in seen:
                    raise duplicate_error(*key, f"{file}:{number}")
                seen.add(key)
                yield sample


def index_store(
    path: Path,
    problems: Sequence[Problem],
    n_samples: int,
    data_path: object = None,
    n_workers: int | None = None,
) -> SampleIndex:
    """Index the first ``n_samples`` of every problem in the store at ``path``.

    Errors name ``data_path`` as the data that the store was sampled for. Raises UserError, with
    file and line, for a malformed line, an unknown problem, and a sample that appears twice.
    """
    files = sorted(path.glob(SAMPLE_FILES))
    ranges = [(file, begin, end) for file in files for begin, end in byte_ranges(file)]
    position_of = {problem.problem_id: i for i, problem in enumerate(problems)}
    parts = {file: [SampleLines(*np.zeros((4, 0), np.int64))] for file in files}
    found = parallel_map(_find_samples, ranges, (position_of, data_path), n_workers)
    for (file, _, _), samples in zip(ranges, found, strict=True):
        parts[file].append(samples)
    of_files = [SampleLines(*map(np.concatenate, zip(*parts[file], strict=True))) for file in files]
    return make_index(files, of_files, problems, n_samples)


def parse_stored(
    index: SampleIndex, position: int, lines: Sequence[bytes | None]
) -> Iterator[Sample]:
    """Yield the samples of the problem at ``position``, given the line of each sample_id."""
    for sample_id, line in enumerate(lines):
        if line is not None:
            sample = _parse_sample(line)
            if sample is None:
                raise _malformed_sample(line, index.location(position, sample_id))
            yield sample


def _find_samples(
    limits: tuple[Path, int, int], position_of: dict[ProblemId, int], data_path: object
) -> SampleLines:
    """Find the samples whose lines begin in a range of a file."""
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
            sample = _parse_sample(data[at : at + length])
            if sample is None:
                raise _malformed_sample(data[at : at + length], location(file, start))
            # a larger number would not fit the array; it is above any n_samples anyway
            problem_id, sample_id = sample.problem_id, min(sample.sample_id, sys.maxsize)
        position = position_of.get(problem_id)
        if position is None:
            raise UserError(
                f"{location(file, start)}: a sample of problem {problem_id!r}, which --data_path "
                f"does not have; give the data it was sampled for ({data_path})"
            )
        positions.append(position)
        sample_ids.append(sample_id)
    return SampleLines(
        np.array(positions, np.int64), np.array(sample_ids, np.int64), lines.starts, lines.lengths
    )


def _parse_sample(line: bytes) -> Sample | None:
    """Return the sample on a line; None if the line is malformed."""
    try:
        sample = Sample(**orjson.loads(line))
    except (TypeError, orjson.JSONDecodeError):
        return None
    for key, kinds in SAMPLE_TYPES.items():
        if type(getattr(sample, key)) not in kinds:
            return None
    return sample


def _malformed_sample(line: bytes, where: str) -> UserError:
    """Return the error that says what is wrong with a line that is not a sample."""
    try:
        row = parse_object(line, where)
    except UserError as error:
        return error
    if row.keys() != set(Sample.__slots__):
        wrong = f"expected the keys {', '.join(Sample.__slots__)}, found {', '.join(row)}"
    else:
        key = next(key for key, kinds in SAMPLE_TYPES.items() if type(row[key]) not in kinds)
        wrong = f"{key} is {row[key]!r}, which has the wrong type"
    return UserError(f"{where}: {wrong}; fix or delete this line")


def _remove_torn_line(file: Path) -> None:
    """Cut off what follows the last newline, so the next sample starts on a line of its own."""
    with open(file, "rb+") as stream:
        if os.fstat(stream.fileno()).st_size:
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
                end = data.rfind(b"\n") + 1
            stream.truncate(end)

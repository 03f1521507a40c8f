"""The samples of a store: files that are only appended to, safe against a kill at any moment.

``samples-<worker>.jsonl`` holds one completion a line. A ``(problem_id, sample_id)`` is there once.
A last line torn by a kill is dropped on reading and cut off before the next one is appended.
What was sampled is in the store's manifest, see ``screl.manifest``.
"""

import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import orjson

from screl.files import UserError, parse_object
from screl.parallel import parallel_map
from screl.problems import Problem, ProblemId
from screl.sample_index import (
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
    """One completion. ``finish_reason`` is ``stop`` (EOS, or the next question of a
    few-shot prompt) or ``length`` (cut at the limit)."""

    problem_id: ProblemId
    sample_id: int
    completion: str
    n_tokens: int
    finish_reason: str


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

"""Index each sample's line on disk, so that samples can be read by problem with little memory.

Files hold samples by seed, or in the order in which workers finished, but the filter and the scorer
need all samples of one problem together. The index takes 16 bytes per sample. It is made once, and
blocks of problems are then read through it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from screl.core.io import UserError, open_for_reading
from screl.core.problems import Problem

MISSING = -1
RANGE_BYTES = 2**24  # bytes read at once while searching for lines
WHITE_SPACE = np.frombuffer(b" \t\n\r\x0b\x0c", np.uint8)  # what bytes.strip removes


class Lines(NamedTuple):
    """Offsets and lengths of lines in a file, including line ends: two int64 arrays."""

    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]


class SampleLines(NamedTuple):
    """Samples and their lines in one file: four int64 arrays with one element per sample."""

    positions: NDArray[np.int64]  # of the sample's problem in the list of problems
    sample_ids: NDArray[np.int64]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SampleIndex:
    """The line of sample j of problem i: ``lengths[i, j]`` bytes of ``files[file_no[i, j]]``.

    ``file_no`` is MISSING where no file has the sample. All arrays: (n_problems, n_samples).
    """

    files: tuple[Path, ...]
    file_no: NDArray[np.int32]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int32]

    @property
    def n_samples(self) -> int:
        """The number of columns, which is the most samples that a problem may have."""
        return self.file_no.shape[1]

    @property
    def n_missing(self) -> int:
        """The number of samples that no file has."""
        return int(np.count_nonzero(self.file_no == MISSING))

    def first_missing(self) -> tuple[int, int]:
        """Return the problem's position and the sample_id of the first missing sample."""
        position, sample_id = np.argwhere(self.file_no == MISSING)[0]
        return int(position), int(sample_id)

    def location(self, position: int, sample_id: int) -> str:
        """Return ``file:line`` of a sample, for messages."""
        path = self.files[self.file_no[position, sample_id]]
        return location(path, int(self.starts[position, sample_id]))

    def first(self, n_samples: int) -> "SampleIndex":
        """Return the index of the first ``n_samples`` of every problem."""
        n = n_samples
        return SampleIndex(self.files, self.file_no[:, :n], self.starts[:, :n], self.lengths[:, :n])


def make_index(
    files: Sequence[Path], found: Iterable[SampleLines], problems: Sequence[Problem], n_samples: int
) -> SampleIndex:
    """Index the samples ``found`` in each of ``files`` whose sample_id is below ``n_samples``.

    Raises UserError, with file and line, if a sample appears twice.
    """
    shape = (len(problems), n_samples)
    file_no = np.full(shape, MISSING, np.int32)
    starts, lengths = np.zeros(shape, np.int64), np.zeros(shape, np.int32)
    for number, (path, samples) in enumerate(zip(files, found, strict=True)):
        wanted = (samples.sample_ids >= 0) & (samples.sample_ids < n_samples)
        kept = SampleLines(*(column[wanted] for column in samples))
        cells = kept.positions * n_samples + kept.sample_ids
        repeated = np.flatnonzero(file_no.ravel()[cells] != MISSING)
        if not len(repeated) and not np.diff(np.sort(cells)).all():
            _, first = np.unique(cells, return_index=True)
            repeated = np.setdiff1d(np.arange(len(cells)), first)
        if len(repeated):
            at = repeated[0]
            problem_id = problems[kept.positions[at]].problem_id
            where = location(path, int(kept.starts[at]))
            raise duplicate_error(problem_id, int(kept.sample_ids[at]), where)
        file_no.ravel()[cells] = number
        starts.ravel()[cells] = kept.starts
        lengths.ravel()[cells] = kept.lengths
    return SampleIndex(tuple(files), file_no, starts, lengths)


def duplicate_error(problem_id: int | str, sample_id: int, where: str) -> UserError:
    """Return the error for a sample whose second line is at ``where``, file:line."""
    return UserError(
        f"{where}: problem {problem_id!r} has sample {sample_id} twice; delete one of the two lines"
    )


def read_lines(index: SampleIndex, begin: int, end: int) -> list[list[bytes | None]]:
    """Read the lines of the problems at positions ``begin`` to ``end``, one list per problem.

    A missing sample is None. Adjacent lines of a file are read together.
    """
    file_no = index.file_no[begin:end].ravel()
    starts, lengths = index.starts[begin:end].ravel(), index.lengths[begin:end].ravel()
    ends = starts + lengths
    lines: list[bytes | None] = [None] * len(file_no)
    present = np.flatnonzero(file_no != MISSING)
    present = present[np.lexsort((starts[present], file_no[present]))]
    for cells in np.split(present, np.flatnonzero(np.diff(file_no[present])) + 1):
        if not len(cells):  # no sample at all
            break
        is_apart = starts[cells[1:]] > ends[cells[:-1]]
        with open_for_reading(index.files[file_no[cells[0]]]) as file:
            for group in np.split(cells, np.flatnonzero(is_apart) + 1):
                first = int(starts[group[0]])
                file.seek(first)
                data = file.read(int(ends[group[-1]]) - first)
                offsets, sizes = (starts[group] - first).tolist(), lengths[group].tolist()
                last = -1
                for cell, offset, size in zip(group.tolist(), offsets, sizes, strict=True):
                    if offset != last:  # one line may hold many samples
                        line, last = data[offset : offset + size], offset
                    lines[cell] = line
    n = index.n_samples
    return [lines[i * n : (i + 1) * n] for i in range(end - begin)]


def byte_ranges(path: Path) -> list[tuple[int, int]]:
    """Return ranges of RANGE_BYTES that cover the file, for a parallel search."""
    size = path.stat().st_size
    return [(begin, min(begin + RANGE_BYTES, size)) for begin in range(0, size, RANGE_BYTES)]


def lines_in_range(path: Path, begin: int, end: int) -> tuple[bytes, int]:
    """Read the lines that begin in bytes ``begin`` to ``end``; also return the first one's offset.

    The file's last line may lack its line end.
    """
    with open_for_reading(path) as file:
        if begin > 0:  # skip the rest of a line that began before
            file.seek(begin - 1)
            file.readline()
        first = file.tell()
        data = file.read(max(0, end - first))
        if data and not data.endswith(b"\n"):
            data += file.readline()
        return data, first


def find_lines(data: bytes, offset: int = 0, whole_only: bool = False) -> Lines:
    """Find the lines of ``data`` that are not blank; ``offset`` is added to their starts.

    ``whole_only`` skips a last line without a line end, which a killed process may have left.
    """
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")) + 1
    if not whole_only and not data.endswith(b"\n") and data:
        ends = np.append(ends, len(data))
    starts = np.concatenate(([0], ends[:-1])) if len(ends) else ends
    # Few lines begin with white space, so few are checked in Python.
    is_blank = np.isin(np.frombuffer(data, np.uint8)[starts], WHITE_SPACE)
    for i in np.flatnonzero(is_blank):
        is_blank[i] = not data[starts[i] : ends[i]].strip()
    return Lines(starts[~is_blank] + offset, (ends - starts)[~is_blank])


def find_all_lines(path: Path) -> Lines:
    """Find all lines of a file that are not blank, using little memory."""
    parts = [find_lines(*lines_in_range(path, *limits)) for limits in byte_ranges(path)]
    none = np.zeros(0, np.int64)
    return Lines(
        np.concatenate([none, *(part.starts for part in parts)]),
        np.concatenate([none, *(part.lengths for part in parts)]),
    )


def location(path: Path, offset: int) -> str:
    """Return ``file:line`` of the line that begins at byte ``offset``, for messages."""
    n_before = sum(data.count(b"\n") for data in _chunks(path, offset))
    return f"{path}:{n_before + 1}"


def _chunks(path: Path, n_bytes: int) -> Iterator[bytes]:
    with open_for_reading(path) as file:
        while n_bytes > 0 and (data := file.read(min(RANGE_BYTES, n_bytes))):
            n_bytes -= len(data)
            yield data

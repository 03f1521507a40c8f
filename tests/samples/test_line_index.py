"""Lines are found wherever ranges cut them, and read back by problem whatever their order."""

import random
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from screl.core.io import UserError
from screl.core.problems import Problem
from screl.samples import line_index as sample_index
from screl.samples.line_index import (
    MISSING,
    Lines,
    SampleIndex,
    Samples,
    byte_ranges,
    concatenate,
    find_all_lines,
    find_lines,
    lines_in_range,
    make_index,
    place,
    read_lines,
)

PROBLEMS = [Problem(name, f"{name}?", "#### 1", i + 1) for i, name in enumerate("abc")]
# Bytes of a file that may be anything, with many line ends and white space in it.
CONTENT = st.lists(
    st.sampled_from([b"\n", b"\r\n", b" ", b"\t\n", b"7", b"{}", b'{"long": "line"}', b"\xff"])
).map(b"".join)


def naive_lines(data: bytes, whole_only: bool = False) -> list[tuple[int, bytes]]:
    """Offset and text of every line that is not blank."""
    lines, offset = [], 0
    for line in data.split(b"\n"):
        line += b"\n" if offset + len(line) < len(data) else b""
        if line.strip() and (line.endswith(b"\n") or not whole_only):
            lines.append((offset, line))
        offset += len(line)
    return lines


def cut_out(data: bytes, lines: Lines, offset: int = 0) -> list[tuple[int, bytes]]:
    return [
        (start, data[start - offset : start - offset + length])
        for start, length in zip(lines.starts.tolist(), lines.lengths.tolist(), strict=True)
    ]


@given(CONTENT, st.booleans(), st.integers(0, 100))
def test_lines_are_those_of_a_naive_split(data: bytes, whole_only: bool, offset: int) -> None:
    found = cut_out(data, find_lines(data, offset, whole_only), offset)
    assert found == [(start + offset, line) for start, line in naive_lines(data, whole_only)]


@given(data=CONTENT, range_bytes=st.integers(1, 40))
def test_ranges_may_cut_lines_anywhere(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, range_bytes: int
) -> None:
    path = tmp_path_factory.mktemp("ranges") / "a.jsonl"
    path.write_bytes(data)
    with patch.object(sample_index, "RANGE_BYTES", range_bytes):
        ranges = byte_ranges(path)
        assert [end for _, end in ranges[:-1]] == [begin for begin, _ in ranges[1:]]
        for whole_only in (False, True):
            found = []
            for begin, end in ranges:
                part, first = lines_in_range(path, begin, end)
                in_range = cut_out(part, find_lines(part, first, whole_only), first)
                assert all(begin <= start < end for start, _ in in_range)
                found += in_range
            assert found == naive_lines(data, whole_only)
        assert cut_out(data, find_all_lines(path)) == naive_lines(data)


def test_blank_lines_and_torn_ones() -> None:
    data = b'{"a": 1}\r\n\r\n   \n\n7\n{}\n{"torn'
    lines = [b'{"a": 1}\r\n', b"7\n", b"{}\n", b'{"torn']
    assert [line for _, line in cut_out(data, find_lines(data))] == lines
    assert [line for _, line in cut_out(data, find_lines(data, whole_only=True))] == lines[:-1]


def test_an_empty_file_has_no_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.touch()
    assert byte_ranges(path) == []
    for lines in (find_all_lines(path), find_lines(b""), find_lines(b"", whole_only=True)):
        assert (len(lines.starts), len(lines.lengths)) == (0, 0)
        assert lines.starts.dtype == lines.lengths.dtype == np.int64


@given(data=CONTENT, range_bytes=st.integers(1, 40))
def test_a_place_is_named_by_its_line(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, range_bytes: int
) -> None:
    path = tmp_path_factory.mktemp("place") / "a.jsonl"
    path.write_bytes(data)
    with patch.object(sample_index, "RANGE_BYTES", range_bytes):
        for offset, _ in naive_lines(data):
            assert place(path, offset) == f"{path}:{data[:offset].count(10) + 1}"


Cell = tuple[int, int]  # position of the problem, sample_id


def write_samples(
    folder: Path, cells: list[Cell], file_of: list[int], n_files: int
) -> tuple[list[Path], list[Samples], dict[Cell, bytes]]:
    """A line for each cell, in this order, each in its file."""
    texts = [b""] * n_files
    rows: list[list[tuple[int, ...]]] = [[] for _ in range(n_files)]
    line_of = {}
    for (position, sample_id), number in zip(cells, file_of, strict=True):
        line = b"%d.%d" % (position, sample_id) * (1 + position) + b"\n"
        line_of[position, sample_id] = line
        rows[number].append((position, sample_id, len(texts[number]), len(line)))
        texts[number] += line
    paths = [folder / f"samples-{number}.jsonl" for number in range(n_files)]
    for path, text in zip(paths, texts, strict=True):
        path.write_bytes(text)
    columns = [np.array(of_file, np.int64).reshape(-1, 4).T for of_file in rows]
    return paths, [Samples(*of_file) for of_file in columns], line_of


def naive_block(
    line_of: dict[Cell, bytes], begin: int, end: int, n_samples: int
) -> list[list[bytes | None]]:
    return [[line_of.get((i, j)) for j in range(n_samples)] for i in range(begin, end)]


@given(seed=st.integers(0, 10**6), n_samples=st.integers(1, 5), n_files=st.integers(1, 4))
def test_samples_in_any_order_in_any_file_are_read_by_problem(
    tmp_path_factory: pytest.TempPathFactory, seed: int, n_samples: int, n_files: int
) -> None:
    chance = random.Random(seed)
    grid = [(i, j) for i in range(len(PROBLEMS)) for j in range(-1, n_samples + 2)]
    cells = chance.sample(grid, chance.randrange(len(grid) + 1))  # shuffled, some are missing
    folder = tmp_path_factory.mktemp("samples")
    file_of = [chance.randrange(n_files) for _ in cells]
    files, found, line_of = write_samples(folder, cells, file_of, n_files)
    index = make_index(files, found, PROBLEMS, n_samples)
    for begin in range(4):
        for end in range(begin, 4):
            expected = naive_block(line_of, begin, end, n_samples)
            assert read_lines(index, begin, end) == expected
    there = {cell for cell in cells if 0 <= cell[1] < n_samples}
    missing = [cell for cell in grid if 0 <= cell[1] < n_samples and cell not in there]
    assert (index.n_samples, index.n_missing) == (n_samples, len(missing))
    if missing:
        assert index.first_missing() == missing[0]
    for cell in there:
        path, offset = index.origin(*cell)
        assert path == files[file_of[cells.index(cell)]]
        assert path.read_bytes()[offset:].startswith(line_of[cell])


@pytest.fixture
def index(tmp_path: Path) -> tuple[SampleIndex, dict[Cell, bytes]]:
    """Three samples a problem, but one is missing."""
    cells = [(i, j) for j in (2, 0, 1) for i in (1, 0, 2) if (i, j) != (2, 1)]
    files, found, line_of = write_samples(tmp_path, cells, [j % 2 for _, j in cells], 2)
    return make_index(files, found, PROBLEMS, 3), line_of


def test_the_first_columns(index: tuple[SampleIndex, dict[Cell, bytes]]) -> None:
    whole, line_of = index
    for n_samples in (1, 2, 3):
        first = whole.first(n_samples)
        assert first.n_samples == n_samples
        assert read_lines(first, 0, 3) == naive_block(line_of, 0, 3, n_samples)
    assert (whole.first(1).n_missing, whole.first(2).n_missing) == (0, 1)


def test_a_line_with_many_samples_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"of b\nall of a\n")
    samples = Samples(*np.array([(1, 0, 0, 5), *((0, j, 5, 9) for j in range(3))], np.int64).T)
    ((first, second, third), *_, (missing, *_)) = read_lines(
        make_index([path], [samples], PROBLEMS, 3), 0, 3
    )
    assert first == b"all of a\n"
    assert first is second is third  # a row of 100 samples is long: no 100 copies of it
    assert missing is None


@pytest.mark.parametrize(
    ("file_of", "named"),
    [
        ([0, 0, 0, 0], r"samples-0\.jsonl:4"),
        ([0, 0, 1, 1], r"samples-1\.jsonl:2"),
        ([1, 0, 0, 1], r"samples-1\.jsonl:2"),
        ([0, 1, 1, 1], r"samples-1\.jsonl:3"),
        ([0, 1, 0, 0], r"samples-1\.jsonl:1"),
    ],
)
def test_a_sample_that_is_there_twice_is_named(
    tmp_path: Path, file_of: list[int], named: str
) -> None:
    cells = [(0, 0), (2, 1), (0, 1), (2, 1)]
    files, found, _ = write_samples(tmp_path, cells, file_of, 2)
    with pytest.raises(UserError, match=f"{named}: problem 'c' has sample 1 twice; delete one of"):
        make_index(files, found, PROBLEMS, 2)
    assert make_index(files, found, PROBLEMS, 1).n_missing == 2  # sample 1 is not wanted


def test_nothing_found(tmp_path: Path) -> None:
    index = make_index([], [], PROBLEMS, 2)
    assert (index.n_missing, index.first_missing()) == (6, (0, 0))
    assert read_lines(index, 0, 3) == [[None, None]] * 3
    assert (index.file_no == MISSING).all()
    assert [len(column) for column in concatenate([])] == [0] * 4

"""Lines are found wherever ranges cut the file, and read by problem whatever their order."""

import random
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from screl.core.io import UserError
from screl.core.problems import Problem
from screl.samples import line_index
from screl.samples.line_index import (
    Lines,
    SampleLines,
    byte_ranges,
    find_all_lines,
    find_lines,
    lines_in_range,
    location,
    make_index,
    read_lines,
)

PROBLEMS = [Problem(name, f"{name}?", "#### 1", i + 1) for i, name in enumerate("abc")]
# Any bytes, with many line ends and much white space.
CONTENT = st.lists(
    st.sampled_from([b"\n", b"\r\n", b" ", b"\t\n", b"7", b"{}", b'{"long": "line"}', b"\xff"])
).map(b"".join)


def naive_lines(data: bytes, whole_only: bool = False) -> list[tuple[int, bytes]]:
    """Return offset and text of every line that is not blank."""
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


@given(data=CONTENT, range_bytes=st.integers(1, 40))
def test_ranges_may_cut_lines_anywhere(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, range_bytes: int
) -> None:
    path = tmp_path_factory.mktemp("ranges") / "a.jsonl"
    path.write_bytes(data)
    with patch.object(line_index, "RANGE_BYTES", range_bytes):
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
        lines = find_all_lines(path)
        assert cut_out(data, lines) == naive_lines(data)
        assert lines.starts.dtype == lines.lengths.dtype == np.int64
        for offset, _ in naive_lines(data):
            assert location(path, offset) == f"{path}:{data[:offset].count(10) + 1}"


Cell = tuple[int, int]  # position of the problem, sample_id


def write_samples(
    folder: Path, cells: list[Cell], file_of: list[int], n_files: int
) -> tuple[list[Path], list[SampleLines], dict[Cell, bytes]]:
    """Write a line for each cell, in this order, to the given file."""
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
    return paths, [SampleLines(*of_file) for of_file in columns], line_of


@given(seed=st.integers(0, 10**6), n_samples=st.integers(1, 5), n_files=st.integers(0, 4))
def test_samples_in_any_order_in_any_file_are_read_by_problem(
    tmp_path_factory: pytest.TempPathFactory, seed: int, n_samples: int, n_files: int
) -> None:
    chance = random.Random(seed)
    grid = [(i, j) for i in range(len(PROBLEMS)) for j in range(-1, n_samples + 2)]
    cells = chance.sample(grid, chance.randrange(len(grid) + 1) if n_files else 0)
    folder = tmp_path_factory.mktemp("samples")
    file_of = [chance.randrange(n_files) for _ in cells]
    files, found, line_of = write_samples(folder, cells, file_of, n_files)
    index = make_index(files, found, PROBLEMS, n_samples)
    assert index.n_samples == n_samples

    def expected(begin: int, end: int, n: int) -> list[list[bytes | None]]:
        return [[line_of.get((i, j)) for j in range(n)] for i in range(begin, end)]

    for begin in range(4):
        for end in range(begin, 4):
            assert read_lines(index, begin, end) == expected(begin, end, n_samples)
    for n in range(1, n_samples + 1):
        assert read_lines(index.first(n), 0, 3) == expected(0, 3, n)
    missing = [cell for cell in grid if 0 <= cell[1] < n_samples and cell not in line_of]
    assert index.n_missing == len(missing)
    if missing:
        assert index.first_missing() == missing[0]
    for cell in set(line_of) & {cell for cell in grid if 0 <= cell[1] < n_samples}:
        path, _, number = index.location(*cell).rpartition(":")
        lines = Path(path).read_bytes().splitlines(keepends=True)
        assert lines[int(number) - 1] == line_of[cell]


def test_a_line_with_many_samples_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"of b\nall of a\n")
    samples = SampleLines(*np.array([(1, 0, 0, 5), *((0, j, 5, 9) for j in range(3))], np.int64).T)
    ((first, second, third), *_, (missing, *_)) = read_lines(
        make_index([path], [samples], PROBLEMS, 3), 0, 3
    )
    assert first == b"all of a\n"
    assert first is second is third  # a row with 100 samples is long: not 100 copies of it
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
def test_a_sample_that_appears_twice_is_named(
    tmp_path: Path, file_of: list[int], named: str
) -> None:
    cells = [(0, 0), (2, 1), (0, 1), (2, 1)]
    files, found, _ = write_samples(tmp_path, cells, file_of, 2)
    with pytest.raises(UserError, match=f"{named}: problem 'c' has sample 1 twice; delete one of"):
        make_index(files, found, PROBLEMS, 2)
    assert make_index(files, found, PROBLEMS, 1).n_missing == 2  # sample 1 is not wanted

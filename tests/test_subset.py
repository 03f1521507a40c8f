"""data/subset.py draws rows at random; subsets are nested and keep the order."""

import json
from pathlib import Path

import pytest

from data.subset import draw_rows
from tests.conftest import run_script


def test_a_smaller_subset_is_part_of_a_larger_one() -> None:
    small, large = draw_rows(100, 10, seed=3), draw_rows(100, 40, seed=3)
    assert len(set(small)) == 10
    assert set(small) < set(large)
    assert small == sorted(small)
    assert draw_rows(100, 100, seed=3) == list(range(100))


def test_every_row_is_equally_likely() -> None:
    drawn = [row for seed in range(2000) for row in draw_rows(5, 2, seed)]
    counts = [drawn.count(row) for row in range(5)]
    assert min(counts) > 700  # of 800; the standard deviation is 22
    assert max(counts) < 900


def test_rows_are_copied_unchanged(tmp_path: Path) -> None:
    lines = [
        json.dumps({"query": f"½ {i}\u2028", "response": "x"}, ensure_ascii=False) for i in range(9)
    ]
    data = tmp_path / "data.jsonl"
    data.write_text("\n\n".join(lines))  # blank lines between, none at the end
    out = tmp_path / "part.jsonl"
    result = run_script(
        "data/subset.py", "--data_path", data, "--n_rows", "4", "--output_path", out
    )
    assert (result.returncode, result.stderr) == (0, "")
    expected = [lines[row] for row in draw_rows(9, 4, seed=0)]
    assert out.read_text(encoding="utf-8").split("\n") == [*expected, ""]


@pytest.mark.parametrize("n_rows", ["0", "3", "-1"])
def test_too_many_rows_are_an_error_of_one_line(tmp_path: Path, n_rows: str) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text('{"query": "a"}\n{"query": "b"}\n')
    out = tmp_path / "part.jsonl"
    result = run_script(
        "data/subset.py", "--data_path", data, "--n_rows", n_rows, "--output_path", out
    )
    assert result.returncode == 1
    assert result.stderr == f"error: {data}: has 2 rows; --n_rows must be from 1 to 2\n"
    assert not out.exists()


def test_the_data_is_not_overwritten(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text('{"query": "a"}\n')
    result = run_script(
        "data/subset.py", "--data_path", data, "--n_rows", "1", "--output_path", data
    )
    assert "is an input" in result.stderr
    assert data.read_text() == '{"query": "a"}\n'

"""Every usual file format gives the same rows; what cannot be read says what it is."""

import gzip
import json
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from screl.core.io import UserError
from screl.core.rows import first_row, lines_of, read_rows

ROWS = [{"query": f"q{i} é", "response": "a\nb", "n": i, "tags": ["x"]} for i in range(3)]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
CONTENTS = {
    "jsonl": LINES.encode(),
    "no last line end": LINES.strip().encode(),
    "BOM": b"\xef\xbb\xbf" + LINES.encode(),
    "CRLF": LINES.replace("\n", "\r\n").encode(),
    "list": json.dumps(ROWS).encode(),
    "list over lines": json.dumps(ROWS, indent=2).encode(),
    "list with BOM": b"\xef\xbb\xbf\r\n" + json.dumps(ROWS).encode(),
    "gzip": gzip.compress(LINES.encode()),
    "list in gzip with BOM": gzip.compress(b"\xef\xbb\xbf" + json.dumps(ROWS).encode()),
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_every_format_gives_the_same_rows(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"  # the name does not matter
    path.write_bytes(content)
    assert list(read_rows(path)) == list(enumerate(ROWS, start=1))
    assert first_row(path) == ROWS[0]
    assert [json.loads(line) for line in lines_of(path).read_text("utf-8").splitlines()] == ROWS


def test_parquet_and_its_batches(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), path, row_group_size=2)
    assert list(read_rows(path)) == list(enumerate(ROWS, start=1))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"a\.parquet: is damaged parquet \(.*\); make it again$"):
        list(read_rows(path))


def test_rows_come_with_their_line_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n\n{"a": 2}\n')
    assert list(read_rows(path)) == [(1, {"a": 1}), (3, {"a": 2})]
    assert lines_of(path) == path


UTF8 = "save it as UTF-8$"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\n\n", "file is empty"),
        (b"[]", "list is empty"),
        (b'{"a": 1}\n{"a": 2', ":2: not valid JSON .*; fix or delete this line"),
        (b'{"a": 1}\n\n[1]\n', ":3: expected a JSON object, found list; fix or delete this line"),
        (b'[{"a": 1}, 7]', ", row 2: expected a JSON object, found int; fix or delete it"),
        (b'[{"a": 1},\n', ":1: not valid JSON"),
        (b'{\n  "a": 1\n}\n', ":1: a JSON object over several lines; write each on one line"),
        (LINES.encode("utf-16"), f": is UTF-16: {UTF8}"),
        (b"\0" * 5000, ": is full of NUL bytes: make it again"),
        (LINES.encode("utf-16-le"), f": is UTF-16: {UTF8}"),
        (LINES.encode("utf-16-be"), f": is UTF-16: {UTF8}"),
        (LINES.encode("utf-32"), f": is UTF-32: {UTF8}"),
        (LINES.encode("latin-1"), r":1: is not UTF-8 \(byte 0xe9 at column 15\); save the file"),
        (gzip.compress(LINES.encode("utf-16"), mtime=0), f": is UTF-16: {UTF8}"),
        (gzip.compress(LINES.encode(), mtime=0)[:-12], ": is damaged gzip .*; make it again"),
        (b"question,answer\nx,7\n", ": looks like CSV; save it as JSONL"),
        (b"question\tanswer\nx\t7\n", ": looks like CSV; save it as JSONL"),
        (b"PK\x03\x04....", ": is a zip archive: unpack it"),
        (b"\x28\xb5\x2f\xfd..", ": is compressed with zstd: unpack it with zstd -d"),
        (b"ARROW1\0\0", ": is Arrow: save it as parquet or JSONL"),
        (b"<!DOCTYPE html>", ": is HTML or XML"),
        (b"version https://git-lfs.github.com/spec/v1\n", ": is a Git LFS pointer"),
    ],
)
def test_what_cannot_be_read_says_why_in_one_line(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        list(read_rows(path))
    assert str(caught.value).startswith(str(path))
    assert "surrogates" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        list(read_rows(tmp_path / "none.jsonl"))
    with pytest.raises(UserError, match="is a folder"):
        list(read_rows(tmp_path))

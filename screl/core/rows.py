"""Read the rows of a data file in any of the usual file formats.

JSON Lines, one JSON list of objects, either of them compressed with gzip, and parquet. The format
is read from the content, not from the file's name. A file that is something else is refused in a
line that says what it is.
"""

import atexit
import gzip
import os
import re
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import orjson

from screl.core.io import UserError, open_for_reading, parse_object

Row = dict[str, Any]

BOM = b"\xef\xbb\xbf"  # of UTF-8; Windows programs write it
GZIP, PARQUET = b"\x1f\x8b", b"PAR1"
# The first bytes of files that are often given by mistake, what they are, and what to do.
OTHER_FORMATS = (
    (b"\xff\xfe\x00\x00", "UTF-32: save it as UTF-8"),
    (b"\xff\xfe", "UTF-16: save it as UTF-8"),
    (b"\xfe\xff", "UTF-16: save it as UTF-8"),
    (b"PK\x03\x04", "a zip archive: unpack it and give the file inside"),
    (b"BZh", "compressed with bzip2: unpack it with bunzip2"),
    (b"\xfd7zXZ", "compressed with xz: unpack it with unxz"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd: unpack it with zstd -d"),
    (b"ARROW1", "Arrow: save it as parquet or JSONL"),
    (b"\xff\xff\xff\xff", "Arrow: save it as parquet or JSONL"),
    (b"\x89HDF", "HDF5: save it as JSONL"),
    (b"SQLite format 3", "an SQLite database: export its rows as JSONL"),
    (b"%PDF", "a PDF: give JSONL"),
    (b"version https://git-lfs", "a Git LFS pointer, not the data: run git lfs pull"),
    (b"<", "HTML or XML (perhaps a web page instead of the file): download the file itself"),
)


def read_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Yield ``(number from 1, object)`` for every row: its line or, without lines, its place.

    Raises UserError, which names the file and the line, for what cannot be read.
    """
    n_rows = 0
    for n_rows, found in enumerate(_rows(path), start=1):  # noqa: B007
        yield found
    if n_rows == 0:
        raise UserError(f"{path}: the file is empty; expected one JSON object per line")


def first_row(path: Path) -> Row | None:
    """Return the first row; None if the file is blank or a list of something else than objects."""
    start = _first_bytes(path).removeprefix(BOM).lstrip()
    if not start or re.match(rb"\[\s*[^{\s]", start):
        return None
    return next(read_rows(path))[1]


def lines_of(path: Path) -> Path:
    """Return ``path`` if it is plain JSONL, or else a temporary JSONL copy of its rows.

    Row i of the copy is row i of the file. The copy is deleted when this process ends.
    """
    if _first_bytes(path).lstrip()[:1] == b"{":
        return path
    handle, name = tempfile.mkstemp(prefix="gsm8k-screl-", suffix=".jsonl")
    atexit.register(_delete, name, os.getpid())
    with open(handle, "wb") as file:
        for _, row in read_rows(path):
            file.write(orjson.dumps(row, default=str) + b"\n")
    return Path(name)


def _delete(name: str, of_process: int) -> None:
    if os.getpid() == of_process:  # and not a process forked from it
        Path(name).unlink(missing_ok=True)


def _first_bytes(path: Path) -> bytes:
    with open_for_reading(path) as file:
        start: bytes = file.read(4096)
        return start


def _rows(path: Path) -> Iterator[tuple[int, Row]]:
    start = _first_bytes(path)
    if start.startswith(PARQUET):
        return _parquet_rows(path)
    if start.startswith(GZIP):
        return _gzip_rows(path)
    return _text_rows(path, open_for_reading(path))


def _parquet_rows(path: Path) -> Iterator[tuple[int, Row]]:
    import pyarrow
    from pyarrow.parquet import ParquetFile

    number = 0
    try:
        with ParquetFile(path) as file:
            for batch in file.iter_batches():
                for number, row in enumerate(batch.to_pylist(), start=number + 1):  # noqa: B020
                    yield number, row
    except (pyarrow.ArrowException, OSError) as error:
        first_line = str(error).split("\n")[0]
        raise UserError(f"{path}: is damaged parquet ({first_line}); make it again") from None


def _gzip_rows(path: Path) -> Iterator[tuple[int, Row]]:
    try:
        yield from _text_rows(path, cast(BinaryIO, gzip.open(path)))  # noqa: SIM115
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path}: is damaged gzip ({error}); make it again") from None


def _text_rows(path: Path, file: BinaryIO) -> Iterator[tuple[int, Row]]:
    """Yield the rows of JSONL or of one JSON list."""
    with file:
        start = file.read(4096)
        _refuse_other_format(path, start)
        file.seek(0)
        if start.removeprefix(BOM).lstrip()[:1] == b"[" and (rows := _json_list(path, file)):
            yield from rows
            return
        file.seek(0)
        for number, line in enumerate(file, start=1):
            text = line.removeprefix(BOM) if number == 1 else line
            if text.strip():
                yield number, _parse_line(text, path, number)


def _refuse_other_format(path: Path, start: bytes) -> None:
    text = start.removeprefix(BOM)
    found = [what for prefix, what in OTHER_FORMATS if text.lstrip().startswith(prefix)]
    if not found and b"\0" in start[:4]:
        is_blank = not start.strip(b"\0")  # a crash of the machine may leave such a file
        found = ["full of NUL bytes: make it again" if is_blank else "UTF-16: save it as UTF-8"]
    if found:
        raise UserError(f"{path}: is {found[0]}")
    first = text.lstrip().split(b"\n")[0]
    if first and first[:1] not in b"{[" and re.search(rb"\w[\"']?\s*[,\t;]\s*[\"']?\w", first):
        raise UserError(f"{path}: looks like CSV; save it as JSONL, one JSON object per line")


def _json_list(path: Path, file: BinaryIO) -> list[tuple[int, Row]] | None:
    """Return the objects of a JSON list; None if the file is not one list."""
    try:
        rows = orjson.loads(file.read().removeprefix(BOM))
    except orjson.JSONDecodeError:
        return None
    if not rows:
        raise UserError(f"{path}: the list is empty; expected a list of JSON objects")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise UserError(
                f"{path}, row {number}: expected a JSON object, found {type(row).__name__}; fix or "
                "delete it"
            )
    return list(enumerate(rows, start=1))


def _parse_line(line: bytes, path: Path, number: int) -> Row:
    where = f"{path}:{number}"
    try:
        line.decode()
    except UnicodeDecodeError as error:
        raise UserError(
            f"{where}: is not UTF-8 (byte 0x{line[error.start]:02x} at column {error.start + 1}); "
            "save the file as UTF-8, then fix or delete this line"
        ) from None
    if number == 1 and line.strip() == b"{":
        raise UserError(f"{where}: a JSON object over several lines; write each on one line")
    return parse_object(line, where)

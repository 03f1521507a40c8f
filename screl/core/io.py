"""Read and write files so that a crash, a full disk or a torn line never costs finished work.

Reading names the file and the line at fault; writing goes to a temporary name, is flushed to the
disk and renamed, so that a reader sees the old file or the new one and nothing in between.

Print rows as aligned columns.
"""

import fcntl
import hashlib
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

# How the files that hold samples begin, in a sample store and in the published layout.
INPUT_NAMES = ("manifest.json", "samples-", "raw_generation_")


class UserError(Exception):
    """The input or the run is at fault; the message is one line: what is wrong, how to mend it."""


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield ``(line number from 1, object)`` for every line of a JSONL file.

    Blank lines are skipped. Raises UserError for a missing or empty file and for a line that is
    not a JSON object.
    """
    n_rows = 0
    with open_for_reading(path) as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                n_rows += 1
                yield number, parse_object(line, f"{path}:{number}")
    if n_rows == 0:
        raise UserError(f"{path}: the file is empty; expected one JSON object per line")


def open_for_reading(path: Path) -> Any:
    """Open ``path`` as bytes; a missing file or a folder is a UserError that says so."""
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give a file")
    try:
        return open(path, "rb")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path") from None


def parse_object(line: bytes, where: str) -> dict[str, Any]:
    """The JSON object on one line; UserError naming ``where``, file:line, if it is not one."""
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise UserError(f"{where}: not valid JSON ({error}); mend or delete this line") from None
    if not isinstance(row, dict):
        found = type(row).__name__
        raise UserError(f"{where}: expected a JSON object, found {found}; mend or delete this line")
    return row


def write_atomic(path: Path, parts: Iterable[str]) -> None:
    """Write the concatenated ``parts`` to ``path``: all of it, or nothing if anything fails.

    A link is followed. UserError if ``path`` is a folder or a device.
    """
    path = real_path(path)
    refuse_special_file(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def refuse_special_file(path: Path) -> None:
    """UserError if ``path`` exists and is no regular file: a folder, or a device such as /dev/null,
    which renaming a finished file into place would remove."""
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: is not a regular file; give another path to write to")


def refuse_to_overwrite(outputs: Sequence[Path], inputs: Iterable[Path]) -> None:
    """UserError if writing ``outputs`` would destroy one of ``inputs``, samples inside one, another
    output, or anything that is no regular file."""
    taken = [real_path(path) for path in inputs]
    for path in outputs:
        output = real_path(path)
        refuse_special_file(output)
        if output in taken or (output.parent in taken and output.name.startswith(INPUT_NAMES)):
            raise UserError(f"{output}: is an input; give another path to write to")
        if [real_path(other) for other in outputs].count(output) > 1:
            raise UserError(f"{output}: is to be written twice; give another path to write to")


def real_path(path: Path) -> Path:
    """Absolute, links followed; unlike Path.resolve, a loop of links is left as it is."""
    return Path(os.path.realpath(path))


def sibling(path: Path, ending: str) -> Path:
    """``path`` without .jsonl or .json, with ``ending``: where what belongs to it is written.

    >>> str(sibling(Path("rft_0.7"), ".run.json")), str(sibling(Path("rft.jsonl"), ".run.json"))
    ('rft_0.7.run.json', 'rft.run.json')
    """
    stem = path.stem if path.suffix in (".jsonl", ".json") else path.name
    return path.with_name(stem + ending)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    text = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS).decode()
    write_atomic(path, [text, "\n"])


def read_json(path: Path) -> Any:
    """The value in a JSON file; UserError if it is missing or not JSON."""
    with open_for_reading(path) as file:
        try:
            return orjson.loads(file.read())
        except orjson.JSONDecodeError as error:
            raise UserError(f"{path}: not valid JSON ({error})") from None


def read_json_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file; UserError if it is missing or anything else."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected a JSON object; delete it and make its folder again")
    return value


@contextmanager
def locked(folder: Path, in_use: str) -> Iterator[None]:
    """Hold ``folder`` for this process; UserError, "folder: in_use", if another one does."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{folder}: {in_use}") from None
        except OSError as error:  # some network file systems have no locks
            print(
                f"{folder}: cannot be locked ({error.strerror}); start only one process for it",
                file=sys.stderr,
            )
        yield


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with open_for_reading(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def format_table(rows: Sequence[Sequence[str]]) -> str:
    """The rows as text, header first: the first column to the left, the others to the right.

    >>> print(format_table([["run", "maj1@1"], ["sft", "41.6"]]))
    run  maj1@1
    sft    41.6
    """
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )

"""Read and write files so that a crash, a full disk or a torn line never costs finished work.

Errors about an input file name the file and the line. A file is written under a temporary name,
flushed to disk and renamed, so that a reader sees the old file or the new one, never a part.
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

# Prefixes of files that hold samples, in a sample store and in the published layout.
SAMPLE_FILE_PREFIXES = ("manifest.json", "samples-", "raw_generation_")


class UserError(Exception):
    """An error for the user, whose one-line message says what is wrong and how to fix it."""


def open_for_reading(path: Path) -> Any:
    """Open ``path`` in binary mode; raise UserError for a missing file or a folder."""
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give a file")
    try:
        return open(path, "rb")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path") from None


def parse_object(line: bytes, where: str) -> dict[str, Any]:
    """Return the JSON object on one line; raise UserError naming ``where``, its file:line."""
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise UserError(f"{where}: not valid JSON ({error}); fix or delete this line") from None
    if not isinstance(row, dict):
        found = type(row).__name__
        raise UserError(f"{where}: expected a JSON object, found {found}; fix or delete this line")
    return row


def read_json(path: Path) -> Any:
    """Return the value in a JSON file; raise UserError if the file is missing or not JSON."""
    with open_for_reading(path) as file:
        try:
            return orjson.loads(file.read())
        except orjson.JSONDecodeError as error:
            raise UserError(f"{path}: not valid JSON ({error})") from None


def read_json_object(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; raise UserError if it is missing or anything else."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected a JSON object; delete it and make its folder again")
    return value


def write_atomic(path: Path, parts: Iterable[str]) -> None:
    """Write the concatenated ``parts`` to ``path``, or nothing at all if anything fails.

    Follows links. Raises UserError if ``path`` is a folder or a device.
    """
    path = real_path(path)
    _refuse_special_file(path)
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


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    text = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS).decode()
    write_atomic(path, [text, "\n"])


def refuse_to_overwrite(outputs: Sequence[Path], inputs: Iterable[Path]) -> None:
    """Raise UserError if writing ``outputs`` would destroy something.

    This may be one of ``inputs``, samples inside them, another output, a folder or a device.
    """
    taken = [real_path(path) for path in inputs]
    for path in outputs:
        output = real_path(path)
        _refuse_special_file(output)
        has_samples = output.parent in taken and output.name.startswith(SAMPLE_FILE_PREFIXES)
        if output in taken or has_samples:
            raise UserError(f"{output}: is an input; give another path to write to")
        if [real_path(other) for other in outputs].count(output) > 1:
            raise UserError(f"{output}: would be written twice; give another path to write to")


def _refuse_special_file(path: Path) -> None:
    """Raise UserError for a folder or a device, which would be replaced by the renamed file."""
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: is not a regular file; give another path to write to")


def real_path(path: Path) -> Path:
    """Return the absolute path with links followed; unlike Path.resolve, accept a loop of links."""
    return Path(os.path.realpath(path))


def sibling(path: Path, ending: str) -> Path:
    """Return ``path`` with ``ending`` in place of .jsonl or .json, the name of an attached file.

    >>> str(sibling(Path("rft_0.7"), ".run.json")), str(sibling(Path("rft.jsonl"), ".run.json"))
    ('rft_0.7.run.json', 'rft.run.json')
    """
    stem = path.stem if path.suffix in (".jsonl", ".json") else path.name
    return path.with_name(stem + ending)


@contextmanager
def locked(folder: Path, in_use: str) -> Iterator[None]:
    """Lock ``folder`` for this process; raise UserError ("folder: in_use") if another holds it."""
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
    """Return the hex SHA-256 of a file's bytes."""
    with open_for_reading(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def format_table(rows: Sequence[Sequence[str]]) -> str:
    """Return the rows, header first, as text; the first column is left-aligned, others right.

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

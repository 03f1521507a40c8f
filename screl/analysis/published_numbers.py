"""The papers' published numbers, as in ``data/paper/*.csv``; the README there explains them."""

import csv
from pathlib import Path
from typing import NamedTuple

from screl.core.io import UserError

FOLDER = Path(__file__).parents[2] / "data" / "paper"


class Row(NamedTuple):
    """One published number; ``of`` is the text of every other column of its row."""

    value: float
    of: dict[str, str]


def rows(table: str, **where: str) -> list[Row]:
    """The rows of ``data/paper/TABLE.csv`` whose columns are exactly as in ``where``, in its order.

    Units are those of the file (percent, nats per token, FLOPs, GPU hours). An empty list if no
    row matches. Raises UserError for an unknown table, an unknown column in ``where`` and a line
    that is not a number and its columns.

    >>> [(row.of["k"], row.value) for row in rows("distinct_paths", model="u13b")]
    [('400', 12.84)]
    """
    return [
        row
        for row in _read_table(table, tuple(where))
        if all(row.of[column] == text for column, text in where.items())
    ]


def values(table: str, **where: str) -> list[float]:
    """The numbers of ``rows(table, **where)``; UserError as there."""
    return [row.value for row in rows(table, **where)]


def value(table: str, **where: str) -> float:
    """The number of the only row that matches; UserError if none or several do, and as in rows."""
    found = values(table, **where)
    if len(found) != 1:
        asked = ", ".join(f"{column} {text!r}" for column, text in where.items()) or "any row"
        raise UserError(f"{_path(table)}: {len(found)} rows have {asked}; ask for one of its rows")
    return found[0]


def _read_table(table: str, wanted: tuple[str, ...]) -> list[Row]:
    """Every row of a table that has the ``wanted`` columns."""
    path = _path(table)
    if not path.is_file():
        known = ", ".join(sorted(other.stem for other in FOLDER.glob("*.csv")))
        raise UserError(f"{path}: no such table; give one of {known}")
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        columns = next(reader, [])
        for column in wanted:
            if column not in columns or column == "value":
                known = ", ".join(other for other in columns if other != "value")
                raise UserError(f"{path}: no column {column!r} to choose rows by; it has {known}")
        return [_parse_row(columns, cells, f"{path}:{reader.line_num}") for cells in reader]


def _parse_row(columns: list[str], cells: list[str], where: str) -> Row:
    try:
        of = dict(zip(columns, cells, strict=True))
        return Row(float(of.pop("value")), of)
    except (KeyError, ValueError):
        raise UserError(
            f"{where}: expected {','.join(columns)} with a number as value; mend this line"
        ) from None


def _path(table: str) -> Path:
    return FOLDER / f"{table}.csv"

"""Read the papers' published numbers from ``data/paper/*.csv``, explained in the README there."""

import csv
from pathlib import Path
from typing import NamedTuple

from screl.core.io import UserError

FOLDER = Path(__file__).parents[2] / "data" / "paper"


class PublishedNumber(NamedTuple):
    """One published number; ``columns`` holds the text of the other columns of its row."""

    value: float
    columns: dict[str, str]


def published_numbers(table: str, **where: str) -> list[PublishedNumber]:
    """Return the rows of ``data/paper/TABLE.csv`` whose columns equal ``where``, in file order.

    Units are those of the file (percent, nats per token, FLOPs, GPU hours). Raises UserError for an
    unknown table, an unknown column in ``where``, or a malformed line.

    >>> [(row.columns["k"], row.value) for row in published_numbers("distinct_paths", model="u13b")]
    [('400', 12.84)]
    """
    path = FOLDER / f"{table}.csv"
    if not path.is_file():
        known = ", ".join(sorted(other.stem for other in FOLDER.glob("*.csv")))
        raise UserError(f"{path}: no such table; use one of {known}")
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        names = next(reader, [])
        for column in where:
            if column not in names or column == "value":
                known = ", ".join(name for name in names if name != "value")
                raise UserError(f"{path}: no column {column!r} to select by; it has {known}")
        rows = [_parse_row(names, cells, f"{path}:{reader.line_num}") for cells in reader]
    return [row for row in rows if where.items() <= row.columns.items()]


def _parse_row(names: list[str], cells: list[str], where: str) -> PublishedNumber:
    try:
        columns = dict(zip(names, cells, strict=True))
        return PublishedNumber(float(columns.pop("value")), columns)
    except (KeyError, ValueError):
        raise UserError(
            f"{where}: expected {','.join(names)} with a number as value; fix this line"
        ) from None

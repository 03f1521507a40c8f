"""Print rows as aligned columns."""

from collections.abc import Sequence


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

"""Problems and training data: JSONL rows ``{"query", "response"}``, optionally ``problem_id``."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from screl.files import UserError, read_jsonl

ProblemId = int | str

OWN_KEYS = ("query", "response", "problem_id")


@dataclass(frozen=True, slots=True)
class Problem:
    """One row: ``question`` is its ``query`` on disk, ``solution`` its ``response``.

    ``extra`` holds its other keys (``level``, ``type``), by which scores can be broken down.
    """

    problem_id: ProblemId
    question: str
    solution: str
    line: int
    extra: dict[str, Any] = field(default_factory=dict, hash=False)


def load_problems(path: Path) -> list[Problem]:
    """The rows of a JSONL file in their order; ids are ``problem_id`` or the 0-based row number.

    Raises UserError, with file and line, for a missing key, an empty question or an id given twice.
    """
    problems: list[Problem] = []
    line_of_id: dict[ProblemId, int] = {}
    for number, row in read_jsonl(path):
        for key in ("query", "response"):
            if not isinstance(row.get(key), str):
                raise UserError(
                    f"{path}:{number}: no text under {key!r} (found keys: {', '.join(row)}); "
                    'every line must be {"query": ..., "response": ...}'
                )
        if not row["query"].strip():
            raise UserError(f"{path}:{number}: the query is empty; mend or delete this line")
        problem_id = row.get("problem_id", len(problems))
        if not isinstance(problem_id, int | str):
            raise UserError(f"{path}:{number}: problem_id must be a number or a text")
        if problem_id in line_of_id:
            raise UserError(
                f"{path}:{number}: problem_id {problem_id!r} is already on line "
                f"{line_of_id[problem_id]}; ids must be unique"
            )
        line_of_id[problem_id] = number
        extra = {key: value for key, value in row.items() if key not in OWN_KEYS}
        problems.append(Problem(problem_id, row["query"], row["response"], number, extra))
    return problems

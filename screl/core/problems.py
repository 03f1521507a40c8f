"""Load problems and training data: rows with a question, a worked solution or a final answer.

``core/rows.py`` reads the files and ``core/layouts.py`` the rows. ``build_prompt`` makes the
prompt of both papers from a question, the Alpaca template without input;
``screl.models.prompts`` has the few-shot prompt for base models.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from screl.core.io import UserError
from screl.core.layouts import SOLUTION_KEYS, Reading, RowKeys, Text, is_worked, read_row
from screl.core.rows import read_rows

ProblemId = int | str

ANY_KEYS = RowKeys()
MAX_NAMED = 10  # unused keys
ALPACA_NO_INPUT = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{question}\n\n### Response:"
)


@dataclass(frozen=True, slots=True)
class Problem:
    """A question with its reference solution, "" if it has none, and its line in the data file.

    ``answer`` is the row's short final answer, by which completions are graded; if it is None, the
    answer is read from the solution. ``extra`` holds the row's other keys (such as ``level``), by
    which scores can be broken down. ``row`` is the whole row of the data file, for verifiers.
    """

    problem_id: ProblemId
    question: str
    solution: str
    line: int
    extra: dict[str, Any] = field(default_factory=dict, hash=False)
    answer: str | None = None
    row: dict[str, Any] = field(default_factory=dict, hash=False, compare=False, repr=False)


def load_problems(
    path: Path,
    keys: RowKeys = ANY_KEYS,
    needs_solution: bool = False,
    say: Callable[[str], None] | None = None,
    needs_gold: bool = True,
) -> list[Problem]:
    """Return the rows of a data file in order; the id is ``problem_id`` or the 0-based row.

    ``say`` gets one line about what was read as what. Raises UserError, with file and line, for a
    row with no certain reading, a repeated id, neither a solution nor an answer (``needs_gold``)
    or, with ``needs_solution``, only a short answer.
    """
    problems: list[Problem] = []
    line_of_id: dict[ProblemId, int] = {}
    numbered = list(read_rows(path))
    readings = _settle(path, numbered, keys)
    for (number, row), reading in zip(numbered, readings, strict=True):
        where = f"{path}:{number}"
        if needs_gold:
            _check_solution(row, reading, needs_solution, where)
        problem_id = row.get("problem_id", len(problems))
        if not isinstance(problem_id, int | str):
            raise UserError(f"{where}: problem_id must be a number or a string")
        if problem_id in line_of_id:
            raise UserError(
                f"{where}: problem_id {problem_id!r} is already on line "
                f"{line_of_id[problem_id]}; ids must be unique"
            )
        line_of_id[problem_id] = number
        used = {*reading.used, "problem_id"}
        extra = {key: value for key, value in row.items() if key not in used}
        solution = reading.solution.text if reading.solution else ""
        answer = reading.answer.text if reading.answer else None
        problems.append(
            Problem(problem_id, reading.question.text, solution, number, extra, answer, row)
        )
    if say:
        say(_describe(path, readings, problems))
    return problems


def _settle(
    path: Path, numbered: Sequence[tuple[int, dict[str, Any]]], keys: RowKeys
) -> list[Reading]:
    """Read all rows; decide, once for the file, what an ``answer`` without a solution is.

    GSM8K's holds the worked solution, others' only a number. Raises UserError if a file has both.
    """
    readings = [read_row(row, keys, f"{path}:{number}") for number, row in numbered]
    alone = [
        (is_worked(reading.answer.text), number, reading.answer.key)
        for (number, _), reading in zip(numbered, readings, strict=True)
        if reading.answer and not reading.solution and not keys.answer
    ]
    if len({worked for worked, _, _ in alone}) > 1:
        (_, short, key), (_, long, _) = min(alone), max(alone)
        raise UserError(
            f"{path}: {key!r} is a worked solution on line {long} and a short answer on line "
            f"{short}; say which with --response_key {key} or --answer_key {key}"
        )
    if not alone or not alone[0][0]:
        return readings
    return [
        reading if reading.solution else replace(reading, solution=reading.answer, answer=None)
        for reading in readings
    ]


def _check_solution(
    row: dict[str, Any], reading: Reading, needs_solution: bool, where: str
) -> None:
    """Raise UserError if the row has neither a solution nor, where that is enough, an answer."""
    if reading.solution or (reading.answer and not needs_solution):
        return
    names = {key.lower(): key for key in row}
    empty = [names[key] for key in SOLUTION_KEYS if isinstance(row.get(names.get(key, "")), str)]
    if empty and not reading.answer:
        raise UserError(f"{where}: the {empty[0]} is empty; fix or delete this line")
    others = [key for key in text_keys(row) if key not in reading.used]
    choose = f"give the solution's key with --response_key ({', '.join(others)})"
    if reading.answer:
        key, text = reading.answer
        raise UserError(
            f"{where}: {key!r} holds only a final answer ({text[:40]!r}), no worked solution; "
            + (f"{choose}, or " if others else "")
            + f"train on bare answers with --response_key {key}"
        )
    raise UserError(
        f"{where}: no text under {SOLUTION_KEYS[0]!r} or any other key of a solution or an answer "
        f"(found keys: {', '.join(row)}); "
        + (choose if others else 'every line must be {"query": ..., "response": ...}')
    )


def text_keys(row: dict[str, Any]) -> list[str]:
    """Return the keys of a row that hold text or a list of texts."""
    return [
        key
        for key, value in row.items()
        if value
        and (
            isinstance(value, str)
            or (isinstance(value, list) and all(isinstance(item, str) for item in value))
        )
    ]


def _describe(path: Path, readings: Sequence[Reading], problems: Sequence[Problem]) -> str:
    """Return the line about what was read as what, and which texts were not used."""

    def keys(found: Iterable[Text | None]) -> str:
        counts = Counter(text.key if text else None for text in found)
        named = [repr(key) for key in counts if key is not None]
        if len(counts) > 1:
            named = [f"{key!r} ({n})" for key, n in counts.items() if key is not None]
        return " and ".join(named)

    solution = keys(reading.solution for reading in readings)
    answer = keys(reading.answer for reading in readings)
    unused = dict.fromkeys(key for problem in problems for key in text_keys(problem.extra))
    n_system = sum(reading.has_system for reading in readings)
    parts = [f"question from {keys(reading.question for reading in readings)}"]
    parts += [f"solution from {solution}"] if solution else ["no solution"]
    parts += [f"answer from {answer}"] if answer else []
    notes = [", ".join(parts)]
    if n_system:
        notes.append(f"{n_system} system message{'s' * (n_system > 1)} left out")
    if unused:
        names = [*unused][:MAX_NAMED] + ["..."] * (len(unused) > MAX_NAMED)
        notes.append(f"other texts, not used: {', '.join(names)}")
    return f"{path}: {len(problems)} row{'s' * (len(problems) != 1)}; {'; '.join(notes)}"


def build_prompt(question: str, template: str = ALPACA_NO_INPUT) -> str:
    """Return the model's prompt: ``template`` with its last ``{question}`` filled in.

    >>> build_prompt("1+1?")[-36:]
    '### Instruction:\\n1+1?\\n\\n### Response:'
    """
    # not str.format: questions contain braces
    before, _, after = template.rpartition("{question}")
    return before + question + after


def without_spaces(text: str) -> str:
    """Return ``text`` without white space, to compare prompts, since decoding changes it."""
    return "".join(text.split())

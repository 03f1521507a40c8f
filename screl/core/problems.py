"""Load problems and training data: JSONL rows of "query", "response", and maybe "problem_id".

The keys of GSM8K (``question``, ``answer``) and MATH (``problem``, ``solution``) on the Hugging
Face hub also work. ``build_prompt`` makes the prompt of both papers from a question, the Alpaca
template without input; ``screl.models.prompts`` has the few-shot prompt for base models.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from screl.core.io import UserError, read_jsonl

ProblemId = int | str

QUESTION_KEYS = ("query", "question", "problem")
SOLUTION_KEYS = ("response", "answer", "solution")
ALPACA_NO_INPUT = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{question}\n\n### Response:"
)


@dataclass(frozen=True, slots=True)
class Problem:
    """A question with its reference solution and its line in the data file.

    ``answer`` is the row's short final answer, by which completions are graded; if it is None, the
    answer is read from the solution. ``extra`` holds the row's other keys (such as ``level``), by
    which scores can be broken down.
    """

    problem_id: ProblemId
    question: str
    solution: str
    line: int
    extra: dict[str, Any] = field(default_factory=dict, hash=False)
    answer: str | None = None


def load_problems(path: Path) -> list[Problem]:
    """Return the rows of a JSONL file in order; the id is ``problem_id`` or the 0-based row.

    Raises UserError, with file and line, for a missing key, an empty question or a repeated id.
    """
    problems: list[Problem] = []
    line_of_id: dict[ProblemId, int] = {}
    for number, row in read_jsonl(path):
        question_key = _find_key(row, QUESTION_KEYS, path, number)
        solution_key = _find_key(row, SOLUTION_KEYS, path, number)
        question, solution = row[question_key], row[solution_key]
        if not question.strip():
            raise UserError(
                f"{path}:{number}: the {question_key} is empty; fix or delete this line"
            )
        problem_id = row.get("problem_id", len(problems))
        if not isinstance(problem_id, int | str):
            raise UserError(f"{path}:{number}: problem_id must be a number or a string")
        if problem_id in line_of_id:
            raise UserError(
                f"{path}:{number}: problem_id {problem_id!r} is already on line "
                f"{line_of_id[problem_id]}; ids must be unique"
            )
        line_of_id[problem_id] = number
        used = (question_key, solution_key, "problem_id")
        extra = {key: value for key, value in row.items() if key not in used}
        problems.append(Problem(problem_id, question, solution, number, extra))
    return problems


def _find_key(row: dict[str, Any], keys: Sequence[str], path: Path, number: int) -> str:
    for key in keys:
        if isinstance(row.get(key), str):
            return key
    raise UserError(
        f"{path}:{number}: no text under {keys[0]!r} (found keys: {', '.join(row)}); "
        'every line must be {"query": ..., "response": ...}'
    )


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

"""Read samples from any JSONL file whose rows name their text by one of the usual keys.

One row is one completion, or all completions of a problem as a list. It is joined to its problem by
an id, else by its question, else, where there are as many rows as problems, by its place.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from screl.core.alpaca import without_spaces
from screl.core.io import UserError, open_for_reading, read_jsonl
from screl.core.problems import Problem, ProblemId
from screl.samples.line_index import SampleIndex, Samples, find_all_lines, make_index

# In the order in which they are looked for. ``resps`` is lm-evaluation-harness's --log_samples,
# ``code`` that of the Qwen2.5-Math and ToRA evaluations, ``gen`` and ``outputs`` of many others.
TEXT_KEYS = (
    *("completion", "completions", "resps", "generation", "generations", "model_output"),
    *("model_outputs", "output", "outputs", "generated_text", "gen", "code", "prediction"),
    *("response", "responses", "solution", "text"),
)
ID_KEYS = ("problem_id", "doc_id", "question_id", "idx", "index", "id")
MAX_DEPTH = 3  # of lists in lists; rows may come from anywhere
QUESTION_KEYS = ("question", "query", "problem", "prompt", "instruction")


def is_plain(path: Path) -> bool:
    """Whether ``path`` is a file of JSON objects other than the published ``{"gen": [text]}``.

    UserError if its first line is no JSON.
    """
    if not path.is_file() or path.name.startswith("raw_generation_"):
        return False
    with open_for_reading(path) as file:
        first = next((line for line in file if line.strip()), b"null")
        try:
            row = orjson.loads(first)
        except orjson.JSONDecodeError as error:
            raise UserError(f"{path}:1: not valid JSON ({error}); mend this line") from None
    return isinstance(row, dict) and row.keys() != {"gen"}


def index_plain(path: Path, problems: Sequence[Problem]) -> SampleIndex:
    """Where the completions in ``path`` are; those of one problem are numbered as they come.

    Raises UserError, with file and line, for a row without a text or of no known problem.
    """
    lines = find_all_lines(path)
    finder = RowFinder(path, problems, len(lines.starts))
    n_seen = [0] * len(problems)
    found: list[tuple[int, int, int, int]] = []
    first_filter, is_model_output = None, False
    for (number, row), start, length in zip(
        read_jsonl(path), *map(np.ndarray.tolist, lines), strict=True
    ):
        # lm-evaluation-harness writes every completion once for each of its filters of answers
        answer_filter = row.get("filter") if "resps" in row else None
        first_filter = first_filter or answer_filter
        if answer_filter != first_filter:
            continue
        position = finder.find(row, number)
        texts = row_texts(row, f"{path}:{number}")
        is_model_output |= texts != [problems[position].solution]
        for _ in texts:
            found.append((position, n_seen[position], start, length))
            n_seen[position] += 1
    if not is_model_output:
        raise UserError(
            f"{path}: every completion is its problem's solution; are these the problems "
            "themselves? Give what a model wrote, under 'completion'"
        )
    samples = Samples(*np.array(found, np.int64).reshape(-1, 4).T)
    return make_index([path], [samples], problems, max(n_seen))


def parse_plain(
    index: SampleIndex, position: int, lines: Sequence[bytes | None]
) -> Iterator[tuple[int, tuple[str, int | None, str | None]]]:
    """Yield sample_id and (text, n_tokens, finish_reason) of one problem's completions."""
    starts = index.starts[position].tolist()
    there = [sample_id for sample_id, line in enumerate(lines) if line is not None]
    for start, of_row in groupby(there, key=starts.__getitem__):
        sample_ids = list(of_row)
        row = orjson.loads(lines[sample_ids[0]] or b"")
        texts, first = row_texts(row, str(index.files[0])), starts.index(start)
        n_tokens, reason = row.get("n_tokens"), row.get("finish_reason")
        n_tokens = n_tokens if type(n_tokens) is int and 0 <= n_tokens < 2**31 else None
        finish_reason = reason if isinstance(reason, str) else None
        for sample_id in sample_ids:
            yield sample_id, (texts[sample_id - first], n_tokens, finish_reason)


class RowFinder:
    """Tells which problem a row is about."""

    def __init__(self, path: Path, problems: Sequence[Problem], n_rows: int) -> None:
        self._path = path
        self._n_problems, self._n_rows = len(problems), n_rows
        self._by_id: dict[ProblemId, int] = {p.problem_id: i for i, p in enumerate(problems)}
        self._questions = [without_spaces(problem.question) for problem in problems]
        # the first of problems with the same question; prompts are added as they are met
        self._by_question = {q: i for i, q in reversed(list(enumerate(self._questions)))}
        self._n_found = 0

    def find(self, row: dict[str, Any], number: int) -> int:
        """The position of the row's problem; UserError naming the line if there is none."""
        self._n_found += 1
        where = f"{self._path}:{number}"
        question = _question_of(row)
        id_key = next((key for key in ID_KEYS if row.get(key) is not None), None)
        if id_key is not None:
            return self._find_id(id_key, row[id_key], question, where)
        if question is not None:
            return self._find_question(question, where)
        if self._n_rows == self._n_problems:
            return self._n_found - 1
        raise UserError(
            f"{where}: no id ({', '.join(ID_KEYS)}) and no question ({', '.join(QUESTION_KEYS)}) "
            f"to join by, and {self._n_rows} rows for {self._n_problems} problems; add one of "
            "these keys"
        )

    def _find_id(self, key: str, row_id: object, question: str | None, where: str) -> int:
        position = self._by_id.get(row_id) if isinstance(row_id, int | str) else None
        if isinstance(row_id, bool):  # which Python takes for 0 or 1
            position = None
        if position is None:
            raise UserError(
                f"{where}: {key} {row_id!r} is no problem's id; give the problems it was sampled "
                "for as --data_path"
            )
        if question is not None and self._questions[position] not in question:
            raise UserError(
                f"{where}: its question is not that of problem {row_id!r}; give the problems it "
                "was sampled for as --data_path"
            )
        return position

    def _find_question(self, question: str, where: str) -> int:
        if question not in self._by_question:
            held = [i for i, known in enumerate(self._questions) if known in question]
            if not held:
                raise UserError(
                    f"{where}: its question is that of no problem; give the problems it was "
                    "sampled for as --data_path"
                )

            def ends_at(i: int) -> tuple[int, int]:
                known = self._questions[i]
                return question.rindex(known) + len(known), len(known)

            # Examples come before the question that is asked.
            self._by_question[question] = max(held, key=ends_at)
        return self._by_question[question]


def row_texts(row: dict[str, Any], where: str) -> list[str]:
    """The completions of one row; UserError naming ``where`` if it has none."""
    key = text_key(row)
    if key is None:
        raise UserError(
            f"{where}: no completion under any of {', '.join(TEXT_KEYS)} "
            f"(found keys: {', '.join(row)}); rename the key to 'completion'"
        )
    texts = list(_flatten(row[key]))
    # never on to the next key: behind a failed generation it may be the reference solution
    if not texts or _has_null(row[key]):
        raise UserError(
            f"{where}: {key} holds no text or a null; where a generation failed write an empty "
            "text, which is a completion without an answer"
        )
    return texts


def text_key(row: dict[str, Any]) -> str | None:
    """The key of the completions of a row; None if it has none."""
    return next((key for key in TEXT_KEYS if key in row), None)


def _question_of(row: dict[str, Any]) -> str | None:
    """Without white space; lm-evaluation-harness has the problem's own row under ``doc``."""
    doc = row.get("doc")
    for source in (row, doc if isinstance(doc, dict) else {}):
        for key in QUESTION_KEYS:
            if question := without_spaces("".join(_flatten(source.get(key)))):
                return question
    return None


def _flatten(value: Any, depth: int = 0) -> Iterator[str]:
    """The texts in a list, in lists of it, and in chat messages."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _flatten(value.get("content"), MAX_DEPTH)
    elif isinstance(value, list) and depth < MAX_DEPTH:
        for item in value:
            yield from _flatten(item, depth + 1)


def _has_null(value: Any) -> bool:
    return value is None or (isinstance(value, list) and any(map(_has_null, value)))

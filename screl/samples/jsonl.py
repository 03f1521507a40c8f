"""Read samples from a JSONL file whose rows have completions under one of the usual keys.

A row holds one completion, or a list of several for one problem. It is joined to its problem by its
id or, without an id, by its question or, if the file has as many rows as there are problems, by its
position.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from screl.core.io import UserError, open_for_reading, read_jsonl
from screl.core.problems import Problem, ProblemId, without_spaces
from screl.samples.line_index import SampleIndex, SampleLines, find_all_lines, make_index
from screl.samples.store import Sample

# The first key found is used. lm-evaluation-harness's --log_samples writes ``resps``, the
# evaluations of Qwen2.5-Math and ToRA write ``code``, and many others ``gen`` or ``outputs``.
TEXT_KEYS = (
    *("completion", "completions", "resps", "generation", "generations", "model_output"),
    *("model_outputs", "output", "outputs", "generated_text", "gen", "code", "prediction"),
    *("response", "responses", "solution", "text"),
)
ID_KEYS = ("problem_id", "doc_id", "question_id", "idx", "index", "id")
QUESTION_KEYS = ("question", "query", "problem", "prompt", "instruction")
MAX_DEPTH = 3  # of nested lists; rows may come from anywhere


def is_jsonl(path: Path) -> bool:
    """Return whether ``path`` is a file of JSON objects other than the published ``{"gen": …}``.

    Raises UserError if its first line is not JSON.
    """
    if not path.is_file() or path.name.startswith("raw_generation_"):
        return False
    with open_for_reading(path) as file:
        first = next((line for line in file if line.strip()), b"null")
        try:
            row = orjson.loads(first)
        except orjson.JSONDecodeError as error:
            raise UserError(f"{path}:1: not valid JSON ({error}); fix this line") from None
    return isinstance(row, dict) and row.keys() != {"gen"}


def index_jsonl(path: Path, problems: Sequence[Problem]) -> SampleIndex:
    """Index the completions in ``path``, numbering each problem's in the order of the file.

    Raises UserError, with file and line, for a row without a completion or with an unknown problem.
    """
    lines = find_all_lines(path)
    finder = RowFinder(path, problems, len(lines.starts))
    n_seen = [0] * len(problems)
    found: list[tuple[int, int, int, int]] = []
    first_filter, is_model_output = None, False
    for (number, row), start, length in zip(
        read_jsonl(path), *map(np.ndarray.tolist, lines), strict=True
    ):
        # lm-evaluation-harness writes every completion once for each of its answer filters
        answer_filter = row.get("filter") if "resps" in row else None
        first_filter = first_filter or answer_filter
        if answer_filter != first_filter:
            continue
        position = finder.find(row, number)
        texts = _texts_of(row, f"{path}:{number}")
        is_model_output |= texts != [problems[position].solution]
        for _ in texts:
            found.append((position, n_seen[position], start, length))
            n_seen[position] += 1
    if not is_model_output:
        raise UserError(
            f"{path}: every completion is its problem's solution, so this looks like the problems "
            "themselves; give a file of model output, under 'completion'"
        )
    samples = SampleLines(*np.array(found, np.int64).reshape(-1, 4).T)
    return make_index([path], [samples], problems, max(n_seen))


def parse_jsonl(
    index: SampleIndex, problem: Problem, position: int, lines: Sequence[bytes | None]
) -> Iterator[Sample]:
    """Yield the samples of the problem at ``position``, given the line of each sample_id."""
    starts = index.starts[position].tolist()
    present = [sample_id for sample_id, line in enumerate(lines) if line is not None]
    for _, of_row in groupby(present, key=starts.__getitem__):
        sample_ids = list(of_row)
        row = orjson.loads(lines[sample_ids[0]] or b"")
        n_tokens, reason = row.get("n_tokens"), row.get("finish_reason")
        n_tokens = n_tokens if type(n_tokens) is int and 0 <= n_tokens < 2**31 else None
        finish_reason = reason if isinstance(reason, str) else None
        texts = _texts_of(row, str(index.files[0]))
        for sample_id, text in zip(sample_ids, texts, strict=False):  # --k may cut a row
            yield Sample(problem.problem_id, sample_id, text, n_tokens, finish_reason)


class RowFinder:
    """A search for the problem of each row of a file."""

    def __init__(self, path: Path, problems: Sequence[Problem], n_rows: int) -> None:
        self._path = path
        self._n_problems, self._n_rows = len(problems), n_rows
        self._by_id: dict[ProblemId, int] = {p.problem_id: i for i, p in enumerate(problems)}
        self._questions = [without_spaces(problem.question) for problem in problems]
        # the first of several problems with one question; prompts are added as they are found
        self._by_question = {q: i for i, q in reversed(list(enumerate(self._questions)))}
        self._n_found = 0

    def find(self, row: dict[str, Any], number: int) -> int:
        """Return the position of the row's problem; raise UserError if no problem matches."""
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
        if isinstance(row_id, bool):  # Python treats it as 0 or 1
            position = None
        if position is None:
            raise UserError(
                f"{where}: no problem has the {key} {row_id!r}; give the problems it was "
                "sampled for as --data_path"
            )
        if question is not None and self._questions[position] not in question:
            raise UserError(
                f"{where}: its question is not that of problem {row_id!r}; give the problems it "
                "was sampled for as --data_path"
            )
        return position

    def _find_question(self, question: str, where: str) -> int:
        if question not in self._by_question:
            contained = [i for i, known in enumerate(self._questions) if known in question]
            if not contained:
                raise UserError(
                    f"{where}: no problem has its question; give the problems it was sampled for "
                    "as --data_path"
                )

            def ends_at(i: int) -> tuple[int, int]:
                known = self._questions[i]
                return question.rindex(known) + len(known), len(known)

            # few-shot examples come before the question that is asked
            self._by_question[question] = max(contained, key=ends_at)
        return self._by_question[question]


def _texts_of(row: dict[str, Any], where: str) -> list[str]:
    """Return the completions of one row; raise UserError, with ``where``, if it has none."""
    key = next((key for key in TEXT_KEYS if key in row), None)
    if key is None:
        raise UserError(
            f"{where}: no completion under any of {', '.join(TEXT_KEYS)} "
            f"(found keys: {', '.join(row)}); rename the key to 'completion'"
        )
    texts = list(_flatten(row[key]))
    # no fallback to the next key: after a failed generation, it may be the reference solution
    if not texts or _has_null(row[key]):
        raise UserError(
            f"{where}: {key} holds no text or a null; for a failed generation write an empty "
            "text, which counts as a completion without an answer"
        )
    return texts


def _question_of(row: dict[str, Any]) -> str | None:
    """Return the row's question (or that in lm-evaluation-harness's ``doc``), no white space."""
    doc = row.get("doc")
    for source in (row, doc if isinstance(doc, dict) else {}):
        for key in QUESTION_KEYS:
            if question := without_spaces("".join(_flatten(source.get(key)))):
                return question
    return None


def _flatten(value: Any, depth: int = 0) -> Iterator[str]:
    """Yield the texts in nested lists and in chat messages."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _flatten(value.get("content"), MAX_DEPTH)
    elif isinstance(value, list) and depth < MAX_DEPTH:
        for item in value:
            yield from _flatten(item, depth + 1)


def _has_null(value: Any) -> bool:
    return value is None or (isinstance(value, list) and any(map(_has_null, value)))

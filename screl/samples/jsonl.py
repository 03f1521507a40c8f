"""Read samples from a file of rows that have completions under one of the usual keys.

A row holds one completion, or a list of several for one problem. ``joining.py`` finds its problem;
``core/rows.py`` reads JSONL, JSON lists, gzip and parquet.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson

from screl.core.io import UserError
from screl.core.layouts import CHAT_KEYS, ROLES, chat_of
from screl.core.problems import Problem
from screl.core.rows import first_row, lines_of, read_rows
from screl.samples.joining import MAX_DEPTH, Joiner
from screl.samples.line_index import SampleIndex, SampleLines, find_all_lines, make_index
from screl.samples.store import Sample

# The first key found is used. lm-evaluation-harness's --log_samples writes ``resps``, the
# evaluations of Qwen2.5-Math and ToRA write ``code``, OpenAI's batches ``response``, and many
# others ``gen`` or ``outputs``.
TEXT_KEYS = (
    *("completion", "completions", "resps", "generation", "generations", "model_output"),
    *("model_outputs", "output", "outputs", "generated_text", "gen", "code", "prediction"),
    *("response", "responses", "solution", "text", "choices", *CHAT_KEYS),
)
# In an object that stands for a completion, the first of these that it has leads to the text.
INNER_KEYS = ("content", "text", "message", "generated_text", "body", "choices", "value")


class Output(NamedTuple):
    """A completion and why it ended, if that is known."""

    text: str
    finish_reason: str | None


def is_jsonl(path: Path) -> bool:
    """Return whether ``path`` is a file of JSON objects other than the published ``{"gen": …}``.

    Raises UserError if it is a file that cannot be read.
    """
    if not path.is_file() or path.name.startswith("raw_generation_"):
        return False
    row = first_row(path)
    return row is not None and row.keys() != {"gen"}


def index_jsonl(path: Path, problems: Sequence[Problem]) -> SampleIndex:
    """Index the completions in ``path``, numbering each problem's in the order of the file.

    Raises UserError, with file and line, for a row without a completion or with an unknown problem.
    """
    joiner, repeats = Joiner(path, problems), Repeats()
    plain = lines_of(path)
    keys: set[str] = set()  # that hold completions
    unread: set[str] = set()  # that would hold them if there were no other
    found: list[tuple[list[str], int, int]] = []
    for (number, row), start, length in zip(
        read_rows(path), *map(np.ndarray.tolist, find_all_lines(plain)), strict=True
    ):
        where = f"{path}:{number}"
        key = _text_key(row, where)
        keys.add(key)
        unread.update(other for other in TEXT_KEYS if other in row and other != key)
        if not repeats.is_other_filter(row):
            chat = chat_of(row[key], where) if key in CHAT_KEYS else None
            texts = [output.text for output in _outputs_of(row, key, where)]
            joiner.add(row, number, chat.user if chat else None, key)
            found.append((texts, start, length))
            repeats.add(row)
    _report_keys(path, keys, unread)
    positions = joiner.positions()
    if all(
        texts == [problems[i].solution] for i, (texts, *_) in zip(positions, found, strict=True)
    ):
        raise UserError(
            f"{path}: every completion is its problem's solution, so this looks like the problems "
            "themselves; give a file of model output, under 'completion'"
        )
    n_seen = [0] * len(problems)
    samples: list[tuple[int, int, int, int]] = []
    is_repeated = repeats.find(path)
    for row_no, (position, (texts, start, length)) in enumerate(zip(positions, found, strict=True)):
        for _ in texts if row_no not in is_repeated else ():
            samples.append((position, n_seen[position], start, length))
            n_seen[position] += 1
    of_file = SampleLines(*np.array(samples, np.int64).reshape(-1, 4).T)
    return make_index([plain], [of_file], problems, max(n_seen))


def _report_keys(path: Path, keys: Iterable[str], unread: Iterable[str]) -> None:
    """Say which keys of the rows hold completions, and which similar ones are not read."""
    read, others = (" and ".join(map(repr, sorted(names))) for names in (keys, unread))
    say = f"{path}: completion from {read}"
    print(f"{say}; not read: {others}" if others else say, file=sys.stderr)


class Repeats:
    """lm-evaluation-harness writes every completion once for each of its answer filters.

    Its logs of 2024 do not name the filter, so that each completion just stands there again.
    """

    def __init__(self) -> None:
        self._first_filter: str | None = None
        self._rows_of: dict[str, list[tuple[int, bytes]]] = {}
        self._n_rows = 0

    def is_other_filter(self, row: dict[str, Any]) -> bool:
        """Return whether the row names another filter than the file's first row."""
        name = row.get("filter") if "resps" in row else None
        self._first_filter = self._first_filter or name
        return bool(name != self._first_filter)

    def add(self, row: dict[str, Any]) -> None:
        """Note the completions of a row."""
        if "resps" in row and "doc_id" in row and self._first_filter is None:
            of_doc = self._rows_of.setdefault(str(row["doc_id"]), [])
            of_doc.append((self._n_rows, orjson.dumps(row["resps"])))
        self._n_rows += 1

    def find(self, path: Path) -> set[int]:
        """Return the rows, by number from 0, to leave out; say so if there are any."""
        groups = [*self._rows_of.values()]
        times = {len(group) for group in groups}
        if len(times) != 1 or times == {1} or any(len({t for _, t in g}) > 1 for g in groups):
            return set()
        print(
            f"{path}: every completion stands there {times.pop()} times (once for each answer "
            "filter of lm-evaluation-harness); each is read once",
            file=sys.stderr,
        )
        return {number for group in groups for number, _ in group[1:]}


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
        of_row_reason = reason if isinstance(reason, str) else None
        where = str(index.files[0])
        outputs = _outputs_of(row, _text_key(row, where), where)
        for sample_id, output in zip(sample_ids, outputs, strict=False):  # --k may cut a row
            finish_reason = output.finish_reason or of_row_reason
            yield Sample(problem.problem_id, sample_id, output.text, n_tokens, finish_reason)


def _text_key(row: dict[str, Any], where: str) -> str:
    """Return the key of the row's completions; raise UserError if it has none."""
    key = next((key for key in TEXT_KEYS if key in row), None)
    if key is None:
        raise UserError(
            f"{where}: no completion under any of {', '.join(TEXT_KEYS)} "
            f"(found keys: {', '.join(row)}); rename the key to 'completion'"
        )
    return key


def _outputs_of(row: dict[str, Any], key: str, where: str) -> list[Output]:
    """Return the completions of one row; raise UserError, with ``where``, if it has none."""
    outputs = list(_outputs(row[key]))
    # no fallback to the next key: after a failed generation, it may be the reference solution
    if not outputs or _has_null(row[key]):
        raise UserError(
            f"{where}: {key} holds no text or a null; for a failed generation write an empty "
            "text, which counts as a completion without an answer"
        )
    return outputs


def _outputs(value: Any, reason: str | None = None, depth: int = 0) -> Iterator[Output]:
    """Yield the completions in nested lists, chat messages and the answers of servers."""
    if isinstance(value, str):
        yield Output(value, reason)
    elif isinstance(value, list) and depth < 2 * MAX_DEPTH:
        for item in value:
            yield from _outputs(item, reason, depth + 2)
    elif isinstance(value, dict) and depth <= 2 * MAX_DEPTH:
        role = str(value.get("role") or value.get("from") or "assistant").lower()
        if ROLES.get(role, role) == "assistant":
            named = value.get("finish_reason")
            key = next((key for key in INNER_KEYS if value.get(key) is not None), None)
            inner = None if key is None else value[key]
            yield from _outputs(inner, named if isinstance(named, str) else reason, depth + 1)


def _has_null(value: Any) -> bool:
    return value is None or (isinstance(value, list) and any(map(_has_null, value)))

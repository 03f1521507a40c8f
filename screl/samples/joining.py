"""Find the problem of every row of a samples file: by id, by question, or by place.

Rows without an id and a key for the question are joined by the question that any of their texts
holds. They are joined by their place in the file only if nothing in any row contradicts it.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from screl.core.io import UserError
from screl.core.problems import Problem, without_spaces

ID_KEYS = ("problem_id", "custom_id", "doc_id", "question_id", "idx", "index", "id")
QUESTION_KEYS = ("question", "query", "problem", "prompt", "instruction")
GOLD_KEYS = ("gts", "gt", "gold", "ground_truth", "target", "answer", "expected_answer")
GRAM = 16  # characters at the end of a question by which it is searched for
MAX_DEPTH = 3  # of nested lists; rows may come from anywhere
OTHER_DATA = "give the problems it was sampled for as --data_path"


class Found(NamedTuple):
    """The problem that a text asks last, if any, and all whose question is in it: positions."""

    asked: int | None
    held: frozenset[int]


class Questions:
    """The problems' questions without white space, to be found inside longer texts."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self._texts = [without_spaces(problem.question) for problem in problems]
        # the first of several problems with one question
        self._first = {q: i for i, q in reversed([*enumerate(self._texts)])}
        self._by_ending: dict[int, dict[str, list[int]]] = {}
        for question, i in self._first.items():
            ending = question[-GRAM:]
            self._by_ending.setdefault(len(ending), {}).setdefault(ending, []).append(i)
        self._known: dict[str, Found] = {}

    def first_same(self, position: int) -> int:
        """Return the position of the first problem with this problem's question."""
        return self._first[self._texts[position]]

    def search(self, text: str) -> Found:
        """Return what ``text``, without white space, asks; few-shot examples come first."""
        if text not in self._known:
            found = [*self._search(text)]
            last = max(found, default=None)
            asked = self._first.get(text, last[2] if last else None)
            self._known[text] = Found(asked, frozenset(i for *_, i in found))
        return self._known[text]

    def _search(self, text: str) -> Iterator[tuple[int, int, int]]:
        """Yield the end, the length and the problem of every question in ``text``."""
        for size, problems in self._by_ending.items():
            for end in range(size, len(text) + 1):
                for i in problems.get(text[end - size : end], ()):
                    if text.endswith(self._texts[i], 0, end):
                        yield end, len(self._texts[i]), i


@dataclass(frozen=True, slots=True)
class RowFacts:
    """What a row says about its problem; ``is_stated``: its question has a key of its own."""

    number: int
    ids: dict[str, Any]
    is_stated: bool
    found: Found
    gold: float | None


class Joiner:
    """A search for the problem of each row of a file: add all rows, then ask for positions."""

    def __init__(self, path: Path, problems: Sequence[Problem]) -> None:
        self._path, self._problems = path, problems
        self._questions = Questions(problems)
        self._rows: list[RowFacts] = []
        self._place_of_id: dict[int | str, int] = {}
        for i, problem in enumerate(problems):  # ids may have become text on the way
            self._place_of_id.setdefault(str(problem.problem_id), i)
        self._place_of_id |= {problem.problem_id: i for i, problem in enumerate(problems)}

    def add(
        self, row: dict[str, Any], number: int, question: str | None, completion_key: str
    ) -> None:
        """Note what a row says; ``question`` is that of its chat, if it is one."""
        ids = {key: row[key] for key in ID_KEYS if row.get(key) is not None}
        stated = without_spaces(question or "") or _stated_question(row)
        if stated:
            found = self._questions.search(stated)
        else:
            found = self._search_values([row[key] for key in row if key != completion_key])
            if not found.held and not ids:  # the completion may repeat its prompt
                found = self._search_values([row[completion_key]])
        self._rows.append(RowFacts(number, ids, bool(stated), found, _gold(row)))

    def positions(self) -> list[int]:
        """Return the position of each row's problem, in the order of the rows.

        Raises UserError, with file and line, for a row that matches no problem or contradicts it.
        """
        known = {
            key for row in self._rows for key in row.ids if self._find_id(row, key) is not None
        }
        numbered = self._numbers_of_requests(known)
        if numbered is not None:
            positions = numbered
        else:
            by_place = self._is_by_place(known)
            positions = [
                self._position(row, i, known, by_place) for i, row in enumerate(self._rows)
            ]
        for row, position in zip(self._rows, positions, strict=True):
            self._check(row, position)
        return positions

    def _position(self, row: RowFacts, place: int, known: set[str], by_place: bool) -> int:
        where = f"{self._path}:{row.number}"
        key = next((key for key in row.ids if key in known), None)
        if key is None and row.ids and row.found.asked is None:
            key = next(iter(row.ids))
        if key is not None:
            position = self._find_id(row, key)
            if position is None:
                raise UserError(f"{where}: no problem has the {key} {row.ids[key]!r}; {OTHER_DATA}")
            return position
        if by_place and not row.is_stated:
            return place
        if row.found.asked is None:
            if row.is_stated:
                raise UserError(f"{where}: no problem has its question; {OTHER_DATA}")
            raise self._no_join(where)
        return row.found.asked

    def _is_by_place(self, known: set[str]) -> bool:
        """Return whether rows with nothing else to join by are joined by their places."""
        bare = [
            (i, row) for i, row in enumerate(self._rows)
            if not row.is_stated and not known & row.ids.keys()
        ]  # fmt: skip
        if len(self._rows) != len(self._problems) or all(
            row.found.asked is not None for _, row in bare
        ):
            return False
        return not any(self._contradicts(row, i) for i, row in bare)

    def _contradicts(self, row: RowFacts, position: int) -> bool:
        """Return whether the row's texts or its gold answer are those of another problem."""
        other_question = (
            row.found.held and self._questions.first_same(position) not in row.found.held
        )
        gold = _gold_of(self._problems[position])
        return bool(other_question) or (None not in (row.gold, gold) and row.gold != gold)

    def _check(self, row: RowFacts, position: int) -> None:
        """Raise UserError if the row's question is not that of its problem."""
        is_other = self._questions.first_same(position) not in row.found.held
        if is_other and (row.is_stated or row.found.held):
            raise UserError(
                f"{self._path}:{row.number}: its question is not that of problem "
                f"{self._problems[position].problem_id!r}; {OTHER_DATA}"
            )

    def _find_id(self, row: RowFacts, key: str) -> int | None:
        value = row.ids[key]
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        is_id = isinstance(value, int | str) and not isinstance(value, bool)
        return self._place_of_id.get(value) if is_id else None

    def _numbers_of_requests(self, known: set[str]) -> list[int] | None:
        """Return the numbers at the end of an OpenAI batch's ``custom_id``, if they are rows."""
        ids = [str(row.ids.get("custom_id", "")) for row in self._rows]
        if known or not all(ids) or any(row.is_stated for row in self._rows):
            return None
        endings = [re.search(r"[0-9]+$", text) for text in ids]
        numbers = [int(ending[0][:9]) for ending in endings if ending]
        rows = {self._place_of_id.get(number) for number in numbers} == set(numbers)
        if rows and 0 in numbers and len({*numbers}) == len(ids):
            return numbers
        raise UserError(
            f"{self._path}:{self._rows[0].number}: its custom_id {ids[0]!r} names no problem; give "
            "every row the problem_id or the question of its problem"
        )

    def _no_join(self, where: str) -> UserError:
        if any(row.found.held or row.gold is not None for row in self._rows):
            return UserError(
                f"{where}: no id, and the rows are not in the order of the problems, or some hold "
                f"another problem's question or answer; add one of {', '.join(ID_KEYS)}"
            )
        return UserError(
            f"{where}: no id ({', '.join(ID_KEYS)}) and no question ({', '.join(QUESTION_KEYS)}) "
            f"to join by, and {len(self._rows)} rows for {len(self._problems)} problems; add one "
            "of these keys"
        )

    def _search_values(self, values: Sequence[Any]) -> Found:
        """Return the problem that the texts ask, if they ask only one, and all that they hold."""
        found = [
            self._questions.search(without_spaces(text))
            for value in values
            for text in all_texts(value)
        ]
        asked = {one.asked for one in found} - {None}
        held = frozenset[int]().union(*(one.held for one in found))
        return Found(asked.pop() if len(asked) == 1 else None, held)


def _stated_question(row: dict[str, Any]) -> str | None:
    """Return the row's question (or that in lm-evaluation-harness's ``doc``), no white space."""
    doc = row.get("doc")
    for source in (row, doc if isinstance(doc, dict) else {}):
        for key in QUESTION_KEYS:
            if key in source and (question := without_spaces("".join(flatten(source[key])))):
                return question
    return None


def flatten(value: Any, depth: int = 0) -> Iterator[str]:
    """Yield the texts in nested lists and in chat messages."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from flatten(value.get("content"), MAX_DEPTH)
    elif isinstance(value, list) and depth < MAX_DEPTH:
        for item in value:
            yield from flatten(item, depth + 1)


def all_texts(value: Any, depth: int = 0) -> Iterator[str]:
    """Yield every text in nested lists and objects."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict) and depth < 2 * MAX_DEPTH:
        for item in value.values() if isinstance(value, dict) else value:
            yield from all_texts(item, depth + 1)


def _gold(row: dict[str, Any]) -> float | None:
    """Return the row's gold answer if it is a plain number."""
    return next(
        (n for key in GOLD_KEYS if key in row and (n := _number(row[key])) is not None), None
    )


def _gold_of(problem: Problem) -> float | None:
    return _number(problem.answer or problem.solution.rpartition("####")[2])


def _number(value: object) -> float | None:
    try:
        return float(str(value).strip().replace(",", "").replace("$", ""))
    except ValueError:
        return None

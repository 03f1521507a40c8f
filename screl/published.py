"""Read samples in the layout of the published code: ``raw_generation_*.json``.

One file is one sample of every problem, or of a shard of them; each line is
``[[prompt, completion]]`` or ``{"gen": [completion]}``. Line i should belong to problem i. The
published code assumes it; here the prompt must hold the problem's question.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import orjson

from screl.files import UserError, open_for_reading
from screl.problems import Problem
from screl.prompts import build_prompt

Split = Literal["train", "test"]

SAMPLED = r"raw_generation_(?P<temperature>[0-9.]+)"
# For every kind the file names in the order in which the published code looks for them.
SAMPLED_NAMES: dict[Split, tuple[str, ...]] = {
    "train": (
        rf"{SAMPLED}_(?P<seed>[0-9]+)\.json",
        rf"{SAMPLED}sampled_on_train_seed_(?P<seed>[0-9]+)_shard_(?P<shard>[0-9]+)\.json",
    ),
    "test": (
        rf"{SAMPLED}_(?P<seed>[0-9]+)_test\.json",
        rf"{SAMPLED}sampled_on_test_seed_(?P<seed>[0-9]+)_shard_(?P<shard>[0-9]+)\.json",
    ),
}
GREEDY_NAMES: dict[Split, tuple[str, ...]] = {
    "train": (),  # the filter takes sampled ones only
    "test": (
        r"raw_generation_greedy\.json",
        r"raw_generation_greedy_shard_(?P<shard>[0-9]+)\.json",
        r"raw_generation_greedy_on_test_shard_(?P<shard>[0-9]+)\.json",
    ),
}
# A prompt cut on the left (the published code keeps 256 tokens) is told by what is left of it.
MIN_PROMPT_TAIL = 200


@dataclass(frozen=True, slots=True)
class PublishedRun:
    """Where the samples of one run are: for each sample its files, the shards in their order."""

    greedy: bool
    files: list[list[Path]]


def find_published(path: Path, split: Split) -> list[PublishedRun]:
    """The sampled and the greedy run of ``split`` in a folder; for a file, a run of that file.

    Samples are in the numeric order of their seeds. Raises UserError if there is none, and if the
    folder holds samples of two temperatures.
    """
    if path.is_file():
        is_greedy = path.name.startswith("raw_generation_greedy")
        return [PublishedRun(greedy=is_greedy, files=[[path]])]
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; check the path")
    runs = [
        PublishedRun(greedy, files)
        for greedy, names in ((False, SAMPLED_NAMES), (True, GREEDY_NAMES))
        if (files := _find_files(path, names[split]))
    ]
    if not runs:
        raise UserError(
            f"{path}: neither a sample store (manifest.json) nor a folder of published "
            f"raw_generation_*.json files of the {split} problems; give the folder that has them"
        )
    return runs


def read_published(
    run: PublishedRun, problems: Sequence[Problem], allow_partial: bool
) -> list[dict[int, str]]:
    """For every problem its completions by sample_id, the place of the sample's seed.

    Raises UserError, with file and line, for a malformed line and for a prompt of another problem,
    and, unless ``allow_partial``, for a sample with too few or too many lines.
    """
    finder = ProblemFinder(problems)
    by_problem: list[dict[int, str]] = [{} for _ in problems]
    for sample_id, files in enumerate(run.files):
        rows = [(file, *row) for file in files for row in _read_rows(file)]
        if len(rows) != len(problems) and not allow_partial:
            raise UserError(
                f"{', '.join(map(str, files))}: {len(rows)} lines for {len(problems)} problems; "
                "give the problems it was sampled for, or complete it, or pass --allow_partial"
            )
        position = 0
        for file, number, prompt, completion in rows:
            if allow_partial:
                position = finder.find(prompt, position, f"{file}:{number}")
            else:
                finder.check(prompt, position, f"{file}:{number}")
            if sample_id in by_problem[position]:
                raise UserError(
                    f"{file}:{number}: problem {problems[position].problem_id!r} is there twice; "
                    "delete one of the two lines"
                )
            by_problem[position][sample_id] = completion
            position += 1
    return by_problem


class ProblemFinder:
    """Tells which problem a prompt is about. White space is not compared: decoding changes it."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self._problems = problems
        self._questions = [_without_spaces(problem.question) for problem in problems]
        self._prompts = [_without_spaces(build_prompt(problem.question)) for problem in problems]

    def check(self, prompt: str | None, position: int, where: str) -> None:
        """UserError unless ``prompt`` is about the problem at ``position``, or is not known."""
        if prompt is None or self._fits(_without_spaces(prompt), position):
            return
        expected = self._problems[position].problem_id
        raise UserError(
            f"{where}: the prompt is not that of problem {expected!r}, which belongs here; give "
            "the problems it was sampled for, in their order, or pass --allow_partial to join by "
            "question"
        )

    def find(self, prompt: str | None, start: int, where: str) -> int:
        """The position of the problem that ``prompt`` is about, looked for from ``start`` on."""
        if prompt is None:
            raise UserError(
                f"{where}: without a prompt the line cannot be joined to a problem; "
                "complete the file and leave out --allow_partial"
            )
        squeezed = _without_spaces(prompt)
        for position in chain(range(start, len(self._problems)), range(start)):
            if self._fits(squeezed, position):
                return position
        raise UserError(
            f"{where}: the prompt holds the question of no problem; "
            "give the problems it was sampled for as --data_path"
        )

    def _fits(self, squeezed: str, position: int) -> bool:
        is_tail = len(squeezed) >= MIN_PROMPT_TAIL and self._prompts[position].endswith(squeezed)
        return self._questions[position] in squeezed or is_tail


def _find_files(folder: Path, patterns: Sequence[str]) -> list[list[Path]]:
    """The files of the first pattern that has any: a list per seed, with its shards in order."""
    for pattern in patterns:
        found: dict[int, list[tuple[int, Path]]] = {}
        temperatures = set()
        for path in folder.iterdir():
            if match := re.fullmatch(pattern, path.name):
                parts = match.groupdict()
                shard = int(parts.get("shard", 0))
                found.setdefault(int(parts.get("seed", 0)), []).append((shard, path))
                temperatures.add(parts.get("temperature"))
        if len(temperatures) > 1:
            raise UserError(
                f"{folder}: samples of temperatures {' and '.join(sorted(map(str, temperatures)))}"
                "; move those of one to a folder of their own"
            )
        if found:
            return [[path for _, path in sorted(found[seed])] for seed in sorted(found)]
    return []


def _read_rows(path: Path) -> Iterator[tuple[int, str | None, str]]:
    """Yield line number, prompt (None if the line has none) and completion."""
    with open_for_reading(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                yield number, *_parse_row(orjson.loads(line))
            except ValueError:  # of JSON, or of the form
                raise UserError(
                    f"{path}:{number}: expected [[prompt, completion]] or "
                    '{"gen": [completion]}; mend this line or make the file again'
                ) from None


def _parse_row(row: Any) -> tuple[str | None, str]:
    match row:
        case [[str(prompt), str(completion)]]:
            return prompt, completion
        case {"gen": [str(completion)]}:
            return None, completion
    raise ValueError("neither of the two forms")


def _without_spaces(text: str) -> str:
    return "".join(text.split())

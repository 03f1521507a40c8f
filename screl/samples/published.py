"""Read samples in the layout of the published code: ``raw_generation_*.json``.

A file holds one sample of every problem, or of a shard of the problems; each line is
``[[prompt, completion]]`` or ``{"gen": [completion]}``. Line i should belong to problem i. The
published code assumes this; this module checks that the prompt contains the problem's question.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
import orjson
from numpy.typing import NDArray

from screl.core.io import UserError, open_for_reading
from screl.core.parallel import parallel_map
from screl.core.problems import Problem, build_prompt, without_spaces
from screl.samples.line_index import (
    Lines,
    SampleIndex,
    SampleLines,
    find_all_lines,
    location,
    make_index,
)
from screl.samples.store import Sample

Split = Literal["train", "test"]

SAMPLED = r"raw_generation_(?P<temperature>[0-9.]+)"
# File names by split, in the order in which the published code looks for them.
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
    "train": (),  # the filter uses no greedy samples
    "test": (
        r"raw_generation_greedy\.json",
        r"raw_generation_greedy_shard_(?P<shard>[0-9]+)\.json",
        r"raw_generation_greedy_on_test_shard_(?P<shard>[0-9]+)\.json",
    ),
}
# Characters that identify a prompt cut on the left (the published code keeps 256 tokens).
MIN_PROMPT_TAIL = 200
# More lines than can fill the last batch of eight GPUs with 64 prompts each.
MAX_EXTRA_LINES = 512


@dataclass(frozen=True, slots=True)
class PublishedRun:
    """The files of one run: for each sample, a list of its shards in order."""

    greedy: bool
    files: list[list[Path]]


def find_published(path: Path, split: Split) -> list[PublishedRun]:
    """Find the sampled and the greedy run of ``split`` in a folder; a file is a run by itself.

    Samples are in the numeric order of their seeds. Raises UserError if none exist, or if the
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


def index_published(
    run: PublishedRun,
    problems: Sequence[Problem],
    allow_partial: bool,
    n_workers: int | None,
) -> SampleIndex:
    """Index the samples of ``run``; a sample_id is the rank of the sample's seed.

    Raises UserError for a sample with too few or too many lines. With ``allow_partial``, lines are
    joined to problems by their question instead, and a prompt without a known question is an error.
    Lines after the last problem that repeat earlier problems are left out, because the published
    samplers fill their last batch with them.
    """
    files = [path for of_sample in run.files for path in of_sample]
    lines = parallel_map(find_all_lines, files, (), n_workers)
    found = _join(run.files, lines, ProblemFinder(problems), allow_partial)
    return make_index(files, found, problems, len(run.files))


def parse_published(
    index: SampleIndex, problem: Problem, position: int, lines: Sequence[bytes | None]
) -> Iterator[Sample]:
    """Yield the samples of the problem at ``position``, given the line of each sample_id.

    Raises UserError if a prompt is not the problem's.
    """
    known_prompt = None  # most samples of a problem have the same prompt
    for sample_id, line in enumerate(lines):
        if line is None:
            continue
        try:
            prompt, completion = parse_row(line)
        except ValueError:
            raise _malformed_row(index.location(position, sample_id)) from None
        if prompt is not None and prompt != known_prompt:
            if not is_prompt_of(prompt, problem):
                raise UserError(
                    f"{index.location(position, sample_id)}: the prompt is not that of problem "
                    f"{problem.problem_id!r}, which belongs here; give the problems it was "
                    "sampled for, in their order, or pass --allow_partial to join by question"
                )
            known_prompt = prompt
        yield Sample(problem.problem_id, sample_id, completion)


def _find_files(folder: Path, patterns: Sequence[str]) -> list[list[Path]]:
    """Return the files of the first pattern that matches any: per seed, its shards in order."""
    for pattern in patterns:
        found: dict[int, list[tuple[int, Path]]] = {}
        temperatures = set()
        for path in folder.iterdir():
            if match := re.fullmatch(pattern, path.name):
                parts = match.groupdict()
                shard = int(parts.get("shard", 0))
                of_seed = found.setdefault(int(parts.get("seed", 0)), [])
                if shard in [other for other, _ in of_seed]:
                    raise UserError(f"{path}: another file has the same seed; remove one of them")
                of_seed.append((shard, path))
                temperatures.add(parts.get("temperature"))
        if len(temperatures) > 1:
            raise UserError(
                f"{folder}: samples of temperatures {' and '.join(sorted(map(str, temperatures)))}"
                "; move those of one temperature to another folder"
            )
        if found:
            return [[path for _, path in sorted(found[seed])] for seed in sorted(found)]
    return []


def _join(
    files: Sequence[list[Path]],
    lines: Iterator[Lines],
    finder: "ProblemFinder",
    allow_partial: bool,
) -> Iterator[SampleLines]:
    """Yield the samples of each file, given its ``lines``; ``files`` are listed by sample_id."""
    n_problems = len(finder.problems)
    for sample_id, of_sample in enumerate(files):
        shards = [(path, next(lines)) for path in of_sample]
        n_lines = sum(len(of_shard.starts) for _, of_shard in shards)
        if n_lines < n_problems and not allow_partial:
            raise UserError(
                f"{', '.join(map(str, of_sample))}: has {n_lines} of {n_problems} lines; "
                "give the problems it was sampled for, complete it, or pass --allow_partial"
            )
        n_before = 0
        for path, (starts, lengths) in shards:
            if allow_partial:
                positions = finder.find_all(path, Lines(starts, lengths), n_before)
                positions[max(0, n_problems - n_before) :] = n_problems  # extra lines
            else:
                positions = np.arange(n_before, n_before + len(starts))
                _check_extra_lines(path, Lines(starts, lengths), n_problems - n_before, finder)
            n_before += len(starts)
            keep = positions < n_problems
            sample_ids = np.full(int(keep.sum()), sample_id)
            yield SampleLines(positions[keep], sample_ids, starts[keep], lengths[keep])


def _check_extra_lines(path: Path, lines: Lines, n_wanted: int, finder: "ProblemFinder") -> None:
    """Raise UserError unless the lines after the first ``n_wanted`` repeat known problems."""
    n_wanted, n_problems = max(0, n_wanted), len(finder.problems)
    extra = Lines(lines.starts[n_wanted:], lines.lengths[n_wanted:])
    if len(extra.starts) > MAX_EXTRA_LINES:
        raise UserError(
            f"{path}: {len(extra.starts)} more lines than the {n_problems} problems; give the "
            "problems it was sampled for, or a file with one sample per problem"
        )
    for offset, prompt in _read_prompts(path, extra):
        if prompt is None or finder.find(prompt, 0) is None:
            raise UserError(
                f"{location(path, offset)}: more lines than the {n_problems} problems, "
                "and this one repeats none of them; give the problems it was sampled for"
            )


class ProblemFinder:
    """A search for the problem that a prompt asks."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = problems
        self._prompts = [without_spaces(build_prompt(problem.question)) for problem in problems]
        # of several problems with the same question, keep the first
        self._position_of = {prompt: i for i, prompt in reversed(list(enumerate(self._prompts)))}

    def find_all(self, path: Path, lines: Lines, start: int) -> NDArray[np.int64]:
        """Return the position of each line's problem; the search begins at position ``start``."""
        positions = np.zeros(len(lines.starts), np.int64)
        for i, (offset, prompt) in enumerate(_read_prompts(path, lines)):
            if prompt is None:
                raise UserError(
                    f"{location(path, offset)}: without a prompt the line cannot be joined to a "
                    "problem; complete the file and leave out --allow_partial"
                )
            found = self.find(prompt, start)
            if found is None:
                raise UserError(
                    f"{location(path, offset)}: the prompt contains no problem's question; give "
                    "the problems it was sampled for as --data_path"
                )
            positions[i] = found
            start = found + 1
        return positions

    def find(self, prompt: str, start: int) -> int | None:
        """Return the position of the problem that ``prompt`` asks, or None if it asks none."""
        n, squeezed = len(self.problems), without_spaces(prompt)
        if start < n and self._prompts[start] == squeezed:
            return start
        exact = self._position_of.get(squeezed)  # first: a question may be part of another
        if exact is not None:
            return exact
        order = chain(range(start, n), range(min(start, n)))
        return next((i for i in order if is_prompt_of(prompt, self.problems[i])), None)


def is_prompt_of(prompt: str, problem: Problem) -> bool:
    """Return whether ``prompt`` contains the problem's question, or is the end of its prompt.

    White space is ignored, because decoding changes it.
    """
    squeezed = without_spaces(prompt)
    if without_spaces(problem.question) in squeezed:
        return True
    whole = without_spaces(build_prompt(problem.question))
    return len(squeezed) >= MIN_PROMPT_TAIL and whole.endswith(squeezed)


def _read_prompts(path: Path, lines: Lines) -> Iterator[tuple[int, str | None]]:
    """Yield the offset and the prompt of each line."""
    with open_for_reading(path) as file:
        for start, length in zip(lines.starts.tolist(), lines.lengths.tolist(), strict=True):
            file.seek(start)
            try:
                prompt, _ = parse_row(file.read(length))
            except ValueError:
                raise _malformed_row(location(path, start)) from None
            yield start, prompt


def parse_row(line: bytes) -> tuple[str | None, str]:
    """Return the prompt (None if missing) and the completion; raise ValueError if malformed."""
    row = orjson.loads(line)
    # a match statement takes three times as long, and this runs for every sample
    pair = row[0] if type(row) is list and len(row) == 1 else None
    if type(pair) is list and len(pair) == 2 and type(pair[0]) is str and type(pair[1]) is str:
        return pair[0], pair[1]
    texts = row.get("gen") if type(row) is dict else None
    if type(texts) is list and len(texts) == 1 and type(texts[0]) is str:
        return None, texts[0]
    raise ValueError("neither of the two forms")


def _malformed_row(where: str) -> UserError:
    """Return the error for a line that parse_row rejects."""
    return UserError(
        f"{where}: expected [[prompt, completion]] or "
        '{"gen": [completion]}; fix this line or make the file again'
    )

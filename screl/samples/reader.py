"""Open the samples of a run, in any layout, and read them joined to their problems.

A Run knows where its samples are on disk. They are read and processed by blocks of problems, in
parallel, so a run of any size fits in memory.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TextIO, TypeVar

from screl.core.config import exit_with_usage
from screl.core.io import UserError, file_sha256, real_path
from screl.core.parallel import n_processors, parallel_map
from screl.core.problems import Problem
from screl.samples.jsonl import index_jsonl, is_jsonl, parse_jsonl
from screl.samples.line_index import SampleIndex, read_lines
from screl.samples.published import Split, find_published, index_published, parse_published
from screl.samples.store import (
    Sample,
    index_store,
    is_store,
    parse_stored,
    read_manifest,
    stored_n_samples,
)

Result = TypeVar("Result")

BLOCK_SAMPLES = 2**15  # samples read at once by each process: about 20 MB


@dataclass(frozen=True, slots=True)
class Run:
    """The samples of one run and their places on disk.

    In an ``is_adaptive`` run (sample.py --until_correct), problems may have fewer than
    ``n_samples``.
    """

    name: str
    greedy: bool
    layout: Literal["store", "published", "jsonl"]
    index: SampleIndex
    is_adaptive: bool = False

    @property
    def n_samples(self) -> int:
        """The number of samples per problem; some may be missing if partial runs are allowed."""
        return self.index.n_samples


def open_runs(
    path: Path,
    problems: Sequence[Problem],
    split: Split,
    allow_partial: bool = False,
    k: int | None = None,
    n_workers: int | None = None,
) -> list[Run]:
    """Open the runs at ``path``: one, or two in a published test folder (sampled and greedy).

    ``k`` takes only the first k samples of every problem. Raises UserError if a sample is missing
    (unless ``allow_partial``), appears twice, or belongs to an unknown problem.
    """
    if is_store(path):
        runs = [_open_store(path, problems, k, n_workers)]
    elif is_jsonl(path):
        runs = [_open_jsonl(path, problems, k)]
    else:
        runs = _open_published(path, problems, split, allow_partial, k, n_workers)
    for run in runs:
        if not allow_partial:
            _check_complete(run, problems)
    return runs


def open_and_report(
    path: Path,
    data_path: Path,
    problems: Sequence[Problem],
    split: Split,
    stream: TextIO,
    allow_partial: bool = False,
    k: int | None = None,
    n_workers: int | None = None,
) -> list[Run]:
    """Call open_runs, print a line about each run to ``stream``, and warn if the data differs."""
    if warning := other_data_warning(path, data_path, problems):
        print(warning, file=sys.stderr)
    runs = open_runs(path, problems, split, allow_partial, k, n_workers)
    for run in runs:
        at_most, greedy = "at most " * run.is_adaptive, "greedy " * run.greedy
        n_of_each = f"{at_most}{run.n_samples} {greedy}sample{'s' * (run.n_samples != 1)} of each"
        print(f"{path}: {n_of_each} of {len(problems)} problems", file=stream)
        n_missing = run.index.n_missing
        if n_missing and not run.is_adaptive:
            n_expected = run.n_samples * len(problems)
            print(f"warning: {path}: {n_missing} of {n_expected} samples are missing", file=stream)
    return runs


def map_problems(
    function: Callable[..., Result],
    problems: Sequence[Problem],
    runs: Sequence[Run],
    *arguments: Any,
    n_workers: int | None = None,
) -> Iterator[Result]:
    """Yield ``function(problem, samples, *arguments)`` for every problem, in order.

    ``samples[r]`` holds the problem's samples in run r, in the order of sample_id. Worker processes
    take blocks of problems, so ``function`` must be importable, and its results should be small.
    Raises UserError, with file and line, for a malformed sample.
    """
    n_per_problem = max(1, sum(run.n_samples for run in runs))
    n_blocks_wanted = 4 * (n_workers or n_processors())  # to share the work evenly
    size = max(1, min(BLOCK_SAMPLES // n_per_problem, len(problems) // n_blocks_wanted))
    blocks = [(begin, min(begin + size, len(problems))) for begin in range(0, len(problems), size)]
    shared = (function, problems, runs, arguments)
    for results in parallel_map(_map_block, blocks, shared, n_workers):
        yield from results


def read_completions(
    problems: Sequence[Problem], runs: Sequence[Run], begin: int, end: int
) -> Iterator[tuple[Problem, list[list[Sample]]]]:
    """Yield each problem at positions ``begin`` to ``end`` with its samples in every run."""
    lines = [read_lines(run.index, begin, end) for run in runs]
    for i in range(begin, end):
        yield (
            problems[i],
            [
                list(_parse(run, problems[i], i, of_run[i - begin]))
                for run, of_run in zip(runs, lines, strict=True)
            ],
        )


def other_data_warning(path: Path, data_path: Path, problems: Sequence[Problem]) -> str | None:
    """Return a warning if the store at ``path`` was sampled for data other than ``data_path``.

    Returns None if the data is the same or was not recorded. A difference is only a warning,
    because rows that name their problem_id may have been reordered or removed. Raises UserError if
    ids are row numbers, which would join completions to the wrong problems.
    """
    manifest = read_manifest(path) if is_store(path) else {}
    if manifest.get("data_sha256") in (None, file_sha256(data_path)):
        return None
    other = f"{path} was sampled for {manifest.get('data_path')}, which had other content than"
    if any(problem.problem_id == i for i, problem in enumerate(problems)):
        raise UserError(
            f"{other} {data_path}, and its rows have no problem_id to join by; give the data it "
            "was sampled for"
        )
    return f"warning: {other} {data_path}; completions are joined by problem_id"


def find_data_path(path: Path, given: Path | None) -> Path:
    """Return ``given`` or, if it is None, the data that the store at ``path`` was sampled for.

    Exits with status 2 if ``path`` has another layout, which does not record the data.
    """
    if given is not None:
        return given
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; check the path")
    if not is_store(path):
        exit_with_usage(f"{path} is not a sample store; say --data_path TEST.jsonl")
    data_path = Path(str(read_manifest(path).get("data_path")))
    if not data_path.is_file():
        raise UserError(f"{path}: its data, {data_path}, is not there; give --data_path TEST.jsonl")
    return data_path


def refuse_repeats(paths: Sequence[Path]) -> None:
    """Raise UserError if a run is given twice, even through a link or as a file in a folder."""
    real = [real_path(path) for path in paths]
    for path, of_path in zip(paths, real, strict=True):
        is_part = path.is_file() and of_path.parent in real
        if is_part or real.count(of_path) > 1:
            raise UserError(f"{path}: given twice; give every run once")


def _map_block(
    block: tuple[int, int],
    function: Callable[..., Result],
    problems: Sequence[Problem],
    runs: Sequence[Run],
    arguments: tuple[Any, ...],
) -> list[Result]:
    return [
        function(problem, samples, *arguments)
        for problem, samples in read_completions(problems, runs, *block)
    ]


def _parse(
    run: Run, problem: Problem, position: int, lines: Sequence[bytes | None]
) -> Iterable[Sample]:
    match run.layout:
        case "store":
            return parse_stored(run.index, position, lines)
        case "published":
            return parse_published(run.index, problem, position, lines)
        case "jsonl":
            return parse_jsonl(run.index, problem, position, lines)


def _open_store(
    path: Path, problems: Sequence[Problem], k: int | None, n_workers: int | None
) -> Run:
    manifest = read_manifest(path)
    n_samples = stored_n_samples(manifest, path)
    _check_k(n_samples, k, path)
    index = index_store(path, problems, k or n_samples, manifest.get("data_path"), n_workers)
    is_adaptive = bool(manifest.get("until_correct"))
    return Run(str(path), manifest.get("greedy") is True, "store", index, is_adaptive)


def _open_jsonl(path: Path, problems: Sequence[Problem], k: int | None) -> Run:
    index = index_jsonl(path, problems)
    _check_k(index.n_samples, k, path)
    return Run(str(path), index.n_samples == 1, "jsonl", index.first(k or index.n_samples))


def _open_published(
    path: Path,
    problems: Sequence[Problem],
    split: Split,
    allow_partial: bool,
    k: int | None,
    n_workers: int | None,
) -> list[Run]:
    runs = []
    for found in find_published(path, split):
        if not found.greedy:
            _check_k(len(found.files), k, path)
            found = replace(found, files=found.files[:k])
        index = index_published(found, problems, allow_partial, n_workers)
        runs.append(Run(str(path), found.greedy, "published", index))
    return runs


def _check_k(n_samples: int, k: int | None, path: Path) -> None:
    if k is not None and not 1 <= k <= n_samples:
        raise UserError(f"{path}: has {n_samples} samples per problem; --k {k} is not among them")


def _check_complete(run: Run, problems: Sequence[Problem]) -> None:
    if run.is_adaptive:
        if not read_manifest(Path(run.name)).get("finished"):
            raise UserError(
                f"{run.name}: its sampling has not finished; run sample.py again or pass "
                "--allow_partial"
            )
    elif n_missing := run.index.n_missing:
        position, sample_id = run.index.first_missing()
        raise UserError(
            f"{run.name}: {n_missing} of {run.n_samples * len(problems)} samples are missing "
            f"(first: problem {problems[position].problem_id!r}, sample {sample_id}); run "
            "sample.py again or pass --allow_partial"
        )

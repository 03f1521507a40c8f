"""What was sampled, joined to the problems: from a sample store, the published layout, or JSONL.

A Run knows where its samples are; they are read and worked on problem by problem, in parallel.

What a command line names: the data that samples are of, and the samples, with a word on them.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NoReturn, TextIO, TypeVar

from screl.core.io import UserError, file_sha256, real_path
from screl.core.parallel import n_processors, parallel_map
from screl.core.problems import Problem
from screl.samples.jsonl import index_plain, is_plain, parse_plain
from screl.samples.line_index import MISSING, NOTHING, Known, SampleIndex, place, read_lines
from screl.samples.published import (
    Split,
    find_published,
    index_published,
    is_prompt_of,
    malformed,
    parse_published,
)
from screl.samples.store import (
    Sample,
    index_store,
    is_store,
    parse_sample,
    read_manifest,
    stored_n_samples,
)

Result = TypeVar("Result")

BLOCK_SAMPLES = 2**15  # read at a time by each process: about 20 MB


@dataclass(frozen=True, slots=True)
class Run:
    """The samples of one run: what they are, and where on disk each of them is.

    ``n_known``: the first so many of every problem were read before and are not in the index.
    ``is_whole``: its files hold no other samples than these. ``is_adaptive``: at most ``n_samples``
    of each problem (sample.py --until_correct).
    """

    name: str
    greedy: bool
    layout: Literal["store", "published", "plain"]
    index: SampleIndex
    n_known: int = 0
    is_whole: bool = True
    is_adaptive: bool = False

    @property
    def n_samples(self) -> int:
        """Asked for per problem; all are there unless partial ones were allowed."""
        return self.index.n_samples


def open_runs(
    path: Path,
    problems: Sequence[Problem],
    split: Split,
    allow_partial: bool = False,
    k: int | None = None,
    n_workers: int | None = None,
    known: Known = NOTHING,
) -> list[Run]:
    """The runs at ``path``: one, or a sampled and a greedy one in a published test folder.

    ``k`` takes the first k samples of every problem only. What is ``known`` is left out, if it is
    the beginning of what is there: see Run.n_known. Raises UserError if a sample is missing (unless
    ``allow_partial``), is there twice, or is of no known problem.
    """
    if is_store(path):
        runs = [_open_store(path, problems, k, n_workers, known)]
    elif is_plain(path):
        runs = [_open_plain(path, problems, k, known)]
    else:
        runs = _open_published(path, problems, split, allow_partial, k, n_workers, known)
    for run in runs:
        if not allow_partial:
            _check_complete(run, problems)
    return runs


def map_problems(
    function: Callable[..., Result],
    problems: Sequence[Problem],
    runs: Sequence[Run],
    *arguments: Any,
    n_workers: int | None = None,
) -> Iterator[Result]:
    """Yield ``function(problem, completions, *arguments)`` for every problem, in order.

    ``completions[r]`` are those of run r, in the order of sample_id. Problems are shared out to
    processes in blocks, so ``function`` must be importable, and what it returns small. Raises
    UserError, with file and line, for a malformed sample.
    """
    n_per_problem = max(1, sum(run.n_samples for run in runs))
    n_blocks_wanted = 4 * (n_workers or n_processors())  # for an even share
    size = max(1, min(BLOCK_SAMPLES // n_per_problem, len(problems) // n_blocks_wanted))
    blocks = [(begin, min(begin + size, len(problems))) for begin in range(0, len(problems), size)]
    shared = (function, problems, runs, arguments)
    for results in parallel_map(_work_on_block, blocks, shared, n_workers):
        yield from results


def read_completions(
    problems: Sequence[Problem], runs: Sequence[Run], begin: int, end: int
) -> Iterator[tuple[Problem, list[list[Sample]]]]:
    """For each problem of positions ``begin`` to ``end`` its completions of every run."""
    lines = [read_lines(run.index, begin, end) for run in runs]
    for i in range(begin, end):
        of_runs = zip(runs, lines, strict=True)
        yield problems[i], [_parse(run, problems[i], i, rows[i - begin]) for run, rows in of_runs]


def other_data_warning(path: Path, data_path: Path, problems: Sequence[Problem]) -> str | None:
    """A line saying that the store at ``path`` was sampled for other data than ``data_path``.

    No error where the rows name their problem_id, as they may have been reordered or cut. None if
    the data is the same or is not recorded. Raises UserError where ids are mere row numbers: those
    of other content would join completions to the wrong problems.
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


def _work_on_block(
    block: tuple[int, int],
    function: Callable[..., Result],
    problems: Sequence[Problem],
    runs: Sequence[Run],
    arguments: tuple[Any, ...],
) -> list[Result]:
    return [
        function(problem, completions, *arguments)
        for problem, completions in read_completions(problems, runs, *block)
    ]


def _parse(
    run: Run, problem: Problem, position: int, lines: Sequence[bytes | None]
) -> list[Sample]:
    match run.layout:
        case "store":
            return _parse_stored(run, position, lines)
        case "published":
            return _parse_published(run, problem, position, lines)
        case "plain":
            rows = parse_plain(run.index, position, lines)
            return [Sample(problem.problem_id, sample_id, *row) for sample_id, row in rows]


def _parse_stored(run: Run, position: int, lines: Sequence[bytes | None]) -> list[Sample]:
    files, file_no = run.index.files, run.index.file_no[position].tolist()
    starts = run.index.starts[position].tolist()
    completions = []
    for sample_id, line in enumerate(lines):
        if line is not None:
            completions.append(parse_sample(line, files[file_no[sample_id]], starts[sample_id]))
    return completions


def _parse_published(
    run: Run, problem: Problem, position: int, lines: Sequence[bytes | None]
) -> list[Sample]:
    completions = []
    known_prompt = None  # the other samples mostly have the same
    for sample_id, line in enumerate(lines):
        if line is None:
            continue
        try:
            prompt, text = parse_published(line)
        except ValueError:
            raise malformed(place(*run.index.origin(position, sample_id))) from None
        if prompt is not None and prompt != known_prompt:
            if not is_prompt_of(prompt, problem):
                raise UserError(
                    f"{place(*run.index.origin(position, sample_id))}: the prompt is not that of "
                    f"problem {problem.problem_id!r}, which belongs here; give the problems it was "
                    "sampled for, in their order, or pass --allow_partial to join by question"
                )
            known_prompt = prompt
        completions.append(Sample(problem.problem_id, sample_id, text))
    return completions


def _open_store(
    path: Path, problems: Sequence[Problem], k: int | None, n_workers: int | None, known: Known
) -> Run:
    manifest = read_manifest(path)
    n_samples = stored_n_samples(manifest, path)
    _check_k(n_samples, k, path)
    data_path, n_wanted = manifest.get("data_path"), k or n_samples
    if n_wanted < known.n_samples:
        known = NOTHING
    index = index_store(path, problems, n_wanted, data_path, n_workers, known)
    if (index.file_no[:, : known.n_samples] != MISSING).any():  # there twice: to be told where
        known = NOTHING
        index = index_store(path, problems, n_wanted, data_path, n_workers)
    return Run(
        name=str(path),
        greedy=manifest.get("greedy") is True,
        layout="store",
        index=index,
        n_known=known.n_samples,
        is_whole=n_wanted == n_samples,
        is_adaptive=bool(manifest.get("until_correct")),
    )


def _open_plain(path: Path, problems: Sequence[Problem], k: int | None, known: Known) -> Run:
    index = index_plain(path, problems)
    _check_k(index.n_samples, k, path)
    n_wanted = k or index.n_samples
    n_known = known.n_samples if known.n_samples <= n_wanted else 0
    first = index.first(n_wanted).without_first(n_known)
    is_whole = n_wanted == index.n_samples
    return Run(str(path), index.n_samples == 1, "plain", first, n_known, is_whole)


def _open_published(
    path: Path,
    problems: Sequence[Problem],
    split: Split,
    allow_partial: bool,
    k: int | None,
    n_workers: int | None,
    known: Known,
) -> list[Run]:
    runs = []
    for found in find_published(path, split):
        if not found.greedy:
            _check_k(len(found.files), k, path)
            found = replace(found, files=found.files[:k])
        first = [path for of_sample in found.files[: known.n_samples] for path in of_sample]
        if first != list(known.n_bytes):  # a file of another seed has come between
            known = NOTHING
        index = index_published(found, problems, allow_partial, n_workers, known)
        runs.append(Run(str(path), found.greedy, "published", index, known.n_samples))
    return runs


def _check_k(n_samples: int, k: int | None, path: Path) -> None:
    if k is not None and not 1 <= k <= n_samples:
        raise UserError(f"{path}: has {n_samples} samples per problem; --k {k} is not among them")


def _check_complete(run: Run, problems: Sequence[Problem]) -> None:
    if run.is_adaptive:
        if not read_manifest(Path(run.name)).get("finished"):
            raise UserError(
                f"{run.name}: its sampling has not ended; run sample.py again or pass "
                "--allow_partial"
            )
        return
    n_missing = run.index.n_missing(run.n_known)
    if n_missing == 0:
        return
    position, sample_id = run.index.first_missing(run.n_known)
    raise UserError(
        f"{run.name}: {n_missing} of {run.n_samples * len(problems)} samples are missing (first: "
        f"problem {problems[position].problem_id!r}, sample {sample_id}); run sample.py again or "
        "pass --allow_partial"
    )


def find_data_path(path: Path, given: Path | None) -> Path:
    """``given``, or the data that the store at ``path`` was sampled for.

    Exits with status 2 if ``path`` is in another layout, which does not say.
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
    """UserError if a run is given twice: under another name, or as a file of a folder too."""
    real = [real_path(path) for path in paths]
    for path, of_path in zip(paths, real, strict=True):
        is_part = path.is_file() and of_path.parent in real
        if is_part or real.count(of_path) > 1:
            raise UserError(f"{path}: given twice; give every run once")


def open_and_tell(
    path: Path,
    data_path: Path,
    problems: Sequence[Problem],
    split: Split,
    stream: TextIO,
    allow_partial: bool = False,
    k: int | None = None,
    n_workers: int | None = None,
    known: Known = NOTHING,
) -> list[Run]:
    """open_runs, with a line on ``stream`` about each run and a warning about other data."""
    if warning := other_data_warning(path, data_path, problems):
        print(warning, file=sys.stderr)
    runs = open_runs(path, problems, split, allow_partial, k, n_workers, known)
    for run in runs:
        kind = "greedy sample" if run.greedy else "samples"
        n_of_each = f"{'at most ' if run.is_adaptive else ''}{run.n_samples} {kind} of each"
        print(f"{path}: {n_of_each} of {len(problems)} problems", file=stream)
        n_missing = run.index.n_missing(run.n_known)
        if n_missing and not run.is_adaptive:
            n_expected = run.n_samples * len(problems)
            print(f"warning: {path}: {n_missing} of {n_expected} samples are missing", file=stream)
    return runs


def exit_with_usage(message: str) -> NoReturn:
    """One line on stderr, status 2."""
    sys.stderr.write(f"error: {message}\n")
    sys.exit(2)

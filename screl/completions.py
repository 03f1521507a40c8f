"""Load what was sampled, from a sample store or the published layout, joined to the problems."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from screl.files import UserError, file_sha256
from screl.problems import Problem
from screl.published import PublishedRun, Split, find_published, read_published
from screl.store import is_store, read_manifest, read_samples, stored_n_samples


@dataclass(frozen=True, slots=True)
class Completions:
    """The completions of one run: ``by_problem[i]`` those of problem i, in sample order."""

    name: str
    greedy: bool
    n_samples: int  # asked for per problem; all are there unless partial ones were allowed
    by_problem: list[list[str]]
    n_cut_off: int | None  # completions that hit max_new_tokens; None where it is not recorded


def load_completions(
    path: Path,
    problems: Sequence[Problem],
    split: Split,
    allow_partial: bool = False,
    k: int | None = None,
) -> list[Completions]:
    """The runs at ``path``: one, or a sampled and a greedy one in a published test folder.

    ``k`` takes the first k samples of every problem only. Raises UserError if a sample is missing
    (unless ``allow_partial``), is of no known problem, or is malformed.
    """
    if is_store(path):
        return [_load_store(path, problems, allow_partial, k)]
    return [
        _load_published(path, run, problems, allow_partial, k)
        for run in find_published(path, split)
    ]


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


def _load_store(
    path: Path, problems: Sequence[Problem], allow_partial: bool, k: int | None
) -> Completions:
    manifest = read_manifest(path)
    n_samples = _first_k(stored_n_samples(manifest, path), k, path)
    by_problem: list[dict[int, str]] = [{} for _ in problems]
    position_of = {problem.problem_id: i for i, problem in enumerate(problems)}
    n_cut_off = 0
    for sample in read_samples(path):
        if sample.problem_id not in position_of:
            raise UserError(
                f"{path}: has samples of a problem {sample.problem_id!r} that --data_path does not "
                f"have; give the data it was sampled for ({manifest.get('data_path')})"
            )
        if 0 <= sample.sample_id < n_samples:
            by_problem[position_of[sample.problem_id]][sample.sample_id] = sample.completion
            n_cut_off += sample.finish_reason == "length"
    if not allow_partial:
        _check_complete(by_problem, n_samples, problems, path)
    return Completions(
        name=str(path),
        greedy=manifest.get("greedy") is True,
        n_samples=n_samples,
        by_problem=_in_sample_order(by_problem),
        n_cut_off=n_cut_off,
    )


def _load_published(
    path: Path, run: PublishedRun, problems: Sequence[Problem], allow_partial: bool, k: int | None
) -> Completions:
    n_samples = 1 if run.greedy else _first_k(len(run.files), k, path)
    used = PublishedRun(run.greedy, run.files[:n_samples])
    return Completions(
        name=str(path),
        greedy=run.greedy,
        n_samples=n_samples,
        by_problem=_in_sample_order(read_published(used, problems, allow_partial)),
        n_cut_off=None,
    )


def _first_k(n_samples: int, k: int | None, path: Path) -> int:
    if k is None:
        return n_samples
    if not 1 <= k <= n_samples:
        raise UserError(f"{path}: has {n_samples} samples per problem; --k {k} is not among them")
    return k


def _check_complete(
    by_problem: Sequence[dict[int, str]], n_samples: int, problems: Sequence[Problem], path: Path
) -> None:
    n_expected = n_samples * len(problems)
    n_missing = n_expected - sum(map(len, by_problem))
    if n_missing == 0:
        return
    first_problem, first_sample = next(
        (problem.problem_id, sample_id)
        for problem, samples in zip(problems, by_problem, strict=True)
        for sample_id in range(n_samples)
        if sample_id not in samples
    )
    raise UserError(
        f"{path}: {n_missing} of {n_expected} samples are missing (first: problem "
        f"{first_problem!r}, sample {first_sample}); run sample.py again or pass --allow_partial"
    )


def _in_sample_order(by_problem: Sequence[dict[int, str]]) -> list[list[str]]:
    return [[samples[sample_id] for sample_id in sorted(samples)] for samples in by_problem]

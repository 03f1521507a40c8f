"""Go on with a filter run when there are more samples: what was found in the earlier ones.

The state lies beside the output. It counts only for the same rules, problems, runs and program, and
if the samples seen so far are still the same bytes; else all is done from the beginning.
"""

import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from screl.completions import Run
from screl.files import file_sha256, open_for_reading, write_atomic
from screl.parallel import parallel_map
from screl.problems import Problem, ProblemId
from screl.rejection import ProblemState, Rules
from screl.sample_index import RANGE_BYTES
from screl.selection import Candidate

# What decides the outcome: a state made by other code is not continued.
PROGRAM = ("answers", "arithmetic", "equations", "process_checks", "rejection", "selection")


def save_state(
    path: Path,
    states: Sequence[ProblemState],
    rules: Rules,
    data_path: Path,
    runs: Sequence[Run],
) -> None:
    """Write ``states``, and of what they are."""
    # default=list: for Candidate, as orjson does not take a named tuple for a tuple
    rows = [
        orjson.dumps(state, default=list, option=orjson.OPT_NON_STR_KEYS).decode() + "\n"
        for state in states
    ]
    header = _identity(rules, data_path) | {
        "runs": [_describe(run) for run in runs],
        "checksum": zlib.crc32("".join(rows).encode()),
    }
    write_atomic(path, chain([orjson.dumps(header).decode() + "\n"], rows))


def continue_from(
    path: Path,
    rules: Rules,
    data_path: Path,
    problems: Sequence[Problem],
    runs: Sequence[Run],
) -> tuple[dict[ProblemId, ProblemState] | None, list[Run]]:
    """The states saved at ``path`` and ``runs`` without the samples that they are of.

    None and all of ``runs`` if there is nothing to go on with. As published, the order of samples
    matters: then only the last run may have more of them than before.
    """
    header, rows = _read(path)
    is_same = all(header.get(key) == value for key, value in _identity(rules, data_path).items())
    if not is_same or not _extends(header["runs"], runs, rules):
        return None, list(runs)
    known = header["runs"]
    files = [(Path(name), size, checksum) for run in known for name, size, checksum in run["files"]]
    checksums = parallel_map(_checksum, [file[:2] for file in files])
    if any(now != then for now, (_, _, then) in zip(checksums, files, strict=True)):
        return None, list(runs)
    rest = [
        replace(run, index=run.index.without_first(old["n_samples"]))
        for run, old in zip(runs, known, strict=True)
    ]
    states = zip(problems, map(_to_state, rows), strict=True)
    return {problem.problem_id: state for problem, state in states}, rest


def _identity(rules: Rules, data_path: Path) -> dict[str, Any]:
    program = b"".join((Path(__file__).parent / f"{name}.py").read_bytes() for name in PROGRAM)
    return {
        "program": zlib.crc32(program),
        "rules": orjson.loads(orjson.dumps(asdict(rules))),
        "data_sha256": file_sha256(data_path),
    }


def _describe(run: Run) -> dict[str, Any]:
    sizes = [(path, path.stat().st_size) for path in run.index.files]
    checksums = parallel_map(_checksum, sizes)
    files = [
        (str(path), size, checksum) for (path, size), checksum in zip(sizes, checksums, strict=True)
    ]
    return {
        "name": run.name,
        "n_samples": run.n_samples,
        "places": _places(run, run.n_samples),
        "files": files,
    }


def _extends(known: Sequence[dict[str, Any]], runs: Sequence[Run], rules: Rules) -> bool:
    """Whether ``runs`` are the known ones, with the same first samples and perhaps more."""
    if [old["name"] for old in known] != [run.name for run in runs]:
        return False
    for old, run in zip(known, runs, strict=True):
        n_old = old["n_samples"]
        files = [name for name, _, _ in old["files"]]
        if files != [str(path) for path in run.index.files[: len(files)]]:
            return False
        if run.n_samples < n_old or _places(run, n_old) != old.get("places"):
            return False
        if run.n_samples > n_old and rules.fidelity == "paper" and run is not runs[-1]:
            return False
    return True


def _places(run: Run, n_samples: int) -> int:
    """A checksum of where the first samples are: a file of another seed may have come between."""
    index = run.index.first(n_samples)
    arrays = (index.file_no, index.starts, index.lengths)
    return zlib.crc32(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays))


def _checksum(part: tuple[Path, int]) -> int | None:
    """CRC-32 of the first bytes of a file; None if it has fewer."""
    path, n_bytes = part
    if not path.is_file():
        return None
    checksum = 0
    with open_for_reading(path) as file:
        while n_bytes > 0:
            data = file.read(min(RANGE_BYTES, n_bytes))
            if not data:
                return None
            checksum = zlib.crc32(data, checksum)
            n_bytes -= len(data)
    return checksum


def _read(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Header and rows of a state; empty if it is absent or damaged: it can be made again."""
    try:
        first, _, rest = path.read_bytes().partition(b"\n")
        header = orjson.loads(first)
    except (OSError, orjson.JSONDecodeError):
        return {}, []
    if not isinstance(header, dict) or header.get("checksum") != zlib.crc32(rest):
        return {}, []
    return header, [orjson.loads(line) for line in rest.splitlines()]


def _to_state(row: dict[str, Any]) -> ProblemState:
    return ProblemState(
        counts=[Counter(counts) for counts in row["counts"]],
        first_seen={
            path: {int(source): sample_id for source, sample_id in seen.items()}
            for path, seen in row["first_seen"].items()
        },
        kept=[Candidate(*candidate) for candidate in row["kept"]],
    )

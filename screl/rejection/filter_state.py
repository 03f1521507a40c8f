"""Go on with a filter run when there are more samples: what was found in the earlier ones.

The state lies beside the output. It counts only for the same rules, problems, runs and program, and
if the samples seen so far are still the same; else all is done from the beginning. Files that have
the size and time of change they had are not read again, so that more samples cost their own time.
"""

import time
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from screl.core.io import file_sha256, open_for_reading, write_atomic
from screl.core.parallel import parallel_map
from screl.grading.answers import Fidelity
from screl.rejection.filter import FilterRules, ProblemState
from screl.rejection.selection import Candidate
from screl.samples.line_index import NOTHING, RANGE_BYTES, Known
from screl.samples.reader import Run

# What decides the outcome: a state made by other code is not continued.
PROGRAM = (
    "grading/answers", "grading/arithmetic", "grading/equations", "grading/process_checks",
    "grading/verdict", "rejection/filter", "rejection/selection",
)  # fmt: skip
# A file changed so shortly before it was looked at may change again within one tick of its clock.
RACY_NS = 2_000_000_000


class SeenFile(NamedTuple):
    """The bytes of a file that were seen: how many, their CRC-32, when the file was changed, and
    when it was looked at; times in ns."""

    name: str
    n_bytes: int
    checksum: int
    changed: int
    looked_at: int


class SavedRun(NamedTuple):
    """A run as it was: the first ``n_samples`` of every problem, in ``files``."""

    name: str
    n_samples: int
    files: list[SeenFile]

    def known(self) -> Known:
        """What need not be looked for again."""
        return Known(self.n_samples, {Path(file.name): file.n_bytes for file in self.files})


class SavedState(NamedTuple):
    """What was found in the samples of ``runs``; of each problem, in their order."""

    runs: list[SavedRun]
    states: list[ProblemState]

    def known(self, name: str) -> Known:
        """What is known of the run of that name."""
        return next((run.known() for run in self.runs if run.name == name), NOTHING)

    def is_continued_by(self, runs: Sequence[Run], fidelity: Fidelity) -> bool:
        """Whether ``runs`` are these, with perhaps more samples after those that are known.

        As published, the order of samples matters: then only the last run may have more.
        """
        known = [(run.name, run.n_samples) for run in self.runs]
        has_more = [run.n_samples > run.n_known for run in runs]
        in_order = fidelity == "strict" or not any(has_more[:-1])
        return in_order and known == [(run.name, run.n_known) for run in runs]


def save_filter_state(
    path: Path,
    states: Sequence[ProblemState],
    rules: FilterRules,
    data_path: Path,
    runs: Sequence[Run],
    before: SavedState | None,
) -> None:
    """Write ``states``, and of what they are. ``before``: what they go on from.

    Of runs that lack samples nothing is written: those would have their place between the others.
    """
    if not all(run.is_whole and not run.index.n_missing(run.n_known) for run in runs):
        path.unlink(missing_ok=True)
        return
    # default=list: for Candidate, as orjson does not take a named tuple for a tuple
    rows = [
        orjson.dumps(state, default=list, option=orjson.OPT_NON_STR_KEYS).decode() + "\n"
        for state in states
    ]
    seen = {file.name: file for run in (before.runs if before else []) for file in run.files}
    header = _identity(rules, data_path) | {
        "runs": [SavedRun(run.name, run.n_samples, _look_at(run, seen)) for run in runs],
        "checksum": zlib.crc32("".join(rows).encode()),
    }
    first = orjson.dumps(header, default=list).decode() + "\n"
    write_atomic(path, chain([first], rows))


def read_filter_state(path: Path, rules: FilterRules, data_path: Path) -> SavedState | None:
    """What was saved at ``path``; None if there is nothing to go on with."""
    header, rows = _read(path)
    if any(header.get(key) != value for key, value in _identity(rules, data_path).items()):
        return None
    runs = [
        SavedRun(name, n_samples, [SeenFile(*file) for file in files])
        for name, n_samples, files in header["runs"]
    ]
    files = [file for run in runs for file in run.files]
    if not all(parallel_map(_is_unchanged, files)):
        return None
    return SavedState(runs, list(map(_to_state, rows)))


def _identity(rules: FilterRules, data_path: Path) -> dict[str, Any]:
    program = b"".join((Path(__file__).parents[1] / f"{name}.py").read_bytes() for name in PROGRAM)
    return {
        "format": 2,
        "program": zlib.crc32(program),
        "rules": orjson.loads(orjson.dumps(asdict(rules))),
        "data_sha256": file_sha256(data_path),
    }


def _look_at(run: Run, seen: dict[str, SeenFile]) -> list[SeenFile]:
    """The files of ``run`` as they are; what was ``seen`` of them is not read again."""
    files = [(path, seen.get(str(path))) for path in run.index.files]
    return list(parallel_map(_look_at_file, files))


def _look_at_file(file: tuple[Path, SeenFile | None]) -> SeenFile:
    path, before = file
    looked_at, stat = time.time_ns(), path.stat()
    begin, checksum = (before.n_bytes, before.checksum) if before else (0, 0)
    if begin < stat.st_size:
        checksum = _checksum(path, begin, stat.st_size, checksum)
    return SeenFile(str(path), stat.st_size, checksum, stat.st_mtime_ns, looked_at)


def _is_unchanged(file: SeenFile) -> bool:
    """Whether its first bytes are those that were seen."""
    path = Path(file.name)
    if not path.is_file() or (stat := path.stat()).st_size < file.n_bytes:
        return False
    is_as_it_was = (stat.st_size, stat.st_mtime_ns) == (file.n_bytes, file.changed)
    if is_as_it_was and file.changed < file.looked_at - RACY_NS:
        return True
    return _checksum(path, 0, file.n_bytes) == file.checksum


def _checksum(path: Path, begin: int, end: int, checksum: int = 0) -> int:
    """CRC-32 of bytes ``begin`` to ``end`` of a file, after bytes with that ``checksum``."""
    with open_for_reading(path) as file:
        file.seek(begin)
        while begin < end and (data := file.read(min(RANGE_BYTES, end - begin))):
            checksum = zlib.crc32(data, checksum)
            begin += len(data)
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

"""Write a public dataset in the project's format, for example data/train_use.jsonl of GSM8K.

    python data/prepare.py gsm8k                  # downloads openai/gsm8k, config main
    python data/prepare.py gsm8k --source DIR     # or reads DIR/train.jsonl and DIR/test.jsonl
    python data/prepare.py svamp --source FILE    # or one file
    python data/prepare.py asdiv --solutions      # with solutions worked out from its formulas

Checks the number of rows and, where it is known, the SHA-256 of the content before it writes
anything, so that everyone trains and scores on the same problems. Run it from the repository root.
"""

import hashlib
import json
import logging
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

# A script's sys.path starts at its own folder, data/; the package lies one folder up.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.asdiv import LeftOut
from data.sources import SOURCES, Convert, Edition, Source, Split
from screl.core.config import exit_with_usage, option, parse_config, run_main
from screl.core.io import UserError, file_sha256, write_atomic
from screl.core.rows import read_rows

Dataset = Literal[
    "gsm8k", "gsm8k_platinum", "math", "math500", "svamp", "asdiv", "mawps", "gsm_hard"
]


@dataclass(frozen=True)
class PrepareConfig:
    """Options of data/prepare.py."""

    dataset: Dataset = option("the dataset to prepare", positional=True)
    source: Path | None = option(
        "read this file, or the splits in this folder (train.jsonl, test.jsonl, svamp.jsonl, ...), "
        "instead of downloading",
        None,
    )
    solutions: bool = option("asdiv: write solutions, worked out from its formulas", False)
    output_dir: Path = option(
        "folder to write train_use.jsonl and test_use.jsonl, or svamp.jsonl, ..., to", Path("data")
    )


class Prepared(NamedTuple):
    """The text of one output file and the problems that were left out, by reason."""

    text: str
    left_out: Counter[str]


def read_source(source: Source, path: Path) -> dict[str, Prepared]:
    """Return each split in the file or folder; raise UserError, with file and line, if bad.

    An optional split whose file is missing is named on stderr and is not in the result.
    """
    prepared = {}
    for name, split in source.splits.items():
        file = path if path.is_file() else _file_in(path, split)
        if path.is_file() and len(source.splits) > 1:
            raise UserError(f"{path}: is a file; give the folder that holds {_names(source)}")
        if not file.exists() and split.is_optional:
            print(f"{file}: no such file; {split.output} is not written", file=sys.stderr)
            continue
        prepared[name] = checked(split.local, read_rows(file), str(file), source.convert)
    return prepared


def download(source: Source) -> dict[str, Prepared]:
    """Return each split from the hub; raise UserError if it fails or has changed."""
    if source.hub_id is None:
        raise UserError(
            "no hub dataset is known to hold the same problems; give --source with "
            f"{_names(source)}, one problem per line"
        )
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    configs = "config" + "s" * (len(source.configs) > 1) + " " + ", ".join(source.configs)
    print(f"downloading {source.hub_id} ({configs})", file=sys.stderr)
    # Without a network, the hub's client would print five retries before our error.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        parts = [load_dataset(source.hub_id, config) for config in source.configs]
    except (OSError, ValueError, DatasetsError) as error:
        raise UserError(
            f"{source.hub_id} could not be downloaded ({error}); check the network, or give "
            f"--source DIR with its {_names(source)}"
        ) from None
    prepared = {}
    for name, split in source.splits.items():
        rows = [row for part in parts for hub_split in split.hub_splits for row in part[hub_split]]
        where = f"{source.hub_id} {name}"
        prepared[name] = checked(split.hub, enumerate(rows, start=1), where, source.convert)
    return prepared


def checked(
    edition: Edition,
    numbered_rows: Iterable[tuple[int, dict[str, Any]]],
    where: str,
    convert: Convert,
) -> Prepared:
    """Return a split as JSONL: one ASCII-escaped problem per line.

    Raises UserError, naming ``where``, unless this is the published split.
    """
    lines: list[str] = []
    left_out: Counter[str] = Counter()
    found_rows = 0
    for found_rows, (number, row) in enumerate(numbered_rows, start=1):
        try:
            lines.append(json.dumps(convert(row, found_rows - 1)) + "\n")
        except LeftOut as reason:
            left_out[str(reason)] += 1
        except UserError as error:
            raise UserError(f"{where}:{number}: {error}") from None
    fix = "nothing was written; give the complete, unchanged dataset"
    if found_rows != edition.n_rows:
        raise UserError(f"{where}: expected {edition.n_rows:,} rows, found {found_rows:,}; {fix}")
    text = "".join(lines)
    found_sha256 = hashlib.sha256(text.encode()).hexdigest()
    if edition.sha256 not in (None, found_sha256):
        raise UserError(
            f"{where}: expected content with SHA-256 {edition.sha256}, found {found_sha256}; {fix}"
        )
    return Prepared(text, left_out)


def is_ready(path: Path, split: Split) -> bool:
    """Return whether ``path`` is the split already; raise UserError if it cannot be the split."""
    if not path.exists():
        return False
    found = file_sha256(path)
    known = (split.local.sha256, split.hub.sha256)
    if None not in known and found not in known:
        raise UserError(_not_overwritten(path))
    return found in known


def main() -> None:
    """Read, check, and write the splits unless all files exist."""
    config = parse_config(PrepareConfig, doc=__doc__)
    if config.solutions and config.dataset != "asdiv":
        exit_with_usage("--solutions: only asdiv has formulas to work out; leave it out")
    source = SOURCES[config.dataset + "_solutions" * config.solutions]
    paths = {name: config.output_dir / split.output for name, split in source.splits.items()}
    ready = {name: is_ready(path, source.splits[name]) for name, path in paths.items()}
    if all(ready.values()):
        print(f"already prepared: {', '.join(map(str, paths.values()))}")
        return
    prepared = read_source(source, config.source) if config.source else download(source)
    for name, (text, _) in prepared.items():
        path = paths[name]
        if path.exists() and path.read_text(encoding="utf-8") != text:
            raise UserError(_not_overwritten(path))
    for name, (text, left_out) in prepared.items():
        split = source.splits[name]
        write_atomic(paths[name], [text])
        _report(paths[name], text, left_out, split.local if config.source else split.hub)


def _report(path: Path, text: str, left_out: Counter[str], edition: Edition) -> None:
    for reason, n in left_out.most_common():
        print(f"left out, {reason}: {n:,}", file=sys.stderr)
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    unknown = "" if edition.sha256 else " (not compared: only the number of rows is known)"
    print(f"{path}: {text.count(chr(10)):,} problems, SHA-256 {sha256}{unknown}")


def _file_in(folder: Path, split: Split) -> Path:
    """Return the split's file in ``folder``: the first of its names that is there."""
    paths = [folder / name for name in split.files]
    return next((path for path in paths if path.exists()), paths[0])


def _names(source: Source) -> str:
    return " and ".join(split.files[0] for split in source.splits.values())


def _not_overwritten(path: Path) -> str:
    return (
        f"{path}: exists with different content and is not overwritten; move it away or give "
        "another --output_dir"
    )


if __name__ == "__main__":
    run_main(main)

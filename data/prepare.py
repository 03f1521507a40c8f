"""Write GSM8K in the project's format: data/train_use.jsonl and data/test_use.jsonl.

    python data/prepare.py gsm8k                  # downloads openai/gsm8k, config main
    python data/prepare.py gsm8k --source DIR     # or reads DIR/train.jsonl and DIR/test.jsonl

Checks the number of rows and the SHA-256 of the content before it writes anything, so that everyone
trains and scores on the same problems. Run it from the repository root.
"""

import hashlib
import json
import logging
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

# A script's sys.path starts at its own folder, data/; the package lies one folder up.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from screl.core.config import option, parse_config, run_main
from screl.core.io import UserError, file_sha256, write_atomic
from screl.core.rows import read_rows

HUB_ID = "openai/gsm8k"
# split: number of rows, SHA-256 of the bytes that checked_text returns
EXPECTED = {
    "train": (7473, "2903868cbd1c745c36bb45daa0402c393b7ddb373edc77e4937c47496ccdbde3"),
    "test": (1319, "e8b472800f8dee3d0a8f61066b3d786c53fa2775396bedb8e3dfabe7b641661a"),
}


@dataclass(frozen=True)
class PrepareConfig:
    """Options of data/prepare.py."""

    dataset: Literal["gsm8k"] = option("the dataset to prepare", positional=True)
    source: Path | None = option(
        "read train.jsonl and test.jsonl from this folder instead of downloading", None
    )
    output_dir: Path = option("folder to write train_use.jsonl and test_use.jsonl to", Path("data"))


def read_source(folder: Path) -> dict[str, str]:
    """Return the text of each split in ``folder``; raise UserError, with file and line, if bad."""
    paths = {split: folder / f"{split}.jsonl" for split in EXPECTED}
    return {split: checked_text(split, read_rows(path), str(path)) for split, path in paths.items()}


def download() -> dict[str, str]:
    """Return the text of each split from the hub; raise UserError if it fails or has changed."""
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    print(f"downloading {HUB_ID} (config main)", file=sys.stderr)
    # Without a network, the hub's client would print five retries before our error.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        dataset = load_dataset(HUB_ID, "main")
    except (OSError, DatasetsError) as error:
        raise UserError(
            f"{HUB_ID} could not be downloaded ({error}); check the network, or give "
            "--source DIR with its train.jsonl and test.jsonl"
        ) from None
    return {
        split: checked_text(split, enumerate(dataset[split], start=1), f"{HUB_ID} {split}")
        for split in EXPECTED
    }


def checked_text(
    split: str, numbered_rows: Iterable[tuple[int, dict[str, Any]]], where: str
) -> str:
    """Return a split as JSONL: one ASCII-escaped ``{"query", "response"}`` per line.

    Rows have the keys query and response, or question and answer as on the hub; other keys are
    dropped. Raises UserError, naming ``where``, unless this is the published split.
    """
    text = "".join(_to_line(row, f"{where}:{number}") for number, row in numbered_rows)
    n_rows, sha256 = EXPECTED[split]
    fix = f"nothing was written; give the complete, unchanged {HUB_ID} (config main)"
    found_rows = text.count("\n")
    if found_rows != n_rows:
        raise UserError(f"{where}: expected {n_rows:,} rows, found {found_rows:,}; {fix}")
    found_sha256 = hashlib.sha256(text.encode()).hexdigest()
    if found_sha256 != sha256:
        raise UserError(
            f"{where}: expected content with SHA-256 {sha256}, found {found_sha256}; {fix}"
        )
    return text


def is_ready(path: Path, split: str) -> bool:
    """Return whether ``path`` is the split already; raise UserError if it is something else."""
    if not path.exists():
        return False
    if file_sha256(path) != EXPECTED[split][1]:
        raise UserError(
            f"{path}: exists with different content and is not overwritten; move it away or give "
            "another --output_dir"
        )
    return True


def main() -> None:
    """Read, check, and write the splits unless both files exist."""
    config = parse_config(PrepareConfig, doc=__doc__)
    paths = {split: config.output_dir / f"{split}_use.jsonl" for split in EXPECTED}
    ready = {split: is_ready(path, split) for split, path in paths.items()}
    if all(ready.values()):
        print(f"already prepared: {', '.join(map(str, paths.values()))}")
        return
    texts = read_source(config.source) if config.source else download()
    for split, path in paths.items():
        write_atomic(path, [texts[split]])
        print(f"{path}: {EXPECTED[split][0]:,} problems, SHA-256 {EXPECTED[split][1]}")


def _to_line(row: dict[str, Any], where: str) -> str:
    line = {
        "query": _text_under(("query", "question"), row, where),
        "response": _text_under(("response", "answer"), row, where),
    }
    return json.dumps(line) + "\n"


def _text_under(keys: tuple[str, str], row: dict[str, Any], where: str) -> str:
    for key in keys:
        if isinstance(row.get(key), str):
            return row[key]
    raise UserError(
        f"{where}: no text under {keys[0]!r} or {keys[1]!r} (found keys: {', '.join(row)}); "
        "every row needs a question and its solution"
    )


if __name__ == "__main__":
    run_main(main)

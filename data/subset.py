"""Write random rows of a JSONL file, for SFT on a part of the data (paper section 3.2).

    python data/subset.py --data_path data/train_use.jsonl --n_rows 934 --output_path part8.jsonl

With the same seed, a smaller subset is part of every larger one. Rows keep their order.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from random import Random

# A script's sys.path starts at its own folder, data/; the package lies one folder up.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from screl.core.config import option, parse_config, run_main
from screl.core.io import UserError, refuse_to_overwrite, write_atomic
from screl.core.rows import lines_of, read_rows


@dataclass(frozen=True)
class SubsetConfig:
    """Options of data/subset.py."""

    data_path: Path = option("JSONL file to draw rows from")
    output_path: Path = option("file to write the drawn rows to")
    n_rows: int = option("number of rows to draw")
    seed: int = option("random seed for the choice of rows", 0)


def draw_rows(n_all: int, n_rows: int, seed: int) -> list[int]:
    """Return the sorted positions of ``n_rows`` random rows among ``n_all``."""
    shuffled = list(range(n_all))
    Random(f"subset {seed}").shuffle(shuffled)
    return sorted(shuffled[:n_rows])


def main() -> None:
    """Draw the rows and write them; raise UserError if there are too few."""
    config = parse_config(SubsetConfig, doc=__doc__)
    refuse_to_overwrite([config.output_path], [config.data_path])
    source = lines_of(config.data_path)
    numbers = [number for number, _ in read_rows(source)]
    n = len(numbers)
    if not 1 <= config.n_rows <= n:
        raise UserError(f"{config.data_path}: has {n} rows; --n_rows must be from 1 to {n}")
    lines = source.read_text(encoding="utf-8").split("\n")
    drawn = draw_rows(n, config.n_rows, config.seed)
    write_atomic(config.output_path, (lines[numbers[row] - 1] + "\n" for row in drawn))
    print(f"{config.output_path}: {config.n_rows} of {n} rows")


if __name__ == "__main__":
    run_main(main)

"""Write some rows of a JSONL file, drawn at random: SFT on a part of the data (paper section 3.2).

    python data/subset.py --data_path data/train_use.jsonl --n_rows 934 --output_path part8.jsonl

Of one seed, a smaller subset is part of every larger one. The rows stay in their order.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from random import Random

# A script's sys.path starts at its own folder, data/; the package lies one folder up.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from screl.core.config import option, parse_config, run_main
from screl.core.io import UserError, read_jsonl, refuse_to_overwrite, write_atomic


@dataclass(frozen=True)
class SubsetConfig:
    """The options of this script."""

    data_path: Path = option('rows: JSONL of {"query", "response"}')
    output_path: Path = option("where the drawn rows go")
    n_rows: int = option("how many")
    seed: int = option("another one draws other rows", 0)


def draw_rows(n_all: int, n_rows: int, seed: int) -> list[int]:
    """Positions of ``n_rows`` of ``n_all`` rows, in order."""
    shuffled = list(range(n_all))
    Random(f"subset {seed}").shuffle(shuffled)
    return sorted(shuffled[:n_rows])


def main() -> None:
    """Read, draw, write."""
    config = parse_config(SubsetConfig, doc=__doc__)
    refuse_to_overwrite([config.output_path], [config.data_path])
    numbers = [number for number, _ in read_jsonl(config.data_path)]
    if not 1 <= config.n_rows <= len(numbers):
        raise UserError(
            f"{config.data_path}: has {len(numbers)} rows; --n_rows must be from 1 to that"
        )
    lines = config.data_path.read_text(encoding="utf-8").split("\n")
    drawn = draw_rows(len(numbers), config.n_rows, config.seed)
    write_atomic(config.output_path, (lines[numbers[row] - 1] + "\n" for row in drawn))
    print(f"{config.output_path}: {config.n_rows} of {len(numbers)} rows")


if __name__ == "__main__":
    run_main(main)

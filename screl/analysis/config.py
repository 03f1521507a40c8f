"""Options of analyze.py."""

from dataclasses import dataclass
from pathlib import Path

from screl.core.config import option

REPORT = "where to write the report; its figures go to a folder next to it"


@dataclass(frozen=True)
class CostConfig:
    """Options of analyze.py cost."""

    runs: tuple[Path, ...] = option("folders of models made by train.py", positional=True)
    samples: tuple[Path, ...] = option(
        "greedy samples of the models, or folders to search for them; default: the folder greedy "
        "in each model's, else any beside the models",
        (),
    )
    output_path: Path | None = option("also write the numbers as JSON, with a .run.json", None)


@dataclass(frozen=True)
class PaperConfig:
    """Options of analyze.py paper."""

    output_path: Path = option(REPORT, Path("results/paper.md"))


@dataclass(frozen=True)
class MiniatureConfig:
    """Options of analyze.py miniature."""

    runs: Path = option("folder with the runs of scripts/miniature", Path("runs/miniature"))
    output_path: Path = option(REPORT, Path("results/miniature.md"))

"""Options."""

from dataclasses import dataclass
from pathlib import Path

from screl.core.config import option


@dataclass(frozen=True)
class CostConfig:
    """Options of analyze.py cost."""

    runs: tuple[Path, ...] = option("folders of models that train.py has made", positional=True)
    output_path: Path | None = option(
        "write the numbers as JSON, and its .run.json beside it", None
    )


@dataclass(frozen=True)
class PaperConfig:
    """Options of analyze.py paper."""

    output_path: Path = option(
        "the report; figures go to a folder beside it", Path("results/paper.md")
    )


@dataclass(frozen=True)
class MiniatureConfig:
    """Options of analyze.py miniature."""

    runs: Path = option("what scripts/miniature has run", Path("runs/miniature"))
    output_path: Path = option(
        "the report; figures go to a folder beside it", Path("results/miniature.md")
    )

"""Options."""

from dataclasses import dataclass
from pathlib import Path

from screl.core.config import exit_with_usage, option
from screl.grading.answers import Fidelity
from screl.scoring.score import Grader


@dataclass(frozen=True)
class EvalConfig:
    """Options of eval.py."""

    samples: tuple[Path, ...] = option(
        "sample stores, or folders or files in the published layout; none: list ./runs",
        (),
        positional=True,
    )
    data_path: Path | None = option(
        'problems: JSONL of {"query", "response"}; not given: each store\'s own', None
    )
    fidelity: Fidelity = option("strict: exact numbers; paper: as the published code", "strict")
    grader: Grader = option(
        "number: '#### n'; math_verify: formulas, as in MATH, by Math-Verify", "number"
    )
    graders: bool = option("instead of scores: what six graders make of the same texts", False)
    seeds: bool = option("SAMPLES are seeds of one recipe: their mean, spread, interval", False)
    baseline: tuple[Path, ...] = option("with --seeds: the seeds of a recipe to compare with", ())
    breakdown: tuple[str, ...] = option(
        "scores by steps (of the solution), length, cut_off, or a key of the data's rows", ()
    )
    output_path: Path | None = option("write metrics.json, and its .run.json beside it", None)
    changes_path: Path | None = option(
        "write the problems that changed from the first SAMPLES to each later one, JSONL", None
    )
    errors_path: Path | None = option("write every wrong completion and its kind, JSONL", None)
    allow_partial: bool = option("score what is there of an unfinished run", False)
    dry_run: bool = option("print the resolved config and what would be scored, then stop", False)


def check_options(config: EvalConfig) -> None:
    """Exit with status 2 for options that do not go together."""
    wrong = None
    sibling = [config.seeds, config.breakdown, config.changes_path, config.errors_path]
    if not config.samples and (any(sibling) or config.output_path or config.graders):
        wrong = "give SAMPLES; without any, eval.py only lists what is under ./runs"
    elif config.graders and any(sibling):
        wrong = "--graders shows its panel only; give what else you want in another command"
    elif config.seeds and len(config.samples) < 2:
        wrong = "--seeds needs two or more SAMPLES: one seed has no spread"
    elif config.baseline and not config.seeds:
        wrong = "--baseline goes with --seeds; else give the first run to compare with as SAMPLES"
    elif len(config.baseline) == 1:
        wrong = "--baseline needs two or more seeds: one has no spread"
    elif config.changes_path and (config.seeds or len(config.samples) < 2):
        wrong = "--changes_path needs two or more SAMPLES, without --seeds"
    if wrong:
        exit_with_usage(wrong)

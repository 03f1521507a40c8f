"""Options of eval.py, and the checks that they go together."""

from dataclasses import dataclass, replace
from pathlib import Path

from screl.core.config import exit_with_usage, option
from screl.core.layouts import ANSWER_KEY, QUERY_KEY, RESPONSE_KEY, KeyOptions
from screl.grading.answers import Fidelity
from screl.grading.options import AnswerOptions
from screl.grading.verdict import JudgeRules


@dataclass(frozen=True)
class EvalConfig(AnswerOptions, KeyOptions):
    """Options of eval.py."""

    samples: tuple[Path, ...] = option(
        "sample stores, or folders or files in the published layout; without any, list ./runs",
        (),
        positional=True,
    )
    data_path: Path | None = option(
        "problems: JSONL, JSON or parquet; default: the file that each store names", None
    )
    fidelity: Fidelity = option(
        "strict: exact numbers; paper: the published code's rules", "strict"
    )
    graders: bool = option("compare six graders on the same completions instead of scoring", False)
    seeds: bool = option(
        "treat SAMPLES as seeds of one recipe: their mean, spread, and interval", False
    )
    baseline: tuple[Path, ...] = option("with --seeds: the seeds of a recipe to compare with", ())
    breakdown: tuple[str, ...] = option(
        "break scores down by steps (in the solution), length, cut_off, or keys of the data", ()
    )
    output_path: Path | None = option("metrics.json to write, with a .run.json next to it", None)
    changes_path: Path | None = option(
        "JSONL file for the problems whose score differs between the first SAMPLES and a later one",
        None,
    )
    errors_path: Path | None = option("JSONL file for wrong completions and their kinds", None)
    query_key: tuple[str, ...] = option(QUERY_KEY, ())
    response_key: str | None = option(RESPONSE_KEY, None)
    answer_key: str | None = option(ANSWER_KEY, None)
    allow_partial: bool = option("score an unfinished run by the samples that it has", False)
    dry_run: bool = option("print the resolved config and what would be scored, then stop", False)

    def rules(self) -> JudgeRules:
        """Return the rules by which completions are judged."""
        return replace(self.answer_rules(), fidelity=self.fidelity)


def check_eval_options(config: EvalConfig) -> None:
    """Exit with status 2 for options that do not go together."""
    wrong = None
    extra = any([config.seeds, config.breakdown, config.changes_path, config.errors_path])
    if not config.samples and (extra or config.output_path or config.graders):
        wrong = "give SAMPLES; without any, eval.py only lists the stores under ./runs"
    elif config.graders and extra:
        wrong = "--graders prints only the graders; run the other options in a second command"
    elif config.graders and config.verifier:
        wrong = "--graders compares six graders; leave out --verifier"
    elif config.seeds and len(config.samples) < 2:
        wrong = "--seeds needs two or more SAMPLES: one seed has no spread"
    elif config.baseline and not config.seeds:
        wrong = "--baseline goes with --seeds; to compare single runs, give the baseline first"
    elif len(config.baseline) == 1:
        wrong = "--baseline needs two or more seeds: one has no spread"
    elif config.changes_path and (config.seeds or len(config.samples) < 2):
        wrong = "--changes_path needs two or more SAMPLES, without --seeds"
    if wrong:
        exit_with_usage(wrong)

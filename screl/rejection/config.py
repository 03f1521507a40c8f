"""Options of collect_rejection_sampling.py, and the filter rules they select."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from screl.core.config import option
from screl.core.io import UserError, refuse_to_overwrite, sibling
from screl.core.layouts import ANSWER_KEY, QUERY_KEY, RESPONSE_KEY, KeyOptions
from screl.grading.answers import Fidelity
from screl.grading.options import PathOptions
from screl.grading.process_checks import ProcessCheck
from screl.rejection.filter import FilterRules
from screl.rejection.selection import Keep
from screl.samples.reader import refuse_repeats

KEEP: dict[str, Keep] = {"none": "distinct", "rows": "random_rows", "tokens": "random_tokens"}


@dataclass(frozen=True)
class CollectConfig(PathOptions, KeyOptions):
    """Options of collect_rejection_sampling.py."""

    data_path: Path = option("the problems that were sampled; JSONL, JSON or parquet")
    samples: tuple[Path, ...] = option("sample stores, published folders or files, or JSONL files")
    output_path: Path | None = option("RFT data to write; not with --compare or --explain", None)
    fidelity: Fidelity = option(
        "strict: exact numbers; paper: the published code's rules", "strict"
    )
    k: int | None = option("use only the first k samples per problem of each run", None)
    process_checks: tuple[ProcessCheck, ...] = option(
        "also reject right answers that fail these checks: unused_result, "
        "last_equation_not_answer, unexplained_number",
        (),
    )
    no_dedup: bool = option("keep every right sample, not one per path", False)
    control: Literal["none", "rows", "tokens"] = option(
        "keep random right samples instead: as many rows, or tokens, per problem", "none"
    )
    seed: int = option("random seed for --control", 0)
    compare: bool = option("print where paper and strict differ; write nothing", False)
    explain: str | None = option(
        "print what happens to every sample of this problem_id; write nothing", None
    )
    query_key: tuple[str, ...] = option(QUERY_KEY, ())
    response_key: str | None = option(RESPONSE_KEY, None)
    answer_key: str | None = option(ANSWER_KEY, None)
    allow_partial: bool = option("accept a run with missing samples", False)
    n_workers: int | None = option("number of processes; default: one per processor", None)
    dry_run: bool = option("print the resolved config and what would be read, then stop", False)


def check_options(config: CollectConfig) -> None:
    """Raise UserError for options that contradict each other or would overwrite an input."""
    refuse_repeats(config.samples)
    if config.no_dedup and config.control != "none":
        raise UserError("--no_dedup keeps every right sample; leave out --control or --no_dedup")
    if config.output_path is None:
        if config.explain is None and not config.compare:
            raise UserError("no output; give --output_path RFT.jsonl")
        return
    endings = (".run.json", ".sources.jsonl")
    outputs = [config.output_path, *(sibling(config.output_path, ending) for ending in endings)]
    refuse_to_overwrite(outputs, [config.data_path, *config.samples])


def rules_of(config: CollectConfig) -> FilterRules:
    """Return the filter rules that the options ask for."""
    keep = "all" if config.no_dedup else KEEP[config.control]
    return FilterRules(
        config.fidelity, config.grader, config.answer_style, config.path_style, think=config.think,
        process_checks=config.process_checks, verifier=config.verifier, keep=keep, seed=config.seed,
    )  # fmt: skip

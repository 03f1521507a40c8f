"""Group sampling: k completions of every problem, or one greedy one, into a sample store.

    python sample.py --model_name_or_path M --data_path data/train_use.jsonl --output_dir SAMPLES \\
        --n_samples 100 --temperature 0.7
    python sample.py --model_name_or_path M --data_path data/test_use.jsonl --output_dir SAMPLES2 \\
        --greedy

A killed run goes on where it stopped when the same command is given again; a larger --n_samples
adds to what is there.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from screl.config import option, parse_config, run_main, show_config
from screl.files import UserError
from screl.problems import load_problems
from screl.run_info import write_run_info


@dataclass(frozen=True)
class SampleConfig:
    """Options of sample.py."""

    model_name_or_path: str = option("checkpoint: a local folder or a hub id")
    data_path: Path = option('problems: JSONL of {"query", "response"}')
    output_dir: Path = option("the sample store: manifest.json, samples-0.jsonl, run.json")
    n_samples: int = option("completions per problem (the paper's k)", 1)
    greedy: bool = option("the likeliest token always; one completion per problem", False)
    temperature: float = option("of the sampling distribution", 0.7)
    top_p: float = option("smallest set of tokens with this probability; 1.0: all", 1.0)
    top_k: int = option("this many likeliest tokens; 0: all (published code: 50)", 0)
    max_new_tokens: int = option("longest completion, in tokens", 256)
    seed: int = option("run seed; sample j of a problem depends on it, the problem and j", 0)
    engine: Literal["transformers"] = option("what runs the model", "transformers")
    precision: Literal["bf16", "fp32"] = option("of weights and arithmetic", "bf16")
    batch_size: int = option("completions at once", 128)
    dry_run: bool = option("print the resolved config and the first prompt, then stop", False)


def main() -> None:
    """Find out what is missing, make it, append it."""
    config = parse_config(SampleConfig, doc=__doc__)
    started = time.time()
    check(config)
    problems = load_problems(config.data_path)
    # heavy: after the cheap checks, and not for --help
    from screl.sampling import describe_plan, missing_samples, open_for, sample, totals

    if config.dry_run:
        print(show_config(config))
        print(describe_plan(config, problems))
        return
    open_for(config, problems)
    missing = missing_samples(config, problems)
    made = sample(config, problems, missing) if missing else {"n_samples_made_now": 0}
    results = totals(config.output_dir) | made
    if missing or not (config.output_dir / "run.json").exists():
        write_run_info(config.output_dir / "run.json", config, started, results)
    print(
        f"{config.output_dir}: {made['n_samples_made_now']} samples made, {results['n_samples']} "
        f"are there, {results['n_tokens']} tokens, {results['share_cut_off']:.1%} cut off at "
        f"{config.max_new_tokens} tokens"
        + (f", {made['tokens_per_second']:.0f} tokens/s" if missing else "")
    )


def check(config: SampleConfig) -> None:
    """UserError for options that contradict each other."""
    if config.greedy and config.n_samples != 1:
        raise UserError("--greedy makes one completion per problem; leave out --n_samples")
    if config.n_samples < 1 or config.batch_size < 1 or config.max_new_tokens < 1:
        raise UserError("--n_samples, --batch_size and --max_new_tokens must be at least 1")
    if not config.greedy and not 0.01 <= config.temperature < 100:
        raise UserError("--temperature must be from 0.01 to 100; for the likeliest token: --greedy")
    if not 0 < config.top_p <= 1 or config.top_k < 0:
        raise UserError("--top_p must be in (0, 1] and --top_k at least 0")


if __name__ == "__main__":
    run_main(main)

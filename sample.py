"""Group sampling: k completions of every problem, or one greedy one, into a sample store.

    python sample.py --model_name_or_path M --data_path data/train_use.jsonl --output_dir SAMPLES \\
        --n_samples 100 --temperature 0.7
    python sample.py --model_name_or_path M --data_path data/test_use.jsonl --output_dir SAMPLES2 \\
        --greedy

A killed run goes on where it stopped when the same command is given again; a larger --n_samples
adds to what is there.
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from screl.config import option, parse_config, run_main, show_config
from screl.files import UserError, file_sha256
from screl.problems import Problem, load_problems
from screl.prompts import ALPACA_NO_INPUT, build_prompt
from screl.store import SampleWriter, is_store, open_store, read_manifest, read_samples

if TYPE_CHECKING:
    from screl.engine_hf import Request


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
    if config.dry_run:
        print(show_config(config))
        show_first_prompt(config, problems)
        return
    open_store(config.output_dir, make_manifest(config, len(problems)))
    missing = missing_samples(config, problems)
    n_missing = sum(map(len, missing.values()))
    if n_missing == 0:
        print(f"{config.output_dir}: all {len(problems) * config.n_samples} samples are there")
        return
    sample(config, problems, missing, started)


def check(config: SampleConfig) -> None:
    """UserError for options that contradict each other."""
    if config.greedy and config.n_samples != 1:
        raise UserError("--greedy makes one completion per problem; leave out --n_samples")
    if config.n_samples < 1 or config.batch_size < 1 or config.max_new_tokens < 1:
        raise UserError("--n_samples, --batch_size and --max_new_tokens must be at least 1")
    if not config.greedy and config.temperature <= 0:
        raise UserError("--temperature must be above 0; for the likeliest token give --greedy")
    if not 0 < config.top_p <= 1 or config.top_k < 0:
        raise UserError("--top_p must be in (0, 1] and --top_k at least 0")


def make_manifest(config: SampleConfig, n_problems: int) -> dict[str, Any]:
    """What the store holds. Two runs into one folder must agree in all that decides a sample."""
    from screl.modeling import check_model_folder, fingerprint
    from screl.run_info import package_versions

    check_model_folder(config.model_name_or_path)
    drawing = ("temperature", "top_p", "top_k", "seed")
    return {
        "model_name_or_path": config.model_name_or_path,
        "model_sha256": fingerprint(config.model_name_or_path),
        "data_path": str(config.data_path),
        "data_sha256": file_sha256(config.data_path),
        "n_problems": n_problems,
        "prompt_template": ALPACA_NO_INPUT,
        "greedy": config.greedy,
        "n_samples": config.n_samples,
        **{key: None if config.greedy else getattr(config, key) for key in drawing},
        "max_new_tokens": config.max_new_tokens,
        "engine": config.engine,
        "precision": config.precision,
        "versions": package_versions(),
    }


def missing_samples(config: SampleConfig, problems: list[Problem]) -> dict[Any, list[int]]:
    """For each problem the sample ids that the store does not have yet."""
    there: dict[Any, set[int]] = {problem.problem_id: set() for problem in problems}
    for known in read_samples(config.output_dir):
        there[known.problem_id].add(known.sample_id)
    return {
        problem_id: [j for j in range(config.n_samples) if j not in known]
        for problem_id, known in there.items()
    }


def sample(
    config: SampleConfig, problems: list[Problem], missing: dict[Any, list[int]], started: float
) -> None:
    """Make the missing samples; every batch is on the disk before the next one starts."""
    import torch  # heavy: after the cheap checks, and not for --help
    from tqdm import tqdm

    from screl.engine_hf import SamplingParams, generate
    from screl.modeling import load_model, load_tokenizer
    from screl.run_info import write_run_info

    tokenizer = load_tokenizer(config.model_name_or_path)
    dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
    model = load_model(config.model_name_or_path, dtype)
    if torch.accelerator.is_available():
        model = model.to(torch.accelerator.current_accelerator())
    requests = make_requests(config, tokenizer, model, problems, missing)
    params = SamplingParams(
        config.greedy, config.temperature, config.top_p, config.top_k,
        config.max_new_tokens, config.seed,
    )  # fmt: skip
    total = sum(map(len, missing.values()))
    n_tokens = n_cut = 0
    sampling_started = time.time()
    with SampleWriter(config.output_dir) as writer, tqdm(total=total, unit="sample") as bar:
        for samples in generate(model, tokenizer, requests, params, config.batch_size):
            writer.write(samples)
            n_tokens += sum(made.n_tokens for made in samples)
            n_cut += sum(made.finish_reason == "length" for made in samples)
            seconds = time.time() - sampling_started
            bar.update(len(samples))
            bar.set_postfix(tok_s=f"{n_tokens / seconds:.0f}")
    results = {
        "n_samples_made": total,
        "n_tokens": n_tokens,
        "tokens_per_second": round(n_tokens / seconds, 1),
        "share_cut_off": n_cut / total,
    }
    write_run_info(config.output_dir / "run.json", config, started, results)
    print(
        f"{config.output_dir}: {total} samples, {n_tokens} tokens, "
        f"{results['tokens_per_second']:.0f} tokens/s, "
        f"{100 * n_cut / total:.1f} % cut off at {config.max_new_tokens} tokens"
    )


def make_requests(
    config: SampleConfig,
    tokenizer: Any,
    model: Any,
    problems: list[Problem],
    missing: dict[Any, list[int]],
) -> "list[Request]":
    """Tokenized prompts; UserError, before anything is sampled, for one that is too long."""
    from screl.engine_hf import Request
    from screl.modeling import prompt_ids

    room = getattr(model.config, "max_position_embeddings", sys.maxsize) - config.max_new_tokens
    requests = []
    for problem in problems:
        ids = prompt_ids(tokenizer, build_prompt(problem.question))
        if len(ids) > room:
            raise UserError(
                f"{config.data_path}:{problem.line}: the prompt has {len(ids)} tokens; with "
                f"--max_new_tokens {config.max_new_tokens} the model has room for {room}: lower "
                "it, or take the row out"
            )
        if missing[problem.problem_id]:
            requests.append(Request(problem.problem_id, ids, missing[problem.problem_id]))
    return requests


def show_first_prompt(config: SampleConfig, problems: list[Problem]) -> None:
    """Text and token ids of the first prompt, and how much there is to do."""
    from screl.modeling import load_tokenizer, prompt_ids

    tokenizer = load_tokenizer(config.model_name_or_path)
    ids = prompt_ids(tokenizer, build_prompt(problems[0].question))
    tokens = tokenizer.convert_ids_to_tokens(ids)
    print(f"first prompt (problem {problems[0].problem_id!r}):")
    print(build_prompt(problems[0].question))
    print(f"{len(ids)} tokens, given to the model; none carries loss:")
    print("\n".join(f"  {i:>7} {token!r}" for i, token in zip(ids, tokens, strict=True)))
    done = read_manifest(config.output_dir) if is_store(config.output_dir) else None
    state = "continues a store" if done else "starts a new store"
    print(f"{len(problems)} problems x {config.n_samples} samples; {state} at {config.output_dir}")


if __name__ == "__main__":
    run_main(main)

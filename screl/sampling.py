"""One sampling run into a store: what it is, what is missing of it, and making that."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from screl.engine_hf import Request, SamplingParams, generate
from screl.files import UserError, file_sha256
from screl.modeling import (
    Model,
    Tokenizer,
    check_model_folder,
    fingerprint,
    load_model,
    load_tokenizer,
    prompt_ids,
)
from screl.problems import Problem, ProblemId
from screl.prompts import ALPACA_NO_INPUT, build_prompt
from screl.run_info import package_versions
from screl.store import SampleWriter, is_store, open_store, read_samples


def open_for(config: Any, problems: Sequence[Problem]) -> None:
    """Create the store of a SampleConfig, or check that it holds the same run.

    Two runs into one folder must agree in all that decides a sample; UserError names what differs.
    """
    check_model_folder(config.model_name_or_path)
    drawing = ("temperature", "top_p", "top_k", "seed")
    manifest = {
        "model_name_or_path": config.model_name_or_path,
        "model_sha256": fingerprint(config.model_name_or_path),
        "data_path": str(config.data_path),
        "data_sha256": file_sha256(config.data_path),
        "n_problems": len(problems),
        "prompt_template": ALPACA_NO_INPUT,
        "greedy": config.greedy,
        "n_samples": config.n_samples,
        **{key: None if config.greedy else getattr(config, key) for key in drawing},
        "max_new_tokens": config.max_new_tokens,
        "engine": config.engine,
        "precision": config.precision,
        "versions": package_versions(),
    }
    open_store(config.output_dir, manifest)


def missing_samples(config: Any, problems: Sequence[Problem]) -> dict[ProblemId, list[int]]:
    """The sample ids that the store lacks, for each problem that lacks any."""
    there: dict[ProblemId, set[int]] = {problem.problem_id: set() for problem in problems}
    for known in read_samples(config.output_dir):
        if known.problem_id not in there:
            raise UserError(
                f"{config.output_dir}: has a sample of problem {known.problem_id!r}, which "
                f"{config.data_path} does not have; delete its lines or give another --output_dir"
            )
        there[known.problem_id].add(known.sample_id)
    missing = {
        problem_id: [j for j in range(config.n_samples) if j not in known]
        for problem_id, known in there.items()
    }
    return {problem_id: sample_ids for problem_id, sample_ids in missing.items() if sample_ids}


def sample(
    config: Any, problems: Sequence[Problem], missing: dict[ProblemId, list[int]]
) -> dict[str, Any]:
    """Make the missing samples; every batch is on the disk before the next one starts.

    Returns how many samples were made, and tokens/s; what is of the store is in ``totals``.
    """
    tokenizer = load_tokenizer(config.model_name_or_path)
    model = load_model(
        config.model_name_or_path, torch.bfloat16 if config.precision == "bf16" else torch.float32
    )
    requests = make_requests(config, tokenizer, model, problems, missing)
    if torch.accelerator.is_available():
        model = model.to(torch.accelerator.current_accelerator())
    params = SamplingParams(
        greedy=config.greedy,
        temperature=config.temperature,
        top_p=config.top_p,
        top_k=config.top_k,
        max_new_tokens=config.max_new_tokens,
        seed=config.seed,
    )
    n_samples = sum(map(len, missing.values()))
    n_tokens = 0
    started = time.time()
    with (
        SampleWriter(config.output_dir) as writer,
        tqdm(total=n_samples, desc="sample", unit="sample") as bar,
    ):
        for samples in generate(model, tokenizer, requests, params, config.batch_size):
            writer.write(samples)
            n_tokens += sum(made.n_tokens for made in samples)
            bar.update(len(samples))
            bar.set_postfix(tok_s=f"{n_tokens / (time.time() - started):.0f}")
    return {
        "n_samples_made_now": n_samples,
        "tokens_per_second": round(n_tokens / (time.time() - started), 1),
    }


def totals(path: Path) -> dict[str, Any]:
    """Samples and tokens of the whole store, and the share cut off by the limit."""
    samples = list(read_samples(path))
    return {
        "n_samples": len(samples),
        "n_tokens": sum(made.n_tokens for made in samples),
        "share_cut_off": sum(made.finish_reason == "length" for made in samples) / len(samples),
    }


def make_requests(
    config: Any,
    tokenizer: Tokenizer,
    model: Model,
    problems: Sequence[Problem],
    missing: dict[ProblemId, list[int]],
) -> list[Request]:
    """Tokenized prompts; UserError, before anything is sampled, for one that is too long."""
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
        if problem.problem_id in missing:
            requests.append(Request(problem.problem_id, ids, missing[problem.problem_id]))
    return requests


def describe_plan(config: Any, problems: Sequence[Problem]) -> str:
    """What ``--dry_run`` shows: text and tokens of the first prompt, and how much is to be done."""
    tokenizer = load_tokenizer(config.model_name_or_path)
    ids = prompt_ids(tokenizer, build_prompt(problems[0].question))
    tokens = tokenizer.convert_ids_to_tokens(ids)
    state = "continues the store" if is_store(config.output_dir) else "starts a new store"
    return "\n".join(
        [
            f"first prompt (problem {problems[0].problem_id!r}):",
            build_prompt(problems[0].question),
            f"{len(ids)} tokens, all given to the model; it generates from here on:",
            *(f"  {token_id:>7} {token!r}" for token_id, token in zip(ids, tokens, strict=True)),
            f"{len(problems)} problems x {config.n_samples} samples; {state} {config.output_dir}",
        ]
    )

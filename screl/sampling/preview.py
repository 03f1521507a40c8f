"""Show the plan of a sampling run (--dry_run), or make one of its samples again (--only)."""

import statistics
from collections.abc import Sequence

from screl.core.io import UserError
from screl.core.problems import Problem, ProblemId
from screl.models.tokenizer import Tokenizer, eos_ids, load_generation_config, load_tokenizer
from screl.samples.store import Sample, check_store, is_store, read_samples
from screl.sampling.config import SampleConfig
from screl.sampling.engine import EngineHost, EngineSpec, Request
from screl.sampling.run import EngineName, Prompts, make_manifest, make_spec, worker_groups

N_MEASURED = 500  # solutions whose tokens are counted
FIRST_SHOWN, LAST_SHOWN = 16, 128  # tokens of a long prompt
WHY_DIFFERENT = (
    "arithmetic depends a little on what else is in the batch, above all in bf16, and now and then "
    "that decides a token"
)


def describe_sampling_plan(
    config: SampleConfig, engine: EngineName, problems: Sequence[Problem], prompts: Prompts
) -> str:
    """Return the first prompt with its tokens, the end of a completion, and the work to be done."""
    tokenizer = load_tokenizer(config.model_name_or_path)
    ids = prompts.ids[problems[0].problem_id]
    tokens = tokenizer.convert_ids_to_tokens(ids)
    listed = [f"  {token_id:>7} {token!r}" for token_id, token in zip(ids, tokens, strict=True)]
    if (n_left_out := len(ids) - FIRST_SHOWN - LAST_SHOWN) > 100:
        listed[FIRST_SHOWN:-LAST_SHOWN] = [f"  ... {n_left_out} more ..."]
    spec = make_spec(config, engine, prompts)
    configured = load_generation_config(config.model_name_or_path)
    eos = eos_ids(configured, tokenizer, spec.params.end_of_turn)
    ends = ", ".join(f"{i} {tokenizer.convert_ids_to_tokens(i)!r}" for i in eos)
    if spec.params.stop:
        ends += f", before {spec.params.stop!r}"
    has_bos = tokenizer.bos_token_id is not None and ids[0] == tokenizer.bos_token_id
    return "\n".join(
        [
            f"first prompt (problem {problems[0].problem_id!r}):",
            prompts.text(problems[0]),
            f"{len(ids)} tokens, {'with' if has_bos else 'without'} BOS, all given to the model; "
            "it generates from here on:",
            *listed,
            f"a completion ends with {ends}, or after {config.max_new_tokens} tokens",
            *_describe_work(config, problems, prompts, tokenizer),
            _describe_workers(config, spec),
        ]
    )


def _describe_work(
    config: SampleConfig, problems: Sequence[Problem], prompts: Prompts, tokenizer: Tokenizer
) -> list[str]:
    n_wanted = len(problems) * (config.max_samples or config.n_samples)
    at_most = "at most " if config.until_correct else ""
    lines = [f"{len(problems)} problems, {at_most}{n_wanted} samples in {config.output_dir}"]
    n_missing = n_wanted
    if is_store(config.output_dir):
        # the store may hold more than this run asks for
        n_missing = max(0, n_wanted - sum(1 for _ in read_samples(config.output_dir)))
        lines[-1] += f", {n_wanted - n_missing} of them stored"
    solutions = problems[:: max(1, len(problems) // N_MEASURED)]
    length = statistics.fmean(len(tokenizer(p.solution).input_ids) for p in solutions)
    n_requests = n_missing / min(config.chunk_size, config.max_samples or config.n_samples)
    prompt = statistics.fmean(map(len, prompts.ids.values()))
    return [
        *lines,
        f"{at_most}{n_missing} to make in about {n_requests:.0f} requests: about "
        f"{n_missing * length:.3g} tokens, if completions are as long as solutions "
        f"({length:.0f} tokens), and {n_requests * prompt:.3g} of prompts",
    ]


def _describe_workers(config: SampleConfig, spec: EngineSpec) -> str:
    at_once = f"{spec.engine}, {spec.batch_size} samples at once each"
    if config.launcher == "ray":
        return f"workers: as many as the Ray cluster at {config.address} has room for; {at_once}"
    groups, on_gpus = worker_groups(config)
    n_devices = len(groups[0])
    device = "GPU" if on_gpus else "CPU core"
    return (
        f"workers: {len(groups)} of {n_devices} {device}{'' if n_devices == 1 else 's'}; {at_once}"
    )


def remake_sample(
    config: SampleConfig, engine: EngineName, problems: Sequence[Problem], prompts: Prompts
) -> str:
    """Make the sample named by ``--only`` again; return a text comparing it with the stored one."""
    problem_id, sample_id = parse_sample_key(str(config.only), problems)
    stored = None
    if is_store(config.output_dir):
        manifest = make_manifest(config, engine, problems, prompts)
        check_store(config.output_dir, manifest, problems)
        samples = read_samples(config.output_dir)
        key = (problem_id, sample_id)
        stored = next((s for s in samples if (s.problem_id, s.sample_id) == key), None)
    request = Request(problem_id, prompts.ids[problem_id], range(sample_id, sample_id + 1))
    made = _make_one(config, make_spec(config, engine, prompts), request)
    lines = [f"made now ({made.n_tokens} tokens, {made.finish_reason}):", made.completion]
    if stored is None:
        return "\n".join([*lines, f"{config.output_dir} does not have it"])
    if stored == made:
        return "\n".join([*lines, f"{config.output_dir} has the same"])
    lines += [f"{config.output_dir} has ({stored.n_tokens} tokens, {stored.finish_reason}):"]
    return "\n".join([*lines, stored.completion, f"they differ: {WHY_DIFFERENT}"])


def _make_one(config: SampleConfig, spec: EngineSpec, request: Request) -> Sample:
    host = EngineHost(spec)
    result = host.exchange([request], enough=1)
    while not result.samples and not result.failure and not result.refused:
        result = host.exchange([], enough=1)
    if not result.samples:
        reason = result.failure.reason if result.failure else result.refused[0][1]
        raise UserError(f"--only {config.only}: the sample could not be made: {reason}")
    return result.samples[0]


def parse_sample_key(only: str, problems: Sequence[Problem]) -> tuple[ProblemId, int]:
    """Return the two parts of PROBLEM_ID:SAMPLE_ID; raise UserError if no such problem exists."""
    name, _, number = only.rpartition(":")
    ids = {str(problem.problem_id): problem.problem_id for problem in problems}
    if name not in ids or not number.isdecimal():
        raise UserError(
            f"--only {only}: expected PROBLEM_ID:SAMPLE_ID, such as {problems[0].problem_id}:0"
        )
    return ids[name], int(number)

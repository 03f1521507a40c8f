"""Options of sample.py, and the checks that need only the options."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from screl.core.config import option
from screl.core.io import UserError
from screl.core.layouts import ANSWER_KEY, QUERY_KEY, RESPONSE_KEY, KeyOptions
from screl.core.prompt_choice import CHAT_TEMPLATE_KWARGS, SYSTEM_PROMPT, PromptChoice
from screl.grading.options import PathOptions

AT_LEAST_1 = (
    "n_samples", "batch_size", "chunk_size", "max_new_tokens", "n_workers", "tensor_parallel_size",
    "n_shots",
)  # fmt: skip


@dataclass(frozen=True)
class SampleConfig(PathOptions, KeyOptions):
    """Options of sample.py."""

    model_name_or_path: str = option("checkpoint: a local folder or a hub id")
    data_path: Path = option("problems with their solutions or answers; JSONL, JSON or parquet")
    output_dir: Path = option("the sample store: manifest.json, samples-0.jsonl, run.json")
    n_samples: int = option("samples per problem (the paper's k); not with --until_correct", 1)
    greedy: bool = option("always take the likeliest token; one completion per problem", False)
    temperature: float = option("temperature of the sampling distribution", 0.7)
    top_p: float = option(
        "sample from the smallest set of tokens with this probability; 1.0: all", 1.0
    )
    top_k: int = option("sample from the k likeliest tokens; 0: all (published code: 50)", 0)
    max_new_tokens: int = option("longest completion, in tokens", 256)
    seed: int = option("random seed of the run; each sample's seed is derived from it", 0)
    prompt: Literal["alpaca", "icl", "chat", "auto"] = option(
        "alpaca: the paper's prompt; icl: for base models, solved problems before the question; "
        "chat: the model's own chat template; auto: the store's, else the prompt that train.py "
        "trained the model on, else chat if it has a template, else alpaca",
        "auto",
    )
    system_prompt: str | None = option(SYSTEM_PROMPT, None)
    chat_template_kwargs: str | None = option(CHAT_TEMPLATE_KWARGS, None)
    n_shots: int = option("number of solved problems in the prompt, with --prompt icl", 8)
    shots_path: Path | None = option(
        'solved problems: the first --n_shots rows of this JSONL of {"query", "response"}; '
        "default: this project's data/icl/gsm8k.jsonl",
        None,
    )
    shots_seed: int | None = option(
        "take random rows of --shots_path with this seed, skipping those in --data_path", None
    )
    until_correct: int | None = option(
        "sample a problem only until this many distinct right paths are found; needs --max_samples",
        None,
    )
    max_samples: int | None = option("most samples per problem with --until_correct", None)
    engine: Literal["auto", "vllm", "transformers"] = option(
        "library that runs the model; auto: vLLM if it is installed", "auto"
    )
    precision: Literal["bf16", "fp32"] = option("precision of weights and arithmetic", "bf16")
    batch_size: int | None = option(
        "completions per worker at once; default: 512 with vLLM, 128 with transformers", None
    )
    chunk_size: int = option("completions per request", 32)
    n_workers: int | None = option(
        "number of workers; default: one per group of GPUs, or 1 without GPUs", None
    )
    tensor_parallel_size: int = option("GPUs per group, which share one model (vLLM)", 1)
    gpu_memory_utilization: float = option("share of a GPU's memory that vLLM may take", 0.9)
    launcher: Literal["local", "ray"] = option(
        "where workers run: on this machine, or on a Ray cluster", "local"
    )
    address: str = option(
        "address of the Ray cluster; auto: the one that this machine belongs to", "auto"
    )
    query_key: tuple[str, ...] = option(QUERY_KEY, ())
    response_key: str | None = option(RESPONSE_KEY, None)
    answer_key: str | None = option(ANSWER_KEY, None)
    only: str | None = option(
        "PROBLEM_ID:SAMPLE_ID: make this sample again and compare it with the stored one", None
    )
    dry_run: bool = option("print config, first prompt, and plan, then stop", False)

    @property
    def prompt_choice(self) -> PromptChoice:
        """The prompt that the user chose."""
        return PromptChoice.of(asdict(self))


def check_sample_options(config: SampleConfig) -> None:
    """Raise UserError for options that are out of range or contradict each other."""
    if config.greedy and config.n_samples != 1:
        raise UserError("--greedy makes one completion per problem; leave out --n_samples")
    for key in AT_LEAST_1:
        value = getattr(config, key)
        if value is not None and value < 1:
            raise UserError(f"--{key} must be at least 1")
    if not 0 < config.gpu_memory_utilization <= 1:
        raise UserError("--gpu_memory_utilization must be in (0, 1]")
    if not config.greedy and not 0.01 <= config.temperature < 100:
        raise UserError(
            "--temperature must be in [0.01, 100); for the likeliest token, use --greedy"
        )
    if not 0 < config.top_p <= 1 or config.top_k < 0:
        raise UserError("--top_p must be in (0, 1] and --top_k at least 0")
    shots = (config.n_shots, config.shots_path, config.shots_seed)
    if config.prompt != "icl" and shots != (SampleConfig.n_shots, None, None):
        raise UserError("--n_shots, --shots_path and --shots_seed need --prompt icl")
    if config.until_correct is None and config.max_samples is None:
        return
    if config.until_correct is None or config.max_samples is None:
        raise UserError("--until_correct and --max_samples go together")
    if config.greedy:
        raise UserError("--until_correct makes several samples per problem; leave out --greedy")
    if not 1 <= config.until_correct <= config.max_samples:
        raise UserError("--until_correct must be at least 1 and at most --max_samples")

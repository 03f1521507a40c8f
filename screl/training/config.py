"""Options of train.py, and the checks that need only the options."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from screl.core.config import option
from screl.core.io import UserError
from screl.core.layouts import ANSWER_KEY, QUERY_KEY, RESPONSE_KEY, KeyOptions
from screl.core.prompt_choice import CHAT_TEMPLATE_KWARGS, SYSTEM_PROMPT, PromptChoice
from screl.training.processes import world_size

# DeepSpeed's settings for zero2, zero3 and zero3_offload; none of them changes what a run learns.
DEEPSPEED_FOLDER = Path(__file__).parents[2] / "configs/deepspeed"
PROMPT = (
    "alpaca: the paper's prompt; chat: the model's own chat template; auto: the prompt that "
    "train.py trained the model on, else chat if it has a template, else alpaca"
)


@dataclass(frozen=True)
class TrainConfig(KeyOptions):
    """Options of train.py."""

    model_name_or_path: str = option("base model: a local folder or a hub id")
    data_path: Path = option("training rows: a question and its solution; JSONL, JSON or parquet")
    output_dir: Path = option("where the checkpoint, run.json and train_log.jsonl go")
    eval_data_path: Path | None = option(
        "held-out problems: the loss on their solutions goes to train_log.jsonl and run.json", None
    )
    eval_steps: int | None = option(
        "steps between evaluations on --eval_data_path; default: an epoch; the last step is always "
        "evaluated",
        None,
    )
    num_train_epochs: float = option("passes over the data", 3.0)
    learning_rate: float = option("peak learning rate", 2e-5)
    lr_scheduler_type: Literal["cosine", "linear", "constant_with_warmup"] = option(
        "learning rate schedule after warm-up", "cosine"
    )
    warmup_ratio: float = option("share of the steps used for warm-up", 0.03)
    weight_decay: float = option("AdamW weight decay", 0.0)
    max_grad_norm: float = option("clip gradients to this norm; 0: no clipping", 1.0)
    global_batch_size: int = option("examples per optimizer step, over all processes", 128)
    micro_batch_tokens: int = option("most tokens a process runs at once, without padding", 4096)
    max_length: int = option("leave out rows with more tokens than this, and list them", 512)
    loss_norm: Literal["token_mean", "paper"] = option(
        "token_mean: mean over all response tokens of a step; paper: mean of the groups' means",
        "token_mean",
    )
    loss_group_size: int = option("examples per group with --loss_norm paper", 4)
    precision: Literal["bf16", "fp32"] = option(
        "precision of the arithmetic (fp32 is TF32 on a GPU); master weights and optimizer state "
        "are float32",
        "bf16",
    )
    sharding: Literal["none", "ddp", "fsdp", "zero2", "zero3", "zero3_offload"] = option(
        "how the model is divided among processes; with one process, fsdp is none", "fsdp"
    )
    gradient_checkpointing: bool = option("recompute activations to save memory", False)
    save_steps: int = option("steps between checkpoints to resume from; 0: none", 100)
    save_total_limit: int = option("number of checkpoints to keep for resuming", 1)
    save_precision: Literal["bf16", "fp32"] = option("precision of the saved model", "fp32")
    world_size: int | None = option(
        "GPUs to plan for with --dry_run; default: the processes launched", None
    )
    gpu_memory_gib: float | None = option(
        "GPU memory to plan for; default: this machine's, or 80", None
    )
    gpu_tflops: float | None = option(
        "bf16 peak of the GPU to plan for; default: this machine's, or 312 (A100)", None
    )
    seed: int = option("random seed for the order of the data", 42)
    prompt: Literal["alpaca", "chat", "auto"] = option(PROMPT, "auto")
    system_prompt: str | None = option(SYSTEM_PROMPT, None)
    chat_template_kwargs: str | None = option(CHAT_TEMPLATE_KWARGS, None)
    query_key: tuple[str, ...] = option(QUERY_KEY, ())
    response_key: str | None = option(RESPONSE_KEY, None)
    answer_key: str | None = option(ANSWER_KEY, None)
    dry_run: bool = option("print options, first row, and plan, then stop", False)
    verbose: bool = option("with --dry_run: show all tokens of the first row", False)

    @property
    def prompt_choice(self) -> PromptChoice:
        """The prompt that the user chose."""
        return PromptChoice.of(asdict(self))


@dataclass(frozen=True)
class DoctorConfig:
    """The options of train.py --doctor."""

    doctor: str = option("model to examine: a local folder or a hub id")
    system_prompt: str | None = option(SYSTEM_PROMPT, None)
    chat_template_kwargs: str | None = option(CHAT_TEMPLATE_KWARGS, None)


def check_train_options(config: TrainConfig) -> None:
    """Raise UserError for options that are out of range or contradict each other."""
    if not 0 < config.num_train_epochs < 10_000:
        raise UserError("--num_train_epochs must be above 0 and below 10,000")
    for name in ("global_batch_size", "micro_batch_tokens", "max_length", "loss_group_size",
                 "save_total_limit", "world_size", "eval_steps"):  # fmt: skip
        value = getattr(config, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} must be at least 1")
    if not (0 < config.learning_rate < 10 and 0 <= config.warmup_ratio <= 1):
        raise UserError("--learning_rate must be in (0, 10) and --warmup_ratio in [0, 1]")
    for name in ("save_steps", "seed", "max_grad_norm", "weight_decay"):
        if not 0 <= getattr(config, name) < 2**63:  # NaN fails too
            raise UserError(f"--{name} must be at least 0 and fit into 64 bits")
    for name in ("gpu_memory_gib", "gpu_tflops"):
        if (value := getattr(config, name)) is not None and not value > 0:
            raise UserError(f"--{name} must be above 0")
    if config.eval_steps and not config.eval_data_path:
        raise UserError("--eval_steps needs --eval_data_path")
    n_processes = planned_world_size(config)
    if config.sharding == "none" and n_processes > 1:
        raise UserError(
            f"--sharding none is for one process, not {n_processes}; use ddp to copy everything to "
            "each process, or fsdp, zero2 or zero3 to divide it among them"
        )


def planned_world_size(config: TrainConfig) -> int:
    """Return the number of processes launched or, with ``--dry_run``, the number to plan for."""
    return config.world_size if config.dry_run and config.world_size else world_size()


def plans_for_gpus(config: TrainConfig) -> bool:
    """Return whether an option of the dry run asks for a plan for GPUs, on any machine.

    ``--world_size 1``, which recipes for one process contain, also describes a CPU.
    """
    return (config.world_size or 1) > 1 or any((config.gpu_memory_gib, config.gpu_tflops))


def deepspeed_settings(sharding: str) -> dict[str, Any]:
    """Return the content of configs/deepspeed/``sharding``.json."""
    text = (DEEPSPEED_FOLDER / f"{sharding}.json").read_text(encoding="utf-8")
    settings: dict[str, Any] = json.loads(text)
    return settings

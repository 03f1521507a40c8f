"""SFT and RFT: full fine-tuning of a causal LM on {"query", "response"} rows.

    python train.py --model_name_or_path M --data_path data/train_use.jsonl --output_dir OUT
    torchrun --nproc_per_node 8 train.py --model_name_or_path M --data_path ... --output_dir OUT

The defaults are the published recipe (arXiv 2308.01825, A.1). A killed run goes on from its last
checkpoint when the same command is given again; a finished one is left as it is.
"""

import json
import os
import shutil
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from screl.config import option, parse_config, run_main, show_config
from screl.files import UserError, file_sha256, read_json_object, write_json
from screl.problems import Problem, load_problems
from screl.run_info import refuse_another_run, write_run_info

# What does not change the result of a run, so that it may differ when the run is continued.
FREE_KEYS = {
    "model_name_or_path", "data_path", "output_dir", "per_device_batch_size", "save_steps",
    "gradient_checkpointing", "dry_run",
}  # fmt: skip


@dataclass(frozen=True)
class TrainConfig:
    """Options of train.py."""

    model_name_or_path: str = option("base model: a local folder or a hub id")
    data_path: Path = option('training rows: JSONL of {"query", "response"}')
    output_dir: Path = option("where the checkpoint, run.json and train_log.jsonl go")
    num_train_epochs: float = option("passes over the data", 3.0)
    learning_rate: float = option("peak learning rate", 2e-5)
    lr_scheduler_type: Literal["cosine", "linear", "constant_with_warmup"] = option(
        "decay of the learning rate", "cosine"
    )
    warmup_ratio: float = option("share of the steps for warm-up", 0.03)
    weight_decay: float = option("AdamW weight decay", 0.0)
    max_grad_norm: float = option("gradients are clipped to this norm", 1.0)
    global_batch_size: int = option("examples per optimizer step, over all processes", 128)
    per_device_batch_size: int = option("examples per micro-batch of a process", 4)
    max_length: int = option("rows of more tokens than this are left out and named", 512)
    precision: Literal["bf16", "fp32"] = option(
        "arithmetic; master weights and optimizer are float32 in both", "bf16"
    )
    gradient_checkpointing: bool = option("recompute activations to save memory", False)
    save_steps: int = option("write a checkpoint to resume from every so many steps; 0: none", 100)
    seed: int = option("seed of the data order", 42)
    dry_run: bool = option("print the resolved config and the first row, then stop", False)


def main() -> None:
    """Load, train, save, say where."""
    config = parse_config(TrainConfig, doc=__doc__)
    started = time.time()
    check(config)
    problems = load_problems(config.data_path)
    if config.dry_run:
        print(show_config(config))
    identity = run_identity(config)
    if not config.dry_run and is_finished(config.output_dir, identity):
        print(f"{config.output_dir}: already trained with this config and data")
        return
    train(config, problems, identity, started)


def check(config: TrainConfig) -> None:
    """UserError for numbers that cannot be meant."""
    if not 0 < config.num_train_epochs < 10_000:
        raise UserError("--num_train_epochs must be above 0 and below 10,000")
    if min(config.global_batch_size, config.per_device_batch_size, config.max_length) < 1:
        raise UserError(
            "--global_batch_size, --per_device_batch_size and --max_length must be at least 1"
        )
    if not (0 < config.learning_rate < 10 and 0 <= config.warmup_ratio <= 1):
        raise UserError("--learning_rate must be in (0, 10) and --warmup_ratio in [0, 1]")
    if config.save_steps < 0 or config.seed < 0:
        raise UserError("--save_steps and --seed must be at least 0")


def run_identity(config: TrainConfig) -> dict[str, Any]:
    """What decides the outcome of a run: the recipe, the base model and the data."""
    from screl.modeling import check_model_folder, fingerprint

    check_model_folder(config.model_name_or_path)
    recipe = {key: value for key, value in asdict(config).items() if key not in FREE_KEYS}
    return recipe | {
        "model_sha256": fingerprint(config.model_name_or_path),
        "data_sha256": file_sha256(config.data_path),
    }


def is_finished(output_dir: Path, identity: dict[str, Any]) -> bool:
    """Whether this very run is done; UserError if the folder holds another one."""
    path = output_dir / "training.json"
    if path.exists():
        refuse_another_run(output_dir, read_json_object(path), identity)
        return (output_dir / "run.json").exists()
    if (output_dir / "config.json").exists():
        raise UserError(f"{output_dir}: holds another model; give another --output_dir")
    return False


def train(
    config: TrainConfig, problems: list[Problem], identity: dict[str, Any], started: float
) -> None:
    """Tokenize, fine-tune and save."""
    import torch  # heavy: after the cheap checks, and not for --help

    from screl.modeling import load_model, load_tokenizer
    from screl.sft_data import describe_example, tokenize_examples, training_order
    from screl.training import accumulation_steps, fine_tune, wait_for_all_processes

    accumulation = accumulation_steps(
        config.global_batch_size, config.per_device_batch_size, world_size()
    )
    tokenizer = load_tokenizer(config.model_name_or_path)
    examples, too_long = tokenize_examples(tokenizer, problems, config.max_length)
    lengths = [len(example) for example in examples]
    report_rows(config, lengths, too_long)
    order = training_order(lengths, config.num_train_epochs, config.global_batch_size, config.seed)
    counts = {
        "n_rows": len(examples),
        "n_rows_too_long": len(too_long),
        "n_steps": len(order) // config.global_batch_size,
        "n_processes": world_size(),
        "n_tokens": sum(lengths[row] for row in order),
    }
    say(
        f"{counts['n_steps']} steps of {config.global_batch_size} rows = {world_size()} processes"
        f" x {config.per_device_batch_size} x {accumulation}"
    )
    if config.dry_run:
        first = next(problem for problem in problems if problem not in too_long)
        print(describe_example(tokenizer, first, examples[0]))
        return
    config.output_dir.mkdir(parents=True, exist_ok=True)
    if is_main_process():
        write_json(config.output_dir / "training.json", identity)
    model = load_model(config.model_name_or_path, torch.float32)
    fine_tune(config, model, tokenizer, examples, order, world_size())
    if is_main_process():
        save(config, model, tokenizer, started, counts)
    wait_for_all_processes()


def save(
    config: TrainConfig, model: Any, tokenizer: Any, started: float, counts: dict[str, int]
) -> None:
    """Write the checkpoint and run.json, the mark of a finished run; remove what resuming needs."""
    from screl.modeling import save_checkpoint
    from screl.training import LOG

    save_checkpoint(model, tokenizer, config.output_dir)
    lines = (config.output_dir / LOG).read_text().splitlines()
    first, last = json.loads(lines[0]), json.loads(lines[-1])
    results = counts | {
        "first_loss": first["loss"],
        "last_loss": last["loss"],
        "tokens_per_second": last["tokens_per_second"],
    }
    write_run_info(config.output_dir / "run.json", config, started, results)
    for checkpoint in config.output_dir.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)  # 12 bytes a parameter
    print(f"{config.output_dir}: trained {last['step']} steps, last loss {last['loss']:.4f}")


def report_rows(config: TrainConfig, lengths: list[int], too_long: list[Problem]) -> None:
    """Say what is trained on, and name what is left out; UserError if that is everything."""
    say(f"{len(lengths)} rows, {sum(lengths)} tokens")
    if too_long:
        numbers = [str(problem.line) for problem in too_long[:10]] + ["..."] * (len(too_long) > 10)
        say(
            f"warning: {len(too_long)} of {len(lengths) + len(too_long)} rows have more than "
            f"--max_length {config.max_length} tokens and are left out: {config.data_path} "
            f"line {', '.join(numbers)}"
        )
    if not lengths:
        raise UserError(f"{config.data_path}: no row is left; raise --max_length")


def say(line: str) -> None:
    """Print to stderr, once for all processes."""
    if is_main_process():
        print(line, file=sys.stderr)


def is_main_process() -> bool:
    """Whether this is the first of torchrun's processes, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def world_size() -> int:
    """How many processes torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


if __name__ == "__main__":
    run_main(main)

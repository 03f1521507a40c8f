"""Full fine-tuning on transformers' Trainer; the only module that knows the Trainer's names."""

import json
import math
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from tqdm import tqdm
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from screl.files import UserError, write_atomic
from screl.modeling import Model, Tokenizer, pad_id
from screl.sft_data import Example, collate

LOG = "train_log.jsonl"
FULL_DISK = 2**24  # bytes: with less than 16 MiB free, a failed write means a full disk


class OrderedExamples(Dataset):
    """The examples in training order, so that position alone decides what a step holds."""

    def __init__(self, examples: Sequence[Example], order: Sequence[int]) -> None:
        self.examples = examples
        self.order = order

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, position: int) -> Example:
        return self.examples[self.order[position]]


def accumulation_steps(global_batch_size: int, per_device: int, world_size: int) -> int:
    """Micro-batches a process runs per step; UserError if the global batch cannot be divided.

    >>> accumulation_steps(128, 4, 8)
    4
    """
    at_once = per_device * world_size
    if global_batch_size % at_once:
        fitting = [n for n in range(1, global_batch_size + 1) if global_batch_size % n == 0]
        sizes = [str(n // world_size) for n in fitting if n % world_size == 0]
        raise UserError(
            f"{global_batch_size} examples a step cannot be split into micro-batches of "
            f"{per_device} on {world_size} processes; with {world_size} processes "
            f"--per_device_batch_size can be {', '.join(sizes) or 'nothing: change their number'}"
        )
    return global_batch_size // at_once


def to_training_arguments(config: Any, n_steps: int, world_size: int) -> TrainingArguments:
    """The Trainer's arguments for a TrainConfig (published recipe: paper A.1)."""
    on_cpu = not torch.accelerator.is_available()
    return TrainingArguments(
        output_dir=str(config.output_dir),
        per_device_train_batch_size=config.per_device_batch_size,
        gradient_accumulation_steps=accumulation_steps(
            config.global_batch_size, config.per_device_batch_size, world_size
        ),
        max_steps=n_steps,
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.lr_scheduler_type,
        warmup_steps=math.ceil(config.warmup_ratio * n_steps),
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        bf16=config.precision == "bf16",
        tf32=True if torch.cuda.is_available() else None,
        gradient_checkpointing=config.gradient_checkpointing,
        use_cpu=on_cpu,
        ddp_backend="gloo" if on_cpu and world_size > 1 else None,
        ddp_find_unused_parameters=False,
        average_tokens_across_devices=True,  # each step's loss is the mean over all its tokens
        train_sampling_strategy="sequential",  # the order is ours, see training_order
        dataloader_pin_memory=not on_cpu,
        save_strategy="steps" if config.save_steps else "no",
        save_steps=config.save_steps or 500,
        save_total_limit=1,
        logging_steps=1,
        logging_nan_inf_filter=False,  # a NaN must be seen
        report_to="none",
        disable_tqdm=True,  # replaced by TrainingLog
        remove_unused_columns=False,
        seed=config.seed,
    )


class TrainingLog(TrainerCallback):
    """Progress bar on stderr and one JSON line a step in ``train_log.jsonl``."""

    def __init__(self, path: Path, step_tokens: Sequence[int], epoch_rows: int) -> None:
        self.path = path
        self.step_tokens = step_tokens  # real tokens of every step, over all processes
        self.epoch_rows = epoch_rows

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the bar; rewrite the log up to the step that is resumed from."""
        self.rows_a_step = (
            args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
        )
        self.started, self.start_step = time.time(), state.global_step
        if state.is_world_process_zero:
            kept = [entry["line"] for entry in state.log_history if "line" in entry]
            write_atomic(self.path, kept)
            self.bar = tqdm(
                total=state.max_steps, initial=state.global_step, desc="train", unit="step"
            )

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Append the step's loss, learning rate and tokens/s."""
        if not state.is_world_process_zero or "loss" not in logs:
            return
        step = state.global_step
        seconds = time.time() - self.started
        tokens = sum(self.step_tokens[self.start_step : step])
        entry = {
            "step": step,
            "epoch": round(step * self.rows_a_step / self.epoch_rows, 4),
            "loss": logs["loss"],
            "learning_rate": logs["learning_rate"],
            "grad_norm": logs.get("grad_norm"),
            "tokens_per_second": round(tokens / seconds, 1),
        }
        line = json.dumps(entry) + "\n"
        state.log_history[-1]["line"] = line  # travels with the checkpoint
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(line)
        self.bar.update(step - self.bar.n)
        self.bar.set_postfix(
            loss=f"{entry['loss']:.4f}",
            lr=f"{entry['learning_rate']:.1e}",
            tok_s=f"{entry['tokens_per_second']:.0f}",
        )
        if not math.isfinite(entry["loss"]):
            raise UserError(
                f"the loss of step {step} is {entry['loss']}; lower --learning_rate or look at "
                "the rows of this step"
            )

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Close the bar."""
        if state.is_world_process_zero:
            self.bar.close()


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint; one that was torn by a kill is removed.

    The Trainer writes ``trainer_state.json`` last, so a checkpoint that has it is whole.
    """
    whole = []
    for path in folder.glob("checkpoint-[0-9]*"):
        if (path / "trainer_state.json").is_file():
            whole.append(path)
        else:
            shutil.rmtree(path, ignore_errors=True)
    return max(whole, key=lambda path: int(path.name.split("-")[1]), default=None)


def bytes_to_write(n_parameters: int, save_steps: int) -> int:
    """Disk a run needs: the float32 weights, and two checkpoints of weights and Adam's moments.

    The old checkpoint is removed when the new one is whole, so there are two for a while.
    """
    return n_parameters * (4 + (2 * 12 if save_steps else 0))


def check_disk(folder: Path, n_bytes: int) -> None:
    """UserError if there is less room than ``n_bytes`` where ``folder`` is."""
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        raise UserError(
            f"{folder}: {free / 1e6:,.0f} MB are free and the run writes up to "
            f"{n_bytes / 1e6:,.0f} MB; make room, or give another --output_dir or --save_steps 0"
        )


@contextmanager
def full_disk_explained(folder: Path) -> Iterator[None]:
    """Turn what torch raises on a full disk, which does not say so, into a UserError that does."""
    try:
        yield
    except (RuntimeError, OSError) as error:
        if shutil.disk_usage(folder).free > FULL_DISK:
            raise
        raise UserError(
            f"{folder}: the disk is full ({error}); the last whole checkpoint is kept: make room "
            "and run the same command again"
        ) from error


def fine_tune(
    config: Any,
    model: Model,
    tokenizer: Tokenizer,
    examples: Sequence[Example],
    order: Sequence[int],
    world_size: int,
) -> None:
    """Train ``model`` in place on ``examples`` in ``order``, resuming from the last checkpoint."""
    size = config.global_batch_size
    n_steps = len(order) // size
    lengths = [len(example) for example in examples]
    step_tokens = [
        sum(lengths[row] for row in order[step * size : (step + 1) * size])
        for step in range(n_steps)
    ]
    trainer = Trainer(
        model=model,
        args=to_training_arguments(config, n_steps, world_size),
        train_dataset=OrderedExamples(examples, order),
        data_collator=lambda rows: collate(rows, pad_id(tokenizer)),
        callbacks=[TrainingLog(config.output_dir / LOG, step_tokens, len(examples))],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    checkpoint = last_checkpoint(config.output_dir)
    n_bytes = bytes_to_write(model.num_parameters(), config.save_steps)
    if checkpoint is None:
        check_disk(config.output_dir, n_bytes)
    with full_disk_explained(config.output_dir):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)


def wait_for_all_processes() -> None:
    """Keep the other processes until the first has saved; one that leaves early ends them all."""
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()

"""The training loop: the same for every kind of sharding, on CPUs and on GPUs."""

import math
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.api import CheckpointException  # which is no Exception

from screl.checkpoints import (
    full_disk_explained,
    last_checkpoint,
    read_state,
    remove_old,
    write_checkpoint,
)
from screl.files import UserError
from screl.liger import has_liger, use_liger
from screl.modeling import Model, Tokenizer, empty_model, fit_vocabulary, load_model, load_shape
from screl.packed_model import ATTENTION, pack
from screl.packing import MicroBatch, loss_weights, plan_step
from screl.problems import ProblemId
from screl.processes import is_main_process, say
from screl.rehearsal import predict_run
from screl.run_cost import Stopwatch
from screl.torch_engine import TorchEngine
from screl.training_data import TrainingData
from screl.training_log import TrainingLog

if TYPE_CHECKING:
    from screl.deepspeed_engine import DeepSpeedEngine
    from train import TrainConfig

    Engine = TorchEngine | DeepSpeedEngine

MOST_NAMED = 16  # problems in an error


def warmup_steps(config: "TrainConfig", n_steps: int) -> int:
    """Steps before the peak; a run of one has none, which would leave it nothing."""
    return min(math.ceil(config.warmup_ratio * n_steps), n_steps - 1)


def learning_rate(config: "TrainConfig", step: int, n_steps: int) -> float:
    """Of step ``step``, from 0: warm-up from 0, then the decay; transformers' schedules."""
    n_warmup = warmup_steps(config, n_steps)
    if step < n_warmup:
        return config.learning_rate * step / n_warmup
    progress = (step - n_warmup) / (n_steps - n_warmup)
    decay = {
        "cosine": 0.5 * (1 + math.cos(math.pi * progress)),
        "linear": 1 - progress,
        "constant_with_warmup": 1.0,
    }
    return config.learning_rate * decay[config.lr_scheduler_type]


def make_engine(config: "TrainConfig", tokenizer: Tokenizer, device: torch.device) -> "Engine":
    """The base model, ready to be trained as ``config.sharding`` says."""

    def make_model(device: torch.device) -> Model:
        if device.type == "meta":
            model = empty_model(config.model_name_or_path, ATTENTION)
        else:
            model = load_model(config.model_name_or_path, torch.float32, ATTENTION)
        grown = fit_vocabulary(model, tokenizer)
        if grown and device.type != "meta":
            say(grown)
        use_liger(model)
        if config.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        return model.train()

    optimizer_settings = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    if config.sharding.startswith("zero"):
        if not find_spec("deepspeed"):
            raise UserError(
                f"--sharding {config.sharding} needs DeepSpeed (pip install deepspeed==0.19.8); "
                "fsdp divides as much as zero3 and needs nothing"
            )
        from screl.deepspeed_engine import DeepSpeedEngine as Engine
    else:
        Engine = TorchEngine  # type: ignore[misc,assignment]
    return Engine(
        make_model, config.sharding, config.precision, device, optimizer_settings,
        config.max_grad_norm,
    )  # fmt: skip


def predict(config: "TrainConfig", data: TrainingData, device: torch.device) -> float:
    """Bytes that this run's processes need at their peak, as worked out beforehand."""
    shape = load_shape(config.model_name_or_path)
    on_cpu, liger = device.type == "cpu", has_liger()
    memory = predict_run(config, shape, data, dist.get_world_size(), on_cpu=on_cpu, liger=liger)
    return memory.total


def fine_tune(
    config: "TrainConfig", engine: "Engine", data: TrainingData, watch: Stopwatch
) -> TrainingLog:
    """Train from the last checkpoint in ``output_dir``, or from the start, to the end."""
    folder, n_steps = config.output_dir, len(data.steps)
    checkpoint = agreed_checkpoint(folder)
    state = read_state(checkpoint) if checkpoint else {"step": 0}
    if checkpoint:
        load(engine, checkpoint)
    log = TrainingLog(folder, n_steps, state, watch, on_gpu=engine.device.type == "cuda")
    n_tokens = 0
    for step in range(state["step"], n_steps):
        rate = learning_rate(config, step, n_steps)
        loss, norm = run_step(config, engine, data, step, rate, log)
        n_tokens += data.n_tokens(step)
        log.add(
            {
                "step": step + 1,
                "epoch": round((step + 1) * config.global_batch_size / len(data.examples), 4),
                "loss": loss,
                "learning_rate": engine.learning_rate(),
                "grad_norm": norm,
                "tokens_per_second": round(n_tokens / (log.seconds() - log.seconds_before), 1),
            }
        )
        # The last one too: should saving the model fail, nothing has to be trained again.
        if config.save_steps and ((step + 1) % config.save_steps == 0 or step + 1 == n_steps):
            save_state(config, engine, folder, step + 1, log)
    log.close()
    return log


def agreed_checkpoint(folder: Path) -> Path | None:
    """The last one that the main process sees; UserError on a process that does not see it."""
    found = [last_checkpoint(folder)]
    dist.broadcast_object_list(found, src=0, device=torch.device("cpu"))
    if found[0] and not found[0].exists():
        raise UserError(
            f"{found[0]}: not to be seen from every machine; --output_dir must be a folder that "
            "all of them share"
        )
    return found[0]


def run_step(
    config: "TrainConfig", engine: "Engine", data: TrainingData, step: int, rate: float,
    log: TrainingLog,
) -> tuple[float, float]:  # fmt: skip
    """One optimizer step of all processes; return its loss and gradient norm.

    UserError, before the weights are changed, if the loss is no number or explodes.
    """
    torch.manual_seed(config.seed + step)  # dropout, if a model has any, after resuming too
    parts = add_gradients(config, engine, data, step)
    total = torch.stack([loss for loss, _ in parts]).sum()
    dist.all_reduce(total)
    ids = [data.problem_ids[row] for row in data.steps[step]]
    if not torch.isfinite(total):
        raise stopped(f"the loss of step {step + 1} is {total:.0f}", not_finite(parts, ids))
    loss = float(total)
    before = [entry["loss"] for entry in log.entries[-20:]]
    if before and loss > 3 * median(before) + 1:
        raise stopped(
            f"the loss of step {step + 1} is {loss:.3f}, after a median of {median(before):.3f} "
            f"in the {len(before)} before it",
            ids,
        )
    norm = engine.step(rate)
    if not math.isfinite(norm):
        raise stopped(f"the gradient of step {step + 1} is {norm:.0f}", ids)
    return loss, norm


def add_gradients(
    config: "TrainConfig", engine: "Engine", data: TrainingData, step: int
) -> list[tuple[torch.Tensor, MicroBatch]]:
    """Run this process's micro-batches of a step; return each one's part of the step's loss, and
    the positions in the step of its examples."""
    examples = [data.examples[row] for row in data.steps[step]]
    n_targets = [example.n_targets for example in examples]
    weights = loss_weights(n_targets, config.loss_norm, config.loss_group_size)
    lengths = [len(example) for example in examples]
    plan = plan_step(lengths, dist.get_world_size(), config.micro_batch_tokens)[dist.get_rank()]
    parts = []
    for number, positions in enumerate(plan):
        chosen = positions or [0]  # a process without work runs any example, at no weight
        counts = [weights[at] if positions else 0.0 for at in chosen]
        loss = engine.loss(pack([examples[at] for at in chosen], counts).to(engine.device))
        engine.backward(loss, last=number == len(plan) - 1)
        parts.append((loss.detach(), positions))
    return parts


def not_finite(
    parts: list[tuple[torch.Tensor, MicroBatch]], ids: Sequence[ProblemId]
) -> list[ProblemId]:
    """The problems of those micro-batches, of all processes, whose loss is no number."""
    mine = [ids[at] for loss, positions in parts if not torch.isfinite(loss) for at in positions]
    every: list[list[ProblemId]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(every, mine)
    return [one for part in every for one in part]


def stopped(what: str, ids: Sequence[ProblemId]) -> UserError:
    """The error that ends a sick run; ``ids`` are the problems that it may be due to."""
    named = ", ".join(map(repr, ids[:MOST_NAMED])) + " ..." * (len(ids) > MOST_NAMED)
    return UserError(
        f"{what}; the weights were not saved. Lower --learning_rate, or look at the rows with "
        f"problem_id {named}"
    )


def save_state(
    config: "TrainConfig", engine: "Engine", folder: Path, step: int, log: TrainingLog
) -> None:
    """Write a checkpoint to resume from, and remove the oldest."""
    with full_disk_explained(folder):
        write_checkpoint(folder, step, log.state(), engine.save, is_main_process(), dist.barrier)
    if is_main_process():
        remove_old(folder, config.save_total_limit)


def load(engine: "Engine", checkpoint: Path) -> None:
    """UserError if a checkpoint cannot be read by these processes."""
    try:
        engine.load(checkpoint)
    except (Exception, CheckpointException) as error:
        reason = " ".join(str(error).split())[:300]
        any_number = isinstance(engine, TorchEngine)
        how = "" if any_number else "start as many processes as wrote it; "
        raise UserError(
            f"{checkpoint}: cannot be resumed from ({reason}); {how}if it is damaged, remove it "
            "to go on from the one before, or from the beginning"
        ) from error

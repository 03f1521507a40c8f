"""``train_log.jsonl``, one line a step, and the progress bar.

The training loop: the same for every kind of sharding, on CPUs and on GPUs.
"""

import json
import math
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.api import CheckpointException  # which is no Exception
from tqdm import tqdm

from screl.core.cost import PROCESSORS, Devices, DeviceTime, Stopwatch, add_session
from screl.core.io import UserError, write_atomic
from screl.core.problems import ProblemId
from screl.models.loading import Model, empty_model, fit_vocabulary, load_model, load_shape
from screl.models.tokenizer import Tokenizer
from screl.training.checkpoint import (
    full_disk_explained,
    last_checkpoint,
    read_state,
    remove_old,
    write_checkpoint,
)
from screl.training.config import TrainConfig
from screl.training.data import TrainingData
from screl.training.engine import TorchEngine
from screl.training.loss import loss_weights
from screl.training.model import ATTENTION, has_liger, pack, use_liger
from screl.training.packing import MicroBatch, plan_step
from screl.training.plan import predict_run
from screl.training.processes import is_main_process, say, sum_over_processes
from screl.training.schedule import learning_rate

if TYPE_CHECKING:
    from screl.training.deepspeed import DeepSpeedEngine

    Engine = TorchEngine | DeepSpeedEngine


LOG = "train_log.jsonl"


class TrainingLog:
    """Bar on stderr and lines in ``folder``, of the main process only; what the run has taken."""

    def __init__(
        self, folder: Path, n_steps: int, state: dict[str, Any], watch: Stopwatch, on_gpu: bool
    ) -> None:
        """Begin with what ``state`` of the last checkpoint says was done: its lines and seconds.
        ``watch`` runs since this process began."""
        self.path = folder / LOG
        self.entries: list[dict[str, Any]] = list(state.get("log", []))
        self.seconds_before: float = state.get("seconds", 0.0)
        self.started = time.time()
        self.watch, self.device = watch, Devices("gpu", 1) if on_gpu else PROCESSORS
        self.time_before: DeviceTime | None = DeviceTime(self.device.kind, 0.0)
        if state["step"]:  # older checkpoints have no time
            self.time_before = DeviceTime(**state["time"]) if "time" in state else None
        if is_main_process():
            write_atomic(self.path, map(as_line, self.entries))
            self.bar = tqdm(total=n_steps, initial=len(self.entries), desc="train", unit="step")

    def state(self) -> dict[str, Any]:
        """What a checkpoint has to keep; all processes must ask for it."""
        time = self.device_time()
        return {"log": self.entries, "seconds": self.seconds(), "time": time._asdict()}

    def seconds(self) -> float:
        """Of training, over all sessions of this run."""
        return self.seconds_before + time.time() - self.started

    def device_time(self) -> DeviceTime:
        """Of all processes, over all sessions; each up to the checkpoint that the next one went on
        from. All processes must ask for it."""
        mine = self.watch.time_of(self.device)
        now = mine._replace(device_seconds=sum_over_processes(mine.device_seconds))
        return add_session(self.time_before, now)

    def add(self, entry: dict[str, Any]) -> None:
        """Write the line of a step."""
        self.entries.append(entry)
        if is_main_process():
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(as_line(entry))
            self.bar.update()
            self.bar.set_postfix(
                loss=f"{entry['loss']:.4f}",
                lr=f"{entry['learning_rate']:.1e}",
                tok_s=f"{entry['tokens_per_second']:.0f}",
            )

    def close(self) -> None:
        """End the bar."""
        if is_main_process():
            self.bar.close()


def as_line(entry: dict[str, Any]) -> str:
    """An entry as it stands in the file."""
    return json.dumps(entry) + "\n"


MOST_NAMED = 16  # problems in an error


def build_engine(config: TrainConfig, tokenizer: Tokenizer, device: torch.device) -> "Engine":
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
        from screl.training.deepspeed import DeepSpeedEngine as Engine
    else:
        Engine = TorchEngine  # type: ignore[misc,assignment]
    return Engine(
        make_model, config.sharding, config.precision, device, optimizer_settings,
        config.max_grad_norm,
    )  # fmt: skip


def predicted_peak(config: TrainConfig, data: TrainingData, device: torch.device) -> float:
    """Bytes that this run's processes need at their peak, as worked out beforehand."""
    shape = load_shape(config.model_name_or_path)
    on_cpu, liger = device.type == "cpu", has_liger()
    memory = predict_run(config, shape, data, dist.get_world_size(), on_cpu=on_cpu, liger=liger)
    return memory.total


def fine_tune(
    config: TrainConfig, engine: "Engine", data: TrainingData, watch: Stopwatch
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
    config: TrainConfig, engine: "Engine", data: TrainingData, step: int, rate: float,
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
    config: TrainConfig, engine: "Engine", data: TrainingData, step: int
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
    config: TrainConfig, engine: "Engine", folder: Path, step: int, log: TrainingLog
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

"""Run the training loop, the same for every kind of sharding and device, and write its log."""

import json
import math
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.api import CheckpointException  # not a subclass of Exception

from screl.core.cost import PROCESSORS, Cost, Devices, Stopwatch, add_session
from screl.core.io import UserError, write_atomic
from screl.core.problems import ProblemId
from screl.core.progress import progress_bar
from screl.training.checkpoint import (
    explain_full_disk,
    last_checkpoint,
    read_state,
    remove_old_checkpoints,
    write_checkpoint,
)
from screl.training.config import TrainConfig
from screl.training.data import TrainingData
from screl.training.engine import TorchEngine
from screl.training.interrupt import Interruption, interrupted
from screl.training.micro_batches import held_out_loss, run_micro_batches
from screl.training.packing import MicroBatch
from screl.training.processes import (
    counted,
    is_main_process,
    patience,
    say,
    sum_over_processes,
)
from screl.training.schedule import learning_rate

if TYPE_CHECKING:
    from screl.training.engine import TrainingEngine

LOG = "train_log.jsonl"
MOST_PROBLEMS = 16  # problems in an error message


class TrainingLog:
    """The lines of train_log.jsonl, the progress bar, and the time the run has taken.

    Only the main process writes.
    """

    def __init__(
        self, folder: Path, n_steps: int, state: dict[str, Any], watch: Stopwatch, on_gpu: bool
    ) -> None:
        """Continue the log from the checkpoint's ``state``; ``watch`` began with the process."""
        self.path = folder / LOG
        self.entries: list[dict[str, Any]] = list(state.get("log", []))
        self.seconds_before: float = state.get("seconds", 0.0)
        self.started = time.time()
        self.watch, self.device = watch, Devices("gpu", 1) if on_gpu else PROCESSORS
        self.time_before: Cost | None = Cost(self.device.kind, 0.0)
        if state["step"]:  # checkpoints of older versions have no time
            self.time_before = Cost(**state["time"]) if "time" in state else None
        if is_main_process():
            _keep_lost_steps(self.path, len(self.entries))
            write_atomic(self.path, map(_as_line, self.entries))
            self.bar = progress_bar(n_steps, "train", "step", initial=len(self.entries))

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint; all processes must call this."""
        time = self.device_time()
        return {"log": self.entries, "seconds": self.seconds(), "time": asdict(time)}

    def seconds(self) -> float:
        """Return the seconds of training in all sessions of this run."""
        return self.seconds_before + time.time() - self.started

    def device_time(self) -> Cost:
        """Return the time of all processes in all sessions; all processes must call this.

        An earlier session counts up to the checkpoint from which the next one continued.
        """
        mine = self.watch.time_of(self.device)
        now = replace(mine, device_seconds=sum_over_processes(mine.device_seconds))
        return add_session(self.time_before, now)

    def add(self, entry: dict[str, Any]) -> None:
        """Write the line of a step."""
        self.entries.append(entry)
        if is_main_process():
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(_as_line(entry))
            shown = {
                "loss": f"{entry['loss']:.4f}",
                "lr": f"{entry['learning_rate']:.1e}",
                "tok_s": f"{entry['tokens_per_second']:.0f}",
            }
            if (held_out := self.last_of("eval_loss")) is not None:
                shown["eval_loss"] = f"{held_out:.4f}"
            self.bar.set_postfix(shown, refresh=False)
            self.bar.update()

    def last_of(self, key: str) -> float | None:
        """Return the newest value of ``key``, which not every step has."""
        return next((entry[key] for entry in reversed(self.entries) if key in entry), None)

    def close(self) -> None:
        """End the progress bar."""
        if is_main_process():
            self.bar.close()


def _keep_lost_steps(log: Path, n_steps: int) -> None:
    """Keep the log of an earlier session that went beyond the checkpoint's ``n_steps``."""
    n_lines = log.read_bytes().count(b"\n") if log.exists() else 0
    if n_lines > n_steps:
        kept = log.with_suffix(".previous.jsonl")
        os.replace(log, kept)
        lost = counted(n_lines - n_steps, "step")
        say(f"{lost} of an earlier session were not saved and are trained again; see {kept}")


def _as_line(entry: dict[str, Any]) -> str:
    return json.dumps(entry) + "\n"


def fine_tune(
    config: TrainConfig, engine: "TrainingEngine", data: TrainingData, watch: Stopwatch
) -> TrainingLog:
    """Train to the end, from the last checkpoint in ``output_dir`` if there is one.

    Raises UserError if the checkpoint cannot be read, or if a loss or gradient shows that the
    training has failed; KeyboardInterrupt after the step in which any process got a signal.
    """
    folder, n_steps = config.output_dir, len(data.steps)
    checkpoint = _agreed_checkpoint(folder)
    state = read_state(checkpoint) if checkpoint else {"step": 0}
    if checkpoint:
        _load(engine, checkpoint)
    log = TrainingLog(folder, n_steps, state, watch, on_gpu=engine.device.type == "cuda")
    n_tokens, seconds_evaluating = 0, 0.0
    eval_steps = config.eval_steps or max(1, round(len(data.examples) / config.global_batch_size))
    interruption = Interruption()
    for step in range(state["step"], n_steps):
        rate = learning_rate(config, step, n_steps)
        loss, norm = run_step(config, engine, data, step, rate, log)
        n_tokens += data.n_tokens(step)
        seconds_training = log.seconds() - log.seconds_before - seconds_evaluating
        entry = {
            "step": step + 1,
            "epoch": round((step + 1) * config.global_batch_size / len(data.examples), 4),
            "loss": loss,
            "learning_rate": engine.learning_rate(),
            "grad_norm": norm,
            "tokens_per_second": round(n_tokens / seconds_training, 1),
        }
        if data.held_out and ((step + 1) % eval_steps == 0 or step + 1 == n_steps):
            before = time.time()
            entry["eval_loss"] = held_out_loss(config, engine, data.held_out)
            seconds_evaluating += time.time() - before
        log.add(entry)
        stop = interruption.agreed()
        # After the last step too, so that nothing is trained again if saving the model fails.
        due = stop or (step + 1) % (config.save_steps or 1) == 0 or step + 1 == n_steps
        if config.save_steps and due:
            _save(config, engine, step + 1, log)
        if stop:
            log.close()
            raise interrupted(step + 1, saved=config.save_steps > 0)
    interruption.end()
    log.close()
    return log


def run_step(
    config: TrainConfig, engine: "TrainingEngine", data: TrainingData, step: int, rate: float,
    log: TrainingLog,
) -> tuple[float, float]:  # fmt: skip
    """Run one optimizer step on all processes; return its loss and gradient norm.

    Raises UserError, before the weights change, if the loss is not finite or explodes.
    """
    torch.manual_seed(config.seed + step)  # for dropout, if a model has any, also after resuming
    parts = run_micro_batches(config, engine, data, step)
    total = torch.stack([loss for loss, _ in parts]).sum()
    dist.all_reduce(total)
    ids = [data.problem_ids[row] for row in data.steps[step]]
    if not torch.isfinite(total):
        raise _stopped(f"the loss of step {step + 1} is {total:.0f}", _not_finite(parts, ids))
    loss = float(total)
    before = [entry["loss"] for entry in log.entries[-20:]]
    if before and loss > 3 * median(before) + 1:
        raise _stopped(
            f"the loss of step {step + 1} is {loss:.3f}, after a median of {median(before):.3f} "
            f"over the {counted(len(before), 'step')} before it",
            ids,
        )
    norm = engine.step(rate)
    if not math.isfinite(norm):
        raise _stopped(f"the gradient norm of step {step + 1} is {norm:.0f}", ids)
    return loss, norm


def _not_finite(
    parts: list[tuple[torch.Tensor, MicroBatch]], ids: Sequence[ProblemId]
) -> list[ProblemId]:
    """Return the problems, on all processes, of micro-batches whose loss is not finite."""
    mine = [ids[at] for loss, positions in parts if not torch.isfinite(loss) for at in positions]
    every: list[list[ProblemId]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(every, mine)
    return [one for part in every for one in part]


def _stopped(what: str, ids: Sequence[ProblemId]) -> UserError:
    """Return the error that stops a failed run; ``ids`` are the problems that may be the cause."""
    named = ", ".join(map(repr, ids[:MOST_PROBLEMS])) + " ..." * (len(ids) > MOST_PROBLEMS)
    return UserError(
        f"{what}; the weights were not saved. Lower --learning_rate, or check the rows with "
        f"problem_id {named}"
    )


def _agreed_checkpoint(folder: Path) -> Path | None:
    """Return the main process's last checkpoint; raise UserError if this process cannot see it."""
    found = [last_checkpoint(folder)]
    dist.broadcast_object_list(found, src=0, device=torch.device("cpu"))
    if found[0] and not found[0].exists():
        raise UserError(
            f"{found[0]}: cannot be seen from every machine; --output_dir must be a folder that "
            "all of them share"
        )
    return found[0]


def _load(engine: "TrainingEngine", checkpoint: Path) -> None:
    """Load a checkpoint; raise UserError if the processes cannot read it."""
    try:
        with patience():
            engine.load(checkpoint)
    except (Exception, CheckpointException) as error:
        reason = " ".join(str(error).split())[:300]
        any_number = isinstance(engine, TorchEngine)
        how = "" if any_number else "start as many processes as wrote it; "
        raise UserError(
            f"{checkpoint}: cannot be resumed from ({reason}); {how}if it is damaged, remove it "
            "to continue from the one before, or from the beginning"
        ) from error


def _save(config: TrainConfig, engine: "TrainingEngine", step: int, log: TrainingLog) -> None:
    """Write a checkpoint to resume from and remove the oldest."""
    folder = config.output_dir
    with explain_full_disk(folder), patience():
        write_checkpoint(folder, step, log.state(), engine.save, is_main_process(), dist.barrier)
    if is_main_process():
        remove_old_checkpoints(folder, config.save_total_limit)

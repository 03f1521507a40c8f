"""Checkpoints to resume from: whole or not there, the last few kept."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from screl.core.io import UserError, file_sha256, read_json_object, write_json
from screl.core.run_info import refuse_another_run
from screl.models.folder import check_model_folder, check_weights, fingerprint
from screl.training.config import TrainConfig

STATE = "state.json"
FULL_DISK = 2**24  # bytes: with less than 16 MiB free, a failed write means a full disk


def checkpoint_folder(folder: Path, step: int) -> Path:
    """Where the checkpoint after ``step`` steps lies."""
    return folder / f"checkpoint-{step}"


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint; None without one."""
    steps = [
        int(number)
        for path in folder.glob(f"checkpoint-[0-9]*/{STATE}")
        if (number := path.parent.name.removeprefix("checkpoint-")).isdigit()
    ]
    return checkpoint_folder(folder, max(steps)) if steps else None


def write_checkpoint(
    folder: Path, step: int, state: dict[str, Any], save: Callable[[Path], None], is_main: bool,
    wait: Callable[[], None],
) -> None:  # fmt: skip
    """Let every process ``save`` its part into one new folder, which then gets its name.

    ``state`` goes with it, from the main process; ``wait`` returns when all processes call it.
    """
    final = checkpoint_folder(folder, step)
    temporary = final.with_name(f"{final.name}.writing")
    if is_main:
        remove(temporary)  # what a killed run left
        temporary.mkdir(parents=True)
    wait()
    save(temporary)
    wait()
    if is_main:
        write_json(temporary / STATE, state | {"step": step})
        os.sync()  # what DeepSpeed wrote as well
        remove(final)
        os.rename(temporary, final)
    wait()


def read_state(checkpoint: Path) -> dict[str, Any]:
    """What was given to ``write_checkpoint``, and ``step``."""
    return read_json_object(checkpoint / STATE)


def remove_old(folder: Path, keep: int) -> None:
    """Remove all checkpoints but the newest ``keep``, and what was never finished or is half
    removed."""
    whole = []
    for path in folder.glob("checkpoint-[0-9]*"):
        if (path / STATE).exists() and path.suffix != ".writing":
            whole.append(path)
        else:
            remove(path)
    whole.sort(key=lambda path: int(path.name.removeprefix("checkpoint-")))
    for path in whole[: len(whole) - keep]:
        remove(path)


def remove(path: Path) -> None:
    """Remove a folder if it is there; its state first, so that a kill leaves nothing half valid."""
    (path / STATE).unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)


def bytes_to_write(config: TrainConfig, n_weights: int, n_steps: int) -> int:
    """Disk a run needs: the weights, and checkpoints of float32 weights and Adam's moments.

    An old checkpoint is removed when the new one is whole, so there is one more for a while.
    """
    written = -(-n_steps // config.save_steps) if config.save_steps else 0
    n_checkpoints = min(written, config.save_total_limit + 1)
    return n_weights * ((2 if config.save_precision == "bf16" else 4) + 12 * n_checkpoints)


def check_disk(folder: Path, n_bytes: int) -> None:
    """UserError if there is less room than ``n_bytes`` where ``folder`` is, what the run has
    written there before counted as room."""
    written = sum(path.stat().st_size for path in folder.glob("checkpoint-*/**/*"))
    free = shutil.disk_usage(folder).free + written
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
    except UserError:
        raise
    except BaseException as error:  # torch's CheckpointException is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        if shutil.disk_usage(folder).free > FULL_DISK:
            raise
        reason = " ".join(str(error).split())
        raise UserError(
            f"{folder}: the disk is full ({reason}); the last whole checkpoint is kept: make room "
            "and run the same command again"
        ) from error


# What does not change the result of a run, so that it may differ when the run is continued.
RESUMABLE_KEYS = {
    "model_name_or_path", "data_path", "output_dir", "micro_batch_tokens", "save_steps",
    "save_total_limit", "gradient_checkpointing", "dry_run", "world_size", "gpu_memory_gib",
    "gpu_tflops",
}  # fmt: skip


def run_identity(config: TrainConfig) -> dict[str, Any]:
    """What decides the outcome of a run: the recipe, the base model and the data."""
    # a run can be planned before 140 GB are fetched
    (check_model_folder if config.dry_run else check_weights)(config.model_name_or_path)
    recipe = {key: value for key, value in asdict(config).items() if key not in RESUMABLE_KEYS}
    return recipe | {
        "model_sha256": fingerprint(config.model_name_or_path),
        "data_sha256": file_sha256(config.data_path),
    }


def is_finished(output_dir: Path, identity: dict[str, Any]) -> bool:
    """Whether this very run is done; UserError if the folder holds another one, or the half of it.

    One that failed before its first checkpoint may be tried again with other options.
    """
    path, finished = output_dir / "training.json", (output_dir / "run.json").exists()
    has_model = (output_dir / "config.json").exists()
    if path.exists():
        if has_model or last_checkpoint(output_dir):
            refuse_another_run(output_dir, read_json_object(path), identity)
        if finished:
            check_weights(str(output_dir))
        return finished
    if has_model:
        raise UserError(f"{output_dir}: holds another model; give another --output_dir")
    return False

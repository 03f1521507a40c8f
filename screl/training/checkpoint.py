"""Write and read checkpoints to resume from, and decide whether a run may resume.

A checkpoint is written under another name and renamed when every process has written its part, so
a run that is killed at any moment still has the previous one.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from screl.core.config import plain_config
from screl.core.io import UserError, file_sha256, read_json_object, write_json
from screl.core.prompt_choice import PromptChoice
from screl.core.run_info import refuse_another_run
from screl.models.folder import check_model_folder, check_weights, fingerprint
from screl.training.config import TrainConfig

STATE = "state.json"
FULL_DISK = 2**24  # bytes: if a write fails with less than 16 MiB free, the disk is full
# Options that change the data only if they are given; earlier versions did not have them.
DATA_KEYS = {"query_key", "response_key", "answer_key", "system_prompt", "chat_template_kwargs"}
ALPACA = {"prompt": "alpaca"}  # the prompt of earlier versions, which recorded none
# Options that do not change the result of a run, so they may differ when it is resumed.
RESUMABLE_KEYS = {
    "model_name_or_path", "data_path", "output_dir", "micro_batch_tokens", "save_steps",
    "save_total_limit", "gradient_checkpointing", "dry_run", "world_size", "gpu_memory_gib",
    "gpu_tflops", "eval_data_path", "eval_steps", "verbose",
}  # fmt: skip


def run_identity(config: TrainConfig) -> dict[str, Any]:
    """Return what determines the result of a run: recipe, base model and data.

    A dry run needs no weights, so a run can be planned before 140 GB are downloaded. Raises
    UserError if the model or the data is missing.
    """
    (check_model_folder if config.dry_run else check_weights)(config.model_name_or_path)
    recipe = {
        key: value
        for key, value in plain_config(config).items()
        if key not in RESUMABLE_KEYS
        and (value or key not in DATA_KEYS)
        and (key, value) not in ALPACA.items()
    }
    return recipe | {
        "model_sha256": fingerprint(config.model_name_or_path),
        "data_sha256": file_sha256(config.data_path),
    }


def begun_prompt(output_dir: Path) -> PromptChoice | None:
    """Return the prompt of the run that ``output_dir`` holds, None if it holds none."""
    path = output_dir / "training.json"
    if path.exists() and ((output_dir / "config.json").exists() or last_checkpoint(output_dir)):
        return PromptChoice.of(read_json_object(path))
    return None


def is_finished(output_dir: Path, identity: dict[str, Any]) -> bool:
    """Return whether the run with this ``identity`` has finished in ``output_dir``.

    Raises UserError if the folder holds another run, finished or not, or another model. A run that
    failed before its first checkpoint may be tried again with other options.
    """
    path, finished = output_dir / "training.json", (output_dir / "run.json").exists()
    has_model = (output_dir / "config.json").exists()
    if path.exists():
        if has_model or last_checkpoint(output_dir):
            refuse_another_run(output_dir, ALPACA | read_json_object(path), ALPACA | identity)
        if finished:
            check_weights(str(output_dir))
        return finished
    if has_model:
        raise UserError(f"{output_dir}: holds another model; give another --output_dir")
    return False


def checkpoint_folder(folder: Path, step: int) -> Path:
    """Return the path of the checkpoint after ``step`` steps."""
    return folder / f"checkpoint-{step}"


def last_checkpoint(folder: Path) -> Path | None:
    """Return the newest complete checkpoint, or None."""
    steps = [
        int(number)
        for path in folder.glob(f"checkpoint-[0-9]*/{STATE}")
        if (number := path.parent.name.removeprefix("checkpoint-")).isdigit()
    ]
    return checkpoint_folder(folder, max(steps)) if steps else None


def read_state(checkpoint: Path) -> dict[str, Any]:
    """Return the ``state`` that was passed to ``write_checkpoint``, with its ``step``."""
    return read_json_object(checkpoint / STATE)


def write_checkpoint(
    folder: Path, step: int, state: dict[str, Any], save: Callable[[Path], None], is_main: bool,
    wait: Callable[[], None],
) -> None:  # fmt: skip
    """Let every process ``save`` its part into a new folder, then give the folder its final name.

    The main process adds ``state``; ``wait`` returns when all processes have called it.
    """
    final = checkpoint_folder(folder, step)
    temporary = final.with_name(f"{final.name}.writing")
    if is_main:
        remove_checkpoint(temporary)  # left by a killed run
        temporary.mkdir(parents=True)
    wait()
    save(temporary)
    wait()
    if is_main:
        write_json(temporary / STATE, state | {"step": step})
        os.sync()  # also what DeepSpeed wrote
        remove_checkpoint(final)
        os.rename(temporary, final)
    wait()


def remove_old_checkpoints(folder: Path, keep: int) -> None:
    """Remove all checkpoints but the newest ``keep``, and any incomplete ones."""
    complete = []
    for path in folder.glob("checkpoint-[0-9]*"):
        if (path / STATE).exists() and path.suffix != ".writing":
            complete.append(path)
        else:
            remove_checkpoint(path)
    complete.sort(key=lambda path: int(path.name.removeprefix("checkpoint-")))
    for path in complete[: len(complete) - keep]:
        remove_checkpoint(path)


def remove_checkpoint(path: Path) -> None:
    """Remove a checkpoint if it exists.

    Its state is removed first, so that a kill leaves nothing that looks complete.
    """
    (path / STATE).unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)


def bytes_to_write(config: TrainConfig, n_weights: int, n_steps: int) -> int:
    """Return the bytes a run writes: the model, and checkpoints of float32 weights and moments.

    An old checkpoint is removed only when the new one is complete, so one more must fit.
    """
    written = -(-n_steps // config.save_steps) if config.save_steps else 0
    n_checkpoints = min(written, config.save_total_limit + 1)
    model = n_weights * (2 if config.save_precision == "bf16" else 4)
    return model + n_checkpoints * checkpoint_bytes(n_weights)


def checkpoint_bytes(n_weights: int) -> int:
    """Return the bytes of a checkpoint to resume from: a weight and two moments in float32."""
    return 12 * n_weights


def check_disk(folder: Path, n_bytes: int) -> None:
    """Raise UserError if fewer than ``n_bytes`` are free at ``folder``.

    The run's own earlier checkpoints count as free.
    """
    written = sum(path.stat().st_size for path in folder.glob("checkpoint-*/**/*"))
    free = shutil.disk_usage(folder).free + written
    if free < n_bytes:
        raise UserError(
            f"{folder}: {free / 1e6:,.0f} MB are free and the run writes up to "
            f"{n_bytes / 1e6:,.0f} MB; free some space, or give another --output_dir or "
            "--save_steps 0"
        )


@contextmanager
def explain_full_disk(folder: Path) -> Iterator[None]:
    """Turn the obscure errors that torch raises on a full disk into a clear UserError."""
    try:
        yield
    except UserError:
        raise
    except BaseException as error:  # torch's CheckpointException is not a subclass of Exception
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        if shutil.disk_usage(folder).free > FULL_DISK:
            raise
        reason = " ".join(str(error).split())
        raise UserError(
            f"{folder}: the disk is full ({reason}); the last complete checkpoint is kept: free "
            "some space and run the same command again"
        ) from error

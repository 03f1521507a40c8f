"""What is found out about a training run before anything is loaded: is it meant, is it done?"""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from screl.checkpoints import last_checkpoint
from screl.files import UserError, file_sha256, read_json_object
from screl.model_folder import check_model_folder, check_weights, fingerprint
from screl.processes import world_size
from screl.run_info import refuse_another_run

if TYPE_CHECKING:
    from train import TrainConfig

# What does not change the result of a run, so that it may differ when the run is continued.
FREE_KEYS = {
    "model_name_or_path", "data_path", "output_dir", "micro_batch_tokens", "save_steps",
    "save_total_limit", "gradient_checkpointing", "dry_run", "world_size", "gpu_memory_gib",
    "gpu_tflops",
}  # fmt: skip


def check(config: "TrainConfig") -> None:
    """UserError for numbers that cannot be meant."""
    if not 0 < config.num_train_epochs < 10_000:
        raise UserError("--num_train_epochs must be above 0 and below 10,000")
    for name in ("global_batch_size", "micro_batch_tokens", "max_length", "loss_group_size",
                 "save_total_limit", "world_size"):  # fmt: skip
        if (getattr(config, name) or 1) < 1 or getattr(config, name) == 0:
            raise UserError(f"--{name} must be at least 1")
    if not (0 < config.learning_rate < 10 and 0 <= config.warmup_ratio <= 1):
        raise UserError("--learning_rate must be in (0, 10) and --warmup_ratio in [0, 1]")
    for name in ("save_steps", "seed", "max_grad_norm", "weight_decay"):
        if not 0 <= getattr(config, name) < 2**63:  # nor nan
            raise UserError(f"--{name} must be at least 0, and a number of 64 bits")
    for name in ("gpu_memory_gib", "gpu_tflops"):
        if (value := getattr(config, name)) is not None and not value > 0:
            raise UserError(f"--{name} must be above 0")
    n_processes = processes_planned(config)
    if config.sharding == "none" and n_processes > 1:
        raise UserError(
            f"--sharding none is for one process, not {n_processes}; ddp copies all to each, fsdp, "
            "zero2 and zero3 divide it among them"
        )


def processes_planned(config: "TrainConfig") -> int:
    """Those of a rehearsal, else those that were started."""
    return config.world_size if config.dry_run and config.world_size else world_size()


def run_identity(config: "TrainConfig") -> dict[str, Any]:
    """What decides the outcome of a run: the recipe, the base model and the data."""
    # a run can be planned before 140 GB are fetched
    (check_model_folder if config.dry_run else check_weights)(config.model_name_or_path)
    recipe = {key: value for key, value in asdict(config).items() if key not in FREE_KEYS}
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

"""Test that options that make no sense are refused before anything is loaded."""

import json
from dataclasses import replace
from math import nan
from pathlib import Path

import pytest

from screl.core.io import UserError
from screl.training.config import DEEPSPEED_FOLDER, TrainConfig, check_train_options

CONFIG = TrainConfig("model", Path("data"), Path("out"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_train_epochs": 0}, "--num_train_epochs must be above 0"),
        ({"num_train_epochs": nan}, "--num_train_epochs must be above 0"),
        ({"micro_batch_tokens": 0}, "--micro_batch_tokens must be at least 1"),
        ({"world_size": 0}, "--world_size must be at least 1"),
        ({"eval_data_path": "d", "eval_steps": 0}, "--eval_steps must be at least 1"),
        ({"eval_steps": 5}, "--eval_steps needs --eval_data_path"),
        ({"learning_rate": nan}, "--learning_rate must be in"),
        ({"warmup_ratio": 2}, "--warmup_ratio in"),
        ({"max_grad_norm": nan}, "--max_grad_norm must be at least 0"),
        ({"seed": 2**63}, "--seed must be at least 0 and fit into 64 bits"),
        ({"gpu_memory_gib": 0}, "--gpu_memory_gib must be above 0"),
        ({"gpu_tflops": nan}, "--gpu_tflops must be above 0"),
        ({"sharding": "none", "dry_run": True, "world_size": 2},
         "--sharding none is for one process, not 2; use ddp to copy"),
    ],
)  # fmt: skip
def test_values_that_make_no_sense_are_refused(change: dict[str, object], message: str) -> None:
    check_train_options(CONFIG)
    with pytest.raises(UserError, match=message):
        check_train_options(replace(CONFIG, **change))  # type: ignore[arg-type]


def test_sharding_none_is_refused_with_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="--sharding none is for one process, not 2"):
        check_train_options(replace(CONFIG, sharding="none"))


def test_deepspeeds_files_decide_nothing_that_is_learned() -> None:
    for path in DEEPSPEED_FOLDER.iterdir():
        settings = json.loads(path.read_text())
        assert settings.keys() <= {"bf16", "zero_optimization", "zero_force_ds_cpu_optimizer"}
        assert settings["bf16"] == {"enabled": True}
        assert settings["zero_optimization"]["stage"] == int(path.stem[4])

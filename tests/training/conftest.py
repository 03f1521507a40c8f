"""Training tests run on the CPU, except those in test_gpu.py; fixtures that several of them use."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import train
from tests.conftest import ROOT, write_lines


@pytest.fixture(autouse=True, scope="module")
def _on_cpu(request: pytest.FixtureRequest) -> Iterator[None]:
    """Hide GPUs from this process and from those that it starts."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        if request.module.__name__.rpartition(".")[2] != "test_gpu":
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
            monkeypatch.setenv("DS_ACCELERATOR", "cpu")
            monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        yield


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """22 problems of the miniature, not a multiple of the batch size."""
    lines = (ROOT / "data/mini/train.jsonl").read_text().splitlines()[:22]
    return write_lines(tmp_path_factory.mktemp("data") / "train.jsonl", lines)


def train_options(model: Path, data: Path, output: Path, **changes: object) -> list[str]:
    """Return options of train.py for 9 steps of 8 rows."""
    settings = {
        "model_name_or_path": model, "data_path": data, "output_dir": output,
        "num_train_epochs": 3, "global_batch_size": 8, "micro_batch_tokens": 500,
        "learning_rate": 1e-3, "precision": "fp32",
    } | changes  # fmt: skip
    return [f"--{key}={value}" for key, value in settings.items()]


def read_log(output: Path, key: str = "loss") -> list[float]:
    """Return one value per step from train_log.jsonl."""
    lines = (output / "train_log.jsonl").read_text().splitlines()
    return [json.loads(line)[key] for line in lines]


def run_here(monkeypatch: pytest.MonkeyPatch, argv: list[str]) -> None:
    """Run train.py in this process."""
    monkeypatch.setattr(sys, "argv", ["train.py", *argv])
    train.main()

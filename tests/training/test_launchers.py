"""Test that every launcher starts the same run, and that a signal to any of them loses no step."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from screl.core.io import UserError
from screl.training import launcher
from screl.training.launcher import read_launcher
from tests.conftest import ROOT, run_script
from tests.training.conftest import read_log, train_options

BIN = Path(sys.executable).parent
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone")
ACCELERATE = (BIN / "accelerate", "launch", "--num_processes=2")
pytestmark = pytest.mark.xdist_group("two_processes")


@pytest.mark.slow
@pytest.mark.parametrize(
    "start",
    [(*ACCELERATE, "--multi_gpu", "--main_process_port=29611"),
     (BIN / "deepspeed", "--num_gpus=2", "--master_port=29612")],
    ids=["accelerate", "deepspeed"],
)  # fmt: skip
def test_other_launchers_start_the_run_that_torchrun_starts(
    tiny_model: Path, data: Path, tmp_path: Path, start: tuple[str, ...]
) -> None:
    logs = []
    for name, command in (("torchrun", TORCHRUN), ("other", start)):
        argv = train_options(tiny_model, data, tmp_path / name, num_train_epochs=1)
        path = f"{BIN}:{os.environ['PATH']}"
        result = run_script("train.py", *argv, launcher=tuple(map(str, command)), PATH=path)
        assert result.returncode == 0, result.stderr[-3000:]
        info = json.loads((tmp_path / name / "run.json").read_text())
        assert info["results"]["n_processes"] == 2
        logs.append(read_log(tmp_path / name))
    assert logs[0] == logs[1]


@pytest.mark.slow
def test_accelerate_does_not_train_on_one_process_instead_of_two(
    tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    argv = train_options(tiny_model, data, tmp_path / "m")
    result = run_script(
        *ACCELERATE[1:], "--cpu", "train.py", *argv, launcher=(str(BIN / "accelerate"),)
    )
    assert result.returncode == 1
    assert "was asked for 2 processes and started one" in result.stderr
    assert not (tmp_path / "m").exists()


def test_launchers_that_start_lonely_processes_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "--local_rank=1", "--seed=1"])
    for name in ("RANK", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    monkeypatch.setattr(launcher, "_asked_of_accelerate", lambda: 1)
    read_launcher()
    assert sys.argv == ["train.py", "--seed=1"]
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    with pytest.raises(UserError, match="mpirun started 4 processes"):
        read_launcher()
    monkeypatch.setenv("RANK", "0")
    read_launcher()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("sharding", ["ddp", "fsdp", "zero2"])
def test_a_signal_saves_the_step_and_the_run_resumes_to_the_same_weights(
    tiny_model: Path, data: Path, tmp_path: Path, sharding: str, name: str
) -> None:
    """Between two checkpoints, under torchrun; only torchrun itself may print a traceback."""
    output = tmp_path / "m"
    argv = train_options(
        tiny_model, data, output, sharding=sharding, num_train_epochs=30, save_steps=1000
    )
    process = subprocess.Popen(
        [*TORCHRUN, "train.py", *argv], cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    log = output / "train_log.jsonl"
    while process.poll() is None and not (log.exists() and log.stat().st_size):
        time.sleep(0.02)
    process.send_signal(getattr(signal, name))
    _, errors = process.communicate(timeout=120)
    (checkpoint,) = output.glob("checkpoint-*")
    step = int(checkpoint.name.removeprefix("checkpoint-"))
    assert len(read_log(output)) == step
    assert f"interrupted after step {step}, which is saved" in errors
    assert "screl/" not in errors
    before = read_log(output)
    whole = tmp_path / "whole"
    other = [f"--output_dir={whole}" if "--output_dir" in word else word for word in argv]
    for options in (argv, other):
        result = run_script("train.py", *options, launcher=TORCHRUN)
        assert result.returncode == 0, result.stderr[-3000:]
    assert read_log(output)[:step] == before
    assert read_log(output) == read_log(whole)
    expected, found = (load_file(path / "model.safetensors") for path in (whole, output))
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.slow
def test_without_checkpoints_a_signal_says_what_is_lost(
    tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    """And the log of the lost steps is kept when the run begins again."""
    output = tmp_path / "m"
    argv = train_options(tiny_model, data, output, num_train_epochs=50, save_steps=0)
    process = subprocess.Popen(
        [sys.executable, "train.py", *argv], cwd=ROOT, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    log = output / "train_log.jsonl"
    while process.poll() is None and not (log.exists() and log.stat().st_size):
        time.sleep(0.02)
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "with --save_steps 0 nothing is saved" in errors
    assert "Traceback" not in errors
    lost = read_log(output)
    shutil.copy(log, tmp_path / "copy")
    again = [*argv[:-1], "--precision=fp32", "--num_train_epochs=1"]
    result = run_script("train.py", *again)
    assert result.returncode == 0, result.stderr[-2000:]
    kept = (output / "train_log.previous.jsonl").read_text()
    assert kept == (tmp_path / "copy").read_text()
    assert kept.count("\n") == len(lost)

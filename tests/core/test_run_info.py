"""run.json says what was run and what it cost; many of them are summarized; memory is measured."""

import gc
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from screl.core.io import UserError
from screl.core.run_info import (
    PeakWatch,
    describe_runs,
    package_versions,
    peak_memory_mib,
    refuse_another_run,
    write_run_info,
)
from tests.conftest import ROOT


@dataclass(frozen=True)
class Config:
    path: Path = Path("a/b")
    inputs: tuple[Path, ...] = (Path("c"),)
    rate: float = 2e-5


def test_config_command_versions_and_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/somewhere/train.py", "--rate", "2e-5"])
    started = time.time() - 5
    write_run_info(tmp_path / "run.json", Config(), started, {"n_rows": 3})
    info = json.loads((tmp_path / "run.json").read_text())
    assert info["command"] == "train.py --rate 2e-5"
    assert info["config"] == {"path": "a/b", "inputs": ["c"], "rate": 2e-5}
    assert info["results"] == {"n_rows": 3}
    assert 5 <= info["seconds"] < 10
    assert info["versions"]["rapidfuzz"]
    assert "git_commit" in info
    when = datetime.strptime(info["started"] + " +0000", "%Y-%m-%d %H:%M:%S %z")
    assert started - 1 < when.timestamp() <= started
    assert set(package_versions(("rapidfuzz", "no-such-package"))) == {"python", "rapidfuzz"}


@pytest.mark.parametrize("has_gpu", [True, False])
def test_the_gpu_is_named_if_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_gpu: bool
) -> None:
    cuda = SimpleNamespace(
        is_available=lambda: has_gpu,
        get_device_name=lambda: "NVIDIA A100",
        max_memory_allocated=lambda: 3 * 2**20,
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    write_run_info(tmp_path / "run.json", Config(), time.time(), {})
    info = json.loads((tmp_path / "run.json").read_text())
    expected = ("NVIDIA A100", 3) if has_gpu else (None, None)
    assert (info["gpu"], info["peak_gpu_memory_mib"]) == expected


def test_another_run_is_refused_with_the_differences_named(tmp_path: Path) -> None:
    stored = {"model": "M", "seed": 0, "template": "a" * 200, "n_samples": 4}
    refuse_another_run(tmp_path, stored, stored | {"n_samples": 8}, free=["n_samples"])
    with pytest.raises(UserError) as caught:
        refuse_another_run(tmp_path, stored, stored | {"seed": 1, "template": "b"})
    message = str(caught.value)
    assert message.startswith(
        f"{tmp_path}: holds another run (seed was 0, now 1; template was 'aaa"
    )
    assert message.endswith("... (SHA-256 c2a908d9...), now 'b'); give another --output_dir")


def write_run_json(folder: Path, name: str, **fields: Any) -> Path:
    cost = {"flops": 1.0, "tokens": 1, "device": "cpu", "device_seconds": 900.0}
    info = {
        "command": f"{name.split('-')[0]}.py --option x",
        "started": "2026-01-02 03:04:05",
        "git_commit": "abc",
        "versions": {"python": "3.11.7", "torch": "2.13.0", "transformers": "5.19.0"},
        "config": {"seed": 0},
        "results": {"cost": cost | {"all_sessions": True}},
    }
    path = folder / name / "run.json"
    path.parent.mkdir()
    path.write_text(json.dumps(info | fields))
    return path


def test_runs_are_summarized(tmp_path: Path) -> None:
    paths = [
        write_run_json(tmp_path, "train-0"),
        write_run_json(tmp_path, "train-1", config={"seed": 10}, git_commit="def"),
        write_run_json(tmp_path, "train-2", config={"seed": 2}, started="2026-01-01 23:00:00"),
        write_run_json(
            tmp_path, "sample-0", gpu="NVIDIA X", config={"seed": 0, "shots_seed": None}
        ),
        write_run_json(tmp_path, "sample-1", config={"seed": 0, "shots_seed": 1}),
        write_run_json(tmp_path, "collect-0", config={}),  # has no seed
    ]
    machine, *facts = describe_runs(paths).splitlines()
    assert machine.startswith("* machine that wrote this: ")
    assert machine.endswith(" cores, NVIDIA X")
    assert facts == [
        "* steps: 6, 1.5 cpu hours",
        "* begun: 2026-01-01 23:00:00 to 2026-01-02 03:04:05 UTC",
        "* commit: abc, def",
        "* seeds: sample 0; sample shots 1; train 0, 2, 10",
        "* versions: python 3.11.7, torch 2.13.0, transformers 5.19.0",
    ]


def test_peak_memory_is_in_mib_and_leaves_out_the_parent_process() -> None:
    before = peak_memory_mib()
    block = bytearray(200 * 2**20)
    block[::4096] = b"x" * len(block[::4096])
    assert 20 < before < 4000
    assert peak_memory_mib() >= 200
    code = "from screl.core import run_info; print(run_info.peak_memory_mib())"
    command = [sys.executable, "-c", code]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(child.stdout) < 150


def test_the_watch_sees_a_short_peak_and_nothing_before_or_after(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # on a GPU, torch would count
    gc.collect()  # garbage of other tests, freed during the watch, would lower the peak
    kept = bytearray(100 * 2**20)
    watch = PeakWatch()
    held = bytearray(200 * 2**20)  # never written to, so allocated but not resident
    time.sleep(0.5)
    del held
    peak = watch.end() / 2**20
    held = bytearray(300 * 2**20)
    time.sleep(0.1)
    assert 175 < peak < 225  # neither 100 nor 300; other threads of the tests may allocate too
    assert peak == watch.end() / 2**20
    assert len(kept) + len(held) == 400 * 2**20

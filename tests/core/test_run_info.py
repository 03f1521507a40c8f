"""run.json says what was run and what it cost."""

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from screl.core.run_info import PeakWatch, package_versions, peak_memory_mib, write_run_info
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


@pytest.mark.parametrize("is_there", [True, False])
def test_the_gpu_is_named_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    cuda = SimpleNamespace(
        is_available=lambda: is_there,
        get_device_name=lambda: "NVIDIA A100",
        max_memory_allocated=lambda: 3 * 2**20,
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    write_run_info(tmp_path / "run.json", Config(), time.time(), {})
    info = json.loads((tmp_path / "run.json").read_text())
    expected = ("NVIDIA A100", 3) if is_there else (None, None)
    assert (info["gpu"], info["peak_gpu_memory_mib"]) == expected


def test_versions_name_only_what_is_installed() -> None:
    assert set(package_versions(("rapidfuzz", "no-such-package"))) == {"python", "rapidfuzz"}


def test_peak_memory_is_in_mib() -> None:
    before = peak_memory_mib()
    block = bytearray(200 * 2**20)
    block[::4096] = b"x" * len(block[::4096])
    assert 20 < before < 4000
    assert peak_memory_mib() >= 200
    # a process that a large one starts is not large
    command = [
        sys.executable,
        "-c",
        "from screl.core import run_info; print(run_info.peak_memory_mib())",
    ]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(child.stdout) < 150


def test_watch_sees_what_is_held_for_a_moment_and_nothing_before_or_after() -> None:
    kept = bytearray(100 * 2**20)
    watch = PeakWatch()
    held = bytearray(200 * 2**20)  # never written to, so not resident: allocated all the same
    time.sleep(0.2)
    del held
    peak = watch.end() / 2**20
    held = bytearray(300 * 2**20)
    time.sleep(0.1)
    assert 199 < peak < 215
    assert peak == watch.end() / 2**20
    assert len(kept) + len(held) == 400 * 2**20

"""scripts/miniature from nothing to its report, tiny, killed in the middle and started again."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.xdist_group("miniature")  # one process: all share what it has run

SETTINGS = {
    "PYTHON_ENV": "system", "PYTHON": sys.executable, "JOBS": "2",
    "LADDER": "64x1-1M 32x1-1M", "FRACTIONS_OF": "64x1-1M", "RFT_OF": "64x1-1M",
    "UNIONS_FOR": "64x1-1M", "SMALL": "32x1-1M", "N_TRAIN": "32", "N_TEST": "12", "N_VOTE": "6",
    "KS": "3 1", "PARTS": "2", "SEEDS": "0", "N_SHOTS": "2",
}  # fmt: skip


def start(folder: Path) -> subprocess.Popen[str]:
    places = {"RUNS": str(folder / "runs"), "RESULT": str(folder / "report.md")}
    return subprocess.Popen(
        ["bash", ROOT / "scripts/miniature/run.sh"], env=os.environ | SETTINGS | places, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def finished(runs: Path) -> dict[Path, int]:
    """Every run.json and when it was written."""
    return {path: path.stat().st_mtime_ns for path in runs.rglob("*run.json")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All experiments, killed when the first model was scored and started again."""
    folder = tmp_path_factory.mktemp("miniature")
    process = start(folder)
    while process.poll() is None and not list(folder.rglob("greedy/run.json")):
        time.sleep(0.1)
    assert process.poll() is None, process.communicate()
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    before = finished(folder / "runs")
    process = start(folder)
    output, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors
    after = finished(folder / "runs")
    assert {path: after[path] for path in before} == before  # nothing was done again
    for path in before:
        assert f" {path.parent}\n" not in output
    return folder


def test_every_experiment_was_run(folder: Path) -> None:
    runs = folder / "runs"
    base = runs / "64x1-1M"
    scored = {path.parent.relative_to(base) for path in base.rglob("greedy/run.json")}
    settings = {f"k{k}{control}" for k in (1, 3) for control in ("", "-no_dedup")}
    settings |= {"k3-rows", "k3-tokens"}  # of one sample the controls would be the same rows
    settings |= {"sft", "icl", "sft_matched", "part2-epochs3", "part2-epochs6", "u_small", "u_all"}
    assert scored == {Path(setting, "seed0", "greedy") for setting in settings}
    voted = {path.parent.parent.parent.name for path in runs.rglob("votes/run.json")}
    assert voted == {"icl", "sft", "k3", "u_small", "u_all"}
    other = {path.parent.parent.parent.name for path in (runs / "32x1-1M").rglob("greedy/run.json")}
    assert other == {"sft", "icl", "k3"}
    union = json.loads((runs / "unions/u_all.run.json").read_text())["config"]["samples"]
    assert union == [str(runs / name / "samples") for name in ("64x1-1M", "32x1-1M")]


def test_the_largest_subset_of_the_data_is_a_half(folder: Path) -> None:
    train = (folder / "runs/data/train_32.jsonl").read_text().splitlines()
    part = (folder / "runs/data/part2-seed0.jsonl").read_text().splitlines()
    assert len(train) == 32
    assert len(part) == 16
    assert set(part) < set(train)


def test_it_ends_in_a_report(folder: Path) -> None:
    report = (folder / "report.md").read_text()
    assert "64x1-1M" in report
    assert "inconclusive" in report
    assert (folder / "report" / "loss.png").stat().st_size > 1000


def test_a_failed_step_is_named_and_the_script_fails(folder: Path) -> None:
    model = folder / "runs/32x1-1M/sft/seed0"
    (model / "greedy/run.json").unlink()
    (model / "config.json").write_text("{")
    process = start(folder)
    _, errors = process.communicate(timeout=300)
    assert process.returncode != 0
    assert f"error: {model}/greedy: failed: error: " in errors
    assert f"see {model}/greedy.log" in errors

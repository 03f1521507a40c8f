"""Run all of scripts/miniature on tiny sizes, killed once and continued, up to its report."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT, WARM_PYTHON

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("miniature"),  # in one process: the tests share one run
]

SETTINGS = {
    "CUDA_VISIBLE_DEVICES": "", "JOBS": "2",
    "LADDER": "64x1-0.1M 32x1-0.1M", "FRACTIONS_OF": "64x1-0.1M", "RFT_OF": "64x1-0.1M",
    "UNIONS_FOR": "64x1-0.1M", "SMALL": "32x1-0.1M", "KS": "2 1", "PARTS": "2", "SEEDS": "0",
    "N_TRAIN": "16", "N_TEST": "8", "N_VOTE": "4", "N_SHOTS": "2",
}  # fmt: skip


def start(folder: Path) -> subprocess.Popen[str]:
    places = {"RUNS": str(folder / "runs"), "RESULT": str(folder / "report.md")}
    return subprocess.Popen(
        [*map(str, WARM_PYTHON), "bash", str(ROOT / "scripts/miniature/run.sh")],
        env=os.environ | SETTINGS | places, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def finished(runs: Path) -> dict[Path, int]:
    """Return every run.json with the time it was written."""
    return {path: path.stat().st_mtime_ns for path in runs.rglob("*run.json")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run all experiments; kill the run when the first model is scored, and run it again."""
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
    assert {path: after[path] for path in before} == before  # no step was repeated
    for path in before:
        assert f" {path.parent}\n" not in output
    return folder


def test_every_experiment_was_run(folder: Path) -> None:
    runs = folder / "runs"
    base = runs / "64x1-0.1M"
    scored = {path.parent.relative_to(base) for path in base.rglob("greedy/run.json")}
    settings = {f"k{k}{control}" for k in (1, 2) for control in ("", "-no_dedup")}
    settings |= {"k2-rows", "k2-tokens"}  # with one sample there is nothing to choose
    settings |= {"sft", "icl", "sft_matched", "part2-epochs3", "part2-epochs6", "u_small", "u_all"}
    assert scored == {Path(setting, "seed0", "greedy") for setting in settings}
    voted = {path.parent.parent.parent.name for path in runs.rglob("votes/run.json")}
    assert voted == {"icl", "sft", "k2", "u_small", "u_all"}
    other = {
        path.parent.parent.parent.name for path in (runs / "32x1-0.1M").rglob("greedy/run.json")
    }
    assert other == {"sft", "icl", "k2"}
    union = json.loads((runs / "unions/u_all.run.json").read_text())["config"]["samples"]
    assert union == [str(runs / name / "samples") for name in ("64x1-0.1M", "32x1-0.1M")]


def test_part2_is_half_of_the_data(folder: Path) -> None:
    train = (folder / "runs/data/train_16.jsonl").read_text().splitlines()
    part = (folder / "runs/data/part2-seed0.jsonl").read_text().splitlines()
    assert len(train) == 16
    assert len(part) == 8
    assert set(part) < set(train)


def test_it_ends_in_a_report(folder: Path) -> None:
    report = (folder / "report.md").read_text()
    assert "64x1-0.1M" in report
    assert "inconclusive" in report
    assert (folder / "report" / "loss.png").stat().st_size > 1000


def test_a_failed_step_is_named_and_the_script_fails(folder: Path) -> None:
    model = folder / "runs/32x1-0.1M/sft/seed0"
    (model / "greedy/run.json").unlink()
    (model / "config.json").write_text("{")
    process = start(folder)
    _, errors = process.communicate(timeout=300)
    assert process.returncode != 0
    assert f"error: {model}/greedy: failed: error: " in errors
    assert f"see {model}/greedy.log" in errors

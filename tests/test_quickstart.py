"""Run scripts/quickstart.sh with a stand-in for the stages, which writes down what was asked."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

PYTHON = """#!/bin/bash
case "$1" in
-c) dirname "$0"; exit ;;
scripts/quickstart.py) exec REAL "$@" ;;
scripts/*) [ "$1" = scripts/installed_versions.py ] || echo "table of $3 seeds"; exit ;;
esac
echo "$OMP_NUM_THREADS $*" >>calls
previous=
for word in "$@"; do
    [ "$previous" != --output_path ] || { mkdir -p "$(dirname "$word")"; seq 2500 >"$word"; }
    if [[ "$previous $word" = "--output_dir "*"${FAILING:-none}" ]]; then
        echo "error: broken" >&2
        exit 1
    fi
    previous=$word
done
echo "done $previous"
"""


def quickstart(folder: Path, *options: str, **settings: str) -> subprocess.CompletedProcess[str]:
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    shutil.copytree(ROOT / "data/mini", folder / "data/mini")
    python = folder / "bin/python"
    python.parent.mkdir()
    python.write_text(PYTHON.replace("REAL", sys.executable))
    python.chmod(0o755)
    environment = os.environ | {"PYTHON": str(python), "PYTHON_ENV": "system"} | settings
    return subprocess.run(
        ["bash", "scripts/quickstart.sh", *options], cwd=folder, env=environment,
        capture_output=True, text=True,
    )  # fmt: skip


def outputs(folder: Path, script: str) -> set[str]:
    """Return the outputs of all calls of a script, without the folder of all runs."""
    calls = [line for line in (folder / "calls").read_text().splitlines() if script in line]
    assert all(line.startswith("1 ") for line in calls)  # one thread
    found = [re.search(r"--output_(?:dir|path) runs/quickstart/(\S+)", line) for line in calls]
    return {match[1] for match in found if match}


def test_the_default_trains_what_its_table_shows(tmp_path: Path) -> None:
    result = quickstart(tmp_path, "--seeds", "2")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "table of 2 seeds"
    models = {f"seed{seed}/{name}" for seed in (0, 1) for name in ("sft", "sft_matched", "rft_k16")}
    assert outputs(tmp_path, "train.py") == models
    stores = {f"{model}/greedy" for model in models} | {"base/greedy"}
    assert outputs(tmp_path, "sample.py") == stores | {f"seed{seed}/sft/samples" for seed in (0, 1)}
    calls = (tmp_path / "calls").read_text()
    assert "seed1/sft_matched --seed 1 --num_train_epochs 7.5" in calls
    steps = re.findall(r"^== step (\d+) of 17, about \d+ min left: ", result.stderr, re.MULTILINE)
    assert sorted(map(int, steps)) == list(range(1, 18))
    assert re.search(r"^rft_k16: done ", result.stderr, re.MULTILINE)


def test_the_full_one_adds_controls_and_votes(tmp_path: Path) -> None:
    result = quickstart(tmp_path, "--full")
    assert result.returncode == 0, result.stderr
    names = {"sft", "sft_matched", "rft_k4", "rft_k16", "rft_k16_random"}
    assert outputs(tmp_path, "train.py") == {f"seed0/{name}" for name in names}
    votes = {store for store in outputs(tmp_path, "sample.py") if store.endswith("/votes")}
    assert votes == {"seed0/sft/votes", "seed0/rft_k16/votes"}
    steps = re.findall(r"^== step \d+ of (\d+), ", result.stderr, re.MULTILINE)
    assert steps == [str(len(steps))] * len(steps)


@pytest.mark.parametrize("failing", ["seed0/sft", "seed0/sft_matched"])
def test_it_stops_where_a_step_fails(tmp_path: Path, failing: str) -> None:
    result = quickstart(tmp_path, FAILING=failing)
    assert result.returncode == 1
    assert "error: broken" in result.stderr
    assert "table" not in result.stdout
    assert f"{failing}/greedy" not in outputs(tmp_path, "sample.py")

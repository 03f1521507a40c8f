"""Run scripts/real_gpu.sh on the miniature, killed once and continued; check its report."""

import json
import os
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from screl.core.problems import load_problems
from scripts.real_gpu_report import Results, cost_rows, kept_rows, score_rows
from tests.conftest import MINI_MODEL, ROOT, WARM_PYTHON, run_script, write_lines
from tests.test_quickstart_table import make_store

N_TRAIN, N_TEST, K, VOTES = 96, 8, 4, 2
SETTINGS = {
    "MODEL": str(MINI_MODEL), "SEEDS": "1", "K": str(K), "VOTES": str(VOTES),
    "TRAIN_DATA": "data/mini/train.jsonl", "N_TRAIN": str(N_TRAIN),
    "TEST_DATA": "data/mini/test.jsonl", "N_TEST": str(N_TEST),
    "TRAIN": "--num_train_epochs 4 --global_batch_size 4 --learning_rate 2e-3 --precision fp32",
    "SAMPLE": "--engine transformers --precision fp32 --max_new_tokens 96 --batch_size 256",
    "CUDA_VISIBLE_DEVICES": "",
}  # fmt: skip


def start(folder: Path, *options: str, launcher: tuple[object, ...] = ()) -> subprocess.Popen[str]:
    """Start the script in a process group of its own, with its output in ``folder``."""
    places = {"RUNS": str(folder / "runs"), "RESULT": str(folder / "report.md")}
    return subprocess.Popen(
        [*map(str, launcher), "bash", str(ROOT / "scripts/real_gpu.sh"), *options],
        env=os.environ | {"OMP_NUM_THREADS": "1"} | SETTINGS | places,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Return exit status, stdout, and stderr."""
    output, errors = process.communicate(timeout=300)
    return process.returncode, output, errors


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_a_killed_run_continues_and_reports_what_the_stores_hold(tmp_path: Path) -> None:
    process = start(tmp_path, launcher=WARM_PYTHON)
    store = tmp_path / "runs/seed0/sft/samples/samples-0.jsonl"
    while process.poll() is None and not (store.exists() and store.stat().st_size):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    finish(process)
    n_before = store.read_bytes().count(b"\n")
    assert n_before > 0

    status, output, errors = finish(start(tmp_path, "--limit_minutes", "60", launcher=WARM_PYTHON))
    assert status == 0, errors
    assert f"{store.parents[1]}: already trained" in output
    assert f"{store.parent}: {N_TRAIN * K - n_before} samples made, {N_TRAIN * K} are" in output
    check_results(tmp_path)


def check_results(folder: Path) -> None:
    """Count in the stores, by other means, what the report says."""
    runs = folder / "runs"
    samples = read_lines(runs / "seed0/sft/samples/samples-0.jsonl")
    ids = [problem.problem_id for problem in load_problems(runs / "train.jsonl")]
    assert len(ids) == N_TRAIN
    assert Counter(one["problem_id"] for one in samples) == dict.fromkeys(ids, K)
    kept = len(read_lines(runs / "seed0/kept.jsonl")) - N_TRAIN
    assert kept > 0
    report = (folder / "report.md").read_text()
    lines = [line.split() for line in report.splitlines() if line[:1].isalnum()]
    rows = {cells[0]: cells for cells in reversed(lines)}  # of "rft" and "rft - sft" the first
    assert rows["0"][1] == f"{K}.000"
    assert rows["0"][4] == f"{kept / N_TRAIN:.3f}"
    gold = {p.problem_id: p.solution.split("#### ")[1] for p in load_problems(runs / "test.jsonl")}
    right = {}
    for name in ("base", "seed0/sft", "seed0/rft"):
        greedy = read_lines(runs / name / "greedy/samples-0.jsonl")
        assert len(greedy) == N_TEST
        right[name] = sum(
            one["completion"].partition("#### ")[2] == gold[one["problem_id"]] for one in greedy
        )
    assert rows["base"][3] == f"{100 * right['base'] / N_TEST:.1f}"
    assert rows["sft"][1] == str(N_TRAIN)
    assert rows["rft"][1] == str(N_TRAIN + kept)
    for name in ("sft", "rft"):
        assert rows[name][3] == f"{100 * right[f'seed0/{name}'] / N_TEST:.1f}"
    difference = 100 * (right["seed0/rft"] - right["seed0/sft"]) / N_TEST
    assert f"rft - sft     -      -  {difference:+.2f} ±" in report


FAKE_PYTHON = """#!/usr/bin/env bash
case "$*" in
-c*) dirname "$0" ;;
scripts/installed_versions.py*) ;;
*)
    trap 'echo interrupted >>"$0.log"; kill $!; exit 130' INT
    echo "$1" >>"$0.log"
    sleep 100 &
    wait $!
    ;;
esac
"""


def test_the_time_limit_interrupts_the_step_that_is_running(tmp_path: Path) -> None:
    python = write_lines(tmp_path / "python", [FAKE_PYTHON])
    python.chmod(0o755)
    fake = ("env", "PYTHON_ENV=system", f"PYTHON={python}")
    status, _, errors = finish(start(tmp_path, "--limit_minutes", "0.02", launcher=fake))
    assert (status, errors) == (75, "time is up: run the same command again to continue\n")
    assert Path(f"{python}.log").read_text() == "sample.py\ninterrupted\n"


@pytest.mark.parametrize("options", [["--limit_minutes"], ["--limit_minutes", "x"], ["9"]])
def test_a_wrong_option_ends_in_the_usage_line(tmp_path: Path, options: list[str]) -> None:
    status, _, errors = finish(start(tmp_path, *options))
    assert (status, errors) == (2, "usage: bash scripts/real_gpu.sh [--limit_minutes N]\n")


def write_info(path: Path, seconds: float, memory: int | None = None, **results: Any) -> None:
    """Write a run.json of a GPU with a peak of ``memory`` MiB."""
    info = {
        "command": f"make {path.parent.name}",
        "config": {"model_name_or_path": "models/m", "n_samples": 8},
        "git_commit": "abc",
        "versions": {"python": "3.11.7", "torch": "2.11.0"},
        "machine": "x86_64",
        "gpu": "NVIDIA H100" if memory else None,
        "started": f"2026-01-0{int(seconds) % 9 + 1} 00:00:00",
        "seconds": seconds,
        "peak_memory_mib": 700,
        "peak_gpu_memory_mib": memory,
        "results": results,
    }
    path.write_text(json.dumps(info))


def make_seed(folder: Path, number: int, sft: list[int], rft: list[int]) -> None:
    """Write the files of a finished seed in which ``sft`` and ``rft`` solve these test problems."""
    for name, solved in (("sft", sft), ("rft", rft)):
        right = [problem in solved for problem in range(4)]
        make_store(folder / name / "greedy", right)
        write_info(folder / name / "greedy/run.json", 1, 10)
        make_store(folder / name / "votes", right, 8)
        write_info(folder / name / "votes/run.json", 2, 20, tokens_per_second=500.0)
        training = {"n_rows": 10 + number, "n_steps": 5, "tokens_per_second": 1000 + 500 * number}
        memory = {"memory_mib": 30 + number, "predicted_memory_mib": 33}
        write_info(folder / name / "run.json", 5 + number, 40, **training, **memory)
    (folder / "sft/samples").mkdir()
    write_info(folder / "sft/samples/run.json", 3, 50, tokens_per_second=600.0)
    funnel = {"n_sampled": 16, "n_right": 4, "n_distinct": 3, "n_kept": 1}
    filtered = {"n_problems": 4, "runs": [{"funnel": funnel, "solved": {"never": 1}}]}
    write_info(folder / "kept.run.json", 0.4, **filtered)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two seeds; of 4 problems SFT solves 1 and 2, RFT 3 and 3. The third seed is unfinished."""
    row = json.dumps({"query": "q", "response": "#### 7"})
    write_lines(tmp_path / "test.jsonl", [row] * 4)
    write_lines(tmp_path / "train.jsonl", [row] * 2)
    make_store(tmp_path / "base/greedy", [False] * 4)
    write_info(tmp_path / "base/greedy/run.json", 8, 10)
    make_seed(tmp_path / "seed0", 0, [0], [0, 1, 2])
    make_seed(tmp_path / "seed1", 1, [0, 1], [0, 1, 3])
    make_seed(tmp_path / "seed2", 2, [0], [0])
    (tmp_path / "seed2/rft/votes/run.json").unlink()
    return tmp_path


def results_of(root: Path, *seeds: int) -> Results:
    folders = [root / f"seed{seed}" for seed in seeds]
    return Results(root, folders, load_problems(root / "test.jsonl"))


def test_scores_of_two_seeds_and_their_paired_difference(root: Path) -> None:
    base, sft, rft, difference = score_rows(results_of(root, 0, 1))[1:]
    assert base == ["base", "-", "-", "0.0 [0.0, 60.2]", "-", "-", "-"]
    # by problem 1, .5, 0, 0: variance .2292 / 4; seeds .25 and .5: variance .03125 / 2
    assert sft == ["sft", "10", "5", *["37.5 ± 27.0", "25.0 50.0"] * 2]
    # 1, 1, .5, .5: variance .0833 / 4; the seeds do not differ
    assert rft == ["rft", "10", "5", *["75.0 ± 14.4", "75.0 75.0"] * 2]
    # 0, .5, .5, .5: variance .0625 / 4, and SFT's seeds as above: .03125 in all
    shown, each = difference[3:5]
    assert shown.startswith("+37.50 ± 17.68 [")
    assert each == "+50.0 +25.0"
    assert difference[5:] == difference[3:5]


def test_one_seed_has_the_error_over_problems(root: Path) -> None:
    _, sft, _, difference = score_rows(results_of(root, 0))[1:]
    assert sft[3:5] == ["25.0 ± 25.0", "25.0"]
    # 0, 1, 1, 0: variance 1/3, over 4
    assert difference[3].startswith("+50.00 ± 28.87 [+0.0, +100.0]")


def test_paths_and_costs_are_read_from_the_runs(root: Path) -> None:
    results = results_of(root, 0, 1)
    counts = ["4.000", "1.000", "0.750", "0.250", "75.0%"]
    assert kept_rows(results)[1:] == [["0", *counts], ["1", *counts]]
    costs = {stage: cells for stage, *cells in cost_rows(results)[1:]}
    assert costs["train SFT"] == ["6", "1,250", "31", "33"]
    assert costs["sample training problems"] == ["3", "600", "50", "-"]
    assert costs["filter"] == ["0", "-", "700", "-"]
    assert costs["greedy, RFT"] == ["1", "-", "10", "-"]


def test_only_finished_seeds_are_reported(root: Path, tmp_path: Path) -> None:
    result = run_script("scripts/real_gpu_report.py", root, tmp_path / "r/report.md")
    assert result.returncode == 0, result.stderr
    report = (tmp_path / "r/report.md").read_text()
    assert "* seeds: 0 1\n" in report
    assert "* machine: NVIDIA H100; no GPU, x86_64\n" in report
    assert "* date: 2026-01-01 00:00:00 to 2026-01-09 00:00:00" in report
    assert "* versions: python 3.11.7 torch 2.11.0\n" in report
    assert "* commit of the code that ran: abc; of this report: " in report
    assert "# SFT and RFT of models/m\n" in report
    assert "2 training and 4 test problems" in report
    for seed in (0, 1):
        (root / f"seed{seed}/rft/votes/run.json").unlink()
    result = run_script("scripts/real_gpu_report.py", root, "x.md")
    assert result.returncode == 1
    assert result.stderr.startswith(f"error: {root}: no seed is finished; ")

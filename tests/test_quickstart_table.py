"""Check the quickstart's table against stores and run.json files written by hand."""

import json
import shutil
from pathlib import Path

import pytest

import scripts.quickstart_table as table
from screl.samples.store import Sample, SampleWriter, open_store
from tests.conftest import write_lines


def make_store(path: Path, right: list[bool], n_samples: int = 1) -> None:
    open_store(path, {"greedy": n_samples == 1, "n_samples": n_samples}, [])
    with SampleWriter(path) as writer:
        writer.write(
            Sample(i, j, f"#### {7 if is_right else 8}", 3, "stop")
            for i, is_right in enumerate(right)
            for j in range(n_samples)
        )


def write_results(path: Path, **results: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"results": results}))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two seeds; of 4 problems SFT solves 1 and 2, RFT 3 and 3."""
    row = json.dumps({"query": "q", "response": "#### 7"})
    monkeypatch.setattr(table, "TEST", write_lines(tmp_path / "test.jsonl", [row] * 4))
    make_store(tmp_path / "base/greedy", [False] * 4)
    solved = {
        "sft": [[True, False, False, False], [True, True, False, False]],
        "sft_matched": [[True, False, False, False]] * 2,
        "rft_k4": [[True, True, True, False], [True, True, False, True]],
        "rft_k16_random": [[False] * 4] * 2,
        "rft_k16": [[True, False, False, False]] * 2,
    }
    for name, by_seed in solved.items():
        for seed, right in enumerate(by_seed):
            run = tmp_path / f"seed{seed}"
            make_store(run / name / "greedy", right)
            write_results(run / name / "run.json", n_rows=10 + seed, n_steps=5)
    for seed in (0, 1):
        make_store(tmp_path / f"seed{seed}/sft/votes", [True, True, False, False], 8)
        for name in ("rft_k4", "rft_k16", "rft_k16_random"):
            funnel = {"n_sampled": 8, "n_right": 4 + 2 * seed, "n_kept": 2}
            path = tmp_path / f"seed{seed}/{name}.run.json"
            write_results(path, runs=[{"funnel": funnel}], n_problems=2)
    return tmp_path


def test_means_errors_and_paired_differences(root: Path) -> None:
    lines = table.make_table(root, 2).splitlines()
    rows = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines[1:]]
    base, sft, _, rft, random, rft_16 = rows
    assert base[6] == "0.0 [0.0, 60.2]"
    # means over seeds by problem: 1, .5, 0, 0: mean .375, standard error .2394
    assert sft[6:] == ["37.5 ± 23.9", "25.0 50.0", "-", "-", "-", "50.0 ± 28.9"]
    # 1, 1, .5, .5; minus SFT: 0, .5, .5, .5, mean .375, standard error .125
    # minus the control, which solves only the first problem: mean .5, standard error .2041
    assert rft[6:] == ["75.0 ± 14.4", "75.0 75.0", "+37.5 ± 12.5", "+50.0 ± 20.4", "-", "-"]
    assert (random[0], random[-2:]) == ("rft_k16_random", ["-", "-"])
    assert (rft_16[0], rft_16[-2]) == ("rft_k16", "+25.0 ± 25.0")
    assert rft[1:6] == ["10", "5", "4.00", "2.50", "1.00"]


def test_columns_of_what_was_not_run_are_left_out(root: Path) -> None:
    for seed in (0, 1):
        shutil.rmtree(root / f"seed{seed}/rft_k16_random")
        shutil.rmtree(root / f"seed{seed}/sft/votes")
    header = table.make_table(root, 2).splitlines()[0].split("  ")
    names = [name.strip() for name in header if name.strip()]
    assert names[-4:] == ["maj1@1", "each seed", "- sft", "- sft_matched"]


def test_sft_comes_before_rft_and_a_small_k_before_a_large_one() -> None:
    names = ["rft_k16", "rft_k16_random", "sft_matched", "rft_k4", "sft"]
    ordered = ["sft", "sft_matched", "rft_k4", "rft_k16_random", "rft_k16"]
    assert sorted(names, key=table.row_order) == ordered

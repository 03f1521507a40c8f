"""What ``analyze.py cost`` prints and writes."""

import json
import sys
from pathlib import Path

import pytest

import analyze
from screl.analysis.cost import trace
from screl.analysis.cost_report import model_table, published_table, stage_table
from screl.core.io import UserError
from tests.analysis.fake_runs import answer, make_chain, make_store, run_cost
from tests.conftest import run_script


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An RFT model with scores; 20 of 40 problems are solved by SFT, 36 by RFT."""
    monkeypatch.chdir(make_chain(tmp_path))
    for name, n_correct in (("sft", 20), ("rft", 36)):
        answer(tmp_path / name, range(n_correct))
    return tmp_path / "rft"


def cells(table: str) -> list[list[str]]:
    """Return the cells of each row; the first column counts as two."""
    rows = [line.split("  ") for line in table.splitlines()]
    return [[cell.strip() for cell in row if cell.strip()] for row in rows]


def test_stages_with_their_cost(run: Path) -> None:
    root = run.parent
    assert cells(stage_table(trace(run).all_stages().values())) == [
        ["stage", "path", "FLOPs", "tokens", "device hours"],
        ["pretrain", f"{root}/base", "1.0e6", "1,000", "0.017 GPU"],
        ["sft", f"{root}/sft", "2.0e6", "1,000", "0.017 GPU"],
        ["rft_inference", f"{root}/samples (25% of its samples)", "1.0e6", "250", "0.0042 GPU"],
        ["collect", f"{root}/rft.jsonl", "0", "1,000", "0.017 GPU"],
        ["rft_train", f"{root}/rft", "8.0e6", "1,000", "0.017 GPU"],
    ]


def test_models_with_the_cost_per_point(run: Path) -> None:
    rows = [row[2:] for row in cells(model_table(run_cost(run)))]
    assert rows[1:] == [
        ["-"] * 8,
        # standard errors of a share, n - 1
        ["50.0 ± 8.0", "+50.0 ± 8.0", "0", "2.0e6", "2.0e0", "0.017 GPU", "4.0e4", "0.00033 GPU"],
        ["90.0 ± 4.8", "+40.0 ± 7.8", "sft", "9.0e6", "9.0e0", "0.037 GPU", "2.2e5", "0.00094 GPU"],
    ]  # fmt: skip


def test_what_is_unknown_or_not_significant_says_so(run: Path) -> None:
    make_store(run.parent / "samples", run.parent / "sft", None, 120)
    (run.parent / "base/run.json").unlink()
    answer(run, range(20))
    costs = run_cost(run)
    stages = cells(stage_table(trace(run).all_stages().values()))
    assert stages[1][2:] == ["unknown", "-", "-"]
    assert stages[3][2:] == ["not recorded", "-", "-"]
    sft, rft = cells(model_table(costs))[2:]
    assert sft[6] == "-"  # share of an unknown pre-training
    assert rft[3:] == ["+0.0 ± 0.0", "sft", "-", "-", "-", "not significant", "-"]


def test_table_4_with_shares_and_costs_per_point() -> None:
    header, *rows = cells(published_table())
    assert header[:2] == ["LLaMA-7B", "LLaMA2-7B"]
    assert {row[0]: row[1] for row in rows} == {
        "pretrain, FLOPs": "4.2e22",
        "sft, FLOPs": "1.7e17",
        "rft_inference, FLOPs": "1.4e18",
        "rft_train, FLOPs": "3.0e18",
        "pretrain, GPU hours": "82,000",
        "sft, GPU hours": "0.6",
        "rft_inference, GPU hours": "10",
        "rft_train, GPU hours": "9",
        # about 1e-5 and 1e-4 in the paper's text
        "sft of pretrain, FLOPs": "4.0e-6",
        "rft of pretrain, FLOPs": "1.0e-4",
        # 35.9 - 11.0 points for SFT, 49.1 - 35.9 for RFT on U33B
        "sft, FLOPs per point over icl": "6.8e15",
        "sft, GPU hours per point over icl": "0.024",
        "rft, FLOPs per point over sft": "3.3e17",
        "rft, GPU hours per point over sft": "1.44",
    }
    of_65b = {row[0]: row[6] for row in rows}
    assert of_65b["rft, FLOPs per point over sft"] == "not significant"  # 59.7 - 59.3 points


def analyze_cost(monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["analyze.py", "cost", *map(str, words)])
    analyze.main()


def test_the_script_prints_runs_in_order_and_writes_json(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (run.parent / "base/run.json").unlink()
    analyze_cost(monkeypatch, run, run.parent / "sft", "--output_path", "out.json")
    text = capsys.readouterr().out
    places = [text.index(part) for part in (f"{run}\n\n", f"{run.parent}/sft\n\n", "Table 4; ")]
    assert places == sorted(places)
    assert json.loads(Path("out.run.json").read_text())["results"]["cost"]["device"] == "cpu"
    written = json.loads(Path("out.json").read_text())
    found = written["runs"][0]
    assert found["run"] == str(run)
    base, _, inference, *_ = found["stages"]
    assert (base["stage"], base["cost"]) == ("pretrain", None)
    assert (inference["share"], inference["cost"]["flops"]) == (0.25, 1e6)
    assert inference["cost"]["device_seconds"] == 15
    first, _, rft = found["models"]
    assert (first["maj1@1"], first["gain"], first["total"]) == (None, None, None)
    assert rft["maj1@1"]["value"] == 90
    assert rft["gain"].keys() == {"before", "value", "standard_error", "interval"}
    assert (rft["gain"]["before"], rft["gain"]["value"]) == (str(run.parent / "sft"), 40)
    assert rft["total"].keys() == {"flops", "hours", "all_sessions"}
    assert rft["per_point"]["flops"] == rft["total"]["flops"] / 40 == 9e6 / 40
    assert rft["flops_of_pretraining"] is None
    assert len(written["published"]) == 56
    assert written["published"][0] == {
        "model": "LLaMA-7B", "stage": "pretrain", "quantity": "flops", "value": 4.2e22
    }  # fmt: skip


@pytest.mark.parametrize("name", ["rft.json", "rft.jsonl", "sft/run.json", "samples/run.json"])
def test_inputs_are_not_overwritten(run: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.read_bytes() for path in run.parent.rglob("*.json")}
    (run.parent / "rft.jsonl").touch()
    with pytest.raises(UserError, match="is an input"):
        analyze_cost(monkeypatch, run, "--output_path", run.parent / name)
    assert {path: path.read_bytes() for path in run.parent.rglob("*.json")} == before


@pytest.mark.parametrize("words", [[], ["coast"], ["--output_path", "x"]])
def test_a_missing_or_unknown_subcommand_is_status_2(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["analyze.py", *words])
    with pytest.raises(SystemExit) as stop:
        analyze.main()
    assert stop.value.code == 2
    assert "usage: python analyze.py {paper,miniature,cost} ..." in capsys.readouterr().err


def test_a_folder_without_training_is_status_1(tmp_path: Path) -> None:
    result = run_script("analyze.py", "cost", tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith(f"error: {tmp_path}: no run.json of train.py")

"""The ledger's tables and JSON."""

import json
import sys
from pathlib import Path

import pytest

import analyze
from screl.analysis import cost as report
from screl.analysis.cost import Total, make_account
from screl.core.io import UserError
from tests.conftest import run_script
from tests.fake_runs import answer, make_chain, make_store


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An RFT model with scores, as in test_cost_account."""
    monkeypatch.chdir(make_chain(tmp_path))
    for name, n_right in (("sft", 20), ("rft", 36)):
        answer(tmp_path / name, range(n_right))
    return tmp_path / "rft"


def cells(table: str) -> list[list[str]]:
    """Rows of a table as words, the first two being the first column."""
    return [[cell for cell in line.split("  ") if cell.strip()] for line in table.splitlines()]


def test_numbers_are_shown_as_the_paper_prints_them() -> None:
    flops = [report.show_power(value) for value in (0, 1.71e17, 4.2e22, 9.96e9, 4.04e-5)]
    assert flops == ["0", "1.7e17", "4.2e22", "1.0e10", "4.0e-5"]
    assert report.show_hours(Total(0, {"gpu": 1720000.0}, True)) == "1,720,000 GPU"
    both = {"gpu": 12.34, "cpu": 0.00423}
    assert report.show_hours(Total(0, both, False)) == "≥ 12.3 GPU + 0.0042 CPU"


def test_stages_with_what_each_has_cost(run: Path) -> None:
    table = report.stage_table(make_account(run).stages)
    rows = [[cell.strip() for cell in row] for row in cells(table)]
    root = run.parent
    assert rows == [
        ["stage", "what", "FLOPs", "tokens", "device hours"],
        ["pretrain", f"{root}/base", "1.0e6", "1,000", "0.017 GPU"],
        ["sft", f"{root}/sft", "2.0e6", "1,000", "0.017 GPU"],
        ["rft_inference", f"{root}/samples (25% of its samples)", "1.0e6", "250", "0.0042 GPU"],
        ["collect", f"{root}/rft.jsonl", "0", "1,000", "0.017 GPU"],
        ["rft_train", f"{root}/rft", "8.0e6", "1,000", "0.017 GPU"],
    ]


def test_models_with_what_a_point_has_cost(run: Path) -> None:
    table = report.model_table(make_account(run).models)
    rows = [[cell.strip() for cell in row][2:] for row in cells(table)]
    assert rows[1] == ["-"] * 8
    # 20 and 36 of 40: standard errors of a share, n - 1
    assert rows[2] == [
        "50.0 ± 8.0", "+50.0 ± 8.0", "0", "2.0e6", "2.0e0", "0.017 GPU", "4.0e4", "0.00033 GPU",
    ]  # fmt: skip
    assert rows[3] == [
        "90.0 ± 4.8", "+40.0 ± 7.8", "sft", "9.0e6", "9.0e0", "0.037 GPU", "2.2e5", "0.00094 GPU",
    ]  # fmt: skip


def test_chance_has_no_price_and_what_is_missing_is_named(run: Path) -> None:
    make_store(run.parent / "samples", run.parent / "sft", None, 120)
    (run.parent / "base/run.json").unlink()
    answer(run, range(20))
    account = make_account(run)
    stages = cells(report.stage_table(account.stages))
    assert [cell.strip() for cell in stages[1][2:]] == ["not known", "-", "-"]
    assert [cell.strip() for cell in stages[3][2:]] == ["not recorded", "-", "-"]
    sft, rft = cells(report.model_table(account.models))[2:]
    assert sft[6].strip() == "-"  # of a pre-training that is not known
    assert [cell.strip() for cell in rft[3:]] == [
        "+0.0 ± 0.0", "sft", "-", "-", "-", "not told from 0", "-"
    ]  # fmt: skip


def test_table_4_with_the_shares_of_pre_training_and_the_price_of_a_point() -> None:
    header, *rows = cells(report.published_table())
    assert [cell.strip() for cell in header][:2] == ["LLaMA-7B", "LLaMA2-7B"]
    of = {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}
    first = {name: values[0] for name, values in of.items()}
    assert first == {
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
        "sft, FLOPs a point over icl": "6.8e15",
        "sft, GPU hours a point over icl": "0.024",
        "rft, FLOPs a point over sft": "3.3e17",
        "rft, GPU hours a point over sft": "1.44",
    }
    # 59.7 - 59.3 points for the 65B
    assert of["rft, FLOPs a point over sft"][5] == "not told from 0"


def test_runs_come_one_after_the_other_before_what_is_published(run: Path) -> None:
    accounts = [make_account(run), make_account(run.parent / "sft")]
    text = report.cost_report(accounts)
    places = [text.index(part) for part in (f"{run}\n\n", f"{run.parent}/sft\n\n", "Table 4; ")]
    assert places == sorted(places)
    assert report.stage_table(accounts[1].stages) in text


def analyse(monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["analyze.py", *map(str, words)])
    analyze.main()


def test_the_same_as_json(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (run.parent / "base/run.json").unlink()
    analyse(monkeypatch, "cost", run, "--output_path", "out.json")
    assert f"{run}\n" in capsys.readouterr().out
    assert json.loads(Path("out.run.json").read_text())["results"]["cost"]["device"] == "cpu"
    (found,) = json.loads(Path("out.json").read_text())["runs"]
    assert found["run"] == str(run)
    base, _, inference, *_ = found["stages"]
    assert (base["stage"], base["cost"]) == ("pretrain", None)
    assert (inference["share"], inference["cost"]["flops"]) == (0.25, 1e6)
    assert inference["cost"]["device_seconds"] == 15
    first, _, rft = found["models"]
    assert (first["maj1@1"], first["gain"], first["total"]) == (None, None, None)
    assert rft["maj1@1"]["value"] == 90
    assert (rft["gain"]["before"], rft["gain"]["value"]) == (str(run.parent / "sft"), 40)
    assert rft["per_point"]["flops"] == rft["total"]["flops"] / 40 == 9e6 / 40
    assert rft["flops_of_pretraining"] is None
    rows = report.accounts_to_json([])["published"]
    assert rows[0] == {
        "model": "LLaMA-7B", "stage": "pretrain", "quantity": "flops", "value": 4.2e22
    }  # fmt: skip
    assert len(rows) == 56


@pytest.mark.parametrize("name", ["rft.json", "rft.jsonl", "sft/run.json", "samples/run.json"])
def test_nothing_that_is_read_is_overwritten(
    run: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in run.parent.rglob("*.json")}
    (run.parent / "rft.jsonl").touch()
    with pytest.raises(UserError, match="is an input"):
        analyse(monkeypatch, "cost", run, "--output_path", run.parent / name)
    assert {path: path.read_bytes() for path in run.parent.rglob("*.json")} == before


@pytest.mark.parametrize("words", [[], ["coast"], ["--output_path", "x"]])
def test_a_missing_or_wrong_first_word_is_status_2(words: list[str]) -> None:
    result = run_script("analyze.py", *words)
    assert result.returncode == 2
    assert result.stderr == "usage: python analyze.py {paper,miniature,cost} ..., or --help\n"


def test_what_is_no_trained_model_is_one_line_and_status_1(tmp_path: Path) -> None:
    result = run_script("analyze.py", "cost", tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith(f"error: {tmp_path}: no run.json of train.py")

"""Run the whole pipeline on the miniature: SFT -> samples -> filter -> RFT -> scores -> cost."""

import json
import re
import sys
from pathlib import Path

import pytest

import analyze
import collect_rejection_sampling
import eval as eval_script
import sample
import train
from screl.core.problems import load_problems
from screl.grading.equations import equation_path
from tests.conftest import MINI_MODEL, ROOT, run_script, write_lines


def run(monkeypatch: pytest.MonkeyPatch, script, *argv: object) -> None:
    monkeypatch.setattr(sys, "argv", [script.__name__, *map(str, argv)])
    script.main()


def fine_tune(monkeypatch: pytest.MonkeyPatch, data: Path, output: Path) -> None:
    run(monkeypatch, train, "--config", ROOT / "configs/train/mini.yaml", "--data_path", data,
        "--output_dir", output, "--num_train_epochs", 4, "--global_batch_size", 8,
        "--model_name_or_path", MINI_MODEL)  # fmt: skip


def draw(monkeypatch: pytest.MonkeyPatch, model: Path, data: Path, *argv: object) -> None:
    run(monkeypatch, sample, "--config", ROOT / "configs/sample/mini.yaml", "--data_path", data,
        "--model_name_or_path", model, *argv)  # fmt: skip


@pytest.mark.slow
def test_every_stage_feeds_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (ROOT / "data/mini/train.jsonl").read_text().splitlines()
    data = write_lines(tmp_path / "train.jsonl", lines[:120])
    asked = write_lines(tmp_path / "asked.jsonl", lines[:24])
    test = write_lines(
        tmp_path / "test.jsonl", (ROOT / "data/mini/test.jsonl").read_text().splitlines()[:16]
    )
    fine_tune(monkeypatch, data, tmp_path / "sft")
    draw(monkeypatch, tmp_path / "sft", asked, "--output_dir", tmp_path / "s", "--n_samples", 6)
    rft = tmp_path / "rft.jsonl"
    run(monkeypatch, collect_rejection_sampling, "--data_path", asked, "--samples", tmp_path / "s",
        "--output_path", rft)  # fmt: skip
    check_rft_rows(rft, asked)
    fine_tune(monkeypatch, rft, tmp_path / "rft")
    greedy = tmp_path / "rft/greedy"
    draw(monkeypatch, tmp_path / "rft", test, "--output_dir", greedy, "--greedy")
    draw(monkeypatch, tmp_path / "rft", test, "--output_dir", tmp_path / "v", "--n_samples", 3)
    capsys.readouterr()
    run(monkeypatch, eval_script, greedy, tmp_path / "v", "--data_path", test,
        "--output_path", tmp_path / "metrics.json")  # fmt: skip
    check_scores(tmp_path, test, capsys.readouterr().out)
    run(monkeypatch, analyze, "cost", tmp_path / "rft", "--output_path", tmp_path / "cost.json")
    check_cost(tmp_path, capsys.readouterr().out)


def check_rft_rows(rft: Path, asked: Path) -> None:
    rows = [json.loads(line) for line in rft.read_text().splitlines()]
    problems = load_problems(asked)
    results = json.loads(rft.with_suffix(".run.json").read_text())["results"]
    assert len(rows) == len(problems) + results["runs"][0]["funnel"]["n_kept"] > len(problems)
    assert [row for row in rows if row["response"] in {p.solution for p in problems}]
    paths: dict[str, list[str]] = {}
    for row in rows:
        paths.setdefault(row["query"], []).append(equation_path(row["response"]))
    assert list(paths) == [problem.question for problem in problems]
    assert all(len(set(of_one)) == len(of_one) for of_one in paths.values())


def check_scores(folder: Path, test: Path, shown: str) -> None:
    greedy, voted = json.loads((folder / "metrics.json").read_text())
    gold = {p.problem_id: p.solution.split("#### ")[1] for p in load_problems(test)}
    stored = map(json.loads, (folder / "rft/greedy/samples-0.jsonl").read_text().splitlines())
    right = [
        made for made in stored
        if made["completion"].partition("#### ")[2] == gold[made["problem_id"]]
    ]  # fmt: skip
    assert greedy["metrics"]["maj1@1"]["n_correct"] == len(right)
    assert greedy["metrics"]["maj1@1"]["value"] == pytest.approx(100 * len(right) / 16)
    # "±", or an exact interval if all problems score the same: the score of this tiny model depends
    # on the machine's floating point
    assert re.search(rf"\b{100 * len(right) / 16:.1f} [±\[]", shown)
    assert set(voted["metrics"]) == {"mean@1", "maj1@2", "pass@2", "maj1@3", "pass@3"}
    assert voted["metrics"]["pass@3"]["value"] >= voted["metrics"]["mean@1"]["value"]


def check_cost(folder: Path, shown: str) -> None:
    (found,) = json.loads((folder / "cost.json").read_text())["runs"]
    pretrain, *stages = found["stages"]
    assert (pretrain["stage"], pretrain["path"]) == ("pretrain", str(MINI_MODEL))
    paths = {
        "sft": "sft", "rft_inference": "s", "collect": "rft.jsonl", "rft_train": "rft",
    }  # fmt: skip
    assert {one["stage"]: one["path"] for one in stages} == {
        name: str(folder / path) for name, path in paths.items()
    }
    costs = {one["stage"]: one["cost"] for one in stages}
    assert all(cost["device_seconds"] > 0 and cost["all_sessions"] for cost in costs.values())
    n = 787_584 - 768 * 128  # weights outside the embedding, which is also the head
    for name in ("sft", "rft_train"):
        assert costs[name]["flops"] == 6 * n * costs[name]["tokens"] > 0
    # 2 n per token that is run, plus attention; the last token of a sample is not run
    assert 1.66 < costs["rft_inference"]["flops"] / n / costs["rft_inference"]["tokens"] < 2.3
    *_, rft = found["models"]
    metrics = json.loads((folder / "metrics.json").read_text())[0]["metrics"]
    assert rft["maj1@1"]["value"] == metrics["maj1@1"]["value"]
    assert rft["total"]["flops"] == pytest.approx(
        costs["rft_inference"]["flops"] + costs["rft_train"]["flops"]
    )
    assert re.search(rf"^rft_train +{folder}/rft ", shown, re.MULTILINE)


@pytest.mark.parametrize(
    "arguments", [["--seeds"], ["--seeds", "0"], ["--full", "--seeds", "x"], ["--sedes", "2"]]
)
def test_the_quickstart_refuses_a_wrong_option(arguments: list[str]) -> None:
    result = run_script("scripts/quickstart.sh", *arguments, launcher=("bash",))
    assert result.returncode == 2
    assert "usage: bash scripts/quickstart.sh [-h] [--seeds SEEDS] [--full]\n" in result.stderr

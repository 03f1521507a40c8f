"""Stages behind a model and what they cost, from run.json files and greedy samples made by hand."""

import json
import shutil
from pathlib import Path

import pytest

from screl.analysis.cost import ModelCost, Stage, Total, model_costs, trace
from screl.core.cost import Cost
from screl.core.io import UserError
from screl.samples.store import MANIFEST
from tests.analysis.fake_runs import N_PROBLEMS as N
from tests.analysis.fake_runs import (
    answer,
    cost,
    make_chain,
    make_data,
    make_model,
    make_store,
    run_cost,
    write_info,
)
from tests.conftest import write_lines


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_chain(tmp_path)


@pytest.fixture
def scored(root: Path) -> Path:
    """The base model solves 2 of 40 problems, SFT 20, and RFT 36, each those of the one before."""
    for name, n_correct in (("base", 2), ("sft", 20), ("rft", 36)):
        answer(root / name, range(n_correct))
    return root


def trace_stages(model: Path) -> list[Stage]:
    return list(trace(model).all_stages().values())


def names(stages: list[Stage]) -> list[str]:
    return [f"{stage.name} {stage.path.name}" for stage in stages]


def gains(costs: list[ModelCost]) -> list[tuple[str, float] | None]:
    return [
        model.gain and (model.before.name if model.before else "0", model.gain.value)
        for model in costs
    ]


def test_a_model_is_traced_back_to_its_base(root: Path) -> None:
    base = Stage("pretrain", root / "base", cost(1e6))
    sft = Stage("sft", root / "sft", cost(2e6), (base,))
    assert trace_stages(root / "sft") == [base, sft]
    stages = trace_stages(root / "rft")
    assert names(stages) == [
        "pretrain base", "sft sft", "rft_inference samples", "collect rft.jsonl", "rft_train rft",
    ]  # fmt: skip
    assert stages[3].cost == cost(0.0)
    assert stages[4] == Stage("rft_train", root / "rft", cost(8e6), (base, stages[3]))
    assert (stages[3].inputs, stages[2].inputs) == ((stages[2],), (sft,))


def test_only_samples_that_were_used_are_charged(root: Path) -> None:
    stage = trace_stages(root / "rft")[2]
    assert (stage.share, stage.cost) == (0.25, Cost("gpu", 15.0, flops=1e6, tokens=250))
    make_data(root / "rft.jsonl", {root / "samples": 120})
    assert trace_stages(root / "rft")[2].cost == cost(4e6)
    make_data(root / "rft.jsonl", {root / "samples": 121})  # a killed session made one more
    stage = trace_stages(root / "rft")[2]
    assert (stage.share, stage.cost) == (1.0, None)
    make_store(root / "samples", root / "sft", 0.0, 0)
    make_data(root / "rft.jsonl", {root / "samples": 0})
    assert trace_stages(root / "rft")[2].cost == cost(0.0)


def test_samples_of_several_models_bring_their_stages_once(root: Path) -> None:
    make_model(root / "sft_2", root / "base_2", root / "solutions.jsonl", 3e6)
    make_store(root / "samples_2", root / "sft_2", 5e6, 10)
    make_data(root / "rft.jsonl", {root / "samples": 120, root / "samples_2": 10})
    stages = trace_stages(root / "rft")
    assert names(stages) == [
        "pretrain base", "sft sft", "rft_inference samples",
        "pretrain base_2", "sft sft_2", "rft_inference samples_2", "collect rft.jsonl",
        "rft_train rft",
    ]  # fmt: skip
    assert stages[3].cost is None  # this base model records nothing
    assert [store.base for store in stages[-2].inputs] == [stages[1], stages[4]]


def test_samples_of_another_program_end_the_trace(root: Path) -> None:
    (root / "raw.jsonl").write_text("{}\n")
    make_data(root / "rft.jsonl", {root / "raw.jsonl": 30, root / "published": 30})
    assert names(trace_stages(root / "rft")) == [
        "pretrain base", "rft_inference raw.jsonl", "rft_inference published",
        "collect rft.jsonl", "rft_train rft",
    ]  # fmt: skip
    write_info(root / "solutions.run.json", {"samples": ["a"]}, a={"share_cut_off": 0.1})
    assert names(trace_stages(root / "sft")) == ["pretrain base", "sft sft"]  # not a filter's


def test_reused_folders_do_not_make_a_cycle(root: Path) -> None:
    make_model(root / "same", root / "same", root / "solutions.jsonl")
    assert names(trace_stages(root / "same")) == ["sft same"]
    for name, other in ("ab", "bc", "ca"):
        make_model(root / name, root / other, root / "solutions.jsonl")
        make_model(root / (2 * name), root / "base", root / f"{name}.jsonl")
        make_store(root / f"{name}s", root / (2 * other), 1e6, 5)
        make_data(root / f"{name}.jsonl", {root / f"{name}s": 5})
    assert names(trace_stages(root / "a")) == ["sft c", "sft b", "sft a"]
    for name in ("same", "a"):  # the base of such a model is any of them, and the search ends
        assert run_cost(root / name)[-1].stage.path == root / name
    assert names(trace_stages(root / "aa")) == [
        "pretrain base", "rft_inference cs", "collect c.jsonl", "rft_train cc",
        "rft_inference bs", "collect b.jsonl", "rft_train bb",
        "rft_inference as", "collect a.jsonl", "rft_train aa",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["base", "none", "samples"])
def test_what_was_not_trained_is_refused(root: Path, name: str) -> None:
    with pytest.raises(UserError, match=f"{name}: no run.json of train.py"):
        trace_stages(root / name)


def test_models_are_charged_beyond_the_previous_one(scored: Path) -> None:
    costs = run_cost(scored / "rft")
    assert [model.stage.name for model in costs] == ["pretrain", "sft", "rft_train"]
    base, sft, rft = costs
    assert (base.total, base.gain, base.share_of_pretraining) == (None, None, None)
    minute = {"gpu": pytest.approx(60 / 3600)}
    assert (sft.total, sft.share_of_pretraining) == (Total(2e6, minute, True), 2)
    # a quarter of the samples, the filter, and the training
    assert rft.total == Total(1e6 + 8e6, {"gpu": pytest.approx(135 / 3600)}, True)
    assert rft.share_of_pretraining == 9
    assert [model.total for model in run_cost(scored / "sft")] == [None, sft.total]


def test_gains_are_paired_and_have_a_cost_per_point(scored: Path) -> None:
    costs = run_cost(scored / "rft")
    assert gains(costs) == [None, ("base", 45.0), ("sft", 40.0)]
    rft = costs[2]
    # 16 of 40 differences are 1: standard deviation sqrt(.4 * .6 * 40 / 39)
    assert rft.gain.standard_error == pytest.approx(100 * (0.24 / 39) ** 0.5)
    assert rft.per_point.flops == 9e6 / 40
    assert rft.per_point.hours == {"gpu": pytest.approx(135 / 3600 / 40)}
    assert rft.score.metrics["maj1@1"].value == 90.0


def test_gpu_and_cpu_hours_stay_separate(scored: Path) -> None:
    run_json = scored / "rft.run.json"
    info = json.loads(run_json.read_text())
    info["results"]["cost"] |= {"device": "cpu", "device_seconds": 36, "all_sessions": False}
    run_json.write_text(json.dumps(info))
    rft = run_cost(scored / "rft")[2]
    assert rft.total == Total(9e6, {"gpu": pytest.approx(75 / 3600), "cpu": 0.01}, False)
    assert rft.per_point.all_sessions is False


def test_an_unrecorded_stage_makes_the_total_unknown(scored: Path) -> None:
    make_store(scored / "samples", scored / "sft", None, 120)
    _, sft, rft = run_cost(scored / "rft")
    assert sft.total is not None
    assert (rft.total, rft.share_of_pretraining, rft.per_point) == (None, None, None)
    assert rft.gain is not None
    write_info(scored / "base/run.json", {"steps": 0}, 0.0)  # pre-training that cost nothing
    assert run_cost(scored / "sft")[1].share_of_pretraining is None


def test_only_sft_of_a_base_model_gains_over_0(scored: Path) -> None:
    (scored / "base/greedy" / MANIFEST).unlink()
    assert gains(run_cost(scored / "rft")) == [None, ("0", 50.0), ("sft", 40.0)]
    (scored / "sft/greedy" / MANIFEST).unlink()
    assert gains(run_cost(scored / "rft")) == [None, None, None]
    make_model(scored / "more", scored / "sft", scored / "solutions.jsonl", 2e6)
    answer(scored / "more", range(30))
    assert gains(run_cost(scored / "more")) == [None, None, None]


def move_samples(model: Path, store: Path) -> Path:
    store.parent.mkdir(exist_ok=True)
    (model / "greedy").rename(store)
    manifest = json.loads((store / MANIFEST).read_text())
    (store / MANIFEST).write_text(json.dumps(manifest | {"model_name_or_path": str(model)}))
    return store


def test_samples_beside_the_model_or_given_are_found(
    scored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    beside = move_samples(scored / "rft", scored / "scores" / "rft_greedy")
    expected = [None, ("base", 45.0), ("sft", 40.0)]
    assert gains(run_cost(scored / "rft")) == expected
    assert capsys.readouterr().err == f"{scored / 'rft'}: accuracy from {beside}\n"
    far = scored.parent / f"{scored.name}_elsewhere"
    far.mkdir()
    given = Path(shutil.move(beside, far / "deep"))
    assert gains(run_cost(scored / "rft"))[-1] is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{scored / 'rft'}: no accuracy; its greedy samples were sought in ")
    assert f"{scored / 'rft/greedy'}, {scored}, found: none" in line
    for samples in (far, given):
        assert gains(model_costs(trace(scored / "rft"), [samples])) == expected
    shutil.copytree(given, far / "again")
    assert gains(model_costs(trace(scored / "rft"), [far]))[-1] is None
    assert f"found: {far / 'again'}, {given}" in capsys.readouterr().err


def test_an_insignificant_gain_has_no_cost_per_point(scored: Path) -> None:
    answer(scored / "sft", range(N))
    answer(scored / "rft", range(1, N))
    costs = run_cost(scored / "rft")
    assert gains(costs) == [None, ("base", 95.0), ("sft", -2.5)]
    assert [model.per_point is None for model in costs] == [True, False, True]


def test_scores_on_other_problems_are_not_compared(scored: Path) -> None:
    answer(scored / "sft", range(20), "other.jsonl")
    costs = run_cost(scored / "rft")
    assert gains(costs) == [None, None, None]
    assert all(model.score for model in costs)


def test_incomplete_samples_are_not_scored(
    scored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (scored / "sft/greedy/samples-0.jsonl").read_text().splitlines()
    write_lines(scored / "sft/greedy/samples-0.jsonl", lines[1:])
    scores = [model.score for model in run_cost(scored / "rft")]
    assert [score is not None for score in scores] == [True, False, True]
    assert "sft/greedy: 1 of 40 samples are missing" in capsys.readouterr().err


@pytest.mark.parametrize("changes", [{"greedy": False}, {"data_sha256": "of other rows"}])
def test_samples_not_greedy_or_of_other_data_are_not_scored(
    scored: Path, changes: dict[str, object]
) -> None:
    manifest = scored / "sft/greedy" / MANIFEST
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | changes))
    scores = [model.score for model in run_cost(scored / "rft")]
    assert [score is not None for score in scores] == [True, False, True]


def test_rft_is_compared_with_the_sampled_model_of_its_base(scored: Path) -> None:
    make_model(scored / "other", scored / "base_2", scored / "solutions.jsonl", 3e6)
    make_store(scored / "samples_2", scored / "other", 5e6, 10)
    answer(scored / "other", range(30))
    make_data(scored / "rft.jsonl", {scored / "samples_2": 10, scored / "samples": 120})
    rft = run_cost(scored / "rft")[-1]
    assert rft.before == scored / "sft"
    # its own samples, the other model's training and samples, and the training
    assert rft.total.flops == 4e6 + 3e6 + 5e6 + 8e6
    make_data(scored / "rft.jsonl", {scored / "samples_2": 10})
    rft = run_cost(scored / "rft")[-1]
    assert (rft.gain, rft.per_point, rft.total.flops) == (None, None, 3e6 + 5e6 + 8e6)
    make_store(scored / "samples_2", scored / "rft", 4e6, 10)  # sampled from itself
    rft = run_cost(scored / "rft")[-1]
    assert (rft.gain, rft.total.flops) == (None, 12e6)


def test_training_that_continues_from_the_sampled_model(scored: Path) -> None:
    make_model(scored / "rft", scored / "sft", scored / "rft.jsonl", 8e6)
    rft = run_cost(scored / "rft")[-1]
    assert rft.before == scored / "sft"
    assert rft.total == Total(9e6, {"gpu": pytest.approx(135 / 3600)}, True)
    assert rft.share_of_pretraining == 9

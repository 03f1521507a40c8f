"""Which stages made a model, from run.json files and manifests made by hand."""

from pathlib import Path

import pytest

from screl.analysis.cost import Stage, trace
from screl.core.cost import Cost, DeviceTime
from screl.core.io import UserError
from tests.fake_runs import cost, make_chain, make_data, make_model, make_store, write_info


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_chain(tmp_path)


def names(stages: list[Stage]) -> list[str]:
    return [f"{stage.name} {stage.path.name}" for stage in stages]


def test_a_model_is_followed_back_to_solutions_and_base(root: Path) -> None:
    assert trace(root / "sft") == [
        Stage("pretrain", root / "base", cost(1e6)),
        Stage("sft", root / "sft", cost(2e6), base=root / "base"),
    ]
    stages = trace(root / "rft")
    assert names(stages) == [
        "pretrain base", "sft sft", "rft_inference samples", "collect rft.jsonl", "rft_train rft",
    ]  # fmt: skip
    assert stages[1] == trace(root / "sft")[1]
    assert stages[3].cost == cost(0.0)
    assert [stage.share for stage in stages] == [1.0, 1.0, 0.25, 1.0, 1.0]
    assert stages[4] == Stage(
        "rft_train", root / "rft", cost(8e6), base=root / "base", sampled=(root / "sft",)
    )


def test_samples_that_were_not_used_are_not_paid_for(root: Path) -> None:
    stage = trace(root / "rft")[2]
    assert stage.share == 0.25
    assert stage.cost == Cost(1e6, 250, DeviceTime("gpu", 15.0))
    make_data(root / "rft.jsonl", {root / "samples": 120})
    assert trace(root / "rft")[2].cost == cost(4e6)
    make_data(root / "rft.jsonl", {root / "samples": 121})  # one was made by a killed session
    assert trace(root / "rft")[2] == Stage("rft_inference", root / "samples", None, 1.0)


def test_of_an_empty_store_all_was_used(root: Path) -> None:
    make_store(root / "samples", root / "sft", 0.0, 0)
    make_data(root / "rft.jsonl", {root / "samples": 0})
    assert trace(root / "rft")[2].cost == cost(0.0)
    make_store(root / "samples", root / "sft", None, 0)
    assert trace(root / "rft")[2].cost is None


def test_samples_of_several_models_bring_all_that_these_needed_once(root: Path) -> None:
    make_model(root / "sft_2", root / "base_2", root / "solutions.jsonl", 3e6)
    make_store(root / "samples_2", root / "sft_2", 5e6, 10)
    make_data(root / "rft.jsonl", {root / "samples": 120, root / "samples_2": 10})
    stages = trace(root / "rft")
    assert names(stages) == [
        "pretrain base", "sft sft", "rft_inference samples",
        "pretrain base_2", "sft sft_2", "rft_inference samples_2", "collect rft.jsonl",
        "rft_train rft",
    ]  # fmt: skip
    assert stages[3].cost is None  # a base model that says nothing
    assert stages[-1].sampled == (root / "sft", root / "sft_2")


def test_what_records_no_cost_is_there_without_one(root: Path) -> None:
    make_model(root / "sft", root / "base", root / "solutions.jsonl")
    make_store(root / "samples", root / "sft", None, 120)
    make_data(root / "rft.jsonl", {root / "samples": 30}, None)
    (root / "base/run.json").unlink()
    costs = [stage.cost for stage in trace(root / "rft")]
    assert costs == [None, None, None, None, cost(8e6)]


def test_samples_of_another_program_end_the_way_back(root: Path) -> None:
    (root / "raw.jsonl").write_text("{}\n")
    make_data(root / "rft.jsonl", {root / "raw.jsonl": 30, root / "published": 30})
    assert names(trace(root / "rft")) == [
        "pretrain base", "rft_inference raw.jsonl", "rft_inference published",
        "collect rft.jsonl", "rft_train rft",
    ]  # fmt: skip


def test_scores_beside_the_data_are_no_filter(root: Path) -> None:
    write_info(root / "solutions.run.json", {"samples": ["a"]}, a={"share_cut_off": 0.1})
    assert names(trace(root / "sft")) == ["pretrain base", "sft sft"]


def test_a_model_that_seems_made_of_its_own_samples_is_still_followed(root: Path) -> None:
    make_store(root / "samples", root / "rft", 4e6, 120)
    assert names(trace(root / "rft"))[-1] == "rft_train rft"


def test_folders_that_were_used_again_do_not_lead_round_in_circles(root: Path) -> None:
    make_model(root / "same", root / "same", root / "solutions.jsonl")
    assert names(trace(root / "same")) == ["sft same"]
    for name, other in ("ab", "bc", "ca"):
        make_model(root / name, root / other, root / "solutions.jsonl")
        make_model(root / (2 * name), root / "base", root / f"{name}.jsonl")
        make_store(root / f"{name}s", root / (2 * other), 1e6, 5)
        make_data(root / f"{name}.jsonl", {root / f"{name}s": 5})
    assert names(trace(root / "a")) == ["sft c", "sft b", "sft a"]
    assert names(trace(root / "aa")) == [
        "pretrain base", "rft_inference cs", "collect c.jsonl", "rft_train cc",
        "rft_inference bs", "collect b.jsonl", "rft_train bb",
        "rft_inference as", "collect a.jsonl", "rft_train aa",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["base", "none", "samples"])
def test_what_was_not_trained_is_refused(root: Path, name: str) -> None:
    with pytest.raises(UserError, match=f"{name}: no run.json of train.py"):
        trace(root / name)

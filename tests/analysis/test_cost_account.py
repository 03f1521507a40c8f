"""What models have cost and gained, of run.json files and greedy samples made by hand."""

import json
from pathlib import Path

import pytest

from screl.analysis.cost import Account, Gain, Total, make_account, per_point
from screl.samples.store import MANIFEST
from screl.scoring.statistics import same_score_interval
from tests.conftest import write_lines
from tests.fake_runs import N_PROBLEMS as N
from tests.fake_runs import answer, make_chain, make_data, make_model, make_store, write_info


@pytest.fixture
def scored(tmp_path: Path) -> Path:
    """Of 40 problems the base model solves 2, SFT 20, RFT 36 that include those."""
    root = make_chain(tmp_path)
    for name, n_right in (("base", 2), ("sft", 20), ("rft", 36)):
        answer(root / name, range(n_right))
    return root


def gains(account: Account) -> list[tuple[str, float] | None]:
    return [
        model.gain and (model.gain.before.name if model.gain.before else "0", model.gain.value)
        for model in account.models
    ]


def test_every_model_is_paid_for_since_the_one_before_it(scored: Path) -> None:
    account = make_account(scored / "rft")
    assert [model.stage.name for model in account.models] == ["pretrain", "sft", "rft_train"]
    base, sft, rft = account.models
    assert (base.total, base.gain, base.of_pretraining) == (None, None, None)
    minute = {"gpu": pytest.approx(60 / 3600)}
    assert sft.total == (2e6, minute, True)
    assert sft.of_pretraining == 2
    # a quarter of the samples, the filter, the training
    assert rft.total == (1e6 + 8e6, {"gpu": pytest.approx(135 / 3600)}, True)
    assert rft.of_pretraining == 9
    alone = make_account(scored / "sft").models
    assert [model.total for model in alone] == [None, sft.total]


def test_points_are_paired_and_a_point_has_a_price(scored: Path) -> None:
    account = make_account(scored / "rft")
    assert gains(account) == [None, ("base", 45.0), ("sft", 40.0)]
    rft = account.models[2]
    # 16 of 40 differences are 1: standard deviation sqrt(.4 * .6 * 40 / 39)
    assert rft.gain.standard_error == pytest.approx(100 * (0.24 / 39) ** 0.5)
    assert per_point(rft).flops == 9e6 / 40
    assert per_point(rft).hours == {"gpu": pytest.approx(135 / 3600 / 40)}
    assert rft.score.metrics["maj1@1"].value == 90.0


def test_the_cost_of_gpus_and_processors_is_not_mixed(scored: Path) -> None:
    run_json = scored / "rft.run.json"
    info = json.loads(run_json.read_text())
    info["results"]["cost"] |= {"device": "cpu", "device_seconds": 36, "all_sessions": False}
    run_json.write_text(json.dumps(info))
    rft = make_account(scored / "rft").models[2]
    hours = {"gpu": pytest.approx(75 / 3600), "cpu": 0.01}
    assert rft.total == (9e6, hours, False)
    assert per_point(rft).all_sessions is False


def test_a_stage_that_is_not_recorded_makes_the_sum_unknown(scored: Path) -> None:
    make_store(scored / "samples", scored / "sft", None, 120)
    account = make_account(scored / "rft")
    assert account.models[1].total is not None
    rft = account.models[2]
    assert (rft.total, rft.of_pretraining, per_point(rft)) == (None, None, None)
    assert rft.gain is not None


def test_without_a_score_of_the_base_model_sft_gains_over_0(scored: Path) -> None:
    (scored / "base/greedy" / MANIFEST).unlink()
    assert gains(make_account(scored / "rft")) == [None, ("0", 50.0), ("sft", 40.0)]
    (scored / "sft/greedy" / MANIFEST).unlink()
    assert gains(make_account(scored / "rft")) == [None, None, None]  # never RFT over 0


def test_a_gain_that_chance_explains_has_no_price(scored: Path) -> None:
    answer(scored / "sft", range(N))
    answer(scored / "rft", range(1, N))
    (scored / "base/greedy" / MANIFEST).unlink()
    account = make_account(scored / "rft")
    assert gains(account) == [None, ("0", 100.0), ("sft", -2.5)]
    assert per_point(account.models[1]) is not None
    assert per_point(account.models[2]) is None
    nothing = Gain(None, 0.0, 0.0, same_score_interval(0.0, N))
    assert not nothing.is_told_from_0
    assert Gain(None, 2.0, 0.8, (0.4, 3.6)).is_told_from_0


def test_only_sft_of_a_base_model_gains_over_0(scored: Path) -> None:
    (scored / "base/greedy" / MANIFEST).unlink()
    (scored / "sft/greedy" / MANIFEST).unlink()
    make_model(scored / "more", scored / "sft", scored / "solutions.jsonl", 2e6)
    answer(scored / "more", range(30))
    assert gains(make_account(scored / "more")) == [None, None, None]
    make_store(scored / "samples", scored / "base", 4e6, 30)
    assert gains(make_account(scored / "rft")) == [None, None]


def test_a_model_of_its_own_samples_has_none_before_it(scored: Path) -> None:
    make_store(scored / "samples", scored / "rft", 4e6, 30)
    rft = make_account(scored / "rft").models[-1]
    assert (rft.gain, rft.total.flops) == (None, 12e6)


def test_of_pre_training_that_cost_nothing_there_is_no_share(scored: Path) -> None:
    write_info(scored / "base/run.json", {"steps": 0}, 0.0)
    assert [model.of_pretraining for model in make_account(scored / "rft").models] == [None] * 3


def test_scores_of_other_problems_are_not_subtracted(scored: Path) -> None:
    answer(scored / "sft", range(20), "other.jsonl")
    account = make_account(scored / "rft")
    assert gains(account) == [None, None, None]
    assert all(model.score for model in account.models)


def test_samples_that_cannot_be_scored_are_told(
    scored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (scored / "sft/greedy/samples-0.jsonl").read_text().splitlines()
    write_lines(scored / "sft/greedy/samples-0.jsonl", lines[1:])
    account = make_account(scored / "rft")
    assert [model.score is not None for model in account.models] == [True, False, True]
    assert "sft/greedy: 1 of 40 samples are missing" in capsys.readouterr().err


@pytest.mark.parametrize("changes", [{"greedy": False}, {"data_sha256": "of other rows"}])
def test_samples_that_are_not_greedy_or_of_other_data_are_no_accuracy(
    scored: Path, changes: dict[str, object]
) -> None:
    manifest = scored / "sft/greedy" / MANIFEST
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | changes))
    scores = [model.score for model in make_account(scored / "rft").models]
    assert [score is not None for score in scores] == [True, False, True]


def test_rft_is_compared_with_the_sampled_model_of_its_own_base(scored: Path) -> None:
    make_model(scored / "other", scored / "base_2", scored / "solutions.jsonl", 3e6)
    make_store(scored / "samples_2", scored / "other", 5e6, 10)
    answer(scored / "other", range(30))
    used = {scored / "samples_2": 10, scored / "samples": 120}
    make_data(scored / "rft.jsonl", used)
    account = make_account(scored / "rft")
    rft = account.models[-1]
    assert rft.gain.before == scored / "sft"
    # its own samples, the other model's training and samples, and the training
    assert rft.total.flops == 4e6 + 3e6 + 5e6 + 8e6
    assert rft.of_pretraining == 20
    make_data(scored / "rft.jsonl", {scored / "samples_2": 10})
    rft = make_account(scored / "rft").models[-1]
    assert rft.gain is None
    assert per_point(rft) is None
    assert rft.total.flops == 3e6 + 5e6 + 8e6
    make_store(scored / "samples_2", scored / "base_2", 5e6, 10)  # a base model itself
    rft = make_account(scored / "rft").models[-1]
    assert (rft.gain, rft.total.flops) == (None, 5e6 + 8e6)


def test_training_on_from_the_sampled_model_is_compared_with_it(scored: Path) -> None:
    make_model(scored / "rft", scored / "sft", scored / "rft.jsonl", 8e6)
    account = make_account(scored / "rft")
    rft = account.models[-1]
    assert rft.gain.before == scored / "sft"
    assert rft.total == Total(9e6, {"gpu": pytest.approx(135 / 3600)}, True)
    assert rft.of_pretraining == 9

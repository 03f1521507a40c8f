"""Every claim can hold, not hold, and be inconclusive, judged by the estimate it names."""

import re
from collections.abc import Callable, Mapping

import numpy as np
import pytest

from screl.analysis.claims import CLAIMS
from screl.analysis.estimates import Estimate, Resampler, exact_estimate
from screl.analysis.evidence import (
    Evidence,
    require_negligible,
    require_no_gain,
    require_no_loss,
    require_positive,
)
from screl.analysis.study import Key, Study
from tests.analysis.made_study import estimate, make_study, paper

LOSSES = {"m20": 2.0, "m18": 1.8, "m16": 1.6, "m14": 1.4, "m12": 1.2}  # weakest first
JUDGE: dict[str, Callable[[Study], Evidence]] = {
    claim.judge.__name__.removeprefix("_"): claim.judge for claim in CLAIMS
}
KS = (1, 3, 6, 12, 25, 50, 100)


def over_loss(setting: str, middle: float, slope: float, scatter: float = 0) -> dict[Key, float]:
    """Return accuracies around a line through ``middle`` at a loss of 1.6."""
    off = dict(zip(LOSSES, (1, -2, 2, -2, 1), strict=True))
    return {
        (model, setting): middle + slope * (loss - 1.6) + scatter * off[model]
        for model, loss in LOSSES.items()
    }


def all_at(setting: str, value: float) -> dict[Key, float]:
    return over_loss(setting, value, 0)


def plus(accuracy: Mapping[Key, float], setting: str, more: float) -> dict[Key, float]:
    """Return ``accuracy`` under another setting, ``more`` points better."""
    return {(model, setting): value + more for (model, _), value in accuracy.items()}


SFT = over_loss("sft", 40, -60)


# Each makes a study with an effect (1: as claimed, -1: the opposite) and scatter of models and
# draws.
def make_linear(effect: float, scatter: float) -> Study:
    return make_study(over_loss("sft", 50, -20 * effect, scatter))


def make_icl_gap(effect: float, scatter: float) -> Study:
    gap = over_loss("icl", 20, 20 * effect, scatter)
    return make_study(SFT | {key: SFT[key[0], "sft"] - of for key, of in gap.items()})


def make_straight(effect: float, scatter: float) -> Study:
    bend = 4 * (1 - effect)
    accuracy = SFT | plus(SFT, "part2-epochs3", -5 - bend)
    accuracy |= plus(SFT, "part4-epochs3", -10 - bend) | plus(SFT, "part8-epochs3", -15 - bend)
    return make_study(accuracy, error=0.1 + scatter)


def make_gain_less(effect: float, scatter: float) -> Study:
    steps = over_loss("", 5, 5 * effect, scatter)
    parts = {
        (model, f"part{2**i}-epochs3"): SFT[model, "sft"] - i * step
        for (model, _), step in steps.items()
        for i in (1, 2, 3)
    }
    return make_study(SFT | parts)


def make_gain(effect: float, scatter: float) -> Study:
    return make_study(SFT | plus(SFT, "k100", 5 * effect), error=0.1 + scatter)


def make_more_k(effect: float, scatter: float) -> Study:
    sweep = {("m16", f"k{k}"): 50 + effect * np.log2(k) for k in KS}
    return make_study(SFT | sweep, error=0.1 + scatter)


def make_diminishing(effect: float, scatter: float) -> Study:
    sweep = {("m16", f"k{k}"): 50 + np.log2(k) + effect * np.log2(min(k, 12)) for k in KS}
    return make_study(SFT | sweep, error=0.1 + scatter)


def make_control(name: str) -> Callable[[float, float], Study]:
    def make(effect: float, scatter: float) -> Study:
        accuracy: dict[Key, float] = {("m16", f"k{k}"): 50 for k in KS}
        for k in KS:  # the opposite at small k, which must not count
            gain = 8 if k == 6 else 3 if k > 6 else -30
            accuracy["m16", f"k{k}-{name}"] = 50 - gain * effect
        return make_study(SFT | accuracy, error=0.1 + scatter)

    return make


def make_dedup(effect: float, scatter: float) -> Study:
    loss = 4 * (1 - effect)
    accuracy = all_at("k100", 50 - loss) | all_at("k100-no_dedup", 50)
    small = all_at("k50", 10) | all_at("k50-no_dedup", 10 + 40 * effect)  # does not count
    return make_study(SFT | accuracy | small, error=0.1 + scatter)


def make_more_for_weak(effect: float, scatter: float, setting: str = "k100") -> Study:
    gain = over_loss(setting, 5, 10 * effect, scatter)
    return make_study(SFT | {key: SFT[key[0], "sft"] + of for key, of in gain.items()})


def make_unions_for_weak(effect: float, scatter: float) -> Study:
    return make_more_for_weak(effect, scatter, "u_all")


def make_strongest(effect: float, scatter: float) -> Study:
    accuracy = SFT | plus(SFT, "k100", -20 * effect)
    accuracy["m12", "k100"] = SFT["m12", "sft"] + 4 * (1 - effect)
    return make_study(accuracy, error=0.1 + scatter)


def make_unions(effect: float, scatter: float) -> Study:
    accuracy = all_at("k100", 50) | all_at("u_small", 50 + 3 * effect)
    return make_study(accuracy, error=0.1 + scatter)


def make_little_more(effect: float, scatter: float) -> Study:
    accuracy = all_at("u_small", 50) | all_at("u_all", 50 + 4 * (1 - effect))
    return make_study(accuracy, error=0.1 + scatter)


def make_fewer_paths(effect: float, scatter: float) -> Study:
    found = over_loss("", 5, 3 * effect, scatter)
    paths = {m: {1: estimate(1), 100: estimate(of)} for (m, _), of in found.items()}
    return make_study(SFT, paths=paths)


def make_votes(more: Mapping[str, float], scatter: float) -> Study:
    votes = {
        (model, setting): (estimate(50, 0.1 + scatter), estimate(50 + of, 0.1 + scatter, model))
        for model in LOSSES
        for setting, of in more.items()
    }
    return make_study(SFT, votes=votes)


def make_rft_votes(effect: float, scatter: float) -> Study:
    return make_votes({"sft": 10, "k100": 10 + 3 * effect, "u_all": 1}, scatter)


def make_any_votes(effect: float, scatter: float) -> Study:
    return make_votes({"sft": 10 * effect, "u_all": 10 * effect, "icl": -90 * effect}, scatter)


def make_test_paths(effect: float, scatter: float) -> Study:
    random = np.random.default_rng(3)
    few = random.integers(0, 5, 200).astype(float)
    more = few + effect + scatter * np.tile([-1.0, 1.0], 100)
    paths = {("m16", "sft"): few, ("m16", "u_small"): more, ("m12", "sft"): few + 50}
    return make_study(SFT, paths_on_test=paths)


def make_longer(effect: float, scatter: float) -> Study:
    accuracy = all_at("sft_matched", 50) | all_at("k100", 50 + 2 * effect)
    return make_study(SFT | accuracy, error=0.1 + scatter)


# how to make the claim's study, and the estimate if the effect is as claimed
CASES: dict[str, tuple[Callable[[float, float], Study], float]] = {
    "linear_in_loss": (make_linear, -20),
    "icl_gap": (make_icl_gap, 20),
    "constant_gain_per_doubling": (make_straight, 0),
    "better_models_gain_less": (make_gain_less, 5),
    "rft_beats_sft": (make_gain, 5),
    "more_samples_help": (make_more_k, 1),
    "diminishing_returns": (make_diminishing, 1),
    "paths_beat_samples": (make_control("rows"), 4),
    "paths_beat_tokens": (make_control("tokens"), 4),
    "dedup_is_free": (make_dedup, 0),
    "rft_helps_weak_models_more": (make_more_for_weak, 10),
    "unions_help_weak_models_more": (make_unions_for_weak, 10),
    "no_gain_for_the_strongest": (make_strongest, 0),
    "unions_help_more": (make_unions, 3),
    "strong_models_add_little": (make_little_more, 0),
    "strong_models_find_fewer_paths": (make_fewer_paths, 3),
    "votes_beat_greedy": (make_any_votes, 10),
    "rft_improves_votes": (make_rft_votes, 3),
    "unions_find_more_test_paths": (make_test_paths, 1),
    "rft_beats_longer_sft": (make_longer, 2),
}


def test_every_claim_has_its_case() -> None:
    assert list(JUDGE) == list(CASES)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(
    ("effect", "scatter", "outcome"),
    [(1, 0, "held"), (-1, 0, "did not hold"), (1, 40, "inconclusive")],
)
def test_every_claim_can_come_out_either_way(
    name: str, effect: float, scatter: float, outcome: str
) -> None:
    make, value = CASES[name]
    evidence = JUDGE[name](make(effect, scatter))
    assert evidence.outcome == outcome
    assert evidence.estimate is not None
    if outcome == "held":
        assert evidence.estimate.value == pytest.approx(value, abs=1e-9)
        low, high = evidence.estimate.interval
        assert low <= value + 1e-9
        assert value - 1e-9 <= high
        also = "R² 1.000, " if name == "linear_in_loss" else ""
        assert re.fullmatch(rf"{also}(m\d\d only|5 models)", evidence.remark)


@pytest.mark.parametrize("name", CASES)
def test_what_was_not_measured_is_inconclusive(name: str) -> None:
    evidence = JUDGE[name](make_study({("m16", "icl"): 10}))
    assert evidence[1:] == (None, "inconclusive", "")
    assert evidence.criterion == JUDGE[name](CASES[name][0](1, 0)).criterion


@pytest.mark.parametrize(
    ("low", "high", "above_0", "no_loss", "no_gain", "negligible"),
    [
        (0.1, 1.9, "held", "held", "held", "held"),
        (-0.1, 1.9, "?", "held", "held", "held"),
        (-1.9, -0.1, "did not hold", "held", "held", "held"),
        (0.1, 2.1, "held", "held", "?", "?"),
        (2.1, 3.0, "held", "held", "did not hold", "did not hold"),
        (-2.1, -0.1, "did not hold", "?", "held", "?"),
        (-3.0, -2.1, "did not hold", "did not hold", "held", "did not hold"),
        (-3.0, 3.0, "?", "?", "?", "?"),
    ],
)
def test_thresholds(
    low: float, high: float, above_0: str, no_loss: str, no_gain: str, negligible: str
) -> None:
    # the middle 95% of 41 draws are all but the first and the last
    number = Estimate(0.0, np.array([low - 9, *np.linspace(low, high, 39), high + 9]))
    evidence = [
        require("gain", number)
        for require in (require_positive, require_no_loss, require_no_gain, require_negligible)
    ]
    expected = [o.replace("?", "inconclusive") for o in (above_0, no_loss, no_gain, negligible)]
    assert [one.outcome for one in evidence] == expected
    criteria = ["gain", "gain, above -2", "gain, below 2", "gain, within ±2"]
    assert [one.criterion for one in evidence] == criteria


def test_on_the_threshold_a_claim_is_inconclusive() -> None:
    assert require_positive("", exact_estimate(0)).outcome == "inconclusive"
    assert require_no_loss("", exact_estimate(-2)).outcome == "inconclusive"


@pytest.mark.parametrize(
    ("scatter", "r_squared", "outcome"),
    [(2, 0.92, "held"), (6, 0.58, "inconclusive"), (14, 0.2, "did not hold")],
)
def test_a_significant_slope_alone_is_not_linear(
    scatter: float, r_squared: float, outcome: str
) -> None:
    losses = np.linspace(1.2, 2.0, 41)  # enough models for a significant slope
    accuracy = 50 - 30 * (losses - 1.6) + scatter * np.resize([1.0, -1.0], 41)
    study = make_study(
        {(f"m{i}", "sft"): of for i, of in enumerate(accuracy.tolist())},
        losses={f"m{i}": loss for i, loss in enumerate(losses.tolist())},
    )
    evidence = JUDGE["linear_in_loss"](study)
    expected = np.corrcoef(losses, accuracy)[0, 1] ** 2
    assert evidence.remark == f"R² {expected:.3f}, 41 models"
    assert expected == pytest.approx(r_squared, abs=0.01)
    assert evidence.estimate is not None
    assert evidence.estimate.interval[1] < 0
    assert evidence.outcome == outcome


def test_more_paths_on_test_problems_has_the_interval_over_them() -> None:
    few, more = np.arange(40.0) % 3, np.arange(40.0) % 7
    paths = {("m16", "sft"): few, ("m16", "u_small"): more}
    evidence = JUDGE["unions_find_more_test_paths"](make_study(SFT, paths_on_test=paths))
    assert evidence.estimate is not None
    assert evidence.estimate.interval == Resampler(40, []).mean(more - few).interval


def test_the_published_study() -> None:
    outcomes = {name: judge(paper()).outcome for name, judge in JUDGE.items()}
    assert [name for name, outcome in outcomes.items() if outcome == "held"] == [
        "linear_in_loss", "icl_gap", "better_models_gain_less", "rft_beats_sft",
        "more_samples_help", "dedup_is_free", "unions_help_weak_models_more", "unions_help_more",
        "votes_beat_greedy", "rft_improves_votes",
    ]  # fmt: skip
    assert "did not hold" not in outcomes.values()


def test_a_loss_is_no_gain_for_the_strongest() -> None:
    study = make_study({("m20", "sft"): 50, ("m20", "k100"): 45})
    assert JUDGE["no_gain_for_the_strongest"](study).outcome == "held"


def test_the_gap_to_icl_needs_icl_above_the_floor() -> None:
    accuracy = SFT | over_loss("icl", 1, -2)
    evidence = JUDGE["icl_gap"](make_study(accuracy))
    assert evidence.outcome == "inconclusive"
    assert evidence.remark == "ICL at most 1.8%, 5 models"
    for model in ("m12", "m14", "m16"):
        accuracy[model, "icl"] += 5
    assert JUDGE["icl_gap"](make_study(accuracy)).outcome == "did not hold"


def test_bends_to_both_sides_do_not_cancel() -> None:
    studies = [make_straight(effect, 0) for effect in (3, -1)]  # bends of -8 and 8
    accuracy = {
        (model, setting): studies[i % 2].accuracy[model, setting].value
        for i, model in enumerate(["m20", "m18", "m16", "m14"])
        for setting in ("sft", "part2-epochs3", "part4-epochs3", "part8-epochs3")
    }
    evidence = JUDGE["constant_gain_per_doubling"](make_study(accuracy))
    assert evidence.estimate is not None
    assert evidence.estimate.value == pytest.approx(0)
    assert evidence.outcome == "inconclusive"
    assert evidence.remark == "m20, m18, m16, m14 bent, 4 models"


@pytest.mark.parametrize("accuracy", [2, 98])
@pytest.mark.parametrize(
    "name",
    ["constant_gain_per_doubling", "dedup_is_free", "no_gain_for_the_strongest",
     "strong_models_add_little"],
)  # fmt: skip
def test_models_near_0_or_100_percent_prove_no_equality(name: str, accuracy: float) -> None:
    settings = ("sft", "part2-epochs3", "part4-epochs3", "part8-epochs3", "k100", "k100-no_dedup")
    for value, outcome in ((accuracy, "inconclusive"), (50, "held")):
        same = {("m16", s): value for s in (*settings, "u_small", "u_all")}
        assert JUDGE[name](make_study(same)).outcome == outcome


def test_one_model_does_not_decide_a_slope() -> None:
    judge = JUDGE["rft_helps_weak_models_more"]
    gains = {"m20": 12.0, "m18": 6, "m16": 6.5, "m14": 6.8, "m12": 7}
    more = {(model, "k100"): SFT[model, "sft"] + of for model, of in gains.items()}
    assert judge(make_study(SFT | more, error=0)).outcome == "inconclusive"
    gains |= {f"m{i}": 6 + 0.1 * i for i in range(21, 90)}  # 69 more models decide it
    accuracy = {(m, "sft"): 50.0 for m in gains} | {(m, "k100"): 50 + of for m, of in gains.items()}
    assert judge(make_study(accuracy, error=0)).outcome == "held"
    two = make_study({(m, s): 50 for m in ("m20", "m12") for s in ("sft", "k100")})
    assert judge(two)[1:] == (None, "inconclusive", "")  # two models have no slope


def test_path_counts_come_with_the_share_of_correct_samples() -> None:
    study = make_fewer_paths(1, 0)
    study.percent_correct.update({"m20": 40.0, "m12": 88.74})
    remark = JUDGE["strong_models_find_fewer_paths"](study).remark
    assert remark == "5 models, 40.0 to 88.7% of samples correct"

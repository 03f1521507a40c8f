"""Every claim can hold, not hold, and be left open; what is compared is what the rule says."""

import re
from collections.abc import Callable, Mapping

import numpy as np
import pytest

from screl.analysis.claims import (
    CLAIMS,
    Claim,
    linear_in_loss,
    negligible,
    no_less,
    no_more,
    positive,
)
from screl.analysis.estimates import Estimate, Resampler, exactly
from screl.analysis.study import Key, Study
from tests.made_study import estimate, make_study, paper

LOSSES = {"m20": 2.0, "m18": 1.8, "m16": 1.6, "m14": 1.4, "m12": 1.2}  # weakest first
ASK = {claim.ask.__name__: claim for claim in CLAIMS}
KS = (1, 3, 6, 12, 25, 50, 100)


def over_loss(setting: str, middle: float, slope: float, scatter: float = 0) -> dict[Key, float]:
    """Accuracies around a line through ``middle`` at a loss of 1.6."""
    off = dict(zip(LOSSES, (1, -2, 2, -2, 1), strict=True))
    return {
        (model, setting): middle + slope * (loss - 1.6) + scatter * off[model]
        for model, loss in LOSSES.items()
    }


def all_at(setting: str, value: float) -> dict[Key, float]:
    return over_loss(setting, value, 0)


def plus(accuracy: Mapping[Key, float], setting: str, more: float) -> dict[Key, float]:
    """As ``accuracy`` of one setting, in this setting and so much better."""
    return {(model, setting): value + more for (model, _), value in accuracy.items()}


SFT = over_loss("sft", 40, -60)


# Each makes a study of an effect: 1 is as claimed, -1 its contrary; scatter is of models and draws.
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
        for k in KS:  # of small k, where hardly anything is chosen, the contrary
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
    return make_study(SFT, test_paths=paths)


def make_longer(effect: float, scatter: float) -> Study:
    accuracy = all_at("sft_matched", 50) | all_at("k100", 50 + 2 * effect)
    return make_study(SFT | accuracy, error=0.1 + scatter)


# the claim's study, and the number that decides it where the effect is as claimed
CASES: dict[str, tuple[Callable[[float, float], Study], float]] = {
    "linear_in_loss": (make_linear, -20),
    "icl_gap": (make_icl_gap, 20),
    "straight_in_doublings": (make_straight, 0),
    "better_models_gain_less": (make_gain_less, 5),
    "rft_gain": (make_gain, 5),
    "more_k": (make_more_k, 1),
    "diminishing": (make_diminishing, 1),
    "paths_not_samples": (make_control("rows"), 4),
    "paths_not_tokens": (make_control("tokens"), 4),
    "dedup_is_free": (make_dedup, 0),
    "more_for_weak": (make_more_for_weak, 10),
    "unions_for_weak": (make_unions_for_weak, 10),
    "nothing_for_the_strongest": (make_strongest, 0),
    "unions_bring_more": (make_unions, 3),
    "little_more_in_all": (make_little_more, 0),
    "strong_models_find_fewer": (make_fewer_paths, 3),
    "votes_beat_greedy": (make_any_votes, 10),
    "rft_raises_votes": (make_rft_votes, 3),
    "more_paths_on_test": (make_test_paths, 1),
    "more_than_training_longer": (make_longer, 2),
}


def test_every_claim_has_its_case() -> None:
    assert list(ASK) == list(CASES)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(
    ("effect", "scatter", "verdict"),
    [(1, 0, "held"), (-1, 0, "did not hold"), (1, 40, "not decidable here")],
)
def test_every_claim_can_come_out_either_way(
    name: str, effect: float, scatter: float, verdict: str
) -> None:
    make, value = CASES[name]
    evidence = ASK[name].ask(make(effect, scatter))
    assert evidence.verdict == verdict
    assert evidence.number is not None
    if verdict == "held":
        assert evidence.number.value == pytest.approx(value, abs=1e-9)
        low, high = evidence.number.interval
        assert low <= value + 1e-9
        assert value - 1e-9 <= high
        also = "R² 1.000, " if name == "linear_in_loss" else ""
        assert re.fullmatch(rf"{also}of (m\d\d|5 models)", evidence.remark)


@pytest.mark.parametrize("claim", CLAIMS, ids=list(ASK))
def test_what_is_not_measured_is_not_decided(claim: Claim) -> None:
    evidence = claim.ask(make_study({("m16", "icl"): 10}))
    assert (evidence.number, evidence.verdict) == (None, "not decidable here")
    assert evidence.remark == ""
    assert evidence.rule == claim.ask(CASES[claim.ask.__name__][0](1, 0)).rule


@pytest.mark.parametrize(
    ("low", "high", "side", "loss", "gain", "both"),
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
def test_where_the_borders_are(
    low: float, high: float, side: str, loss: str, gain: str, both: str
) -> None:
    # of 41 draws the middle 95 % are all but the first and the last
    number = Estimate(0.0, np.array([low - 9, *np.linspace(low, high, 39), high + 9]))
    assert number.interval == pytest.approx((low, high))
    found = [ask("", number).verdict for ask in (positive, no_less, no_more, negligible)]
    expected = [v.replace("?", "not decidable here") for v in (side, loss, gain, both)]
    assert found == expected


def test_on_the_border_nothing_is_decided() -> None:
    assert positive("", exactly(0)).verdict == "not decidable here"
    assert no_less("", exactly(-2)).verdict == "not decidable here"
    assert linear_in_loss(make_linear(0.05, 0)).verdict == "held"


def test_rules_name_their_border() -> None:
    number = estimate(0)
    assert positive("gain", number).rule == "gain"
    assert no_less("gain", number).rule == "gain, above -2"
    assert no_more("gain", number).rule == "gain, below 2"
    assert negligible("gain", number).rule == "gain, within ±2"
    assert no_more("gain", number).number is number


@pytest.mark.parametrize(
    ("scatter", "r_squared", "verdict"),
    [(2, 0.92, "held"), (6, 0.58, "not decidable here"), (14, 0.2, "did not hold")],
)
def test_a_steep_slope_alone_is_no_line(scatter: float, r_squared: float, verdict: str) -> None:
    losses = np.linspace(1.2, 2.0, 41)  # models enough for the slope to be sure
    off = scatter * np.resize([1.0, -1.0], 41)
    models = [f"m{i}" for i in range(41)]
    accuracy = {
        (m, "sft"): 50 - 30 * (loss - 1.6) + e
        for m, loss, e in zip(models, losses, off, strict=True)
    }
    study = make_study(accuracy, losses=dict(zip(models, losses.tolist(), strict=True)))
    evidence = linear_in_loss(study)
    assert evidence.remark == f"R² {evidence_r_squared(study):.3f}, of 41 models"
    assert evidence_r_squared(study) == pytest.approx(r_squared, abs=0.01)
    assert evidence.number is not None
    assert evidence.number.interval[1] < 0
    assert evidence.verdict == verdict


def evidence_r_squared(study: Study) -> float:
    x, y = zip(*((study.losses[m], of.value) for (m, _), of in study.accuracy.items()), strict=True)
    slope, intercept = np.polyfit(x, y, 1)
    left = np.array(y) - intercept - slope * np.array(x)
    return float(1 - left.var() / np.var(y))


def test_harm_is_no_gain_of_the_strongest() -> None:
    study = make_study({("m20", "sft"): 50, ("m20", "k100"): 45})
    assert ASK["nothing_for_the_strongest"].ask(study).verdict == "held"


def test_more_paths_on_test_problems_has_the_interval_over_them() -> None:
    few, more = np.arange(40.0) % 3, np.arange(40.0) % 7
    paths = {("m16", "sft"): few, ("m16", "u_small"): more}
    number = ASK["more_paths_on_test"].ask(make_study(SFT, test_paths=paths)).number
    assert number is not None
    assert number.interval == Resampler(40, []).mean(more - few).interval


def test_the_published_study() -> None:
    verdicts = {name: claim.ask(paper()).verdict for name, claim in ASK.items()}
    held = [name for name, verdict in verdicts.items() if verdict == "held"]
    assert held == [
        "linear_in_loss", "icl_gap", "better_models_gain_less", "rft_gain", "more_k",
        "dedup_is_free", "unions_for_weak", "unions_bring_more", "votes_beat_greedy",
        "rft_raises_votes",
    ]  # fmt: skip
    assert "did not hold" not in verdicts.values()


def test_no_gap_to_exemplars_that_teach_nothing() -> None:
    accuracy = SFT | over_loss("icl", 1, -2)
    evidence = ASK["icl_gap"].ask(make_study(accuracy))
    assert evidence.verdict == "not decidable here"
    assert evidence.remark == "ICL at most 1.8 %, of 5 models"
    for model in ("m12", "m14", "m16"):
        accuracy[model, "icl"] += 5
    assert ASK["icl_gap"].ask(make_study(accuracy)).verdict == "did not hold"


def test_bends_to_both_sides_are_no_line() -> None:
    studies = [make_straight(effect, 0) for effect in (3, -1)]  # bends of -8 and 8
    accuracy = {
        (model, setting): studies[i % 2].accuracy[model, setting].value
        for i, model in enumerate(["m20", "m18", "m16", "m14"])
        for setting in ("sft", "part2-epochs3", "part4-epochs3", "part8-epochs3")
    }
    evidence = ASK["straight_in_doublings"].ask(make_study(accuracy))
    assert evidence.number is not None
    assert evidence.number.value == pytest.approx(0)
    assert evidence.verdict == "not decidable here"
    assert evidence.remark == "m20, m18, m16, m14 bent, of 4 models"


@pytest.mark.parametrize("accuracy", [2, 98])
@pytest.mark.parametrize(
    "name",
    [
        "straight_in_doublings", "dedup_is_free", "nothing_for_the_strongest", "little_more_in_all"
    ],
)  # fmt: skip
def test_models_that_know_nothing_or_all_show_no_likeness(name: str, accuracy: float) -> None:
    settings = ("sft", "part2-epochs3", "part4-epochs3", "part8-epochs3", "k100", "k100-no_dedup")
    for value, verdict in ((accuracy, "not decidable here"), (50, "held")):
        same = {("m16", s): value for s in (*settings, "u_small", "u_all")}
        assert ASK[name].ask(make_study(same)).verdict == verdict


def test_one_model_does_not_turn_a_slope() -> None:
    gains = {"m20": 12.0, "m18": 6, "m16": 6.5, "m14": 6.8, "m12": 7}
    more = {(model, "k100"): SFT[model, "sft"] + of for model, of in gains.items()}
    evidence = ASK["more_for_weak"].ask(make_study(SFT | more, error=0))
    assert evidence.verdict == "not decidable here"
    gains |= {f"m{i}": 6 + 0.1 * i for i in range(21, 90)}  # 69 further models: it is decided
    accuracy = {(m, "sft"): 50.0 for m in gains} | {(m, "k100"): 50 + of for m, of in gains.items()}
    assert ASK["more_for_weak"].ask(make_study(accuracy, error=0)).verdict == "held"


def test_a_slope_of_two_models_is_not_measured() -> None:
    study = make_study({(m, s): 50 for m in ("m20", "m12") for s in ("sft", "u_all")})
    evidence = ASK["unions_for_weak"].ask(study)
    assert (evidence.number, evidence.remark) == (None, "")


def test_paths_stand_beside_the_share_of_right_samples() -> None:
    study = make_fewer_paths(1, 0)
    study.right.update({"m20": 40.0, "m12": 88.74})
    remark = ASK["strong_models_find_fewer"].ask(study).remark
    assert remark == "of 5 models, 40.0 to 88.7 % of samples right"

"""The paper's claims, each with the number that decides it, for any study.

Every rule here was written before the runs that it judges. A claim *held* if the 95 % interval of
its number lies on the claim's side, *did not hold* if it lies on the other, and is *not decidable
here* if it covers the border, or if the study has not measured it. A mean is over the models of the
study, its interval over other problems and seeds; that of a slope over loss is over other models.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from screl.contrasts import against, gains, mean, over_loss, per_doubling, sweeps
from screl.estimates import Estimate, Resampler
from screl.scaling_fits import STABLE, largest_parts
from screl.study import Points, Study

Verdict = Literal["held", "did not hold", "not decidable here"]
LARGEST = "k100"
NEGLIGIBLE = 2.0  # points: what the paper calls no gain, or as good
STRAIGHT = 0.9  # R² of what the paper calls linear; under half of the variance it is not


class Evidence(NamedTuple):
    """``number`` decides, against 0 or what ``rule`` says; None if it was not measured.

    ``remark``: what else had a part in the verdict.
    """

    rule: str
    number: Estimate | None
    verdict: Verdict
    remark: str = ""


class Claim(NamedTuple):
    """One sentence of the paper (section), and how a study is asked about it."""

    text: str
    section: str
    ask: Callable[[Study], Evidence]


def positive(rule: str, number: Estimate | None) -> Evidence:
    """The claim says that ``number`` is above 0."""
    return Evidence(rule, number, _side(number, 0.0))


def negligible(rule: str, number: Estimate | None) -> Evidence:
    """The claim says that ``number`` is between ``-NEGLIGIBLE`` and ``NEGLIGIBLE``."""
    sides = {no_less(rule, number).verdict, no_more(rule, number).verdict}
    verdict: Verdict = "not decidable here"
    if "did not hold" in sides:
        verdict = "did not hold"
    elif sides == {"held"}:
        verdict = "held"
    return Evidence(f"{rule}, within ±{NEGLIGIBLE:g}", number, verdict)


def no_less(rule: str, number: Estimate | None) -> Evidence:
    """The claim says that ``number`` is no loss: above ``-NEGLIGIBLE``."""
    return Evidence(f"{rule}, above -{NEGLIGIBLE:g}", number, _side(number, -NEGLIGIBLE))


def no_more(rule: str, number: Estimate | None) -> Evidence:
    """The claim says that ``number`` is no gain, be it a loss: below ``NEGLIGIBLE``."""
    other = None if number is None else -number
    return Evidence(f"{rule}, below {NEGLIGIBLE:g}", number, _side(other, -NEGLIGIBLE))


def _side(number: Estimate | None, border: float) -> Verdict:
    if number is None:
        return "not decidable here"
    low, high = number.interval
    return "held" if low > border else "did not hold" if high < border else "not decidable here"


def linear_in_loss(study: Study) -> Evidence:
    rule = f"slope of SFT accuracy over loss below 0, points a nat, R² at least {STRAIGHT:g}"
    models = study.models("sft")
    number = over_loss(study, models, [study.accuracy[model, "sft"] for model in models])
    if number is None:
        return Evidence(rule, None, "not decidable here")
    verdict = _side(-number, 0.0)
    points = study.by_loss("sft")
    r_squared = float(np.corrcoef(points.x, [estimate.value for estimate in points.y])[0, 1] ** 2)
    if verdict == "held" and r_squared < STRAIGHT:
        verdict = "did not hold" if r_squared < 0.5 else "not decidable here"
    return Evidence(rule, number, verdict, f"R² {r_squared:.3f}")


def icl_gap(study: Study) -> Evidence:
    models = study.models("sft", "icl")
    icl = [study.accuracy[model, "icl"] for model in models]
    gaps = [study.accuracy[model, "sft"] - of for model, of in zip(models, icl, strict=True)]
    rule = "slope of (SFT - ICL) over loss, points a nat"
    evidence = positive(rule, over_loss(study, models, gaps))
    if not models:
        return evidence
    # where exemplars teach nothing, this is about SFT alone
    return evidence._replace(remark=f"ICL at most {max(of.value for of in icl):.1f} %")


def straight_in_doublings(study: Study) -> Evidence:
    bends = []
    for model in study.models("sft"):
        y = largest_parts(study, model).y
        if len(y) == STABLE:
            bends.append((y[-1] - y[-2]) - (y[1] - y[0]))
    rule = "gain of the last doubling less that of the first, of 1/8 to 1, mean over models"
    return negligible(rule, mean(bends))


def better_models_gain_less(study: Study) -> Evidence:
    parts = {model: largest_parts(study, model) for model in study.models("sft")}
    models = [model for model, points in parts.items() if len(points.x) == STABLE]
    slopes = [per_doubling(parts[model]) for model in models]
    return positive(
        "slope of (points per doubling of the data) over loss", over_loss(study, models, slopes)
    )


def rft_gain(study: Study) -> Evidence:
    return positive(f"RFT {LARGEST} - SFT, mean over models", mean(gains(study, LARGEST)))


def more_k(study: Study) -> Evidence:
    slopes = [per_doubling(points) for points in sweeps(study)]
    return positive("points per doubling of k, mean over models", mean(slopes))


def diminishing(study: Study) -> Evidence:
    """Per doubling: where that is constant, each *sample* brings less all the same."""
    less = []
    for x, y in sweeps(study):
        middle = len(x) // 2
        early = per_doubling(Points(x[: middle + 1], y[: middle + 1]))
        late = per_doubling(Points(x[middle:], y[middle:]))
        less.append(early - late)
    rule = "points per doubling of k up to the middle k, less those beyond it, mean over models"
    return positive(rule, mean(less))


def paths_not_samples(study: Study) -> Evidence:
    """Distinct paths against as many random right samples, for all k of at least 6."""
    rule = "RFT - RFT on as many random right rows, mean over k from 6 on"
    return positive(rule, mean(against(study, "-rows", at_least=6)))


def paths_not_tokens(study: Study) -> Evidence:
    rule = "RFT - RFT on as many tokens of random right rows, mean over k from 6 on"
    return positive(rule, mean(against(study, "-tokens", at_least=6)))


def dedup_is_free(study: Study) -> Evidence:
    rule = f"RFT {LARGEST} - the same without de-duplication, mean over models"
    return no_less(rule, mean(against(study, "-no_dedup", at_least=100)))


def more_for_weak(study: Study) -> Evidence:
    models = study.models("sft", LARGEST)
    rule = f"slope of (RFT {LARGEST} - SFT) over loss, points a nat"
    return positive(rule, over_loss(study, models, gains(study, LARGEST)))


def unions_for_weak(study: Study) -> Evidence:
    models = study.models("sft", "u_all")
    return positive(
        "slope of (RFT u_all - SFT) over loss, points a nat",
        over_loss(study, models, gains(study, "u_all")),
    )


def nothing_for_the_strongest(study: Study) -> Evidence:
    of_models = gains(study, LARGEST)
    strongest = of_models[-1] if of_models else None
    return no_more(f"RFT {LARGEST} - SFT of the strongest model", strongest)


def unions_bring_more(study: Study) -> Evidence:
    models = study.models("u_small", LARGEST)
    more = [study.accuracy[m, "u_small"] - study.accuracy[m, LARGEST] for m in models]
    return positive(f"RFT u_small - RFT {LARGEST}, mean over models", mean(more))


def little_more_in_all(study: Study) -> Evidence:
    models = study.models("u_small", "u_all")
    more = [study.accuracy[m, "u_all"] - study.accuracy[m, "u_small"] for m in models]
    return no_more("RFT u_all - RFT u_small, mean over models", mean(more))


def strong_models_find_fewer(study: Study) -> Evidence:
    models = [model for model in study.models("sft") if 100 in study.paths.get(model, {})]
    found = [study.paths[model][100] for model in models]
    rule = "slope of distinct paths a problem at k=100 over loss, paths a nat"
    return positive(rule, over_loss(study, models, found))


def rft_raises_votes(study: Study) -> Evidence:
    models = [m for m in study.losses if {(m, "sft"), (m, LARGEST)} <= study.votes.keys()]
    more = [study.votes[m, LARGEST][1] - study.votes[m, "sft"][1] for m in models]
    return positive(f"maj1@100 of RFT {LARGEST} - of SFT, mean over models", mean(more))


def votes_beat_greedy(study: Study) -> Evidence:
    more = [
        voted - single for (_, setting), (single, voted) in study.votes.items() if setting != "icl"
    ]
    return positive("maj1@100 - maj1@1, mean over all models and settings but ICL", mean(more))


def more_paths_on_test(study: Study) -> Evidence:
    rule = "distinct right paths a test problem, RFT u_small - SFT, mean over models"
    models = [m for m in study.losses if {(m, "sft"), (m, "u_small")} <= study.test_paths.keys()]
    if not models:
        return positive(rule, None)
    both = [study.test_paths[m, "u_small"] - study.test_paths[m, "sft"] for m in models]
    by_problem = np.mean(both, axis=0)
    return positive(rule, Resampler(len(by_problem), []).mean(by_problem))


def more_than_training_longer(study: Study) -> Evidence:
    models = study.models("sft_matched", LARGEST)
    more = [study.accuracy[m, LARGEST] - study.accuracy[m, "sft_matched"] for m in models]
    rule = f"RFT {LARGEST} - SFT for as many steps, mean over models"
    return positive(rule, mean(more))


CLAIMS = (
    Claim("SFT accuracy is linear in pre-training loss", "3.1", linear_in_loss),
    Claim("SFT beats ICL by less, the lower the loss", "3.1", icl_gap),
    Claim("doubling the data adds a constant, from 1/8 of it on", "3.2", straight_in_doublings),
    Claim("better models gain less per doubling of the data", "3.2", better_models_gain_less),
    Claim("RFT beats SFT", "3.3", rft_gain),
    Claim("more samples bring more", "3.3", more_k),
    Claim("each further doubling of the samples brings less", "3.3", diminishing),
    Claim("distinct paths beat as many right samples", "3.3", paths_not_samples),
    Claim("distinct paths beat as many tokens of right samples", "3.3", paths_not_tokens),
    Claim("de-duplication costs nothing", "3.3", dedup_is_free),
    Claim("RFT brings more for less performant models", "abstract", more_for_weak),
    Claim("... on the paths of all models too", "3.3", unions_for_weak),
    Claim("its own paths bring the strongest model nothing", "3.3", nothing_for_the_strongest),
    Claim("paths of several models bring more than its own", "3.3", unions_bring_more),
    Claim("the strong models' paths add little to that", "3.3", little_more_in_all),
    Claim("stronger models find fewer distinct paths", "3.3", strong_models_find_fewer),
    Claim("a vote of 100 beats the greedy answer", "Table 6", votes_beat_greedy),
    Claim("RFT raises the vote of 100 too", "Table 6", rft_raises_votes),
    Claim("RFT on many models' paths finds more ways on test problems", "4.1", more_paths_on_test),
    Claim("(not in the paper) RFT beats SFT for as many steps", "-", more_than_training_longer),
)  # fmt: skip

"""How a number decides a claim: which side of a border its 95 % interval lies on.

*held*: on the claim's side; *did not hold*: on the other; *not decidable here*: across the border,
or not measured, or not measured where it could be seen (``measurable``).

The paper's claims, each with the number that decides it, for any study.

The rules were written with the paper's numbers at hand, before the runs of scripts/miniature; when
SFT's scores there, the numbers of paths and one score of RFT were known, cases were added in which
nothing is decided. A mean is over the models of the study, its interval over other problems and
training seeds; that of a slope over loss is over other models. screl/analysis/claims.py says what
the verdicts mean.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Literal, NamedTuple

import numpy as np

from screl.analysis.differences import (
    against,
    mean,
    mean_gains,
    one_decides,
    per_doubling,
    slope_over_loss,
    sweeps,
)
from screl.analysis.estimates import Estimate, Resampler
from screl.analysis.fits import STABLE, largest_parts
from screl.analysis.study import Points, Study

ClaimVerdict = Literal["held", "did not hold", "not decidable here"]
NEGLIGIBLE = 2.0  # points: what the paper calls no gain, or as good
FLOOR = 5.0  # percent: models that know nothing, or all, do not differ, whatever is claimed


class Evidence(NamedTuple):
    """``number`` decides, against 0 or what ``rule`` says; None if it was not measured.

    ``remark``: what else had a part in the verdict.
    """

    rule: str
    number: Estimate | None
    verdict: ClaimVerdict
    remark: str = ""


def positive(rule: str, number: Estimate | None) -> Evidence:
    """The claim says that ``number`` is above 0."""
    return Evidence(rule, number, side(number, 0.0))


def negligible(rule: str, number: Estimate | None) -> Evidence:
    """The claim says that ``number`` is between ``-NEGLIGIBLE`` and ``NEGLIGIBLE``."""
    sides = {no_less(rule, number).verdict, no_more(rule, number).verdict}
    verdict: ClaimVerdict = "not decidable here"
    if "did not hold" in sides:
        verdict = "did not hold"
    elif sides == {"held"}:
        verdict = "held"
    return Evidence(f"{rule}, within ±{NEGLIGIBLE:g}", number, verdict)


def no_less(rule: str, number: Estimate | None) -> Evidence:
    """The claim says that ``number`` is no loss: above ``-NEGLIGIBLE``."""
    return Evidence(f"{rule}, above -{NEGLIGIBLE:g}", number, side(number, -NEGLIGIBLE))


def no_more(rule: str, number: Estimate | None) -> Evidence:
    """The claim says that ``number`` is no gain, be it a loss: below ``NEGLIGIBLE``."""
    other = None if number is None else -number
    return Evidence(f"{rule}, below {NEGLIGIBLE:g}", number, side(other, -NEGLIGIBLE))


def side(number: Estimate | None, border: float) -> ClaimVerdict:
    """Of the claim that ``number`` is above ``border``."""
    if number is None:
        return "not decidable here"
    low, high = number.interval
    return "held" if low > border else "did not hold" if high < border else "not decidable here"


def measurable(accuracy: Estimate) -> bool:
    """Whether it is far enough from 0 and 100 % to differ from others."""
    return FLOOR <= accuracy.value <= 100 - FLOOR


def of(models: Collection[str], evidence: Evidence) -> Evidence:
    """With how many models it is about, or which one, in its remark."""
    if evidence.number is None:
        return evidence
    about = f"of {next(iter(models)) if len(models) == 1 else f'{len(models)} models'}"
    return evidence._replace(remark=f"{evidence.remark}, {about}" if evidence.remark else about)


def undecided(evidence: Evidence, why: str) -> Evidence:
    return evidence._replace(verdict="not decidable here", remark=why)


def slope(rule: str, study: Study, models: Sequence[str], y: Sequence[Estimate]) -> Evidence:
    """The claim says that y rises with loss, whichever model is left out."""
    evidence = positive(rule, slope_over_loss(study, models, y))
    if evidence.verdict != "not decidable here" and one_decides(study, models, y):
        evidence = undecided(evidence, "its sign is due to one model")
    return of(models, evidence)


LARGEST = "k100"
STRAIGHT = 0.9  # R² of what the paper calls linear; under half of the variance it is not


class Claim(NamedTuple):
    """One sentence of the paper (section), and how a study is asked about it."""

    text: str
    section: str
    ask: Callable[[Study], Evidence]


def linear_in_loss(study: Study) -> Evidence:
    rule = f"slope of SFT accuracy over loss below 0, points a nat, R² at least {STRAIGHT:g}"
    models = study.models("sft")
    accuracy = [study.accuracy[model, "sft"] for model in models]
    number = slope_over_loss(study, models, accuracy)
    if number is None:
        return Evidence(rule, None, "not decidable here")
    verdict = side(-number, 0.0)
    points = study.by_loss("sft")
    r_squared = float(np.corrcoef(points.x, [estimate.value for estimate in points.y])[0, 1] ** 2)
    if verdict == "held" and r_squared < STRAIGHT:
        verdict = "did not hold" if r_squared < 0.5 else "not decidable here"
    return of(models, Evidence(rule, number, verdict, f"R² {r_squared:.3f}"))


def icl_gap(study: Study) -> Evidence:
    models = study.models("sft", "icl")
    icl = [study.accuracy[model, "icl"] for model in models]
    gaps = [study.accuracy[model, "sft"] - one for model, one in zip(models, icl, strict=True)]
    evidence = slope("slope of (SFT - ICL) over loss, points a nat", study, models, gaps)
    if evidence.number and sum(map(measurable, icl)) < 3:  # the gap would be SFT itself
        most = max(one.value for one in icl)
        return of(models, undecided(evidence, f"ICL at most {most:.1f} %"))
    return evidence


def straight_in_doublings(study: Study) -> Evidence:
    """None of the models may bend for itself: bends to both sides have a mean of none."""
    bends = {}
    for model in study.models("sft"):
        y = largest_parts(study, model).y
        if len(y) == STABLE and measurable(y[-1]):
            bends[model] = (y[-1] - y[-2]) - (y[1] - y[0])
    rule = "gain of the last doubling less that of the first, of 1/8 to 1, mean over models"
    evidence = negligible(rule, mean(list(bends.values())))
    bent = [m for m, bend in bends.items() if negligible("", bend).verdict == "did not hold"]
    if evidence.verdict == "held" and bent:
        evidence = undecided(evidence, f"{', '.join(bent)} bent")
    return of(bends, evidence)


def better_models_gain_less(study: Study) -> Evidence:
    parts = {model: largest_parts(study, model) for model in study.models("sft")}
    models = [model for model, points in parts.items() if len(points.x) == STABLE]
    slopes = [per_doubling(parts[model]) for model in models]
    return slope("slope of (points per doubling of the data) over loss", study, models, slopes)


def rft_gain(study: Study) -> Evidence:
    evidence = positive(f"RFT {LARGEST} - SFT, mean over models", mean(mean_gains(study, LARGEST)))
    return of(study.models("sft", LARGEST), evidence)


def more_k(study: Study) -> Evidence:
    slopes = {model: per_doubling(points) for model, points in sweeps(study).items()}
    rule = "points per doubling of k, mean over models"
    return of(slopes, positive(rule, mean(list(slopes.values()))))


def diminishing(study: Study) -> Evidence:
    """Per doubling: where that is constant, each *sample* brings less all the same."""
    less = {}
    for model, (x, y) in sweeps(study).items():
        middle = len(x) // 2
        early = per_doubling(Points(x[: middle + 1], y[: middle + 1]))
        late = per_doubling(Points(x[middle:], y[middle:]))
        less[model] = early - late
    rule = "points per doubling of k up to the middle k, less those beyond it, mean over models"
    return of(less, positive(rule, mean(list(less.values()))))


def paths_not_samples(study: Study) -> Evidence:
    """Distinct paths against as many random right samples, for all k of at least 6."""
    rule = "RFT - RFT on as many random right rows, mean over k from 6 on"
    more = against(study, "-rows", at_least=6)
    return of({model for model, _ in more}, positive(rule, mean(list(more.values()))))


def paths_not_tokens(study: Study) -> Evidence:
    rule = "RFT - RFT on as many tokens of random right rows, mean over k from 6 on"
    more = against(study, "-tokens", at_least=6)
    return of({model for model, _ in more}, positive(rule, mean(list(more.values()))))


def dedup_is_free(study: Study) -> Evidence:
    rule = f"RFT {LARGEST} - the same without de-duplication, mean over models"
    more = {
        model: difference
        for (model, _), difference in against(study, "-no_dedup", at_least=100).items()
        if measurable(study.accuracy[model, LARGEST])
    }
    return of(more, no_less(rule, mean(list(more.values()))))


def more_for_weak(study: Study) -> Evidence:
    models = study.models("sft", LARGEST)
    rule = f"slope of (RFT {LARGEST} - SFT) over loss, points a nat"
    return slope(rule, study, models, mean_gains(study, LARGEST))


def unions_for_weak(study: Study) -> Evidence:
    rule = "slope of (RFT u_all - SFT) over loss, points a nat"
    return slope(rule, study, study.models("sft", "u_all"), mean_gains(study, "u_all"))


def nothing_for_the_strongest(study: Study) -> Evidence:
    rule = f"RFT {LARGEST} - SFT of the strongest model that was sampled"
    models = study.models("sft", LARGEST)[-1:]
    if not models or not measurable(study.accuracy[models[0], "sft"]):
        return no_more(rule, None)
    return of(models, no_more(rule, mean_gains(study, LARGEST)[-1]))


def unions_bring_more(study: Study) -> Evidence:
    models = study.models("u_small", LARGEST)
    more = [study.accuracy[m, "u_small"] - study.accuracy[m, LARGEST] for m in models]
    return of(models, positive(f"RFT u_small - RFT {LARGEST}, mean over models", mean(more)))


def little_more_in_all(study: Study) -> Evidence:
    models = [
        m for m in study.models("u_small", "u_all") if measurable(study.accuracy[m, "u_small"])
    ]
    more = [study.accuracy[m, "u_all"] - study.accuracy[m, "u_small"] for m in models]
    return of(models, no_more("RFT u_all - RFT u_small, mean over models", mean(more)))


def strong_models_find_fewer(study: Study) -> Evidence:
    models = [model for model in study.models("sft") if 100 in study.paths.get(model, {})]
    found = [study.paths[model][100] for model in models]
    rule = "slope of distinct paths a problem at k=100 over loss, paths a nat"
    evidence = slope(rule, study, models, found)
    right = [study.right[model] for model in models if model in study.right]
    if not right or evidence.number is None:
        return evidence
    # the paper's explanation is that they have learned the training problems by heart
    shares = f"{min(right):.1f} to {max(right):.1f} % of samples right"
    return evidence._replace(remark=f"{evidence.remark}, {shares}")


def rft_raises_votes(study: Study) -> Evidence:
    models = [m for m in study.losses if {(m, "sft"), (m, LARGEST)} <= study.votes.keys()]
    more = [study.votes[m, LARGEST][1] - study.votes[m, "sft"][1] for m in models]
    return of(models, positive(f"maj1@100 of RFT {LARGEST} - of SFT, mean over models", mean(more)))


def votes_beat_greedy(study: Study) -> Evidence:
    more = {key: voted - single for key, (single, voted) in study.votes.items() if key[1] != "icl"}
    rule = "maj1@100 - maj1@1, mean over all models and settings but ICL"
    return of({model for model, _ in more}, positive(rule, mean(list(more.values()))))


def more_paths_on_test(study: Study) -> Evidence:
    rule = "distinct right paths a test problem, RFT u_small - SFT, mean over models"
    models = [m for m in study.losses if {(m, "sft"), (m, "u_small")} <= study.test_paths.keys()]
    if not models:
        return positive(rule, None)
    both = [study.test_paths[m, "u_small"] - study.test_paths[m, "sft"] for m in models]
    by_problem = np.mean(both, axis=0)
    return of(models, positive(rule, Resampler(len(by_problem), []).mean(by_problem)))


def more_than_training_longer(study: Study) -> Evidence:
    models = study.models("sft_matched", LARGEST)
    more = [study.accuracy[m, LARGEST] - study.accuracy[m, "sft_matched"] for m in models]
    rule = f"RFT {LARGEST} - SFT for as many steps, mean over models"
    return of(models, positive(rule, mean(more)))


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

"""Decide a claim by the interval of one estimate.

A claim *held* if the 95% interval of its estimate lies on the claimed side of a threshold and *did
not hold* if it lies on the other side. It is *inconclusive* if the interval crosses the threshold,
if the estimate was not measured, or if no difference could show (``is_measurable``).
"""

from collections.abc import Callable, Collection, Mapping
from typing import Literal, NamedTuple

from screl.analysis.estimates import (
    Estimate,
    mean_estimate,
    sign_hangs_on_one_point,
    slope_over,
)
from screl.analysis.study import Study

Outcome = Literal["held", "did not hold", "inconclusive"]
NEGLIGIBLE = 2.0  # points: a difference that the paper calls no gain, or on par
FLOOR = 5.0  # percent: models near 0 or 100% cannot show a difference


class Evidence(NamedTuple):
    """The outcome of a claim and the estimate that decided it.

    ``estimate`` is compared with 0, or with the threshold that ``criterion`` names; it is None if
    it was not measured. ``remark`` holds other relevant facts.
    """

    criterion: str
    estimate: Estimate | None
    outcome: Outcome
    remark: str = ""


def require_positive(criterion: str, estimate: Estimate | None) -> Evidence:
    """Judge the claim that ``estimate`` is above 0."""
    return Evidence(criterion, estimate, is_above(estimate, 0.0))


def require_no_loss(criterion: str, estimate: Estimate | None) -> Evidence:
    """Judge the claim that ``estimate`` is above ``-NEGLIGIBLE``."""
    outcome = is_above(estimate, -NEGLIGIBLE)
    return Evidence(f"{criterion}, above -{NEGLIGIBLE:g}", estimate, outcome)


def require_no_gain(criterion: str, estimate: Estimate | None) -> Evidence:
    """Judge the claim that ``estimate`` is below ``NEGLIGIBLE``."""
    outcome = is_above(-estimate if estimate else None, -NEGLIGIBLE)
    return Evidence(f"{criterion}, below {NEGLIGIBLE:g}", estimate, outcome)


def require_negligible(criterion: str, estimate: Estimate | None) -> Evidence:
    """Judge the claim that ``estimate`` is between ``-NEGLIGIBLE`` and ``NEGLIGIBLE``."""
    outcomes = {require_no_loss("", estimate).outcome, require_no_gain("", estimate).outcome}
    outcome: Outcome = "inconclusive"
    if "did not hold" in outcomes:
        outcome = "did not hold"
    elif outcomes == {"held"}:
        outcome = "held"
    return Evidence(f"{criterion}, within ±{NEGLIGIBLE:g}", estimate, outcome)


def is_above(estimate: Estimate | None, threshold: float) -> Outcome:
    """Return the outcome of the claim that ``estimate`` is above ``threshold``."""
    if estimate is None:
        return "inconclusive"
    low, high = estimate.interval
    return "held" if low > threshold else "did not hold" if high < threshold else "inconclusive"


def is_measurable(accuracy: Estimate) -> bool:
    """Return whether an accuracy is far enough from 0 and 100% to differ from others."""
    return FLOOR <= accuracy.value <= 100 - FLOOR


def name_models(models: Collection[str], evidence: Evidence) -> Evidence:
    """Add the model, or the number of models, behind the estimate to the remark."""
    if evidence.estimate is None:
        return evidence
    based_on = f"{next(iter(models))} only" if len(models) == 1 else f"{len(models)} models"
    remark = f"{evidence.remark}, {based_on}" if evidence.remark else based_on
    return evidence._replace(remark=remark)


def inconclusive(evidence: Evidence, why: str) -> Evidence:
    """Return ``evidence`` as inconclusive, with the reason as its remark."""
    return evidence._replace(outcome="inconclusive", remark=why)


def judge_mean(
    criterion: str,
    by_model: Mapping[str, Estimate],
    require: Callable[[str, Estimate | None], Evidence] = require_positive,
) -> Evidence:
    """Judge the mean of an estimate over models."""
    mean = mean_estimate(by_model.values())
    return name_models(by_model, require(f"{criterion}, mean over models", mean))


def judge_slope(criterion: str, study: Study, by_model: Mapping[str, Estimate]) -> Evidence:
    """Judge the claim that an estimate rises with loss, even if any one model is left out."""
    losses, y = [study.losses[model] for model in by_model], list(by_model.values())
    evidence = require_positive(criterion, slope_over(losses, y))
    if evidence.outcome != "inconclusive" and sign_hangs_on_one_point(losses, y):
        evidence = inconclusive(evidence, "the sign hangs on one model")
    return name_models(by_model, evidence)

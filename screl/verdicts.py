"""How a number decides a claim: which side of a border its 95 % interval lies on.

*held*: on the claim's side; *did not hold*: on the other; *not decidable here*: across the border,
or not measured, or not measured where it could be seen (``measurable``).
"""

from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple

from screl.contrasts import one_decides, over_loss
from screl.estimates import Estimate
from screl.study import Study

Verdict = Literal["held", "did not hold", "not decidable here"]
NEGLIGIBLE = 2.0  # points: what the paper calls no gain, or as good
FLOOR = 5.0  # percent: models that know nothing, or all, do not differ, whatever is claimed


class Evidence(NamedTuple):
    """``number`` decides, against 0 or what ``rule`` says; None if it was not measured.

    ``remark``: what else had a part in the verdict.
    """

    rule: str
    number: Estimate | None
    verdict: Verdict
    remark: str = ""


def positive(rule: str, number: Estimate | None) -> Evidence:
    """The claim says that ``number`` is above 0."""
    return Evidence(rule, number, side(number, 0.0))


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
    return Evidence(f"{rule}, above -{NEGLIGIBLE:g}", number, side(number, -NEGLIGIBLE))


def no_more(rule: str, number: Estimate | None) -> Evidence:
    """The claim says that ``number`` is no gain, be it a loss: below ``NEGLIGIBLE``."""
    other = None if number is None else -number
    return Evidence(f"{rule}, below {NEGLIGIBLE:g}", number, side(other, -NEGLIGIBLE))


def side(number: Estimate | None, border: float) -> Verdict:
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
    evidence = positive(rule, over_loss(study, models, y))
    if evidence.verdict != "not decidable here" and one_decides(study, models, y):
        evidence = undecided(evidence, "its sign is due to one model")
    return of(models, evidence)

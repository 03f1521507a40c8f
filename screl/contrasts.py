"""Differences, means and slopes of a study's estimates, with their draws."""

from collections.abc import Sequence

import numpy as np

from screl.estimates import N_DRAWS, Estimate
from screl.study import Points, Study


def mean(estimates: Sequence[Estimate]) -> Estimate | None:
    """None of none."""
    if not estimates:
        return None
    draws = np.mean([estimate.draws for estimate in estimates], axis=0)
    return Estimate(float(np.mean([estimate.value for estimate in estimates])), draws)


def gains(study: Study, setting: str) -> list[Estimate]:
    """Over SFT, weakest model first."""
    return [
        study.accuracy[model, setting] - study.accuracy[model, "sft"]
        for model in study.models("sft", setting)
    ]


def against(study: Study, control: str, at_least: int) -> list[Estimate]:
    """RFT less its control, for every model and k that have both."""
    differences = []
    for model in study.losses:
        plain = dict(zip(*study.by_k(model), strict=True))
        other = dict(zip(*study.by_k(model, control), strict=True))
        shared = sorted(k for k in plain.keys() & other.keys() if k >= at_least)
        differences += [plain[k] - other[k] for k in shared]
    return differences


def sweeps(study: Study) -> list[Points]:
    """RFT over k of the models with four k or more."""
    points = [study.by_k(model) for model in study.models("sft")]
    return [of_model for of_model in points if len(of_model.x) >= 4]


def per_doubling(points: Points) -> Estimate:
    """Slope of the least-squares line through the points over log2 x."""
    x = np.log2(points.x)
    weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    values = np.array([estimate.value for estimate in points.y])
    draws = np.stack([estimate.draws for estimate in points.y])
    return Estimate(float(weights @ values), weights @ draws)


def over_loss(study: Study, models: Sequence[str], y: Sequence[Estimate]) -> Estimate | None:
    """Slope of y over the models' loss; None of fewer than three models.

    Its draws are those of Student's t with the scatter of the models around the line, which holds
    both the chance of problems and seeds and what else models differ in.
    """
    from scipy import stats

    if len(models) < 3:
        return None
    line = stats.linregress([study.losses[model] for model in models], [e.value for e in y])
    quantiles = (np.arange(N_DRAWS) + 0.5) / N_DRAWS
    return Estimate(
        float(line.slope), line.slope + line.stderr * stats.t.ppf(quantiles, len(models) - 2)
    )

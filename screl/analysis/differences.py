"""Compute differences, means and slopes of a study's estimates, with their draws."""

from collections.abc import Sequence

import numpy as np

from screl.analysis.estimates import N_DRAWS, Estimate
from screl.analysis.study import Points, Study
from screl.scoring.statistics import Floats


def mean(estimates: Sequence[Estimate]) -> Estimate | None:
    """None of none."""
    if not estimates:
        return None
    draws = np.mean([estimate.draws for estimate in estimates], axis=0)
    return Estimate(float(np.mean([estimate.value for estimate in estimates])), draws)


def mean_gains(study: Study, setting: str) -> list[Estimate]:
    """Over SFT, weakest model first."""
    return [
        study.accuracy[model, setting] - study.accuracy[model, "sft"]
        for model in study.models("sft", setting)
    ]


def against(study: Study, control: str, at_least: int) -> dict[tuple[str, float], Estimate]:
    """RFT less its control, for every model and k that have both."""
    differences = {}
    for model in study.losses:
        plain = dict(zip(*study.by_k(model), strict=True))
        other = dict(zip(*study.by_k(model, control), strict=True))
        for k in sorted(k for k in plain.keys() & other.keys() if k >= at_least):
            differences[model, k] = plain[k] - other[k]
    return differences


def sweeps(study: Study) -> dict[str, Points]:
    """RFT over k of the models with four k or more."""
    points = {model: study.by_k(model) for model in study.models("sft")}
    return {model: of_model for model, of_model in points.items() if len(of_model.x) >= 4}


def per_doubling(points: Points) -> Estimate:
    """Slope of the least-squares line through the points over log2 x."""
    x = np.log2(points.x)
    weights = _slope_weights(x)
    values = np.array([estimate.value for estimate in points.y])
    draws = np.stack([estimate.draws for estimate in points.y])
    return Estimate(float(weights @ values), weights @ draws)


def _slope_weights(x: Floats) -> Floats:
    """What every y counts in the slope of the least-squares line over x."""
    return np.asarray((x - x.mean()) / ((x - x.mean()) ** 2).sum())


def slope_over_loss(study: Study, models: Sequence[str], y: Sequence[Estimate]) -> Estimate | None:
    """Slope of y over the models' loss; None of fewer than three models.

    Its draws are those of Student's t. Their error is that of the scatter of the models around the
    line, or of the chance of problems and seeds alone where this is more: few models may lie on a
    line by luck.
    """
    from scipy import stats

    if len(models) < 3:
        return None
    x = np.array([study.losses[model] for model in models])
    line = stats.linregress(x, [estimate.value for estimate in y])
    weights = _slope_weights(x)
    by_chance = float((weights @ np.stack([estimate.draws for estimate in y])).std())
    quantiles = stats.t.ppf((np.arange(N_DRAWS) + 0.5) / N_DRAWS, len(models) - 2)
    return Estimate(float(line.slope), line.slope + max(line.stderr, by_chance) * quantiles)


def one_decides(study: Study, models: Sequence[str], y: Sequence[Estimate]) -> bool:
    """Whether the slope of y over loss has another sign without one of the models."""
    x, values = [study.losses[model] for model in models], [estimate.value for estimate in y]
    signs = {np.sign(np.polyfit(x, values, 1)[0])}
    for i in range(len(models)):
        signs.add(np.sign(np.polyfit(x[:i] + x[i + 1 :], values[:i] + values[i + 1 :], 1)[0]))
    return len(signs) > 1

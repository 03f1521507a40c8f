"""Fit the paper's relations to a study and predict unmeasured points."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from screl.analysis.estimates import N_DRAWS, Estimate, Points
from screl.analysis.laws import (
    LINE,
    PER_DOUBLING,
    POWER,
    SATURATION,
    SEGMENTS,
    Fit,
    Law,
    fit_law,
    fit_law_to_draws,
)
from screl.analysis.study import Study
from screl.scoring.statistics import Floats

SFT_OVER_LOSS = "SFT accuracy over pre-training loss"
ICL_OVER_LOSS = "ICL accuracy over pre-training loss"
SFT_OVER_STABLE_ROWS = "SFT accuracy over solutions, fractions 1 to 1/8"
SFT_OVER_ROWS = "SFT accuracy over solutions, all fractions"
SFT_OVER_ROWS_BENT = "SFT accuracy over solutions, all fractions, with a bend"
RFT_OVER_K = "RFT accuracy over k"
RFT_OVER_PATHS = "RFT accuracy over distinct paths"
PATHS_OVER_K = "new distinct paths over k"
PATHS_OVER_K_LIMITED = "new distinct paths over k, with a limit"

N_MORE_SOLUTIONS = 100


class FittedRelation(NamedTuple):
    """A relation fitted for one model, or over models (``model`` is empty)."""

    relation: str
    model: str
    fit: Fit
    draws: Floats  # of the parameters over problems, (draws, parameters)


class Prediction(NamedTuple):
    """A predicted value with its 95% interval."""

    what: str
    value: float
    low: float
    high: float
    unit: str


def fit_study(study: Study) -> list[FittedRelation]:
    """Fit every relation for which the study has more points than parameters."""
    wanted = [
        (SFT_OVER_LOSS, "", LINE, study.by_loss("sft")),
        (ICL_OVER_LOSS, "", LINE, study.by_loss("icl")),
    ]
    for model in study.models("sft"):
        rows, paths = study.by_rows(model), new_paths(study, model)
        wanted += [
            (SFT_OVER_STABLE_ROWS, model, PER_DOUBLING, study.by_stable_rows(model)),
            (SFT_OVER_ROWS, model, PER_DOUBLING, rows),
            (SFT_OVER_ROWS_BENT, model, SEGMENTS, rows),
            (RFT_OVER_K, model, PER_DOUBLING, study.by_k(model)),
            (RFT_OVER_PATHS, model, PER_DOUBLING, study.by_paths(model)),
            (PATHS_OVER_K, model, POWER, paths),
            (PATHS_OVER_K_LIMITED, model, SATURATION, paths),
        ]
    found = [_fit_relation(*one) for one in wanted]
    return [fitted for fitted in found if fitted]


def new_paths(study: Study, model: str) -> Points:
    """Return distinct paths per problem over k, without the solution's own.

    The samples for a larger k include those for a smaller one, so a law's residuals are misfit
    rather than chance, and its intervals over points are only a hint.
    """
    of_k = study.paths.get(model, {})
    return Points(
        sorted(of_k), [Estimate(of_k[k].value - 1, of_k[k].draws - 1) for k in sorted(of_k)]
    )


def _fit_relation(relation: str, model: str, law: Law, points: Points) -> FittedRelation | None:
    x, y = np.array(points.x, dtype=float), np.array([estimate.value for estimate in points.y])
    if len(x) <= len(law.parameter_names) or not np.ptp(y):  # nothing to fit if all are equal
        return None
    draws = np.stack([estimate.draws for estimate in points.y], axis=1)
    return FittedRelation(relation, model, fit_law(law, x, y), fit_law_to_draws(law, x, draws))


def find_fit(fits: Sequence[FittedRelation], relation: str, model: str = "") -> Fit | None:
    """Return the fit of this relation and model; None if it had too few points."""
    for fitted in fits:
        if (fitted.relation, fitted.model) == (relation, model):
            return fitted.fit
    return None


def predict_unmeasured(study: Study, fits: Sequence[FittedRelation]) -> list[Prediction]:
    """Predict points that were not measured, with 95% intervals."""
    found: list[Prediction | None] = []
    if by_loss := find_fit(fits, SFT_OVER_LOSS):
        loss = float(np.round((by_loss.x.min() + by_loss.x.max()) / 2, 2))
        found.append(_predict_accuracy(f"SFT of a base model with loss {loss}", by_loss, loss))
    for model in study.models("sft"):
        if by_k := find_fit(fits, RFT_OVER_K, model):
            k = 2 * by_k.x.max()
            found.append(_predict_accuracy(f"{model}: RFT with k={k:.0f}", by_k, k))
        found.append(predict_paths(fits, model))
        found.append(predict_worth_of_solutions(study, fits, model))
    return [prediction for prediction in found if prediction]


def _predict_accuracy(what: str, fit: Fit, x: float) -> Prediction:
    value, low, high = np.clip(fit.predict(x), 0, 100).tolist()
    return Prediction(what, value, low, high, "%")


def predict_paths(fits: Sequence[FittedRelation], model: str) -> Prediction | None:
    """Predict distinct paths per problem at twice the largest k, from laws with and without limit.

    Neither law can be trusted beyond its points. When fitted up to k = 50 for the paper's five
    models and five of the miniature's, the law without a limit predicts too many paths at k = 100
    and the other one too few. The interval runs from the lower end of one to the upper end of the
    other. It covered the truth ten times out of ten; the interval of the law with less
    leave-one-out error covered it once.
    """
    laws = [find_fit(fits, relation, model) for relation in (PATHS_OVER_K, PATHS_OVER_K_LIMITED)]
    known = [law for law in laws if law]
    if len(known) < len(laws):
        return None
    k = 2 * known[0].x.max()
    values, lows, highs = zip(*(law.predict(k) for law in known), strict=True)
    ends = (1 + float(np.mean(values)), 1 + min(lows), 1 + max(highs))
    if not np.isfinite(ends).all():
        return None
    return Prediction(f"{model}: distinct paths with k={k:.0f}", *ends, "per problem")


def predict_worth_of_solutions(
    study: Study, fits: Sequence[FittedRelation], model: str
) -> Prediction | None:
    """Predict how many sampled paths gain as much as additional human-written solutions.

    Extrapolates SFT accuracy over solutions (from 1/8 of the data up) and RFT accuracy over
    distinct paths. The interval is over points, with both slopes drawn from Student's t; it is
    infinite if more paths may gain nothing.
    """
    by_rows, by_paths = (
        find_fit(fits, relation, model) for relation in (SFT_OVER_STABLE_ROWS, RFT_OVER_PATHS)
    )
    if not by_rows or not by_paths:
        return None
    doublings_of_rows = np.log2((study.n_rows + N_MORE_SOLUTIONS) / study.n_rows)
    n_paths = by_paths.x.max()

    def worth(gain_of_rows: Floats, gain_of_paths: Floats) -> Floats:
        """Convert points per doubling of the rows and of the paths to a number of paths."""
        points = doublings_of_rows * np.maximum(0, gain_of_rows)
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            doublings = np.where(points, points / np.maximum(0, gain_of_paths), 0)
            return np.asarray(n_paths * (2**doublings - 1) * study.n_rows)

    random = np.random.default_rng(0)
    draws = worth(_draw_slopes(by_rows, random), _draw_slopes(by_paths, random))
    low, high = np.percentile(draws, [2.5, 97.5], method="nearest")
    value = float(worth(by_rows.parameters[1:2], by_paths.parameters[1:2])[0])
    what = f"{model}: {N_MORE_SOLUTIONS} more human-written solutions are worth"
    return Prediction(what, value, float(low), float(high), "sampled distinct paths")


def _draw_slopes(line: Fit, random: np.random.Generator) -> Floats:
    error = np.sqrt(line.covariance[1, 1])
    return line.parameters[1] + error * random.standard_t(line.degrees_of_freedom, N_DRAWS)

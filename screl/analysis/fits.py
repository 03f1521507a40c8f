"""The paper's relations fitted to a study, and what they predict."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from screl.analysis.estimates import N_DRAWS, Estimate
from screl.analysis.laws import (
    LINE,
    PER_DOUBLING,
    POWER,
    SATURATION,
    SEGMENTS,
    Fit,
    Law,
    fit,
    over_problems,
)
from screl.analysis.study import Points, Study
from screl.scoring.statistics import Floats

STABLE = 4  # the paper's law of data amounts is stable for 1, 1/2, 1/4 and 1/8 (section 3.2)
MORE = 100  # human-written solutions


class Fitted(NamedTuple):
    """One relation of one model (or over models: none named), with draws of its parameters
    over problems."""

    relation: str
    model: str
    fit: Fit
    problems: Floats  # (draws, parameters)


class Prediction(NamedTuple):
    """Of something not measured."""

    what: str
    value: float
    low: float
    high: float
    unit: str


def fit_study(study: Study) -> list[Fitted]:
    """Every relation that the study has more points for than parameters."""
    found = [
        _fit("SFT accuracy over pre-training loss", "", LINE, study.by_loss("sft")),
        _fit("ICL accuracy over pre-training loss", "", LINE, study.by_loss("icl")),
    ]
    for model in study.models("sft"):
        rows = study.by_rows(model)
        found += [
            _fit(
                "SFT accuracy over solutions, 1 to 1/8",
                model,
                PER_DOUBLING,
                largest_parts(study, model),
            ),
            _fit("SFT accuracy over solutions, all", model, PER_DOUBLING, rows),
            _fit("SFT accuracy over solutions, all, with a bend", model, SEGMENTS, rows),
            _fit("RFT accuracy over k", model, PER_DOUBLING, study.by_k(model)),
            _fit("RFT accuracy over distinct paths", model, PER_DOUBLING, study.by_paths(model)),
        ]
        new = new_paths(study, model)
        found += [
            _fit("distinct paths found over k", model, POWER, new),
            _fit("distinct paths found over k, to a limit", model, SATURATION, new),
        ]
    return [fitted for fitted in found if fitted]


def largest_parts(study: Study, model: str) -> Points:
    """SFT on 1/8 to all of the data: ``STABLE`` points where all of them were measured."""
    rows = study.by_rows(model)
    n = sum(x >= study.n_rows // 2 ** (STABLE - 1) for x in rows.x)
    return Points(rows.x[-n:], rows.y[-n:])


def new_paths(study: Study, model: str) -> Points:
    """Distinct paths a problem beside the solution's, over k.

    The larger k has the samples of the smaller, so what a law leaves is its misfit rather than
    chance, and its intervals over points are no more than a hint.
    """
    of_k = study.paths.get(model, {})
    return Points(
        sorted(of_k), [Estimate(of_k[k].value - 1, of_k[k].draws - 1) for k in sorted(of_k)]
    )


def _fit(relation: str, model: str, law: Law, points: Points) -> Fitted | None:
    x, y = np.array(points.x, dtype=float), np.array([estimate.value for estimate in points.y])
    if len(x) <= len(law.parameters) or not np.ptp(y):  # all the same: nothing to fit
        return None
    draws = np.stack([estimate.draws for estimate in points.y], axis=1)
    return Fitted(relation, model, fit(law, x, y), over_problems(law, x, draws))


def find(fits: Sequence[Fitted], relation: str, model: str = "") -> Fitted | None:
    """The fit of this relation and model; None if there were too few points for it."""
    for fitted in fits:
        if (fitted.relation, fitted.model) == (relation, model):
            return fitted
    return None


def predict_from_law(study: Study, fits: Sequence[Fitted]) -> list[Prediction]:
    """Points that nobody has measured, with 95 % intervals."""
    found = []
    by_loss = find(fits, "SFT accuracy over pre-training loss")
    if by_loss:
        loss = float(np.round((by_loss.fit.x.min() + by_loss.fit.x.max()) / 2, 2))
        found.append(_accuracy(f"SFT of a base model of loss {loss}", by_loss.fit.predict(loss)))
    for model in study.models("sft"):
        if by_k := find(fits, "RFT accuracy over k", model):
            twice = 2 * by_k.fit.x.max()
            found.append(_accuracy(f"{model}: RFT with k={twice:.0f}", by_k.fit.predict(twice)))
        if paths := paths_with_twice_the_samples(fits, model):
            found.append(paths)
        if worth := worth_of_solutions(study, fits, model):
            found.append(worth)
    return found


def _accuracy(what: str, predicted: tuple[float, float, float]) -> Prediction:
    value, low, high = np.clip(predicted, 0, 100).tolist()
    return Prediction(what, value, low, high, "%")


def paths_with_twice_the_samples(fits: Sequence[Fitted], model: str) -> Prediction | None:
    """Distinct paths a problem, between what a law with a limit and one without foresee.

    Neither can be trusted beyond its points: shown k up to 50, of the paper's five models and of
    five of the miniature's, the law without a limit foresees too many paths of k = 100 and the
    other too few. The interval goes from the lower end of the lower to the upper end of the higher
    one; it held the truth ten times in ten, that of the law nearer to the points left out once.
    """
    relations = ("distinct paths found over k", "distinct paths found over k, to a limit")
    laws = [fitted.fit for relation in relations if (fitted := find(fits, relation, model))]
    if len(laws) < len(relations):
        return None
    twice = 2 * laws[0].x.max()
    values, lows, highs = zip(*(law.predict(twice) for law in laws), strict=True)
    what = f"{model}: distinct paths with k={twice:.0f}"
    ends = (1 + float(np.mean(values)), 1 + min(lows), 1 + max(highs))
    return Prediction(what, *ends, "a problem") if np.isfinite(ends).all() else None


def worth_of_solutions(study: Study, fits: Sequence[Fitted], model: str) -> Prediction | None:
    """How many sampled distinct paths bring as many points as ``MORE`` human-written solutions.

    The solutions by the law of data amounts from 1/8 on, the paths by that of distinct paths, both
    continued from all data and all paths. The interval is over points, both slopes drawn from
    Student's t; infinite where more paths may bring nothing.
    """
    by_rows = find(fits, "SFT accuracy over solutions, 1 to 1/8", model)
    by_paths = find(fits, "RFT accuracy over distinct paths", model)
    if not by_rows or not by_paths:
        return None
    ratio = np.log2((study.n_rows + MORE) / study.n_rows)
    paths = by_paths.fit.x.max()

    def worth(per_doubling_of_rows: Floats, per_doubling_of_paths: Floats) -> Floats:
        gained = ratio * np.maximum(0, per_doubling_of_rows)
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            doublings = np.where(gained, gained / np.maximum(0, per_doubling_of_paths), 0)
            return np.asarray(paths * (2**doublings - 1) * study.n_rows)

    random = np.random.default_rng(0)
    draws = worth(_draw_slopes(by_rows.fit, random), _draw_slopes(by_paths.fit, random))
    low, high = np.percentile(draws, [2.5, 97.5], method="nearest")
    value = float(worth(by_rows.fit.values[1:2], by_paths.fit.values[1:2])[0])
    what = f"{model}: {MORE} more human-written solutions are worth"
    return Prediction(what, value, float(low), float(high), "sampled distinct paths")


def _draw_slopes(line: Fit, random: np.random.Generator) -> Floats:
    error = np.sqrt(line.covariance[1, 1])
    return line.values[1] + error * random.standard_t(line.degrees_of_freedom, N_DRAWS)

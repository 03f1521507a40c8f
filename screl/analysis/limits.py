"""Where a study's relations end: gains and slopes that are none, points that leave their line.

What cannot be told from nothing by these numbers need not be nothing.
"""

from collections.abc import Iterator, Sequence

from screl.analysis.estimates import Estimate, interval
from screl.analysis.fits import Fitted, find
from screl.analysis.laws import LINE, PER_DOUBLING
from screl.analysis.study import Study

RFT = ("k100", "u_small", "u_all")


def limits_list(study: Study, fits: Sequence[Fitted]) -> str:
    """One line of markdown a finding, with the numbers that it rests on."""
    found = [*_no_gains(study), *_no_slopes(fits), *_off_the_line(study, fits)]
    return "\n".join(f"* {line}" for line in found) or "None was found."


def _no_gains(study: Study) -> Iterator[str]:
    for setting in RFT:
        for model in study.models("sft", setting):
            gain = study.accuracy[model, setting] - study.accuracy[model, "sft"]
            low, high = gain.interval
            if high < 0:
                yield f"{model}: RFT {setting} does harm, {_points(gain)} against SFT."
            elif low <= 0:
                yield f"{model}: no gain of RFT {setting} is told, {_points(gain)} over SFT."


def _points(gain: Estimate) -> str:
    low, high = gain.interval
    return f"{gain.value:.1f} points [{low:.1f}, {high:.1f}]"


def _no_slopes(fits: Sequence[Fitted]) -> Iterator[str]:
    """Of straight lines, by either interval."""
    for fitted in fits:
        if fitted.fit.law not in (LINE, PER_DOUBLING):
            continue
        of_points, of_problems = fitted.fit.intervals()[1], interval(fitted.problems[:, 1])
        for over, (low, high) in (("problems", of_problems), ("points", of_points)):
            if low <= 0 <= high:
                yield (
                    f"{fitted.model or 'all models'}: no slope of {fitted.relation} is told, "
                    f"{fitted.fit.values[1]:.3g} [{low:.3g}, {high:.3g}] over {over}."
                )


def _off_the_line(study: Study, fits: Sequence[Fitted]) -> Iterator[str]:
    """Parts of the data below 1/8 that lie outside what the line of the larger ones foresees."""
    for model in study.models("sft"):
        line = find(fits, "SFT accuracy over solutions, 1 to 1/8", model)
        if line is None:
            continue
        for rows, accuracy in zip(*study.by_rows(model), strict=True):
            expected, low, high = line.fit.predict(rows)
            if rows < line.fit.x.min() and not low <= accuracy.value <= high:
                yield (
                    f"{model}: SFT on {rows:,.0f} solutions leaves the line of 1 to 1/8, "
                    f"{accuracy.value:.1f} % where it has {expected:.1f} [{low:.1f}, {high:.1f}]."
                )

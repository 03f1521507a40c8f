"""Write a study as Markdown: claims, scores, limits, paths, cost, fits, predictions, figures."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from screl.analysis.claims import CLAIMS
from screl.analysis.cost_report import format_power
from screl.analysis.estimates import Estimate, percentile_interval
from screl.analysis.figures import GAINS_WITH_COST, SETTINGS, draw_figures
from screl.analysis.fits import (
    SFT_OVER_STABLE_ROWS,
    FittedRelation,
    Prediction,
    find_fit,
    fit_study,
    predict_unmeasured,
)
from screl.analysis.laws import LINE, PER_DOUBLING
from screl.analysis.study import Study

GAINS_NOTE = (
    "Points gained over SFT. A gain whose interval includes 0 is not statistically significant:"
)
COST_NOTE = (
    "FLOPs beyond the previous model, counted as in the paper (screl/core/cost.py). RFT includes "
    "sampling. For a union, runs made here also include SFT and sampling of the other models, but "
    "not their pre-training; the paper's Table 4 includes the model's own samples only."
)
FITS_NOTE = (
    "Intervals over problems are for other test problems and training seeds, with the same models; "
    "intervals over points are for other models or data amounts, by Student's t."
)


def study_report(title: str, studies: Sequence[Study], folder: Path, head: str) -> str:
    """Return the Markdown report on the last of ``studies``, with the claims and figures of all.

    Draws the figures in ``folder``, which must be next to the report.
    """
    fits = [fit_study(study) for study in studies]
    figures = draw_figures(studies, fits, folder)
    study, of_study = studies[-1], fits[-1]
    sections = {
        "Before reading the numbers": "\n".join(f"* {caution}" for caution in study.cautions),
        "Claims": claims_table(studies),
        "Scores": f"{seeds_line(study)}\n\n{scores_table(study)}",
        "Gains": f"{GAINS_NOTE}\n\n{gains_table(study)}",
        "Votes": votes_table(study) if study.votes else "",
        "Limits of the relations": limits_list(study, of_study),
        "Distinct paths": f"Per problem, including the solution's:\n\n{paths_table(study)}",
        "Cost": f"{COST_NOTE}\n\n{cost_table(study)}",
        "Fits": f"{FITS_NOTE}\n\n{fits_table(of_study)}",
        "Predictions (not measured)": predictions_list(predict_unmeasured(study, of_study)),
        "Figures": "\n\n".join(f"![{png.stem}]({folder.name}/{png.name})" for png in figures),
    }
    parts = [f"## {name}\n\n{text}" for name, text in sections.items() if text]
    return "\n\n".join([f"# {title}", head, *parts, ""])


def claims_table(studies: Sequence[Study]) -> str:
    """Return every claim with its outcome, and the estimate that decided it, in each study."""
    rows = [["claim (section)", "criterion", *(study.name for study in studies)]]
    for claim in CLAIMS:
        evidence = [claim.judge(study) for study in studies]
        cells = [
            f"**{one.outcome}**"
            + (f": {show_estimate(one.estimate)}" if one.estimate else ", not measured")
            + (f", {one.remark}" if one.remark else "")
            for one in evidence
        ]
        rows.append([f"{claim.text} ({claim.section})", evidence[0].criterion, *cells])
    return markdown_table(rows)


def seeds_line(study: Study) -> str:
    """Return a line with the number of training seeds behind each accuracy."""
    fewest, most = min(study.n_seeds.values()), max(study.n_seeds.values())
    return f"Training seeds per score: {fewest if fewest == most else f'{fewest} to {most}'}."


def scores_table(study: Study) -> str:
    """Return maj1@1 of every model in the main settings."""
    settings = [s for s in (*SETTINGS, "sft_matched") if study.models(s)]
    rows = [["model", "loss", *settings]]
    for model in study.models():
        scores = [study.accuracy.get((model, setting)) for setting in settings]
        rows.append([model, f"{study.losses[model]:.3f}", *map(_cell, scores)])
    return markdown_table(rows)


def gains_table(study: Study) -> str:
    """Return points over SFT of every RFT setting, and of SFT for as many steps as RFT."""
    gains = {s: study.gains(s) for s in ("k100", "u_small", "u_all", "sft_matched")}
    gains = {setting: of_models for setting, of_models in gains.items() if of_models}
    rows = [["model", "loss", *gains]]
    for model in study.models("sft"):
        of_model = [of_models.get(model) for of_models in gains.values()]
        if any(of_model):
            rows.append([model, f"{study.losses[model]:.3f}", *map(_cell, of_model)])
    return markdown_table(rows)


def votes_table(study: Study) -> str:
    """Return maj1@1 / maj1@100 on the same problems (Table 6)."""
    settings = [s for s in SETTINGS if any(of == s for _, of in study.votes)]
    rows = [["model", *settings]]
    for model in study.models():
        both = [study.votes.get((model, setting)) for setting in settings]
        if any(both):
            rows.append(
                [model, *(" / ".join(map(show_estimate, of)) if of else "-" for of in both)]
            )
    head = f"maj1@1 / maj1@100 of one training seed on {study.n_vote_problems:,} problems:"
    return f"{head}\n\n{markdown_table(rows)}"


def limits_list(study: Study, fits: Sequence[FittedRelation]) -> str:
    """Return a line for each gain or slope that is not significant and each point off its line."""
    found = [*_missing_gains(study), *_missing_slopes(fits), *_off_the_line(study, fits)]
    return "\n".join(f"* {line}" for line in found) or "None found."


def _missing_gains(study: Study) -> Iterator[str]:
    for setting in ("k100", "u_small", "u_all"):
        for model, gain in study.gains(setting).items():
            low, high = gain.interval
            points = f"{gain.value:.1f} points [{low:.1f}, {high:.1f}]"
            if high < 0:
                yield f"{model}: RFT {setting} is worse than SFT: {points}."
            elif low <= 0:
                yield f"{model}: the gain of RFT {setting} over SFT is not significant: {points}."


def _missing_slopes(fits: Sequence[FittedRelation]) -> Iterator[str]:
    """Yield a line for each straight line with an interval of its slope that includes 0."""
    for relation, model, fit, draws in fits:
        if fit.law not in (LINE, PER_DOUBLING):
            continue
        over_problems, over_points = percentile_interval(draws[:, 1]), fit.intervals()[1]
        for over, (low, high) in (("problems", over_problems), ("points", over_points)):
            if low <= 0 <= high:
                yield (
                    f"{model or 'all models'}: {relation}, has no significant slope: "
                    f"{fit.parameters[1]:.3g} [{low:.3g}, {high:.3g}] over {over}."
                )


def _off_the_line(study: Study, fits: Sequence[FittedRelation]) -> Iterator[str]:
    """Yield a line for each fraction below 1/8 that lies off the line of the larger ones."""
    for model in study.models("sft"):
        line = find_fit(fits, SFT_OVER_STABLE_ROWS, model)
        if line is None:
            continue
        for rows, accuracy in zip(*study.by_rows(model), strict=True):
            expected, low, high = line.predict(rows)
            if rows < line.x.min() and not low <= accuracy.value <= high:
                yield (
                    f"{model}: SFT on {rows:,.0f} solutions is off the line fitted to 1 to 1/8: "
                    f"{accuracy.value:.1f}%, predicted {expected:.1f} [{low:.1f}, {high:.1f}]."
                )


def paths_table(study: Study) -> str:
    """Return distinct paths per problem by number of samples (Table 2)."""
    ks = sorted({k for of_k in study.paths.values() for k in of_k})
    rows = [["samples of", *(f"k={k}" for k in ks)]]
    for name, of_k in study.paths.items():
        rows.append([name, *(f"{of_k[k].value:.2f}" if k in of_k else "-" for k in ks)])
    return markdown_table(rows)


def cost_table(study: Study) -> str:
    """Return FLOPs of every setting, as a share of pre-training, and per point (Table 4)."""
    rows = [["model", "setting", "FLOPs", "of pre-training", "points over", "FLOPs per point"]]
    for model in study.models("sft"):
        for setting, before in GAINS_WITH_COST:
            flops, of_base = study.flops.get((model, setting)), study.pretraining_flops.get(model)
            if flops is None or not of_base or model not in study.models(before, setting):
                continue
            gain = study.gain(model, setting, before)
            is_significant = gain.interval[0] > 0
            price = format_power(flops / gain.value) if is_significant else "not significant"
            share, gained = format_power(flops / of_base), f"{before}: {show_estimate(gain)}"
            rows.append([model, setting, format_power(flops), share, gained, price])
    return markdown_table(rows)


def fits_table(fits: Sequence[FittedRelation]) -> str:
    """Return coefficients with both intervals, R², and leave-one-out error of every fit."""
    rows = [["relation", "model", "points", "law", "95% over problems", "95% over points", "R²",
             "leave-one-out error"]]  # fmt: skip
    for relation, model, fit, draws in fits:
        names = fit.law.parameter_names
        named = zip(names, fit.parameters, strict=True)
        coefficients = ", ".join(f"{name} = {value:.4g}" for name, value in named)
        is_known = np.ptp(draws, axis=0).max() > 0
        over_problems = [percentile_interval(of_one) for of_one in draws.T]
        rows.append(
            [
                relation,
                model or "all",
                str(len(fit.x)),
                f"{fit.law.text}: {coefficients}",
                _show_intervals(names, over_problems) if is_known else "unknown",
                _show_intervals(names, fit.intervals()),
                f"{fit.r_squared:.3f}",
                f"{fit.leave_one_out_error:.2f}",
            ]
        )
    return markdown_table(rows)


def _show_intervals(names: Sequence[str], intervals: Sequence[tuple[float, float]]) -> str:
    if np.isinf(intervals).any():
        return "not identified"
    named = zip(names, intervals, strict=True)
    return ", ".join(f"{name} {low:.4g} to {high:.4g}" for name, (low, high) in named)


def predictions_list(predictions: Sequence[Prediction]) -> str:
    """Return one line per prediction."""
    lines = []
    for p in predictions:
        unit = p.unit if p.unit == "%" else f" {p.unit}"
        lines.append(f"* {p.what}: {p.value:,.1f}{unit} [{p.low:,.1f}, {p.high:,.1f}]")
    return "\n".join(lines)


def show_estimate(estimate: Estimate) -> str:
    """Format an estimate as ``value [low, high]``, with more decimals if all are below 1."""
    low, high = estimate.interval
    decimals = 1 if max(abs(low), abs(high)) >= 1 else 3
    return f"{estimate.value:.{decimals}f} [{low:.{decimals}f}, {high:.{decimals}f}]"


def _cell(estimate: Estimate | None) -> str:
    return show_estimate(estimate) if estimate else "-"


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; the first row is the header."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "| " + " | ".join("---" for _ in rows[0]) + " |")
    return "\n".join(lines)

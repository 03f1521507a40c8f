"""A study as markdown: claims, scores, limits, paths, cost, fits, predictions, figures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from screl.analysis.claims import CLAIMS
from screl.analysis.cost import show_power
from screl.analysis.estimates import Estimate, interval
from screl.analysis.figures import FIGURES, SETTINGS, draw
from screl.analysis.fits import Fitted, Prediction, fit_study, predict_from_law
from screl.analysis.laws import Fit
from screl.analysis.limits import limits_list
from screl.analysis.study import Study

OF_COST = (
    "FLOPs as the paper counts them (screl/core/cost.py), beyond the model before. RFT's are "
    "those of "
    "sampling too; of a union, in runs made here, with SFT and sampling of the other models, "
    "though not their pre-training, in the paper's Table 4 with the model's own samples only."
)


def claims_table(studies: Sequence[Study]) -> str:
    """Every claim, and in each study its verdict and the number that decides it."""
    rows = [["claim (section)", "what decides", *(study.name for study in studies)]]
    for claim in CLAIMS:
        evidence = [claim.ask(study) for study in studies]
        cells = [
            f"**{of.verdict}**"
            + (f": {show_estimate(of.number)}" if of.number else ", not measured")
            + (f", {of.remark}" if of.remark else "")
            for of in evidence
        ]
        rows.append([f"{claim.text} ({claim.section})", evidence[0].rule, *cells])
    return markdown_table(rows)


def fits_table(fits: Sequence[Fitted]) -> str:
    """Coefficients with both intervals, R², and the error of leaving a point out."""
    rows = [["relation", "model", "points", "law", "95 % over problems", "95 % over points", "R²",
             "left-out error"]]  # fmt: skip
    for fitted in fits:
        fit = fitted.fit
        named = zip(fit.law.parameters, fit.values, strict=True)
        coefficients = ", ".join(f"{name} = {value:.4g}" for name, value in named)
        rows.append(
            [
                fitted.relation,
                fitted.model or "all",
                str(len(fit.x)),
                f"{fit.law.text}: {coefficients}",
                _over_problems(fitted),
                _over_points(fit),
                f"{fit.r_squared:.3f}",
                f"{fit.left_out_error:.2f}",
            ]
        )
    return markdown_table(rows)


def _over_problems(fitted: Fitted) -> str:
    if np.ptp(fitted.problems, axis=0).max() == 0:
        return "not known"
    return _intervals(fitted.fit.law.parameters, [interval(of) for of in fitted.problems.T])


def _over_points(fit: Fit) -> str:
    ranges = fit.intervals()
    return "not told" if np.isinf(ranges).any() else _intervals(fit.law.parameters, ranges)


def _intervals(names: Sequence[str], ranges: Sequence[tuple[float, float]]) -> str:
    return ", ".join(
        f"{n} {low:.4g} to {high:.4g}" for n, (low, high) in zip(names, ranges, strict=True)
    )


def predictions_list(predictions: Sequence[Prediction]) -> str:
    """One line each."""
    return "\n".join(
        f"* {p.what}: {p.value:,.1f} {p.unit} [{p.low:,.1f}, {p.high:,.1f}]" for p in predictions
    )


def scores_table(study: Study) -> str:
    """maj1@1 of every model and main setting."""
    settings = [s for s in (*SETTINGS, "sft_matched") if study.models(s)]
    rows = [["model", "loss", *settings]]
    for model in study.models():
        scores = [study.accuracy.get((model, setting)) for setting in settings]
        cells = [show_estimate(score) if score else "-" for score in scores]
        rows.append([model, f"{study.losses[model]:.3f}", *cells])
    return markdown_table(rows)


def votes_table(study: Study) -> str:
    """maj1@1, and maj1@100 of the same problems behind a stroke (Table 6)."""
    settings = [s for s in SETTINGS if any(of == s for _, of in study.votes)]
    rows = [["model", *settings]]
    for model in study.models():
        both = [study.votes.get((model, setting)) for setting in settings]
        if any(both):
            rows.append(
                [model, *(" / ".join(map(show_estimate, of)) if of else "-" for of in both)]
            )
    head = f"maj1@1 / maj1@100, of one training seed on {study.n_vote_problems:,} problems:"
    return f"{head}\n\n{markdown_table(rows)}"


def seeds_line(study: Study) -> str:
    """How many training seeds its accuracies are means of."""
    fewest, most = min(study.n_seeds.values()), max(study.n_seeds.values())
    return f"Training seeds a score: {fewest if fewest == most else f'{fewest} to {most}'}."


def gains_table(study: Study) -> str:
    """Points over SFT of every RFT setting, and of SFT for as many steps as RFT takes."""
    settings = [s for s in ("k100", "u_small", "u_all", "sft_matched") if study.models("sft", s)]
    rows = [["model", "loss", *settings]]
    for model in study.models("sft"):
        gains = [
            study.accuracy[model, s] - study.accuracy[model, "sft"]
            if (model, s) in study.accuracy
            else None
            for s in settings
        ]
        if any(gains):
            cells = [show_estimate(gain) if gain else "-" for gain in gains]
            rows.append([model, f"{study.losses[model]:.3f}", *cells])
    return markdown_table(rows)


def cost_table(study: Study) -> str:
    """FLOPs of every stage, as a share of pre-training, and for each point gained (Table 4)."""
    rows = [["model", "setting", "FLOPs", "of pre-training", "points over", "FLOPs a point"]]
    for model in study.models("sft"):
        for setting, before in (
            ("sft", "icl"),
            ("k100", "sft"),
            ("u_small", "sft"),
            ("u_all", "sft"),
        ):
            flops, pretraining = (
                study.flops.get((model, setting)),
                study.pretraining_flops.get(model),
            )
            if flops is None or not pretraining or model not in study.models(before, setting):
                continue
            points = study.accuracy[model, setting] - study.accuracy[model, before]
            told = points.interval[0] > 0
            price = show_power(flops / points.value) if told else "not told from 0"
            share = show_power(flops / pretraining)
            gained = f"{before}: {show_estimate(points)}"
            rows.append([model, setting, show_power(flops), share, gained, price])
    return markdown_table(rows)


def paths_table(study: Study) -> str:
    """Distinct paths a problem, the solution's too, by samples (Table 2)."""
    ks = sorted({k for of_k in study.paths.values() for k in of_k})
    rows = [["samples of", *(f"k={k}" for k in ks)]]
    for name, of_k in study.paths.items():
        rows.append([name, *(f"{of_k[k].value:.2f}" if k in of_k else "-" for k in ks)])
    return markdown_table(rows)


def show_estimate(estimate: Estimate) -> str:
    """``value [low, high]``, with more decimals where all are below 1."""
    low, high = estimate.interval
    decimals = 1 if max(abs(low), abs(high)) >= 1 else 3
    return f"{estimate.value:.{decimals}f} [{low:.{decimals}f}, {high:.{decimals}f}]"


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """The first row is the header."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "| " + " | ".join("---" for _ in rows[0]) + " |")
    return "\n".join(lines)


def draw_figures(
    studies: Sequence[Study], fits: Sequence[list[Fitted]], folder: Path
) -> list[Path]:
    """Every figure of which a study has points, the studies side by side; the PNGs."""
    written = []
    for name, panel_of in FIGURES.items():
        panels = [panel_of(study, of) for study, of in zip(studies, fits, strict=True)]
        drawn = [panel for panel in panels if panel.series]
        if drawn:
            written.append(draw(folder / name, drawn)[0])
    return written


def study_report(title: str, studies: Sequence[Study], folder: Path, head: str) -> str:
    """The markdown of the last of ``studies``, beside the others, and its figures in ``folder``."""
    fits = [fit_study(study) for study in studies]
    figures = draw_figures(studies, fits, folder)
    study, of = studies[-1], fits[-1]
    images = "\n\n".join(f"![{path.stem}]({folder.name}/{path.name})" for path in figures)
    return "\n\n".join(
        [
            f"# {title}",
            head,
            *_section("Before reading the numbers", "\n".join(f"* {of}" for of in study.cautions)),
            "## Claims",
            claims_table(studies),
            "## Scores",
            seeds_line(study),
            scores_table(study),
            "Points over SFT; where an interval holds 0 no gain is told:",
            gains_table(study),
            *_section("Votes", votes_table(study) if study.votes else ""),
            "## Where the relations end",
            limits_list(study, of),
            "## Distinct paths",
            paths_table(study),
            "## Cost",
            OF_COST,
            cost_table(study),
            "## Fits",
            fits_table(of),
            "## Predictions, not measured",
            predictions_list(predict_from_law(study, of)),
            "## Figures",
            images,
            "",
        ]
    )


def _section(title: str, text: str) -> list[str]:
    """Nothing of an empty text."""
    return [f"## {title}", text] if text else []

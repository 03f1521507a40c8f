"""Format the cost of stages, models, and points, with the paper's Table 4; also as JSON."""

from collections.abc import Iterable, Sequence
from typing import Any

from screl.analysis.cost import METRIC, ModelCost, Stage, Total, total_cost
from screl.analysis.published_numbers import published_numbers
from screl.analysis.study import paper_study
from screl.core.io import format_table
from screl.scoring.report import show_mean
from screl.scoring.statistics import Difference, Metric

# Table 4's two trainings, with the settings between which the gain is measured.
TRAININGS = {"sft": ("sft", "icl"), "rft": ("u_all", "sft")}
NOT_SIGNIFICANT = "not significant"
LEGEND = """\
FLOPs: as counted in the paper's appendix E, see screl/core/cost.py. tokens: trained tokens, or
those of prompts and completions. device hours: hours GPUs were held, or CPU hours used (with vLLM
or Ray: held); ≥: a session was killed, its time is unknown. Models: cost beyond the previous model
without pre-training (SFT: training; RFT: sampling, filter, and training). points: gain in maj1@1,
± standard error over problems; not significant: its 95% interval includes 0."""


def cost_report(runs: Sequence[list[ModelCost]]) -> str:
    """Return the stages and models of every run, then the paper's Table 4."""
    parts = []
    for models in runs:
        run = models[-1].stage
        parts += [f"{run.path}", stage_table(run.all_stages().values()), model_table(models)]
    title = "Published (arXiv 2308.01825, Table 4; RFT is on U33B):"
    return "\n\n".join([*parts, LEGEND, title, published_table()])


def stage_table(stages: Iterable[Stage]) -> str:
    """Return one row per stage."""
    rows = [[_first_cell("stage", "path"), "FLOPs", "tokens", "device hours"]]
    for stage in stages:
        used = f" ({stage.share:.0%} of its samples)" if stage.share < 1 else ""
        cells = ["unknown" if stage.name == "pretrain" else "not recorded", "-", "-"]
        if stage.cost and (total := total_cost([stage.cost])):
            cells = [format_power(total.flops), f"{stage.cost.tokens:,}", format_hours(total)]
        rows.append([_first_cell(stage.name, f"{stage.path}{used}"), *cells])
    return format_table(rows)


def model_table(models: Sequence[ModelCost]) -> str:
    """Return one row per model: accuracy, gain, cost, and cost per point."""
    rows = [
        [_first_cell("model", "path"), METRIC, "points", "over", "FLOPs", "of pre-training",
         "device hours", "FLOPs per point", "hours per point"]
    ]  # fmt: skip
    for stage, score, before, gain, total, share, per_point in models:
        cells = [show_mean(score.scores[METRIC]) if score else "-", *["-"] * 7]
        if gain:
            error = "" if gain.standard_error is None else f" ± {gain.standard_error:.1f}"
            cells[1:3] = f"{gain.value:+.1f}{error}", before.name if before else "0"
            cells[6] = "-" if gain.interval[0] > 0 else NOT_SIGNIFICANT
        if total:
            of_pretraining = "-" if share is None else format_power(share)
            cells[3:6] = format_power(total.flops), of_pretraining, format_hours(total)
        if per_point:
            cells[6:] = format_power(per_point.flops), format_hours(per_point)
        rows.append([_first_cell(stage.name, str(stage.path)), *cells])
    return format_table(rows)


def published_table() -> str:
    """Return Table 4 with shares of pre-training and costs per point."""
    costs = {tuple(row.columns.values())[:3]: row.value for row in published_numbers("cost")}
    models, stages = (list(dict.fromkeys(key[i] for key in costs)) for i in (0, 1))
    units = {"flops": ("FLOPs", format_power), "gpu_hours": ("GPU hours", _format_number)}
    rows, per_point, study = [["", *models]], [], paper_study()
    for quantity, (unit, show) in units.items():
        for stage in stages:
            shown = [show(costs[model, stage, quantity]) for model in models]
            rows.append([f"{stage}, {unit}", *shown])
        for model in models:
            parts = [costs[model, stage, quantity] for stage in ("rft_inference", "rft_train")]
            costs[model, "rft", quantity] = sum(parts)
    for name, (setting, before) in TRAININGS.items():
        shares = [costs[m, name, "flops"] / costs[m, "pretrain", "flops"] for m in models]
        rows.append([f"{name} of pretrain, FLOPs", *map(format_power, shares)])
        gains = study.gains(setting, over=before)
        for quantity, (unit, show) in units.items():
            shown = [
                show(costs[m, name, quantity] / gains[m].value)
                if gains[m].interval[0] > 0
                else NOT_SIGNIFICANT
                for m in models
            ]
            per_point.append([f"{name}, {unit} per point over {before}", *shown])
    return format_table(rows + per_point)


def costs_to_json(runs: Sequence[list[ModelCost]]) -> dict[str, Any]:
    """Return the same numbers as JSON values; unknown ones are None."""
    found = []
    for models in runs:
        run = models[-1].stage
        stages = [
            {"stage": one.name, "path": str(one.path), "share": one.share, "cost": one.cost}
            for one in run.all_stages().values()
        ]
        rows = list(map(_model_to_json, models))
        found.append({"run": str(run.path), "stages": stages, "models": rows})
    published = [
        {key: row.columns[key] for key in ("model", "stage", "quantity")} | {"value": row.value}
        for row in published_numbers("cost")
    ]
    return {"runs": found, "published": published}


def _model_to_json(model: ModelCost) -> dict[str, Any]:
    accuracy = model.score.metrics[METRIC] if model.score else None
    before = str(model.before) if model.before else None
    return {
        "stage": model.stage.name,
        "path": str(model.stage.path),
        METRIC: accuracy and _mean_to_json(accuracy),
        "gain": model.gain
        and {"before": before, "interval": model.gain.interval} | _mean_to_json(model.gain),
        "total": model.total,
        "flops_of_pretraining": model.share_of_pretraining,
        "per_point": model.per_point,
    }


def _mean_to_json(mean: Metric | Difference) -> dict[str, float | None]:
    return {"value": mean.value, "standard_error": mean.standard_error}


def format_power(number: float) -> str:
    """Format FLOPs and shares as the paper does.

    >>> format_power(1.71e17), format_power(0.0000404), format_power(0)
    ('1.7e17', '4.0e-5', '0')
    """
    mantissa, exponent = f"{number:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}" if number else "0"


def format_hours(total: Total) -> str:
    """Format the hours of each kind of device.

    >>> format_hours(Total(0, {"gpu": 12.34, "cpu": 0.0042}, False))
    '≥ 12.3 GPU + 0.0042 CPU'
    """
    hours = " + ".join(f"{_format_number(n)} {device.upper()}" for device, n in total.hours.items())
    return hours if total.all_sessions else f"≥ {hours}"


def _format_number(number: float) -> str:
    if number >= 100:
        return f"{number:,.0f}"
    return f"{number:.3g}" if number >= 1 else f"{number:.2g}"


def _first_cell(name: str, what: str) -> str:
    return f"{name:13}  {what}"

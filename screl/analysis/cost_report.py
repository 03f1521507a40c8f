"""Format the cost of stages, models, and points, with the paper's Table 4; also as JSON."""

from collections.abc import Sequence
from typing import Any

from screl.analysis.cost import METRIC, ModelCost, RunCost, Stage, Total, total_cost
from screl.analysis.published_numbers import published_numbers
from screl.analysis.study import paper_study
from screl.core.cost import cost_to_json
from screl.core.io import format_table
from screl.scoring.report import show_mean

STAGES = ("pretrain", "sft", "rft_inference", "rft_train")  # the rows of Table 4
UNITS = {"flops": "FLOPs", "gpu_hours": "GPU hours"}
# Table 4's two trainings: the stages of each, and the settings between which the gain is measured.
TRAININGS = (("sft", STAGES[1:2], "icl", "sft"), ("rft", STAGES[2:], "sft", "u_all"))
NOT_SIGNIFICANT = "not significant"
LEGEND = """\
FLOPs: as counted in the paper's appendix E, see screl/core/cost.py. tokens: trained tokens, or
those of prompts and completions. device hours: hours GPUs were held, or CPU hours used (with vLLM
or Ray: held); ≥: a session was killed, its time is unknown. Models: cost beyond the previous model
without pre-training (SFT: training; RFT: sampling, filter, and training). points: gain in maj1@1,
± standard error over problems; not significant: its 95% interval includes 0."""


def cost_report(costs: Sequence[RunCost]) -> str:
    """Return the stages and models of every run, then the paper's Table 4."""
    parts = []
    for cost in costs:
        parts += [f"{cost.run}", stage_table(cost.stages), model_table(cost.models)]
    title = "Published (arXiv 2308.01825, Table 4; RFT is on U33B):"
    return "\n\n".join([*parts, LEGEND, title, published_table()])


def stage_table(stages: Sequence[Stage]) -> str:
    """Return one row per stage."""
    rows = [[_first_cell("stage", "path"), "FLOPs", "tokens", "device hours"]]
    for stage in stages:
        used = f" ({stage.share:.0%} of its samples)" if stage.share < 1 else ""
        cells = ["unknown" if stage.name == "pretrain" else "not recorded", "-", "-"]
        if stage.cost and (total := total_cost([stage])):
            cells = [format_power(total.flops), f"{stage.cost.tokens:,}", format_hours(total)]
        rows.append([_first_cell(stage.name, f"{stage.path}{used}"), *cells])
    return format_table(rows)


def model_table(models: Sequence[ModelCost]) -> str:
    """Return one row per model: accuracy, gain, cost, and cost per point."""
    rows = [
        [_first_cell("model", "path"), METRIC, "points", "over", "FLOPs", "of pre-training",
         "device hours", "FLOPs per point", "hours per point"]
    ]  # fmt: skip
    for stage, score, gain, total, share, per_point in models:
        gained, cost, price = ["-", "-"], ["-", "-", "-"], ["-", "-"]
        if gain:
            error = "" if gain.standard_error is None else f" ± {gain.standard_error:.1f}"
            gained = [f"{gain.value:+.1f}{error}", gain.before.name if gain.before else "0"]
        if total:
            of_pretraining = "-" if share is None else format_power(share)
            cost = [format_power(total.flops), of_pretraining, format_hours(total)]
        if per_point:
            price = [format_power(per_point.flops), format_hours(per_point)]
        elif gain and not gain.is_significant:
            price = [NOT_SIGNIFICANT, "-"]
        accuracy = show_mean(score.scores[METRIC]) if score else "-"
        rows.append([_first_cell(stage.name, str(stage.path)), accuracy, *gained, *cost, *price])
    return format_table(rows)


def published_table() -> str:
    """Return Table 4 with shares of pre-training and costs per point."""
    costs, study = {}, paper_study()
    for row in published_numbers("cost"):
        costs[row.columns["model"], row.columns["stage"], row.columns["quantity"]] = row.value
    models = list(dict.fromkeys(model for model, _, _ in costs))

    def spent(model: str, stages: Sequence[str], quantity: str) -> float:
        return sum(costs[model, stage, quantity] for stage in stages)

    def show(quantity: str, value: float) -> str:
        return format_power(value) if quantity == "flops" else _format_number(value)

    rows = [["", *models]]
    for quantity, unit in UNITS.items():
        for stage in STAGES:
            cells = [show(quantity, costs[model, stage, quantity]) for model in models]
            rows.append([f"{stage}, {unit}", *cells])
    for name, stages, _, _ in TRAININGS:
        shares = [spent(m, stages, "flops") / costs[m, "pretrain", "flops"] for m in models]
        rows.append([f"{name} of pretrain, FLOPs", *map(format_power, shares)])
    for name, stages, before, after in TRAININGS:
        gains = study.gains(after, over=before)
        for quantity, unit in UNITS.items():
            cells = [
                show(quantity, spent(model, stages, quantity) / gains[model].value)
                if gains[model].interval[0] > 0
                else NOT_SIGNIFICANT
                for model in models
            ]
            rows.append([f"{name}, {unit} per point over {before}", *cells])
    return format_table(rows)


def costs_to_json(costs: Sequence[RunCost]) -> dict[str, Any]:
    """Return the same numbers as JSON values; unknown ones are None."""
    return {
        "runs": [
            {
                "run": str(cost.run),
                "stages": [_stage_to_json(stage) for stage in cost.stages],
                "models": [_model_to_json(model) for model in cost.models],
            }
            for cost in costs
        ],
        "published": [
            {key: row.columns[key] for key in ("model", "stage", "quantity")} | {"value": row.value}
            for row in published_numbers("cost")
        ],
    }


def _stage_to_json(stage: Stage) -> dict[str, Any]:
    cost = cost_to_json(stage.cost) if stage.cost else None
    return {"stage": stage.name, "path": str(stage.path), "share": stage.share, "cost": cost}


def _model_to_json(model: ModelCost) -> dict[str, Any]:
    gain, metric = model.gain, model.score.metrics[METRIC] if model.score else None
    return {
        "stage": model.stage.name,
        "path": str(model.stage.path),
        METRIC: metric and {"value": metric.value, "standard_error": metric.standard_error},
        "gain": gain and gain._asdict() | {"before": str(gain.before) if gain.before else None},
        "total": model.total and model.total._asdict(),
        "flops_of_pretraining": model.share_of_pretraining,
        "per_point": model.per_point and model.per_point._asdict(),
    }


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

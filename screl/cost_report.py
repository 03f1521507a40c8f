"""The ledger as text and as JSON: what stages have cost, what a point has cost, and Table 4."""

from collections.abc import Sequence
from typing import Any

from screl.cost_account import METRIC, Account, Gain, ModelAccount, Total, per_point
from screl.cost_chain import Stage
from screl.estimates import Estimate
from screl.paper import rows as paper_rows
from screl.run_cost import Cost, cost_to_json
from screl.score_tables import show_mean
from screl.study import paper_study
from screl.table import format_table

STAGES = ("pretrain", "sft", "rft_inference", "rft_train")  # of Table 4
UNITS = {"flops": "FLOPs", "gpu_hours": "GPU hours"}
LEGEND = """\
FLOPs: as the paper counts them (appendix E), see screl/ledger.py. tokens: trained on, or of prompts
and completions. device hours: GPUs, or processors, times hours; of processors the time that they
worked (with vLLM or Ray: were held). ≥: the time of a session is not known: it was killed.
A model's cost: all that was done when the model before it was there, pre-training left out: of SFT
the training, of RFT sampling, filter and training. points: of maj1@1, ± standard error over
problems. not told from 0: the 95 % interval of the points holds 0."""
Published = dict[tuple[str, str, str], float]  # by model, stage and quantity
# Of Table 4's two trainings: what each takes, and between which settings it gains.
TRAININGS = (("sft", STAGES[1:2], "icl", "sft"), ("rft", STAGES[2:], "sft", "u_all"))


def cost_report(accounts: Sequence[Account]) -> str:
    """Of every run its stages and its models, then the paper's Table 4."""
    parts = []
    for account in accounts:
        parts += [f"{account.run}\n\n{stage_table(account.stages)}", model_table(account.models)]
    parts.append(LEGEND)
    parts.append(f"Published (arXiv 2308.01825, Table 4; rft on U33B):\n\n{published_table()}")
    return "\n\n".join(parts)


def stage_table(stages: Sequence[Stage]) -> str:
    """One row a stage."""
    rows = [[_first("stage", "what"), "FLOPs", "tokens", "device hours"]]
    for stage in stages:
        what = f"{stage.path}"
        if stage.share < 1:
            what += f" ({stage.share:.0%} of its samples)"
        unknown = "not known" if stage.name == "pretrain" else "not recorded"
        cells = _show_cost(stage.cost) if stage.cost else [unknown, "-", "-"]
        rows.append([_first(stage.name, what), *cells])
    return format_table(rows)


def model_table(models: Sequence[ModelAccount]) -> str:
    """One row a model: accuracy, cost, what it gained, and what a point of that has cost."""
    rows = [
        [_first("model", "where"), METRIC, "points", "over", "FLOPs", "of pre-training",
         "device hours", "FLOPs a point", "hours a point"]
    ]  # fmt: skip
    for model in models:
        score, total = model.score, model.total
        gained = _show_gain(model.gain)
        cost = [show_power(total.flops), _show_share(model), show_hours(total)] if total else "---"
        of_point = per_point(model)
        if of_point:
            price = [show_power(of_point.flops), show_hours(of_point)]
        else:
            is_chance = model.gain is not None and not model.gain.is_told_from_0
            price = ["not told from 0" if is_chance else "-", "-"]
        accuracy = show_mean(score.scores[METRIC]) if score else "-"
        first = _first(model.stage.name, str(model.stage.path))
        rows.append([first, accuracy, *gained, *cost, *price])
    return format_table(rows)


def published_table() -> str:
    """Table 4: FLOPs and GPU hours of every stage, what SFT and RFT take of pre-training, and what
    a point that they gain takes."""
    costs, accuracy = read_published(), paper_study().accuracy
    models = list(dict.fromkeys(model for model, _, _ in costs))
    rows = [["", *models]]
    for quantity, unit in UNITS.items():
        for stage in STAGES:
            values = [costs.get((model, stage, quantity)) for model in models]
            cells = ["-" if value is None else _show(quantity, value) for value in values]
            rows.append([f"{stage}, {unit}", *cells])
    for name, stages, _, _ in TRAININGS:
        shares = [_published_share(costs, model, stages) for model in models]
        rows.append([f"{name} of pretrain, FLOPs", *shares])
    for name, stages, before, after in TRAININGS:
        for quantity, unit in UNITS.items():
            cells = []
            for model in models:
                points = accuracy[model, after] - accuracy[model, before]
                spent = [costs.get((model, stage, quantity)) for stage in stages]
                cells.append(_published_price(quantity, spent, points))
            rows.append([f"{name}, {unit} a point over {before}", *cells])
    return format_table(rows)


def read_published() -> Published:
    """Table 4's numbers."""
    return {
        (row.of["model"], row.of["stage"], row.of["quantity"]): row.value
        for row in paper_rows("cost")
    }


def _show(quantity: str, value: float) -> str:
    return show_power(value) if quantity == "flops" else _show_number(value)


def _published_price(quantity: str, spent: Sequence[float | None], points: Estimate) -> str:
    """Not told where the points' 95 % interval holds 0, as for one's own runs."""
    if None in spent:
        return "-"
    if points.interval[0] <= 0:
        return "not told from 0"
    return _show(quantity, sum(value or 0 for value in spent) / points.value)


def to_json(accounts: Sequence[Account]) -> dict[str, Any]:
    """The same numbers; null for what is not known."""
    return {
        "runs": [
            {
                "run": str(account.run),
                "stages": [_stage_to_json(stage) for stage in account.stages],
                "models": [_model_to_json(model) for model in account.models],
            }
            for account in accounts
        ],
        "published": [
            {"model": model, "stage": stage, "quantity": quantity, "value": value}
            for (model, stage, quantity), value in read_published().items()
        ],
    }


def show_power(number: float) -> str:
    """FLOPs and shares, as the paper prints them.

    >>> show_power(1.71e17), show_power(0.0000404), show_power(0)
    ('1.7e17', '4.0e-5', '0')
    """
    mantissa, exponent = f"{number:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}" if number else "0"


def show_hours(total: Total) -> str:
    """Of every kind of device.

    >>> show_hours(Total(0, {"gpu": 12.34, "cpu": 0.0042}, False))
    '≥ 12.3 GPU + 0.0042 CPU'
    """
    hours = " + ".join(f"{_show_number(n)} {device.upper()}" for device, n in total.hours.items())
    return hours if total.all_sessions else f"≥ {hours}"


def _first(name: str, what: str) -> str:
    return f"{name:13}  {what}"


def _show_number(number: float) -> str:
    return (
        f"{number:,.0f}" if number >= 100 else f"{number:.3g}" if number >= 1 else f"{number:.2g}"
    )


def _show_cost(cost: Cost) -> list[str]:
    hours = {cost.time.device: cost.time.device_seconds / 3600}
    total = Total(cost.flops, hours, cost.time.all_sessions)
    return [show_power(cost.flops), f"{cost.tokens:,}", show_hours(total)]


def _show_gain(gain: Gain | None) -> list[str]:
    if gain is None:
        return ["-", "-"]
    error = "" if gain.standard_error is None else f" ± {gain.standard_error:.1f}"
    return [f"{gain.value:+.1f}{error}", "0" if gain.before is None else gain.before.name]


def _show_share(model: ModelAccount) -> str:
    return "-" if model.of_pretraining is None else show_power(model.of_pretraining)


def _published_share(costs: Published, model: str, stages: Sequence[str]) -> str:
    try:
        flops = sum(costs[model, stage, "flops"] for stage in stages)
        return show_power(flops / costs[model, "pretrain", "flops"])
    except KeyError:
        return "-"


def _stage_to_json(stage: Stage) -> dict[str, Any]:
    cost = cost_to_json(stage.cost) if stage.cost else None
    return {"stage": stage.name, "path": str(stage.path), "share": stage.share, "cost": cost}


def _model_to_json(model: ModelAccount) -> dict[str, Any]:
    gain, of_point = model.gain, per_point(model)
    metric = model.score.metrics[METRIC] if model.score else None
    return {
        "stage": model.stage.name,
        "path": str(model.stage.path),
        METRIC: metric and {"value": metric.value, "standard_error": metric.standard_error},
        "gain": gain and gain._asdict() | {"before": str(gain.before) if gain.before else None},
        "total": model.total and model.total._asdict(),
        "flops_of_pretraining": model.of_pretraining,
        "per_point": of_point and of_point._asdict(),
    }

"""From a trained model back to the base model: which stages made it, and what each has cost.

Everything is read from what the stages left on disk: the run.json of a model names its base model
and its data; beside data that was filtered lies a run.json that names the sample stores; the
manifest of a store names the model that was sampled.

What each model of a chain of stages has cost beyond the one before it, and what that gained.

The ledger as text and as JSON: what stages have cost, what a point has cost, and Table 4.
"""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from screl.analysis.estimates import Estimate
from screl.analysis.published_numbers import rows as paper_rows
from screl.analysis.study import paper_study
from screl.core.cost import Cost, cost_to_json, read_cost
from screl.core.io import UserError, format_table, read_json_object, real_path, sibling
from screl.core.problems import load_problems
from screl.samples.reader import find_data_path, open_runs, other_data_warning
from screl.samples.store import is_store, read_manifest
from screl.scoring.comparison import is_comparable
from screl.scoring.report import show_mean
from screl.scoring.score import RunScore, ScoreRules, score_runs
from screl.scoring.statistics import Interval, compare

StageName = Literal["pretrain", "sft", "rft_inference", "collect", "rft_train"]


class Stage(NamedTuple):
    """One stage. ``share``: of its samples, those that were used. ``cost``: of that share; None if
    it is not recorded.

    Of a model that was trained: ``base``, what it was trained from, and ``sampled``, the models
    whose samples it was trained on.
    """

    name: StageName
    path: Path
    cost: Cost | None
    share: float = 1.0
    base: Path | None = None
    sampled: tuple[Path, ...] = ()


def trace(run: Path) -> list[Stage]:
    """All stages that the model at ``run`` is made of, itself the last, in an order in which they
    can be done. UserError if train.py has not made it."""
    if not trained_by(run):
        raise UserError(f"{run}: no run.json of train.py; give the folder of a finished training")
    return list(_stages_of_model(run).values())


def read_info(path: Path) -> dict[str, Any]:
    """A run.json; empty if it cannot be read."""
    try:
        return read_json_object(path)
    except UserError:
        return {}


def trained_by(model: Path) -> dict[str, Any]:
    """The config of the train.py that made ``model``; empty for any other model."""
    config = read_info(model / "run.json").get("config")
    needed = {"model_name_or_path", "data_path", "num_train_epochs"}
    return config if isinstance(config, dict) and needed <= config.keys() else {}


Stages = dict[Path, Stage]  # by real path, so that each is there once


def _stages_of_model(model: Path, inside: tuple[Path, ...] = ()) -> Stages:
    """``inside``: the models that this one is asked for; paths that were used again for something
    else could make it a part of itself."""
    if model in inside:
        return {}
    cost, config = read_cost(model / "run.json"), trained_by(model)
    if not config:
        return {real_path(model): Stage("pretrain", model, cost)}
    base, data = Path(config["model_name_or_path"]), Path(config["data_path"])
    of_data, sampled = _stages_of_data(data, (*inside, model))
    name: StageName = "rft_train" if of_data else "sft"
    last = Stage(name, model, cost, base=base, sampled=sampled)
    return _stages_of_model(base, (*inside, model)) | of_data | {real_path(model): last}


def _stages_of_data(data: Path, inside: tuple[Path, ...]) -> tuple[Stages, tuple[Path, ...]]:
    """Those that made filtered data, and the models sampled for it; nothing for solutions."""
    run_json = sibling(data, ".run.json")
    used = _samples_used(read_info(run_json))
    stages: Stages = {}
    sampled = []
    for store, n_used in used.items():
        if is_store(store):
            model = Path(str(read_manifest(store).get("model_name_or_path")))
            sampled.append(model)
            stages |= _stages_of_model(model, inside)
        stages[real_path(store)] = _sampling(store, n_used)
    if used:
        stages[real_path(data)] = Stage("collect", data, read_cost(run_json))
    return stages, tuple(sampled)


def _samples_used(filter_info: dict[str, Any]) -> dict[Path, int]:
    """How many of each of its SAMPLES the filter looked at; empty for what the filter did not
    make."""
    try:
        runs = filter_info["results"]["runs"]
        n_sampled = {of_run["name"]: of_run["funnel"]["n_sampled"] for of_run in runs}
        return {Path(name): n_sampled[name] for name in filter_info["config"]["samples"]}
    except (KeyError, TypeError):
        return {}


def _sampling(store: Path, n_used: int) -> Stage:
    """The filter may have used the first k samples only, or all that there were at that time."""
    cost = read_cost(store / "run.json") if is_store(store) else None
    n_there = read_info(store / "run.json")["results"]["n_samples"] if cost else 0
    if cost is None or n_used > n_there:  # of samples that came later, run.json knows nothing
        return Stage("rft_inference", store, None)
    share = n_used / n_there if n_there else 1.0
    spent = cost.time._replace(device_seconds=share * cost.time.device_seconds)
    part = Cost(share * cost.flops, round(share * cost.tokens), spent)
    return Stage("rft_inference", store, part, share)


METRIC = "maj1@1"


class Total(NamedTuple):
    """Of some stages: FLOPs, and hours of each kind of device. ``all_sessions``: see DeviceTime."""

    flops: float
    hours: dict[str, float]
    all_sessions: bool


class Gain(NamedTuple):
    """Points of maj1@1 over ``before``, a model, or over 0 (None); with the 95 % interval."""

    before: Path | None
    value: float
    standard_error: float | None
    interval: Interval

    @property
    def is_told_from_0(self) -> bool:
        """Whether chance is not enough to explain it."""
        return self.interval[0] > 0


class ModelAccount(NamedTuple):
    """A model. ``total``: of the stages after the model before it, see ``stages_since``; None if
    one of them is not recorded. ``of_pretraining``: its FLOPs as a share of those that made the
    base model. None as well: a score, gain or share that is not known."""

    stage: Stage
    score: RunScore | None
    gain: Gain | None
    total: Total | None
    of_pretraining: float | None


class Account(NamedTuple):
    """All stages that made the model at ``run``, and the models among them."""

    run: Path
    stages: list[Stage]
    models: list[ModelAccount]


def make_account(run: Path) -> Account:
    """The account of the model that train.py made at ``run``; UserError if it did not.

    Accuracies are those of the greedy samples in ``greedy`` in each model's folder.
    """
    stages = trace(run)
    by_path = {real_path(stage.path): stage for stage in stages}
    models = [stage for stage in stages if stage.name in ("pretrain", "sft", "rft_train")]
    scores = {real_path(model.path): greedy_score(model.path) for model in models}
    accounts = []
    for model in models:
        before = model_before(model, by_path)
        of_base = base_of(model, by_path).cost
        total = None if model.name == "pretrain" else total_of(stages_since(before, model))
        accounts.append(
            ModelAccount(
                stage=model,
                score=scores[real_path(model.path)],
                gain=gain_of(model, before, scores),
                total=total,
                of_pretraining=total.flops / of_base.flops
                if total and of_base and of_base.flops
                else None,
            )
        )
    return Account(run, stages, accounts)


def greedy_score(model: Path) -> RunScore | None:
    """The score of ``model``'s greedy samples on the data they were made for; None without any, or
    with a warning if they cannot be scored."""
    store = model / "greedy"
    if not is_store(store):
        return None
    try:
        data_path = find_data_path(store, None)
        problems = load_problems(data_path)
        if warning := other_data_warning(store, data_path, problems):
            print(warning, file=sys.stderr)
        score = score_runs(open_runs(store, problems, "test"), problems, data_path, ScoreRules())
    except UserError as error:
        print(f"warning: {error}; not scored", file=sys.stderr)
        return None
    return score if METRIC in score.scores else None


def model_before(model: Stage, by_path: dict[Path, Stage]) -> Stage | None:
    """What ``model`` is to be better than: of SFT its base model; of RFT the first model of the
    same base that was sampled for it, None if there is none; None of a base model."""
    if model.base is None:
        return None
    base = real_path(model.base)
    if model.name == "sft":
        return by_path.get(base)
    for path in map(real_path, model.sampled):
        sampled = by_path[path]
        is_of_base = sampled.base is not None and real_path(sampled.base) == base
        if path == base or (is_of_base and sampled != model):
            return sampled
    return None


def base_of(model: Stage, by_path: dict[Path, Stage]) -> Stage:
    """The model that was not trained here and that training began with."""
    while model.base is not None and (base := by_path.get(real_path(model.base))):
        model = base
    return model


def stages_since(before: Stage | None, model: Stage) -> list[Stage]:
    """What was done for ``model`` when ``before`` was there, pre-training left out: for SFT the
    training, for RFT sampling, filter and training, and all that other sampled models needed."""
    done = set()
    if before and before.base is not None:
        done = {real_path(stage.path) for stage in trace(before.path)}
    return [
        stage
        for stage in trace(model.path)
        if stage.name != "pretrain" and real_path(stage.path) not in done
    ]


def total_of(stages: Iterable[Stage]) -> Total | None:
    """The sum; None if the cost of one is not recorded."""
    flops, hours, all_sessions = 0.0, dict[str, float](), True
    for stage in stages:
        if stage.cost is None:
            return None
        spent = stage.cost.time
        flops += stage.cost.flops
        hours[spent.device] = hours.get(spent.device, 0.0) + spent.device_seconds / 3600
        all_sessions &= spent.all_sessions
    return Total(flops, hours, all_sessions)


def gain_of(model: Stage, before: Stage | None, scores: dict[Path, RunScore | None]) -> Gain | None:
    """Paired by problem; SFT of a base model without a score gains over 0. None if it cannot be
    told: a score is missing, or is of other problems."""
    score = scores[real_path(model.path)]
    if score is None or before is None:
        return None
    first = scores[real_path(before.path)]
    if first is None:
        metric = score.metrics[METRIC]
        if model.name != "sft" or before.name != "pretrain":
            return None
        return Gain(None, metric.value, metric.standard_error, metric.interval)
    if not is_comparable(first, score):
        return None
    difference = compare(first.scores[METRIC], score.scores[METRIC])
    return Gain(before.path, difference.value, difference.standard_error, difference.interval)


def per_point(model: ModelAccount) -> Total | None:
    """What a point has cost; None where the gain is not told from 0 or the cost is not known."""
    if model.total is None or model.gain is None or not model.gain.is_told_from_0:
        return None
    points, total = model.gain.value, model.total
    hours = {device: hours / points for device, hours in total.hours.items()}
    return Total(total.flops / points, hours, total.all_sessions)


STAGES = ("pretrain", "sft", "rft_inference", "rft_train")  # of Table 4
UNITS = {"flops": "FLOPs", "gpu_hours": "GPU hours"}
LEGEND = """\
FLOPs: as the paper counts them (appendix E), see screl/core/cost.py.
tokens: trained on, or of prompts
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


def accounts_to_json(accounts: Sequence[Account]) -> dict[str, Any]:
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

"""Trace a model back to its base model, and compute the cost of each stage and each point.

Everything is read from the files of the stages: a model's run.json names its base model and its
data, the run.json next to filtered data names the sample stores, and a store's manifest names the
model that was sampled.
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

from screl.core.cost import Cost, read_cost
from screl.core.io import UserError, read_json_object, real_path, sibling
from screl.core.problems import load_problems
from screl.samples.reader import find_data_path, open_runs, other_data_warning
from screl.samples.store import is_store, read_manifest
from screl.scoring.comparison import is_comparable
from screl.scoring.score import RunScore, ScoreRules, score_runs
from screl.scoring.statistics import Interval, compare

METRIC = "maj1@1"


class Stage(NamedTuple):
    """One stage on the way to a model; ``cost`` is None if it was not recorded.

    For a sample store, only the ``share`` of samples that were used is charged. A trained model has
    ``base``, the model it started from, and ``sampled``, the models that made the samples in its
    data.
    """

    name: Literal["pretrain", "sft", "rft_inference", "collect", "rft_train"]
    path: Path
    cost: Cost | None
    share: float = 1.0
    base: Path | None = None
    sampled: tuple[Path, ...] = ()


Stages = dict[Path, Stage]  # by real path, so that each occurs once


class Total(NamedTuple):
    """Cost of several stages: FLOPs, and hours by kind of device; see DeviceTime."""

    flops: float
    hours: dict[str, float]
    all_sessions: bool


class Gain(NamedTuple):
    """The gain in maj1@1 over the model ``before``, or over 0 (None), with its 95% interval."""

    before: Path | None
    value: float
    standard_error: float | None
    interval: Interval

    @property
    def is_significant(self) -> bool:
        """Whether the interval lies above 0."""
        return self.interval[0] > 0


class ModelCost(NamedTuple):
    """A model's score, gain, and cost beyond the previous model; None where unknown.

    ``per_point`` is also None if the gain is not significant.
    """

    stage: Stage
    score: RunScore | None
    gain: Gain | None = None
    total: Total | None = None
    share_of_pretraining: float | None = None  # of the base model's FLOPs
    per_point: Total | None = None


class RunCost(NamedTuple):
    """All stages behind the model at ``run``, and the models among them."""

    run: Path
    stages: list[Stage]
    models: list[ModelCost]


def run_cost(run: Path) -> RunCost:
    """Return the cost of the model that train.py made at ``run``.

    Accuracies come from the greedy samples in the folder ``greedy`` of each model. Raises UserError
    if train.py did not make this model.
    """
    stages = trace_stages(run)
    models = [stage for stage in stages if stage.name in ("pretrain", "sft", "rft_train")]
    scores = {real_path(model.path): _greedy_score(model.path) for model in models}
    by_path = {real_path(stage.path): stage for stage in stages}
    return RunCost(run, stages, [_model_cost(model, by_path, scores) for model in models])


def trace_stages(run: Path) -> list[Stage]:
    """Return all stages behind the model at ``run``, each one after those that it depends on.

    Raises UserError if train.py did not make this model.
    """
    if not training_config(run):
        raise UserError(f"{run}: no run.json of train.py; give the folder of a finished training")
    return list(_stages_of_model(run).values())


def training_config(model: Path) -> dict[str, Any]:
    """Return the config of the train.py that made ``model``; empty for any other model."""
    config = _read_info(model / "run.json").get("config")
    needed = {"model_name_or_path", "data_path", "num_train_epochs"}
    return config if isinstance(config, dict) and needed <= config.keys() else {}


def total_cost(stages: Iterable[Stage]) -> Total | None:
    """Return the sum of the costs; None if the cost of any stage was not recorded."""
    flops, hours, all_sessions = 0.0, dict[str, float](), True
    for stage in stages:
        if stage.cost is None:
            return None
        spent = stage.cost.time
        flops += stage.cost.flops
        hours[spent.device] = hours.get(spent.device, 0.0) + spent.device_seconds / 3600
        all_sessions &= spent.all_sessions
    return Total(flops, hours, all_sessions)


def _stages_of_model(model: Path, inside: tuple[Path, ...] = ()) -> Stages:
    """Trace ``model`` on behalf of those in ``inside``; a reused path may make a cycle."""
    if model in inside:
        return {}
    cost, config = read_cost(model / "run.json"), training_config(model)
    if not config:
        return {real_path(model): Stage("pretrain", model, cost)}
    inside, base = (*inside, model), Path(config["model_name_or_path"])
    stages, sampled = _stages_of_model(base, inside), []
    data = Path(config["data_path"])
    used = _samples_used(data)
    for store, n_used in used.items():
        if is_store(store):
            sampled.append(Path(str(read_manifest(store).get("model_name_or_path"))))
            stages |= _stages_of_model(sampled[-1], inside)
        stages[real_path(store)] = _sampling_stage(store, n_used)
    if used:
        cost_of_filter = read_cost(sibling(data, ".run.json"))
        stages[real_path(data)] = Stage("collect", data, cost_of_filter)
    name: Literal["rft_train", "sft"] = "rft_train" if used else "sft"
    return stages | {real_path(model): Stage(name, model, cost, 1.0, base, tuple(sampled))}


def _samples_used(data: Path) -> dict[Path, int]:
    """Return how many samples of each store the filter read; empty for unfiltered data."""
    info = _read_info(sibling(data, ".run.json"))
    try:
        n_sampled = {run["name"]: run["funnel"]["n_sampled"] for run in info["results"]["runs"]}
        return {Path(name): n_sampled[name] for name in info["config"]["samples"]}
    except (KeyError, TypeError):
        return {}


def _sampling_stage(store: Path, n_used: int) -> Stage:
    """Return the sampling stage, charged only for the samples that the filter read."""
    cost = read_cost(store / "run.json") if is_store(store) else None
    n_samples = _read_info(store / "run.json")["results"]["n_samples"] if cost else 0
    if cost is None or n_used > n_samples:  # run.json does not cover samples added later
        return Stage("rft_inference", store, None)
    share = n_used / n_samples if n_samples else 1.0
    spent = cost.time._replace(device_seconds=share * cost.time.device_seconds)
    used = Cost(share * cost.flops, round(share * cost.tokens), spent)
    return Stage("rft_inference", store, used, share)


def _read_info(run_json: Path) -> dict[str, Any]:
    try:
        return read_json_object(run_json)
    except UserError:
        return {}


def _model_cost(model: Stage, by_path: Stages, scores: dict[Path, RunScore | None]) -> ModelCost:
    score = scores[real_path(model.path)]
    if model.base is None:
        return ModelCost(model, score)
    before = _previous_model(model, by_path)
    gain = _gain(model, before, scores)
    done = _stages_of_model(before.path) if before else {}
    total = total_cost(
        stage
        for path, stage in _stages_of_model(model.path).items()
        if stage.name != "pretrain" and path not in done
    )
    base = model  # the model that training began with
    seen: set[Path] = set()  # a folder that was used again may name itself as its base
    while base.base is not None and (path := real_path(base.base)) in by_path.keys() - seen:
        seen.add(path)
        base = by_path[path]
    share = total.flops / base.cost.flops if total and base.cost and base.cost.flops else None
    per_point = None
    if total and gain and gain.is_significant:
        hours = {device: hours / gain.value for device, hours in total.hours.items()}
        per_point = Total(total.flops / gain.value, hours, total.all_sessions)
    return ModelCost(model, score, gain, total, share, per_point)


def _greedy_score(model: Path) -> RunScore | None:
    """Score ``model``'s greedy samples on their data; warn and return None if that fails."""
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


def _previous_model(model: Stage, by_path: Stages) -> Stage | None:
    """Return the base model of SFT; for RFT, the first sampled model that is or shares its base."""
    base = real_path(model.base) if model.base else None
    if model.name == "sft":
        return by_path.get(base) if base else None
    for sampled in (by_path[real_path(path)] for path in model.sampled):
        bases = {real_path(path) for path in (sampled.path, sampled.base) if path}
        if base in bases and sampled != model:
            return sampled
    return None


def _gain(model: Stage, before: Stage | None, scores: dict[Path, RunScore | None]) -> Gain | None:
    """Return the gain, paired by problem; None without comparable scores.

    The gain of SFT is over 0 if its base model has no score.
    """
    score = scores[real_path(model.path)]
    if score is None or before is None:
        return None
    first = scores[real_path(before.path)]
    if first is None and (model.name, before.name) == ("sft", "pretrain"):
        metric = score.metrics[METRIC]
        return Gain(None, metric.value, metric.standard_error, metric.interval)
    if first is None or not is_comparable(first, score):
        return None
    difference = compare(first.scores[METRIC], score.scores[METRIC])
    return Gain(before.path, difference.value, difference.standard_error, difference.interval)

"""Trace a model back to its base model, and compute the cost of each stage and each point.

Everything is read from the files of the stages: a model's run.json names its base model and its
data, the run.json next to filtered data names the sample stores, and a store's manifest names the
model that was sampled.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from screl.core.cost import Cost, read_cost
from screl.core.io import UserError, read_json_object, real_path, sibling
from screl.core.problems import load_problems
from screl.core.run_info import training_config
from screl.grading.verdict import JudgeRules
from screl.samples.reader import find_data_path, open_runs, other_data_warning
from screl.samples.store import MANIFEST, is_store, read_manifest
from screl.scoring.comparison import is_comparable
from screl.scoring.score import RunScore, score_runs
from screl.scoring.statistics import Difference, Metric, compare

METRIC = "maj1@1"
DEPTHS = ("*", "*/*")  # of the folders beside a model in which its greedy samples are sought
MODELS = ("pretrain", "sft", "rft_train")  # the stages that make one


class Stage(NamedTuple):
    """One stage on the way to a model, after its ``inputs``; ``cost`` is None if not recorded.

    A trained model's inputs are the model that it started from and its filtered data, the data's
    are sample stores, and a store's is the sampled model. Only the ``share`` of a store's samples
    that were used is charged.
    """

    name: Literal["pretrain", "sft", "rft_inference", "collect", "rft_train"]
    path: Path
    cost: Cost | None
    inputs: "tuple[Stage, ...]" = ()
    share: float = 1.0

    @property
    def base(self) -> "Stage | None":
        """The model that a training started from, or that was sampled."""
        return next((stage for stage in self.inputs if stage.name in MODELS), None)

    def all_stages(self) -> "dict[Path, Stage]":
        """Return this stage after all those behind it, each once, by real path."""
        found: dict[Path, Stage] = {}
        for stage in self.inputs:
            found |= stage.all_stages()
        return found | {real_path(self.path): self}


@dataclass(frozen=True)
class Total:
    """Cost of several stages: FLOPs, and hours by kind of device; ``all_sessions`` as in Cost."""

    flops: float
    hours: dict[str, float]
    all_sessions: bool


class ModelCost(NamedTuple):
    """A model's score, gain, and cost beyond the previous model; None where unknown.

    The gain is over the model ``before``, or over 0 (None). ``per_point`` is also None if the gain
    is not significant: its 95% interval includes 0.
    """

    stage: Stage
    score: RunScore | None
    before: Path | None = None
    gain: Metric | Difference | None = None
    total: Total | None = None
    share_of_pretraining: float | None = None  # of the base model's FLOPs
    per_point: Total | None = None


def model_costs(run: Stage, samples: Sequence[Path] = ()) -> list[ModelCost]:
    """Return the cost of every model behind ``run``, and of ``run`` itself, the last one.

    Accuracies come from the greedy samples in or below ``samples`` whose manifest names the model,
    else from those in its folder ``greedy``, else from any beside the model. Prints where they are
    if not in ``greedy`` and, unless exactly one was found, where they were sought.
    """
    models = {path: stage for path, stage in run.all_stages().items() if stage.name in MODELS}
    beside = sorted({model.path.parent for model in models.values()})
    given, near = _greedy_stores(samples, "**"), _greedy_stores(beside, *DEPTHS)
    scores = {}
    for path, model in models.items():
        own = [model.path / "greedy"] if is_store(model.path / "greedy") else []
        stores = given.get(path) or own or near.get(path, [])
        if len(stores) == 1 and stores != own:
            print(f"{model.path}: accuracy from {stores[0]}", file=sys.stderr)
        elif len(stores) != 1:
            sought = ", ".join(map(str, [*samples, model.path / "greedy", *beside]))
            found = ", ".join(map(str, stores)) or "none"
            print(
                f"{model.path}: no accuracy; its greedy samples were sought in {sought}, found: "
                f"{found}; give one with --samples",
                file=sys.stderr,
            )
        scores[path] = _greedy_score(stores[0]) if len(stores) == 1 else None
    return [_model_cost(model, scores) for model in models.values()]


def trace(run: Path) -> Stage:
    """Return the stage that made the model at ``run``.

    Raises UserError if train.py did not make this model.
    """
    stage = _trace(run, ())
    if stage is None or stage.name == "pretrain":
        raise UserError(f"{run}: no run.json of train.py; give the folder of a finished training")
    return stage


def cost_beyond(model: Stage, previous: Stage | None) -> Total | None:
    """Return the total of the stages behind ``model`` that are not behind ``previous``.

    Pre-training is left out. None if the cost of any stage was not recorded.
    """
    done = previous.all_stages() if previous else {}
    stages = [stage for path, stage in model.all_stages().items() if path not in done]
    return total_cost(stage.cost for stage in stages if stage.name != "pretrain")


def total_cost(costs: Iterable[Cost | None]) -> Total | None:
    """Return the sum of the costs; None if one of them was not recorded."""
    flops, hours, all_sessions = 0.0, dict[str, float](), True
    for cost in costs:
        if cost is None:
            return None
        flops += cost.flops
        hours[cost.device] = hours.get(cost.device, 0.0) + cost.device_seconds / 3600
        all_sessions &= cost.all_sessions
    return Total(flops, hours, all_sessions)


def _trace(model: Path, inside: tuple[Path, ...]) -> Stage | None:
    """Trace ``model`` on behalf of those in ``inside``; None if a reused path makes a cycle."""
    if model in inside:
        return None
    cost, config = read_cost(model / "run.json"), training_config(model)
    if not config:
        return Stage("pretrain", model, cost)
    inside, data = (*inside, model), Path(config["data_path"])
    inputs = [_trace(Path(config["model_name_or_path"]), inside)]
    used = _samples_used(data)
    if used:
        stores = tuple(_sampling_stage(store, n, inside) for store, n in used.items())
        inputs.append(Stage("collect", data, read_cost(sibling(data, ".run.json")), stores))
    return Stage("rft_train" if used else "sft", model, cost, tuple(filter(None, inputs)))


def _samples_used(data: Path) -> dict[Path, int]:
    """Return how many samples of each store the filter read; empty for unfiltered data."""
    info = _read_info(sibling(data, ".run.json"))
    try:
        n_sampled = {run["name"]: run["funnel"]["n_sampled"] for run in info["results"]["runs"]}
        return {Path(name): n_sampled[name] for name in info["config"]["samples"]}
    except (KeyError, TypeError):
        return {}


def _sampling_stage(store: Path, n_used: int, inside: tuple[Path, ...]) -> Stage:
    """Return the sampling stage, charged only for the samples that the filter read."""
    if not is_store(store):
        return Stage("rft_inference", store, None)
    sampled = _trace(Path(str(read_manifest(store).get("model_name_or_path"))), inside)
    stage = Stage("rft_inference", store, None, (sampled,) if sampled else ())
    cost = read_cost(store / "run.json")
    n_samples = _read_info(store / "run.json")["results"]["n_samples"] if cost else 0
    if cost is None or n_used > n_samples:  # run.json does not cover samples added later
        return stage
    share = n_used / n_samples if n_samples else 1.0
    flops, seconds = share * cost.flops, share * cost.device_seconds
    used = replace(cost, flops=flops, device_seconds=seconds, tokens=round(share * cost.tokens))
    return stage._replace(cost=used, share=share)


def _read_info(run_json: Path) -> dict[str, Any]:
    try:
        return read_json_object(run_json)
    except UserError:
        return {}


def _greedy_stores(folders: Iterable[Path], *depths: str) -> dict[Path, list[Path]]:
    """Return the stores of greedy samples in ``folders`` by the real path of their model."""
    found: dict[Path, list[Path]] = {}
    patterns = [f"{depth}/{MANIFEST}" for depth in depths]
    paths = {path for one in folders for pattern in patterns for path in one.glob(pattern)}
    for path in sorted(paths):
        manifest = _read_info(path)
        if manifest.get("greedy") is True:
            model = real_path(Path(str(manifest.get("model_name_or_path"))))
            found.setdefault(model, []).append(path.parent)
    return found


def _greedy_score(store: Path) -> RunScore | None:
    """Score greedy samples on their data; warn and return None if that fails."""
    try:
        data_path = find_data_path(store, None)
        problems = load_problems(data_path)
        if warning := other_data_warning(store, data_path, problems):
            print(warning, file=sys.stderr)
        score = score_runs(open_runs(store, problems, "test"), problems, data_path, JudgeRules())
    except UserError as error:
        print(f"warning: {error}; not scored", file=sys.stderr)
        return None
    return score if METRIC in score.scores else None


def _model_cost(model: Stage, scores: dict[Path, RunScore | None]) -> ModelCost:
    score, previous, first = scores[real_path(model.path)], _previous_model(model), model
    while first.base:
        first = first.base
    if first is model:
        return ModelCost(model, score)
    total = cost_beyond(model, previous)
    share = total.flops / first.cost.flops if total and first.cost and first.cost.flops else None
    before, gain = _gain(score, previous, scores)
    per_point = None
    if total and gain and gain.interval[0] > 0:
        hours = {device: hours / gain.value for device, hours in total.hours.items()}
        per_point = Total(total.flops / gain.value, hours, total.all_sessions)
    return ModelCost(model, score, before, gain, total, share, per_point)


def _gain(
    score: RunScore | None, previous: Stage | None, scores: dict[Path, RunScore | None]
) -> tuple[Path | None, Metric | Difference | None]:
    """Return the gain over the previous model, or over 0 if that is a base without a score."""
    if score and previous:
        earlier = scores[real_path(previous.path)]
        if earlier and is_comparable(earlier, score):
            return previous.path, compare(earlier.scores[METRIC], score.scores[METRIC])
        if not earlier and previous.name == "pretrain":
            return None, score.metrics[METRIC]
    return None, None


def _previous_model(model: Stage) -> Stage | None:
    """Return the base model of SFT; for RFT, the first sampled model that is or shares its base."""
    base = model.base
    if model.name == "sft" or not base:
        return base
    for sampled in (store.base for store in model.inputs[-1].inputs):
        bases = [real_path(one.path) for one in (sampled, sampled and sampled.base) if one]
        if real_path(base.path) in bases:
            return sampled
    return None

"""From a trained model back to the base model: which stages made it, and what each has cost.

Everything is read from what the stages left on disk: the run.json of a model names its base model
and its data; beside data that was filtered lies a run.json that names the sample stores; the
manifest of a store names the model that was sampled.
"""

from pathlib import Path
from typing import Any, Literal, NamedTuple

from screl.files import UserError, beside, read_json_object, real_path
from screl.manifest import is_store, read_manifest
from screl.run_cost import Cost, read_cost

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
    run_json = beside(data, ".run.json")
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

"""What each model of a chain of stages has cost beyond the one before it, and what that gained."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from screl.ballots import Rules
from screl.comparison import compare, is_comparable
from screl.completions import open_runs, other_data_warning
from screl.cost_chain import Stage, trace
from screl.files import UserError, real_path
from screl.inputs import find_data_path
from screl.manifest import is_store
from screl.metrics import Interval
from screl.problems import load_problems
from screl.scoring import RunScore, score_runs

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
        score = score_runs(open_runs(store, problems, "test"), problems, data_path, Rules())
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

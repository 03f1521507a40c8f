"""What ``scripts/miniature`` has run, as a Study; what is not there yet is left out."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from screl.analysis.cost import total_of, trace, trained_by
from screl.analysis.estimates import Estimate, Resampler, exactly
from screl.analysis.study import Key, Study
from screl.core.cost import read_cost
from screl.core.io import UserError, read_json_object, real_path
from screl.core.problems import Problem, load_problems
from screl.grading.verdict import make_judge
from screl.rejection.report import PAPER_KS
from screl.samples.reader import Run, map_problems, open_runs
from screl.samples.store import Sample, read_manifest
from screl.scoring.score import RunScore, ScoreRules, score_runs
from screl.scoring.statistics import Floats

CAUTIONS = (
    "Intervals hold the choice of test problems and training seeds, and not what was done once: "
    "the pre-training of a base model, the samples that RFT data comes from (of the SFT model of "
    "seed 0), and the random rows of a control.",
    "Votes, and distinct paths on test problems, are of one training seed and of fewer problems.",
    "Base models were pre-trained on texts of 256 tokens; a prompt of exemplars is longer.",
    "Of two numbers of epochs the parts of the data take the better one, on the test problems, as "
    "in the paper.",
)


def miniature_study(runs: Path) -> Study:
    """The study under ``runs``, which is laid out as scripts/miniature/common.sh says.

    Accuracies are means over seeds. UserError if nothing was fine-tuned there.
    """
    losses = {
        path.parent.parent.name: _pretraining_loss(path)
        for path in sorted(runs.glob("*/base/run.json"))
    }
    stores = _stores(runs, "greedy")
    solutions = sorted(runs.glob("*/sft/seed*/run.json"))
    if not losses or not stores or not solutions:
        raise UserError(f"{runs}: nothing was fine-tuned there; run scripts/miniature/run.sh first")
    problems, _, _ = _open(next(iter(stores.values()))[0])
    greedy = {key: _greedy_scores(of_seeds, problems) for key, of_seeds in stores.items()}
    # seeds of a part of the data also drew other rows: their noise is another one
    is_part = {key: key[1].startswith("part") for key in greedy}
    resamplers = {
        part: Resampler(len(problems), [greedy[key] for key in greedy if is_part[key] == part])
        for part in (False, True)
    }
    study = Study(
        name="miniature",
        test_set="generated problems",
        n_problems=len(problems),
        n_rows=int(_result(solutions[0], "number of rows", lambda of: of["n_rows"], "its folder")),
        losses=losses,
        accuracy={
            key: resamplers[is_part[key]].accuracy(scores, " ".join(key))
            for key, scores in greedy.items()
        },
        n_seeds={key: len(scores) for key, scores in greedy.items()},
        n_vote_problems=_n_voted_on(runs),
        cautions=CAUTIONS,
    )
    for model in losses:
        run_json = runs / model / "samples" / "run.json"
        if run_json.exists():
            study.paths[model] = _paths_by_k(run_json.parent)
            study.right[model] = 100 * _share_right(run_json.parent)
    for path in sorted(runs.glob("unions/*.run.json")):
        study.paths[path.name.removesuffix(".run.json")] = _paths_of_union(path)
    for key, (store, *_) in _stores(runs, "votes").items():
        if key in greedy:
            _add_votes(study, key, store, problems, greedy[key][:1], resamplers[False].seed_noise)
    _add_flops(study, runs)
    return study


def _result(run_json: Path, what: str, read: Callable[[Any], float], delete: str) -> float:
    """What ``read`` finds in the results; UserError if they are not those of such a step."""
    try:
        return float(read(read_json_object(run_json)["results"]))
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        raise UserError(
            f"{run_json}: has no {what}; delete {delete} and run scripts/miniature/run.sh again"
        ) from None


def _pretraining_loss(run_json: Path) -> float:
    what = "loss of pre-training"
    return _result(run_json, what, lambda results: results["loss"]["value"], "its folder")


def _add_flops(study: Study, runs: Path) -> None:
    """Of one seed each; RFT's with the samples, and all that other sampled models needed."""
    for model in study.losses:
        if cost := read_cost(runs / model / "base" / "run.json"):
            study.pretraining_flops[model] = cost.flops
    for model, setting in study.accuracy:
        folder, sft = (runs / model / name / "seed0" for name in (setting, "sft"))
        if not trained_by(folder):  # in-context learning
            continue
        done = {real_path(stage.path) for stage in trace(sft)} if setting != "sft" else set()
        stages = [stage for stage in trace(folder) if stage.name != "pretrain"]
        if total := total_of(stage for stage in stages if real_path(stage.path) not in done):
            study.flops[model, setting] = total.flops


def _stores(runs: Path, name: str) -> dict[Key, list[Path]]:
    """The finished stores of this name of every model and setting, by seed."""
    found: dict[Key, list[Path]] = {}
    for path in sorted(runs.glob(f"*/*/seed*/{name}/run.json")):
        setting = path.parent.parent.parent
        found.setdefault((setting.parent.name, setting.name), []).append(path.parent)
    return found


def _n_voted_on(runs: Path) -> int:
    """Problems; 0 without votes."""
    for store, *_ in _stores(runs, "votes").values():
        return len(_open(store)[0])
    return 0


def _greedy_scores(stores: Sequence[Path], problems: list[Problem]) -> Floats:
    """(seeds, problems), from 0 to 1."""
    scores = []
    for store in stores:
        of_store, data_path, run = _open(store)
        if of_store != problems:
            raise _other_problems(store)
        scores.append(_score(problems, data_path, run).scores["maj1@1"])
    return np.stack(scores)


def _open(store: Path) -> tuple[list[Problem], Path, Run]:
    data_path = Path(read_manifest(store)["data_path"])
    problems = load_problems(data_path)
    (run,) = open_runs(store, problems, "test")
    return problems, data_path, run


def _other_problems(store: Path) -> UserError:
    return UserError(
        f"{store}: is of other test problems than other stores there; delete it and run "
        "scripts/miniature/run.sh again"
    )


def _score(problems: list[Problem], data_path: Path, run: Run) -> RunScore:
    return score_runs([run], problems, data_path, ScoreRules())


def _paths_by_k(store: Path) -> dict[int, Estimate]:
    """Distinct paths a problem among the first k samples and the solution."""
    problems, _, run = _open(store)
    ks = [k for k in PAPER_KS if k <= run.n_samples]
    counts = np.array(list(map_problems(count_paths, problems, [run], ks)), dtype=float)
    resampler = Resampler(len(problems), [])
    return {k: resampler.mean(counts[:, column]) for column, k in enumerate(ks)}


def count_paths(
    problem: Problem, completions: Sequence[Sequence[Sample]], ks: Sequence[int]
) -> list[int]:
    """Distinct paths of the solution and of the right ones of the first k samples, for every k."""
    judge = make_judge(problem, "strict")
    (of_run,) = completions
    verdicts = [judge(completion.completion) for completion in of_run]
    found = [verdict.path if verdict.reason == "valid" else None for verdict in verdicts]
    solution = judge(problem.solution).path
    return [len({solution, *found[:k]} - {None}) for k in ks]


def distinct_right_paths(problem: Problem, completions: Sequence[Sequence[Sample]]) -> int:
    """Return the number of distinct paths of the valid completions of the one run."""
    judge = make_judge(problem, "strict")
    (of_run,) = completions
    verdicts = [judge(completion.completion) for completion in of_run]
    return len({verdict.path for verdict in verdicts if verdict.reason == "valid"})


def _share_right(store: Path) -> float:
    """Of all samples, from 0 to 1."""
    problems, data_path, run = _open(store)
    return float(_score(problems, data_path, run).scores["mean@1"].mean())


def _paths_of_union(path: Path) -> dict[int, Estimate]:
    def rows(results: Any) -> float:
        return float(results["n_rows"] / results["n_problems"])

    def samples(results: Any) -> float:
        sampled = [run["funnel"]["n_sampled"] for run in results["runs"] if run["name"] != "all"]
        return float(sum(sampled) // results["n_problems"])

    k = int(_result(path, "number of samples", samples, "it"))
    return {k: exactly(_result(path, "number of rows", rows, "it"))}


def _add_votes(
    study: Study, key: Key, store: Path, problems: list[Problem], greedy: Floats, noise: float
) -> None:
    """``greedy``: (1, problems) of the same model; those voted on are the first ``problems``."""
    voted_on, data_path, run = _open(store)
    n = len(voted_on)
    if voted_on != problems[:n]:
        raise _other_problems(store)
    votes = _score(voted_on, data_path, run).scores[f"maj1@{run.n_samples}"]
    resampler, name = Resampler(n, [], noise), " ".join(key)
    single = resampler.accuracy(greedy[:, :n], f"{name} maj1@1")
    study.votes[key] = single, resampler.accuracy(votes[None], f"{name} maj1@{run.n_samples}")
    n_paths = list(map_problems(distinct_right_paths, voted_on, [run]))
    study.test_paths[key] = np.array(n_paths, float)

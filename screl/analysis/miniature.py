"""Read the runs of ``scripts/miniature`` as a Study; missing runs are left out."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from screl.analysis.cost import cost_beyond, trace
from screl.analysis.estimates import Estimate, Resampler, exact_estimate
from screl.analysis.study import Key, Study
from screl.core.cost import read_cost
from screl.core.io import UserError, read_json_object
from screl.core.problems import Problem, load_problems
from screl.core.run_info import training_config
from screl.grading.verdict import JudgeRules, make_judge
from screl.rejection.funnel import PAPER_KS
from screl.samples.reader import Run, map_problems, open_runs
from screl.samples.store import Sample, read_manifest
from screl.scoring.score import RunScore, score_runs
from screl.scoring.statistics import Floats

CAUTIONS = (
    "Intervals cover the choice of test problems and training seeds, but not what was done only "
    "once: pre-training each base model, sampling the RFT data (from the SFT model with seed 0), "
    "and choosing the random rows of a control.",
    "Votes and distinct paths on test problems come from one training seed and fewer problems.",
    "Base models were pre-trained on texts of 256 tokens; few-shot prompts are longer.",
    "For each fraction of the data, the better of two epoch settings is used, chosen on the test "
    "problems as in the paper.",
)


def miniature_study(runs: Path) -> Study:
    """Return the study under ``runs``, laid out as described in scripts/miniature/common.sh.

    Accuracies are means over seeds. Raises UserError if nothing was fine-tuned there.
    """
    losses = {
        path.parent.parent.name: _pretraining_loss(path)
        for path in sorted(runs.glob("*/base/run.json"))
    }
    stores = _stores(runs, "greedy")
    solutions = sorted(runs.glob("*/sft/seed*/run.json"))
    if not losses or not stores or not solutions:
        raise UserError(f"{runs}: no fine-tuned models; run scripts/miniature/run.sh first")
    problems, _, _ = _open(next(iter(stores.values()))[0])
    greedy = {key: _greedy_scores(of_seeds, problems) for key, of_seeds in stores.items()}
    # A seed of a fraction also selects other rows, so its noise is pooled separately.
    is_part = {key: key[1].startswith("part") for key in greedy}
    resamplers = {
        part: Resampler(len(problems), [greedy[key] for key in greedy if is_part[key] == part])
        for part in (False, True)
    }
    votes = {key: of_seeds[0] for key, of_seeds in _stores(runs, "votes").items() if key in greedy}
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
        n_vote_problems=len(_open(next(iter(votes.values())))[0]) if votes else 0,
        cautions=CAUTIONS,
    )
    for model in losses:
        samples = runs / model / "samples"
        if (samples / "run.json").exists():
            study.paths[model] = _paths_by_k(samples)
            problems_sampled, data_path, run = _open(samples)
            score = _score(problems_sampled, data_path, run)
            study.percent_correct[model] = 100 * float(score.scores["mean@1"].mean())
    for path in sorted(runs.glob("unions/*.run.json")):
        study.paths[path.name.removesuffix(".run.json")] = _paths_of_union(path)
    for key, store in votes.items():
        _add_votes(study, key, store, problems, greedy[key][:1], resamplers[False].seed_noise)
    _add_flops(study, runs)
    return study


def _result(run_json: Path, what: str, read: Callable[[Any], float], delete: str) -> float:
    """Return the number that ``read`` finds in the results; raise UserError if they lack it."""
    try:
        return float(read(read_json_object(run_json)["results"]))
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        raise UserError(
            f"{run_json}: has no {what}; delete {delete} and run scripts/miniature/run.sh again"
        ) from None


def _pretraining_loss(run_json: Path) -> float:
    return _result(run_json, "pre-training loss", lambda of: of["loss"]["value"], "its folder")


def _add_flops(study: Study, runs: Path) -> None:
    """Add the FLOPs of seed 0; RFT's include sampling and making the other sampled models."""
    for model in study.losses:
        if cost := read_cost(runs / model / "base" / "run.json"):
            study.pretraining_flops[model] = cost.flops
    for model, setting in study.accuracy:
        folder, sft = (runs / model / name / "seed0" for name in (setting, "sft"))
        if not training_config(folder):  # in-context learning
            continue
        if total := cost_beyond(trace(folder), None if setting == "sft" else trace(sft)):
            study.flops[model, setting] = total.flops


def _stores(runs: Path, name: str) -> dict[Key, list[Path]]:
    """Return the finished stores of this name, by model and setting, one per seed."""
    found: dict[Key, list[Path]] = {}
    for path in sorted(runs.glob(f"*/*/seed*/{name}/run.json")):
        setting = path.parent.parent.parent
        found.setdefault((setting.parent.name, setting.name), []).append(path.parent)
    return found


def _greedy_scores(stores: Sequence[Path], problems: list[Problem]) -> Floats:
    """Return scores from 0 to 1, (seeds, problems)."""
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
        f"{store}: has other test problems than the other stores; delete it and run "
        "scripts/miniature/run.sh again"
    )


def _score(problems: list[Problem], data_path: Path, run: Run) -> RunScore:
    return score_runs([run], problems, data_path, JudgeRules())


def _paths_by_k(store: Path) -> dict[int, Estimate]:
    """Return, by k, the distinct paths per problem in its solution and first k samples."""
    problems, _, run = _open(store)
    ks = [k for k in PAPER_KS if k <= run.n_samples]
    counts = np.array(list(map_problems(count_paths, problems, [run], ks)), dtype=float)
    resampler = Resampler(len(problems), [])
    return {k: resampler.mean(counts[:, column]) for column, k in enumerate(ks)}


def count_paths(
    problem: Problem, samples: Sequence[Sequence[Sample]], ks: Sequence[int]
) -> list[int]:
    """Return, for every k, the number of distinct paths in the solution and first k samples."""
    judge = make_judge(problem, JudgeRules())
    verdicts = [judge(sample.completion) for sample in samples[0]]
    found = [verdict.path if verdict.reason == "valid" else None for verdict in verdicts]
    solution = judge(problem.solution).path
    return [len({solution, *found[:k]} - {None}) for k in ks]


def count_correct_paths(problem: Problem, samples: Sequence[Sequence[Sample]]) -> int:
    """Return the number of distinct paths of the valid completions of a single run."""
    judge = make_judge(problem, JudgeRules())
    verdicts = [judge(sample.completion) for sample in samples[0]]
    return len({verdict.path for verdict in verdicts if verdict.reason == "valid"})


def _paths_of_union(path: Path) -> dict[int, Estimate]:
    def rows(results: Any) -> float:
        return float(results["n_rows"] / results["n_problems"])

    def samples(results: Any) -> float:
        sampled = [run["funnel"]["n_sampled"] for run in results["runs"] if run["name"] != "all"]
        return float(sum(sampled) // results["n_problems"])

    k = int(_result(path, "number of samples", samples, "it"))
    return {k: exact_estimate(_result(path, "number of rows", rows, "it"))}


def _add_votes(
    study: Study, key: Key, store: Path, problems: list[Problem], greedy: Floats, noise: float
) -> None:
    """Add votes on the first ``problems``; ``greedy`` are the model's scores, (1, problems)."""
    voted_on, data_path, run = _open(store)
    n = len(voted_on)
    if voted_on != problems[:n]:
        raise _other_problems(store)
    votes = _score(voted_on, data_path, run).scores[f"maj1@{run.n_samples}"]
    resampler, name = Resampler(n, [], noise), " ".join(key)
    single = resampler.accuracy(greedy[:, :n], f"{name} maj1@1")
    study.votes[key] = single, resampler.accuracy(votes[None], f"{name} maj1@{run.n_samples}")
    n_paths = list(map_problems(count_correct_paths, voted_on, [run]))
    study.paths_on_test[key] = np.array(n_paths, float)

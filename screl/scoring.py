"""Score runs of completions: which metrics a run has, over which problems, and how to show them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from screl.answers import (
    SCORING_TOLERANCE,
    Answer,
    Fidelity,
    extract_answer,
    gold_answers,
    is_correct,
)
from screl.completions import Completions, load_completions
from screl.files import UserError
from screl.metrics import Metric, maj_at_k, mean_over_problems, paired_difference, pass_at_k
from screl.problems import load_problems
from screl.store import MANIFEST, read_manifest, read_samples, stored_n_samples
from screl.table import format_table


@dataclass(frozen=True, slots=True)
class RunScore:
    """The scores of one SAMPLES; ``scores`` are per problem, from 0 to 1, by metric."""

    run: str
    data_path: str
    fidelity: Fidelity
    n_samples: int
    problems: list[int]  # positions of the problems that are scored
    scores: dict[str, list[float]]
    share_without_answer: float
    share_cut_off: float | None  # None where it is not recorded

    def metrics(self) -> dict[str, Metric]:
        """The mean of every metric over problems, in percent."""
        return {name: mean_over_problems(scores) for name, scores in self.scores.items()}


def score_runs(
    runs: Sequence[Completions], golds: Sequence[Answer], data_path: Path, fidelity: Fidelity
) -> RunScore:
    """Score what one SAMPLES holds: a greedy run, a sampled one, or one of each.

    A greedy run gives maj1@1. A sampled one gives maj1@K and pass@K, and, if there is no greedy
    one, mean@1, the mean over its samples (the only metric of K = 1). Where samples are missing
    (--allow_partial), problems without any are left out, and K is the least number that a scored
    problem has: all are scored with their first K samples. Raises UserError if none can be scored.
    """
    scored = [i for i in range(len(golds)) if all(run.by_problem[i] for run in runs)]
    if not scored:
        raise UserError(f"{runs[0].name}: holds no samples of these problems; run sample.py first")
    run_golds = [golds[i] for i in scored]
    has_greedy = any(run.greedy for run in runs)
    scores: dict[str, list[float]] = {}
    answers: list[list[list[Answer | None]]] = []
    for run in sorted(runs, key=lambda run: not run.greedy):
        answers.append(_equally_many_answers(run, scored, fidelity))
        if run.greedy:
            scores["maj1@1"] = _mean_at_1(answers[-1], run_golds)
        else:
            scores |= _sampled_scores(answers[-1], run_golds, fidelity, with_mean=not has_greedy)
    every_answer = [answer for of_run in answers for row in of_run for answer in row]
    return RunScore(
        run=runs[0].name,
        data_path=str(data_path),
        fidelity=fidelity,
        n_samples=max(len(of_run[0]) for of_run in answers),
        problems=scored,
        scores=scores,
        share_without_answer=every_answer.count(None) / len(every_answer),
        share_cut_off=_share_cut_off(runs),
    )


def to_json(score: RunScore) -> dict[str, Any]:
    """The entry of metrics.json; ``n_correct`` is left out where it is no whole number."""
    return {
        "run": score.run,
        "data_path": score.data_path,
        "fidelity": score.fidelity,
        "n_problems": len(score.problems),
        "n_samples": score.n_samples,
        "metrics": {name: _metric_to_json(metric) for name, metric in score.metrics().items()},
    }


def score_table(scores: Sequence[RunScore]) -> str:
    """One row per run, in percent, as ``value ± standard error over problems``."""
    names = list(dict.fromkeys(name for score in scores for name in score.scores))
    rows = [["run", "problems", "samples", *names, "no answer", "cut off"]]
    for score in scores:
        metrics = score.metrics()
        cells = [_show(metrics[name]) if name in metrics else "-" for name in names]
        cut_off = "-" if score.share_cut_off is None else f"{score.share_cut_off:.1%}"
        counts = [str(len(score.problems)), str(score.n_samples)]
        rows.append([score.run, *counts, *cells, f"{score.share_without_answer:.1%}", cut_off])
    return format_table(rows)


def difference_table(scores: Sequence[RunScore]) -> str | None:
    """Each later run minus the first, problem by problem; None if no run has a metric in common.

    Only runs over the same problems of the same data are compared.
    """
    first = scores[0]
    rows = [["difference to the first run", "metric", "points"]]
    for score in scores[1:]:
        if (score.data_path, score.problems) == (first.data_path, first.problems):
            for name in [name for name in first.scores if name in score.scores]:
                value, error = paired_difference(score.scores[name], first.scores[name])
                rows.append([score.run, name, f"{value:+.1f}{_show_error(error)}"])
    return format_table(rows) if len(rows) > 1 else None


def store_table(root: Path, fidelity: Fidelity) -> str | None:
    """Every sample store under ``root`` with its progress and scores; None if there is none."""
    paths = sorted(path.parent for path in root.rglob(MANIFEST))
    header = ["run", "model", "data", "samples done", "scores"]
    rows = [header, *(_store_row(path, fidelity) for path in paths)]
    return format_table(rows) if paths else None


def _store_row(path: Path, fidelity: Fidelity) -> list[str]:
    """A store that cannot be read or scored says why in the column of its scores."""
    try:
        manifest = read_manifest(path)
        n_samples = stored_n_samples(manifest, path)
        n_done = sum(1 for _ in read_samples(path))
    except UserError as error:
        return [str(path), "-", "-", "-", str(error)]
    model, data_path = manifest.get("model_name_or_path", "-"), manifest.get("data_path", "-")
    n_problems = manifest.get("n_problems")
    n_expected = n_samples * n_problems if isinstance(n_problems, int) else None
    cells = [str(path), str(model), str(data_path), f"{n_done} of {n_expected or '?'}"]
    if n_expected and n_done < n_expected:
        return [*cells, "unfinished"]
    try:
        score = _score_store(path, Path(data_path), fidelity)
    except UserError as error:
        return [*cells, f"not scored: {error}"]
    return [*cells, ", ".join(f"{name} {_show(m)}" for name, m in score.metrics().items())]


def _score_store(path: Path, data_path: Path, fidelity: Fidelity) -> RunScore:
    problems = load_problems(data_path)
    runs = load_completions(path, problems, "test")
    return score_runs(runs, gold_answers(problems, data_path, fidelity), data_path, fidelity)


def _equally_many_answers(
    run: Completions, scored: Sequence[int], fidelity: Fidelity
) -> list[list[Answer | None]]:
    """The answers to the ``scored`` problems, as many to each as the poorest of them has."""
    k = min(len(run.by_problem[i]) for i in scored)
    return [[extract_answer(text, fidelity) for text in run.by_problem[i][:k]] for i in scored]


def _sampled_scores(
    answers: Sequence[Sequence[Answer | None]],
    golds: Sequence[Answer],
    fidelity: Fidelity,
    with_mean: bool,
) -> dict[str, list[float]]:
    scores = {"mean@1": _mean_at_1(answers, golds)} if with_mean else {}
    k = len(answers[0])
    if k > 1:
        rows = list(zip(answers, golds, strict=True))
        scores[f"maj1@{k}"] = [maj_at_k(row, gold, fidelity) for row, gold in rows]
        scores[f"pass@{k}"] = [pass_at_k(k, _n_right(row, gold), k) for row, gold in rows]
    return scores


def _mean_at_1(answers: Sequence[Sequence[Answer | None]], golds: Sequence[Answer]) -> list[float]:
    """For every problem the share of its answers that is right."""
    return [_n_right(row, gold) / len(row) for row, gold in zip(answers, golds, strict=True)]


def _n_right(answers: Sequence[Answer | None], gold: Answer) -> int:
    return sum(is_correct(answer, gold, SCORING_TOLERANCE) for answer in answers)


def _share_cut_off(runs: Sequence[Completions]) -> float | None:
    known = [run for run in runs if run.n_cut_off is not None]
    n_completions = sum(len(texts) for run in known for texts in run.by_problem)
    return sum(run.n_cut_off or 0 for run in known) / n_completions if n_completions else None


def _metric_to_json(metric: Metric) -> dict[str, float | int | None]:
    entry: dict[str, float | int | None] = {
        "value": metric.value,
        "standard_error": metric.standard_error,
    }
    return entry if metric.n_correct is None else entry | {"n_correct": metric.n_correct}


def _show(metric: Metric) -> str:
    return f"{metric.value:.1f}{_show_error(metric.standard_error)}"


def _show_error(error: float | None) -> str:
    return "" if error is None else f" ± {error:.1f}"

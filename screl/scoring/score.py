"""What each completion of a problem answers, and which answers are right.

Two ways to read answers: ``number`` is the ``#### <number>`` of screl.grading.answers, in
strict or as published; ``math_verify`` is for data whose answers are formulas, such as MATH.

Score runs of completions: which metrics a run has, and over which problems.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from screl.core.io import UserError
from screl.core.problems import Problem, ProblemId
from screl.grading.answers import (
    SCORING_TOLERANCE,
    Fidelity,
    extract_answer,
    gold_answers,
    is_correct,
)
from screl.samples.line_index import MISSING
from screl.samples.reader import Run, map_problems
from screl.samples.store import Sample
from screl.scoring.statistics import Floats, Metric, summarise
from screl.scoring.votes import MAX_SAMPLES, expected_maj, expected_pass, first_k_maj, majority

Grader = Literal["number", "math_verify"]


class ScoreRules(NamedTuple):
    """How answers are read and counted."""

    fidelity: Fidelity = "strict"
    grader: Grader = "number"


class AnswerReading(NamedTuple):
    """The answers to one problem: ``answers[j]`` is that of completion j, None if it has none."""

    gold: Hashable
    answers: list[Hashable | None]
    right: frozenset[Hashable]  # those of the answers that are right


def read_answers(problem: Problem, texts: Sequence[str], rules: ScoreRules) -> AnswerReading:
    """The answers of ``texts``; one that is there several times is read once."""
    read = _read_formulas if rules.grader == "math_verify" else _read_numbers
    return read(problem, texts, rules.fidelity)


def check_golds(problems: Sequence[Problem], path: Path, rules: ScoreRules) -> None:
    """UserError naming the line of ``path`` whose solution has no answer to compare with.

    Formulas are not looked at here: reading those of a whole file would take seconds.
    """
    if rules.grader == "number":
        try:
            gold_answers(problems, path, rules.fidelity)
        except UserError as error:
            raise UserError(f"{error}, or for formulas give --grader math_verify") from None


def show_answer(answer: Hashable | None) -> str | None:
    """An answer as text: numbers as decimals."""
    if isinstance(answer, Fraction):
        if answer.denominator == 1:
            return str(answer.numerator)
        return format(Decimal(answer.numerator) / Decimal(answer.denominator), "f")
    return None if answer is None else str(answer)


def _read_numbers(problem: Problem, texts: Sequence[str], fidelity: Fidelity) -> AnswerReading:
    gold = extract_answer(problem.solution, fidelity)
    answer_of = {text: extract_answer(text, fidelity) for text in dict.fromkeys(texts)}
    answers = set(answer_of.values())
    right = [a for a in answers if gold is not None and is_correct(a, gold, SCORING_TOLERANCE)]
    return AnswerReading(gold, [answer_of[text] for text in texts], frozenset(right))


def _read_formulas(problem: Problem, texts: Sequence[str], _: Fidelity) -> AnswerReading:
    from screl.grading.formulas import math_answer, math_answers_equal

    gold = math_answer(problem.solution)
    if gold is None:
        raise UserError(
            f"problem {problem.problem_id!r} (line {problem.line} of the data): Math-Verify finds "
            r"no answer in its response; write it as \boxed{...} or delete this line"
        )
    answer_of = {text: math_answer(text) for text in dict.fromkeys(texts)}
    answers = {answer for answer in answer_of.values() if answer is not None}
    right = frozenset(answer for answer in answers if math_answers_equal(gold, answer))
    return AnswerReading(gold, [answer_of[text] for text in texts], right)


UNKNOWN = -1  # what a run does not record of its completions


class Graded(NamedTuple):
    """What is kept of completions: no texts. Arrays of one element a completion.

    ``n_tokens`` and ``is_cut_off`` (0 or 1) are UNKNOWN where they are not recorded.
    """

    is_right: NDArray[np.bool_]
    has_answer: NDArray[np.bool_]
    is_cut_off: NDArray[np.int8]
    n_tokens: NDArray[np.int64]
    n_characters: NDArray[np.int32]


class ProblemScore(NamedTuple):
    """The scores of one problem in one run; the curves have a score at index k - 1."""

    maj: Floats
    passed: Floats
    winner: str  # what the vote of all says: one answer, or several joined by "or"; "" for none
    graded: Graded


@dataclass(frozen=True)
class RunScore:
    """The scores of one SAMPLES; ``scores`` are per problem, from 0 to 1, by metric."""

    run: str
    data_path: str
    rules: ScoreRules
    n_samples: int  # per problem, K
    problems: list[Problem]  # those that are scored
    left_out: list[ProblemId]  # of these no sample is there
    n_completions: int
    n_completions_expected: int
    scores: dict[str, Floats]
    winners: dict[str, list[str]]  # by metric: what the vote of all samples says, see ProblemScore
    graded: list[Graded]  # per problem: of its samples, or the greedy one if there are none
    share_without_answer: float
    share_cut_off: float | None  # None where it is not recorded

    @cached_property
    def metrics(self) -> dict[str, Metric]:
        """The mean of every metric over problems, with its uncertainty, in percent."""
        columns = np.column_stack(list(self.scores.values()))
        return dict(zip(self.scores, summarise(columns), strict=True))

    def headline(self, k: int | None = None) -> list[str]:
        """The metrics that tables show: at 1 and at ``k`` (K, if not given)."""
        k = k or self.n_samples
        names = ["maj1@1", "mean@1", f"maj1@{k}", f"pass@{k}"]
        return [name for name in dict.fromkeys(names) if name in self.scores]


def score_runs(
    runs: Sequence[Run], problems: Sequence[Problem], data_path: Path, rules: ScoreRules
) -> RunScore:
    """Score what one SAMPLES holds: a greedy run, a sampled one, or one of each.

    A greedy run gives maj1@1. A sampled one gives mean@1, the mean over all its samples, and
    maj1@k and pass@k for k = 2 to K (see screl.scoring.votes). Where samples are missing
    (--allow_partial), problems without any are left out, and K is the least number of a scored one;
    of the others all samples are used (in paper: the first K vote), up to 1,000. Raises UserError
    if none can be scored.
    """
    check_golds(problems, data_path, rules)
    n_expected = len(problems) * sum(run.n_samples for run in runs)
    runs = [replace(run, index=run.index.first(MAX_SAMPLES)) for run in runs]
    n_there = np.stack([(run.index.file_no != MISSING).sum(axis=1) for run in runs])
    is_scored: list[bool] = np.all(n_there > 0, axis=0).tolist()
    if not any(is_scored):
        raise UserError(f"{runs[0].name}: holds no samples of these problems; run sample.py first")
    k_max = [int(of_run[is_scored].min()) for of_run in n_there]
    every = map_problems(score_problem, problems, runs, k_max, rules)
    by_run = list(zip(*(of_runs for of_runs in every if of_runs is not None), strict=True))
    main = min(range(len(runs)), key=lambda i: runs[i].greedy)  # a sampled one, if there is one
    every_graded = join_graded([row.graded for rows in by_run for row in rows])
    return RunScore(
        run=runs[0].name,
        data_path=str(data_path),
        rules=rules,
        n_samples=max(k_max),
        problems=[p for p, wanted in zip(problems, is_scored, strict=True) if wanted],
        left_out=[p.problem_id for p, w in zip(problems, is_scored, strict=True) if not w],
        n_completions=int(n_there.sum()),
        n_completions_expected=n_expected,
        scores=_scores_by_metric(runs, by_run, k_max),
        winners={
            "maj1@1" if run.greedy else f"maj1@{k}" if k > 1 else "mean@1": [r.winner for r in rows]
            for run, rows, k in zip(runs, by_run, k_max, strict=True)
        },
        graded=[row.graded for row in by_run[main]],
        share_without_answer=1 - float(every_graded.has_answer.mean()),
        share_cut_off=_share_cut_off(every_graded),
    )


def score_problem(
    problem: Problem,
    completions: Sequence[Sequence[Sample]],
    k_max: Sequence[int],
    rules: ScoreRules,
) -> list[ProblemScore] | None:
    """The scores of one problem in every run; None if one of them has no sample of it."""
    if not all(completions):
        return None
    return [_score(problem, *of_run, rules) for of_run in zip(completions, k_max, strict=True)]


def join_graded(parts: Sequence[Graded]) -> Graded:
    """One after the other."""
    return Graded(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def score_to_json(score: RunScore) -> dict[str, Any]:
    """The entry of metrics.json; ``n_correct`` is left out where it is no whole number."""
    return {
        "run": score.run,
        "data_path": score.data_path,
        "fidelity": score.rules.fidelity,
        "grader": score.rules.grader,
        "n_problems": len(score.problems),
        "n_problems_left_out": len(score.left_out),
        "n_samples": score.n_samples,
        "metrics": {name: metric_to_json(metric) for name, metric in score.metrics.items()},
    }


def metric_to_json(metric: Metric) -> dict[str, Any]:
    """In percent."""
    entry: dict[str, Any] = {
        "value": metric.value,
        "standard_error": metric.standard_error,
        "interval": metric.interval,
    }
    return entry if metric.n_correct is None else entry | {"n_correct": metric.n_correct}


def _score(
    problem: Problem, completions: Sequence[Sample], k_max: int, rules: ScoreRules
) -> ProblemScore:
    ballot = read_answers(problem, [completion.completion for completion in completions], rules)
    is_right = np.array([answer in ballot.right for answer in ballot.answers])
    if rules.fidelity == "paper":
        maj = first_k_maj(ballot.answers, ballot.right, k_max)
        winners = majority(ballot.answers[:k_max])[:1]
    else:
        maj = expected_maj(ballot.answers, ballot.right, k_max)
        winners = majority(ballot.answers)
    return ProblemScore(
        maj=maj,
        passed=expected_pass(len(is_right), int(is_right.sum()), k_max),
        winner=" or ".join(str(show_answer(winner)) for winner in winners),
        graded=_grade(completions, ballot.answers, is_right),
    )


def _grade(
    completions: Sequence[Sample], answers: Sequence[object], is_right: NDArray[np.bool_]
) -> Graded:
    return Graded(
        is_right=is_right,
        has_answer=np.array([answer is not None for answer in answers]),
        is_cut_off=np.array(list(_known(c.is_cut_off for c in completions)), np.int8),
        n_tokens=np.array(list(_known(c.n_tokens for c in completions)), np.int64),
        n_characters=np.array([len(c.completion) for c in completions], np.int32),
    )


def _known(values: Iterator[int | None]) -> Iterator[int]:
    return (UNKNOWN if value is None else value for value in values)


def _scores_by_metric(
    runs: Sequence[Run], by_run: Sequence[Sequence[ProblemScore]], k_max: Sequence[int]
) -> dict[str, Floats]:
    """Per problem; maj1@1 of a greedy run first."""
    greedy: dict[str, Floats] = {}
    scores: dict[str, Floats] = {}
    for run, rows, k in zip(runs, by_run, k_max, strict=True):
        right = np.array([row.graded.is_right.mean() for row in rows])
        if run.greedy:
            greedy["maj1@1"] = right
            continue
        scores["mean@1"] = right
        maj, passed = np.stack([row.maj for row in rows]), np.stack([row.passed for row in rows])
        scores |= {f"maj1@{j}": maj[:, j - 1] for j in range(2, k + 1)}
        scores |= {f"pass@{j}": passed[:, j - 1] for j in range(2, k + 1)}
    return greedy | scores


def _share_cut_off(graded: Graded) -> float | None:
    known = graded.is_cut_off[graded.is_cut_off != UNKNOWN]
    return float(known.mean()) if len(known) else None

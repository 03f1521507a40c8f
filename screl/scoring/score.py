"""Score runs: read the answer of each completion, then compute every metric.

How an answer is read and compared is decided by JudgeRules (screl.grading.verdict).
"""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from itertools import compress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from screl.core.io import UserError
from screl.core.problems import Problem, ProblemId
from screl.grading.answers import SCORING_TOLERANCE
from screl.grading.verdict import (
    JudgeRules,
    answer_reader,
    equality,
    read_text,
    require_gold,
    require_golds,
)
from screl.grading.verifiers import short_gold, verify
from screl.samples.line_index import MISSING
from screl.samples.reader import Run, map_problems
from screl.samples.store import Sample
from screl.scoring.statistics import Floats, Metric, summarize
from screl.scoring.votes import MAX_SAMPLES, expected_maj, expected_pass, first_k_maj, majority

UNKNOWN = -1  # in CompletionStats, for values that a run does not record


class AnswerReading(NamedTuple):
    """The answers to one problem, one per sample; None where a sample has no answer."""

    gold: Hashable
    answers: list[Hashable | None]
    right: frozenset[Hashable]  # the distinct answers that are right
    failures: list[str]  # of the verifier, one per sample; "" if it judged the sample


class CompletionStats(NamedTuple):
    """Facts about completions for scores and breakdowns, without the texts; one element for each.

    ``is_cut_off`` (0 or 1) and ``n_tokens`` are UNKNOWN where they were not recorded.
    """

    is_right: NDArray[np.bool_]
    has_answer: NDArray[np.bool_]
    is_cut_off: NDArray[np.int8]
    n_tokens: NDArray[np.int64]
    n_characters: NDArray[np.int32]


class ProblemScore(NamedTuple):
    """The scores of one problem in one run, from 0 to 1; a score at k is at index k - 1."""

    maj_at_k: Floats
    pass_at_k: Floats
    winner: str  # of the vote of all samples; " or " joins tied answers, "" if no sample votes
    completions: CompletionStats
    failures: Counter[str]  # of the verifier, which then count as no answer


@dataclass(frozen=True)
class RunScore:
    """The scores of one SAMPLES, per problem and from 0 to 1.

    ``winners`` holds, per problem, the winner of the vote of all samples (see ProblemScore).
    ``completions`` are the samples or, if there are none, the greedy completions; the two shares
    are over both kinds.
    """

    run: str
    data_path: str
    rules: JudgeRules
    n_samples: int  # K
    problems: list[Problem]  # those that are scored
    left_out: list[ProblemId]  # those without samples
    n_completions: int
    n_completions_expected: int
    scores: dict[str, Floats]  # by metric
    winners: dict[str, list[str]]  # by metric
    completions: list[CompletionStats]
    share_without_answer: float
    share_cut_off: float | None  # None if not recorded
    failures: dict[ProblemId, Counter[str]] = field(default_factory=dict)  # of the verifier

    @cached_property
    def metrics(self) -> dict[str, Metric]:
        """Return the mean of each metric over problems, with its uncertainty."""
        columns = np.column_stack(list(self.scores.values()))
        return dict(zip(self.scores, summarize(columns), strict=True))

    def headline(self, k: int | None = None) -> list[str]:
        """Return the metrics that tables show, at 1 sample and at ``k`` samples (default K)."""
        k = k or self.n_samples
        names = ["maj1@1", "mean@1", f"maj1@{k}", f"pass@{k}"]
        return [name for name in dict.fromkeys(names) if name in self.scores]


def score_runs(
    runs: Sequence[Run], problems: Sequence[Problem], data_path: Path, rules: JudgeRules
) -> RunScore:
    """Score the runs of one SAMPLES: a greedy one, a sampled one, or one of each.

    A greedy run gives maj1@1. A sampled one gives mean@1, the mean over all its samples, and maj1@k
    and pass@k for k = 2 to K (see screl.scoring.votes). If samples are missing (--allow_partial),
    problems without any are left out, and K is the smallest number of samples of the others.
    Problems with more than K samples use all of them (paper: the first K vote), up to 1,000. Raises
    UserError if a gold answer cannot be read or there is nothing to score.
    """
    require_golds(problems, data_path, rules)
    n_expected = len(problems) * sum(run.n_samples for run in runs)
    runs = [replace(run, index=run.index.first(MAX_SAMPLES)) for run in runs]
    n_found = np.stack([(run.index.file_no != MISSING).sum(axis=1) for run in runs])
    is_scored: list[bool] = np.all(n_found > 0, axis=0).tolist()
    if not any(is_scored):
        raise UserError(f"{runs[0].name}: has no samples of these problems; run sample.py first")
    k_max: list[int] = n_found[:, is_scored].min(axis=1).tolist()
    results = map_problems(score_problem, problems, runs, k_max, rules)
    by_run = list(zip(*(scores for scores in results if scores is not None), strict=True))
    main = next((i for i, run in enumerate(runs) if not run.greedy), 0)
    every = join_stats([score.completions for scores in by_run for score in scores])
    is_recorded = every.is_cut_off != UNKNOWN
    return RunScore(
        run=runs[0].name,
        data_path=str(data_path),
        rules=rules,
        n_samples=max(k_max),
        problems=list(compress(problems, is_scored)),
        left_out=[p.problem_id for p, ok in zip(problems, is_scored, strict=True) if not ok],
        n_completions=int(n_found.sum()),
        n_completions_expected=n_expected,
        scores=_scores_by_metric(runs, by_run, k_max),
        winners={
            _vote_metric(run, k): [score.winner for score in scores]
            for run, scores, k in zip(runs, by_run, k_max, strict=True)
        },
        completions=[score.completions for score in by_run[main]],
        share_without_answer=1 - float(every.has_answer.mean()),
        share_cut_off=float(every.is_cut_off[is_recorded].mean()) if is_recorded.any() else None,
        failures={
            problem.problem_id: sum((score.failures for score in of_problem), Counter[str]())
            for problem, of_problem in zip(
                compress(problems, is_scored), zip(*by_run, strict=True), strict=True
            )
        },
    )


def score_problem(
    problem: Problem,
    samples: Sequence[Sequence[Sample]],
    k_max: Sequence[int],
    rules: JudgeRules,
) -> list[ProblemScore] | None:
    """Return the scores of one problem in each run; None if a run has no samples for it."""
    if not all(samples):
        return None
    return [_score(problem, *of_run, rules) for of_run in zip(samples, k_max, strict=True)]


def read_answers(problem: Problem, samples: Sequence[Sample], rules: JudgeRules) -> AnswerReading:
    """Return the answers of ``samples``, reading equal texts only once.

    Raises UserError if the problem has no gold answer.
    """
    if rules.verifier:
        return _verified_answers(problem, samples, rules.verifier)
    extract, is_right = answer_reader(rules), equality(rules, SCORING_TOLERANCE)
    gold = require_gold(problem, rules)
    texts = [sample.completion for sample in samples]
    answer_of = {text: extract(read_text(text, rules)) for text in dict.fromkeys(texts)}
    answers = {answer for answer in answer_of.values() if answer is not None}
    right = frozenset(answer for answer in answers if is_right(gold, answer))
    return AnswerReading(gold, [answer_of[text] for text in texts], right, [""] * len(texts))


def _verified_answers(problem: Problem, samples: Sequence[Sample], verifier: str) -> AnswerReading:
    texts = [sample.completion for sample in samples]
    outcome_of = {text: verify(problem, text, verifier) for text in dict.fromkeys(texts)}
    outcomes = [outcome_of[text] for text in texts]
    right = frozenset(outcome.answer for outcome in outcomes if outcome.is_right)
    answers: list[Hashable | None] = [outcome.answer for outcome in outcomes]
    failures = [outcome.failure for outcome in outcomes]
    return AnswerReading(short_gold(problem), answers, right, failures)


def show_answer(answer: Hashable | None) -> str | None:
    """Return an answer as text, with numbers as decimals."""
    if isinstance(answer, Fraction):
        if answer.denominator == 1:
            return str(answer.numerator)
        return format(Decimal(answer.numerator) / Decimal(answer.denominator), "f")
    return None if answer is None else str(answer)


def join_stats(parts: Sequence[CompletionStats]) -> CompletionStats:
    """Return the completions of all ``parts``, one part after the other."""
    return CompletionStats(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _score(
    problem: Problem, samples: Sequence[Sample], k_max: int, rules: JudgeRules
) -> ProblemScore:
    _, answers, right, failures = read_answers(problem, samples, rules)
    is_right = np.array([answer in right for answer in answers])
    if rules.fidelity == "paper":
        maj_at_k = first_k_maj(answers, right, k_max)
        winners = majority(answers[:k_max])[:1]
    else:
        maj_at_k = expected_maj(answers, right, k_max)
        winners = majority(answers)
    return ProblemScore(
        maj_at_k=maj_at_k,
        pass_at_k=expected_pass(len(is_right), int(is_right.sum()), k_max),
        winner=" or ".join(str(show_answer(winner)) for winner in winners),
        completions=CompletionStats(
            is_right=is_right,
            has_answer=np.array([answer is not None for answer in answers]),
            is_cut_off=np.array([_known(sample.is_cut_off) for sample in samples], np.int8),
            n_tokens=np.array([_known(sample.n_tokens) for sample in samples], np.int64),
            n_characters=np.array([len(sample.completion) for sample in samples], np.int32),
        ),
        failures=Counter(filter(None, failures)),
    )


def _vote_metric(run: Run, k: int) -> str:
    if run.greedy:
        return "maj1@1"
    return f"maj1@{k}" if k > 1 else "mean@1"


def _known(value: int | None) -> int:
    return UNKNOWN if value is None else value


def _scores_by_metric(
    runs: Sequence[Run], by_run: Sequence[Sequence[ProblemScore]], k_max: Sequence[int]
) -> dict[str, Floats]:
    """Return the scores per problem by metric, with maj1@1 of a greedy run first."""
    greedy: dict[str, Floats] = {}
    sampled: dict[str, Floats] = {}
    for run, scores, k in zip(runs, by_run, k_max, strict=True):
        share_right = np.array([score.completions.is_right.mean() for score in scores])
        if run.greedy:
            greedy["maj1@1"] = share_right
            continue
        sampled["mean@1"] = share_right
        maj_at_k = np.stack([score.maj_at_k for score in scores])
        pass_at_k = np.stack([score.pass_at_k for score in scores])
        sampled |= {f"maj1@{j}": maj_at_k[:, j - 1] for j in range(2, k + 1)}
        sampled |= {f"pass@{j}": pass_at_k[:, j - 1] for j in range(2, k + 1)}
    return greedy | sampled

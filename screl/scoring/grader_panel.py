"""Grade the same completions by six rules, to show how the grader affects a score (--graders).

Problems are graded in parallel processes, which return only counts and a few examples, so 1,319 x
100 completions take a few megabytes.
"""

import hashlib
from collections.abc import Sequence
from heapq import nsmallest
from typing import NamedTuple

import numpy as np

from screl.core.io import UserError, format_table
from screl.core.problems import Problem, ProblemId
from screl.grading.answers import gold_text
from screl.grading.formulas import math_answer
from screl.grading.graders import GRADERS, GraderVerdict
from screl.samples.reader import Run, map_problems
from screl.samples.store import Sample
from screl.scoring.statistics import mean_and_error

REFERENCE = "strict"  # the grader that the others are compared with
N_EXAMPLES = 5
TAIL_CHARS = 100
ANSWER_CHARS = 30  # characters shown of an answer; the tail has the rest


class GraderCounts(NamedTuple):
    """Counts of one problem's completions under one grader."""

    n_right: int
    n_without_answer: int
    n_right_only_here: int  # right here but wrong under the reference
    n_right_only_reference: int
    n_golds_unread: int  # 1 if the gold is not right by the grader itself, else 0


class Disagreement(NamedTuple):
    """The end of a completion on which the graders disagree, and their verdicts."""

    problem_id: ProblemId
    sample_id: int
    tail: str
    gold: str
    verdicts: dict[str, GraderVerdict]


class ProblemPanel(NamedTuple):
    """The counts of one problem by grader, and a few examples of disagreement."""

    n_completions: int
    counts: dict[str, GraderCounts]
    examples: list[Disagreement]


class GraderScore(NamedTuple):
    """The score of a run under one grader, as in metrics.json.

    ``value`` is the percentage of right completions, averaged over problems, with its standard
    error (None for a single problem). Where the grader cannot read a problem's gold answer, its
    completions count as wrong; ``value`` is None if it can read none.
    """

    value: float | None
    standard_error: float | None
    n_without_answer: int
    n_right_only_here: int
    n_right_only_strict: int
    n_golds_unread: int = 0


def grade_run(run: Run, problems: Sequence[Problem]) -> list[ProblemPanel]:
    """Return the panels of the problems that have samples; raise UserError if none has any."""
    every = map_problems(grade_problem, problems, [run], N_EXAMPLES)
    panels = [panel for panel in every if panel.n_completions]
    if not panels:
        raise UserError(f"{run.name}: has no samples of these problems; run sample.py first")
    return panels


def grade_problem(
    problem: Problem, samples: Sequence[Sequence[Sample]], n_examples: int
) -> ProblemPanel:
    """Grade one problem's samples; ``samples`` holds a single run.

    Keeps at most ``n_examples`` disagreements, the ones that choose_examples would choose first.
    """
    (run_samples,) = samples
    texts = [sample.completion for sample in run_samples]
    gold = gold_text(problem)
    graded = grade_completions(texts, gold)
    disagreements = [
        Disagreement(
            problem.problem_id,
            s.sample_id,
            s.completion[-TAIL_CHARS:],
            math_answer(gold) or "?",
            verdicts,
        )
        for s, verdicts in zip(run_samples, graded, strict=True)
        if len({verdict.is_right for verdict in verdicts.values()}) > 1
    ]
    return ProblemPanel(
        n_completions=len(texts),
        counts={name: _count(graded, name, gold) for name in GRADERS},
        examples=nsmallest(n_examples, disagreements, key=_random_order),
    )


def grade_completions(completions: Sequence[str], solution: str) -> list[dict[str, GraderVerdict]]:
    """Return the verdict of each grader on each completion of one problem."""
    return [
        {name: grade(completion, solution) for name, grade in GRADERS.items()}
        for completion in completions
    ]


def score_graders(panels: Sequence[ProblemPanel]) -> dict[str, GraderScore]:
    """Return the scores by grader; a problem's score is the share of right completions.

    Every panel must have completions.
    """
    right = [[panel.counts[name].n_right for name in GRADERS] for panel in panels]
    totals = np.array([[panel.n_completions] for panel in panels])
    values, errors = mean_and_error(np.array(right) / totals)
    scores = {}
    for name, value, error in zip(GRADERS, values, errors, strict=True):
        _, *counts = np.sum([panel.counts[name] for panel in panels], axis=0).tolist()
        is_graded = counts[-1] < len(panels)
        scores[name] = GraderScore(value if is_graded else None, error, *counts)
    return scores


def choose_examples(panels: Sequence[ProblemPanel], n_examples: int) -> list[Disagreement]:
    """Return at most ``n_examples`` disagreements, sorted by problem and sample.

    They are chosen by a hash of their ids, so the choice depends neither on the order of problems
    nor on the number of workers.
    """
    every = [example for panel in panels for example in panel.examples]
    chosen = nsmallest(n_examples, every, key=_random_order)
    return sorted(chosen, key=lambda e: (str(e.problem_id).zfill(12), e.sample_id))


def grader_report(run: Run, panels: Sequence[ProblemPanel]) -> str:
    """Return the table of one run, and examples on which the graders disagree."""
    scores = score_graders(panels)
    n_completions = sum(panel.n_completions for panel in panels)
    rows = [["grader", "right", "no answer"]]
    for name, score in scores.items():
        error = "" if score.standard_error is None else f" ± {score.standard_error:.1f}"
        share_without = score.n_without_answer / n_completions
        value = "-" if score.value is None else f"{score.value:.1f}{error}"
        rows.append([name, value, f"{share_without:.1%}"])
    differences = [["grader", "right only under it", f"right only under {REFERENCE}"]]
    for name, score in scores.items():
        if name != REFERENCE:
            counts = score.n_right_only_here, score.n_right_only_strict
            differences.append([name, *map(str, counts)])
    kind = "greedy" if run.greedy else f"{run.n_samples} samples per problem"
    title = f"{run.name}, {kind}; right: percent of completions ± standard error over problems"
    examples = [show_example(example) for example in choose_examples(panels, N_EXAMPLES)]
    unread = unread_golds(scores, len(panels))
    tables = [title, format_table(rows), *unread, format_table(differences)]
    return "\n\n".join([*tables, *examples])


def unread_golds(scores: dict[str, GraderScore], n_problems: int) -> list[str]:
    """Return a line that says which graders cannot read some gold answers; none if all can."""
    counts = {name: score.n_golds_unread for name, score in scores.items() if score.n_golds_unread}
    if not counts:
        return []
    listed = ", ".join(f"{name} {count}" for name, count in counts.items())
    return [f"gold answers that cannot be read, of {n_problems} (counted as wrong): {listed}"]


def show_example(example: Disagreement) -> str:
    """Return the ids, gold answer, end of the completion, and each grader's answer and verdict."""
    ids = (
        f"problem {example.problem_id}, sample {example.sample_id}, gold {_one_line(example.gold)}"
    )
    rows = [["  grader", "read", "right"]]
    for name, verdict in example.verdicts.items():
        answer = "-" if verdict.answer is None else _one_line(verdict.answer)[:ANSWER_CHARS]
        rows.append([f"  {name}", answer, "yes" if verdict.is_right else "no"])
    return f"{ids}: …{_one_line(example.tail)}\n{format_table(rows)}"


def _count(graded: Sequence[dict[str, GraderVerdict]], name: str, gold: str) -> GraderCounts:
    pairs = [(verdicts[name], verdicts[REFERENCE]) for verdicts in graded]
    return GraderCounts(
        n_right=sum(verdict.is_right for verdict, _ in pairs),
        n_without_answer=sum(verdict.answer is None for verdict, _ in pairs),
        n_right_only_here=sum(v.is_right and not reference.is_right for v, reference in pairs),
        n_right_only_reference=sum(reference.is_right and not v.is_right for v, reference in pairs),
        n_golds_unread=int(not GRADERS[name](gold, gold).is_right),
    )


def _random_order(example: Disagreement) -> bytes:
    return hashlib.sha256(f"{example.problem_id}\n{example.sample_id}".encode()).digest()


def _one_line(text: str) -> str:
    """Return ``text`` without line breaks and control characters, which could upset a terminal."""
    text = text.replace("\n", "⏎")
    return "".join(character if character.isprintable() else "\N{MIDDLE DOT}" for character in text)

"""The same completions graded by six rules side by side: how much of a score is the grader.

``grade_problem`` runs once a problem, in worker processes, and returns only counts and a few
examples, so that 1,319 x 100 completions take a few megabytes; the tables are made from those.
"""

import hashlib
from collections.abc import Mapping, Sequence
from heapq import nsmallest
from typing import NamedTuple

import numpy as np

from screl.graders import GRADERS, Verdict
from screl.math_answers import math_answer
from screl.metrics import mean_and_error
from screl.problems import ProblemId
from screl.table import format_table

REFERENCE = "strict"  # the grader that the others are compared with
TAIL_CHARS = 100
ANSWER_CHARS = 30  # of what a grader read; the tail has the rest


class Counts(NamedTuple):
    """Of one grader and one problem: numbers of completions."""

    n_right: int
    n_without_answer: int
    n_only_it: int  # right under it and wrong under the reference
    n_only_reference: int


class Example(NamedTuple):
    """A completion that some grader sees differently from the reference."""

    problem_id: ProblemId
    sample_id: int
    tail: str
    gold: str
    verdicts: dict[str, Verdict]


class ProblemPanel(NamedTuple):
    """What the report needs of one problem."""

    n_completions: int
    counts: dict[str, Counts]
    examples: list[Example]


def grade_completions(completions: Sequence[str], solution: str) -> list[dict[str, Verdict]]:
    """The verdict of every grader on every completion of one problem."""
    return [
        {name: grade(completion, solution) for name, grade in GRADERS.items()}
        for completion in completions
    ]


def grade_problem(
    problem_id: ProblemId, completions: Mapping[int, str], solution: str, n_examples: int
) -> ProblemPanel:
    """Grade one problem's ``completions``, texts by sample_id.

    At most ``n_examples`` disagreements are kept: those that disagreement_sample may choose.
    """
    graded = grade_completions(list(completions.values()), solution)
    by_sample = dict(zip(completions, graded, strict=True))
    disagreed = [
        sample_id
        for sample_id, verdicts in by_sample.items()
        if len({verdict.is_right for verdict in verdicts.values()}) > 1
    ]
    chosen = nsmallest(n_examples, disagreed, key=lambda i: _priority(problem_id, i))
    gold = math_answer(solution) or "?"
    return ProblemPanel(
        n_completions=len(completions),
        counts={name: _count(graded, name) for name in GRADERS},
        examples=[
            Example(problem_id, i, completions[i][-TAIL_CHARS:], gold, by_sample[i]) for i in chosen
        ],
    )


def panel_table(panels: Sequence[ProblemPanel]) -> str:
    """One row per grader: percent right ± standard error over problems, share without an answer.

    A problem's score is the share of its completions that is right; problems without completions
    are left out.
    """
    panels = [panel for panel in panels if panel.n_completions]
    rows = [["grader", "right", "no answer"]]
    if not panels:
        return format_table(rows)
    n_completions = sum(panel.n_completions for panel in panels)
    n_right = [[panel.counts[name].n_right for name in GRADERS] for panel in panels]
    totals = [[panel.n_completions] for panel in panels]
    values, errors = mean_and_error(np.array(n_right) / np.array(totals))
    for name, value, error in zip(GRADERS, values, errors, strict=True):
        shown = f"{value:.1f}" + ("" if error is None else f" ± {error:.1f}")
        n_without = sum(panel.counts[name].n_without_answer for panel in panels)
        rows.append([name, shown, f"{n_without / n_completions:.1%}"])
    return format_table(rows)


def disagreement_table(panels: Sequence[ProblemPanel]) -> str:
    """One row per other grader: how many completions are right only under it, or under strict."""
    rows = [["grader", "right only under it", f"right only under {REFERENCE}"]]
    for name in GRADERS:
        if name != REFERENCE:
            counts = [panel.counts[name] for panel in panels]
            n_only_it = sum(c.n_only_it for c in counts)
            n_only_reference = sum(c.n_only_reference for c in counts)
            rows.append([name, str(n_only_it), str(n_only_reference)])
    return format_table(rows)


def disagreement_sample(panels: Sequence[ProblemPanel], n_examples: int) -> list[Example]:
    """At most ``n_examples`` of the completions that graders disagree about, by problem and sample.

    Chosen by a hash of their ids: the same ones for any order of problems and number of workers.
    """
    every = [example for panel in panels for example in panel.examples]
    chosen = nsmallest(n_examples, every, key=lambda e: _priority(e.problem_id, e.sample_id))
    return sorted(chosen, key=lambda e: (str(e.problem_id).zfill(12), e.sample_id))


def show_example(example: Example) -> str:
    """The ids, the end of the completion, the gold answer, and what each grader made of it."""
    ids = f"problem {example.problem_id}, sample {example.sample_id}, gold {_show(example.gold)}"
    rows = [["  grader", "read", "right"]]
    for name, verdict in example.verdicts.items():
        answer = "-" if verdict.answer is None else _show(verdict.answer)[:ANSWER_CHARS]
        rows.append([f"  {name}", answer, "yes" if verdict.is_right else "no"])
    return f"{ids}: …{_show(example.tail)}\n{format_table(rows)}"


def panel_report(panels: Sequence[ProblemPanel], n_examples: int) -> str:
    """Both tables and the examples, as eval.py prints them."""
    examples = [show_example(e) for e in disagreement_sample(panels, n_examples)]
    return "\n\n".join([panel_table(panels), disagreement_table(panels), *examples])


def _count(graded: Sequence[dict[str, Verdict]], name: str) -> Counts:
    pairs = [(verdicts[name], verdicts[REFERENCE]) for verdicts in graded]
    return Counts(
        n_right=sum(verdict.is_right for verdict, _ in pairs),
        n_without_answer=sum(verdict.answer is None for verdict, _ in pairs),
        n_only_it=sum(v.is_right and not reference.is_right for v, reference in pairs),
        n_only_reference=sum(reference.is_right and not v.is_right for v, reference in pairs),
    )


def _priority(problem_id: ProblemId, sample_id: int) -> bytes:
    return hashlib.sha256(f"{problem_id}\n{sample_id}".encode()).digest()


def _show(text: str) -> str:
    """One line without control characters: a completion may hold those of a terminal."""
    text = text.replace("\n", "⏎")
    return "".join(character if character.isprintable() else "\N{MIDDLE DOT}" for character in text)

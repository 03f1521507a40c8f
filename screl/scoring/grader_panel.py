"""The same completions graded by six rules side by side: how much of a score is the grader.

``grade_problem`` runs once a problem, in worker processes, and returns only counts and a few
examples, so that 1,319 x 100 completions take a few megabytes; the tables are made from those.

``eval.py --graders``: the panel of graders on whole runs, as text and for metrics.json.
"""

import hashlib
from collections.abc import Mapping, Sequence
from heapq import nsmallest
from typing import Any, NamedTuple

import numpy as np

from screl.core.io import UserError, format_table
from screl.core.problems import Problem, ProblemId
from screl.grading.formulas import math_answer
from screl.grading.graders import GRADERS, GraderVerdict
from screl.samples.reader import Run, map_problems
from screl.samples.store import Sample
from screl.scoring.statistics import mean_and_error

REFERENCE = "strict"  # the grader that the others are compared with
TAIL_CHARS = 100
ANSWER_CHARS = 30  # of what a grader read; the tail has the rest


class Counts(NamedTuple):
    """Of one grader and one problem: numbers of completions."""

    n_right: int
    n_without_answer: int
    n_only_it: int  # right under it and wrong under the reference
    n_only_reference: int


class PanelExample(NamedTuple):
    """A completion that some grader sees differently from the reference."""

    problem_id: ProblemId
    sample_id: int
    tail: str
    gold: str
    verdicts: dict[str, GraderVerdict]


class ProblemPanel(NamedTuple):
    """What the report needs of one problem."""

    n_completions: int
    counts: dict[str, Counts]
    examples: list[PanelExample]


def grade_completions(completions: Sequence[str], solution: str) -> list[dict[str, GraderVerdict]]:
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
            PanelExample(problem_id, i, completions[i][-TAIL_CHARS:], gold, by_sample[i])
            for i in chosen
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


def disagreement_sample(panels: Sequence[ProblemPanel], n_examples: int) -> list[PanelExample]:
    """At most ``n_examples`` of the completions that graders disagree about, by problem and sample.

    Chosen by a hash of their ids: the same ones for any order of problems and number of workers.
    """
    every = [example for panel in panels for example in panel.examples]
    chosen = nsmallest(n_examples, every, key=lambda e: _priority(e.problem_id, e.sample_id))
    return sorted(chosen, key=lambda e: (str(e.problem_id).zfill(12), e.sample_id))


def show_example(example: PanelExample) -> str:
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


def _count(graded: Sequence[dict[str, GraderVerdict]], name: str) -> Counts:
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


N_EXAMPLES = 5


def grade_run(run: Run, problems: Sequence[Problem]) -> list[ProblemPanel]:
    """The verdicts of all graders on ``run``, for the problems of which it has samples.

    Raises UserError if there are none.
    """
    panels = [p for p in map_problems(_grade, problems, [run]) if p.n_completions]
    if not panels:
        raise UserError(f"{run.name}: holds no samples of these problems; run sample.py first")
    return panels


def grader_report(run: Run, panels: Sequence[ProblemPanel]) -> str:
    """The tables of one run, and examples of what graders disagree about."""
    kind = "greedy" if run.greedy else f"{run.n_samples} samples of each problem"
    legend = "right: percent of completions ± standard error over problems"
    return f"{run.name}, {kind}; {legend}\n\n{panel_report(panels, N_EXAMPLES)}"


def grader_entry(
    run: Run, data_path: str, n_problems: int, panels: Sequence[ProblemPanel]
) -> dict[str, Any]:
    """What metrics.json holds of one run; "graders" has the scores by grader, in percent."""
    right = np.array(
        [[p.counts[name].n_right / p.n_completions for name in GRADERS] for p in panels]
    )
    values, errors = mean_and_error(right)
    graders = {}
    for name, value, error in zip(GRADERS, values, errors, strict=True):
        counts = [panel.counts[name] for panel in panels]
        graders[name] = {
            "value": value,
            "standard_error": error,
            "n_without_answer": sum(count.n_without_answer for count in counts),
            "n_right_only_here": sum(count.n_only_it for count in counts),
            "n_right_only_strict": sum(count.n_only_reference for count in counts),
        }
    return {
        "run": run.name,
        "data_path": data_path,
        "n_problems": len(panels),
        "n_problems_left_out": n_problems - len(panels),
        "n_samples": run.n_samples,
        "n_completions": sum(panel.n_completions for panel in panels),
        "graders": graders,
    }


def _grade(problem: Problem, completions: Sequence[Sequence[Sample]]) -> ProblemPanel:
    texts = {completion.sample_id: completion.completion for completion in completions[0]}
    return grade_problem(problem.problem_id, texts, problem.solution, N_EXAMPLES)

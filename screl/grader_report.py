"""``eval.py --graders``: the panel of graders on whole runs, as text and for metrics.json."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from screl.completions import Completion, Run, map_problems
from screl.files import UserError
from screl.grader_panel import ProblemPanel, grade_problem, panel_report
from screl.graders import GRADERS
from screl.metrics import mean_and_error
from screl.problems import Problem

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


def _grade(problem: Problem, completions: Sequence[Sequence[Completion]]) -> ProblemPanel:
    texts = {completion.sample_id: completion.text for completion in completions[0]}
    return grade_problem(problem.problem_id, texts, problem.solution, N_EXAMPLES)

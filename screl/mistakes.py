"""Every wrong completion and what kind of mistake it is.

``no_answer``: nothing that the grader can read as an answer. ``arithmetic_slip``: at least one of
its equations is false. ``wrong_plan``: an answer, no false equation, and yet wrong.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import orjson

from screl.answers import Fidelity
from screl.ballots import Ballot, Rules, read_ballot, show_answer
from screl.completions import Completion, Run, map_problems
from screl.equations import check_equation, find_equations
from screl.problems import Problem

Category = Literal["no_answer", "arithmetic_slip", "wrong_plan"]
CATEGORIES: tuple[Category, ...] = ("no_answer", "arithmetic_slip", "wrong_plan")
CUT_OFF = "no_answer, cut off"  # counted apart within no_answer


def categorise(text: str, has_answer: bool, fidelity: Fidelity) -> Category:
    """The category of a completion that is not right."""
    if not has_answer:
        return "no_answer"
    statuses = (check_equation(equation, fidelity) for equation in find_equations(text))
    return "arithmetic_slip" if "false" in statuses else "wrong_plan"


def wrong_completions(
    problem: Problem,
    completions: Sequence[Sequence[Completion]],
    runs: Sequence[str],
    rules: Rules,
) -> tuple[str, Counter[str]]:
    """The wrong completions of one problem in each of ``runs`` as JSON lines, and their counts.

    The counts have a key for every category, one for what has no answer and was cut off, and
    "wrong" and "all".
    """
    lines: list[str] = []
    counts: Counter[str] = Counter()
    for run, of_run in zip(runs, completions, strict=True):
        ballot = read_ballot(problem, [completion.text for completion in of_run], rules)
        counts["all"] += len(of_run)
        for completion, answer in zip(of_run, ballot.answers, strict=True):
            if answer in ballot.right:
                continue
            category = categorise(completion.text, answer is not None, rules.fidelity)
            counts.update(["wrong", category])
            counts[CUT_OFF] += category == "no_answer" and completion.is_cut_off is True
            row = {"run": run} | _row(problem, completion, ballot, answer, category)
            lines.append(orjson.dumps(row).decode() + "\n")
    return "".join(lines), counts


def mistake_lines(
    problems: Sequence[Problem], runs: Sequence[Run], rules: Rules, counts: Counter[str]
) -> Iterator[str]:
    """All wrong completions of ``runs`` as JSON lines, problem by problem; adds to ``counts``."""
    names = [run.name for run in runs]
    for lines, of_problem in map_problems(wrong_completions, problems, runs, names, rules):
        counts.update(of_problem)
        yield lines


def _row(
    problem: Problem, completion: Completion, ballot: Ballot, answer: Any, category: Category
) -> dict[str, Any]:
    return {
        "problem_id": problem.problem_id,
        "sample_id": completion.sample_id,
        "category": category,
        "is_cut_off": completion.is_cut_off,
        "answer": show_answer(answer),
        "gold": show_answer(ballot.gold),
        "question": problem.question,
        "solution": problem.solution,
        "text": completion.text,
    }

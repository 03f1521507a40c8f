"""Build the few-shot prompt for base models: solved problems, then the question (--prompt icl).

The paper's tables begin with such a row (arXiv 2308.01825, Table 6, "ICL, 8-shot"). Its numbers
come from the LLaMA papers, which do not publish their prompts. Wording, white space and stop string
here follow the task ``gsm8k`` of lm-evaluation-harness. The harness draws new exemplars from
GSM8K's training set for each question; the exemplars in ``data/icl/gsm8k.jsonl`` were written for
this project and are the same for all questions.
"""

import random
from collections.abc import Sequence
from pathlib import Path

from screl.core.io import UserError
from screl.core.problems import Problem, load_problems, without_spaces

SHOTS = Path(__file__).parents[2] / "data/icl/gsm8k.jsonl"
STOP = "Question:"  # the model has begun to make up another problem


def icl_template(shots: Sequence[Problem]) -> str:
    """Return the prompt template: the solved ``shots``, then ``{question}`` with an empty answer.

    >>> icl_template([Problem(0, "1+1?", "<<1+1=2>>2\\n#### 2", line=1)])
    'Question: 1+1?\\nAnswer: <<1+1=2>>2\\n#### 2\\n\\nQuestion: {question}\\nAnswer:'
    """
    solved = [f"Question: {shot.question}\nAnswer: {shot.solution}\n\n" for shot in shots]
    return "".join([*solved, "Question: {question}\nAnswer:"])


def choose_shots(
    path: Path, n_shots: int, seed: int | None, problems: Sequence[Problem], data_path: Path
) -> list[Problem]:
    """Return ``n_shots`` exemplars from ``path``: its first rows or, with a ``seed``, random ones.

    An exemplar must not be one of ``problems``, or the prompt would contain its solution: a random
    choice skips such rows, but for the first rows they raise a UserError that names the line. Too
    few rows also raise UserError.
    """
    asked = {without_spaces(problem.question): problem for problem in problems}
    rows = load_problems(path, needs_solution=True)
    if seed is not None:
        # shuffle all rows, so that another problem changes the choice only if its row was chosen
        rows = random.Random(seed).sample(rows, len(rows))
        rows = [row for row in rows if without_spaces(row.question) not in asked]
    shots = rows[:n_shots]
    for shot in shots:
        if problem := asked.get(without_spaces(shot.question)):
            raise UserError(
                f"{path}:{shot.line}: this question is also asked ({data_path}:"
                f"{problem.line}), and the prompt would hold its solution; take one of the two "
                "rows out, or draw other exemplars with --shots_seed"
            )
    if len(shots) < n_shots:
        which = "" if seed is None else f" that are not in {data_path}"
        raise UserError(
            f"{path}: has {len(shots)} rows{which}, too few for --n_shots {n_shots}; "
            "lower it or give another --shots_path"
        )
    return shots

"""The prompt of base models: solved problems in front of the question (``--prompt icl``).

It is the first row of the paper's tables (arXiv 2308.01825, Table 6, "ICL, 8-shot", whose numbers
come from the papers of LLaMA; their prompts are not published). The text, the white space and the
stop string are those of lm-evaluation-harness's task ``gsm8k``. Its exemplars are rows of GSM8K's
training set, drawn anew for each question; the ones of ``data/icl/gsm8k.jsonl`` were written for
this project and are the same for all questions.
"""

import random
from collections.abc import Sequence
from pathlib import Path

from screl.core.alpaca import without_spaces
from screl.core.io import UserError
from screl.core.problems import Problem, load_problems

SHOTS = Path(__file__).parents[2] / "data/icl/gsm8k.jsonl"
STOP = "Question:"  # where it comes, the model has gone on to a problem of its own


def icl_template(shots: Sequence[Problem]) -> str:
    """The prompt's text, with ``{question}`` at its end for the one that is asked.

    >>> icl_template([Problem(0, "1+1?", "<<1+1=2>>2\\n#### 2", line=1)])
    'Question: 1+1?\\nAnswer: <<1+1=2>>2\\n#### 2\\n\\nQuestion: {question}\\nAnswer:'
    """
    solved = [f"Question: {shot.question}\nAnswer: {shot.solution}\n\n" for shot in shots]
    return "".join([*solved, "Question: {question}\nAnswer:"])


def choose_shots(
    path: Path, n_shots: int, seed: int | None, problems: Sequence[Problem], data_path: Path
) -> list[Problem]:
    """Return the exemplars: the first ``n_shots`` rows of ``path``, or with a ``seed`` random ones
    in a random order.

    None of them is among ``problems``: a random one is passed over, of the first ones it is a
    UserError that names the line, and so are too few of them.
    """
    asked = {without_spaces(problem.question): problem for problem in problems}
    rows = load_problems(path)
    if seed is not None:
        # all of them, so that a problem more leaves the choice as it was, unless it is chosen
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
        of_what = "" if seed is None else f" that are not in {data_path}"
        raise UserError(
            f"{path}: has {len(shots)} rows{of_what}, too few for --n_shots {n_shots}; "
            "lower it or give another --shots_path"
        )
    return shots

"""Measure how often the process checks reject GSM8K's solutions and completions of real models.

    python benchmarks/check_process_checks.py --data_path data/train_use.jsonl \\
        --source example_model_solutions.jsonl

The second file is described in check_openai_solutions.py. Rejected right texts are the cost of a
check; rejected wrong texts whose equations hold are its benefit.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from check_openai_solutions import MODELS, with_hashes

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from screl.core.config import run_main
from screl.core.io import format_table
from screl.core.problems import load_problems
from screl.core.rows import read_rows
from screl.grading.equations import check_equation, find_equations
from screl.grading.process_checks import ProcessCheck, failed_checks

CHECKS: tuple[ProcessCheck, ...] = get_args(ProcessCheck)
Texts = Sequence[tuple[str, str]]  # question and text


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_path", type=Path, required=True, help="GSM8K's training problems")
    parser.add_argument("--source", type=Path, required=True, help="example_model_solutions.jsonl")
    arguments = parser.parse_args()
    problems = load_problems(arguments.data_path)
    completions = [
        (row["question"], with_hashes(row[model]["solution"]), row[model]["is_correct"])
        for _, row in read_rows(arguments.source)
        for model in MODELS
    ]
    holds = [(question, text, right) for question, text, right in completions if is_valid(text)]
    groups: dict[str, Texts] = {
        "solutions of GSM8K": [(problem.question, problem.solution) for problem in problems],
        "right completions": [(question, text) for question, text, right in holds if right],
        "wrong, equations hold": [(question, text) for question, text, right in holds if not right],
    }
    rows = [["share rejected of", "texts", *CHECKS, "any"]]
    rows += [[name, str(len(texts)), *shares(texts)] for name, texts in groups.items()]
    print(format_table(rows))


def is_valid(text: str) -> bool:
    """Return whether every equation is right, which the strict filter requires first."""
    return all(check_equation(e, "strict") == "right" for e in find_equations(text))


def shares(texts: Texts) -> list[str]:
    """Return the share of texts that fail each check, and any of them."""
    failed = [failed_checks(text, question, CHECKS) for question, text in texts]
    counts = [sum(check in checks for checks in failed) for check in CHECKS]
    return [f"{count / len(texts):.1%}" for count in [*counts, sum(map(bool, failed))]]


if __name__ == "__main__":
    run_main(main)

"""Compare the six graders with the authors' own flags on real completions of four models.

    python benchmarks/check_openai_solutions.py --source example_model_solutions.jsonl

The file is in the repository openai/grade-school-math, folder grade_school_math/data (MIT): GSM8K's
1,319 test problems, each with the solutions of four models and the authors' verdict on them
("Training Verifiers to Solve Math Word Problems", arXiv 2110.14168). They end in ``A: n``, which is
rewritten to ``#### n`` here. Exits with status 1 if a grader disagrees with a flag.
"""

import argparse
import math
import re
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from screl.core.config import run_main
from screl.core.io import UserError, format_table
from screl.core.rows import read_rows
from screl.grading.graders import GRADERS, GraderVerdict
from screl.scoring.grader_panel import grade_completions

N_PROBLEMS = 1_319
MODELS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
FINAL_LINE = re.compile(r"^A: (?=[^\n]*\Z)", re.MULTILINE)


class Graded(NamedTuple):
    """One completion with the authors' flag and the verdict of every grader."""

    name: str  # model and line in the file
    completion: str
    is_right: bool
    verdicts: dict[str, GraderVerdict]


def main() -> None:
    """Print the tables; exit with status 1 if a verdict differs from the authors' flag."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, required=True, help="example_model_solutions.jsonl")
    source = parser.parse_args().source
    rows = list(read_rows(source))
    if len(rows) != N_PROBLEMS:
        raise UserError(f"{source}: {len(rows)} lines, expected {N_PROBLEMS}; download it again")
    by_model = {model: [grade(source, n, row, model) for n, row in rows] for model in MODELS}
    every = [graded for of_model in by_model.values() for graded in of_model]
    print(score_table(by_model))
    print(f"\n{reading_table(every)}")
    wrong = disagreements(every)
    print(f"\n{len(wrong)} of {len(every) * len(GRADERS)} verdicts differ from the authors' flag")
    if wrong:
        print("\n".join(wrong))
        sys.exit(1)


def grade(source: Path, number: int, row: dict[str, Any], model: str) -> Graded:
    """Grade ``model``'s completion on one line; raise UserError if the line has none."""
    try:
        completion = with_hashes(row[model]["solution"])
        solution, is_right = with_hashes(row["ground_truth"]), row[model]["is_correct"]
    except (KeyError, TypeError):
        raise UserError(f"{source}:{number}: no solution of {model}; download it again") from None
    [verdicts] = grade_completions([completion], solution)
    return Graded(f"{model}, line {number}", completion, is_right, verdicts)


def with_hashes(text: str) -> str:
    """Rewrite ``A: n`` on the last line to ``#### n``."""
    return FINAL_LINE.sub("#### ", text)


def score_table(by_model: dict[str, list[Graded]]) -> str:
    """Return each model's percent right by the authors' flags and by each grader."""
    rows = [["model", "authors", *GRADERS]]
    for model, of_model in by_model.items():
        flags = [graded.is_right for graded in of_model]
        verdicts = [[g.verdicts[name].is_right for g in of_model] for name in GRADERS]
        rows.append([model, *(f"{100 * sum(c) / len(c):.2f}" for c in [flags, *verdicts])])
    return format_table(rows)


def reading_table(every: Sequence[Graded]) -> str:
    """Count the answers that each grader reads differently than strict, with examples."""
    rows = [["grader", "reads differently because of", "count", "strict", "it", "last line"]]
    for name in GRADERS:
        by_reason: dict[str, list[Graded]] = {}
        for graded in every:
            if reason := reason_for_difference(graded, name):
                by_reason.setdefault(reason, []).append(graded)
        for reason, found in sorted(by_reason.items()):
            verdicts = found[0].verdicts
            answers = [show(verdicts[grader].answer) for grader in ("strict", name)]
            last_line = found[0].completion.rsplit("\n", maxsplit=1)[-1][-40:]
            rows.append([name, reason, str(len(found)), *answers, last_line])
    return format_table(rows)


def show(answer: str | None) -> str:
    """Show at most 20 characters of the answer that a grader read."""
    return "-" if answer is None else answer[:20]


def reason_for_difference(graded: Graded, name: str) -> str | None:
    """Return why ``name`` reads another answer than strict; None if the number is the same."""
    answer, reference = graded.verdicts[name].answer, graded.verdicts["strict"].answer
    if answer == reference or is_same_number(answer or "", reference or ""):
        return None
    if "#### " not in graded.completion:
        return "no final line"
    return "an expression" if reference is None else "another number"


def is_same_number(a: str, b: str) -> bool:
    """Return whether two answers are the same number, to float precision."""
    try:
        return math.isclose(to_float(a), to_float(b), rel_tol=1e-12)
    except ValueError:
        return False


def to_float(answer: str) -> float:
    """Return the value of ``1,234.``, ``5/2``, or a LaTeX fraction; raise ValueError for others."""
    text = re.sub(r"\\frac\{(\d+)\}\{(\d+)\}", r"\1/\2", answer)
    return float(Fraction(re.sub(r"[,$ ]|\.$", "", text)))


def disagreements(every: Sequence[Graded]) -> list[str]:
    """Return one line for each verdict that differs from the authors' flag."""
    return [
        f"{graded.name}: authors {graded.is_right}, {name} {verdict.is_right}: it read "
        f"{verdict.answer!r} at the end of {graded.completion[-80:]!r}"
        for graded in every
        for name, verdict in graded.verdicts.items()
        if verdict.is_right != graded.is_right
    ]


if __name__ == "__main__":
    run_main(main)

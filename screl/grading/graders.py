"""Grade a completion by any of six rules, so that they can be compared on the same texts.

Each grader reads the gold answer from the solution in its own way, as its users do.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from screl.grading.answers import (
    SCORING_TOLERANCE,
    Fidelity,
    extract_answer,
    is_correct,
)
from screl.grading.answers import (
    last_number as read_last_number,
)
from screl.grading.formulas import math_answer, math_answers_equal

# lm-evaluation-harness, lm_eval/tasks/gsm8k/gsm8k.yaml (version 3.0).
LM_EVAL_STRICT = re.compile(r"#### (\-?[0-9\.\,]+)")
LM_EVAL_FLEXIBLE = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")


class GraderVerdict(NamedTuple):
    """A grader's verdict on one completion."""

    answer: str | None  # as read by the grader; None if it found none
    is_right: bool


def strict(completion: str, solution: str) -> GraderVerdict:
    """Grade by this project's rule: one well-formed number after ``####``, compared exactly."""
    return _grade_by_fidelity(completion, solution, "strict")


def published(completion: str, solution: str) -> GraderVerdict:
    """Grade as the published eval.py does: floats after ``#### ``, equal within 1e-4."""
    return _grade_by_fidelity(completion, solution, "paper")


def last_number(completion: str, solution: str) -> GraderVerdict:
    """Grade by the last number anywhere in the text, without ``$``, commas and a trailing dot."""
    answer, gold = read_last_number(completion), read_last_number(solution)
    return GraderVerdict(
        None if answer is None else str(answer), answer is not None and answer == gold
    )


def lm_eval_strict(completion: str, solution: str) -> GraderVerdict:
    """Grade as lm-evaluation-harness's gsm8k ``strict-match``: the first ``#### n``, as text.

    Only the filter and exact match are applied; the harness also cuts a completion at "Question:".
    """
    matches = LM_EVAL_STRICT.findall(completion)
    return _lm_eval_verdict(matches[0] if matches else None, solution)


def lm_eval_flexible(completion: str, solution: str) -> GraderVerdict:
    """Grade as lm-evaluation-harness's gsm8k ``flexible-extract``: the last number, as text."""
    matches = LM_EVAL_FLEXIBLE.findall(completion)
    return _lm_eval_verdict("".join(matches[-1]) if matches else None, solution)


def math_verify(completion: str, solution: str) -> GraderVerdict:
    """Grade the last ``\\boxed{...}``, or the line after the first ``####`` with Math-Verify."""
    answer, gold = math_answer(completion), math_answer(solution)
    if answer is None or gold is None:
        return GraderVerdict(answer, False)
    return GraderVerdict(answer, math_answers_equal(gold, answer))


GRADERS: dict[str, Callable[[str, str], GraderVerdict]] = {
    "strict": strict,
    "published": published,
    "last_number": last_number,
    "lm_eval_strict": lm_eval_strict,
    "lm_eval_flexible": lm_eval_flexible,
    "math_verify": math_verify,
}


def _grade_by_fidelity(completion: str, solution: str, fidelity: Fidelity) -> GraderVerdict:
    answer, gold = extract_answer(completion, fidelity), extract_answer(solution, fidelity)
    is_right = gold is not None and is_correct(answer, gold, SCORING_TOLERANCE)
    return GraderVerdict(None if answer is None else str(answer), is_right)


def _lm_eval_verdict(answer: str | None, solution: str) -> GraderVerdict:
    """Apply the harness's exact_match; its "[invalid]", for no answer, never equals the gold."""
    is_right = answer is not None and _lm_eval_text(answer) == _lm_eval_text(solution)
    return GraderVerdict(answer, is_right)


def _lm_eval_text(text: str) -> str:
    """Apply regexes_to_ignore and ignore_case of gsm8k.yaml.

    Its ``(?s).*#### `` takes quadratic time on text without ``#### ``; rpartition does the same.
    """
    text = text.replace(",", "").replace("$", "").rpartition("#### ")[2]
    return re.sub(r"\.$", "", text).lower()

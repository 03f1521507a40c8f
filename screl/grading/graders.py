"""Six rules that say whether a completion is right, to be laid side by side on the same texts.

Every rule reads the gold answer from the solution in its own way, as its users do.
"""

import re
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

from screl.grading.answers import (
    MAX_DIGITS,
    SCORING_TOLERANCE,
    Fidelity,
    extract_answer,
    is_correct,
)
from screl.grading.formulas import math_answer, math_answers_equal

# "5-3" ends in 3 and not in -3.
NUMBER = re.compile(r"((?<![0-9)])[-−]\$?|\$[-−])?(\.[0-9]+|[0-9][0-9,]*(?:\.[0-9]+)?)")
# lm-evaluation-harness, lm_eval/tasks/gsm8k/gsm8k.yaml (version 3.0).
LM_EVAL_STRICT = re.compile(r"#### (\-?[0-9\.\,]+)")
LM_EVAL_FLEXIBLE = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")


class GraderVerdict(NamedTuple):
    """What a rule makes of a completion."""

    answer: str | None  # what it read, as text; None: nothing
    is_right: bool


def strict(completion: str, solution: str) -> GraderVerdict:
    """This project's rule: one well-formed number after ``####``, compared exactly."""
    return _grade_by_fidelity(completion, solution, "strict")


def published(completion: str, solution: str) -> GraderVerdict:
    """The rule of the published eval.py: floats within 1e-4 after ``#### ``."""
    return _grade_by_fidelity(completion, solution, "paper")


def last_number(completion: str, solution: str) -> GraderVerdict:
    """The last number in the text, wherever it is; ``$``, commas and a trailing dot dropped."""
    answer, gold = _last_number(completion), _last_number(solution)
    return GraderVerdict(
        None if answer is None else str(answer), answer is not None and answer == gold
    )


def lm_eval_strict(completion: str, solution: str) -> GraderVerdict:
    """lm-evaluation-harness, gsm8k, filter ``strict-match``: the first ``#### n``, as text.

    The filter and its exact match only: the harness also cuts a completion at "Question:".
    """
    matches = LM_EVAL_STRICT.findall(completion)
    return _lm_eval_verdict(matches[0] if matches else None, solution)


def lm_eval_flexible(completion: str, solution: str) -> GraderVerdict:
    """lm-evaluation-harness, gsm8k, filter ``flexible-extract``: the last number, as text."""
    matches = LM_EVAL_FLEXIBLE.findall(completion)
    return _lm_eval_verdict("".join(matches[-1]) if matches else None, solution)


def math_verify(completion: str, solution: str) -> GraderVerdict:
    """Math-Verify on the last ``\\boxed{...}``, or else on the line of the first ``####``."""
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


def _last_number(text: str) -> Fraction | None:
    numbers = NUMBER.findall(text)
    if not numbers or len(numbers[-1][1]) > MAX_DIGITS:
        return None
    sign, digits = numbers[-1]
    number = Fraction(digits.replace(",", ""))
    return -number if sign else number


def _lm_eval_verdict(answer: str | None, solution: str) -> GraderVerdict:
    """exact_match of the harness; its "[invalid]", where nothing was found, equals no gold."""
    is_right = answer is not None and _lm_eval_text(answer) == _lm_eval_text(solution)
    return GraderVerdict(answer, is_right)


def _lm_eval_text(text: str) -> str:
    """regexes_to_ignore and ignore_case of gsm8k.yaml.

    Its ``(?s).*#### `` takes quadratic time on text without ``#### ``; rpartition does the same.
    """
    text = text.replace(",", "").replace("$", "").rpartition("#### ")[2]
    return re.sub(r"\.$", "", text).lower()

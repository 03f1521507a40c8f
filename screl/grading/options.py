"""The options of JudgeRules, declared once for the scripts that judge completions."""

from dataclasses import dataclass, replace

from screl.core.config import option
from screl.grading.answers import AnswerStyle
from screl.grading.paths import PathStyle
from screl.grading.verdict import Grader, JudgeRules, Think


@dataclass(frozen=True, kw_only=True)
class AnswerOptions:
    """How answers are read and compared: collect_rejection_sampling.py, eval.py and sample.py."""

    grader: Grader = option(
        "number: exact numbers; math_verify: formulas, as in MATH, by Math-Verify; choice: A to E",
        "number",
    )
    answer_style: AnswerStyle = option(
        "hash: '#### n'; boxed: \\boxed{n}; the_answer_is: 'The answer is: n'; last_number; "
        "auto: as in the data's solutions",
        "auto",
    )
    think: Think = option(
        "<think>...</think>; keep: train on it, search it only if no text follows; drop: leave it "
        "out of the RFT rows, never search it; only_answer: train on it, never search it",
        "keep",
    )

    verifier: str | None = option(
        "FILE.py:function, which judges instead: function(row, completion) returns True, False or "
        "the answer as text",
        None,
    )

    def answer_rules(self) -> JudgeRules:
        """Return the strict rules of these options."""
        return JudgeRules(
            grader=self.grader,
            answer_style=self.answer_style,
            think=self.think,
            verifier=self.verifier,
        )


@dataclass(frozen=True, kw_only=True)
class PathOptions(AnswerOptions):
    """How equations are read too, for the scripts that count distinct paths."""

    path_style: PathStyle = option(
        "calculator: <<a=b>>; arithmetic: also 3 x 4 = 12 in prose and LaTeX; symbolic: displayed "
        "equations, as in MATH; text: the text; auto: as in the data's solutions",
        "auto",
    )

    def path_rules(self) -> JudgeRules:
        """Return the strict rules of these options."""
        return replace(self.answer_rules(), path_style=self.path_style)

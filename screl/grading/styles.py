"""Decide by the data's own solutions how answers are written: the style ``auto``."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from screl.core.io import UserError
from screl.core.layouts import RowKeys
from screl.core.problems import Problem, load_problems
from screl.grading.answers import AnswerStyle, styled_answer
from screl.grading.equations import find_equations
from screl.grading.paths import PathStyle, displayed_equations
from screl.grading.verdict import JudgeRules, Rules, as_published, read_text
from screl.grading.verifiers import check_verifier
from screl.grading.written import find_written

FOR_GSM8K = "--process_checks reads '#### n' and <<a=b>>; leave it out for this data"
VARIABLE = re.compile(r"(?<![\\A-Za-z])[A-Za-z](?![A-Za-z])")
MIN_SHARE = 0.98  # of the solutions that show how they give their answer
NAMES: dict[AnswerStyle, str] = {
    "hash": "after ####",
    "boxed": "in \\boxed{...}",
    "the_answer_is": 'after "The answer is"',
    "last_number": "as the last number",
}
# In the order of preference: MetaMath's solutions end in "#### 5" and in "The answer is: 5".
FOUND_BY_AUTO: tuple[AnswerStyle, ...] = ("hash", "boxed", "the_answer_is")


def load_judged_problems(
    path: Path, keys: RowKeys, rules: Rules, say: Callable[[str], None]
) -> tuple[list[Problem], Rules]:
    """Return the problems of a data file and ``rules`` without ``auto``; see settle_styles.

    ``say`` gets one line: what was read as what, and the styles.
    """
    if rules.verifier:
        check_verifier(rules.verifier)
    lines: list[str] = []
    problems = load_problems(path, keys, say=lines.append, needs_gold=not rules.verifier)
    settled, styles = settle_styles(rules, problems, path)
    say("; ".join([*lines, styles]))
    return problems, settled


def settle_styles(rules: Rules, problems: Sequence[Problem], path: Path) -> tuple[Rules, str]:
    """Return ``rules`` without ``auto``, and words that say which styles are used, and why.

    Raises UserError if the solutions give their answers in different styles, and for styles that
    the rules do not go with.
    """
    if rules.verifier:
        _refuse_with_verifier(rules)
    if rules.fidelity == "paper":
        _refuse_in_paper(rules)
        return as_published(rules), f"answers {NAMES['hash']}"
    solutions = [read_text(p.solution, rules) for p in problems if p.solution]
    answer_style, why = rules.answer_style, ""
    if rules.verifier:
        answer_style = "hash"
    elif answer_style == "auto":
        answer_style, why = find_answer_style(solutions, rules, path)
    if rules.grader == "choice" and answer_style == "last_number":
        raise UserError("--grader choice reads a letter; give another --answer_style")
    if rules.process_checks and (rules.grader, answer_style) != ("number", "hash"):
        raise UserError(FOR_GSM8K)
    path_style, why_path = rules.path_style, ""
    if path_style == "auto":
        path_style, why_path = find_path_style(solutions)
    if rules.process_checks and path_style != "calculator":
        raise UserError(FOR_GSM8K)
    name = NAMES[answer_style]
    if rules.grader == "math_verify" and answer_style in ("hash", "boxed"):
        name = f"{NAMES['boxed']}, or else {NAMES['hash']}"
    settled = replace(rules, answer_style=answer_style, path_style=path_style)
    answers = f"judged by {rules.verifier}" if rules.verifier else f"answers {name}{why}"
    paths = f"; paths: {path_style}{why_path}" if rules.path_style != "calculator" else ""
    return settled, f"{answers}{paths}"


def find_answer_style(
    solutions: Sequence[str], rules: JudgeRules, path: Path
) -> tuple[AnswerStyle, str]:
    """Return the style in which the solutions give their answers, and on what that rests.

    Solutions without any mark of an answer do not count; their gold answers are refused later, with
    their line. Raises UserError if no style is that of MIN_SHARE of the others.
    """
    counts: Counter[AnswerStyle] = Counter()
    n_marked = 0
    for text in solutions:
        found = [style for style in FOUND_BY_AUTO if styled_answer(text, style) is not None]
        if rules.grader == "math_verify" and "boxed" in found and "hash" not in found:
            found.insert(0, "hash")  # one style for this grader
        counts.update(found)
        n_marked += bool(found)
    if not solutions:
        return "hash", " (no solutions to look at; choose with --answer_style)"
    if not n_marked:
        return "hash", ""
    best = max(FOUND_BY_AUTO, key=lambda style: counts[style])  # the first of equals
    if counts[best] < MIN_SHARE * n_marked:
        shares = ", ".join(f"{counts[style]} {NAMES[style]}" for style in counts)
        raise UserError(
            f"{path}: the solutions give their answers in different styles ({shares}, of "
            f"{n_marked}); choose one with --answer_style, or split the file"
        )
    return best, f" ({counts[best]} of {len(solutions)} solutions)"


def find_path_style(solutions: Sequence[str]) -> tuple[PathStyle, str]:
    """Return the style in which at least half of the solutions write their steps."""
    if not solutions:
        return "calculator", " (no solutions to look at; choose with --path_style)"
    with_formula = [
        text for text in solutions if any(map(VARIABLE.search, displayed_equations(text)))
    ]
    found: dict[PathStyle, int] = {
        "calculator": sum(bool(find_equations(text)) for text in solutions),
        "symbolic": len(with_formula),
        "arithmetic": sum(bool(find_written(text)) for text in solutions),
    }
    for style, n in found.items():
        if 2 * n >= len(solutions):
            return style, f" (in {n} of {len(solutions)} solutions)"
    return "text", " (few solutions have equations)"


def _refuse_with_verifier(rules: JudgeRules) -> None:
    """Raise UserError for options whose work the verifier does."""
    wrong = {
        "--fidelity paper": rules.fidelity == "paper",
        "--grader": rules.grader != "number",
        "--answer_style": rules.answer_style not in ("hash", "auto"),
        "--process_checks": bool(rules.process_checks),
    }
    if names := [name for name, is_wrong in wrong.items() if is_wrong]:
        raise UserError(f"--verifier judges the completions itself; leave out {names[0]}")


def _refuse_in_paper(rules: JudgeRules) -> None:
    """Raise UserError for what the published code does not have."""
    wrong = {
        "--answer_style": rules.answer_style not in ("hash", "auto"),
        "--path_style": rules.path_style not in ("calculator", "auto"),
        "--think": rules.think != "keep",
    }
    if names := [name for name, is_wrong in wrong.items() if is_wrong]:
        raise UserError(
            f"--fidelity paper reads '#### n' and <<a=b>> as published; leave out {names[0]}, or "
            "use --fidelity strict"
        )

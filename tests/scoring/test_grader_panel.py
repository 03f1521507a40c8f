"""The panel of graders: its counts against a plain recount, and the examples it shows."""

import pickle
import random
from statistics import mean, stdev

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from screl.core.problems import Problem
from screl.grading.graders import GRADERS
from screl.samples.store import Sample
from screl.scoring.grader_panel import (
    ProblemPanel,
    choose_examples,
    grade_problem,
    score_graders,
    show_example,
    unread_golds,
)

ENDINGS = ["#### 18", "#### $18", "it is 18", "#### 3\n#### 18", "#### 18.0", "no idea", "#### 7"]


def make_panels(completions: list[list[str]], n_examples: int = 3) -> list[ProblemPanel]:
    panels = []
    for i, texts in enumerate(completions):
        samples = [Sample(i, j, text) for j, text in enumerate(texts)]
        panels.append(grade_problem(Problem(i, "q", "#### 18", i + 1), [samples], n_examples))
    return panels


@settings(deadline=None)  # the first call imports sympy
@given(st.lists(st.lists(st.sampled_from(ENDINGS), min_size=1, max_size=4), min_size=1, max_size=5))
def test_scores_are_a_recount(completions: list[list[str]]) -> None:
    scores = score_graders(make_panels(completions))
    assert list(scores) == list(GRADERS)
    every = [text for texts in completions for text in texts]
    strict = [GRADERS["strict"](text, "#### 18").is_right for text in every]
    for name, grade in GRADERS.items():
        shares = [mean(grade(text, "#### 18").is_right for text in texts) for texts in completions]
        error = 100 * stdev(shares) / len(shares) ** 0.5 if len(shares) > 1 else None
        pairs = [
            (grade(text, "#### 18").is_right, r) for text, r in zip(every, strict, strict=True)
        ]
        assert scores[name] == (
            pytest.approx(100 * mean(shares)),
            error if error is None else pytest.approx(error),
            sum(grade(text, "#### 18").answer is None for text in every),
            pairs.count((True, False)),
            pairs.count((False, True)),
            0,
        )


def test_unread_golds_are_counted_and_never_zero_percent_in_silence() -> None:
    problems = [
        Problem(0, "q", r"It is $\boxed{\frac12}$.", 1),
        Problem(1, "q", "Halve it.", 2, answer=r"\frac12"),
    ]
    texts = [Sample(0, 0, r"\boxed{0.5}")]
    panels = [grade_problem(problem, [texts], 1) for problem in problems]
    scores = score_graders(panels)
    assert (scores["math_verify"].value, scores["math_verify"].n_golds_unread) == (100, 0)
    assert (scores["strict"].value, scores["strict"].n_golds_unread) == (None, 2)
    (line,) = unread_golds(scores, 2)
    assert line.startswith("gold answers that cannot be read, of 2 (counted as wrong): strict 2, ")


@pytest.mark.parametrize("answer", ["18", "$18$", r"\boxed{18}", r"\$18"])
def test_every_grader_grades_by_a_short_answer(answer: str) -> None:
    problem = Problem(0, "q", r"A proof without its number.", 1, answer=answer)
    for text, is_right in (("So 18.\n#### 18", 1), ("So 19.\n#### 19", 0)):
        panel = grade_problem(problem, [[Sample(0, 0, text)]], 0)
        n_right = {name: counts.n_right for name, counts in panel.counts.items()}
        if answer != r"\$18":  # lm_eval reads \$18 as the text "\\18"
            assert set(n_right.values()) == {is_right}, n_right
        assert n_right["strict"] == n_right["math_verify"] == is_right


@settings(deadline=None)  # the first call imports sympy
@given(
    st.lists(st.lists(st.sampled_from(ENDINGS), max_size=6), max_size=6),
    st.integers(0, 8),
    st.randoms(),
)
def test_the_examples_do_not_depend_on_the_order_of_problems(
    completions: list[list[str]], n_examples: int, order: random.Random
) -> None:
    panels = make_panels(completions, n_examples)
    examples = choose_examples(panels, n_examples)
    disagreed = {
        (i, j)
        for i, texts in enumerate(completions)
        for j, text in enumerate(texts)
        if len({grade(text, "#### 18").is_right for grade in GRADERS.values()}) > 1
    }
    ids = [(example.problem_id, example.sample_id) for example in examples]
    assert len(ids) == min(n_examples, len(disagreed))
    assert set(ids) <= disagreed
    assert ids == sorted(ids)
    order.shuffle(panels)
    assert choose_examples(panels, n_examples) == examples


def test_a_panel_is_small_and_any_disagreement_may_be_shown() -> None:
    """Keeping a few examples per problem does not change which of all are chosen."""
    completions = [["words " * 300 + "#### $18"] * 100 for _ in range(5)]
    panels = make_panels(completions, 4)
    assert len(pickle.dumps(panels[0])) < 5_000
    few = choose_examples(panels, 4)
    assert few == choose_examples(make_panels(completions, 100), 4)
    assert {example.sample_id for example in few} != {0, 1, 2, 3}


def test_an_example_shows_its_end_on_one_line() -> None:
    text = "x" * 200 + "\nso \x1b[31m18 it is\n#### $18"
    panel = grade_problem(Problem("a1", "q", "9+9\n#### 18", 1), [[Sample("a1", 7, text)]], 1)
    (example,) = choose_examples([panel], 1)
    assert show_example(example).splitlines() == [
        "problem a1, sample 7, gold 18: …" + "x" * 74 + "⏎so ·[31m18 it is⏎#### $18",
        "  grader            read  right",
        "  strict              18    yes",
        "  published            -     no",
        "  last_number         18    yes",
        "  lm_eval_strict       -     no",
        "  lm_eval_flexible   $18    yes",
        "  math_verify         18    yes",
    ]

"""The panel: counts against a plain recount, and which examples are shown."""

import pickle
import random
from statistics import mean, stdev

from hypothesis import given, settings
from hypothesis import strategies as st

from screl.grading.graders import GRADERS, GraderVerdict
from screl.scoring.grader_panel import (
    ProblemPanel,
    disagreement_sample,
    disagreement_table,
    grade_completions,
    grade_problem,
    panel_report,
    panel_table,
    show_example,
)

ENDINGS = ["#### 18", "#### $18", "it is 18", "#### 3\n#### 18", "#### 18.0", "no idea", "#### 7"]
N = len(GRADERS)


def make_panels(completions: list[list[str]], n_examples: int = 3) -> list[ProblemPanel]:
    return [
        grade_problem(i, dict(enumerate(texts)), "#### 18", n_examples)
        for i, texts in enumerate(completions)
    ]


def cells(table: str) -> dict[str, list[str]]:
    """The rows of a table without its header, by their first cell."""
    return {row.split()[0]: row.split()[1:] for row in table.splitlines()[1:]}


def test_every_completion_gets_six_verdicts() -> None:
    graded = grade_completions(["#### 18", "18"], "#### 18")
    assert [list(verdicts) for verdicts in graded] == [list(GRADERS)] * 2
    assert graded[1]["strict"] == GraderVerdict(None, False)
    assert graded[1]["last_number"] == GraderVerdict("18", True)


@settings(deadline=None)  # the first call imports sympy
@given(st.lists(st.lists(st.sampled_from(ENDINGS), min_size=1, max_size=4), min_size=2, max_size=5))
def test_the_tables_are_a_recount(completions: list[list[str]]) -> None:
    panels = make_panels(completions)
    scores, differences = cells(panel_table(panels)), cells(disagreement_table(panels))
    assert list(scores) == list(GRADERS)
    assert list(differences) == [name for name in GRADERS if name != "strict"]
    flat = [text for texts in completions for text in texts]
    for name, grade in GRADERS.items():
        shares = [mean(grade(t, "#### 18").is_right for t in texts) for texts in completions]
        error = 100 * stdev(shares) / len(shares) ** 0.5
        without = sum(grade(text, "#### 18").answer is None for text in flat) / len(flat)
        assert scores[name] == [f"{100 * mean(shares):.1f}", "±", f"{error:.1f}", f"{without:.1%}"]
        if name != "strict":
            pairs = [
                (grade(text, "#### 18").is_right, GRADERS["strict"](text, "#### 18").is_right)
                for text in flat
            ]
            assert differences[name] == [
                str(pairs.count((True, False))),
                str(pairs.count((False, True))),
            ]


def test_a_problem_without_completions_is_left_out() -> None:
    assert panel_table(make_panels([["#### 18"], []])) == panel_table(make_panels([["#### 18"]]))
    assert "±" not in panel_table(make_panels([["#### 18"]]))
    assert panel_table([]).splitlines() == ["grader  right  no answer"]
    assert cells(disagreement_table([]))["last_number"] == ["0", "0"]


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
    examples = disagreement_sample(panels, n_examples)
    disagreed = {
        (i, j)
        for i, texts in enumerate(completions)
        for j, text in enumerate(texts)
        if 0 < sum(grade(text, "#### 18").is_right for grade in GRADERS.values()) < N
    }
    ids = [(example.problem_id, example.sample_id) for example in examples]
    assert len(ids) == min(n_examples, len(disagreed))
    assert set(ids) <= disagreed
    assert ids == sorted(ids)
    order.shuffle(panels)
    assert disagreement_sample(panels, n_examples) == examples


def test_any_disagreement_may_be_shown() -> None:
    """Keeping a few of each problem leaves the choice what it is among all of them."""
    completions = [["#### $18"] * 20 for _ in range(5)]
    few = disagreement_sample(make_panels(completions, 4), 4)
    assert few == disagreement_sample(make_panels(completions, 100), 4)
    assert {example.sample_id for example in few} != {0, 1, 2, 3}


def test_what_is_kept_of_a_problem_is_small() -> None:
    completions = dict.fromkeys(range(100), "words " * 300 + "#### $18")
    panel = grade_problem("p", completions, "#### 18", 5)
    assert panel.n_completions == 100
    assert len(panel.examples) == 5
    assert len(pickle.dumps(panel)) < 5_000


def test_an_example_shows_its_end_on_one_line() -> None:
    text = "x" * 200 + "\nso \x1b[31m18 it is\n#### $18"
    panel = grade_problem("a1", {7: text}, "9+9\n#### 18", 1)
    [example] = disagreement_sample([panel], 1)
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
    report = panel_report([panel], 1)
    assert report.endswith(show_example(example))
    assert panel_table([panel]) in report
    assert disagreement_table([panel]) in report

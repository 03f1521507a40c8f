"""The funnel: counts by step, problems by share solved, paths by k and by run, lengths."""

from collections import Counter

import pytest

from screl.core.problems import Problem
from screl.rejection.filter import FilterResult, FilterRules, filter_problem
from screl.rejection.funnel import (
    SOLVED,
    Funnel,
    notes,
    report_runs,
    report_tables,
    reports_to_json,
    shared_paths,
)
from screl.rejection.selection import Candidate
from screl.samples.store import Sample


def counts(n_right: int, n_sampled: int = 10, **others: int) -> Counter[str]:
    wrong = n_sampled - n_right - others.get("no_answer", 0)
    return Counter(sampled=n_sampled, wrong_answer=wrong, **others)


def one_run(*of_problems: Counter[str]) -> list[FilterResult]:
    return [FilterResult([of_problem], {}, []) for of_problem in of_problems]


def test_the_funnel_narrows_step_by_step() -> None:
    result = FilterResult(
        [counts(7, no_answer=1, unparsed_equation=2, false_equation=1, process_check=1)],
        {"1+2=3": {0: 4}, "2+1=3": {0: 0}},
        [Candidate(Sample("p", 0, "four", 8), "2+1=3", 0)],
    )
    (report,) = report_runs(["a"], [10], [result], ["1+2=3"])
    assert report.funnel == Funnel(
        n_sampled=10,
        n_answered=9,
        n_right=7,
        n_parsed=5,
        n_valid=4,
        n_passed=3,
        n_distinct=2,
        n_kept=1,
    )


@pytest.mark.parametrize(
    ("n_right", "bucket"),
    [(0, 0), (1, 1), (20, 1), (21, 2), (40, 2), (60, 3), (61, 4), (80, 4), (81, 5), (99, 5),
     (100, 6)],
)  # fmt: skip
def test_problems_are_counted_by_share_of_right_samples(n_right: int, bucket: int) -> None:
    results = one_run(*[counts(n_right, 100)] * 3, counts(0, 100))
    (report,) = report_runs(["a"], [100], results, [""] * 4)
    expected = dict.fromkeys(SOLVED, 0)
    expected[SOLVED[bucket]] += 3  # the published histogram would add equal counts only once
    expected[SOLVED[0]] += 1
    assert report.solved == expected


def test_a_problem_without_samples_was_never_solved() -> None:
    (report,) = report_runs(["a"], [1], one_run(Counter()), [""])
    assert report.solved["never"] == 1


def test_distinct_paths_by_k_count_the_solution_as_table_2_does() -> None:
    results = [
        FilterResult([counts(5)], {"s": {0: 0}, "a": {0: 2}, "b": {0: 7}}, []),
        FilterResult([counts(5)], {"c": {0: 3}}, []),
    ]
    (report,) = report_runs(["a"], [10], results, ["s", "s"])
    values = {k: value for k, (value, _) in report.distinct_paths.items()}
    assert values == {1: 1.0, 3: 1.5, 6: 2.0, 10: 2.5}
    assert report.distinct_paths[10][1] == pytest.approx(0.5)  # of 3 and 2
    (of_run,) = reports_to_json([report], ["a"], results)["runs"]
    assert of_run["distinct_paths"]["10"] == {"value": 2.5, "standard_error": 0.5}


def two_runs() -> list[FilterResult]:
    both = [counts(5), counts(6)]
    kept = [Candidate(Sample("p", 0, "bbbb"), "b", 1)]
    return [
        FilterResult(both, {"a": {0: 0}, "b": {0: 9, 1: 0}}, kept),
        FilterResult([counts(0), counts(1)], {"c": {1: 2}, "d": {0: 1}, "e": {0: 1}}, []),
    ]


def test_several_runs_and_all_together() -> None:
    a, b, everything = report_runs(["a", "b"], [10, 10], two_runs(), ["s", "s"])
    assert (a.n_exclusive, b.n_exclusive, everything.n_exclusive) == (3, 1, None)
    assert (a.funnel.n_distinct, b.funnel.n_distinct, everything.funnel.n_distinct) == (4, 2, 5)
    assert (a.funnel.n_kept, b.funnel.n_kept, everything.funnel.n_kept) == (0, 1, 1)
    assert everything.funnel.n_sampled == 40
    assert list(everything.distinct_paths) == [20]
    assert everything.distinct_paths[20][0] == 3.5
    assert a.characters["kept"] is None
    assert b.characters["kept"] == 4


def test_every_cell_of_the_venn_diagram() -> None:
    assert shared_paths(["a", "b"], two_runs()) == [
        {"runs": ["a"], "n_paths": 3},
        {"runs": ["b"], "n_paths": 1},
        {"runs": ["a", "b"], "n_paths": 1},
    ]


def test_lengths_and_cut_off_where_they_are_known() -> None:
    known = counts(5) + Counter(tokens=500, tokens_known=10, cut_off=3, characters=1000)
    kept = [Candidate(Sample("p", 0, "x", 30), "a", 0), Candidate(Sample("p", 1, "x", 60), "b", 0)]
    (report,) = report_runs(["a"], [10], [FilterResult([known], {}, kept)], [""])
    assert report.tokens == {"sampled": 50.0, "kept": 45.0}
    assert report.n_cut_off == 3
    (unknown,) = report_runs(["a"], [10], one_run(counts(5)), [""])
    assert unknown.tokens == {"sampled": None, "kept": None}
    assert unknown.n_cut_off is None


def test_tables_show_the_shares_of_process_checks_and_of_exclusive_paths() -> None:
    checked = counts(5) + Counter(process_check=2, unused_result=2, unexplained_number=1)
    text = report_tables(report_runs(["a"], [10], one_run(checked), [""]), 1)
    header, row = text.split("\n\n")[1].splitlines()
    assert header.split()[-3:] == [
        "unused_result",
        "last_equation_not_answer",
        "unexplained_number",
    ]
    assert row.split() == ["a", "40.0%", "0.0%", "20.0%"]
    tables = report_tables(report_runs(["a", "b"], [10, 10], two_runs(), ["s", "s"]), 2)
    assert "60.0%" in tables
    assert "unused_result" not in tables


def test_notes_say_why_right_samples_are_not_kept() -> None:
    problem = Problem(0, "q", "<<1+2=3>>\n#### 3", 1)
    texts = ["a <<1+2=3>>\n#### 3", "<<2+1=3>>\n#### 3", "[[1+2=4]]\n#### 3"]
    samples = [[Sample(0, i, text) for i, text in enumerate(texts)]]
    rules = FilterRules("strict")
    odd, own = notes([filter_problem(problem, samples, rules)], rules)
    assert odd.startswith("1 right samples have an equation that is not closed")
    assert own.startswith("1 of 2 passed samples repeat the solution's own path and are not kept: ")
    assert "1 kept samples add 100% to the 1 solutions" in own
    paper = FilterRules("paper")
    assert notes([filter_problem(problem, samples, paper)], paper) == []

"""--explain and --compare."""

from screl.rejection.filter import FilterRules
from screl.rejection.report import compare_problem, comparison_report, explain, merge
from tests.rejection.test_filter import CASES, PROBLEM, completions

TEXTS = [text for text, *_ in CASES]


def test_explain_shows_every_completion_with_its_reason() -> None:
    shown = "\n".join(explain(PROBLEM, [completions(TEXTS)], ["run"], FilterRules("strict")))
    assert PROBLEM.question in shown
    assert PROBLEM.solution in shown
    for i, (text, fate, _) in enumerate(CASES):
        head, _, rest = shown.partition(f"run sample {i}: ")[2].partition("\n")
        assert head.split()[0] == fate
        assert rest.startswith(text)
    assert "run sample 2: false_equation (false <<2+2=3>>)" in shown
    assert "(unparsed <<two+1=3>>, false <<2+2=3>>)" in shown


def test_compare_counts_and_shows_what_differs() -> None:
    rules = FilterRules("strict")
    found = compare_problem(PROBLEM, [completions(TEXTS), completions(TEXTS[-2:])], rules)
    differing = {(paper, strict) for _, strict, paper in CASES if paper != strict}
    assert differing == {
        ("kept", "solution_path"),
        ("no_answer", "kept"),
        ("kept", "false_equation"),
    }
    assert {pair for pair in found if pair[0] != pair[1]} >= differing
    assert found["kept", "false_equation"][0] == 1
    assert found["repeated_path", "false_equation"][0] == 1  # the second run's
    report = comparison_report(merge(iter([found, found])), ["run", "other"])
    rows = [line.split()[1:] for line in report.splitlines()]
    assert ["no_answer", "kept", "2"] in rows
    assert ["kept", "kept", "4"] not in rows
    # paper: solution's path, new path, chain, as number; strict: new path, in dollars, as number
    assert report.startswith("paper keeps 8, strict 6, both ")
    assert "kept / false_equation: problem 'p', run sample 9" in report
    assert "⏎ #### 3" in report


def test_no_difference_is_said() -> None:
    found = compare_problem(PROBLEM, [completions(TEXTS[:2])], FilterRules("strict"))
    report = comparison_report(found, ["run"])
    assert report == "paper keeps 0, strict 0, both 0 of them\n\nthey treat every sample alike"

"""--explain and --compare."""

from screl.rejection.explain import compare_problem, compare_report, explain_problem
from screl.rejection.filter import FilterRules
from tests.rejection.test_filter import CASES, PROBLEM, make_samples

TEXTS = [text for text, *_ in CASES]
STRICT = FilterRules("strict")


def test_explain_shows_every_sample_with_its_fate() -> None:
    shown = "\n".join(explain_problem(PROBLEM, [make_samples(TEXTS)], ["run"], STRICT))
    assert PROBLEM.question in shown
    assert PROBLEM.solution in shown
    for i, (text, fate, _) in enumerate(CASES):
        head, _, rest = shown.partition(f"run sample {i}: ")[2].partition("\n")
        assert head.split()[0] == fate
        assert rest.startswith(text)
    assert "run sample 2: false_equation (false <<2+2=3>>)" in shown
    assert "(unparsed <<two+1=3>>, false <<2+2=3>>)" in shown


def test_compare_counts_and_shows_what_differs() -> None:
    runs = [make_samples(TEXTS), make_samples(TEXTS[-2:])]
    found = compare_problem(PROBLEM, runs, STRICT)
    differing = {(paper, strict) for _, strict, paper in CASES if paper != strict}
    assert differing == {
        ("kept", "solution_path"),
        ("no_answer", "kept"),
        ("kept", "false_equation"),
    }
    assert {pair for pair in found if pair[0] != pair[1]} >= differing
    assert found["kept", "false_equation"].n_samples == 1
    assert found["repeated_path", "false_equation"].n_samples == 1  # the second run's
    report = compare_report([found, found], ["run", "other"])
    rows = [line.split()[1:] for line in report.splitlines()]
    assert ["no_answer", "kept", "2"] in rows
    assert ["kept", "kept", "4"] not in rows
    # paper: solution's path, new path, chain, as number; strict: new path, in dollars, as number
    assert report.startswith("paper keeps 8 samples, strict 6; both keep ")
    assert "kept / false_equation: problem 'p', run sample 9" in report
    assert "⏎ #### 3" in report


def test_no_difference_is_said() -> None:
    found = compare_problem(PROBLEM, [make_samples(TEXTS[:2])], STRICT)
    report = compare_report([found], ["run"])
    assert report.startswith("paper keeps 0 samples, strict 0; both keep 0\n")
    assert report.endswith("they treat every sample alike")

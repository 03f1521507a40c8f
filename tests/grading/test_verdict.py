"""The reason for each rejection, in order; the path of a valid completion; remembered verdicts."""

from fractions import Fraction
from pathlib import Path
from typing import Any, get_args

import pytest

from screl.core.io import UserError
from screl.core.problems import Problem, load_problems
from screl.grading import verdict
from screl.grading.answers import AnswerStyle, Fidelity, gold_text
from screl.grading.paths import Steps
from screl.grading.verdict import (
    JudgeRules,
    Reason,
    Think,
    Verdict,
    as_published,
    equality,
    gold_answer,
    judge_steps,
    make_judge,
    require_golds,
    solution_path,
)
from screl.grading.verifiers import Outcome

GSM8K = Path(__file__).parents[3] / "shared/gsm8k"
PROBLEM = Problem("p", "How many are 1 and 2?", "Together <<1+2=3>>3.\n#### 3", 1)


@pytest.mark.parametrize(
    ("text", "strict", "paper"),
    [
        ("no answer <<2+2=3>>", "no_answer", "no_answer"),
        ("wrong <<two+2=3>>\n#### 4", "wrong_answer", "wrong_answer"),
        ("<<two+1=3>> <<2+2=3>>\n#### 3", "unparsed_equation", "unparsed_equation"),
        ("<<2+2=3>> <<two+1=3>>\n#### 3", "unparsed_equation", "unparsed_equation"),
        ("<<2+1=3>> <<2+2=3>>\n#### 3", "false_equation", "false_equation"),
        ("<<2+1=3>>\n#### 3", "valid", "valid"),
        ("no equation\n#### 3", "valid", "valid"),
        ("<<4-1=3>>\n#### $3", "valid", "no_answer"),
        ("<<4-1=3=5>>\n#### 3", "false_equation", "valid"),
    ],
)
def test_the_first_fault_is_the_reason(text: str, strict: Reason, paper: Reason) -> None:
    assert make_judge(PROBLEM, JudgeRules())(text).reason == strict
    assert make_judge(PROBLEM, JudgeRules("paper"))(text).reason == paper


def test_only_a_valid_completion_has_a_path() -> None:
    judge = make_judge(PROBLEM, JudgeRules())
    assert judge("<<2+1=3>>") == Verdict("no_answer", "", ())
    assert judge("<<2+2=3>>\n#### 3") == Verdict("false_equation", "", ())
    assert judge("<<$2+1=3>> <<3=3>>\n#### 3") == Verdict("valid", "2+1=3|3=3", ())
    steps = Steps(("$2+1=3",), "2+1=3")
    assert judge_steps(steps, "strict") == Verdict("valid", "2+1=3")
    assert judge_steps(steps, "paper") == Verdict("unparsed_equation")


def test_the_same_text_and_the_same_equations_are_judged_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[object] = []
    extract, judge_all = verdict.extract_answer, verdict.judge_steps
    monkeypatch.setattr(
        verdict, "extract_answer", lambda text, f: calls.append(text) or extract(text, f)
    )
    monkeypatch.setattr(
        verdict, "judge_steps", lambda steps, f: calls.append(steps.path) or judge_all(steps, f)
    )
    texts = ["a <<2+1=3>>\n#### 3", "b <<2+1=3>>\n#### 3"]
    judge = make_judge(PROBLEM, JudgeRules())
    calls.clear()  # the gold answer
    assert len({judge(text) for text in texts * 2}) == 1
    assert calls == [texts[0], "2+1=3", texts[1]]


def test_process_checks_apply_to_valid_completions_only() -> None:
    judge = make_judge(PROBLEM, JudgeRules(process_checks=("unused_result",)))
    assert judge("<<2+1=3>> <<3*5=15>>\n#### 3") == Verdict("process_check", "", ["unused_result"])
    assert judge("<<2+1=3>> <<3*5=16>>\n#### 3") == Verdict("false_equation")
    assert judge("<<2+1=3>>\n#### 3") == Verdict("valid", "2+1=3")


def golds(problems: list[Problem], rules: JudgeRules) -> list[object]:
    require_golds(problems, Path("d.jsonl"), rules)
    return [gold_answer(problem, rules) for problem in problems]


def test_a_short_answer_is_the_gold() -> None:
    problem = Problem(0, "q", "so #### 4", 1, answer=r"\boxed{5}")
    assert golds([problem], JudgeRules()) == [5]
    for text in ("5", " $5$ ", r"\$5", r"$\boxed 5$"):
        for style in get_args(AnswerStyle)[:-1]:
            rules = JudgeRules(answer_style=style)
            assert gold_answer(Problem(0, "q", "so #### 4", 1, answer=text), rules) == 5
    assert gold_text(Problem(0, "q", "s", 1, answer=" $5$ ")) == "\\boxed{5}\n#### 5"
    formula = Problem(1, "q", "so #### 4", 7, answer=r"\frac12")
    with pytest.raises(UserError, match=r"^d\.jsonl:7: the answer .* is not a number.*math_verify"):
        golds([formula], JudgeRules())
    choice = Problem(1, "q", "", 7, answer=r"$\boxed{\text{(B)}}$")
    assert golds([choice], JudgeRules(grader="choice", answer_style="the_answer_is")) == ["B"]
    with pytest.raises(
        UserError, match=r"^d\.jsonl:7: the answer .* is not A to E; fix it or delete"
    ):
        golds([formula], JudgeRules(grader="choice"))


@pytest.mark.parametrize("fidelity", ["strict", "paper"])
def test_a_solution_without_answer_is_named_by_its_line(fidelity: Fidelity) -> None:
    problems = [Problem(0, "q", "so #### 4", 1), Problem(1, "q2", "no number", 7)]
    assert len(golds(problems[:1], JudgeRules(fidelity))) == 1
    with pytest.raises(UserError, match=r"^d\.jsonl:7: the response has no '#### <number>'; end"):
        golds(problems, JudgeRules(fidelity))
    with pytest.raises(UserError, match=r":1: the response has no \\boxed\{<number>\}; end"):
        golds(problems, JudgeRules(answer_style="boxed"))
    with pytest.raises(
        UserError, match=r"^line 7 of the data: the response has no 'The answer is: <"
    ):
        make_judge(problems[1], JudgeRules(grader="math_verify", answer_style="the_answer_is"))


@pytest.mark.skipif(not GSM8K.is_dir(), reason="needs GSM8K in ../shared/gsm8k")
def test_both_fidelities_read_gsm8k_solutions_alike() -> None:
    for path in (GSM8K / "train.jsonl", GSM8K / "test.jsonl"):
        problems = load_problems(path)
        exact, published = golds(problems, JudgeRules()), golds(problems, JudgeRules("paper"))
        assert exact == [Fraction(str(text)) for text in published]


@pytest.mark.parametrize(
    ("style", "text", "reason"),
    [
        ("hash", "#### 12", "valid"),
        ("hash", r"\boxed{12}", "no_answer"),
        ("boxed", r"no \boxed{3}, it is $\boxed{12\text{ eggs}}$. #### 3", "valid"),
        ("boxed", r"\boxed{12} or \boxed{13}", "wrong_answer"),
        ("boxed", r"\boxed{12", "no_answer"),
        ("boxed", "#### 12", "no_answer"),
        ("the_answer_is", "The answer is: 3. No, the final answer is **12.** #### 3", "valid"),
        ("the_answer_is", "The answer is:\n$\\boxed{12}$", "valid"),
        ("the_answer_is", "The answer is 12.5.", "wrong_answer"),
        ("the_answer_is", "The answer is 12-15", "no_answer"),
        ("the_answer_is", "The answer is", "no_answer"),
        ("last_number", "from 3 to 12 eggs", "valid"),
        ("last_number", "12 or 3", "wrong_answer"),
        ("last_number", "twelve", "no_answer"),
    ],
)
def test_answers_are_read_in_the_chosen_style(
    style: AnswerStyle, text: str, reason: Reason
) -> None:
    problem = Problem(0, "q", "", 1, answer="12")
    assert make_judge(problem, JudgeRules(answer_style=style))(text).reason == reason


def test_formulas_and_letters_are_judged_by_their_graders() -> None:
    half = Problem(0, "q", r"so $\boxed{\frac12}$", 1)
    judge = make_judge(half, JudgeRules(grader="math_verify", answer_style="boxed"))
    reasons = [judge(text).reason for text in (r"\boxed{0.5}", r"\boxed{2}", "none", "#### 1/2")]
    assert reasons == ["valid", "wrong_answer", "no_answer", "valid"]
    half = Problem(0, "q", r"The answer is: $\frac{1}{2}$", 1)
    judge = make_judge(half, JudgeRules(grader="math_verify", answer_style="the_answer_is"))
    assert judge("The answer is: 0.5").reason == "valid"
    choice = Problem(0, "q", "", 1, answer="C")
    judge = make_judge(choice, JudgeRules(grader="choice", answer_style="the_answer_is"))
    texts = ("The answer is (C) 12.", "The answer is D.", "The answer is C or D", "I say C")
    reasons = [judge(text).reason for text in texts]
    assert reasons == ["valid", "wrong_answer", "no_answer", "no_answer"]


def test_thinking_is_searched_only_if_nothing_follows() -> None:
    thought, both = "<think>#### 12</think>", "<think>#### 3 <<1+1=3>></think>So #### 12"
    problem = Problem(0, "q", "#### 12", 1)
    expectations: dict[Think, Reason] = {
        "keep": "valid", "drop": "no_answer", "only_answer": "no_answer"
    }  # fmt: skip
    for think, expected in expectations.items():
        judge = make_judge(problem, JudgeRules(think=think))
        assert (judge(thought).reason, judge(both).reason) == (expected, "valid")
    assert make_judge(problem, JudgeRules("paper"))(both).reason == "wrong_answer"


def test_equations_in_prose_are_checked_like_marked_ones() -> None:
    judge = make_judge(PROBLEM, JudgeRules(path_style="arithmetic"))
    same = ["<<2+1=3>>\n#### 3", "2 + 1 = 3\n#### 3", "$2 + 1 = 3$ eggs\n#### 3"]
    assert {judge(text) for text in same} == {Verdict("valid", "2+1=3")}
    assert judge("1 + 2 = 3\n#### 3") == Verdict("valid", "1+2=3")
    assert judge("2 + 2 = 3\n#### 3") == Verdict("false_equation")
    assert judge("<<2+x=3>>\n#### 3") == Verdict("unparsed_equation")
    assert judge("<<2+1=3>\n#### 3").odd_brackets
    assert make_judge(PROBLEM, JudgeRules(path_style="text"))("<<2+1=3>\n#### 3").reason == "valid"


def test_a_verifier_judges_instead_of_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = {
        "yes": Outcome("right", True),
        "no": Outcome("wrong", False),
        "nothing": Outcome(None, False),
        "crash <<1+1=2>>": Outcome(None, False, "crash: killed"),
        "false <<1+1=3>>": Outcome("right", True),
        "<think>1 + 1 = 3</think><<1+1=2>>": Outcome("right", True),
    }
    calls: list[Any] = []

    def verify(problem: Problem, text: str, spec: str) -> Outcome:
        calls.append((problem, spec))
        return outcomes[text]

    monkeypatch.setattr(verdict, "verify", verify)
    problem = Problem(0, "q", "", 1)  # has no gold answer, and needs none
    rules = JudgeRules(verifier="check.py:check")
    require_golds([problem], Path("data.jsonl"), rules)
    judge = make_judge(problem, rules)
    assert [judge(text) for text in outcomes] == [
        Verdict("valid"), Verdict("wrong_answer"), Verdict("no_answer"),
        Verdict("not_verified", failure="crash: killed"), Verdict("false_equation"),
        Verdict("valid", "1+1=2"),
    ]  # fmt: skip
    assert calls == [(problem, "check.py:check")] * len(outcomes)


def test_the_path_of_the_own_solution() -> None:
    solution = "<think><<1+1=2>></think>$4 \\cdot 3 = 12$, <<12-9=3>>\n#### 3"
    problem = Problem(0, "q", solution, 1)
    assert solution_path(problem, JudgeRules()) == "12-9=3"
    assert solution_path(problem, JudgeRules("paper")) == "1+1=2|12-9=3"
    assert solution_path(problem, JudgeRules(path_style="arithmetic")) == "4*3=12|12-9=3"
    assert solution_path(Problem(0, "q", "", 1, answer="3"), JudgeRules()) is None


def test_the_published_rules_know_one_style() -> None:
    rules = JudgeRules(answer_style="boxed", path_style="text", think="drop")
    assert as_published(rules) == JudgeRules("paper", "number", "hash", "calculator", "keep")


@pytest.mark.parametrize(
    ("rules", "answer", "solution", "message"),
    [
        (JudgeRules(), "x", "", "the answer 'x' is not a number; .* line; for formulas, give --gr"),
        (JudgeRules(grader="choice"), "F", "", r"the answer 'F' is not A to E; [^;]*line$"),
        (JudgeRules(), None, "?", "no '#### <number>'; .* line; for formulas, give --grader math"),
        (JudgeRules(grader="choice"), None, "?", r"has no '#### <letter>'; [^;]*line$"),
        (JudgeRules(answer_style="last_number"), None, "?", r"the response has no <number>; "),
    ],
)
def test_a_gold_answer_of_another_kind_is_refused(
    rules: JudgeRules, answer: str | None, solution: str, message: str
) -> None:
    problems = [Problem(0, "q", solution, 7, answer=answer)]
    with pytest.raises(UserError, match=f"^data.jsonl:7: .*{message}"):
        require_golds(problems, Path("data.jsonl"), rules)
    require_golds(problems, Path("data.jsonl"), JudgeRules(grader="math_verify"))


def test_golds_are_letters_and_formulas() -> None:
    choice, formula = JudgeRules(grader="choice"), JudgeRules(grader="math_verify")
    for text in ("(C)", r"\boxed{C}", r"so $\boxed{\text{C}}$"):
        assert gold_answer(Problem(0, "q", "", 1, answer=text), choice) == "C"
    answer = gold_answer(Problem(0, "q", "", 1, answer="0.5"), formula)
    assert answer == r"\frac{1}{2}" == gold_answer(Problem(0, "q", "#### 0.5", 1), formula)


def test_defaults_and_odd_brackets() -> None:
    assert JudgeRules() == JudgeRules("strict", "number", "hash", "calculator", "keep", (), None)
    assert Verdict("valid") == Verdict("valid", "", (), False, "")
    odd = "<<2+1=3>\n#### 3"
    expected = Verdict("unparsed_equation", odd_brackets=True)
    assert make_judge(PROBLEM, JudgeRules())(odd) == expected
    assert make_judge(PROBLEM, JudgeRules("paper"))(odd) == Verdict("valid")


def test_numbers_of_the_published_code_are_equal_as_floats() -> None:
    is_equal = equality(JudgeRules("paper"))
    assert is_equal("3.0", "3")
    assert not is_equal("3.0", "3.5")
    assert equality(JudgeRules("paper"), tolerance=1.0)("3.0", "3.5")


def test_a_box_and_a_line_are_one_style_for_formulas() -> None:
    problem = Problem(0, "q", "#### 0.5", 1)
    for style in ("hash", "boxed"):
        judge = make_judge(problem, JudgeRules(grader="math_verify", answer_style=style))  # type: ignore[arg-type]
        assert [judge(text).reason for text in (r"\boxed{1/2}", "#### 1/2")] == ["valid"] * 2

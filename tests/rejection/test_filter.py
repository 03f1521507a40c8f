"""What happens to a problem's samples, reason by reason, and the rows that are written."""

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from screl.core.problems import Problem
from screl.grading import verdict
from screl.grading.answers import Fidelity
from screl.grading.equations import equation_path
from screl.grading.paths import PathStyle
from screl.grading.verifiers import Outcome
from screl.rejection.filter import (
    Fate,
    FilterRules,
    filter_problem,
    filter_problems,
    sample_fates,
    source_rows,
    training_rows,
)
from screl.rejection.funnel import notes
from screl.rejection.selection import Keep, select_at_random
from screl.samples.reader import open_runs
from screl.samples.store import Sample

PROBLEM = Problem("p", "How many are 1 and 2?", "Together <<1+2=3>>3.\n#### 3", 1)
CASES: list[tuple[str, Fate, Fate]] = [  # text, under strict, under paper
    ("no answer <<2+1=3>>", "no_answer", "no_answer"),
    ("wrong <<2+2=4>>\n#### 4", "wrong_answer", "wrong_answer"),
    ("bad arithmetic <<2+2=3>>\n#### 3", "false_equation", "false_equation"),
    ("no equation <<two+1=3>>\n#### 3", "unparsed_equation", "unparsed_equation"),
    ("both <<two+1=3>> <<2+2=3>>\n#### 3", "unparsed_equation", "unparsed_equation"),
    ("solution's path <<1+2=3>>\n#### 3", "solution_path", "kept"),
    ("new path, longest of its kind <<2+1=3>>\n#### 3", "kept", "kept"),
    ("new path again <<2+1=3>>\n#### 3", "repeated_path", "repeated_path"),
    ("in dollars <<4-1=3>>\n#### $3", "kept", "no_answer"),
    ("chain <<4-1=3=5>>\n#### 3", "false_equation", "kept"),
    ("as number <<4-1.00=3>>\n#### 3.0", "kept", "kept"),
]


def make_samples(texts: list[str]) -> list[Sample]:
    return [
        Sample("p", i, text, len(text), "length" if i % 3 == 0 else "stop")
        for i, text in enumerate(texts)
    ]


def kept_texts(texts: list[str], rules: FilterRules) -> list[str]:
    result = filter_problem(PROBLEM, [make_samples(texts)], rules)
    return [candidate.text for candidate in result.kept]


@pytest.mark.parametrize("fidelity", ["strict", "paper"])
def test_every_reason(fidelity: Fidelity) -> None:
    texts = [text for text, *_ in CASES]
    expected = [case[1] if fidelity == "strict" else case[2] for case in CASES]
    assert sample_fates(PROBLEM, [make_samples(texts)], FilterRules(fidelity)) == [expected]
    result = filter_problem(PROBLEM, [make_samples(texts)], FilterRules(fidelity))
    assert [c.text for c in result.kept] == sorted(
        (text for text, fate in zip(texts, expected, strict=True) if fate == "kept"),
        key=lambda text: equation_path(text) if fidelity == "strict" else texts.index(text),
    )


def test_samples_are_counted_by_reason() -> None:
    texts = [text for text, *_ in CASES]
    (counts,) = filter_problem(PROBLEM, [make_samples(texts)], FilterRules("strict")).counts
    n_characters = sum(map(len, texts))
    assert +counts == Counter(
        {
            "sampled": 11,
            "no_answer": 1,
            "wrong_answer": 1,
            "unparsed_equation": 2,
            "false_equation": 2,
            "valid": 5,
            "solution_path": 1,
            "characters": n_characters,
            "tokens": n_characters,
            "tokens_known": 11,
            "cut_off": 4,
        }
    )


def test_tokens_are_counted_where_known() -> None:
    run = [Sample("p", 0, "a\n#### 4", 7), Sample("p", 1, "bc\n#### 4")]
    (counts,) = filter_problem(PROBLEM, [run], FilterRules("strict")).counts
    assert (counts["tokens"], counts["tokens_known"], counts["characters"]) == (7, 1, 17)


def test_the_first_sample_with_a_path_is_noted_per_run() -> None:
    a = make_samples(["x <<2+1=3>>\n#### 3", "<<4-1=3>>\n#### 3", "y <<2+1=3>>\n#### 3"])
    b = make_samples(["z\n#### 4", "<<2+1=3>>\n#### 3"])
    result = filter_problem(PROBLEM, [a, b], FilterRules("paper"))
    assert result.first_seen == {"2+1=3": {0: 0, 1: 1}, "4-1=3": {0: 1}}


texts = st.lists(
    st.builds(
        lambda head, path, answer: f"{head} <<{path}>>\n#### {answer}",
        st.text("ab", max_size=3),
        st.sampled_from(["1+2=3", "$2+1=$3", "2+1=3", "3=3", "2+2=3", "a=3", "3=3=3"]),
        st.sampled_from(["3", "3.0", "$3", "4", "x"]),
    ),
    max_size=12,
)


@given(texts, texts, st.randoms(use_true_random=False))
def test_strict_keeps_the_same_texts_whatever_the_order(
    a: list[str], b: list[str], rng: random.Random
) -> None:
    def keep(*runs: list[str]) -> list[str]:
        result = filter_problem(PROBLEM, [make_samples(run) for run in runs], FilterRules("strict"))
        return [candidate.text for candidate in result.kept]

    shuffled = rng.sample(a + b, len(a) + len(b))
    assert keep(a, b) == keep(b, a) == keep(shuffled, [])


@given(texts, st.sampled_from(["strict", "paper"]))
def test_fates_and_filter_agree(all_texts: list[str], fidelity: Fidelity) -> None:
    rules = FilterRules(fidelity)
    result = filter_problem(PROBLEM, [make_samples(all_texts)], rules)
    (of_run,) = sample_fates(PROBLEM, [make_samples(all_texts)], rules)
    assert Counter(of_run)["kept"] == len(result.kept)
    valid = [fate for fate in of_run if fate in ("kept", "repeated_path", "solution_path")]
    assert len(valid) == result.counts[0]["valid"]


def test_strict_ignores_dollars_and_units_in_paths() -> None:
    texts = ["a <<$2+$1=$3>>\n#### 3", "bb <<2+1=3>>\n#### 3", "c <<2 cats+1 cat=3 cats>>\n#### 3"]
    assert len(kept_texts(texts, FilterRules("strict"))) == 1
    # in Python neither dollars nor units are arithmetic
    assert kept_texts(texts, FilterRules("paper")) == texts[1:2]


def test_a_completion_without_equations_is_valid_and_has_the_empty_path() -> None:
    texts = ["first\n#### 3", "second\n#### 3", "<<2+1=3>>\n#### 3"]
    result = filter_problem(PROBLEM, [make_samples(texts)], FilterRules("paper"))
    assert [candidate.path for candidate in result.kept] == ["", "2+1=3"]


def test_samples_that_fail_process_checks_are_counted() -> None:
    texts = ["<<2+1=3>> <<3*5=15>>\n#### 3", "<<2+1=3>>\n#### 3"]
    rules = FilterRules("strict", process_checks=("unused_result", "last_equation_not_answer"))
    result = filter_problem(PROBLEM, [make_samples(texts)], rules)
    assert [candidate.text for candidate in result.kept] == texts[1:]
    counts = result.counts[0]
    assert (counts["process_check"], counts["valid"]) == (1, 1)
    assert counts["last_equation_not_answer"] == 1
    assert kept_texts(texts, FilterRules("strict")) == texts[::-1]


def test_all_right_samples_can_be_kept() -> None:
    texts = [f"{'x' * i} <<2+1=3>>\n#### 3" for i in range(9)] + ["<<4-1=3>>\n#### 3", "no"]
    assert kept_texts(texts, FilterRules("paper", keep="all")) == texts[:-1]


@pytest.mark.parametrize("keep", ["random_rows", "random_tokens"])
def test_a_control_depends_on_seed_and_problem(keep: Keep) -> None:
    texts = [f"{'x' * i} <<{path}=3>>\n#### 3" for i in range(9) for path in ("2+1", "4-1")]
    run = make_samples([*texts, "no"])
    everything = filter_problem(PROBLEM, [run], FilterRules("strict", keep="all")).kept
    chosen = filter_problem(PROBLEM, [run], FilterRules("strict")).kept
    for seed in range(3):
        kept = filter_problem(PROBLEM, [run], FilterRules("strict", keep=keep, seed=seed)).kept
        assert kept == select_at_random(everything, chosen, keep, f"{seed} p")
    assert FilterRules("strict") == FilterRules(
        "strict", process_checks=(), keep="distinct", seed=0
    )


def test_no_samples() -> None:
    result = filter_problem(PROBLEM, [[], []], FilterRules("strict"))
    assert [+counts for counts in result.counts] == [Counter(), Counter()]
    assert (result.first_seen, result.kept) == ({}, [])


def test_a_control_reports_the_rest_as_not_drawn() -> None:
    texts = [f"<<{i}+0={i}>> <<1+2=3>>\n#### 3" for i in range(6)] * 2
    (of_run,) = sample_fates(
        PROBLEM, [make_samples(texts)], FilterRules("strict", keep="random_rows")
    )
    assert sorted(of_run) == ["kept"] * 6 + ["not_drawn"] * 6


def test_the_solution_and_then_kept_samples_become_rows_with_sources() -> None:
    problems = [PROBLEM, Problem(7, 'Say "é"', "<<1+2=3>>\n#### 3", 2)]
    runs = [["<<2+1=3>>\n#### 3", "no"], ["no", 'x"y\n<<4-1=3>>\n#### 3']]
    samples = [make_samples(texts) for texts in runs]
    results = [filter_problem(problem, samples, FilterRules("strict")) for problem in problems]
    rows = [json.loads(line) for line in training_rows(problems, results, FilterRules("strict"))]
    sources = [json.loads(line) for line in source_rows(problems, results, ["a", 'b"'])]
    assert rows == [
        {"query": problem.question, "response": response}
        for problem in problems
        for response in (problem.solution, runs[0][0], runs[1][1])
    ]
    assert sources == [
        {"problem_id": problem.problem_id, "source": source, "sample_id": sample_id}
        for problem in problems
        for source, sample_id in (("solution", None), ("a", 0), ('b"', 1))
    ]


def test_every_problem_of_a_run_is_filtered(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    texts = ["<<2+1=3>>\n#### 3", "no"]
    path.write_text("".join(json.dumps({"id": i, "completion": texts}) + "\n" for i in range(3)))
    problems = [Problem(i, "q", PROBLEM.solution, i + 1) for i in range(3)]
    runs = open_runs(path, problems, "train")
    results = filter_problems(problems, runs, FilterRules("strict"), n_workers=1)
    assert [[candidate.text for candidate in result.kept] for result in results] == [texts[:1]] * 3


def test_completions_without_marks_have_paths_of_their_own() -> None:
    problem = Problem("p", "q", "3 * 4 = 12\n#### 12", 1)
    texts = [
        f"{text}\n#### 12" for text in ("4 * 3 = 12", "6 + 6 = 12", "$3\\cdot4=12$", "6+6=12.")
    ]
    counts = {}
    on_solution: dict[PathStyle, int] = {"calculator": 4, "arithmetic": 1, "text": 0}
    for style, n in on_solution.items():
        result = filter_problem(
            problem, [make_samples(texts)], FilterRules("strict", path_style=style)
        )
        counts[style] = len(result.kept)
        assert result.counts[0]["solution_path"] == n
    assert counts == {"calculator": 0, "arithmetic": 2, "text": 3}


def test_near_duplicates_of_the_solution_are_on_its_path() -> None:
    words = " ".join("abcdefghijklmnopqrstuvwxyz" * 2)
    problem = Problem("p", "q", f"{words}\n#### 12", 1)
    texts = [f"{words}!\n#### 12.", f"{words} 1\n#### 12", f"{words[::-1]}\n#### 12"]
    rules = FilterRules("strict", path_style="text")
    result = filter_problem(problem, [make_samples(texts)], rules)
    assert result.counts[0]["solution_path"] == 2
    assert [kept.text for kept in result.kept] == texts[2:]
    assert sample_fates(problem, [make_samples(texts)], rules) == [
        ["solution_path", "solution_path", "kept"]
    ]


def test_rows_lose_their_thinking_only_if_asked() -> None:
    problem = Problem("p", "q", "<think>a</think>\n\n<<6+6=12>>\n#### 12", 1)
    text = "<think>so 13\n#### 13</think>\n<<3*4=12>>\n#### 12"
    for think, responses in (
        ("keep", [problem.solution, text]),
        ("drop", ["<<6+6=12>>\n#### 12", "<<3*4=12>>\n#### 12"]),
    ):
        rules = FilterRules("strict", think=think)  # type: ignore[arg-type]
        result = filter_problem(problem, [make_samples([text])], rules)
        rows = [json.loads(row) for row in training_rows([problem], [result], rules)]
        assert [row["response"] for row in rows] == responses
        assert any("1 of 1 samples think aloud" in note for note in notes([result], rules))


def test_thinking_and_missing_equations_are_counted() -> None:
    texts = [
        "<think>so</think>\n<<2+1=3>>\n#### 3", "<think>#### 3", "<think>1</think>#### 3",
        "no equation\n#### 3", "no equation\n#### 4", "<<2+1=3>\n#### 3",
    ]  # fmt: skip
    (counts,) = filter_problem(PROBLEM, [make_samples(texts)], FilterRules("strict")).counts
    assert (counts["thinking"], counts["only_thinking"]) == (3, 1)
    assert (counts["no_equation"], counts["odd_brackets"]) == (3, 1)
    assert counts["solution_path"] == 0


def test_a_problem_without_a_solution_has_no_path_and_no_row_of_its_own() -> None:
    problem = Problem("p", "q", "", 1, answer="3")
    rules = FilterRules("strict", think="drop")
    result = filter_problem(problem, [make_samples(["a #### 3", " <<1+2=3>> #### 3", "3"])], rules)
    assert result.solution_path is None
    assert result.counts[0]["solution_path"] == 0
    rows = [json.loads(row) for row in training_rows([problem], [result], rules)]
    assert [row["response"] for row in rows] == ["a #### 3", " <<1+2=3>> #### 3"]
    sources = [json.loads(row) for row in source_rows([problem], [result], ["run"])]
    assert [row["source"] for row in sources] == ["run", "run"]


def test_what_a_verifier_could_not_judge_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = {"a": Outcome(None, False, "crash: killed"), "b": Outcome("right", True)}
    monkeypatch.setattr(verdict, "verify", lambda problem, text, spec: outcomes[text])
    rules = FilterRules("strict", verifier="check.py:check")
    result = filter_problem(PROBLEM, [make_samples(["a", "b"]), make_samples(["a"])], rules)
    assert result.failures == {"crash: killed": 2}
    assert [kept.text for kept in result.kept] == ["b"]


def test_only_valid_samples_are_on_the_path_of_a_solution_without_equations() -> None:
    problem = Problem("p", "q", "three\n#### 3", 1)
    samples = make_samples(["3\n#### 3", "4\n#### 4", "none"])
    assert filter_problem(problem, [samples], FilterRules("strict")).counts[0]["solution_path"] == 1

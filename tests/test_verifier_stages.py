"""A user's verifier judges alike in filter, scorer and sampling; what it cannot judge is shown."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import collect_rejection_sampling
import eval as eval_script
from screl.core.problems import Problem, load_problems
from screl.grading.verdict import JudgeRules, make_judge
from screl.samples.store import Sample
from screl.sampling.tally import tally_problem
from tests.conftest import ROOT

EXAMPLES = ROOT / "examples" / "verifiers"
VERIFIER = """
import time
TIME_LIMIT_S = 0.5

def check(row, completion):
    if "crash" in completion:
        raise ValueError(completion)
    if "hang" in completion:
        time.sleep(60)
    return completion.endswith(row["word"])
"""
SAMPLES = [
    ["<<1+1=2>> a one", "<<1+2=3>> one", "wrong", "crash", "crash"],
    ["<<2+2=4>> two", "<<2+2=4>> also two", "<<2+2=5>> two", "hang", "no"],
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rows = [{"query": f"Question {i}?", "word": word} for i, word in enumerate(("one", "two"))]
    samples = [
        {"problem_id": i, "sample_id": k, "completion": text}
        for i, texts in enumerate(SAMPLES)
        for k, text in enumerate(texts)
    ]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in samples))
    (tmp_path / "check.py").write_text(VERIFIER)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, module: Any, *words: str) -> None:
    shared = ["--data_path", "data.jsonl", "--verifier", "check.py:check"]
    monkeypatch.setattr("sys.argv", [f"{module.__name__}.py", *words, *shared])
    module.main()


def test_filter_and_scorer_count_what_cannot_be_judged(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, collect_rejection_sampling, "--samples", "samples.jsonl",
        "--output_path", "rft.jsonl", "--n_workers", "2")  # fmt: skip
    printed = capsys.readouterr().out
    assert "the verifier could not judge 3 completions, of 2 problems" in printed
    assert "problem 0: exception: ValueError: crash on line 7 of check.py (2)" in printed
    assert "problem 1: time limit: no result in 0.5 s (1)" in printed
    kept = [json.loads(line)["response"] for line in (folder / "rft.jsonl").open()]
    assert sorted(kept) == ["<<1+1=2>> a one", "<<1+2=3>> one", "<<2+2=4>> also two"]
    results = json.loads((folder / "rft.run.json").read_text())["results"]
    funnel = results["runs"][0]["funnel"]
    assert (funnel["n_sampled"], funnel["n_answered"], funnel["n_right"]) == (10, 7, 5)
    of_filter = results["verifier"]
    assert (of_filter["function"], of_filter["n_not_verified"]) == ("check", 3)

    run(monkeypatch, eval_script, "samples.jsonl", "--output_path", "metrics.json",
        "--errors_path", "errors.jsonl")  # fmt: skip
    assert "could not judge 3 completions, of 2 problems" in capsys.readouterr().err
    (entry,) = json.loads((folder / "metrics.json").read_text())
    assert entry["metrics"]["mean@1"]["value"] == 50
    assert entry["verifier"] == of_filter
    errors = [json.loads(line) for line in (folder / "errors.jsonl").open()]
    assert [row["sample_id"] for row in errors if "failure" in row] == [3, 4, 3]


def test_until_correct_counts_the_same_samples_as_the_filter(folder: Path) -> None:
    rules = JudgeRules(verifier="check.py:check")
    for problem, texts in zip(load_problems(Path("data.jsonl"), needs_gold=False), SAMPLES,
                              strict=True):  # fmt: skip
        samples = [Sample(problem.problem_id, i, text, 1, "stop") for i, text in enumerate(texts)]
        tally = tally_problem(problem, [samples], rules)
        judge = make_judge(problem, rules)
        verdicts = [judge(text) for text in texts]
        assert tally.n_right == sum(v.reason in ("valid", "false_equation") for v in verdicts)
        assert len(tally.path_counts) == len({v.path for v in verdicts if v.reason == "valid"})
        assert tally.failures.total() == sum(v.reason == "not_verified" for v in verdicts)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--grader", "choice"], "leave out --grader"),
        (["--answer_style", "boxed"], "leave out --answer_style"),
        (["--fidelity", "paper"], "leave out --fidelity paper"),
    ],
)
def test_options_whose_work_the_verifier_does_are_refused(
    folder: Path, words: list[str], error: str
) -> None:
    script = ROOT / "eval.py"
    arguments = ["samples.jsonl", "--data_path", "data.jsonl", "--verifier", "check.py:check"]
    result = subprocess.run(
        [sys.executable, script, *arguments, *words],
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert error in result.stderr


def judged(name: str) -> list[list[str]]:
    """Return the reasons of an example's samples, by problem."""
    rules = JudgeRules(verifier=f"{EXAMPLES / name}.py:check")
    problems = load_problems(EXAMPLES / f"{name}.jsonl", needs_gold=False)
    found: list[list[str]] = [[] for _ in problems]
    for line in (EXAMPLES / f"{name}_samples.jsonl").open():
        row = json.loads(line)
        problem: Problem = problems[row["problem_id"]]
        found[row["problem_id"]].append(make_judge(problem, rules)(row["completion"]).reason)
    return found


@pytest.mark.parametrize(
    ("name", "reasons"),
    [
        ("multiple_choice", [["valid", "valid"], ["wrong_answer", "no_answer"]]),
        ("dates", [["valid", "valid"], ["no_answer", "valid"]]),
    ],
)
def test_the_examples(name: str, reasons: list[list[str]]) -> None:
    assert judged(name) == reasons


def can_unshare() -> bool:
    try:
        commands = (["unshare", "-n", "true"], ["unshare", "-rn", "true"])
        return any(subprocess.run(c, capture_output=True).returncode == 0 for c in commands)
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not can_unshare(), reason="needs unshare -n, to take the network away")
def test_the_example_of_unit_tests_runs_code_without_a_network() -> None:
    assert judged("unit_tests") == [["valid", "wrong_answer"], ["valid", "wrong_answer"]]
    tests = "import socket; assert [name for _, name in socket.if_nameindex()] == ['lo']"
    problem = Problem(0, "?", "", 1, row={"tests": tests})
    rules = JudgeRules(verifier=f"{EXAMPLES / 'unit_tests'}.py:check")
    assert make_judge(problem, rules)("```python\nx = 1\n```").reason == "valid"


def test_where_the_network_cannot_be_taken_away_nothing_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no unshare
    spec = f"{EXAMPLES / 'unit_tests'}.py:check"
    problem = Problem(0, "?", "", 1, row={"tests": ""})
    copy = tmp_path / "unit_tests.py"
    copy.write_text((EXAMPLES / "unit_tests.py").read_text())
    verdict = make_judge(problem, JudgeRules(verifier=spec.replace(str(EXAMPLES), str(tmp_path))))(
        "```python\nx = 1\n```"
    )
    assert verdict.reason == "not_verified"
    assert "unshare -n does not work here" in verdict.failure

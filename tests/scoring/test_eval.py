"""eval.py: published scores, metrics.json, comparisons, lists, and refusals."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import eval as eval_script
from screl.core.io import UserError, file_sha256, write_json
from screl.samples.store import Sample, SampleWriter
from tests.conftest import ROOT, run_script

GOLDEN = ROOT / "tests/data/golden"
VOTES = (GOLDEN / "votes", "--data_path", GOLDEN / "problems.jsonl")
SCORED_BY_HAND = "tests/data/scorer/samples"  # see README.md there

# worked by hand: problem 0 has 2 of 2 right, 1 is a tie, 2 has no right vote, 3 has one answer
TWO_SAMPLES = {
    **{(0, 0): "#### 0", (0, 1): "#### 0.0"},
    **{(1, 0): "#### 7", (1, 1): "#### 1"},
    **{(2, 0): "#### 9", (2, 1): "#### 9"},
    **{(3, 0): "and so on ...", (3, 1): "#### 3"},
}


class Result(NamedTuple):
    """What eval.py printed and wrote."""

    out: str
    err: str
    entries: list[dict[str, Any]]  # of metrics.json

    @property
    def rows(self) -> list[list[str]]:
        return [line.split() for line in self.out.splitlines()]


Evaluate = Callable[..., Result]


@pytest.fixture
def evaluate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Evaluate:
    """Return a function that runs eval.py in the repository's root, with --output_path m.json."""
    monkeypatch.chdir(ROOT)

    def run(*arguments: object) -> Result:
        output = tmp_path / "m.json"
        command = ["eval.py", *map(str, arguments), "--output_path", str(output)]
        monkeypatch.setattr("sys.argv", command)
        eval_script.main()
        printed = capsys.readouterr()
        return Result(printed.out, printed.err, json.loads(output.read_text()))

    return run


def make_data(path: Path) -> Path:
    rows = [{"query": f"What is {i}?", "response": f"#### {i}"} for i in range(4)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def make_store(folder: Path, data: Path, n_samples: int, texts: dict[tuple[int, int], str]) -> Path:
    """Make a store of ``texts`` by (problem_id, sample_id); '...' at the end means cut off."""
    manifest = {
        "model_name_or_path": "models/tiny",
        "data_path": str(data),
        "data_sha256": file_sha256(data),
        "n_problems": 4,
        "n_samples": n_samples,
        "greedy": n_samples == 1,
    }
    write_json(folder / "manifest.json", manifest)
    with SampleWriter(folder) as writer:
        writer.write(
            Sample(i, j, text, 1, "length" if text.endswith("...") else "stop")
            for (i, j), text in texts.items()
        )
    return folder


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_paper_reproduces_the_published_scores(tmp_path: Path, evaluate: Evaluate) -> None:
    out, _, (entry,) = evaluate(*VOTES, "--fidelity", "paper")
    expected = json.loads((GOLDEN / "expected_votes.json").read_text())
    metrics = entry.pop("metrics")
    assert entry == {
        "run": str(VOTES[0]),
        "data_path": str(VOTES[2]),
        "fidelity": "paper",
        "grader": "number",
        "n_problems": 80,
        "n_problems_left_out": 0,
        "n_samples": 8,
    }
    curves = [f"{metric}@{k}" for metric in ("maj1", "pass") for k in range(2, 9)]
    assert list(metrics) == ["maj1@1", "mean@1", *curves]
    assert metrics["maj1@1"]["n_correct"] == expected["greedy_correct"] == 35
    assert metrics["maj1@8"]["n_correct"] == expected["majority_correct"] == 53
    assert metrics["maj1@8"]["value"] == 100 * 53 / 80
    assert metrics["maj1@8"]["standard_error"] == pytest.approx(5.320, abs=1e-3)
    low, high = metrics["maj1@8"]["interval"]
    assert low < 100 * 53 / 80 - 8 < 100 * 53 / 80 + 8 < high
    info = json.loads((tmp_path / "m.run.json").read_text())
    assert info["config"]["fidelity"] == "paper"
    cost = info["results"]["cost"]
    assert (cost["flops"], cost["tokens"], cost["device"]) == (0, 0, "cpu")
    assert cost["device_seconds"] > 0
    assert "43.8 ± 5.6  48.9 ± 2.0  66.2 ± 5.3" in out


def test_every_number_worked_out_in_the_readme_of_the_fixture(evaluate: Evaluate) -> None:
    """tests/data/scorer/README.md: 18, 18.0 and 18., ties, and samples without an answer."""
    third = 100 / 3
    expected = {
        "paper": {
            **{"mean@1": 500 / 12, "maj1@2": third, "maj1@3": third, "maj1@4": 0},
            **{"pass@2": 2 * third, "pass@3": 2.5 * third, "pass@4": 100},
        },
        "strict": {
            **{"mean@1": 50, "maj1@2": 700 / 12, "maj1@3": 2 * third, "maj1@4": 2 * third},
            **{"pass@2": 700 / 9, "pass@3": 1100 / 12, "pass@4": 100},
        },
    }
    for fidelity, values in expected.items():
        metrics = evaluate(SCORED_BY_HAND, "--fidelity", fidelity).entries[0]["metrics"]
        found = {name: metric["value"] for name, metric in metrics.items()}
        assert found == pytest.approx(values)
    assert metrics["mean@1"]["standard_error"] == pytest.approx(14.43, abs=0.01)
    assert metrics["pass@4"]["interval"] == pytest.approx([100 * 0.025 ** (1 / 3), 100])


def test_a_store_gives_mean_vote_and_pass(tmp_path: Path, evaluate: Evaluate) -> None:
    store = make_store(tmp_path / "s", make_data(tmp_path / "d.jsonl"), 2, TWO_SAMPLES)
    result = evaluate(store)  # data_path of the manifest
    metrics = result.entries[0]["metrics"]
    assert {name: m["value"] for name, m in metrics.items()} == {
        "mean@1": 50.0,
        "maj1@2": 62.5,
        "pass@2": 75.0,
    }
    assert "n_correct" not in metrics["maj1@2"]
    assert metrics["pass@2"]["n_correct"] == 3
    table = result.out.splitlines()
    header = "run problems K mean@1 maj1@K pass@K no answer cut off"
    assert " ".join(table[0].split()) == header
    assert table[1].endswith("62.5 ± 23.9  75.0 ± 25.0      12.5%    12.5%")
    assert [row[1] for row in result.rows[3:6]] == ["k", "1", "2"]
    assert "50.0 ± 20.4" in table[4]  # mean@1: scores 1, 1/2, 0, 1/2
    assert "62.5 ± 23.9" in table[5]


def test_later_runs_are_compared_with_the_first(tmp_path: Path, evaluate: Evaluate) -> None:
    data = make_data(tmp_path / "d.jsonl")
    right = make_store(tmp_path / "a", data, 1, {(i, 0): f"#### {i}" for i in range(4)})
    wrong = make_store(tmp_path / "b", data, 1, {(i, 0): "#### 0" for i in range(4)})
    elsewhere = make_store(tmp_path / "c", make_data(tmp_path / "e.jsonl"), 2, TWO_SAMPLES)
    result = evaluate(wrong, right, elsewhere, "--changes_path", tmp_path / "c.jsonl")
    _, second, third = result.entries
    # three of four problems differ: mean .75, standard deviation .5, over the root of 4; a coin
    # falls on the same side three times with 2 / 8
    difference = second["difference_to_first"]["maj1@1"]
    assert list(difference) == [
        *("value", "standard_error", "interval", "n_gained", "n_lost", "p_value")
    ]
    assert (difference["value"], difference["standard_error"]) == (75.0, 25.0)
    assert (difference["n_gained"], difference["n_lost"], difference["p_value"]) == (3, 0, 0.25)
    assert ["a", "maj1@1", "+75.0", "±", "25.0"] in [row[:5] for row in result.rows]
    assert f"\n{right}, maj1@1, gained: 1, 2, 3\n" in result.out
    assert "difference_to_first" not in third
    assert f"{elsewhere}: not compared with {wrong}, which scored other problems" in result.out
    changed = read_rows(tmp_path / "c.jsonl")
    assert [row["problem_id"] for row in changed] == [1, 2, 3]
    assert changed[1] == {
        "problem_id": 2,
        "metric": "maj1@1",
        "run": str(right),
        "first": 0.0,
        "second": 1.0,
        "first_answer": "0",
        "second_answer": "2",
    }
    with pytest.raises(UserError, match=r"not another seed of the recipe .*greedy True and False"):
        evaluate(wrong, elsewhere, "--seeds")
    shutil.copytree(wrong, copied := tmp_path / "d")
    manifest = json.loads((copied / "manifest.json").read_text())
    write_json(copied / "manifest.json", manifest | {"data_path": str(tmp_path / "e.jsonl")})
    with pytest.raises(UserError, match="scored other problems than"):
        evaluate(wrong, copied, "--seeds")


def test_runs_of_different_k_are_compared_at_the_smaller(
    tmp_path: Path, evaluate: Evaluate
) -> None:
    data = make_data(tmp_path / "d.jsonl")
    two = make_store(tmp_path / "two", data, 2, TWO_SAMPLES)
    ones = {(i, j): "#### 1" for i in range(4) for j in range(3)}
    three = make_store(tmp_path / "three", data, 3, ones)
    result = evaluate(three, two, "--changes_path", tmp_path / "c.jsonl")
    difference = result.entries[1]["difference_to_first"]
    assert list(difference) == ["mean@1", "maj1@2", "pass@2"]
    assert difference["maj1@2"]["value"] == pytest.approx(62.5 - 25)
    assert difference["maj1@2"]["p_value"] is None  # problem 1 is a tie
    changed = read_rows(tmp_path / "c.jsonl")
    assert [(row["problem_id"], row["first"], row["second"]) for row in changed] == [
        (0, 0.0, 1.0),
        (1, 1.0, 0.5),
        (3, 0.0, 1.0),
    ]
    assert changed[1]["metric"] == "maj1@2"
    assert (changed[1]["first_answer"], changed[1]["second_answer"]) == (None, "7 or 1")


def test_seeds_and_their_baseline(tmp_path: Path, evaluate: Evaluate) -> None:
    data = make_data(tmp_path / "d.jsonl")
    a, b, c, d = (
        make_store(tmp_path / name, data, 1, {(i, 0): f"#### {texts[i]}" for i in range(4)})
        for name, texts in {"a": "0129", "b": "0999", "c": "9999", "d": "0999"}.items()
    )
    result = evaluate(a, b, "--seeds", "--baseline", c, d)
    *runs, recipe = result.entries
    assert [entry["run"] for entry in runs] == [str(store) for store in (a, b, c, d)]
    assert recipe["seeds"] == [str(a), str(b)]
    assert recipe["baseline"] == [str(c), str(d)]
    # 75 and 25%; by problem 1, 1/2, 1/2, 0; the baseline 0 and 25%, by problem 1/2, 0, 0, 0
    mean = recipe["metrics"]["maj1@1"]
    keys = "value standard_error interval degrees_of_freedom standard_deviation lowest highest"
    assert list(mean) == keys.split()
    assert (mean["value"], mean["lowest"]) == (50.0, 25.0)
    variance = (1 / 6 / 4) + (1 / 8 / 2)
    assert mean["standard_error"] == pytest.approx(100 * variance**0.5)
    difference = recipe["difference_to_baseline"]["maj1@1"]
    # differences 1/2, 1/2, 1/2, 0: variance 1/16
    variance = (1 / 16 / 4) + (1 / 8 / 2) + (1 / 32 / 2)
    assert difference["value"] == 37.5
    assert difference["standard_error"] == pytest.approx(100 * variance**0.5)
    assert ["baseline", "2", "maj1@1", "12.5"] in [row[:4] for row in result.rows]
    assert ["difference", "-", "maj1@1", "+37.5"] in [row[:4] for row in result.rows]


def test_breakdowns_and_mistakes(tmp_path: Path, evaluate: Evaluate) -> None:
    errors_path = tmp_path / "e.jsonl"
    by = ("--breakdown", "level", "cut_off")
    result = evaluate(SCORED_BY_HAND, *by, "--errors_path", errors_path)
    breakdown = result.entries[0]["breakdown"]
    level_1, level_2 = breakdown["level"]
    assert level_1 == {
        "group": "Level 1",
        "n_problems": 2,
        "n_completions": 8,
        "metrics": level_1["metrics"],
    }
    assert level_1["metrics"]["mean@1"] == {"value": 62.5, "standard_error": 12.5}
    assert level_2["group"] == "Level 2"
    assert [row["n_completions"] for row in breakdown["cut_off"]] == [11, 1]
    assert ["Level", "1", "2", "8", "62.5", "±", "12.5"] in [row[:7] for row in result.rows]
    rows = read_rows(errors_path)
    assert [(row["problem_id"], row["sample_id"], row["category"]) for row in rows] == [
        (0, 0, "wrong_plan"),
        (1, 1, "arithmetic_slip"),
        (1, 2, "no_answer"),
        (1, 3, "wrong_plan"),
        (2, 1, "no_answer"),
        (2, 2, "arithmetic_slip"),
    ]
    assert (rows[2]["is_cut_off"], rows[2]["answer"], rows[2]["gold"]) == (True, None, "5")
    assert result.rows[-1][1:] == ["12", "6", "2", "1", "2", "2"]
    with pytest.raises(UserError, match=r"no row has the key 'lvl'.*steps, length, cut_off, level"):
        evaluate(SCORED_BY_HAND, "--breakdown", "lvl")


def test_graders_side_by_side(evaluate: Evaluate) -> None:
    result = evaluate(SCORED_BY_HAND, "--graders")
    (entry,) = result.entries
    assert entry["graders"]["strict"]["value"] == 50.0
    assert entry["graders"]["published"]["n_right_only_strict"] == 1  # $7
    assert "metrics" not in entry
    assert ["strict", "50.0", "±", "14.4", "16.7%"] in result.rows
    assert ["published", "0", "1"] in result.rows
    assert "problem 2, sample 0" in result.out
    assert "maj1@" not in result.out


def test_formulas_are_graded_and_vote_by_math_verify(tmp_path: Path, evaluate: Evaluate) -> None:
    data = tmp_path / "d.jsonl"
    data.write_text(json.dumps({"query": "q", "response": r"\boxed{\frac{1}{2}}"}) + "\n")
    halves = {(0, 0): r"\boxed{0.5}", (0, 1): r"\boxed{3}", (0, 2): r"\boxed{\dfrac12}"}
    store = make_store(tmp_path / "s", data, 3, halves)
    with pytest.raises(UserError, match=r"no \\boxed\{<number>\}; end.*--grader math_verify"):
        evaluate(store)
    metrics = evaluate(store, "--grader", "math_verify").entries[0]["metrics"]
    assert metrics["mean@1"]["value"] == pytest.approx(200 / 3)
    assert metrics["maj1@3"]["value"] == 100.0
    data.write_text(json.dumps({"query": "q", "response": "nothing"}) + "\n")
    store = make_store(tmp_path / "t", data, 3, halves)
    with pytest.raises(UserError, match=r"line 1 of the data: .* no '#### <formula>'"):
        evaluate(store, "--grader", "math_verify")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a", "--seeds"], "two or more SAMPLES"),
        (["a", "b", "--baseline", "c", "d"], "goes with --seeds"),
        (["a", "b", "--seeds", "--baseline", "c"], "two or more seeds"),
        (["a", "--changes_path", "c"], "two or more SAMPLES"),
        (["a", "--graders", "--breakdown", "steps"], "only the graders"),
        (["--breakdown", "steps"], "give SAMPLES"),
    ],
)
def test_options_that_do_not_go_together_end_with_status_2(
    arguments: list[str], message: str, evaluate: Evaluate, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        evaluate(*arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_an_unfinished_store_is_scored_only_if_allowed(tmp_path: Path, evaluate: Evaluate) -> None:
    texts = {key: text for key, text in TWO_SAMPLES.items() if key not in {(0, 0), (3, 0), (3, 1)}}
    store = make_store(tmp_path / "s", make_data(tmp_path / "d.jsonl"), 2, texts)
    with pytest.raises(UserError, match="3 of 8 samples are missing"):
        evaluate(store)
    _, err, (entry,) = evaluate(store, "--allow_partial")
    # K is the least number of samples of any problem that has some; of the others, all count
    assert (entry["n_problems"], entry["n_problems_left_out"], entry["n_samples"]) == (3, 1, 1)
    assert {name: m["value"] for name, m in entry["metrics"].items()} == {"mean@1": 50.0}
    assert (
        "scored 5 of 8 samples, 1 or more per problem; 1 problem without samples is left out: 3\n"
    ) in err
    empty = make_store(tmp_path / "empty", tmp_path / "d.jsonl", 2, {})
    for option in ("--grader=number", "--graders"):
        with pytest.raises(UserError, match="has no samples of these problems"):
            evaluate(empty, "--allow_partial", option)


def test_a_pool_too_large_for_exact_votes_is_cut_with_a_warning(
    tmp_path: Path, evaluate: Evaluate
) -> None:
    data = tmp_path / "d.jsonl"
    data.write_text(json.dumps({"query": "q", "response": "#### 1"}) + "\n")
    store = make_store(tmp_path / "s", data, 1001, {(0, j): f"#### {j % 3}" for j in range(1001)})
    _, err, (entry,) = evaluate(store)
    assert entry["n_samples"] == 1000
    assert "scored 1000 of 1001 samples" in err


def test_what_cannot_be_scored_or_written_is_refused(tmp_path: Path, evaluate: Evaluate) -> None:
    data = make_data(tmp_path / "d.jsonl")
    a, b = (make_store(tmp_path / name, data, 2, TWO_SAMPLES) for name in "ab")
    for path in (data, a / "samples-0.jsonl"):
        with pytest.raises(UserError, match="is an input"):
            evaluate(a, "--errors_path", path)
    for path in (tmp_path / "m.json", tmp_path / "m.run.json"):
        with pytest.raises(UserError, match="give another path to write to"):
            evaluate(a, b, "--changes_path", path)
    assert not (tmp_path / "m.json").exists()
    (tmp_path / "link").symlink_to(a)
    with pytest.raises(UserError, match="given twice"):  # two equal seeds would have no spread
        evaluate(a, tmp_path / "link", "--seeds")
    manifest = json.loads((a / "manifest.json").read_text())
    write_json(a / "manifest.json", manifest | {"until_correct": True, "finished": True})
    with pytest.raises(UserError, match="sampled with --until_correct"):
        evaluate(a)
    data.unlink()
    with pytest.raises(UserError, match=r"d\.jsonl"):
        evaluate(b)


def test_dry_run_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = ("--output_path", tmp_path / "m.json")
    monkeypatch.setattr("sys.argv", ["eval.py", *map(str, (*VOTES, *output)), "--dry_run"])
    eval_script.main()
    assert list(tmp_path.iterdir()) == []
    printed = capsys.readouterr().out
    assert "dry_run: true" in printed
    assert "votes: 8 samples" in printed
    assert "maj1@" not in printed


def test_without_samples_every_store_under_runs_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["eval.py"])
    eval_script.main()
    assert capsys.readouterr().out.startswith("no samples under ./runs yet; make some: bash ")
    data = make_data(tmp_path / "d.jsonl")
    make_store(Path("runs/x/done"), data, 2, TWO_SAMPLES)
    make_store(Path("runs/x/half"), data, 2, {(0, 0): "#### 0"})
    many = {(i, j): "#### 0" for i in range(4) for j in range(3)}
    make_store(Path("runs/x/large"), data, 3, many)
    monkeypatch.setattr("screl.scoring.runs.MAX_SCORED", 8)
    gone = make_data(tmp_path / "gone.jsonl")
    make_store(Path("runs/moved"), gone, 2, TWO_SAMPLES)
    gone.unlink()
    Path("runs/broken").mkdir()
    Path("runs/broken/manifest.json").write_text("{")
    eval_script.main()
    _, broken, moved, done, half, large = capsys.readouterr().out.splitlines()
    assert broken.startswith("runs/broken ")
    assert "not valid JSON" in broken
    assert "8 of 8" in moved
    assert "not scored" in moved
    assert "models/tiny" in done
    assert "maj1@2 62.5 ± 23.9" in done
    assert "1 of 8" in half
    assert half.endswith(" unfinished")
    assert large.endswith("not scored here (many samples): python eval.py runs/x/large")


def test_help_and_exit_statuses(tmp_path: Path) -> None:
    result = run_script("eval.py", "--help")
    assert result.returncode == 0
    assert "SAMPLES" in result.stdout
    result = run_script("eval.py", VOTES[0])
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {VOTES[0]} is not a sample store; ")
    broken = tmp_path / "raw_generation_greedy.json"
    broken.write_text("{no\n" * 80)
    result = run_script("eval.py", broken, *VOTES[1:])
    assert (result.returncode, result.stdout) == (1, "")
    _, progress, error = result.stderr.splitlines()
    assert progress.startswith(f"{broken}: 1 greedy sample")
    assert error.startswith(f"error: {broken}:1: expected [[prompt, completion]]")

"""eval.py: published scores, metrics.json, what it says where it cannot score."""

import json
from pathlib import Path
from typing import Any

import pytest

import eval as eval_script
from screl.core.io import UserError, file_sha256, write_json
from screl.samples.store import Sample, SampleWriter
from tests.conftest import ROOT, run_script

GOLDEN = Path(__file__).parents[1] / "data/golden"
PROBLEMS = GOLDEN / "problems.jsonl"
VOTES = GOLDEN / "votes"


def score(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr("sys.argv", ["eval.py", *map(str, arguments)])
    eval_script.main()


def make_data(path: Path) -> Path:
    rows = [{"query": f"What is {i}?", "response": f"#### {i}"} for i in range(4)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def make_store(
    folder: Path, data: Path, n_samples: int, texts: dict[tuple[int | str, int], str]
) -> Path:
    """A store of ``texts`` by (problem_id, sample_id); '...' at the end means cut off."""
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


# worked by hand: problem 0 has 2 of 2 right, 1 a tie, 2 no vote for it, 3 one answer, right
TWO_SAMPLES = {
    **{(0, 0): "#### 0", (0, 1): "#### 0.0"},
    **{(1, 0): "#### 7", (1, 1): "#### 1"},
    **{(2, 0): "#### 9", (2, 1): "#### 9"},
    **{(3, 0): "and so on ...", (3, 1): "#### 3"},
}


def test_paper_reproduces_the_published_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "metrics.json"
    arguments = ("--data_path", PROBLEMS, "--fidelity", "paper", "--output_path", output)
    score(monkeypatch, VOTES, *arguments)
    (entry,) = json.loads(output.read_text())
    expected = json.loads((GOLDEN / "expected_votes.json").read_text())
    metrics = entry.pop("metrics")
    assert entry == {
        "run": str(VOTES),
        "data_path": str(PROBLEMS),
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
    info = json.loads((tmp_path / "metrics.run.json").read_text())
    assert info["config"]["fidelity"] == "paper"
    cost = info["results"]["cost"]
    assert (cost["flops"], cost["tokens"], cost["device"]) == (0, 0, "cpu")
    assert cost["device_seconds"] > 0
    assert "43.8 ± 5.6  48.9 ± 2.0  66.2 ± 5.3" in capsys.readouterr().out


def test_every_number_worked_out_in_the_readme_of_the_fixture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """tests/data/scorer/README.md: 18, 18.0 and 18., ties, and samples without an answer."""
    monkeypatch.chdir(ROOT)
    third = 100 / 3
    expected = {
        "strict": {
            **{"mean@1": 50, "maj1@2": 700 / 12, "maj1@3": 2 * third, "maj1@4": 2 * third},
            **{"pass@2": 700 / 9, "pass@3": 1100 / 12, "pass@4": 100},
        },
        "paper": {
            **{"mean@1": 500 / 12, "maj1@2": third, "maj1@3": third, "maj1@4": 0},
            **{"pass@2": 2 * third, "pass@3": 2.5 * third, "pass@4": 100},
        },
    }
    for fidelity, values in expected.items():
        output = tmp_path / f"{fidelity}.json"
        store = "tests/data/scorer/samples"
        score(monkeypatch, store, "--fidelity", fidelity, "--output_path", output)
        (entry,) = json.loads(output.read_text())
        found = {name: metric["value"] for name, metric in entry["metrics"].items()}
        assert found == pytest.approx(values)
    strict = json.loads((tmp_path / "strict.json").read_text())[0]["metrics"]
    assert strict["mean@1"]["standard_error"] == pytest.approx(14.43, abs=0.01)
    assert strict["pass@4"]["interval"] == pytest.approx([100 * 0.025 ** (1 / 3), 100])


def test_a_store_gives_mean_vote_and_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = make_store(tmp_path / "s", make_data(tmp_path / "d.jsonl"), 2, TWO_SAMPLES)
    score(monkeypatch, store, "--output_path", tmp_path / "m.json")  # data_path of the manifest
    (entry,) = json.loads((tmp_path / "m.json").read_text())
    metrics: dict[str, Any] = entry["metrics"]
    assert (entry["fidelity"], entry["n_problems"], entry["n_samples"]) == ("strict", 4, 2)
    assert {name: m["value"] for name, m in metrics.items()} == {
        "mean@1": 50.0,
        "maj1@2": 62.5,
        "pass@2": 75.0,
    }
    assert "n_correct" not in metrics["maj1@2"]
    assert metrics["pass@2"]["n_correct"] == 3
    table = capsys.readouterr().out.splitlines()
    header = "run problems K mean@1 maj1@K pass@K no answer cut off"
    assert " ".join(table[0].split()) == header
    assert table[1].endswith("62.5 ± 23.9  75.0 ± 25.0      12.5%    12.5%")
    assert [line.split()[1] for line in table[3:6]] == ["k", "1", "2"]
    assert "50.0 ± 20.4" in table[4]  # mean@1: scores 1, 1/2, 0, 1/2
    assert "62.5 ± 23.9" in table[5]


def test_later_runs_are_compared_with_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_data(tmp_path / "d.jsonl")
    right = make_store(tmp_path / "a", data, 1, {(i, 0): f"#### {i}" for i in range(4)})
    wrong = make_store(tmp_path / "b", data, 1, {(i, 0): "#### 0" for i in range(4)})
    outputs = ("--output_path", tmp_path / "m.json", "--changes_path", tmp_path / "c.jsonl")
    score(monkeypatch, wrong, right, *outputs)
    entries = json.loads((tmp_path / "m.json").read_text())
    assert [list(entry["metrics"]) for entry in entries] == [["maj1@1"]] * 2
    assert [entry["metrics"]["maj1@1"]["n_correct"] for entry in entries] == [1, 4]
    # three of four problems differ: mean .75, standard deviation .5, over the root of 4; a coin
    # falls three times on the same side with 2 / 8
    difference = entries[1]["difference_to_first"]["maj1@1"]
    assert (difference["value"], difference["standard_error"]) == (75.0, 25.0)
    assert (difference["n_gained"], difference["n_lost"], difference["p_value"]) == (3, 0, 0.25)
    printed = capsys.readouterr().out
    rows = [line.split() for line in printed.splitlines()]
    assert ["a", "maj1@1", "+75.0", "±", "25.0"] in [row[:5] for row in rows]
    assert printed.endswith(f"{right}, maj1@1, gained: 1, 2, 3\n")
    changed = [json.loads(line) for line in (tmp_path / "c.jsonl").read_text().splitlines()]
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


def test_runs_of_different_k_are_compared_at_the_lesser(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_data(tmp_path / "d.jsonl")
    two = make_store(tmp_path / "two", data, 2, TWO_SAMPLES)
    three = make_store(
        tmp_path / "three", data, 3, {(i, j): "#### 1" for i in range(4) for j in range(3)}
    )
    outputs = ("--output_path", tmp_path / "m.json", "--changes_path", tmp_path / "c.jsonl")
    score(monkeypatch, three, two, *outputs)
    difference = json.loads((tmp_path / "m.json").read_text())[1]["difference_to_first"]
    assert list(difference) == ["mean@1", "maj1@2", "pass@2"]
    assert difference["maj1@2"]["value"] == pytest.approx(62.5 - 25)
    assert difference["maj1@2"]["p_value"] is None  # problem 1 is a tie
    changed = [json.loads(line) for line in (tmp_path / "c.jsonl").read_text().splitlines()]
    assert [(row["problem_id"], row["first"], row["second"]) for row in changed] == [
        (0, 0.0, 1.0),
        (1, 1.0, 0.5),
        (3, 0.0, 1.0),
    ]
    assert changed[1]["metric"] == "maj1@2"
    assert (changed[1]["first_answer"], changed[1]["second_answer"]) == (None, "7 or 1")


def test_runs_over_other_problems_are_not_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    a = make_store(tmp_path / "a", make_data(tmp_path / "d.jsonl"), 2, TWO_SAMPLES)
    b = make_store(tmp_path / "b", make_data(tmp_path / "e.jsonl"), 2, TWO_SAMPLES)
    score(monkeypatch, a, b)
    assert f"{b} is not compared with {a}: other problems" in capsys.readouterr().out


def test_seeds_and_their_baseline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_data(tmp_path / "d.jsonl")
    stores = {
        name: make_store(tmp_path / name, data, 1, {(i, 0): f"#### {texts[i]}" for i in range(4)})
        for name, texts in {"a": "0129", "b": "0999", "c": "9999", "d": "0999"}.items()
    }
    a, b, c, d = stores.values()
    score(monkeypatch, a, b, "--seeds", "--baseline", c, d, "--output_path", tmp_path / "m.json")
    entries = json.loads((tmp_path / "m.json").read_text())
    assert [entry["run"] for entry in entries[:-1]] == [str(store) for store in (a, b, c, d)]
    recipe = entries[-1]
    assert recipe["seeds"] == [str(a), str(b)]
    # 75 and 25 %; by problem 1, 1/2, 1/2, 0; the baseline 0 and 25 %, by problem 1/2, 0, 0, 0
    assert recipe["metrics"]["maj1@1"]["value"] == 50.0
    assert recipe["metrics"]["maj1@1"]["lowest"] == 25.0
    variance = (1 / 6 / 4) + (1 / 8 / 2)
    assert recipe["metrics"]["maj1@1"]["standard_error"] == pytest.approx(100 * variance**0.5)
    difference = recipe["difference_to_baseline"]["maj1@1"]
    # differences 1/2, 1/2, 1/2, 0: variance 1/16
    variance = (1 / 16 / 4) + (1 / 8 / 2) + (1 / 32 / 2)
    assert difference["value"] == 37.5
    assert difference["standard_error"] == pytest.approx(100 * variance**0.5)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["baseline", "2", "maj1@1", "12.5"] in [row[:4] for row in rows]
    assert ["difference", "-", "maj1@1", "+37.5"] in [row[:4] for row in rows]


def test_seeds_of_other_problems_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = make_store(tmp_path / "a", make_data(tmp_path / "d.jsonl"), 2, TWO_SAMPLES)
    b = make_store(tmp_path / "b", make_data(tmp_path / "e.jsonl"), 2, TWO_SAMPLES)
    with pytest.raises(UserError, match="scored other problems than"):
        score(monkeypatch, a, b, "--seeds")


def test_breakdowns_go_to_the_terminal_and_to_metrics_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    store = "tests/data/scorer/samples"
    by = ("--breakdown", "level", "cut_off")
    score(monkeypatch, store, *by, "--output_path", tmp_path / "m.json")
    breakdown = json.loads((tmp_path / "m.json").read_text())[0]["breakdown"]
    assert [row["group"] for row in breakdown["level"]] == ["Level 1", "Level 2"]
    assert breakdown["level"][0]["metrics"]["mean@1"] == {"value": 62.5, "standard_error": 12.5}
    assert [row["n_completions"] for row in breakdown["cut_off"]] == [11, 1]
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["Level", "1", "2", "8", "62.5", "±", "12.5"] in [row[:7] for row in rows]
    with pytest.raises(UserError, match=r"no row has the key 'lvl'.*steps, length, cut_off, level"):
        score(monkeypatch, store, "--breakdown", "lvl")


def test_wrong_completions_are_written_with_their_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    score(monkeypatch, "tests/data/scorer/samples", "--errors_path", tmp_path / "e.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "e.jsonl").read_text().splitlines()]
    assert [(row["problem_id"], row["sample_id"], row["category"]) for row in rows] == [
        (0, 0, "wrong_plan"),
        (1, 1, "arithmetic_slip"),
        (1, 2, "no_answer"),
        (1, 3, "wrong_plan"),
        (2, 1, "no_answer"),
        (2, 2, "arithmetic_slip"),
    ]
    assert (rows[2]["is_cut_off"], rows[2]["answer"], rows[2]["gold"]) == (True, None, "5")
    assert capsys.readouterr().out.splitlines()[-1].split()[1:] == ["12", "6", "2", "1", "2", "2"]


def test_graders_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    store = "tests/data/scorer/samples"
    score(monkeypatch, store, "--graders", "--output_path", tmp_path / "m.json")
    (entry,) = json.loads((tmp_path / "m.json").read_text())
    assert entry["graders"]["strict"]["value"] == 50.0
    assert entry["graders"]["published"]["n_right_only_strict"] == 1  # $7
    assert "metrics" not in entry
    printed = capsys.readouterr().out
    assert "problem 2, sample 0" in printed
    assert "maj1@" not in printed


def test_formulas_are_graded_and_vote_by_math_verify(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "d.jsonl"
    row = {"query": "q", "response": r"\boxed{\frac{1}{2}}"}
    data.write_text(json.dumps(row) + "\n")
    halves = {(0, 0): r"\boxed{0.5}", (0, 1): r"\boxed{3}", (0, 2): r"\boxed{\dfrac12}"}
    store = make_store(tmp_path / "s", data, 3, halves)
    with pytest.raises(UserError, match=r"no '#### <number>'.*for formulas.*--grader math_verify"):
        score(monkeypatch, store)
    score(monkeypatch, store, "--grader", "math_verify", "--output_path", tmp_path / "m.json")
    metrics = json.loads((tmp_path / "m.json").read_text())[0]["metrics"]
    assert metrics["mean@1"]["value"] == pytest.approx(200 / 3)
    assert metrics["maj1@3"]["value"] == 100.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a", "--seeds"], "two or more SAMPLES"),
        (["a", "b", "--baseline", "c", "d"], "goes with --seeds"),
        (["a", "b", "--seeds", "--baseline", "c"], "two or more seeds"),
        (["a", "--changes_path", "c"], "two or more SAMPLES"),
        (["a", "--graders", "--breakdown", "steps"], "its panel only"),
        (["--output_path", "m.json"], "give SAMPLES"),
    ],
)
def test_options_that_do_not_go_together_end_with_status_2(
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stopped:
        score(monkeypatch, *arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_an_unfinished_store_is_scored_only_if_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = {key: text for key, text in TWO_SAMPLES.items() if key not in {(0, 0), (3, 0), (3, 1)}}
    store = make_store(tmp_path / "s", make_data(tmp_path / "d.jsonl"), 2, texts)
    with pytest.raises(UserError, match="3 of 8 samples are missing"):
        score(monkeypatch, store)
    score(monkeypatch, store, "--allow_partial", "--output_path", tmp_path / "m.json")
    (entry,) = json.loads((tmp_path / "m.json").read_text())
    # K is what the poorest problem with samples has, one; of the others all samples count
    assert (entry["n_problems"], entry["n_problems_left_out"], entry["n_samples"]) == (3, 1, 1)
    assert {name: m["value"] for name, m in entry["metrics"].items()} == {"mean@1": 50.0}
    warning = "scored 5 of 8 samples, 1 or more of each problem; 1 problems have none and are left"
    assert f"{warning} out: 3\n" in capsys.readouterr().err
    empty = make_store(tmp_path / "empty", tmp_path / "d.jsonl", 2, {})
    with pytest.raises(UserError, match="holds no samples of these problems"):
        score(monkeypatch, empty, "--allow_partial")


def test_completions_never_join_other_data_by_row_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same rows in another order would score other problems."""
    data = make_data(tmp_path / "d.jsonl")
    store = make_store(tmp_path / "s", data, 2, TWO_SAMPLES)
    lines = data.read_text().splitlines()[::-1]
    reverse = tmp_path / "reverse.jsonl"
    reverse.write_text("".join(line + "\n" for line in lines))
    with pytest.raises(UserError, match="no problem_id to join by"):
        score(monkeypatch, store, "--data_path", reverse)


def test_named_problems_are_joined_by_id_whatever_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"query": "q", "response": f"#### {i}", "problem_id": f"p{i}"} for i in range(4)]
    data, reverse = tmp_path / "d.jsonl", tmp_path / "reverse.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    reverse.write_text("".join(json.dumps(row) + "\n" for row in rows[::-1]))
    store = make_store(tmp_path / "s", data, 1, {(f"p{i}", 0): f"#### {i}" for i in range(4)})
    score(monkeypatch, store, "--data_path", reverse)
    printed = capsys.readouterr()
    assert "100.0 [39.8, 100.0]" in printed.out
    assert "warning: " in printed.err


def test_the_inputs_are_never_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_data(tmp_path / "d.jsonl")
    store = make_store(tmp_path / "s", data, 2, TWO_SAMPLES)
    for path in (data, store / "samples-0.jsonl"):
        with pytest.raises(UserError, match="is an input; give another path to write to"):
            score(monkeypatch, store, "--data_path", data, "--output_path", path)
        with pytest.raises(UserError, match="is an input; give another path to write to"):
            score(monkeypatch, store, "--output_path", path)  # the data that the store names
    for _ in range(2):  # metrics may lie beside the samples, and be written again
        score(monkeypatch, store, "--output_path", store / "metrics.json")


def test_a_store_whose_data_is_gone_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tmp_path / "s", make_data(tmp_path / "d.jsonl"), 2, TWO_SAMPLES)
    (tmp_path / "d.jsonl").unlink()
    with pytest.raises(UserError, match=r"its data, .*d\.jsonl, is not there; give --data_path"):
        score(monkeypatch, store)


def test_dry_run_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "m.json"
    score(monkeypatch, VOTES, "--data_path", PROBLEMS, "--output_path", output, "--dry_run")
    assert list(tmp_path.iterdir()) == []
    printed = capsys.readouterr().out
    assert "dry_run: true" in printed
    assert "votes: 8 samples of each of 80 problems" in printed
    assert "maj1@" not in printed


def test_without_samples_every_store_under_runs_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    score(monkeypatch)
    assert capsys.readouterr().out.startswith("no samples under ./runs yet; make some: bash ")
    data = make_data(tmp_path / "d.jsonl")
    make_store(Path("runs/x/done"), data, 2, TWO_SAMPLES)
    make_store(Path("runs/x/half"), data, 2, {(0, 0): "#### 0"})
    gone = make_data(tmp_path / "gone.jsonl")
    make_store(Path("runs/moved"), gone, 2, TWO_SAMPLES)
    gone.unlink()
    Path("runs/broken").mkdir()
    Path("runs/broken/manifest.json").write_text("{")
    score(monkeypatch)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [
        "run",
        *("runs/broken", "runs/moved", "runs/x/done", "runs/x/half"),
    ]
    assert "not valid JSON" in lines[1]
    assert "8 of 8" in lines[2]
    assert "not scored" in lines[2]
    assert "models/tiny" in lines[3]
    assert "maj1@2 62.5 ± 23.9" in lines[3]
    assert "1 of 8" in lines[4]
    assert lines[4].endswith(" unfinished")


def test_large_stores_are_listed_and_not_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("screl.scoring.runs.MAX_SCORED", 7)
    make_store(Path("runs/large"), make_data(tmp_path / "d.jsonl"), 2, TWO_SAMPLES)
    score(monkeypatch)
    line = capsys.readouterr().out.splitlines()[1]
    assert "8 of 8" in line
    assert line.endswith("not scored here (many samples): python eval.py runs/large")


def test_a_pool_too_large_for_exact_votes_is_cut_and_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "d.jsonl"
    data.write_text(json.dumps({"query": "q", "response": "#### 1"}) + "\n")
    store = make_store(tmp_path / "s", data, 1001, {(0, j): f"#### {j % 3}" for j in range(1001)})
    score(monkeypatch, store, "--output_path", tmp_path / "m.json")
    assert json.loads((tmp_path / "m.json").read_text())[0]["n_samples"] == 1000
    assert "scored 1000 of 1001 samples" in capsys.readouterr().err


def test_help_and_exit_statuses(tmp_path: Path) -> None:
    result = run_script("eval.py", "--help")
    assert result.returncode == 0
    assert "SAMPLES" in result.stdout
    result = run_script("eval.py", VOTES)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"error: {VOTES} is not a sample store; say --data_path TEST.jsonl\n"
    broken = tmp_path / "raw_generation_greedy.json"
    broken.write_text("{no\n" * 80)
    result = run_script("eval.py", broken, "--data_path", PROBLEMS)
    assert (result.returncode, result.stdout) == (1, "")
    *progress, error = result.stderr.splitlines()
    assert error.startswith(f"error: {broken}:1: expected [[prompt, completion]]")
    assert progress == [f"{broken}: 1 greedy sample of each of 80 problems"]


def test_two_outputs_into_one_file_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_data(tmp_path / "d.jsonl")
    a, b = (make_store(tmp_path / name, data, 2, TWO_SAMPLES) for name in "ab")
    out, run_info = tmp_path / "o.json", tmp_path / "o.run.json"
    for option, other in (
        ("--errors_path", out),
        ("--errors_path", run_info),
        ("--changes_path", out),
    ):
        with pytest.raises(UserError, match="give another path to write to"):
            score(monkeypatch, a, b, "--output_path", out, option, other)
    assert not out.exists()


@pytest.mark.parametrize("option", ["--seeds", "--fidelity=strict"])
def test_a_run_given_twice_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    """As two seeds it would have no spread, whatever the recipe."""
    store = make_store(tmp_path / "s", make_data(tmp_path / "d.jsonl"), 2, TWO_SAMPLES)
    (tmp_path / "link").symlink_to(store)
    with pytest.raises(UserError, match="given twice"):
        score(monkeypatch, store, tmp_path / "link", option)

"""eval.py: published scores, metrics.json, what it says where it cannot score."""

import json
from pathlib import Path
from typing import Any

import pytest

import eval as eval_script
from screl.files import UserError, file_sha256, write_json
from screl.store import Sample, SampleWriter
from tests.conftest import run_script

GOLDEN = Path(__file__).parent / "data/golden"
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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
        "n_problems": 80,
        "n_samples": 8,
    }
    assert list(metrics) == ["maj1@1", "maj1@8", "pass@8"]
    assert metrics["maj1@1"]["n_correct"] == expected["greedy_correct"] == 35
    assert metrics["maj1@8"]["n_correct"] == expected["majority_correct"] == 53
    assert metrics["maj1@8"]["value"] == 100 * 53 / 80
    assert metrics["maj1@8"]["standard_error"] == pytest.approx(5.320, abs=1e-3)
    assert json.loads((tmp_path / "metrics.run.json").read_text())["config"]["fidelity"] == "paper"


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
    header = "run problems samples mean@1 maj1@2 pass@2 no answer cut off"
    assert " ".join(table[0].split()) == header
    assert table[1].endswith("62.5 ± 23.9  75.0 ± 25.0      12.5%    12.5%")


def test_a_greedy_store_gives_maj1_at_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_data(tmp_path / "d.jsonl")
    right = make_store(tmp_path / "a", data, 1, {(i, 0): f"#### {i}" for i in range(4)})
    wrong = make_store(tmp_path / "b", data, 1, {(i, 0): "#### 0" for i in range(4)})
    score(monkeypatch, wrong, right, "--output_path", tmp_path / "m.json")
    entries = json.loads((tmp_path / "m.json").read_text())
    assert [list(entry["metrics"]) for entry in entries] == [["maj1@1"]] * 2
    assert [entry["metrics"]["maj1@1"]["n_correct"] for entry in entries] == [1, 4]
    # three of four problems differ: mean .75, standard deviation .5, over the root of 4
    assert capsys.readouterr().out.endswith("maj1@1  +75.0 ± 25.0\n")


def test_an_unfinished_store_is_scored_only_if_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = {key: text for key, text in TWO_SAMPLES.items() if key not in {(0, 0), (3, 0), (3, 1)}}
    store = make_store(tmp_path / "s", make_data(tmp_path / "d.jsonl"), 2, texts)
    with pytest.raises(UserError, match="3 of 8 samples are missing"):
        score(monkeypatch, store)
    score(monkeypatch, store, "--allow_partial", "--output_path", tmp_path / "m.json")
    (entry,) = json.loads((tmp_path / "m.json").read_text())
    # every problem that has samples counts with as many as the poorest has: one
    assert (entry["n_problems"], entry["n_samples"]) == (3, 1)
    assert {name: m["n_correct"] for name, m in entry["metrics"].items()} == {"mean@1": 1}
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
    assert "100.0 ±" in printed.out
    assert "warning: " in printed.err


def test_the_inputs_are_never_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_data(tmp_path / "d.jsonl")
    store = make_store(tmp_path / "s", data, 2, TWO_SAMPLES)
    for path in (data, store / "samples-0.jsonl"):
        with pytest.raises(UserError, match="is an input; give another --output_path"):
            score(monkeypatch, store, "--data_path", data, "--output_path", path)
        with pytest.raises(UserError, match="is an input; give another --output_path"):
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


def test_help_and_exit_statuses(tmp_path: Path) -> None:
    result = run_script("eval.py", "--help")
    assert result.returncode == 0
    assert "SAMPLES" in result.stdout
    result = run_script("eval.py", VOTES)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"error: {VOTES} is not a sample store; say --data_path TEST.jsonl\n"
    broken = tmp_path / "raw_generation_greedy.json"
    broken.write_text("{\n")
    result = run_script("eval.py", broken, "--data_path", PROBLEMS)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith(f"error: {broken}:1: expected [[prompt, completion]]")

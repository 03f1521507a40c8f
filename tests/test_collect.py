"""collect_rejection_sampling.py: byte for byte what was published, and one line for bad input."""

import json
from pathlib import Path

import pytest

import collect_rejection_sampling
from screl.answers import Fidelity
from screl.files import UserError
from tests.conftest import run_script

GOLDEN = Path(__file__).parent / "data/golden"
PROBLEMS = GOLDEN / "problems.jsonl"


def collect(
    monkeypatch: pytest.MonkeyPatch, output: Path, *samples: Path, options: tuple[str, ...] = ()
) -> list[dict[str, str]]:
    """Run main; the rows it wrote, none if it wrote none."""
    arguments = ["--data_path", PROBLEMS, "--output_path", output, "--samples", *samples]
    monkeypatch.setattr("sys.argv", ["collect", *map(str, arguments), *options])
    collect_rejection_sampling.main()
    return [json.loads(line) for line in output.read_text().splitlines()] if output.exists() else []


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (["model_a"], "expected_model_a.jsonl"),
        (["model_b"], "expected_model_b.jsonl"),
        (["model_a", "model_b"], "expected_union.jsonl"),
    ],
)
def test_paper_reproduces_the_published_files_byte_for_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folders: list[str], expected: str
) -> None:
    output = tmp_path / "rft.jsonl"
    paths = [GOLDEN / folder for folder in folders]
    collect(monkeypatch, output, *paths, options=("--fidelity", "paper"))
    assert output.read_bytes() == (GOLDEN / expected).read_bytes()


def test_the_funnel_is_printed_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new/rft.jsonl"
    rows = collect(monkeypatch, output, GOLDEN / "model_a", options=("--fidelity", "paper"))
    run = json.loads((tmp_path / "new/rft.run.json").read_text())
    results = run["results"]
    assert run["config"]["samples"] == [str(GOLDEN / "model_a")]
    assert results["n_sampled"] == 24 * 80
    assert results["n_rows"] == len(rows) == 80 + results["n_distinct"]
    counts = [
        results[f"n_{step}"] for step in ("sampled", "answered", "right", "valid", "distinct")
    ]
    assert counts == sorted(counts, reverse=True)
    printed = capsys.readouterr()
    lines = [line.split() for line in printed.out.splitlines()]
    assert ["right", str(results["n_right"]), f"{results['n_right'] / 80:.2f}"] in lines
    assert "24 samples of each of 80 problems" in printed.err


def test_strict_is_the_default_and_independent_of_the_order_of_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = GOLDEN / "model_a", GOLDEN / "model_b"
    rows = collect(monkeypatch, tmp_path / "ab.jsonl", a, b)
    assert rows == collect(monkeypatch, tmp_path / "ba.jsonl", b, a)
    assert rows == collect(
        monkeypatch, tmp_path / "s.jsonl", a, b, options=("--fidelity", "strict")
    )
    assert rows != collect(monkeypatch, tmp_path / "p.jsonl", a, b, options=("--fidelity", "paper"))
    golds = [json.loads(line) for line in PROBLEMS.read_text().splitlines()]
    assert [row for row in rows if row in golds] == golds


@pytest.mark.parametrize("fidelity", ["strict", "paper"])
def test_k_uses_nested_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fidelity: Fidelity
) -> None:
    n_rows = []
    for k in (1, 6, 24):
        options = ("--k", str(k), "--fidelity", fidelity)
        rows = collect(monkeypatch, tmp_path / f"{k}.jsonl", GOLDEN / "model_a", options=options)
        n_rows.append(len(rows))
        results = json.loads((tmp_path / f"{k}.run.json").read_text())["results"]
        assert results["n_sampled"] == k * 80
    assert 80 < n_rows[0] <= 160
    assert n_rows == sorted(set(n_rows))


def test_dry_run_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "rft.jsonl"
    assert collect(monkeypatch, output, GOLDEN / "model_a", options=("--dry_run",)) == []
    assert list(tmp_path.iterdir()) == []
    printed = capsys.readouterr().out
    assert "fidelity: strict" in printed
    assert "model_a: 24 samples of each of 80 problems" in printed


def test_options_that_contradict_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = GOLDEN / "model_a"
    with pytest.raises(UserError, match="model_a: given twice"):
        collect(monkeypatch, tmp_path / "x.jsonl", a, a)
    with pytest.raises(UserError, match="--k 25 is not among them"):
        collect(monkeypatch, tmp_path / "x.jsonl", a, options=("--k", "25"))
    with pytest.raises(UserError, match="--k 0 is not among them"):
        collect(monkeypatch, tmp_path / "x.jsonl", a, options=("--k", "0"))
    before = PROBLEMS.read_bytes()
    with pytest.raises(UserError, match="is an input; give another"):
        collect(monkeypatch, PROBLEMS, a)
    assert PROBLEMS.read_bytes() == before
    assert list(tmp_path.iterdir()) == []


def test_a_failed_run_leaves_the_old_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "rft.jsonl"
    output.write_text("{}\n")
    with pytest.raises(UserError, match="neither a sample store"):
        collect(monkeypatch, output, GOLDEN / "votes")
    assert output.read_text() == "{}\n"


def test_help_and_exit_statuses(tmp_path: Path) -> None:
    script = "collect_rejection_sampling.py"
    result = run_script(script, "--help")
    assert result.returncode == 0
    assert "--fidelity {strict,paper}" in result.stdout
    arguments = ["--data_path", PROBLEMS, "--output_path", tmp_path / "x.jsonl", "--samples"]
    result = run_script(script, *arguments, tmp_path / "nowhere")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"error: {tmp_path}/nowhere: no such file or folder; check the path\n"
    assert run_script(script, *arguments[:-1]).returncode == 2

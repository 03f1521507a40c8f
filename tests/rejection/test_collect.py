"""collect_rejection_sampling.py: the published files byte for byte; bad input is one line."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import collect_rejection_sampling
from screl.core.io import UserError
from screl.core.problems import load_problems
from screl.grading.answers import Fidelity
from screl.samples.reader import open_runs, read_completions
from tests.conftest import run_script

GOLDEN = Path(__file__).parents[1] / "data/golden"
PROBLEMS = GOLDEN / "problems.jsonl"


def collect(
    monkeypatch: pytest.MonkeyPatch, output: Path, *samples: Path, options: tuple[str, ...] = ()
) -> list[dict[str, str]]:
    """Run main and return the rows of the output, none if it does not exist."""
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


def results_of(output: Path) -> dict[str, Any]:
    results: dict[str, Any] = json.loads(output.with_suffix(".run.json").read_text())["results"]
    return results


def test_the_funnel_is_printed_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new/rft.jsonl"
    rows = collect(monkeypatch, output, GOLDEN / "model_a", options=("--fidelity", "paper"))
    run = json.loads((tmp_path / "new/rft.run.json").read_text())
    assert run["config"]["samples"] == [str(GOLDEN / "model_a")]
    (report,) = run["results"]["runs"]
    funnel = report["funnel"]
    assert funnel["n_sampled"] == 24 * 80
    assert run["results"]["n_rows"] == len(rows) == 80 + funnel["n_kept"]
    assert list(funnel.values()) == sorted(funnel.values(), reverse=True)
    assert sum(report["solved"].values()) == 80
    printed = capsys.readouterr()
    lines = [line.split() for line in printed.out.splitlines()]
    assert [str(GOLDEN / "model_a"), *map(str, funnel.values())] in lines
    assert f"{len(rows)} rows = 80 solutions + {funnel['n_kept']} paths" in printed.out
    assert "24 samples of each of 80 problems" in printed.err


def test_every_row_has_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = GOLDEN / "model_a", GOLDEN / "model_b"
    rows = collect(monkeypatch, tmp_path / "rft.jsonl", a, b)
    sources = [json.loads(line) for line in (tmp_path / "rft.sources.jsonl").open()]
    problems = load_problems(PROBLEMS)
    texts = {
        str(path): [
            {sample.sample_id: sample.completion for sample in of_run}
            for _, (of_run,) in read_completions(
                problems, open_runs(path, problems, "train"), 0, len(problems)
            )
        ]
        for path in (a, b)
    }
    for row, source in zip(rows, sources, strict=True):
        problem = problems[source["problem_id"]]
        assert row["query"] == problem.question
        if source["source"] == "solution":
            assert source["sample_id"] is None
            assert row["response"] == problem.solution
        else:
            assert (
                row["response"] == texts[source["source"]][problem.problem_id][source["sample_id"]]
            )
    assert {source["source"] for source in sources} == {"solution", str(a), str(b)}


def test_a_union_counts_the_paths_that_only_one_run_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collect(monkeypatch, tmp_path / "rft.jsonl", GOLDEN / "model_a", GOLDEN / "model_b")
    results = results_of(tmp_path / "rft.jsonl")
    names = [report["name"] for report in results["runs"]]
    assert names == [str(GOLDEN / "model_a"), str(GOLDEN / "model_b"), "all"]
    cells = {len(cell["runs"]): 0 for cell in results["shared_paths"]}
    for cell in results["shared_paths"]:
        cells[len(cell["runs"])] += cell["n_paths"]
    assert cells[1] == sum(report["n_exclusive"] for report in results["runs"][:2])
    assert sum(cells.values()) == results["runs"][2]["funnel"]["n_distinct"]


@pytest.mark.parametrize("fidelity", ["strict", "paper"])
def test_the_number_of_processes_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fidelity: Fidelity
) -> None:
    written = set()
    for n in ("1", "2", "5"):
        options = ("--fidelity", fidelity, "--n_workers", n)
        collect(monkeypatch, tmp_path / "rft.jsonl", GOLDEN / "model_a", options=options)
        names = ("rft.jsonl", "rft.sources.jsonl")
        written.add(tuple((tmp_path / name).read_bytes() for name in names))
    assert len(written) == 1


def test_no_dedup_and_the_controls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a = GOLDEN / "model_a"

    def collect_with(name: str, *options: str) -> list[dict[str, str]]:
        return collect(monkeypatch, tmp_path / f"{name}.jsonl", a, options=options)

    distinct = collect_with("distinct")
    everything = collect_with("all", "--no_dedup")
    n_valid = results_of(tmp_path / "all.jsonl")["runs"][0]["funnel"]["n_valid"]
    assert len(everything) == 80 + n_valid > len(distinct)
    control = collect_with("rows", "--control", "rows")
    by_problem = Counter(row["query"] for row in distinct)
    assert Counter(row["query"] for row in control) == by_problem
    assert control != distinct
    assert control != collect_with("other", "--control", "rows", "--seed", "1")
    tokens = collect_with("tokens", "--control", "tokens")
    total, wanted = (sum(len(row["response"]) for row in rows) for rows in (tokens, distinct))
    assert total == pytest.approx(wanted, rel=0.03)
    pool = Counter((row["query"], row["response"]) for row in everything)
    for rows in (distinct, control, tokens):
        assert Counter((row["query"], row["response"]) for row in rows) <= pool
    with pytest.raises(UserError, match="leave out --control or --no_dedup"):
        collect_with("x", "--control", "rows", "--no_dedup")


def test_process_checks_only_remove_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = GOLDEN / "model_a"
    collect(monkeypatch, tmp_path / "off.jsonl", a)
    checks = ("unused_result", "last_equation_not_answer", "unexplained_number")
    options = ("--process_checks", *checks)
    collect(monkeypatch, tmp_path / "on.jsonl", a, options=options)
    (off,), (on,) = (results_of(tmp_path / f"{name}.jsonl")["runs"] for name in ("off", "on"))
    assert on["funnel"]["n_valid"] == off["funnel"]["n_valid"]
    n_rejected = on["funnel"]["n_valid"] - on["funnel"]["n_passed"]
    assert 0 < max(on["rejected_by_check"].values()) <= n_rejected
    assert n_rejected <= sum(on["rejected_by_check"].values())
    assert set(off["rejected_by_check"].values()) == {0}


def test_explain_and_compare_print_and_write_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["collect", "--data_path", PROBLEMS, "--samples", GOLDEN / "model_a"]
    monkeypatch.chdir(tmp_path)
    for options in (["--explain", "17"], ["--compare"]):
        monkeypatch.setattr("sys.argv", list(map(str, [*arguments, *options])))
        collect_rejection_sampling.main()
    printed = capsys.readouterr().out
    assert "problem 17: " in printed
    assert printed.count(f"{GOLDEN / 'model_a'} sample ") >= 24
    assert "paper" in printed
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr("sys.argv", list(map(str, [*arguments, "--explain", "none"])))
    with pytest.raises(UserError, match="no problem_id 'none'"):
        collect_rejection_sampling.main()
    monkeypatch.setattr("sys.argv", list(map(str, arguments)))
    with pytest.raises(UserError, match="give --output_path"):
        collect_rejection_sampling.main()


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


def test_k_of_more_samples_is_what_k_would_have_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for seed in range(12):
        name = f"raw_generation_0.7_{seed}.json"
        (few / name).write_bytes((GOLDEN / "model_a" / name).read_bytes())
    rows = collect(monkeypatch, tmp_path / "few.jsonl", few)
    options = ("--k", "12")
    assert rows == collect(monkeypatch, tmp_path / "k.jsonl", GOLDEN / "model_a", options=options)


def test_the_saved_state_of_an_older_version_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = collect(monkeypatch, tmp_path / "new.jsonl", GOLDEN / "model_a")
    state = tmp_path / "old.state.jsonl"
    state.write_text("anything")
    assert rows == collect(monkeypatch, tmp_path / "old.jsonl", GOLDEN / "model_a")
    assert state.read_text() == "anything"


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
    with pytest.raises(UserError, match=r"_0\.json: given twice"):
        collect(monkeypatch, tmp_path / "x.jsonl", a, a / "raw_generation_0.7_0.json")
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
    read, error = result.stderr.splitlines()
    assert read == (
        f"{PROBLEMS}: 80 rows; question from 'query', solution from 'response'; "
        "answers after #### (80 of 80 solutions); paths: calculator (in 80 of 80 solutions)"
    )
    assert error == f"error: {tmp_path}/nowhere: no such file or folder; check the path"
    assert run_script(script, *arguments[:-1]).returncode == 2

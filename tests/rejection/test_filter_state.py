"""Going on with a filter run: the same bytes as from nothing, or from nothing if in doubt."""

import json
import os
from pathlib import Path

import pytest

import collect_rejection_sampling
from screl.core.io import UserError, open_for_reading
from screl.grading.answers import Fidelity
from screl.rejection import filter_state
from screl.samples import jsonl as plain
from screl.samples import line_index as sample_index
from screl.samples import published

GOLDEN = Path(__file__).parents[1] / "data/golden"


def copy_seeds(source: Path, target: Path, seeds: range) -> Path:
    target.mkdir(exist_ok=True)
    for seed in seeds:
        name = f"raw_generation_0.7_{seed}.json"
        (target / name).write_bytes((source / name).read_bytes())
    return target


def collect(monkeypatch: pytest.MonkeyPatch, output: Path, *arguments: object) -> bytes:
    """Run the filter on golden problems; what it wrote."""
    problems = GOLDEN / "problems.jsonl"
    words = ["collect", "--data_path", problems, "--output_path", output, *arguments]
    monkeypatch.setattr("sys.argv", list(map(str, words)))
    collect_rejection_sampling.main()
    sources = output.with_suffix(".sources.jsonl").read_bytes()
    results = json.loads(output.with_suffix(".run.json").read_bytes())["results"]
    del results["cost"]  # the one thing that depends on how often it was run
    return output.read_bytes() + sources + json.dumps(results).encode()


@pytest.fixture(params=["strict", "paper"])
def fidelity(request: pytest.FixtureRequest) -> Fidelity:
    value: Fidelity = request.param
    return value


@pytest.mark.parametrize("first", [1, 10, 23])
def test_more_samples_give_the_result_of_filtering_all(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fidelity: Fidelity,
    first: int,
) -> None:
    source = GOLDEN / "model_a"
    run = copy_seeds(source, tmp_path / "run", range(first))
    options = ("--samples", run, "--fidelity", fidelity)
    collect(monkeypatch, tmp_path / "rft.jsonl", *options)
    copy_seeds(source, run, range(first, 24))
    continued = collect(monkeypatch, tmp_path / "rft.jsonl", *options)
    assert "going on from there" in capsys.readouterr().err
    again = collect(monkeypatch, tmp_path / "rft.jsonl", *options)
    assert "going on from there" in capsys.readouterr().err
    scratch = collect(monkeypatch, tmp_path / "scratch.jsonl", *options)
    assert "going on" not in capsys.readouterr().err
    assert continued == again == scratch
    state, other = (tmp_path / f"{name}.state.jsonl" for name in ("rft", "scratch"))
    lines = [path.read_text().splitlines() for path in (state, other)]
    assert [*map(json.loads, lines[0][1:])] == [*map(json.loads, lines[1][1:])]


def test_the_time_of_all_sessions_adds_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_json, options = tmp_path / "rft.run.json", ("--samples", GOLDEN / "model_a")
    for earlier, is_whole in (("1000", True), ("null", False)):
        collect(monkeypatch, tmp_path / "rft.jsonl", *options)
        info = json.loads(run_json.read_text())
        assert info["results"]["cost"]["flops"] == info["results"]["cost"]["tokens"] == 0
        info["results"]["cost"]["device_seconds"] = json.loads(earlier)
        run_json.write_text(json.dumps(info))
        collect(monkeypatch, tmp_path / "rft.jsonl", *options)
        cost = json.loads(run_json.read_text())["results"]["cost"]
        assert cost["all_sessions"] is is_whole
        assert (cost["device_seconds"] > 1000) is is_whole
        (tmp_path / "rft.state.jsonl").unlink()  # nothing to go on from: a new beginning
    collect(monkeypatch, tmp_path / "rft.jsonl", *options)
    assert json.loads(run_json.read_text())["results"]["cost"]["all_sessions"] is True


def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fidelity: Fidelity) -> list[object]:
    """Filter ten samples each of two runs; the options."""
    runs = [copy_seeds(GOLDEN / f"model_{x}", tmp_path / x, range(10)) for x in "ab"]
    options: list[object] = ["--samples", *runs, "--fidelity", fidelity]
    collect(monkeypatch, tmp_path / "rft.jsonl", *options)
    return options


@pytest.mark.parametrize("run", ["a", "b"])
def test_a_union_goes_on_where_the_order_allows(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fidelity: Fidelity,
    run: str,
) -> None:
    options = start(tmp_path, monkeypatch, fidelity)
    copy_seeds(GOLDEN / f"model_{run}", tmp_path / run, range(10, 24))
    capsys.readouterr()
    continued = collect(monkeypatch, tmp_path / "rft.jsonl", *options)
    goes_on = "going on" in capsys.readouterr().err
    # as published, a's samples come before all of b's
    assert goes_on == (fidelity == "strict" or run == "b")
    assert continued == collect(monkeypatch, tmp_path / "scratch.jsonl", *options)


def test_anything_else_starts_from_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "rft.jsonl"

    def goes_on(*arguments: object) -> bool:
        capsys.readouterr()
        collect(monkeypatch, output, *arguments)
        return "going on" in capsys.readouterr().err

    options = start(tmp_path, monkeypatch, "strict")
    assert goes_on(*options)
    assert not goes_on(*options[:2])  # one run only
    assert not goes_on(*options)
    assert not goes_on(*options, "--process_checks", "unused_result")
    assert not goes_on(*options)
    assert not goes_on(*options, "--k", 5)  # fewer samples
    assert goes_on(*options)  # and back to more of them

    file = tmp_path / "a/raw_generation_0.7_3.json"
    before = file.read_bytes()
    file.write_bytes(before.replace(b"####", b"### ", 1))  # of the same length
    assert not goes_on(*options)
    file.write_bytes(before)
    assert not goes_on(*options)
    assert goes_on(*options)

    state = output.with_suffix(".state.jsonl")
    for damaged in (b"", state.read_bytes()[:-40], b"{}\n" + state.read_bytes(), b"[]", b"\xff"):
        state.write_bytes(damaged)
        assert not goes_on(*options)
    assert not goes_on(*options, "--no_dedup")
    assert not goes_on(*options, "--no_dedup")


def test_a_store_that_was_filled_up_is_not_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Samples that were missing among the first ones have their place in the order."""
    run = copy_seeds(GOLDEN / "model_a", tmp_path / "run", range(4))
    file = run / "raw_generation_0.7_1.json"
    whole = file.read_bytes()
    file.write_bytes(b"".join(whole.splitlines(keepends=True)[:50]))
    options = ("--samples", run, "--allow_partial")
    collect(monkeypatch, tmp_path / "rft.jsonl", *options)
    file.write_bytes(whole)
    capsys.readouterr()
    filled = collect(monkeypatch, tmp_path / "rft.jsonl", *options)
    assert "going on" not in capsys.readouterr().err
    assert filled == collect(monkeypatch, tmp_path / "scratch.jsonl", *options)


@pytest.mark.parametrize("late", [0, 11])
def test_a_file_that_comes_between_others_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fidelity: Fidelity, late: int
) -> None:
    """A seed whose job ended last: samples are numbered by the order of seeds, all move on."""
    source, run = GOLDEN / "model_a", tmp_path / "run"
    copy_seeds(source, run, range(24))
    (run / f"raw_generation_0.7_{late}.json").unlink()
    options = ("--samples", run, "--fidelity", fidelity)
    collect(monkeypatch, tmp_path / "rft.jsonl", *options)
    copy_seeds(source, run, range(late, late + 1))
    continued = collect(monkeypatch, tmp_path / "rft.jsonl", *options)
    assert continued == collect(monkeypatch, tmp_path / "scratch.jsonl", *options)


LONG_AGO = 10**18  # ns: in 2001


def make_store(folder: Path, samples: range) -> Path:
    """Samples of the golden problems as sample.py would have left them; more are appended."""
    folder.mkdir(exist_ok=True)
    manifest = {"n_samples": samples.stop, "greedy": False}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with open(folder / "samples-0.jsonl", "a") as file:
        for j in samples:
            made = (GOLDEN / f"model_a/raw_generation_0.7_{j}.json").read_text().splitlines()
            for i, line in enumerate(made):
                row = {"problem_id": i, "sample_id": j, "completion": json.loads(line)[0][1]}
                row |= {"n_tokens": 9, "finish_reason": "stop"}
                file.write(json.dumps(row, separators=(",", ":")) + "\n")
    return folder


@pytest.mark.parametrize("n_known", [1, 10])
def test_a_store_goes_on_behind_what_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    fidelity: Fidelity, n_known: int,
) -> None:  # fmt: skip
    run = make_store(tmp_path / "run", range(n_known))
    options = ("--samples", run, "--fidelity", fidelity)
    collect(monkeypatch, tmp_path / "rft.jsonl", *options)
    make_store(run, range(n_known, 24))
    (run / "samples-00.jsonl").write_bytes(b"")  # another worker's, in front of the known one
    continued = collect(monkeypatch, tmp_path / "rft.jsonl", *options)
    assert "going on from there" in capsys.readouterr().err
    assert continued == collect(monkeypatch, tmp_path / "scratch.jsonl", *options)
    again = collect(monkeypatch, tmp_path / "rft.jsonl", *options)
    assert "going on from there" in capsys.readouterr().err
    assert continued == again


def test_a_known_sample_that_is_there_again_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_store(tmp_path / "run", range(3))
    collect(monkeypatch, tmp_path / "rft.jsonl", "--samples", run)
    make_store(run, range(2, 5))
    with pytest.raises(UserError, match=r"samples-0\.jsonl:241: problem 0 has sample 2 twice"):
        collect(monkeypatch, tmp_path / "rft.jsonl", "--samples", run)


def test_a_part_of_a_store_is_not_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its bytes hold more than what was used of them."""
    run = make_store(tmp_path / "run", range(24))
    collect(monkeypatch, tmp_path / "rft.jsonl", "--samples", run, "--k", 12)
    assert not (tmp_path / "rft.state.jsonl").exists()
    whole = collect(monkeypatch, tmp_path / "rft.jsonl", "--samples", run)
    part = collect(monkeypatch, tmp_path / "rft.jsonl", "--samples", run, "--k", 12)
    assert "going on" not in capsys.readouterr().err
    assert whole == collect(monkeypatch, tmp_path / "other.jsonl", "--samples", run)
    assert part == collect(monkeypatch, tmp_path / "part.jsonl", "--samples", run, "--k", 12)


def test_plain_rows_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    fidelity: Fidelity,
) -> None:  # fmt: skip
    lines = make_store(tmp_path / "run", range(24)).joinpath("samples-0.jsonl").read_text()
    rows, file = lines.splitlines(keepends=True), tmp_path / "rows.jsonl"
    file.write_text("".join(rows[: 10 * 80]))
    options = ("--samples", file, "--fidelity", fidelity)
    collect(monkeypatch, tmp_path / "rft.jsonl", *options)
    file.write_text("".join(rows))
    continued = collect(monkeypatch, tmp_path / "rft.jsonl", *options)
    assert "going on from there" in capsys.readouterr().err
    assert continued == collect(monkeypatch, tmp_path / "scratch.jsonl", *options)


def test_what_was_read_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy_seeds(GOLDEN / "model_a", tmp_path / "run", range(10))
    old = set(run.iterdir())
    for path in old:
        os.utime(path, ns=(LONG_AGO, LONG_AGO))
    collect(monkeypatch, tmp_path / "rft.jsonl", "--samples", run)
    copy_seeds(GOLDEN / "model_a", run, range(10, 24))

    def open_new(path: Path):
        assert path not in old, f"{path} is read again"
        return open_for_reading(path)

    with monkeypatch.context() as patch:
        for module in (filter_state, plain, published, sample_index):
            patch.setattr(module, "open_for_reading", open_new)
        continued = collect(patch, tmp_path / "rft.jsonl", "--samples", run)
    assert "going on from there" in capsys.readouterr().err
    assert continued == collect(monkeypatch, tmp_path / "scratch.jsonl", "--samples", run)


@pytest.mark.parametrize("is_changed", [False, True])
@pytest.mark.parametrize("is_dated_back", [False, True])
def test_a_file_that_may_have_changed_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    is_changed: bool, is_dated_back: bool,
) -> None:  # fmt: skip
    """Touched, or written within a tick of the clock after it was looked at; of the same size."""
    run = copy_seeds(GOLDEN / "model_a", tmp_path / "run", range(5))
    file = run / "raw_generation_0.7_2.json"
    before = file.stat().st_mtime_ns
    collect(monkeypatch, tmp_path / "rft.jsonl", "--samples", run)
    content = file.read_bytes()
    file.write_bytes(content.replace(b"####", b"### ", 1) if is_changed else content)
    when = before if is_dated_back else LONG_AGO
    os.utime(file, ns=(when, when))
    capsys.readouterr()
    collect(monkeypatch, tmp_path / "rft.jsonl", "--samples", run)
    assert ("going on" in capsys.readouterr().err) != is_changed

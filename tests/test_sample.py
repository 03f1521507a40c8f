"""sample.py on a tiny model: exactly once, whatever happens in between."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import sample
from screl.config import run_main
from screl.files import UserError
from screl.store import read_manifest, read_samples
from tests.conftest import ROOT, run_script, write_lines


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lines = (ROOT / "data/mini/test.jsonl").read_text().splitlines()[:6]
    return write_lines(tmp_path_factory.mktemp("data") / "test.jsonl", lines)


def options(model: Path, data: Path, output: Path, **changes: object) -> list[str]:
    settings = {
        "model_name_or_path": model, "data_path": data, "output_dir": output,
        "n_samples": 4, "temperature": 1.0, "max_new_tokens": 8, "precision": "fp32",
        "batch_size": 5,
    } | changes  # fmt: skip
    return [f"--{key}={value}" for key, value in settings.items()]


def run_here(monkeypatch: pytest.MonkeyPatch, argv: list[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["sample.py", *argv])
    sample.main()


def lines_of(store: Path) -> list[str]:
    return sorted((store / "samples-0.jsonl").read_text().splitlines())


@pytest.fixture(scope="module")
def full(tiny_model: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run: 6 problems x 4 samples."""
    store = tmp_path_factory.mktemp("full") / "store"
    with pytest.MonkeyPatch.context() as monkeypatch:
        run_here(monkeypatch, options(tiny_model, data, store))
    return store


def test_every_sample_is_there_once(full: Path, data: Path) -> None:
    ids = [json.loads(line)["problem_id"] for line in data.read_text().splitlines()]
    keys = [(made.problem_id, made.sample_id) for made in read_samples(full)]
    assert sorted(keys) == sorted((i, j) for i in ids for j in range(4))
    manifest = read_manifest(full)
    assert (manifest["n_samples"], manifest["temperature"], manifest["top_k"]) == (4, 1.0, 0)
    assert json.loads((full / "run.json").read_text())["results"]["n_samples"] == 24


def test_a_finished_store_is_left_alone(
    full: Path, tiny_model: Path, data: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    before = lines_of(full)
    run_here(monkeypatch, options(tiny_model, data, full))
    assert "0 samples made, 24 are there" in capsys.readouterr().out
    assert lines_of(full) == before


def test_more_samples_only_add(
    full: Path, tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """k=2, then k=4, equals k=4 at once, whatever the batches."""
    store = tmp_path / "store"
    run_here(monkeypatch, options(tiny_model, data, store, n_samples=2, batch_size=3))
    assert len(lines_of(store)) == 12
    run_here(monkeypatch, options(tiny_model, data, store, batch_size=64))
    assert lines_of(store) == lines_of(full)
    assert read_manifest(store)["n_samples"] == 4


@pytest.mark.parametrize("n_bytes", [0, 700, 1500, 2999])
def test_a_torn_store_is_completed_to_the_same_bytes(
    full: Path, tiny_model: Path, data: Path, tmp_path: Path, n_bytes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A kill leaves some prefix of the file."""
    store = Path(shutil.copytree(full, tmp_path / "store"))
    whole = (full / "samples-0.jsonl").read_bytes()
    assert n_bytes < len(whole)
    (store / "samples-0.jsonl").write_bytes(whole[:n_bytes])
    run_here(monkeypatch, options(tiny_model, data, store))
    assert lines_of(store) == lines_of(full)


def test_a_killed_run_goes_on(full: Path, tiny_model: Path, data: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    argv = ["sample.py", *options(tiny_model, data, store, batch_size=1)]
    process = subprocess.Popen(
        [sys.executable, *argv], cwd=ROOT, stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    file = store / "samples-0.jsonl"
    while process.poll() is None and not (file.is_file() and file.stat().st_size):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert run_script(*argv).returncode == 0
    assert lines_of(store) == lines_of(full)


def test_another_run_into_the_same_folder_is_refused(
    full: Path, tiny_model: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"temperature was 1\.0, now 0\.7.*another --output_dir"):
        run_here(monkeypatch, options(tiny_model, data, full, temperature=0.7))


def test_a_store_without_samples_does_not_bind(
    full: Path, tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "s"
    with pytest.raises(UserError, match="has room for"):
        run_here(monkeypatch, options(tiny_model, data, store, max_new_tokens=500))
    run_here(monkeypatch, options(tiny_model, data, store))
    assert lines_of(store) == lines_of(full)


def test_a_sample_of_an_unknown_problem_is_named(
    full: Path, tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Path(shutil.copytree(full, tmp_path / "s"))
    with open(store / "samples-0.jsonl", "a") as file:
        file.write(lines_of(full)[0].replace("test-0", "none-0") + "\n")
    with pytest.raises(UserError, match=r"has a sample of problem 'none-0.*does not have"):
        run_here(monkeypatch, options(tiny_model, data, store))


def test_a_missing_run_json_is_written_again(
    full: Path, tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Path(shutil.copytree(full, tmp_path / "s"))
    (store / "run.json").unlink()
    run_here(monkeypatch, options(tiny_model, data, store))
    results = json.loads((store / "run.json").read_text())["results"]
    assert (results["n_samples"], results["n_samples_made_now"]) == (24, 0)


def test_greedy_makes_one_sample_and_names_no_temperature(
    tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_here(monkeypatch, options(tiny_model, data, tmp_path / "g", n_samples=1, greedy=True))
    assert len(lines_of(tmp_path / "g")) == 6
    assert read_manifest(tmp_path / "g")["temperature"] is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"greedy": True}, "leave out --n_samples"),
        ({"n_samples": 0}, "must be at least 1"),
        ({"temperature": 0}, "for the likeliest token: --greedy"),
        ({"top_p": 0}, "--top_p must be in"),
        ({"max_new_tokens": 500}, r"test\.jsonl:1: the prompt has \d+ tokens; .* has room for 12"),
    ],
)
def test_contradictions_are_named(
    tiny_model: Path, data: Path, tmp_path: Path, changes: dict[str, object], message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    with pytest.raises(UserError, match=message):
        run_here(monkeypatch, options(tiny_model, data, tmp_path / "s", **changes))


def test_dry_run_shows_config_prompt_and_ids_and_writes_nothing(
    tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run_here(monkeypatch, options(tiny_model, data, tmp_path / "s", dry_run=True))
    shown = capsys.readouterr().out
    assert "temperature: 1.0" in shown
    assert "### Response:" in shown
    assert "'<s>'" in shown
    assert not (tmp_path / "s").exists()


def test_a_hub_id_works_like_a_path(
    full: Path, tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    """From a hub cache made by hand, as there need be no network."""
    cached = tmp_path / "hub" / "models--org--tiny"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("0123abcd" * 5)
    shutil.copytree(tiny_model, cached / "snapshots" / ("0123abcd" * 5))
    environment = {"HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    argv = options(Path("org/tiny"), data, tmp_path / "s")
    result = run_script("sample.py", *argv, **environment)
    assert result.returncode == 0, result.stderr
    assert lines_of(tmp_path / "s") == lines_of(full)
    assert read_manifest(tmp_path / "s")["model_sha256"] == "hub:org/tiny@" + "0123abcd" * 5
    unknown = options(Path("org/unknown"), data, tmp_path / "t")
    result = run_script("sample.py", *unknown, **environment)
    assert result.returncode == 1
    assert result.stderr.startswith("error: org/unknown: cannot be loaded: ")
    assert result.stderr.count("\n") == 1


def test_bad_input_ends_in_one_line(tiny_model: Path, tmp_path: Path) -> None:
    torn = write_lines(tmp_path / "torn.jsonl", ['{"query": "a", "response": "b"}', '{"query": '])
    result = run_script("sample.py", *options(tiny_model, torn, tmp_path / "s"))
    assert result.returncode == 1
    assert "torn.jsonl:2: not valid JSON" in result.stderr
    assert result.stderr.count("\n") == 1, result.stderr


def test_a_full_disk_ends_in_one_line_and_loses_nothing(
    full: Path, tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, argv = tmp_path / "s", options(tiny_model, data, tmp_path / "s")
    real_fsync, calls = os.fsync, []

    def no_space(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 3:  # the manifest and two batches
            raise OSError(errno.ENOSPC, "No space left on device")
        real_fsync(descriptor)

    monkeypatch.setattr(sys, "argv", ["sample.py", *argv])
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_space)
        with pytest.raises(
            SystemExit, match=r"samples-0\.jsonl: No space left on device; finished"
        ):
            run_main(sample.main)
    assert 10 <= len(lines_of(store)) < 24
    sample.main()
    assert lines_of(store) == lines_of(full)


def test_a_samples_file_without_a_manifest_is_not_added_to(
    tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "samples-0.jsonl").touch()
    with pytest.raises(UserError, match=r"has samples but no manifest\.json"):
        run_here(monkeypatch, options(tiny_model, data, tmp_path))

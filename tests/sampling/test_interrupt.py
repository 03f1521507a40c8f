"""Interrupt sample.py as a terminal and a job scheduler do: one line, and nothing is lost."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from screl.samples.store import read_samples
from tests.conftest import ROOT, run_script
from tests.sampling.conftest import lines_of, options

LINE = re.compile(
    r"(\S+): interrupted; (\d+) samples made, (\d+) of 1800 are stored; run the same command again "
    r"to make the others"
)
MANY = {"n_samples": 300, "max_new_tokens": 40, "chunk_size": 20, "batch_size": 16}


def interrupt(argv: list[str], log: Path, number: int, ready: Callable[[], bool]) -> int:
    """Start sample.py with stderr in ``log``, signal its process group when it is ``ready``, and
    again while it ends; return the exit status."""
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    with (
        open(log, "w") as stderr,
        subprocess.Popen(
            [sys.executable, "sample.py", *argv], cwd=ROOT, stderr=stderr, env=environment,
            start_new_session=True,
        ) as running,
    ):  # fmt: skip
        while running.poll() is None and not ready():
            time.sleep(0.02)
        os.killpg(running.pid, number)
        time.sleep(0.1)
        if running.poll() is None:
            os.killpg(running.pid, number)
        return running.wait()


def holds(file: Path, text: bytes) -> Callable[[], bool]:
    return lambda: file.exists() and text in file.read_bytes()


@pytest.fixture(scope="module")
def whole(
    tiny_model: Path, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[object, ...], str]:
    """The completions of an uninterrupted run."""
    store = tmp_path_factory.mktemp("whole")
    assert run_script("sample.py", *options(tiny_model, data, store, **MANY)).returncode == 0
    return texts_of(store)


def texts_of(store: Path) -> dict[tuple[object, ...], str]:
    return {(one.problem_id, one.sample_id): one.completion for one in read_samples(store)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "n_workers"), [(signal.SIGINT, 1), (signal.SIGTERM, 1), (signal.SIGINT, 2)]
)
def test_an_interrupted_run_says_what_is_stored_and_goes_on_exactly(
    whole: dict[tuple[object, ...], str], tiny_model: Path, data: Path, tmp_path: Path,
    number: int, n_workers: int,
) -> None:  # fmt: skip
    if n_workers > len(os.sched_getaffinity(0)):
        pytest.skip("needs two cores")
    store = tmp_path / "s"
    argv = options(tiny_model, data, store, **MANY, n_workers=n_workers)
    log = tmp_path / "log"
    code = interrupt(argv, log, number, holds(store / "samples-0.jsonl", b"\n"))
    stderr = log.read_text()
    assert code == 130, stderr
    assert "Traceback" not in stderr
    assert "died" not in stderr
    *_, last = stderr.splitlines()
    found = LINE.fullmatch(last)
    assert found, stderr
    stored = lines_of(store)
    assert 0 < len(stored) < 1800
    assert found[2] == found[3] == str(len(stored))
    results = json.loads((store / "run.json").read_text())["results"]
    assert (results["n_samples"], results["n_samples_made_now"]) == (len(stored), len(stored))
    code = interrupt(argv, log, number, holds(log, b"sample: "))  # while the model is loaded
    assert code == 130, log.read_text()
    assert "Traceback" not in log.read_text()
    result = run_script("sample.py", *argv)
    assert result.returncode == 0, result.stderr
    assert set(stored) < set(lines_of(store))
    made = texts_of(store)  # each once, or reading it fails
    assert made.keys() == whole.keys()
    # other batches: a token may differ by the noise of float32
    assert sum(made[key] != whole[key] for key in made) <= 2
    assert json.loads((store / "run.json").read_text())["results"]["cost"]["all_sessions"]

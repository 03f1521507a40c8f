"""Run real engines in real processes: the same samples from one, several, or one that is killed."""

import multiprocessing
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from screl.core.cost import PROCESSORS, Devices
from screl.core.io import UserError
from screl.models.tokenizer import load_tokenizer, prompt_ids
from screl.samples.store import Sample
from screl.sampling import scheduler, workers
from screl.sampling.engine import EngineSpec, Request, SamplingParams
from screl.sampling.scheduler import WorkerLostError, run_requests
from screl.sampling.workers import (
    DeviceGroup,
    InProcessPool,
    SubprocessPool,
    SubprocessWorker,
    split_cores,
    split_gpus,
    visible_gpus,
)
from tests.conftest import ROOT

PARAMS = SamplingParams(False, 1.0, 1.0, 0, 40, 0)
QUESTIONS = ["2 pens", "Ada has 5 pens and 12 cups of 2.5 kg", "7", "How many are there in all?"]


@pytest.fixture(scope="module")
def spec(tiny_model: Path) -> EngineSpec:
    return EngineSpec("transformers", str(tiny_model), "fp32", PARAMS, 8, 128)


@pytest.fixture(scope="module")
def requests(tiny_model: Path) -> list[Request]:
    tokenizer = load_tokenizer(str(tiny_model))
    ids = [prompt_ids(tokenizer, question) for question in QUESTIONS]
    return [Request(i, ids[i], range(j, j + 10)) for i in range(4) for j in range(0, 60, 10)]


@pytest.fixture(scope="module")
def expected(spec: EngineSpec, requests: list[Request]) -> list[Sample]:
    made = run_all(InProcessPool(spec), requests)
    assert len(made) == 240
    return made


def run_all(pool, requests: list[Request], on_first=lambda: None) -> list[Sample]:
    """Return all samples, sorted; call ``on_first`` when the first ones arrive."""
    made: list[Sample] = []

    def on_samples(samples: list[Sample]) -> list[Request]:
        if samples and not made:
            on_first()
        made.extend(samples)
        return []

    assert not run_requests(pool, requests, on_samples, 8)
    return sorted(made, key=lambda sample: (sample.problem_id, sample.sample_id))


def groups(n: int = 2) -> list[DeviceGroup]:
    """Return groups of one core each, wherever the tests run."""
    return [[str(min(os.sched_getaffinity(0)))]] * n


class RecordingPool(SubprocessPool):
    """Keeps a list of the workers that it has started."""

    def start_workers(self, n_running: int, batch_size: int) -> list[SubprocessWorker]:
        started = super().start_workers(n_running, batch_size)
        self.started = [*getattr(self, "started", []), *started]
        return started


@pytest.mark.slow
def test_two_processes_one_of_which_is_killed_make_what_one_makes(
    spec: EngineSpec, requests: list[Request], expected: list[Sample],
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    pool = RecordingPool(spec, groups(), on_gpus=False)
    made = run_all(pool, requests, lambda: pool.started[0].process.kill())
    assert made == expected
    assert "a worker died: its process ended with exit code -9" in capsys.readouterr().err
    assert not any(worker.process.is_alive() for worker in pool.started)


@pytest.mark.slow
def test_a_silent_process_is_given_up(
    spec: EngineSpec, requests: list[Request], expected: list[Sample],
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """It is stopped, as a computation that hangs would be, once it has begun to sample."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def hang() -> None:
        pid = pool.started[0].process.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        monkeypatch.setattr(scheduler, "MAX_SILENCE", 3.0)
        monkeypatch.setattr(workers, "SECONDS_TO_WAIT", 0.5)
        monkeypatch.setattr(workers, "SECONDS_TO_END", 0.5)

    class PatientPool(RecordingPool):
        def start_workers(self, n_running: int, batch_size: int) -> list[SubprocessWorker]:
            started = super().start_workers(n_running, batch_size)
            if started:  # loading the model takes longer than 3 seconds
                monkeypatch.setattr(scheduler, "MAX_SILENCE", 3600.0)
            return started

    pool = PatientPool(spec, groups(1), on_gpus=False)
    assert run_all(pool, requests, hang) == expected
    assert "a worker died: no answer in 3 s" in capsys.readouterr().err


@pytest.mark.slow
def test_a_process_that_cannot_load_the_model_says_why(
    spec: EngineSpec, requests: list[Request], tmp_path: Path
) -> None:
    nowhere = replace(spec, model_name_or_path=str(tmp_path / "none"))
    for pool in (SubprocessPool(nowhere, groups(1), on_gpus=False), InProcessPool(nowhere)):
        with pytest.raises(UserError, match="none: no such folder"):
            run_all(pool, requests)


def test_devices_are_all_gpus_or_the_processors_that_the_system_counts(spec: EngineSpec) -> None:
    two_of_three = [["0", "1", "2"], ["3", "4", "5"]]
    assert SubprocessPool(spec, two_of_three, on_gpus=True).devices() == Devices("gpu", 6)
    assert SubprocessPool(spec, groups(), on_gpus=False).devices() == PROCESSORS
    vllm = replace(spec, engine="vllm")  # whose own processes are not waited for
    assert SubprocessPool(vllm, groups(), on_gpus=False).devices() == Devices("cpu", 2)
    without_names = SubprocessPool(vllm, [[]], on_gpus=False)
    assert without_names.devices() == PROCESSORS
    assert InProcessPool(spec).devices() == PROCESSORS


def test_the_end_of_a_process_is_noticed_though_a_child_of_it_holds_its_connection() -> None:
    """vLLM's processes do when they are forked."""
    worker = object.__new__(SubprocessWorker)
    worker.connection, _held = multiprocessing.Pipe()
    worker.process = multiprocessing.get_context("spawn").Process(target=os._exit, args=(3,))
    worker.process.start()
    pool = object.__new__(SubprocessPool)
    assert pool.wait([worker]) == [worker]
    with pytest.raises(WorkerLostError, match="ended with exit code 3"):
        worker.receive()


@pytest.mark.slow
def test_a_worker_has_as_many_threads_as_cores() -> None:
    """Even if its process imported torch before its cores were taken from it."""
    code = """
import os, torch
from unittest.mock import MagicMock
from screl.sampling.workers import serve_exchanges
core = str(min(os.sched_getaffinity(0)))
serve_exchanges(MagicMock(**{"recv.side_effect": EOFError}), None, [core], on_gpus=False)
print(torch.get_num_threads())
"""
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    command = [sys.executable, "-c", code]
    child = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert child.stdout == "1\n"


def test_gpus_are_split_into_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = list("01234567")
    assert split_gpus(gpus, 1, None) == [[gpu] for gpu in gpus]
    assert split_gpus(gpus, 2, None) == [["0", "1"], ["2", "3"], ["4", "5"], ["6", "7"]]
    assert split_gpus(gpus, 2, 3) == [["0", "1"], ["2", "3"], ["4", "5"]]
    assert split_gpus(gpus[:3], 2, None) == [["0", "1"]]
    with pytest.raises(UserError, match="needs 2 GPUs, but this process sees 1; lower one"):
        split_gpus(["0"], 2, None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus(2) == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5f,7")
    assert visible_gpus(3) == ["3", "GPU-5f", "7"]


def test_cores_are_split_into_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 1, 2, 7, 5})
    assert split_cores(1) == [["1", "2", "3", "5", "7"]]
    assert split_cores(2) == [["1", "3", "7"], ["2", "5"]]
    with pytest.raises(UserError, match=r"--n_workers 6 needs as many cores.* may use 5; lower it"):
        split_cores(6)

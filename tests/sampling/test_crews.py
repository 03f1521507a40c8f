"""Real engines in real processes: the same samples from one, two, or one that is killed."""

import multiprocessing
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from screl.core.cost import PROCESSORS, Devices
from screl.core.io import UserError
from screl.models.tokenizer import load_tokenizer, prompt_ids
from screl.samples.store import Sample
from screl.sampling import scheduler as coordinator
from screl.sampling import workers as crews
from screl.sampling.engine import EngineSpec, Request, SamplingParams
from screl.sampling.scheduler import WorkerLostError, deal
from screl.sampling.workers import (
    DeviceGroup,
    InProcessPool,
    ProcessPool,
    ProcessWorker,
    core_groups,
    device_groups,
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
    made, unfulfilled = deal_with(InProcessPool(spec), requests)
    assert not unfulfilled
    assert len(made) == 240
    return made


def deal_with(crew, requests: list[Request], kill: bool = False) -> tuple[list[Sample], list]:
    made: list[Sample] = []

    def take_in(samples: list[Sample]) -> list[Request]:
        if kill and not made and samples:
            multiprocessing.active_children()[0].kill()
        made.extend(samples)
        return []

    unfulfilled = deal(crew, requests, take_in, 8)
    return sorted(made, key=lambda sample: (sample.problem_id, sample.sample_id)), unfulfilled


def groups(n: int = 2) -> list[DeviceGroup]:
    """Of one core each, wherever the tests run."""
    return [[str(min(os.sched_getaffinity(0)))]] * n


@pytest.mark.parametrize(("n", "kill"), [(2, False), (2, True), (4, False)])
def test_several_processes_draw_what_one_draws(
    spec: EngineSpec, requests: list[Request], expected: list[Sample], n: int, kill: bool,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    made, unfulfilled = deal_with(ProcessPool(spec, groups(n), on_gpus=False), requests, kill)
    assert made == expected
    assert not unfulfilled
    assert ("a worker died: its process ended with exit code -9" in capsys.readouterr().err) == kill
    assert not multiprocessing.active_children()


def test_what_workers_hold_is_every_gpu_or_what_the_system_counts(spec: EngineSpec) -> None:
    two_of_three = [["0", "1", "2"], ["3", "4", "5"]]
    assert ProcessPool(spec, two_of_three, on_gpus=True).devices() == Devices("gpu", 6)
    assert ProcessPool(spec, groups(), on_gpus=False).devices() == PROCESSORS
    vllm = replace(spec, engine="vllm")  # whose own processes are not waited for
    assert ProcessPool(vllm, groups(), on_gpus=False).devices() == Devices("cpu", 2)
    assert (
        ProcessPool(vllm, [[]], on_gpus=False).devices() == PROCESSORS
    )  # where cores have no names
    expected = Devices("gpu", 1) if torch.accelerator.is_available() else PROCESSORS
    assert InProcessPool(spec).devices() == expected


def test_the_end_of_a_process_is_seen_though_a_child_of_it_holds_its_connection() -> None:
    """As vLLM's processes do, when they are forked."""
    worker = object.__new__(ProcessWorker)
    worker.connection, _held = multiprocessing.Pipe()
    worker.process = multiprocessing.get_context("spawn").Process(target=os._exit, args=(3,))
    worker.process.start()
    crew = object.__new__(ProcessPool)
    assert crew.wait([worker]) == [worker]
    with pytest.raises(WorkerLostError, match="ended with exit code 3"):
        worker.answer()


def test_a_process_that_cannot_load_the_model_says_why(
    spec: EngineSpec, requests: list[Request], tmp_path: Path
) -> None:
    nowhere = replace(spec, model_name_or_path=str(tmp_path / "none"))
    for crew in (ProcessPool(nowhere, groups(), on_gpus=False), InProcessPool(nowhere)):
        with pytest.raises(UserError, match="none: no such model folder"):
            deal_with(crew, requests)
    assert not multiprocessing.active_children()


def test_a_process_that_says_nothing_is_given_up(
    spec: EngineSpec, requests: list[Request], expected: list[Sample],
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """It is stopped like a computation that hangs, once it has begun to draw."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    made: list[Sample] = []

    def take_in(samples: list[Sample]) -> list[Request]:
        if not made and samples:
            hanging = multiprocessing.active_children()[0].pid
            assert hanging is not None
            os.kill(hanging, signal.SIGSTOP)
            monkeypatch.setattr(coordinator, "MAX_SILENCE", 5.0)
            monkeypatch.setattr(crews, "SECONDS_TO_WAIT", 0.5)
            monkeypatch.setattr(crews, "SECONDS_TO_END", 0.5)
        made.extend(samples)
        return []

    class OnceImpatient(ProcessPool):
        def hire(self, n_present: int, batch_size: int) -> list[ProcessWorker]:
            hired = super().hire(n_present, batch_size)
            if hired:  # it has the time that it needs to start
                monkeypatch.setattr(coordinator, "MAX_SILENCE", 3600.0)
            return hired

    assert not deal(OnceImpatient(spec, groups()[:1], on_gpus=False), requests, take_in, 8)
    assert sorted(made, key=lambda sample: (sample.problem_id, sample.sample_id)) == expected
    assert "a worker died: no answer in 5 s" in capsys.readouterr().err


def test_a_worker_has_as_many_threads_as_cores() -> None:
    """Also where its process has imported torch before its cores were taken from it."""
    code = """
import os, torch
from unittest.mock import MagicMock
from screl.sampling.workers import serve
core = str(min(os.sched_getaffinity(0)))
serve(MagicMock(**{"recv.side_effect": EOFError}), None, [core], on_gpus=False)
print(torch.get_num_threads())
"""
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    command = [sys.executable, "-c", code]
    child = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert child.stdout == "1\n"


def test_devices_are_dealt_out_in_groups() -> None:
    gpus = list("01234567")
    assert device_groups(gpus, 1, None) == [[gpu] for gpu in gpus]
    assert device_groups(gpus, 2, None) == [["0", "1"], ["2", "3"], ["4", "5"], ["6", "7"]]
    assert device_groups(gpus, 2, 3) == [["0", "1"], ["2", "3"], ["4", "5"]]
    assert device_groups(gpus[:3], 2, None) == [["0", "1"]]
    with pytest.raises(UserError, match="1 workers of 2 GPUs each need 2, but 1 are visible"):
        device_groups(["0"], 2, None)
    with pytest.raises(UserError, match="lower --n_workers or --tensor_parallel_size"):
        device_groups(gpus, 1, 9)


def test_gpus_keep_the_names_that_the_user_gave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus(2) == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5f,7")
    assert visible_gpus(3) == ["3", "GPU-5f", "7"]


def test_cores_are_dealt_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 1, 2, 7, 5})
    assert core_groups(1) == [["1", "2", "3", "5", "7"]]
    assert core_groups(2) == [["1", "3", "7"], ["2", "5"]]
    with pytest.raises(UserError, match="--n_workers 6: there are 5 cores"):
        core_groups(6)

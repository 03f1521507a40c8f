"""Run sample.py in this process, on the CPU, with the tiny model or with texts given by a test."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

import sample
from screl.core.cost import PROCESSORS, Devices
from screl.core.problems import ProblemId
from screl.samples.store import Sample
from screl.sampling.engine import ExchangeResult, Request
from tests.conftest import ROOT, write_lines


@pytest.fixture(scope="module", autouse=True)
def _on_cpu() -> Iterator[None]:
    """Hide GPUs, on which arithmetic depends on the batch and forked processes cannot work."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        patch.setattr(torch.cuda, "device_count", lambda: 0)
        patch.setattr(torch.accelerator, "is_available", lambda: False)
        yield


@pytest.fixture(scope="package")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lines = (ROOT / "data/mini/test.jsonl").read_text().splitlines()[:6]
    return write_lines(tmp_path_factory.mktemp("data") / "test.jsonl", lines)


@pytest.fixture(scope="module")
def full(tiny_model: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of an uninterrupted run: 6 problems x 4 samples."""
    store = tmp_path_factory.mktemp("full") / "store"
    with pytest.MonkeyPatch.context() as monkeypatch:
        run_here(monkeypatch, options(tiny_model, data, store))
    return store


def options(model: Path, data: Path, output: Path, **changes: object) -> list[str]:
    settings = {
        "model_name_or_path": model, "data_path": data, "output_dir": output,
        "n_samples": 4, "temperature": 1.0, "max_new_tokens": 8, "precision": "fp32",
        "batch_size": 5, "engine": "transformers",
    } | changes  # fmt: skip
    return [f"--{key}={value}" for key, value in settings.items() if value is not None]


def run_here(monkeypatch: pytest.MonkeyPatch, argv: list[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["sample.py", *argv])
    sample.main()


def lines_of(store: Path) -> list[str]:
    return sorted((store / "samples-0.jsonl").read_text().splitlines())


class TextPool:
    """A pool of one worker, itself, that returns the texts of ``text_of`` at once."""

    def __init__(self, text_of: Callable[[ProblemId, int], str]) -> None:
        self._text_of = text_of

    def start_workers(self, n_running: int, batch_size: int) -> list["TextPool"]:
        return [] if n_running else [self]

    def wait(self, workers: list["TextPool"]) -> list["TextPool"]:
        return workers

    def devices(self) -> Devices:
        return PROCESSORS

    def send(self, requests: list[Request], enough: int) -> None:
        self._keys = [(r.problem_id, i) for r in requests for i in r.sample_ids]

    def receive(self) -> ExchangeResult:
        samples = []
        for problem_id, i in self._keys:
            reason = "length" if i % 5 == 4 else "stop"
            samples.append(Sample(problem_id, i, self._text_of(problem_id, i), 10 + i, reason))
        return ExchangeResult(samples, [])

    def stop(self) -> None:
        pass

"""The time that a training run has taken, over its sessions."""

from pathlib import Path
from typing import Any

import pytest

from screl.core.cost import DeviceTime, Stopwatch
from screl.training.loop import TrainingLog


def log_of(folder: Path, state: dict[str, Any], on_gpu: bool = False) -> TrainingLog:
    log = TrainingLog(folder, 5, state, Stopwatch(), on_gpu)
    log.close()
    return log


@pytest.mark.parametrize("on_gpu", [False, True])
def test_a_run_begins_with_nothing_and_goes_on_with_what_a_checkpoint_has(
    tmp_path: Path, on_gpu: bool
) -> None:
    first = log_of(tmp_path, {"step": 0}, on_gpu)
    time = first.device_time()
    assert (time.device, time.all_sessions) == ("gpu" if on_gpu else "cpu", True)
    assert 0 < time.device_seconds < 100
    state = first.state() | {"step": 2}
    state["time"]["device_seconds"] += 1000
    second = log_of(tmp_path, state, on_gpu).device_time()
    assert 1000 < second.device_seconds < 1100
    assert second.all_sessions


@pytest.mark.parametrize(
    "state",
    [{"step": 2, "log": [], "seconds": 7.0},  # of a version that kept no time
     {"step": 2, "time": DeviceTime("gpu", 1000.0)._asdict()}],
)  # fmt: skip
def test_what_is_not_known_of_earlier_sessions_is_told(
    tmp_path: Path, state: dict[str, Any]
) -> None:
    time = log_of(tmp_path, state).device_time()
    assert not time.all_sessions
    assert time.device_seconds < 100

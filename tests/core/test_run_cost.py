"""What a stage has cost, over its sessions."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from screl.core.cost import (
    PROCESSORS,
    Cost,
    Devices,
    DeviceTime,
    Stopwatch,
    add_session,
    cost_to_json,
    read_cost,
)

BUSY = "import time\nwhile time.process_time() < 0.6: pass"


def test_gpus_cost_what_they_are_held_and_processors_what_they_work() -> None:
    watch = Stopwatch()
    watch.started -= 100
    held, worked = watch.time_of(Devices("gpu", 4)), watch.time_of(PROCESSORS)
    assert held.device == "gpu"
    assert 400 <= held.device_seconds < 440
    assert worked.device == "cpu"
    assert worked.device_seconds < 10
    # of processors whose time nobody counts
    assert 200 <= watch.time_of(Devices("cpu", 2)).device_seconds < 220


def test_what_a_child_has_worked_counts_when_it_has_ended() -> None:
    before = Stopwatch()
    subprocess.run([sys.executable, "-c", BUSY], check=True)
    assert before.time_of(PROCESSORS).device_seconds >= 0.6
    assert Stopwatch().time_of(PROCESSORS).device_seconds < 0.6  # but not for who begins later


def test_sessions_add_up_and_say_if_one_is_unknown() -> None:
    now = DeviceTime("gpu", 2.0)
    assert add_session(DeviceTime("gpu", 3.0), now) == DeviceTime("gpu", 5.0, True)
    assert add_session(DeviceTime("gpu", 3.0, False), now) == DeviceTime("gpu", 5.0, False)
    assert not add_session(DeviceTime("gpu", 3.0), now._replace(all_sessions=False)).all_sessions
    assert add_session(None, now) == DeviceTime("gpu", 2.0, False)
    assert add_session(DeviceTime("cpu", 3.0), now) == DeviceTime("gpu", 2.0, False)


@pytest.mark.parametrize("is_whole", [True, False])
def test_what_is_written_is_read(tmp_path: Path, is_whole: bool) -> None:
    cost = Cost(1.5e18, 7, DeviceTime("gpu", 1.2344, is_whole))
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"results": {"cost": cost_to_json(cost)}}))
    assert read_cost(path) == Cost(1.5e18, 7, DeviceTime("gpu", 1.234, is_whole))


def test_a_cost_of_four_keys_is_whole(tmp_path: Path) -> None:
    cost = {"flops": 1, "tokens": 2, "device": "cpu", "device_seconds": 3}
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"results": {"cost": cost}}))
    assert read_cost(path) == Cost(1.0, 2, DeviceTime("cpu", 3.0, True))


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"results": []}', '{"results": {"n_rows": 3}}',
     '{"results": {"cost": null}}', '{"results": {"cost": {"flops": "many"}}}'],
)  # fmt: skip
def test_an_old_or_damaged_run_json_records_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    assert read_cost(tmp_path / "run.json") is None
    assert read_cost(tmp_path / "missing.json") is None

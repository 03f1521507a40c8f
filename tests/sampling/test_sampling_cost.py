"""What the samples of a store have cost, over all sessions."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from screl.core.cost import Cost, Devices, DeviceTime, Stopwatch, cost_to_json, count_samples
from screl.core.problems import Problem
from screl.models.loading import load_shape
from screl.sampling.checks import RunSummary
from screl.sampling.run import sampling_cost

PROBLEMS = [Problem("a", "?", "#### 1", 1), Problem("b", "?", "#### 2", 2)]


def cost_of(model: Path, store: Path, n_made: int, device: str = "gpu") -> Cost:
    """Of a store that has 3 samples of "a", of which this session made so many on 2 GPUs."""
    config: Any = SimpleNamespace(model_name_or_path=str(model), output_dir=store)
    prompts: Any = SimpleNamespace(ids={"b": [1] * 9, "a": [1] * 5})
    made: Any = SimpleNamespace(n_samples=n_made, devices=Devices(device, 2))
    found = RunSummary({"n_samples": 3}, "", [[4, 2, 7], []])
    return sampling_cost(config, PROBLEMS, prompts, made, found, Stopwatch())


def write_earlier(store: Path, n_samples: int, time: DeviceTime | None) -> None:
    results: dict[str, Any] = {"n_samples": n_samples}
    if time:
        results["cost"] = cost_to_json(Cost(1.0, 1, time))
    (store / "run.json").write_text(json.dumps({"results": results}))


def test_all_samples_count_with_their_prompts(tiny_model: Path, tmp_path: Path) -> None:
    cost = cost_of(tiny_model, tmp_path, n_made=1)
    assert cost.tokens == 3 * 5 + 4 + 2 + 7
    assert cost.flops == count_samples(load_shape(str(tiny_model)), [5, 9], [[4, 2, 7], []])[0] > 0


def test_the_first_session_is_all_there_is(tiny_model: Path, tmp_path: Path) -> None:
    write_earlier(tmp_path, 3, DeviceTime("gpu", 1000.0))  # of a store that was emptied since
    time = cost_of(tiny_model, tmp_path, n_made=3).time
    assert time.all_sessions
    assert time.device_seconds < 100


@pytest.mark.parametrize("was_whole", [True, False])
def test_sessions_add_up(tiny_model: Path, tmp_path: Path, was_whole: bool) -> None:
    write_earlier(tmp_path, 2, DeviceTime("gpu", 1000.0, was_whole))
    time = cost_of(tiny_model, tmp_path, n_made=1).time
    assert 1000 < time.device_seconds < 1100
    assert (time.device, time.all_sessions) == ("gpu", was_whole)


@pytest.mark.parametrize(
    "earlier",
    [None,  # killed
     (1, DeviceTime("gpu", 1000.0)),  # one ended well, a later one was killed
     (2, None),  # of a version that recorded no cost
     (2, DeviceTime("cpu", 1000.0))],
)  # fmt: skip
def test_what_is_not_known_of_earlier_sessions_is_told(
    tiny_model: Path, tmp_path: Path, earlier: tuple[int, DeviceTime | None] | None
) -> None:
    if earlier:
        write_earlier(tmp_path, *earlier)
    time = cost_of(tiny_model, tmp_path, n_made=1).time
    assert not time.all_sessions
    assert time.device_seconds < 100

"""Test when a run stops by itself, and the time it says it has taken over its sessions."""

import math
import shutil
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from screl.core.cost import Cost, Stopwatch
from screl.core.io import UserError
from screl.core.problems import load_problems
from screl.models.tokenizer import load_tokenizer, tokenize_example
from screl.training.loop import TrainingLog
from tests.training.conftest import run_here, train_options


def test_a_nan_loss_names_the_problems_of_its_micro_batch(
    tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One token's embedding is broken: the run stops where it occurs and learns nothing from it."""
    tokenizer = load_tokenizer(str(tiny_model))
    problems = load_problems(data)
    examples = [tokenize_example(tokenizer, problem) for problem in problems]
    in_how_many = Counter(token for e in examples for token in set(e.input_ids.tolist()))
    token = min(token for token, n in in_how_many.items() if n == 1)
    (broken_row,) = [at for at, example in enumerate(examples) if token in example.input_ids]
    broken = Path(shutil.copytree(tiny_model, tmp_path / "base"))
    weights = load_file(broken / "model.safetensors")
    weights["model.embed_tokens.weight"][token] = math.nan
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    argv = train_options(broken, data, tmp_path / "m", global_batch_size=22, num_train_epochs=1)
    with pytest.raises(UserError, match="the loss of step 1 is nan; the weights were not") as error:
        run_here(monkeypatch, argv)
    named = str(error.value).split("problem_id ")[1].split(", ")
    assert repr(problems[broken_row].problem_id) in named
    assert len(named) < 11  # of its micro-batch, not of the whole step
    assert not (tmp_path / "m" / "config.json").exists()


def test_an_exploding_loss_stops_the_run(
    tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = train_options(tiny_model, data, tmp_path / "m", learning_rate=5, max_grad_norm=1e9)
    with pytest.raises(
        UserError, match=r"the loss of step \d is .* after a median of .*problem_id"
    ):
        run_here(monkeypatch, argv)
    assert not (tmp_path / "m" / "config.json").exists()


def log_of(folder: Path, state: dict[str, Any], on_gpu: bool = False) -> TrainingLog:
    log = TrainingLog(folder, 5, state, Stopwatch(), on_gpu)
    log.close()
    return log


@pytest.mark.parametrize("on_gpu", [False, True])
def test_a_resumed_run_adds_to_the_time_in_its_checkpoint(tmp_path: Path, on_gpu: bool) -> None:
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
     {"step": 2, "time": asdict(Cost("gpu", 1000.0))}],
)  # fmt: skip
def test_unknown_time_of_earlier_sessions_is_marked(tmp_path: Path, state: dict[str, Any]) -> None:
    time = log_of(tmp_path, state).device_time()
    assert not time.all_sessions
    assert time.device_seconds < 100

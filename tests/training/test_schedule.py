"""Test the learning rates against transformers' schedules."""

import math
from pathlib import Path

import pytest
import torch
from transformers import get_scheduler

from screl.training.config import TrainConfig
from screl.training.schedule import describe_schedule, learning_rate


@pytest.mark.parametrize("kind", ["cosine", "linear", "constant_with_warmup"])
def test_rates_are_those_of_transformers(kind: str) -> None:
    config = TrainConfig("m", Path("d"), Path("o"), lr_scheduler_type=kind, warmup_ratio=0.1)  # type: ignore[arg-type]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=config.learning_rate)
    theirs = get_scheduler(kind, optimizer, math.ceil(0.1 * 25), 25)
    for step in range(25):
        assert learning_rate(config, step, 25) == pytest.approx(theirs.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        theirs.step()


def test_a_run_of_one_step_has_no_warm_up() -> None:
    config = TrainConfig("m", Path("d"), Path("o"))
    assert learning_rate(config, 0, 1) == config.learning_rate
    assert describe_schedule(config, 1) == (
        "2e-05 at first, 2e-05 after 0 steps of warm-up, 2e-05 in the last step"
    )

"""Test that a plan describes what training will do, and that what it says would fit does fit."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest

from screl.core.config import parse_config
from screl.core.io import UserError
from screl.core.shape import Shape, n_weights
from screl.models.tokenizer import Example
from screl.training.config import TrainConfig
from screl.training.data import TrainingData
from screl.training.memory import peak_moment
from screl.training.packing import plan_step
from screl.training.plan import (
    GIB,
    RESERVED_GIB,
    check_fits,
    describe_plan,
    plan_run,
    run_flops,
    traffic,
)

SMALL = Shape(64, 96, 2, 4, 2, 16, 100)
LLAMA2_70B = Shape(8192, 28672, 80, 64, 8, 128, 32000)
LLAMA_7B = Shape(4096, 11008, 32, 32, 32, 128, 32000)
CONFIG = TrainConfig(
    "model", Path("data"), Path("out"), global_batch_size=32, micro_batch_tokens=1500
)
PUBLISHED = replace(CONFIG, global_batch_size=128, micro_batch_tokens=4096)


def data_of(lengths: Sequence[int], batch: int, n_steps: int, n_prompt: int = 40) -> TrainingData:
    """Return steps of ``batch`` rows, which take turns."""
    examples = [Example(np.zeros(length, np.int32), n_prompt) for length in lengths]
    rows = [row % len(lengths) for row in range(batch * n_steps)]
    steps = [rows[at : at + batch] for at in range(0, len(rows), batch)]
    return TrainingData(examples, list(range(len(lengths))), steps)


@pytest.fixture(scope="module")
def gsm8k() -> TrainingData:
    """Return rows as long as GSM8K's, in 6 steps of 128."""
    random = Random(0)
    return data_of([random.randint(130, 400) for _ in range(500)], batch=128, n_steps=6)


def peak_gib(config: TrainConfig, shape: Shape, data: TrainingData, n_processes: int) -> float:
    return peak_moment(plan_run(config, shape, data, n_processes).workload()).total / GIB


def row(text: str, label: str) -> str:
    """Return what follows ``label`` in a printed plan."""
    lines = [line for line in text.splitlines() if line.startswith(f"  {label} ")]
    assert len(lines) == 1
    return lines[0][2 + len(label) :].strip()


def test_the_plan_divides_steps_as_training_does() -> None:
    random = Random(1)
    data = data_of([random.randint(50, 500) for _ in range(90)], batch=32, n_steps=7)
    plan = plan_run(CONFIG, SMALL, data, 4)
    expected = [
        plan_step([len(data.examples[row]) for row in step], 4, 1500) for step in data.steps
    ]
    assert plan.step_tokens == [data.n_tokens(step) for step in range(7)]
    assert plan.accumulation == [len(ranks[0]) for ranks in expected]
    assert plan.rank_examples == [sum(map(len, rank)) for step in expected for rank in step]
    assert sum(plan.rank_examples) == 7 * 32
    assert sum(plan.rank_tokens) == sum(plan.micro_batch_tokens) == sum(plan.step_tokens)
    assert max(plan.micro_batch_tokens) <= 1500
    parts = [
        [data.examples[step[at]] for at in part]
        for step, ranks in zip(data.steps, expected, strict=True)
        for rank in ranks
        for part in rank
    ]
    assert plan.most_targets == max(sum(one.n_targets for one in part) for part in parts)
    assert plan.most_squares == max(sum(len(one) ** 2 for one in part) for part in parts)


def test_balance_by_hand() -> None:
    """Two ranks of 300 and 200 tokens, then of 300 and 300."""
    data = data_of([100, 200, 200, 300, 300, 0], batch=3, n_steps=2, n_prompt=0)
    plan = plan_run(CONFIG, SMALL, data, 2)
    assert plan.rank_tokens == [300, 200, 300, 300]
    assert plan.balance == pytest.approx((250 / 300 + 1) / 2)


def test_of_many_steps_some_are_divided(gsm8k: TrainingData) -> None:
    plan = plan_run(CONFIG, SMALL, gsm8k, 4, most=3)
    assert plan.step_tokens == [gsm8k.n_tokens(step) for step in (0, 2, 4)]
    text = describe_plan(plan, gsm8k, 80, 312)
    assert row(text, "steps") == "6 of 32 examples, 3 of them divided here"


def test_the_printed_plan(gsm8k: TrainingData) -> None:
    plan = plan_run(PUBLISHED, LLAMA_7B, gsm8k, 8)
    text = describe_plan(plan, gsm8k, 80, 312)
    assert text.startswith("plan for --world_size 8 --sharding fsdp, bf16\n")
    assert row(text, "steps") == "6 of 128 examples"
    assert row(text, "tokens").startswith(
        f"{min(plan.step_tokens):,} to {max(plan.step_tokens):,} (mean"
    )
    assert row(text, "micro-batches") == "1 to 2 per rank and step"
    assert row(text, "model") == "6,738,415,616 weights"
    assert row(text, "held per rank").startswith(
        "842,301,952 weights, as many gradients, 1,684,603,9"
    )
    peak = peak_gib(PUBLISHED, LLAMA_7B, gsm8k, 8)
    assert row(text, "  peak") == f"{peak:.2f} of 80 ({peak / 80:.0%})"
    assert row(text, "  total").split()[1] == f"{peak:.2f}"  # at the last layer
    assert "  of the host   0.12 for every process while safetensors are read" in text
    assert row(text, "learning rate") == (
        "0 at first, 2e-05 after 1 step of warm-up, 1.91e-06 in the last step"
    )
    assert max(map(len, text.splitlines())) < 100


def test_flops_and_time_by_hand() -> None:
    """One row of 100 tokens, 60 with loss, in one step."""
    data = data_of([100], batch=1, n_steps=1)
    matrices = 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 96)
    layers = matrices * 100 + 2 * 64 * 100**2
    head = 64 * 100 * 60
    assert run_flops(SMALL, data, gradient_checkpointing=False) == 6 * (layers + head)
    assert run_flops(SMALL, data, True) == pytest.approx(6 * (4 / 3 * layers + head))
    plan = plan_run(CONFIG, SMALL, data, 1)
    text = describe_plan(plan, data, 80, 1e-12)  # one FLOP per second, 40% of it used
    hours = 6 * (layers + head) / 0.4 / 3600
    assert row(text, "time").startswith(f"{hours:.2f} h ")
    assert "network" not in text


def test_traffic_by_hand(gsm8k: TrainingData) -> None:
    sent = {}
    for sharding in ("ddp", "fsdp", "zero2", "zero3"):
        config = replace(CONFIG, sharding=sharding)
        workload = plan_run(config, SMALL, gsm8k, 4, most=1).workload()
        sent[sharding] = traffic(workload) / (3 / 4 * n_weights(SMALL))
    assert sent == {"ddp": 8, "fsdp": 8, "zero2": 4, "zero3": 6}


@pytest.mark.parametrize(
    ("changes", "shape", "n_processes", "memory", "named"),
    [
        ({"sharding": "ddp", "gradient_checkpointing": True}, LLAMA2_70B, 32, 80,
         "--sharding fsdp"),
        ({"sharding": "zero3"}, LLAMA2_70B, 16, 80, "--world_size 32"),
        ({"sharding": "fsdp"}, LLAMA2_70B, 16, 80, "--sharding zero3_offload"),
        ({"sharding": "none", "gradient_checkpointing": True}, LLAMA_7B, 1, 60,
         "--sharding fsdp --world_size 2"),
        ({"micro_batch_tokens": 4096}, LLAMA_7B, 2, 9,
         "--gradient_checkpointing --sharding zero3_offload"),
    ],
)  # fmt: skip
def test_a_run_too_large_is_refused_with_options_that_fit(
    gsm8k: TrainingData, changes: dict[str, object], shape: Shape, n_processes: int, memory: int,
    named: str,
) -> None:  # fmt: skip
    config = replace(CONFIG, **{"global_batch_size": 128, "micro_batch_tokens": 2048} | changes)  # type: ignore[arg-type]
    need = peak_gib(config, shape, gsm8k, n_processes)
    with pytest.raises(UserError) as refusal:
        check_fits(config, shape, gsm8k, n_processes, memory)
    start, _, fitting = str(refusal.value).partition("; would fit: ")
    assert start == (
        f"--sharding {config.sharding} --world_size {n_processes} needs {need:.1f} GiB of "
        f"{memory}, of which 2 stay free"
    )
    assert "\n" not in fitting
    names = [text.rsplit(" (", 1) for text in fitting.split(", ")]
    assert 1 <= len(names) <= 4
    assert named in [options for options, _ in names]
    for options, size in names:
        changed = changed_by(config, options)
        found = peak_gib(changed, shape, gsm8k, changed.world_size or n_processes)
        assert found == pytest.approx(float(size.split()[0]), rel=0.02)
        assert found <= memory - RESERVED_GIB


def changed_by(config: TrainConfig, options: str) -> TrainConfig:
    """Return ``config`` with the options of a command line."""
    words = options.split()
    given = parse_config(
        TrainConfig, [*words, "--model_name_or_path=m", "--data_path=d", "--output_dir=o"]
    )
    names = [word.removeprefix("--") for word in words if word.startswith("--")]
    return replace(config, **{name: getattr(given, name) for name in names})


def test_the_reserve_decides_at_the_limit(gsm8k: TrainingData) -> None:
    config = replace(PUBLISHED, micro_batch_tokens=16384)
    need = peak_gib(config, LLAMA_7B, gsm8k, 2)
    with pytest.raises(
        UserError, match=r"would fit: --gradient_checkpointing \(.*, --micro_batch_"
    ):
        check_fits(config, LLAMA_7B, gsm8k, 2, need)
    check_fits(config, LLAMA_7B, gsm8k, 2, need + RESERVED_GIB + 0.01)


def test_nothing_may_fit(gsm8k: TrainingData) -> None:
    with pytest.raises(UserError, match="; nothing that was tried would fit"):
        check_fits(PUBLISHED, LLAMA2_70B, gsm8k, 2, 3)

"""The rehearsal says what the plan of the steps is, what fits, and what would."""

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
from screl.training.fitting import RESERVED_GIB, refuse_misfit
from screl.training.packing import plan_step
from screl.training.plan import describe_plan, flops, make_plan, predict_run, run_of, traffic
from tests.conftest import ROOT

SMALL = Shape(64, 96, 2, 4, 2, 16, 100)
LLAMA2_70B = Shape(8192, 28672, 80, 64, 8, 128, 32000)
LLAMA_7B = Shape(4096, 11008, 32, 32, 32, 128, 32000)


def config(**changes: object) -> TrainConfig:
    base = TrainConfig("model", Path("data"), Path("out"))
    return replace(base, global_batch_size=32, micro_batch_tokens=1500, **changes)  # type: ignore[arg-type]


def data_of(lengths: Sequence[int], batch: int, n_steps: int, n_prompt: int = 40) -> TrainingData:
    """Steps of ``batch`` rows, taken in turns."""
    examples = [Example(np.zeros(length, np.int32), n_prompt) for length in lengths]
    rows = [row % len(lengths) for row in range(batch * n_steps)]
    steps = [rows[at : at + batch] for at in range(0, len(rows), batch)]
    return TrainingData(examples, list(range(len(lengths))), steps)


@pytest.fixture(scope="module")
def gsm8k() -> TrainingData:
    """Rows as long as GSM8K's, in 6 steps of 128."""
    random = Random(0)
    return data_of([random.randint(130, 400) for _ in range(500)], batch=128, n_steps=6)


def row(text: str, label: str) -> str:
    """What stands behind ``label`` in a rehearsal."""
    lines = [line for line in text.splitlines() if line.startswith(f"  {label} ")]
    assert len(lines) == 1
    return lines[0][2 + len(label) :].strip()


def test_plan_is_that_of_training() -> None:
    random = Random(1)
    data = data_of([random.randint(50, 500) for _ in range(90)], batch=32, n_steps=7)
    plan = make_plan(config(), data, 4, most=100)
    expected = [
        plan_step([len(data.examples[row]) for row in step], 4, 1500) for step in data.steps
    ]
    assert plan.steps == [data.n_tokens(step) for step in range(7)]
    assert plan.accumulation == [len(ranks[0]) for ranks in expected]
    assert plan.examples == [sum(map(len, rank)) for step in expected for rank in step]
    assert sum(plan.examples) == 7 * 32
    assert sum(plan.ranks) == sum(plan.micro_batches) == sum(plan.steps)
    assert max(plan.micro_batches) <= 1500
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
    plan = make_plan(config(), data, 2, most=100)
    assert plan.ranks == [300, 200, 300, 300]
    assert plan.balance == pytest.approx((250 / 300 + 1) / 2)


def test_of_many_steps_some_are_looked_at(gsm8k: TrainingData) -> None:
    plan = make_plan(config(), gsm8k, 4, most=3)
    assert plan.steps == [gsm8k.n_tokens(step) for step in (0, 2, 4)]
    assert plan.n_steps == 6


def test_text(gsm8k: TrainingData) -> None:
    settings = replace(config(), global_batch_size=128, micro_batch_tokens=4096)
    text = describe_plan(settings, LLAMA_7B, gsm8k, 8, 80, 312)
    plan = make_plan(settings, gsm8k, 8, most=100)
    assert row(text, "steps") == "6 of 128 examples"
    assert row(text, "examples").startswith(
        f"{min(plan.examples)} to {max(plan.examples)} (mean 16"
    )
    assert row(text, "tokens").startswith(f"{min(plan.steps):,} to {max(plan.steps):,} (mean")
    assert row(text, "micro-batches") == "1 to 2 a rank and step"
    assert row(text, "model") == "6,738,415,616 weights"
    assert row(text, "held a rank").startswith(
        "842,301,952 weights, as many gradients, 1,684,603,9"
    )
    peak = predict_run(settings, LLAMA_7B, gsm8k, 8).total / 2**30
    assert row(text, "  peak") == f"{peak:.2f} of 80 ({peak / 80:.0%})"
    assert row(text, "  total").split()[1] == f"{peak:.2f}"  # the last layer's
    assert row(text, "learning rate") == (
        "0 at first, 2e-05 after 1 steps of warm-up, 1.91e-06 in the last"
    )
    assert "none of them padding" in text
    assert max(map(len, text.splitlines())) < 100


def test_flops_and_time_by_hand() -> None:
    """One row of 100 tokens, 60 with loss, in one step."""
    data = data_of([100], batch=1, n_steps=1)
    matrices = 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 96)
    layers = matrices * 100 + 2 * 64 * 100**2
    head = 64 * 100 * 60
    assert flops(SMALL, data, gradient_checkpointing=False) == 6 * (layers + head)
    assert flops(SMALL, data, True) == pytest.approx(6 * (4 / 3 * layers + head))
    text = describe_plan(config(), SMALL, data, 1, 80, 1e-12)  # a FLOP a second, of which 40 %
    hours = 6 * (layers + head) / 0.4 / 3600
    assert row(text, "time").startswith(f"{hours:.2f} h ")
    assert "network" not in text


def test_traffic_by_hand(gsm8k: TrainingData) -> None:
    n = n_weights(SMALL)
    plan = make_plan(config(), gsm8k, 4, most=1)
    sent = {
        sharding: traffic(run_of(config(sharding=sharding), SMALL, plan, 4)) / (3 / 4 * n)
        for sharding in ("ddp", "fsdp", "zero2", "zero3")
    }
    assert sent == {"ddp": 8, "fsdp": 8, "zero2": 4, "zero3": 6}


def test_70b_on_32_gpus_fits_as_configured(gsm8k: TrainingData) -> None:
    arguments = ["--config", str(ROOT / "configs/train/llama2_70b.yaml")]
    published = parse_config(
        TrainConfig, [*arguments, "--data_path=d", "--output_dir=o", "--dry_run"]
    )
    refuse_misfit(published, LLAMA2_70B, gsm8k, 32, 80)
    text = describe_plan(published, LLAMA2_70B, gsm8k, 32, 80, 312)
    assert row(text, "steps") == "6 of 128 examples"
    assert row(text, "held a rank").startswith("2,155,520,256 weights, as many gradients")
    assert "  of the host   256.96 for the first process while the model is read" in text
    assert "  of the host   128.48 for the first process while the model is saved" in text
    assert "and a network that brings each process " in text


@pytest.mark.parametrize(
    ("changes", "n_processes", "named"),
    [
        ({"sharding": "ddp", "gradient_checkpointing": True}, 32, "--sharding fsdp"),
        ({"sharding": "zero3"}, 16, "--world_size 32"),
        ({"sharding": "fsdp"}, 16, "--sharding zero3_offload"),
        ({"sharding": "none", "gradient_checkpointing": True}, 1, "--sharding fsdp --world_size 2"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_does(
    gsm8k: TrainingData, changes: dict[str, object], n_processes: int, named: str
) -> None:
    settings = replace(config(**changes), global_batch_size=128, micro_batch_tokens=2048)
    shape = LLAMA_7B if named.endswith("--world_size 2") else LLAMA2_70B
    memory = 60 if shape is LLAMA_7B else 80
    need = predict_run(settings, shape, gsm8k, n_processes).total / 2**30
    with pytest.raises(UserError) as refusal:
        refuse_misfit(settings, shape, gsm8k, n_processes, memory)
    start, _, fitting = str(refusal.value).partition("; would fit: ")
    assert start == (
        f"--sharding {settings.sharding} --world_size {n_processes} needs {need:.1f} GiB of "
        f"{memory}, of which 2 stay free"
    )
    assert "\n" not in fitting
    names = [text.rsplit(" (", 1) for text in fitting.split(", ")]
    assert 1 <= len(names) <= 4
    assert named in [options for options, _ in names]
    for options, size in names:
        changed = changed_by(settings, options)
        processes = changed.world_size or n_processes
        found = predict_run(changed, shape, gsm8k, processes).total / 2**30
        assert found == pytest.approx(float(size.split()[0]), rel=0.02)
        assert found <= memory - RESERVED_GIB


def changed_by(settings: TrainConfig, options: str) -> TrainConfig:
    """``settings`` with options of a command line."""
    words = options.split()
    given = parse_config(
        TrainConfig, [*words, "--model_name_or_path=m", "--data_path=d", "--output_dir=o"]
    )
    names = [word.removeprefix("--") for word in words if word.startswith("--")]
    return replace(settings, **{name: getattr(given, name) for name in names})


def test_only_what_saves_is_named(gsm8k: TrainingData) -> None:
    """Activations too large: to compute them again, or fewer tokens at once."""
    settings = replace(config(), global_batch_size=128, micro_batch_tokens=16384)
    need = predict_run(settings, LLAMA_7B, gsm8k, 2).total / 2**30
    with pytest.raises(
        UserError, match=r"would fit: --gradient_checkpointing \(.*, --micro_batch_"
    ):
        refuse_misfit(settings, LLAMA_7B, gsm8k, 2, need)
    refuse_misfit(settings, LLAMA_7B, gsm8k, 2, need + RESERVED_GIB + 0.01)


def test_several_changes_where_one_is_not_enough(gsm8k: TrainingData) -> None:
    settings = replace(config(), global_batch_size=128, micro_batch_tokens=4096)
    with pytest.raises(UserError) as refusal:
        refuse_misfit(settings, LLAMA_7B, gsm8k, 2, 9)
    assert "would fit: --gradient_checkpointing --sharding zero3_offload (" in str(refusal.value)


def test_nothing_may_fit(gsm8k: TrainingData) -> None:
    settings = replace(config(), global_batch_size=128)
    with pytest.raises(UserError, match="; nothing that was tried would fit"):
        refuse_misfit(settings, LLAMA2_70B, gsm8k, 2, 3)


def test_too_many_processes(gsm8k: TrainingData) -> None:
    with pytest.raises(UserError, match="128 examples a step cannot be divided among 129"):
        describe_plan(replace(config(), global_batch_size=128), SMALL, gsm8k, 129, 80, 312)

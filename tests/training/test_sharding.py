"""Test every kind of sharding on two processes: it divides the model and learns the same."""

import json
import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional
from transformers import get_cosine_schedule_with_warmup

from screl.core.io import UserError
from screl.core.problems import load_problems
from screl.models.loading import load_model
from screl.models.tokenizer import load_tokenizer, tokenize_example
from screl.training.data import training_order
from tests.conftest import ROOT, run_script
from tests.training.conftest import read_log, run_here, train_options
from tests.two_processes import run_all

MODES = ["ddp", "fsdp", "zero2", "zero3", "zero3_offload"]
TIED_MODES = ["fsdp", "zero2", "zero3"]
CASES = [("untied", mode) for mode in MODES] + [("tied", mode) for mode in TIED_MODES]
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone")
pytestmark = [pytest.mark.xdist_group("two_processes"), pytest.mark.slow]


@pytest.fixture(scope="module")
def bases(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the tiny model; with one matrix for embedding and head, as SmolLM2 has; and with a
    tokenizer that has two tokens more than the model has rows."""
    folder = tmp_path_factory.mktemp("bases")
    tokenizer = load_tokenizer(str(tiny_model))
    model = load_model(str(tiny_model), torch.float32)
    model.config.tie_word_embeddings = True
    model.tie_weights()
    model.save_pretrained(folder / "tied")
    tokenizer.save_pretrained(folder / "tied")
    shutil.copytree(tiny_model, folder / "grown")
    tokenizer.add_tokens(["<new 1>", "<new 2>"])
    tokenizer.save_pretrained(folder / "grown")
    return {"untied": tiny_model, "tied": folder / "tied", "grown": folder / "grown"}


BUILD_CPU_ADAM = "from deepspeed.ops.op_builder import CPUAdamBuilder; CPUAdamBuilder().load()"


@pytest.fixture(scope="module")
def cpu_adam() -> None:
    """Compile DeepSpeed's optimizer, which takes minutes, before anything that has a time limit."""
    environment = os.environ | {"DS_ACCELERATOR": "cpu"}
    subprocess.run([sys.executable, "-c", BUILD_CPU_ADAM], env=environment, check=True)


@pytest.fixture(scope="module")
def runs(
    cpu_adam: None, bases: dict[str, Path], data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return a folder of runs ``BASE.MODE.PRECISION``: none in this process, all other modes on
    two processes.

    ``resumed.fsdp`` was killed after a checkpoint and ``resumed.zero3`` interrupted, both in other
    processes; ``halted.MODE`` is a copy of what they left.
    """
    folder = tmp_path_factory.mktemp("runs")

    def options(base: str, mode: str, name: str = "", **changes: object) -> list[str]:
        precision = changes.get("precision", "fp32")
        settings = {
            "sharding": mode, "micro_batch_tokens": 300, "learning_rate": 1e-4, "weight_decay": 10,
            "eval_data_path": data, "eval_steps": 4,
        } | changes  # fmt: skip
        output = folder / (name or f"{base}.{mode}.{precision}")
        return train_options(bases[base], data, output, **settings)

    alone = [options(base, "none") for base in bases]
    alone.append(options("untied", "none", precision="bf16"))
    write_runs(folder / "alone.json", [(argv, None) for argv in alone])
    run_all(folder / "alone.json")

    resumed = {
        mode: options("untied", mode, f"resumed.{mode}", save_steps=2) for mode in ("zero3", "fsdp")
    }
    stops = [(resumed["zero3"], 5), (resumed["fsdp"], None)]
    kill_after(folder / "resumed.fsdp/checkpoint-4", write_runs(folder / "halted.json", stops))
    for mode in resumed:
        assert not (folder / f"resumed.{mode}/run.json").exists()
        shutil.copytree(folder / f"resumed.{mode}", folder / f"halted.{mode}")

    together = [options(base, mode) for base, mode in CASES]
    together += [options("untied", mode, precision="bf16") for mode in MODES]
    together += [options("grown", mode) for mode in ("fsdp", "zero3")]
    together += resumed.values()
    path = write_runs(folder / "together.json", [(argv, None) for argv in together])
    result = run_script("tests/two_processes.py", path, launcher=TORCHRUN)
    assert result.returncode == 0, result.stderr[-3000:]
    return folder


def write_runs(path: Path, argvs: list[tuple[list[str], int | None]]) -> Path:
    path.write_text(json.dumps(argvs))
    return path


def kill_after(checkpoint: Path, path: Path) -> None:
    """Run on two processes and kill all of them when ``checkpoint`` exists."""
    process = psutil.Popen(
        [*TORCHRUN, "tests/two_processes.py", str(path)], cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while not checkpoint.exists() and process.poll() is None:
        time.sleep(0.01)
    for one in [process, *process.children(recursive=True)]:
        one.kill()
    process.wait()


def test_numbers_of_all_processes_add_up(runs: Path) -> None:
    assert (runs / "alone.json.sum").read_text() == "0.5"
    assert (runs / "together.json.sum").read_text() == "2.0"
    costs = [
        json.loads((runs / f"untied.{name}.fp32/run.json").read_text())["results"]["cost"]
        for name in ("none", *MODES)
    ]
    assert len({(cost["flops"], cost["tokens"]) for cost in costs}) == 1


@pytest.mark.parametrize(("base", "mode"), CASES)
def test_losses_and_weights_equal_those_of_one_process(
    runs: Path, bases: dict[str, Path], base: str, mode: str
) -> None:
    """With a weight decay of 10, which makes a fifth of the change; norms do not decay."""
    alone, sharded = (runs / f"{base}.{name}.fp32" for name in ("none", mode))
    losses = read_log(alone)
    assert len(losses) == 9
    assert losses[-1] < losses[0] - 0.01
    assert read_log(sharded) == pytest.approx(losses, abs=1e-5)
    held_out = [
        json.loads((run / "run.json").read_text())["results"]["eval_loss"]
        for run in (alone, sharded)
    ]
    assert held_out[1] == pytest.approx(held_out[0], abs=1e-5)
    start, expected, found = (
        load_file(folder / "model.safetensors") for folder in (bases[base], alone, sharded)
    )
    for name, weight in expected.items():
        assert (found[name] - weight).norm() < 0.01 * (weight - start[name]).norm(), name


@pytest.mark.parametrize(("base", "mode"), CASES)
def test_it_divides_what_its_name_says(
    runs: Path, bases: dict[str, Path], base: str, mode: str
) -> None:
    """Compare the numbers that a process holds with those of the whole model."""
    run = runs / f"{base}.{mode}.fp32"
    total = load_model(str(bases[base]), torch.float32).num_parameters()
    at_the_end = json.loads((run / "run.json").read_text())["results"]["numbers_held"]
    half = total // 2
    weights = total if mode in ("ddp", "zero2") else half
    moments = total if mode != "ddp" else 2 * total  # Adam has two
    assert at_the_end["weights"] == pytest.approx(weights, rel=0.01)
    assert at_the_end["optimizer"] == pytest.approx(moments, rel=0.01)
    if mode in ("ddp", "fsdp"):
        for held in json.loads((run / "held.json").read_text()):  # after the first backward pass
            expected = total if mode == "ddp" else half
            assert held["gradients"] == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(("base", "mode"), [("untied", "none"), ("tied", "none"), *CASES])
def test_gradients_equal_those_of_padded_examples(
    runs: Path, bases: dict[str, Path], data: Path, base: str, mode: str
) -> None:
    """Against transformers' own model and eager attention, right-padded, in one batch of 8."""
    tokenizer = load_tokenizer(str(bases[base]))
    examples = [tokenize_example(tokenizer, problem) for problem in load_problems(data)]
    step = [examples[row] for row in training_order(22, 3, 8, 42)[0]]
    longest = max(map(len, step))
    ids, labels = torch.full((8, longest), 1), torch.full((8, longest), -100)
    mask = torch.zeros((8, longest), dtype=torch.long)
    for row, example in enumerate(step):
        n = len(example)
        ids[row, :n] = torch.from_numpy(example.input_ids)
        labels[row, example.n_prompt : n] = ids[row, example.n_prompt : n]
        mask[row, :n] = 1
    model = load_model(str(bases[base]), torch.float32, "eager")
    logits = model(input_ids=ids, attention_mask=mask).logits
    functional.cross_entropy(
        logits[:, :-1].reshape(-1, logits.shape[-1]), labels[:, 1:].reshape(-1)
    ).backward()
    found = torch.load(runs / f"{base}.{mode}.fp32" / "gradients.pt")
    expected = {name: weight.grad for name, weight in model.named_parameters()}
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() < 1e-5 * gradient.norm(), name


@pytest.mark.parametrize("mode", ["none", *MODES])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_running_optimizer_follows_the_cosine(runs: Path, mode: str, precision: str) -> None:
    """As transformers computes it; no DeepSpeed file replaces it, as one did in the original."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-4)
    schedule = get_cosine_schedule_with_warmup(optimizer, math.ceil(0.03 * 9), 9)
    expected = []
    for _ in range(9):
        expected.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    found = read_log(runs / f"untied.{mode}.{precision}", "learning_rate")
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("mode", ["none", *MODES])
def test_bf16_learns_in_float32_weights(runs: Path, bases: dict[str, Path], mode: str) -> None:
    """Steps of 1e-4 would vanish in bf16 weights near 1: all matrices change, all by little."""
    run = runs / f"untied.{mode}.bf16"
    assert read_log(run) == pytest.approx(read_log(runs / "untied.none.bf16"), abs=1e-3)
    before = load_file(bases["untied"] / "model.safetensors")
    after = load_file(run / "model.safetensors")
    assert before.keys() == after.keys()
    for name, weight in after.items():
        assert weight.dtype == torch.float32
        assert not torch.equal(weight, weight.bfloat16().float()), name
        assert 0 < (weight - before[name]).abs().max() < 1e-2, name


@pytest.mark.parametrize("mode", ["none", "fsdp", "zero3"])
def test_a_larger_vocabulary_is_grown_before_it_is_divided(
    runs: Path, bases: dict[str, Path], mode: str
) -> None:
    """Resizing weights that ZeRO-3 has divided already would change nothing but their shape."""
    run, base = runs / f"grown.{mode}.fp32", load_model(str(bases["untied"]), torch.float32)
    n_rows = base.config.vocab_size
    saved = load_model(str(run), torch.float32)
    assert saved.config.vocab_size == n_rows + 64 - n_rows % 64
    embeddings, mean = (
        saved.get_input_embeddings().weight,
        base.get_input_embeddings().weight.mean(0),
    )
    torch.testing.assert_close(embeddings[-1], mean, atol=1e-3, rtol=0)  # no row of training has it
    assert read_log(run) == pytest.approx(read_log(runs / "grown.none.fp32"), abs=1e-5)


@pytest.mark.parametrize("mode", ["fsdp", "zero3"])
def test_an_interrupted_run_resumes_to_the_same_weights(
    runs: Path, bases: dict[str, Path], data: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit on as many processes; on one process fsdp resumes too, and zero3 says why not."""
    resumed, whole, halted = (
        runs / name for name in (f"resumed.{mode}", f"untied.{mode}.fp32", f"halted.{mode}")
    )
    expected, found = (load_file(path / "model.safetensors") for path in (whole, resumed))
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert read_log(resumed) == read_log(whole)
    options = json.loads((runs / "halted.json").read_text())
    (argv,) = [argv for argv, _ in options if f"--sharding={mode}" in argv]
    argv = [f"--output_dir={halted}" if "--output_dir" in word else word for word in argv]
    if mode == "fsdp":
        run_here(monkeypatch, argv)
        assert read_log(halted) == pytest.approx(read_log(resumed), abs=1e-5)
    else:
        with pytest.raises(UserError, match=r"cannot be resumed from .* start as many processes"):
            run_here(monkeypatch, argv)

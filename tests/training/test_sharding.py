"""Every kind of sharding, for real on two processes: it does divide, and it learns the same."""

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

from screl.core.problems import load_problems
from screl.models.loading import load_model
from screl.models.tokenizer import load_tokenizer, tokenize_example
from screl.training.data import training_order
from tests.conftest import ROOT, run_script, write_lines

MODES = ["ddp", "fsdp", "zero2", "zero3", "zero3_offload"]
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone")
pytestmark = pytest.mark.xdist_group("two_processes")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lines = (ROOT / "data/mini/train.jsonl").read_text().splitlines()[:22]
    return write_lines(tmp_path_factory.mktemp("data") / "train.jsonl", lines)


@pytest.fixture(scope="module", params=["untied", "tied"])
def base(
    request: pytest.FixtureRequest, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The tiny model, also with one matrix for embedding and head, as SmolLM2 has."""
    if request.param == "untied":
        return tiny_model
    folder = tmp_path_factory.mktemp("tied") / "model"
    model = load_model(str(tiny_model), torch.float32)
    model.config.tie_word_embeddings = True
    model.tie_weights()
    model.save_pretrained(folder)
    load_tokenizer(str(tiny_model)).save_pretrained(folder)
    return folder


def options(model: Path, data: Path, output: Path, **changes: object) -> list[str]:
    settings = {
        "model_name_or_path": model, "data_path": data, "output_dir": output,
        "num_train_epochs": 3, "global_batch_size": 8, "micro_batch_tokens": 300,
        "learning_rate": 1e-4, "precision": "fp32", "weight_decay": 10,
    } | changes  # fmt: skip
    return [f"--{key}={value}" for key, value in settings.items()]


@pytest.fixture(scope="module")
def grown(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a tokenizer that has two tokens more than the model has rows."""
    folder = Path(shutil.copytree(base, tmp_path_factory.mktemp("grown") / "model"))
    tokenizer = load_tokenizer(str(folder))
    tokenizer.add_tokens(["<new 1>", "<new 2>"])
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def runs(base: Path, grown: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders ``MODE.PRECISION`` of all kinds on two processes, and of none on one."""
    folder = tmp_path_factory.mktemp("runs")
    two = [
        options(base, data, folder / f"{mode}.{precision}", sharding=mode, precision=precision)
        for mode in MODES
        for precision in ("fp32", "bf16")
    ]
    one = [
        options(base, data, folder / f"none.{precision}", sharding="none", precision=precision)
        for precision in ("fp32", "bf16")
    ]
    two += [
        options(grown, data, folder / f"grown.{mode}", sharding=mode) for mode in ("fsdp", "zero3")
    ]
    one.append(options(grown, data, folder / "grown.none", sharding="none"))
    for name, argvs, launcher in (("two", two, TORCHRUN), ("one", one, (sys.executable,))):
        path = folder / f"{name}.json"
        path.write_text(json.dumps(argvs))
        result = run_script("tests/two_processes.py", path, launcher=launcher)
        assert result.returncode == 0, result.stderr[-3000:]
    return folder


def log(run: Path, key: str) -> list[float]:
    return [json.loads(line)[key] for line in (run / "train_log.jsonl").read_text().splitlines()]


def test_what_processes_have_taken_adds_up(runs: Path) -> None:
    assert (runs / "one.json.sum").read_text() == "0.5"
    assert (runs / "two.json.sum").read_text() == "2.0"
    costs = [
        json.loads((runs / f"{name}.fp32/run.json").read_text())["results"]["cost"]
        for name in ("none", *MODES)
    ]
    assert len({(cost["flops"], cost["tokens"]) for cost in costs}) == 1


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("bf16", 1e-3)])
@pytest.mark.parametrize("mode", MODES)
def test_losses_are_those_of_one_process(
    runs: Path, mode: str, precision: str, tolerance: float
) -> None:
    alone, sharded = (log(runs / f"{name}.{precision}", "loss") for name in ("none", mode))
    assert len(alone) == 9
    assert alone[-1] < alone[0] - 0.01
    assert sharded == pytest.approx(alone, abs=tolerance)


@pytest.mark.parametrize("mode", MODES)
def test_weights_are_those_of_one_process(runs: Path, base: Path, mode: str) -> None:
    """With a weight decay of 10, a fifth of what changes; norms have none."""
    start, alone, sharded = (
        load_file(folder / "model.safetensors")
        for folder in (base, runs / "none.fp32", runs / f"{mode}.fp32")
    )
    for name, weight in alone.items():
        assert (sharded[name] - weight).norm() < 0.01 * (weight - start[name]).norm(), name


@pytest.mark.parametrize("mode", MODES)
def test_it_divides_what_its_name_says(runs: Path, base: Path, mode: str) -> None:
    """Numbers that a process holds against those of the whole model."""
    run = runs / f"{mode}.fp32"
    total = load_model(str(base), torch.float32).num_parameters()
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


@pytest.mark.parametrize("mode", ["none", *MODES])
def test_gradients_are_those_of_padded_examples(
    runs: Path, base: Path, data: Path, mode: str
) -> None:
    """Of transformers' own model and eager attention, right-padded, in one batch of 8."""
    tokenizer = load_tokenizer(str(base))
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
    model = load_model(str(base), torch.float32, "eager")
    logits = model(input_ids=ids, attention_mask=mask).logits
    functional.cross_entropy(
        logits[:, :-1].reshape(-1, logits.shape[-1]), labels[:, 1:].reshape(-1)
    ).backward()
    found = torch.load(runs / f"{mode}.fp32" / "gradients.pt")
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
    assert log(runs / f"{mode}.{precision}", "learning_rate") == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("mode", ["none", "fsdp", "zero3"])
def test_a_larger_vocabulary_is_grown_whole_and_then_divided(
    runs: Path, base: Path, mode: str
) -> None:
    """Resizing weights that ZeRO-3 has divided already would change nothing but their shape."""
    n_rows = load_model(str(base), torch.float32).config.vocab_size
    saved = load_model(str(runs / f"grown.{mode}"), torch.float32)
    assert saved.config.vocab_size == n_rows + 64 - n_rows % 64
    embeddings = saved.get_input_embeddings().weight
    mean = load_model(str(base), torch.float32).get_input_embeddings().weight.mean(dim=0)
    torch.testing.assert_close(embeddings[-1], mean, atol=1e-3, rtol=0)  # no row of training has it
    alone = log(runs / "grown.none", "loss")
    assert log(runs / f"grown.{mode}", "loss") == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize("mode", ["none", *MODES])
def test_bf16_learns_in_float32_weights(runs: Path, base: Path, mode: str) -> None:
    """Steps of 1e-4 would vanish in bf16 weights near 1: all matrices change, all by little."""
    before = load_file(base / "model.safetensors")
    after = load_file(runs / f"{mode}.bf16" / "model.safetensors")
    assert before.keys() == after.keys()
    for name, weight in after.items():
        assert weight.dtype == torch.float32
        assert not torch.equal(weight, weight.bfloat16().float()), name
        assert 0 < (weight - before[name]).abs().max() < 1e-2, name


@pytest.mark.parametrize("mode", ["fsdp", "zero3"])
@pytest.mark.parametrize("base", ["untied"], indirect=True)
def test_a_killed_sharded_run_goes_on_to_the_same_weights(
    runs: Path, base: Path, data: Path, tmp_path: Path, mode: str
) -> None:
    output, elsewhere = tmp_path / "m", tmp_path / "elsewhere"
    changes = {"sharding": mode, "save_steps": 2}
    argv = ["train.py", *options(base, data, output, **changes)]
    process = psutil.Popen(
        [*TORCHRUN, *argv], cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while not (output / "checkpoint-4").exists() and process.poll() is None:
        time.sleep(0.01)
    for one in [process, *process.children(recursive=True)]:
        one.kill()
    process.wait()
    assert not (output / "run.json").exists()
    shutil.copytree(output, elsewhere)
    result = run_script(*argv, launcher=TORCHRUN)
    assert result.returncode == 0, result.stderr[-3000:]
    expected, found = (
        load_file(path / "model.safetensors") for path in (runs / f"{mode}.fp32", output)
    )
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert log(output, "loss") == log(runs / f"{mode}.fp32", "loss")
    one_process = run_script("train.py", *options(base, data, elsewhere, **changes))
    if mode == "fsdp":
        assert one_process.returncode == 0, one_process.stderr[-3000:]
        assert log(elsewhere, "loss") == pytest.approx(log(output, "loss"), abs=1e-5)
    else:
        assert one_process.returncode == 1
        last = one_process.stderr.strip().splitlines()[-1]
        assert "cannot be resumed from" in last
        assert "start as many processes" in last


def test_deepspeeds_files_decide_nothing_of_what_is_learned() -> None:
    for path in (ROOT / "configs/deepspeed").iterdir():
        settings = json.loads(path.read_text())
        assert settings.keys() <= {"bf16", "zero_optimization", "zero_force_ds_cpu_optimizer"}
        assert settings["bf16"] == {"enabled": True}
        assert settings["zero_optimization"]["stage"] == int(path.stem[4])

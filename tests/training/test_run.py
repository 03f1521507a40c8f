"""Test train.py on a tiny model: what it computes, saves, resumes and refuses."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.checkpoint.api import CheckpointException
from torch.nn import functional

from screl.core.cost import n_counted
from screl.core.io import UserError, locked
from screl.core.problems import load_problems
from screl.models.loading import load_model, load_shape
from screl.models.tokenizer import Example, load_tokenizer, tokenize_example
from screl.training import export, loop
from screl.training.data import training_order
from screl.training.engine import TorchEngine
from tests.conftest import ROOT, run_script, write_lines
from tests.training.conftest import read_log, run_here, train_options


@pytest.fixture(scope="module")
def trained(tiny_model: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an uninterrupted run."""
    output = tmp_path_factory.mktemp("trained") / "model"
    with pytest.MonkeyPatch.context() as monkeypatch:
        run_here(monkeypatch, train_options(tiny_model, data, output))
    return output


def first_step(model: Path, data: Path) -> list[Example]:
    tokenizer = load_tokenizer(str(model))
    examples = [tokenize_example(tokenizer, problem) for problem in load_problems(data)]
    return [examples[row] for row in training_order(22, 3, 8, 42)[0]]


def same_weights(one: Path, other: Path) -> bool:
    expected, found = (load_file(path / "model.safetensors") for path in (one, other))
    return all(torch.equal(expected[name], found[name]) for name in expected)


def test_the_loss_is_the_mean_over_the_response_tokens_of_a_step(
    trained: Path, tiny_model: Path, data: Path
) -> None:
    """The first step against a plain reference: one row at a time, a mean over all tokens."""
    model = load_model(str(tiny_model), torch.float32)
    losses = []
    for example in first_step(tiny_model, data):
        ids = torch.from_numpy(example.input_ids.astype(np.int64))
        with torch.no_grad():
            logits = model(input_ids=ids[None]).logits[0]
        before = logits[example.n_prompt - 1 : -1]
        losses.append(functional.cross_entropy(before, ids[example.n_prompt :], reduction="none"))
    assert read_log(trained)[0] == pytest.approx(torch.cat(losses).mean().item(), abs=1e-5)


def test_the_papers_loss_is_the_mean_of_means_of_four(
    trained: Path, tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against transformers' own loss of padded micro-batches of four, as published."""
    output = tmp_path / "m"
    run_here(monkeypatch, train_options(tiny_model, data, output, loss_norm="paper"))
    model = load_model(str(tiny_model), torch.float32)
    step = first_step(tiny_model, data)
    means = []
    for group in (step[:4], step[4:]):
        ids = torch.full((4, max(map(len, group))), load_tokenizer(str(tiny_model)).pad_token_id)
        labels = torch.full_like(ids, -100)
        mask = torch.zeros_like(ids)
        for at, example in enumerate(group):
            n, n_prompt = len(example), example.n_prompt
            ids[at, :n] = torch.from_numpy(example.input_ids)
            labels[at, n_prompt:n] = ids[at, n_prompt:n]
            mask[at, :n] = 1
        with torch.no_grad():
            means.append(model(input_ids=ids, attention_mask=mask, labels=labels).loss.item())
    assert read_log(output)[0] == pytest.approx(sum(means) / 2, abs=1e-5)
    assert abs(read_log(output)[0] - read_log(trained)[0]) > 1e-4  # the two differ
    assert json.loads((output / "run.json").read_text())["config"]["loss_norm"] == "paper"


def test_the_saved_model_has_learned_and_run_json_describes_the_run(
    trained: Path, tiny_model: Path
) -> None:
    info = json.loads((trained / "run.json").read_text())
    assert info["results"]["n_steps"] == math.ceil(22 * 3 / 8) == len(read_log(trained))
    assert info["config"]["learning_rate"] == 1e-3
    assert {"torch", "transformers"} <= info["versions"].keys()
    assert read_log(trained)[-1] < read_log(trained)[0] - 0.1
    assert not list(trained.glob("checkpoint-*"))
    cost, n = info["results"]["cost"], n_counted(load_shape(str(tiny_model)))
    assert cost["tokens"] == info["results"]["n_tokens"]
    assert cost["flops"] == 6 * n * cost["tokens"]
    assert (cost["device"], cost["all_sessions"]) == ("cpu", True)
    assert cost["device_seconds"] > 0
    before = load_file(tiny_model / "model.safetensors")
    after = load_file(trained / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(tensor.dtype == torch.float32 for tensor in after.values())
    assert not torch.equal(before["lm_head.weight"], after["lm_head.weight"])
    assert load_tokenizer(str(trained)).eos_token_id == 2


def test_the_held_out_loss_is_logged_and_changes_nothing(
    trained: Path, tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Against the saved model, one row at a time; one of the rows is also trained on."""
    rows = (ROOT / "data/mini/train.jsonl").read_text().splitlines()[21:31]
    held_out, output = write_lines(tmp_path / "held_out.jsonl", rows), tmp_path / "m"
    run_here(
        monkeypatch,
        train_options(tiny_model, data, output, eval_data_path=held_out, eval_steps=4),
    )
    out, err = capsys.readouterr()
    assert f"warning: 1 of 10 questions in {held_out} are in {data}" in err
    assert same_weights(trained, output)
    assert read_log(output) == read_log(trained)
    log = [json.loads(line) for line in (output / "train_log.jsonl").read_text().splitlines()]
    evaluated = {entry["step"]: entry["eval_loss"] for entry in log if "eval_loss" in entry}
    assert list(evaluated) == [4, 8, 9]
    model, tokenizer = load_model(str(output), torch.float32), load_tokenizer(str(output))
    losses = []
    for problem in load_problems(held_out):
        example = tokenize_example(tokenizer, problem)
        ids = torch.from_numpy(example.input_ids.astype(np.int64))
        with torch.no_grad():
            logits = model(input_ids=ids[None]).logits[0, example.n_prompt - 1 : -1]
        losses.append(functional.cross_entropy(logits, ids[example.n_prompt :], reduction="none"))
    assert evaluated[9] == pytest.approx(torch.cat(losses).mean().item(), abs=1e-5)
    results = json.loads((output / "run.json").read_text())["results"]
    assert results["eval_loss"] == results["lowest_eval_loss"] == evaluated[9]
    assert results["lowest_eval_step"] == 9
    assert out.rstrip().endswith(f", held-out loss {evaluated[9]:.4f}")


def test_the_held_out_loss_is_computed_after_each_epoch(
    tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "m"
    argv = train_options(tiny_model, data, output, eval_data_path=data, num_train_epochs=2)
    run_here(monkeypatch, argv)
    lines = (output / "train_log.jsonl").read_text().splitlines()
    assert [at for at, line in enumerate(lines, 1) if "eval_loss" in line] == [3, 6]


def test_the_size_of_micro_batches_changes_nothing(
    trained: Path, tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_here(monkeypatch, train_options(tiny_model, data, tmp_path / "m", micro_batch_tokens=4096))
    assert read_log(tmp_path / "m") == pytest.approx(read_log(trained), abs=2e-5)


def test_bf16_keeps_float32_masters_and_is_saved_as_asked(
    trained: Path, tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step of 2e-5 would vanish in bf16 weights of size 1; here it must change every matrix."""
    output, argv = tmp_path / "m", {"precision": "bf16", "learning_rate": 2e-5}
    run_here(monkeypatch, train_options(tiny_model, data, output, **argv))
    assert read_log(output)[0] == pytest.approx(read_log(trained)[0], abs=0.01)
    assert read_log(output)[0] != read_log(trained)[0]  # the arithmetic differs
    before, after = (load_file(path / "model.safetensors") for path in (tiny_model, output))
    for name, weight in after.items():
        assert weight.dtype == torch.float32
        assert not torch.equal(weight, weight.bfloat16().float()), name
        assert 0 < (weight - before[name]).abs().max() < 1e-3, name
    small = tmp_path / "small"
    argv |= {"save_precision": "bf16", "num_train_epochs": 0.3}
    run_here(monkeypatch, train_options(tiny_model, data, small, **argv))
    assert {weight.dtype for weight in load_file(small / "model.safetensors").values()} == {
        torch.bfloat16
    }
    for folder, dtype in ((output, "float32"), (small, "bfloat16")):
        assert json.loads((folder / "config.json").read_text())["dtype"] == dtype


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_weights(
    trained: Path, tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "m"
    argv = train_options(tiny_model, data, output, save_steps=2)
    process = subprocess.Popen(
        [sys.executable, "train.py", *argv], cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while last_checkpoint_step(output) < 4 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (output / "run.json").exists()
    (output / "checkpoint-99.writing").mkdir(exist_ok=True)  # as torn as can be
    for path in output.glob("checkpoint-*/state.json"):
        state = json.loads(path.read_text())
        assert 0 < state["time"]["device_seconds"] < 600
        state["time"]["device_seconds"] += 1000
        path.write_text(json.dumps(state))
    run_here(monkeypatch, argv)
    assert not list(output.glob("checkpoint-*"))
    assert read_log(output) == read_log(trained)
    assert same_weights(trained, output)
    info = json.loads((output / "run.json").read_text())
    assert info["results"]["training_seconds"] > 0
    cost = info["results"]["cost"]
    assert 1000 < cost["device_seconds"] < 1600
    assert cost["all_sessions"] is True
    whole = json.loads((trained / "run.json").read_text())["results"]["cost"]
    assert (cost["flops"], cost["tokens"]) == (whole["flops"], whole["tokens"])


def last_checkpoint_step(output: Path) -> int:
    complete = output.glob("checkpoint-*/state.json")
    steps = [path.parent.name.split("-")[1] for path in complete]
    return max((int(step) for step in steps if step.isdigit()), default=0)


def test_a_tokenizer_without_a_pad_token_trains_the_same(
    trained: Path, tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Path(shutil.copytree(tiny_model, tmp_path / "base"))
    settings = json.loads((model / "tokenizer_config.json").read_text())
    del settings["pad_token"]
    (model / "tokenizer_config.json").write_text(json.dumps(settings))
    assert load_tokenizer(str(model)).pad_token_id is None
    run_here(monkeypatch, train_options(model, data, tmp_path / "m"))
    assert read_log(tmp_path / "m") == read_log(trained)


def test_a_finished_run_is_left_alone_and_another_is_refused(
    trained: Path, tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    before = (trained / "model.safetensors").stat().st_mtime_ns
    run_here(monkeypatch, train_options(tiny_model, data, trained, micro_batch_tokens=900))
    assert "already trained" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"learning_rate was 0\.001, now 0\.002"):
        run_here(monkeypatch, train_options(tiny_model, data, trained, learning_rate=2e-3))
    with pytest.raises(UserError, match="holds another model"):
        run_here(monkeypatch, train_options(tiny_model, data, tiny_model))
    assert (trained / "model.safetensors").stat().st_mtime_ns == before
    output = Path(shutil.copytree(trained, tmp_path / "m"))
    (output / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"has a config\.json but no weights"):
        run_here(monkeypatch, train_options(tiny_model, data, output))


def test_a_run_that_failed_before_its_first_checkpoint_may_be_tried_with_other_options(
    trained: Path, tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "m"

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "run_step", fail)
        with pytest.raises(KeyboardInterrupt):
            run_here(monkeypatch, train_options(tiny_model, data, output, learning_rate=1))
    assert (output / "training.json").exists()
    run_here(monkeypatch, train_options(tiny_model, data, output))
    assert read_log(output) == read_log(trained)


def train_but_fail_to_save(monkeypatch: pytest.MonkeyPatch, argv: list[str]) -> None:
    """Run all steps; then report that the saved model is not the trained one."""
    with monkeypatch.context() as patch:
        patch.setattr(export, "verify_checkpoint", refuse)
        with pytest.raises(UserError, match="not the trained one"):
            run_here(monkeypatch, argv)


def refuse(*_: object) -> None:
    raise UserError("not the trained one")


def test_if_saving_fails_nothing_has_to_be_trained_again(
    trained: Path, tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = train_options(tiny_model, data, tmp_path / "m")
    train_but_fail_to_save(monkeypatch, argv)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "run_step", refuse)
        run_here(monkeypatch, argv)
    assert read_log(tmp_path / "m") == read_log(trained)
    assert same_weights(trained, tmp_path / "m")


def test_a_damaged_checkpoint_ends_in_one_line(
    tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = train_options(tiny_model, data, tmp_path / "m")
    train_but_fail_to_save(monkeypatch, argv)
    (part,) = (tmp_path / "m/checkpoint-9").glob("*.distcp")
    part.write_bytes(part.read_bytes()[:5000])
    with pytest.raises(UserError, match=r"checkpoint-9: cannot be resumed from \(.*; if it is dam"):
        run_here(monkeypatch, argv)


def test_a_run_that_needs_more_disk_than_there_is_is_refused_first(
    tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(UserError, match=r"0 MB are free and the run writes up to 1 MB"):
        run_here(monkeypatch, train_options(tiny_model, data, tmp_path / "m"))
    assert not (tmp_path / "m" / "config.json").exists()


def test_a_disk_that_fills_up_loses_no_finished_work(
    trained: Path, tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third checkpoint cannot be written; then space is freed."""
    output, real_save = tmp_path / "m", TorchEngine.save
    usage = shutil.disk_usage(tmp_path)

    def full(engine: TorchEngine, folder: Path) -> None:
        if "checkpoint-6" in folder.name:
            monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
            raise CheckpointException("no space", {})
        real_save(engine, folder)

    argv = train_options(tiny_model, data, output, save_steps=2)
    with monkeypatch.context() as patch:
        patch.setattr(TorchEngine, "save", full)
        with pytest.raises(
            UserError, match=r"the disk is full .*; the last complete checkpoint is kept"
        ):
            run_here(monkeypatch, argv)
    assert last_checkpoint_step(output) == 4
    assert (output / "checkpoint-6.writing").exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    run_here(monkeypatch, argv)
    assert read_log(output) == read_log(trained)


def test_a_dry_run_shows_options_text_ids_and_loss_and_writes_nothing(
    tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run_here(monkeypatch, train_options(tiny_model, data, tmp_path / "m", dry_run=True))
    shown = capsys.readouterr().out
    assert "learning_rate: 0.001" in shown
    assert load_problems(data)[0].question in shown
    assert "'</s>'" in [line for line in shown.splitlines() if line.startswith("  *")][-1]
    assert not (tmp_path / "m").exists()
    tokenizer = load_tokenizer(str(tiny_model))
    n_tokens = len(tokenize_example(tokenizer, load_problems(data)[0]))
    assert f"\n    ... {n_tokens - 20} more, shown with --verbose ...\n" in shown
    rows, _, plan = shown.partition(" on:\n")[2].partition("plan for this machine without a GPU, ")
    *tokens, architecture = rows.splitlines()
    assert len(tokens) == 21
    assert architecture.startswith("architecture: ")
    assert re.search(r"^  time +\d+\.\d min \(\S+ s per step\)$", plan, re.MULTILINE)
    assert "GPU hours" not in plan
    assert plan.splitlines()[-1].startswith("  learning rate")
    options = {"dry_run": True, "verbose": True, "gpu_memory_gib": 80}
    run_here(monkeypatch, train_options(tiny_model, data, tmp_path / "m", **options))
    shown = capsys.readouterr().out
    rows, _, plan = shown.partition(" on:\n")[2].partition("plan for --world_size 1 ")
    assert len(rows.splitlines()) == n_tokens + 1  # and the architecture
    assert "GPU hours" in plan


def test_a_dry_run_refuses_what_this_machine_cannot_hold(
    tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr("screl.training.run.machine_memory_gib", lambda: 1.0)
    with pytest.raises(UserError, match="GiB of 1, of which 2 stay free"):
        run_here(monkeypatch, train_options(tiny_model, data, tmp_path / "m", dry_run=True))
    assert "not measured: the run does not fit into memory" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"output_dir": "README.md"}, "README.md: "),
        ({"data_path": "none.jsonl"}, "none.jsonl: no such file"),
        ({"model_name_or_path": "./none"}, "./none: no such folder"),
        ({"num_train_epochs": 0}, "--num_train_epochs must be above 0"),
    ],
)
def test_bad_input_ends_in_one_line(
    tiny_model: Path, data: Path, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    result = run_script("train.py", *train_options(tiny_model, data, tmp_path / "m", **change))
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert message in result.stderr.splitlines()[-1]
    assert result.stderr.count("error:") == 1


def test_a_row_that_fits_no_micro_batch_is_refused_before_the_first_step(
    tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = train_options(tiny_model, data, tmp_path / "m", micro_batch_tokens=30)
    with pytest.raises(UserError, match="--micro_batch_tokens is 30; raise it to"):
        run_here(monkeypatch, argv)
    assert not (tmp_path / "m/train_log.jsonl").exists()


@pytest.mark.parametrize(("local_rank", "n_errors"), [("0", 1), ("1", 0)])
def test_a_machine_reports_once_what_all_its_processes_refuse(
    tiny_model: Path, tmp_path: Path, local_rank: str, n_errors: int
) -> None:
    """Also a machine whose file is missing and whose first process is not rank 0."""
    argv = train_options(tiny_model, tmp_path / "none", tmp_path / "m")
    result = run_script("train.py", *argv, RANK="9", LOCAL_RANK=local_rank, WORLD_SIZE="16")
    assert result.returncode == 1
    assert result.stderr.count("error:") == n_errors


def test_two_runs_into_one_folder_are_refused(
    tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        locked(tmp_path / "m", "in use"),
        pytest.raises(UserError, match=r"another train\.py is writing there; wait until it ends"),
    ):
        run_here(monkeypatch, train_options(tiny_model, data, tmp_path / "m"))


def test_the_doctor_examines_and_does_not_train(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run_here(monkeypatch, ["--doctor", str(tiny_model)])
    assert "training row" in capsys.readouterr().out
    broken = Path(shutil.copytree(tiny_model, tmp_path / "broken"))
    settings = json.loads((broken / "generation_config.json").read_text())
    (broken / "generation_config.json").write_text(json.dumps(settings | {"eos_token_id": 5}))
    with pytest.raises(SystemExit) as end:
        run_here(monkeypatch, [f"--doctor={broken}"])
    assert end.value.code == 1
    assert "MISMATCH" in capsys.readouterr().out


def test_ddp_adds_up_gradients_once_per_step(
    tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One reduction for each of the three units (two layers and the rest), however many parts."""
    reductions, micro_batches = [], []
    real_reduce, real_add = torch.distributed.all_reduce, TorchEngine.add_gradients

    def reduce(tensor: torch.Tensor, *others: object, **more: object) -> object:
        if tensor.dim() == 1 and reductions:  # the others are scalars
            reductions[-1] += 1
        return real_reduce(tensor, *others, **more)

    def add(engine: TorchEngine, batches: list[object]) -> list[torch.Tensor]:
        reductions.append(0)
        micro_batches.append(len(batches))
        return real_add(engine, batches)

    monkeypatch.setattr(torch.distributed, "all_reduce", reduce)
    monkeypatch.setattr(TorchEngine, "add_gradients", add)
    run_here(monkeypatch, train_options(tiny_model, data, tmp_path / "m", sharding="ddp"))
    assert min(micro_batches) > 1
    assert set(reductions) == {3}

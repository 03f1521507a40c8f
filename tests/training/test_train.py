"""train.py on a tiny model: the loss, several processes, resuming, and bad input."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.distributed.checkpoint.api import CheckpointException
from torch.nn import functional

import train
from screl.core.cost import n_counted
from screl.core.io import UserError, locked
from screl.core.problems import load_problems
from screl.models.loading import load_model, load_shape
from screl.models.tokenizer import load_tokenizer, tokenize_example
from screl.training import export as final_checkpoint
from screl.training import loop as training
from screl.training.data import training_order
from screl.training.engine import TorchEngine
from tests.conftest import ROOT, run_script, write_lines


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """22 problems of the miniature: not a multiple of the batch size."""
    lines = (ROOT / "data/mini/train.jsonl").read_text().splitlines()[:22]
    return write_lines(tmp_path_factory.mktemp("data") / "train.jsonl", lines)


def options(model: Path, data: Path, output: Path, **changes: object) -> list[str]:
    settings = {
        "model_name_or_path": model, "data_path": data, "output_dir": output,
        "num_train_epochs": 3, "global_batch_size": 8, "micro_batch_tokens": 500,
        "learning_rate": 1e-3, "precision": "fp32",
    } | changes  # fmt: skip
    return [f"--{key}={value}" for key, value in settings.items()]


def run_here(monkeypatch: pytest.MonkeyPatch, argv: list[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", *argv])
    train.main()


def losses(output: Path) -> list[float]:
    lines = (output / "train_log.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


@pytest.fixture(scope="module")
def trained(tiny_model: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run of one process."""
    output = tmp_path_factory.mktemp("trained") / "model"
    with pytest.MonkeyPatch.context() as monkeypatch:
        run_here(monkeypatch, options(tiny_model, data, output))
    return output


def test_the_loss_is_the_mean_over_the_response_tokens_of_a_step(
    trained: Path, tiny_model: Path, data: Path
) -> None:
    """The first step against a plain reference: one batch, cross-entropy, a mean over tokens."""
    tokenizer = load_tokenizer(str(tiny_model))
    examples = [tokenize_example(tokenizer, problem) for problem in load_problems(data)]
    model = load_model(str(tiny_model), torch.float32)
    losses_of_tokens = []
    for row in training_order(22, 3, 8, 42)[0]:
        ids = torch.from_numpy(examples[row].input_ids.astype(np.int64))
        with torch.no_grad():
            logits = model(input_ids=ids[None]).logits[0]
        response = slice(examples[row].n_prompt, len(ids))
        before = slice(response.start - 1, response.stop - 1)
        losses_of_tokens.append(
            functional.cross_entropy(logits[before], ids[response], reduction="none")
        )
    expected = torch.cat(losses_of_tokens).mean().item()
    assert losses(trained)[0] == pytest.approx(expected, abs=1e-5)


def test_the_papers_loss_is_the_mean_of_means_of_four(
    trained: Path, tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against transformers' own loss of padded micro-batches of four, as it was computed then."""
    output = tmp_path / "m"
    run_here(monkeypatch, options(tiny_model, data, output, loss_norm="paper"))
    tokenizer = load_tokenizer(str(tiny_model))
    examples = [tokenize_example(tokenizer, problem) for problem in load_problems(data)]
    model = load_model(str(tiny_model), torch.float32)
    step = training_order(22, 3, 8, 42)[0]
    means = []
    for group in (step[:4], step[4:]):
        longest = max(len(examples[row]) for row in group)
        ids = torch.full((4, longest), tokenizer.pad_token_id)
        labels = torch.full((4, longest), -100)
        mask = torch.zeros((4, longest), dtype=torch.long)
        for at, row in enumerate(group):
            n, n_prompt = len(examples[row]), examples[row].n_prompt
            ids[at, :n] = torch.from_numpy(examples[row].input_ids)
            labels[at, n_prompt:n] = ids[at, n_prompt:n]
            mask[at, :n] = 1
        with torch.no_grad():
            means.append(model(input_ids=ids, attention_mask=mask, labels=labels).loss.item())
    assert losses(output)[0] == pytest.approx(sum(means) / 2, abs=1e-5)
    assert abs(losses(output)[0] - losses(trained)[0]) > 1e-4  # the two differ
    assert json.loads((output / "run.json").read_text())["config"]["loss_norm"] == "paper"


def test_what_is_saved_is_complete_and_has_learned(trained: Path, tiny_model: Path) -> None:
    info = json.loads((trained / "run.json").read_text())
    assert info["results"]["n_steps"] == math.ceil(22 * 3 / 8) == len(losses(trained))
    assert info["config"]["learning_rate"] == 1e-3
    assert {"torch", "transformers"} <= info["versions"].keys()
    assert losses(trained)[-1] < losses(trained)[0] - 0.1
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


def test_micro_batches_change_nothing(
    trained: Path, tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_here(monkeypatch, options(tiny_model, data, tmp_path / "m", micro_batch_tokens=4096))
    assert losses(tmp_path / "m") == pytest.approx(losses(trained), abs=2e-5)


def test_bf16_keeps_float32_master_weights(
    trained: Path, tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step of 2e-5 would vanish in bf16 weights of size 1: here it must change every matrix."""
    output = tmp_path / "m"
    run_here(monkeypatch, options(tiny_model, data, output, precision="bf16", learning_rate=2e-5))
    assert losses(output)[0] == pytest.approx(losses(trained)[0], abs=0.01)
    assert losses(output)[0] != losses(trained)[0]  # it is another arithmetic
    before, after = (load_file(path / "model.safetensors") for path in (tiny_model, output))
    for name, weight in after.items():
        assert weight.dtype == torch.float32
        assert not torch.equal(weight, weight.bfloat16().float()), name
        assert 0 < (weight - before[name]).abs().max() < 1e-3, name


def test_a_killed_run_goes_on_to_the_same_weights(
    trained: Path, tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    output = tmp_path / "m"
    argv = [sys.executable, "train.py", *options(tiny_model, data, output, save_steps=2)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(argv, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
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
    result = run_script(*argv[1:])
    assert result.returncode == 0, result.stderr
    assert not list(output.glob("checkpoint-*"))
    assert losses(output) == losses(trained)
    expected, found = (load_file(path / "model.safetensors") for path in (trained, output))
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    info = json.loads((output / "run.json").read_text())
    assert info["results"]["training_seconds"] > 0
    cost = info["results"]["cost"]
    assert 1000 < cost["device_seconds"] < 1600
    assert cost["all_sessions"] is True
    whole = json.loads((trained / "run.json").read_text())["results"]["cost"]
    assert (cost["flops"], cost["tokens"]) == (whole["flops"], whole["tokens"])


def last_checkpoint_step(output: Path) -> int:
    whole = output.glob("checkpoint-*/state.json")
    steps = [path.parent.name.split("-")[1] for path in whole]
    return max((int(step) for step in steps if step.isdigit()), default=0)


def test_a_tokenizer_without_a_pad_token_trains_alike(
    trained: Path, tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Path(shutil.copytree(tiny_model, tmp_path / "base"))
    settings = json.loads((model / "tokenizer_config.json").read_text())
    del settings["pad_token"]
    (model / "tokenizer_config.json").write_text(json.dumps(settings))
    assert load_tokenizer(str(model)).pad_token_id is None
    run_here(monkeypatch, options(model, data, tmp_path / "m"))
    assert losses(tmp_path / "m") == losses(trained)


def test_a_finished_run_is_left_alone_and_another_is_refused(
    trained: Path, tiny_model: Path, data: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    before = (trained / "model.safetensors").stat().st_mtime_ns
    run_here(monkeypatch, options(tiny_model, data, trained, micro_batch_tokens=900))
    assert "already trained" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"learning_rate was 0\.001, now 0\.002"):
        run_here(monkeypatch, options(tiny_model, data, trained, learning_rate=2e-3))
    assert (trained / "model.safetensors").stat().st_mtime_ns == before


def test_a_finished_run_whose_weights_are_gone_is_not_called_finished(
    trained: Path, tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = Path(shutil.copytree(trained, tmp_path / "m"))
    (output / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"has a config\.json but no weights"):
        run_here(monkeypatch, options(tiny_model, data, output))


def test_what_failed_before_its_first_checkpoint_may_be_tried_otherwise(
    trained: Path, tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "m"

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "run_step", fail)
        with pytest.raises(KeyboardInterrupt):
            run_here(monkeypatch, options(tiny_model, data, output, learning_rate=1))
    assert (output / "training.json").exists()
    run_here(monkeypatch, options(tiny_model, data, output))
    assert losses(output) == losses(trained)


def train_but_do_not_save(monkeypatch: pytest.MonkeyPatch, argv: list[str]) -> None:
    """All steps; then the saved model is said not to be the trained one."""
    with monkeypatch.context() as patch:
        patch.setattr(final_checkpoint, "verify", refuse)
        with pytest.raises(UserError, match="not the trained one"):
            run_here(monkeypatch, argv)


def refuse(*_: object) -> None:
    raise UserError("not the trained one")


def test_when_saving_fails_nothing_has_to_be_trained_again(
    trained: Path, tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = options(tiny_model, data, tmp_path / "m")
    train_but_do_not_save(monkeypatch, argv)
    with monkeypatch.context() as patch:
        patch.setattr(training, "run_step", refuse)
        run_here(monkeypatch, argv)
    assert losses(tmp_path / "m") == losses(trained)
    expected, found = (load_file(path / "model.safetensors") for path in (trained, tmp_path / "m"))
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_damaged_checkpoint_ends_in_one_line(
    tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = options(tiny_model, data, tmp_path / "m")
    train_but_do_not_save(monkeypatch, argv)
    (part,) = (tmp_path / "m/checkpoint-9").glob("*.distcp")
    part.write_bytes(part.read_bytes()[:5000])
    with pytest.raises(UserError, match=r"checkpoint-9: cannot be resumed from \(.*; if it is dam"):
        run_here(monkeypatch, argv)


def test_a_row_that_fits_no_micro_batch_is_refused_before_the_first_step(
    tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = load_tokenizer(str(tiny_model))
    lengths = [len(tokenize_example(tokenizer, problem)) for problem in load_problems(data)]
    argv = options(tiny_model, data, tmp_path / "m", micro_batch_tokens=max(lengths) - 1)
    with pytest.raises(UserError, match=f"a row has {max(lengths)} tokens"):
        run_here(monkeypatch, argv)
    assert not (tmp_path / "m/train_log.jsonl").exists()


def test_full_steps_that_make_more_epochs_are_announced(
    tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    argv = options(tiny_model, data, tmp_path / "m", dry_run=True, num_train_epochs=1)
    run_here(monkeypatch, [*argv, "--global_batch_size=64"])
    assert "warning: 1 steps of 64 rows are 2.91 epochs, not 1" in capsys.readouterr().err
    run_here(monkeypatch, argv)
    assert "epochs, not" not in capsys.readouterr().err


@pytest.mark.parametrize(("local_rank", "n_errors"), [("0", 1), ("1", 0)])
def test_a_machine_says_once_what_all_its_processes_refuse(
    tiny_model: Path, tmp_path: Path, local_rank: str, n_errors: int
) -> None:
    """Also one whose file is missing on another machine, whose first process is not rank 0."""
    argv = options(tiny_model, tmp_path / "none", tmp_path / "m")
    result = run_script("train.py", *argv, RANK="9", LOCAL_RANK=local_rank, WORLD_SIZE="16")
    assert result.returncode == 1
    assert result.stderr.count("error:") == n_errors


def test_a_base_model_is_never_overwritten(
    tiny_model: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="holds another model"):
        run_here(monkeypatch, options(tiny_model, data, tiny_model))


def test_long_rows_are_named(
    tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    tokenizer = load_tokenizer(str(tiny_model))
    problems = load_problems(data)
    examples = [tokenize_example(tokenizer, problem) for problem in problems]
    longest = max(map(len, examples))
    lines = [p.line for p, e in zip(problems, examples, strict=True) if len(e) == longest]
    run_here(
        monkeypatch,
        options(tiny_model, data, tmp_path / "m", max_length=longest - 1, dry_run=True),
    )
    warning = capsys.readouterr().err
    assert f"{len(lines)} of 22 rows have more than" in warning
    assert f"line {', '.join(map(str, lines))}" in warning
    with pytest.raises(UserError, match="no row is left; raise --max_length"):
        run_here(monkeypatch, options(tiny_model, data, tmp_path / "m", max_length=5))


def test_dry_run_shows_config_text_ids_and_loss_and_writes_nothing(
    tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run_here(monkeypatch, options(tiny_model, data, tmp_path / "m", dry_run=True))
    shown = capsys.readouterr().out
    assert "learning_rate: 0.001" in shown
    assert load_problems(data)[0].question in shown
    assert "'</s>'" in [line for line in shown.splitlines() if line.startswith("  *")][-1]
    assert not (tmp_path / "m").exists()


def test_a_run_that_will_not_fit_on_the_disk_is_refused_first(
    tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(UserError, match=r"0 MB are free and the run writes up to 1 MB"):
        run_here(monkeypatch, options(tiny_model, data, tmp_path / "m"))
    assert not (tmp_path / "m" / "config.json").exists()


def test_a_disk_that_fills_up_costs_nothing_that_is_done(
    trained: Path, tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third checkpoint cannot be written; then there is room again."""
    output, real_save = tmp_path / "m", TorchEngine.save
    usage = shutil.disk_usage(tmp_path)

    def full(engine: TorchEngine, folder: Path) -> None:
        if "checkpoint-6" in folder.name:
            monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
            raise CheckpointException("no space", {})
        real_save(engine, folder)

    argv = options(tiny_model, data, output, save_steps=2)
    with monkeypatch.context() as patch:
        patch.setattr(TorchEngine, "save", full)
        with pytest.raises(
            UserError, match=r"the disk is full .*; the last whole checkpoint is kept"
        ):
            run_here(monkeypatch, argv)
    assert last_checkpoint_step(output) == 4
    assert (output / "checkpoint-6.writing").exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    run_here(monkeypatch, argv)
    assert losses(output) == losses(trained)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_train_epochs": 0}, "--num_train_epochs must be above 0"),
        ({"num_train_epochs": "nan"}, "--num_train_epochs must be above 0"),
        ({"global_batch_size": 0}, "must be at least 1"),
        ({"micro_batch_tokens": -16}, "must be at least 1"),
        ({"loss_group_size": 0}, "--loss_group_size must be at least 1"),
        ({"save_total_limit": 0}, "--save_total_limit must be at least 1"),
        ({"learning_rate": "nan"}, "--learning_rate must be in"),
        ({"warmup_ratio": 2}, "--warmup_ratio in"),
        ({"save_steps": -1}, "--save_steps must be at least 0"),
        ({"max_grad_norm": -1}, "--max_grad_norm must be"),
        ({"max_grad_norm": "nan"}, "--max_grad_norm must be"),
        ({"weight_decay": -1}, "--weight_decay must be"),
        ({"seed": 2**63}, "--seed must be at least 0, and a number of 64 bits"),
        ({"gpu_memory_gib": 0}, "--gpu_memory_gib must be above 0"),
        ({"gpu_tflops": "nan"}, "--gpu_tflops must be above 0"),
        ({"num_train_epochs": 0.01}, "--num_train_epochs 0.01 of 22 rows is not one row"),
    ],
)
def test_numbers_that_cannot_be_meant(
    tiny_model: Path, data: Path, tmp_path: Path, change: dict[str, object], message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    with pytest.raises(UserError, match=message):
        run_here(monkeypatch, options(tiny_model, data, tmp_path / "m", **change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"output_dir": "README.md"}, "README.md: "),
        ({"output_dir": "README.md/x"}, "README.md/x: Not a directory"),
        ({"data_path": "none.jsonl"}, "none.jsonl: no such file"),
        ({"model_name_or_path": "./none"}, "./none: no such model folder"),
        ({"micro_batch_tokens": 30}, "--micro_batch_tokens is 30; raise it to"),
    ],
)
def test_bad_input_ends_in_one_line(
    tiny_model: Path, data: Path, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    result = run_script("train.py", *options(tiny_model, data, tmp_path / "m", **change))
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert message in result.stderr.splitlines()[-1]
    assert result.stderr.count("error:") == 1


def test_a_loss_that_is_no_number_names_the_problems_of_its_micro_batch(
    tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One token's embedding is broken: the run ends where it comes, and learns nothing from it."""
    tokenizer = load_tokenizer(str(tiny_model))
    problems = load_problems(data)
    examples = [tokenize_example(tokenizer, problem) for problem in problems]
    in_how_many = Counter(token for e in examples for token in set(e.input_ids.tolist()))
    token = min(token for token, n in in_how_many.items() if n == 1)
    (sick,) = [at for at, example in enumerate(examples) if token in example.input_ids]
    broken = Path(shutil.copytree(tiny_model, tmp_path / "base"))
    weights = load_file(broken / "model.safetensors")
    weights["model.embed_tokens.weight"][token] = math.nan
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    argv = options(broken, data, tmp_path / "m", global_batch_size=22, num_train_epochs=1)
    with pytest.raises(UserError, match="the loss of step 1 is nan; the weights were not") as error:
        run_here(monkeypatch, argv)
    named = str(error.value).split("problem_id ")[1].split(", ")
    assert repr(problems[sick].problem_id) in named
    assert len(named) < 11  # of its micro-batch, not of the whole step
    assert not (tmp_path / "m" / "config.json").exists()


def test_a_loss_that_explodes_ends_the_run(
    tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = options(tiny_model, data, tmp_path / "m", learning_rate=5, max_grad_norm=1e9)
    with pytest.raises(
        UserError, match=r"the loss of step \d is .* after a median of .*problem_id"
    ):
        run_here(monkeypatch, argv)
    assert not (tmp_path / "m" / "config.json").exists()


def test_an_empty_response_is_refused(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = ['{"query": "a", "response": "b"}', '{"query": "a", "response": " "}']
    data = write_lines(tmp_path / "d.jsonl", rows)
    with pytest.raises(UserError, match=r"d\.jsonl:2: the response is empty"):
        run_here(monkeypatch, options(tiny_model, data, tmp_path / "m"))


def test_one_step_is_not_spent_on_warm_up(
    tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = options(tiny_model, data, tmp_path / "m", num_train_epochs=0.3)
    run_here(monkeypatch, argv)
    (line,) = (tmp_path / "m/train_log.jsonl").read_text().splitlines()
    assert json.loads(line)["learning_rate"] == 1e-3


def test_a_tokenizer_larger_than_the_embeddings_grows_them_to_a_multiple_of_64(
    tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    grown = Path(shutil.copytree(tiny_model, tmp_path / "base"))
    tokenizer = load_tokenizer(str(grown))
    before = len(tokenizer)
    tokenizer.add_tokens(["<new 1>", "<new 2>"])
    tokenizer.save_pretrained(grown)
    run_here(monkeypatch, options(grown, data, tmp_path / "m"))
    assert "the vocabulary grows" in capsys.readouterr().err
    saved = load_model(str(tmp_path / "m"), torch.float32)
    assert saved.config.vocab_size % 64 == 0
    assert saved.config.vocab_size >= before + 2
    assert saved.get_input_embeddings().num_embeddings == saved.config.vocab_size


@pytest.mark.parametrize(("saved_in", "n_bytes"), [("bf16", 2), ("fp32", 4)])
def test_weights_are_saved_as_asked(
    tiny_model: Path, data: Path, tmp_path: Path, saved_in: str, n_bytes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Whatever the arithmetic was; config.json says the same as the weights."""
    argv = options(tiny_model, data, tmp_path / "m", precision="bf16", save_precision=saved_in)
    run_here(monkeypatch, argv)
    weights = load_file(tmp_path / "m/model.safetensors")
    assert {weight.element_size() for weight in weights.values()} == {n_bytes}
    named = json.loads((tmp_path / "m/config.json").read_text())["dtype"]
    assert named == {"bf16": "bfloat16", "fp32": "float32"}[saved_in]


def test_none_is_for_one_process(
    tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="--sharding none is for one process, not 2; ddp copies"):
        run_here(monkeypatch, options(tiny_model, data, tmp_path / "m", sharding="none"))


def test_the_doctor_looks_and_does_not_train(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run_here(monkeypatch, ["--doctor", str(tiny_model)])
    assert "training row" in capsys.readouterr().out
    sick = Path(shutil.copytree(tiny_model, tmp_path / "sick"))
    settings = json.loads((sick / "generation_config.json").read_text())
    (sick / "generation_config.json").write_text(json.dumps(settings | {"eos_token_id": 5}))
    with pytest.raises(SystemExit) as end:
        run_here(monkeypatch, [f"--doctor={sick}"])
    assert end.value.code == 1
    assert "MISMATCH" in capsys.readouterr().out


def test_two_runs_into_one_folder_are_refused(
    tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the second of which one was killed and has left processes that go on."""
    with (
        locked(tmp_path / "m", "in use"),
        pytest.raises(UserError, match=r"another train\.py writes there; wait for its end"),
    ):
        run_here(monkeypatch, options(tiny_model, data, tmp_path / "m"))

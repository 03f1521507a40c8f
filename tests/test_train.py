"""train.py on a tiny model: the loss, several processes, resuming, and bad input."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import train
from screl.files import UserError
from screl.modeling import load_model, load_tokenizer
from screl.problems import load_problems
from screl.sft_data import IGNORE_INDEX, collate, tokenize_examples, training_order
from screl.training import accumulation_steps, full_disk_explained, last_checkpoint
from tests.conftest import ROOT, run_script, write_lines


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """22 problems of the miniature: not a multiple of the batch size."""
    lines = (ROOT / "data/mini/train.jsonl").read_text().splitlines()[:22]
    return write_lines(tmp_path_factory.mktemp("data") / "train.jsonl", lines)


def options(model: Path, data: Path, output: Path, **changes: object) -> list[str]:
    settings = {
        "model_name_or_path": model, "data_path": data, "output_dir": output,
        "num_train_epochs": 3, "global_batch_size": 8, "per_device_batch_size": 4,
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
    examples, _ = tokenize_examples(tokenizer, load_problems(data), 512)
    order = training_order([len(example) for example in examples], 3, 8, 42)
    batch = collate([examples[row] for row in order[:8]], tokenizer.pad_token_id)
    model = load_model(str(tiny_model), torch.float32)
    with torch.no_grad():
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    expected = torch.nn.functional.cross_entropy(
        logits[:, :-1].reshape(-1, logits.shape[-1]),
        batch["labels"][:, 1:].reshape(-1),
        ignore_index=IGNORE_INDEX,
    )
    assert losses(trained)[0] == pytest.approx(expected.item(), abs=1e-5)


def test_what_is_saved_is_complete_and_has_learned(trained: Path, tiny_model: Path) -> None:
    info = json.loads((trained / "run.json").read_text())
    assert info["results"]["n_steps"] == math.ceil(22 * 3 / 8) == len(losses(trained))
    assert info["config"]["learning_rate"] == 1e-3
    assert {"torch", "transformers"} <= info["versions"].keys()
    assert losses(trained)[-1] < losses(trained)[0] - 0.1
    assert not list(trained.glob("checkpoint-*"))
    before = load_file(tiny_model / "model.safetensors")
    after = load_file(trained / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(tensor.dtype == torch.float32 for tensor in after.values())
    assert not torch.equal(before["lm_head.weight"], after["lm_head.weight"])
    assert load_tokenizer(str(trained)).eos_token_id == 2


def test_micro_batches_change_nothing(
    trained: Path, tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_here(monkeypatch, options(tiny_model, data, tmp_path / "m", per_device_batch_size=8))
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


def test_two_processes_give_the_same_losses(
    trained: Path, tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    launcher = (sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone")
    result = run_script(
        "train.py",
        *options(tiny_model, data, tmp_path / "m", per_device_batch_size=2),
        launcher=launcher,
    )
    assert result.returncode == 0, result.stderr
    info = json.loads((tmp_path / "m" / "run.json").read_text())
    assert info["results"]["n_processes"] == 2
    assert losses(tmp_path / "m") == pytest.approx(losses(trained), abs=2e-5)


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
    (output / "checkpoint-99").mkdir()  # as torn as can be
    result = run_script(*argv[1:])
    assert result.returncode == 0, result.stderr
    assert not list(output.glob("checkpoint-*"))
    assert losses(output) == losses(trained)
    expected, found = (load_file(path / "model.safetensors") for path in (trained, output))
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def last_checkpoint_step(output: Path) -> int:
    whole = output.glob("checkpoint-*/trainer_state.json")
    return max((int(path.parent.name.split("-")[1]) for path in whole), default=0)


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
    run_here(monkeypatch, options(tiny_model, data, trained, per_device_batch_size=2))
    assert "already trained" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"learning_rate was 0\.001, now 0\.002"):
        run_here(monkeypatch, options(tiny_model, data, trained, learning_rate=2e-3))
    assert (trained / "model.safetensors").stat().st_mtime_ns == before


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
    examples, _ = tokenize_examples(tokenizer, problems, 512)
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


@pytest.mark.parametrize(
    ("batch", "per_device", "world", "expected"),
    [(128, 4, 8, 4), (128, 1, 8, 16), (128, 2, 16, 4), (128, 1, 32, 4), (128, 2, 32, 2)],
)
def test_the_published_splits_of_128(
    batch: int, per_device: int, world: int, expected: int
) -> None:
    assert accumulation_steps(batch, per_device, world) == expected


def test_a_batch_that_cannot_be_split_names_what_fits() -> None:
    with pytest.raises(UserError, match=r"can be 1, 2, 4, 8, 16, 32$"):
        accumulation_steps(128, 3, 4)
    with pytest.raises(UserError, match="nothing: change their number"):
        accumulation_steps(128, 4, 3)


def test_a_checkpoint_without_its_last_file_is_removed(tmp_path: Path) -> None:
    for step in (9, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
    (tmp_path / "checkpoint-9" / "trainer_state.json").write_text("{}")
    (tmp_path / "checkpoint-mine").mkdir()  # nothing of the Trainer's: left alone
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-9"
    assert (tmp_path / "checkpoint-mine").exists()
    assert not (tmp_path / "checkpoint-10").exists()


def test_a_run_that_will_not_fit_on_the_disk_is_refused_first(
    tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(UserError, match=r"0 MB are free and the run writes up to 2 MB"):
        run_here(monkeypatch, options(tiny_model, data, tmp_path / "m"))
    assert not (tmp_path / "m" / "config.json").exists()


def test_a_disk_that_fills_up_costs_nothing_that_is_done(
    trained: Path, tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third checkpoint cannot be written; then there is room again."""
    output, real_save, calls = tmp_path / "m", torch.save, []
    usage = shutil.disk_usage(tmp_path)

    def full(*arguments: object, **settings: object) -> None:
        calls.append(arguments)
        if str(output / "checkpoint-6") in str(arguments[1]):
            monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
            raise RuntimeError("[enforce fail at inline_container.cc:672]")
        real_save(*arguments, **settings)

    argv = options(tiny_model, data, output, save_steps=2)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(
            UserError, match=r"the disk is full .*; the last whole checkpoint is kept"
        ):
            run_here(monkeypatch, argv)
    assert last_checkpoint_step(output) == 4
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    run_here(monkeypatch, argv)
    assert losses(output) == losses(trained)


def test_other_errors_are_not_taken_for_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="something else"), full_disk_explained(tmp_path):
        raise RuntimeError("something else")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_train_epochs": 0}, "--num_train_epochs must be above 0"),
        ({"num_train_epochs": "nan"}, "--num_train_epochs must be above 0"),
        ({"global_batch_size": 0}, "must be at least 1"),
        ({"per_device_batch_size": -16}, "must be at least 1"),
        ({"learning_rate": "nan"}, "--learning_rate must be in"),
        ({"warmup_ratio": 2}, "--warmup_ratio in"),
        ({"save_steps": -1}, "--save_steps and --seed"),
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
        ({"per_device_batch_size": 3}, "--per_device_batch_size can be 1, 2, 4, 8"),
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

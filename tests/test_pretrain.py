"""Check the miniature's pre-training: a killed run resumes to the same weights."""

import json
import math
from functools import cache
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from data.mini import pretrain
from screl.core.io import UserError

train_tokenizer_once = cache(pretrain.train_tokenizer)  # takes seconds
TINY = ["--hidden_size", "32", "--num_hidden_layers", "1", "--vocab_size", "400"]


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> None:
    """Pre-train a tiny model in this process."""
    monkeypatch.setattr("sys.argv", ["pretrain.py", "--output_dir", str(folder), *TINY, *options])
    pretrain.main()


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make runs small; use the CPU, on which the same run gives the same weights."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(pretrain, "SAVE_STEPS", 2)
    monkeypatch.setattr(pretrain, "WARMUP_STEPS", 2)
    monkeypatch.setattr(pretrain, "N_HELD_OUT", 2)
    monkeypatch.setattr(pretrain, "train_tokenizer", train_tokenizer_once)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(AutoModelForCausalLM.from_pretrained(folder).state_dict())


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path / "whole", monkeypatch, "--steps", "6")
    decay = pretrain.decay

    def die(step: int, steps: int) -> float:
        if step == 5:
            raise KeyboardInterrupt
        return decay(step, steps)

    monkeypatch.setattr(pretrain, "decay", die)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", monkeypatch, "--steps", "6")
    monkeypatch.setattr(pretrain, "decay", decay)
    first = torch.load(tmp_path / "killed/checkpoint.pt")
    assert first["step"] == 4
    run(tmp_path / "killed", monkeypatch, "--steps", "6")
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert not (tmp_path / "killed/checkpoint.pt").exists()
    cost = json.loads((tmp_path / "killed/run.json").read_text())["results"]["cost"]
    assert cost["device_seconds"] > first["spent"]["device_seconds"] > 0


def test_run_json_has_the_held_out_loss_and_the_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, monkeypatch, "--steps", "2")
    results = json.loads((tmp_path / "run.json").read_text())["results"]
    # barely trained: near the loss of a uniform guess among 400 tokens
    assert 0.5 * math.log(400) < results["loss"]["value"] < 1.5 * math.log(400)
    assert 0 < results["loss"]["standard_error"] < 0.2
    # one layer, by hand: queries 32 x 32, keys and values 32 x 32 (one head), output 32 x 32,
    # three matrices 32 x 64, three norms
    n_counted = 4 * 32 * 32 + 3 * 32 * 64 + 3 * 32
    assert results["cost"]["tokens"] == 2 * 4096
    assert results["cost"]["flops"] == 6 * n_counted * 2 * 4096


def test_a_finished_run_is_kept_and_a_different_one_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, monkeypatch, "--steps", "2")
    made = (tmp_path / "model.safetensors").stat().st_mtime_ns
    run(tmp_path, monkeypatch, "--steps", "2")
    assert (tmp_path / "model.safetensors").stat().st_mtime_ns == made
    assert "already finished" in capsys.readouterr().out
    with pytest.raises(UserError, match="steps was 2, now 3"):
        run(tmp_path, monkeypatch, "--steps", "3")


def test_a_damaged_checkpoint_is_an_error_of_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"step": 1}, tmp_path / "whole.pt")
    torn = (tmp_path / "whole.pt").read_bytes()[:-100]
    for content in (b"", b"not a checkpoint", torn):
        (tmp_path / "checkpoint.pt").write_bytes(content)
        with pytest.raises(UserError, match=r"checkpoint\.pt: is damaged; delete it"):
            run(tmp_path, monkeypatch, "--steps", "2")


def test_held_out_text_is_not_the_training_text() -> None:
    tokenizer = train_tokenizer_once(0, 400)
    own, other = (next(pretrain.batches(tokenizer, seed)) for seed in (0, "held out 0"))
    assert not torch.equal(own, other)
    assert torch.equal(own, next(pretrain.batches(tokenizer, 0)))

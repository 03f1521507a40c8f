"""Checkpoints: bad ones are refused in one line; saving is whole or nothing."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from screl.files import UserError
from screl.modeling import (
    check_model_folder,
    eos_ids,
    fingerprint,
    load_model,
    load_tokenizer,
    pad_id,
    save_checkpoint,
)


@pytest.fixture
def copy(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "copy"))


def test_a_folder_without_weights_is_refused(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    with pytest.raises(UserError, match="no weights"):
        load_model(str(copy), torch.float32)


def test_a_missing_or_unfinished_folder_is_refused(copy: Path) -> None:
    with pytest.raises(UserError, match="no such model folder"):
        check_model_folder(str(copy / "none"))
    (copy / "config.json").unlink()
    with pytest.raises(UserError, match=r"no config\.json; give a folder"):
        check_model_folder(str(copy))
    (copy / "checkpoint-5").mkdir()
    with pytest.raises(UserError, match="its training has not finished"):
        check_model_folder(str(copy))


def test_torn_weights_are_refused(copy: Path) -> None:
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(UserError, match=r"damaged weights|cannot be loaded"):
        load_model(str(copy), torch.float32)


def test_missing_weights_are_not_made_up(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"1 weights are missing \(first: model\.layers\.1\.mlp"):
        load_model(str(copy), torch.float32)


def test_a_bin_file_that_is_none_is_refused(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    (copy / "pytorch_model.bin").write_bytes(b"garbage" * 100)
    with pytest.raises(UserError, match="cannot be loaded"):
        load_model(str(copy), torch.float32)


def test_weights_of_another_shape_are_refused(copy: Path) -> None:
    settings = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(settings | {"hidden_size": 64, "head_dim": 32}))
    with pytest.raises(UserError, match="cannot be loaded"):
        load_model(str(copy), torch.float32)


def test_a_tokenizer_without_eos_is_refused(copy: Path) -> None:
    path = copy / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    settings["eos_token"] = None
    path.write_text(json.dumps(settings))
    with pytest.raises(UserError, match="no eos_token"):
        load_tokenizer(str(copy))


def test_a_missing_pad_token_needs_no_new_one(copy: Path) -> None:
    tokenizer = load_tokenizer(str(copy))
    assert pad_id(tokenizer) == tokenizer.pad_token_id != tokenizer.eos_token_id
    tokenizer.pad_token = None
    assert pad_id(tokenizer) == tokenizer.eos_token_id


def test_every_configured_eos_ends_a_completion(copy: Path) -> None:
    model, tokenizer = load_model(str(copy), torch.float32), load_tokenizer(str(copy))
    model.generation_config.eos_token_id = [7, 9]
    assert eos_ids(model.generation_config, tokenizer) == [tokenizer.eos_token_id, 7, 9]
    model.generation_config.eos_token_id = None
    assert eos_ids(model.generation_config, tokenizer) == [tokenizer.eos_token_id]


def test_the_fingerprint_sees_weights_and_tokenizer_but_not_the_path(
    tiny_model: Path, copy: Path
) -> None:
    before = fingerprint(str(tiny_model))
    (copy / "metrics.json").write_text("[]")
    assert fingerprint(str(copy)) == before
    settings = (copy / "tokenizer_config.json").read_text()
    (copy / "tokenizer_config.json").write_text(settings + "\n")
    changed = fingerprint(str(copy))
    assert changed != before
    model = load_model(str(copy), torch.float32)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 1e-3
    model.save_pretrained(copy)
    assert fingerprint(str(copy)) not in (before, changed)


def test_saving_is_whole_or_nothing(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = load_model(str(copy), torch.float32), load_tokenizer(str(copy))
    output = tmp_path / "saved"

    def fail(*_: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(tokenizer, "save_pretrained", fail)
        with pytest.raises(OSError, match="disk full"):
            save_checkpoint(model, tokenizer, output)
    with pytest.raises(UserError, match=r"no config\.json"):
        check_model_folder(str(output))
    save_checkpoint(model, tokenizer, output)
    again = load_model(str(output), torch.float32)
    for (name, old), (_, new) in zip(
        model.named_parameters(), again.named_parameters(), strict=True
    ):
        assert torch.equal(old, new), name
    assert not (output / "saving").exists()
    assert len({path.stat().st_mode for path in output.iterdir()}) == 1  # all as readable

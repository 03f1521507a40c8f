"""Incomplete model folders are refused in one line; a save is complete or absent."""

import shutil
from pathlib import Path

import pytest
import torch

from screl.core.io import UserError
from screl.models.folder import check_model_folder, check_weights, fingerprint, move_into_place
from screl.models.loading import load_model


@pytest.fixture
def copy(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "copy"))


def test_a_missing_or_unfinished_folder_is_refused(copy: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        check_model_folder(str(copy / "none"))
    (copy / "config.json").unlink()
    with pytest.raises(UserError, match=r"no config\.json; give a folder"):
        check_model_folder(str(copy))
    (copy / "checkpoint-5").mkdir()
    with pytest.raises(UserError, match="its training has not finished"):
        check_model_folder(str(copy))


def test_missing_weights_are_refused_only_by_check_weights(copy: Path) -> None:
    check_weights(str(copy))
    (copy / "model.safetensors").unlink()
    check_model_folder(str(copy))
    with pytest.raises(UserError, match=r"config\.json but no weights \(\*\.safetensors or"):
        check_weights(str(copy))
    (copy / "pytorch_model-00001-of-00002.bin").touch()
    check_weights(str(copy))
    check_weights("org/model")  # a hub id


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


def test_a_checkpoint_loads_only_once_all_of_it_is_in_place(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = fingerprint(str(copy))
    folder = tmp_path / "saved"
    folder.mkdir()
    temporary = copy.rename(folder / "saving")

    def fail(source: Path, target: Path) -> None:
        if target.name == "config.json":
            raise OSError("disk full")
        source.rename(target)

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", fail)
        with pytest.raises(OSError, match="disk full"):
            move_into_place(temporary, folder)
    with pytest.raises(UserError, match=r"no config\.json"):
        check_model_folder(str(folder))
    move_into_place(temporary, folder)
    assert fingerprint(str(folder)) == before
    assert not temporary.exists()
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1  # all as readable

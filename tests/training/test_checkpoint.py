"""Test that checkpoints to resume from are complete or absent, and that the last few are kept."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from screl.core.io import UserError
from screl.training.checkpoint import (
    bytes_to_write,
    check_disk,
    explain_full_disk,
    last_checkpoint,
    read_state,
    remove_old_checkpoints,
    run_identity,
    write_checkpoint,
)
from screl.training.config import TrainConfig


def save(folder: Path) -> None:
    (folder / "weights").write_text("w")


def write(folder: Path, step: int, save=save) -> None:
    write_checkpoint(folder, step, {"log": [step]}, save, True, lambda: None)


def test_a_checkpoint_exists_once_it_is_complete(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path) is None
    write(tmp_path, 9)
    write(tmp_path, 10)
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    assert read_state(tmp_path / "checkpoint-10") == {"log": [10], "step": 10}
    assert (tmp_path / "checkpoint-10/weights").read_text() == "w"


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_incomplete_checkpoint_is_ignored(tmp_path: Path, when: str) -> None:
    write(tmp_path, 5)

    def fail(folder: Path) -> None:
        assert folder.parent == tmp_path
        if when == "after":
            save(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, 10, fail)
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-5"
    write(tmp_path, 10)  # what is left of it does no harm
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"


def test_a_checkpoint_written_again_replaces_the_old_one(tmp_path: Path) -> None:
    write(tmp_path, 5)
    write(tmp_path, 5, lambda folder: (folder / "weights").write_text("new"))
    assert (tmp_path / "checkpoint-5/weights").read_text() == "new"


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (8, 9, 10, 11):
        write(tmp_path, step)
    (tmp_path / "checkpoint-12.writing").mkdir()
    (tmp_path / "checkpoint-7").mkdir()  # its removal was killed
    (tmp_path / "checkpoint-mine").mkdir()  # not ours
    remove_old_checkpoints(tmp_path, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint-10", "checkpoint-11", "checkpoint-mine",
    ]  # fmt: skip
    remove_old_checkpoints(tmp_path, keep=0)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-mine"]


def test_earlier_checkpoints_count_as_free_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 5, lambda folder: (folder / "weights").write_bytes(bytes(3_000_000)))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
    check_disk(tmp_path, 4_000_000)
    with pytest.raises(UserError, match="4 MB are free and the run writes up to 5 MB"):
        check_disk(tmp_path, 4_900_000)


def test_disk_space_by_hand() -> None:
    def for_steps(n_steps: int, save_steps: int, **others: object) -> int:
        config = TrainConfig("m", Path("d"), Path("o"), save_steps=save_steps, **others)  # type: ignore[arg-type]
        return bytes_to_write(config, 1000, n_steps)

    assert for_steps(176, 0) == 4 * 1000  # the model
    assert for_steps(176, 0, save_precision="bf16") == 2 * 1000
    assert for_steps(176, 200) == (4 + 12) * 1000  # the checkpoint after the last step
    assert for_steps(176, 100) == (4 + 2 * 12) * 1000  # an older one too, for a while
    assert for_steps(176, 10, save_total_limit=3) == (4 + 4 * 12) * 1000


def test_only_a_full_disk_is_reported_as_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RuntimeError, match="something else"), explain_full_disk(tmp_path):
        raise RuntimeError("something else")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
    with pytest.raises(UserError, match="the disk is full"), explain_full_disk(tmp_path):
        raise RuntimeError("something else")
    with pytest.raises(UserError, match="my own"), explain_full_disk(tmp_path):
        raise UserError("my own")
    with pytest.raises(KeyboardInterrupt), explain_full_disk(tmp_path):
        raise KeyboardInterrupt


def test_a_run_of_an_earlier_version_still_resumes(tiny_model: Path, tmp_path: Path) -> None:
    """Options that choose keys are part of a run only if they are given."""
    data = tmp_path / "d.jsonl"
    data.write_text('{"query": "q", "response": "r"}\n')
    options: dict[str, Any] = {"model_name_or_path": str(tiny_model), "data_path": data}
    config = TrainConfig(**options, output_dir=tmp_path)
    assert not {"query_key", "response_key", "answer_key"} & run_identity(config).keys()
    chosen = run_identity(replace(config, query_key=("a", "b"), response_key="r"))
    assert (chosen["query_key"], chosen["response_key"]) == (["a", "b"], "r")  # as JSON has them

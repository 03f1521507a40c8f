"""Reading names the line at fault; writing is all or nothing."""

import errno
import os
from pathlib import Path

import pytest

from screl.core.io import (
    UserError,
    parse_object,
    read_json,
    refuse_to_overwrite,
    sibling,
    write_atomic,
)


def test_only_an_object_is_parsed() -> None:
    assert parse_object(b' {"a": [1]}\r\n', "a.jsonl:7") == {"a": [1]}
    lines = (b"", b"7", b"NaN", b'"a"', b"[]", b"[" * 5000, b'{"a": \xff}', b'{"a": 1}{"a": 1}')
    for line in lines:
        with pytest.raises(UserError, match=r"^a\.jsonl:7: .*; fix or delete this line$"):
            parse_object(line, "a.jsonl:7")


def test_a_missing_or_damaged_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_json(tmp_path / "none.json")
    with pytest.raises(UserError, match="is a folder"):
        read_json(tmp_path)
    path = tmp_path / "a.json"
    path.write_text("{")
    with pytest.raises(UserError, match=r"a\.json: not valid JSON"):
        read_json(path)


@pytest.mark.parametrize("fault", ["interrupt", "full disk"])
def test_a_failed_write_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    path = tmp_path / "a.txt"
    write_atomic(path, ["old"])

    def parts():
        yield "new"
        if fault == "interrupt":
            raise KeyboardInterrupt

    def no_space(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(KeyboardInterrupt if fault == "interrupt" else OSError):
        write_atomic(path, parts())
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_a_link_is_followed_and_a_pipe_is_kept(tmp_path: Path) -> None:
    target, link, pipe = tmp_path / "target", tmp_path / "link", tmp_path / "pipe"
    target.write_text("old")
    link.symlink_to(target)
    os.mkfifo(pipe)
    write_atomic(link, ["new"])
    assert link.is_symlink()
    assert target.read_text() == "new"
    for path in (pipe, tmp_path):
        with pytest.raises(UserError, match="is not a regular file"):
            write_atomic(path, ["new"])
        with pytest.raises(UserError, match="is not a regular file"):
            refuse_to_overwrite([path], [])
    assert pipe.is_fifo()


def test_a_loop_of_links_is_replaced_or_named(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises((OSError, UserError), match="loop"):
        read_json(loop)
    refuse_to_overwrite([loop], [loop / "other"])
    write_atomic(loop, ["x"])
    assert loop.read_text() == "x"


def test_inputs_and_other_outputs_are_not_overwritten(tmp_path: Path) -> None:
    data, store = tmp_path / "data.jsonl", tmp_path / "store"
    (tmp_path / "link.jsonl").symlink_to(data)
    refuse_to_overwrite([tmp_path / "out.jsonl", store / "metrics.json"], [data, store])
    for path in (data, tmp_path / "link.jsonl", store / "samples-0.jsonl", store / "manifest.json"):
        with pytest.raises(UserError, match="is an input; give another path"):
            refuse_to_overwrite([path], [data, store])
    with pytest.raises(UserError, match="would be written twice"):
        refuse_to_overwrite([tmp_path / "a", tmp_path / "b" / ".." / "a"], [])


def test_an_attached_file_keeps_the_whole_name() -> None:
    names = ["rft.jsonl", "m.json", "rft_0.7", "rft_0.8", "rft", "a.b.jsonl", "x.txt"]
    siblings = [sibling(Path("d") / name, ".run.json").name for name in names]
    assert siblings == [
        "rft.run.json", "m.run.json", "rft_0.7.run.json", "rft_0.8.run.json", "rft.run.json",
        "a.b.run.json", "x.txt.run.json",
    ]  # fmt: skip

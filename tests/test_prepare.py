"""data/prepare.py writes GSM8K only if it is the published one; every failure is one line."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from data import prepare
from screl.core.io import UserError

ROOT = Path(__file__).parents[1]
GSM8K = ROOT.parent / "shared" / "gsm8k"
ROWS = [
    {"query": "Tom’s 2 hens lay 3 eggs each?", "response": "2*3=<<2*3=6>>6\n#### 6"},
    {"query": "1+1?", "response": "<<1+1=2>>\n#### 2"},
]


def jsonl(rows: list[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose splits are ROWS, with EXPECTED changed to match."""
    sha256 = hashlib.sha256(jsonl(ROWS).encode()).hexdigest()
    monkeypatch.setattr(prepare, "EXPECTED", {"train": (2, sha256), "test": (2, sha256)})
    folder = tmp_path / "source"
    folder.mkdir()
    for split in ("train", "test"):
        (folder / f"{split}.jsonl").write_text(jsonl(ROWS))
    return folder


def prepare_from(source: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run the script in this process and return its output folder."""
    output_dir = source.parent / "out"
    arguments = ["gsm8k", "--source", str(source), "--output_dir", str(output_dir)]
    monkeypatch.setattr(sys, "argv", ["prepare.py", *arguments])
    prepare.main()
    return output_dir


def test_writes_both_files(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output_dir = prepare_from(source, monkeypatch)
    assert sorted(path.name for path in output_dir.iterdir()) == [
        "test_use.jsonl",
        "train_use.jsonl",
    ]
    assert (output_dir / "train_use.jsonl").read_bytes() == jsonl(ROWS).encode()
    assert (output_dir / "test_use.jsonl").read_bytes() == jsonl(ROWS).encode()


def test_hub_keys_other_keys_and_unescaped_text_give_the_same_bytes(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_rows = [{"answer": r["response"], "id": 7, "question": r["query"]} for r in ROWS]
    lines = [json.dumps(row, ensure_ascii=False) + "\n\n" for row in hub_rows]
    (source / "train.jsonl").write_text("".join(lines), encoding="utf-8")
    output_dir = prepare_from(source, monkeypatch)
    assert (output_dir / "train_use.jsonl").read_bytes() == jsonl(ROWS).encode()


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (jsonl(ROWS[:1]), r"test\.jsonl: expected 2 rows, found 1; nothing was written"),
        (jsonl(ROWS[::-1]), r"test\.jsonl: expected content with SHA-256 \w{64}, found \w{64}"),
        (
            jsonl([ROWS[0], {"query": "1+1?"}]),
            r"test\.jsonl:2: no text under 'response' or 'answer'",
        ),
        (
            jsonl([{"query": 1, "response": ""}]),
            r"test\.jsonl:1: no text under 'query' or 'question'",
        ),
        (jsonl(ROWS)[:-5], r"test\.jsonl:2: not valid JSON"),
        ("", r"test\.jsonl: the file is empty"),
        (None, r"test\.jsonl: no such file"),
    ],
)
def test_a_wrong_source_is_named_and_nothing_is_written(
    source: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, fault: str
) -> None:
    path = source / "test.jsonl"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(UserError, match=fault) as caught:
        prepare_from(source, monkeypatch)
    assert "\n" not in str(caught.value)
    assert not (source.parent / "out").exists()


def test_existing_files_are_kept(
    source: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output_dir = prepare_from(source, monkeypatch)
    before = (output_dir / "train_use.jsonl").stat().st_mtime_ns
    (source / "train.jsonl").unlink()  # it is not read again
    prepare_from(source, monkeypatch)
    assert "already prepared" in capsys.readouterr().out
    assert (output_dir / "train_use.jsonl").stat().st_mtime_ns == before


def test_other_content_is_not_overwritten(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output_dir = prepare_from(source, monkeypatch)
    (output_dir / "test_use.jsonl").write_text("my own\n")
    with pytest.raises(UserError, match=r"test_use\.jsonl: exists with different content"):
        prepare_from(source, monkeypatch)
    assert (output_dir / "test_use.jsonl").read_text() == "my own\n"


def test_a_missing_file_is_added(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output_dir = prepare_from(source, monkeypatch)
    (output_dir / "test_use.jsonl").unlink()
    prepare_from(source, monkeypatch)
    assert (output_dir / "test_use.jsonl").read_text() == jsonl(ROWS)


def test_the_downloaded_rows_are_renamed_and_checked(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    rows = [{"question": row["query"], "answer": row["response"]} for row in ROWS]
    hub = {("openai/gsm8k", "main"): {"train": rows, "test": rows}}
    monkeypatch.setattr(datasets, "load_dataset", lambda *name: hub[name])
    assert prepare.download() == {"train": jsonl(ROWS), "test": jsonl(ROWS)}
    rows.pop()
    with pytest.raises(UserError, match=r"openai/gsm8k train: expected 2 rows, found 1"):
        prepare.download()


def test_without_a_network_one_line_says_how_to_continue(tmp_path: Path) -> None:
    # As a subprocess from another folder, to check that the script finds the package.
    result = subprocess.run(
        [sys.executable, ROOT / "data" / "prepare.py", "gsm8k", "--output_dir", tmp_path / "out"],
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    progress, error = result.stderr.splitlines()
    assert result.returncode == 1
    assert progress == "downloading openai/gsm8k (config main)"
    assert error.startswith("error: openai/gsm8k could not be downloaded")
    assert "--source DIR" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not GSM8K.is_dir(), reason="needs the real GSM8K in ../shared/gsm8k")
def test_the_real_gsm8k_passes_and_one_changed_letter_does_not(tmp_path: Path) -> None:
    texts = prepare.read_source(GSM8K)
    assert texts["test"].count("\n") == 1319
    (tmp_path / "train.jsonl").write_text(texts["train"].replace("Natalia", "Natalie", 1))
    with pytest.raises(UserError, match=r"train\.jsonl: expected content with SHA-256"):
        prepare.read_source(tmp_path)

"""Check what --dry_run and --only print."""

import json
import shutil
from pathlib import Path

import pytest

from screl.core.io import UserError
from screl.core.problems import load_problems
from tests.conftest import MINI_MODEL
from tests.sampling.conftest import lines_of, options, run_here


def test_dry_run_prints_config_prompt_and_plan_and_writes_nothing(
    full: Path, tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    argv = {"n_samples": 100, "chunk_size": 25, "dry_run": True}
    run_here(monkeypatch, options(tiny_model, data, tmp_path / "s", **argv))
    shown = capsys.readouterr().out
    for part in (
        "temperature: 1.0",
        "### Response:",
        "'<s>'",
        "a completion ends with 2 '</s>', or after 8 tokens",
        "6 problems, 600 samples in",
        "600 to make in about 24 requests",
        "workers: 1 of",
    ):
        assert part in shown
    assert not (tmp_path / "s").exists()
    run_here(monkeypatch, options(tiny_model, data, full, **argv))
    assert "24 of them stored\n576 to make in about 23 requests" in capsys.readouterr().out


def test_a_long_few_shot_prompt_is_shown_in_part(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    icl = {"prompt": "icl", "n_shots": 2, "max_new_tokens": 60, "dry_run": True}
    run_here(monkeypatch, options(MINI_MODEL, data, tmp_path / "s", **icl))
    shown = capsys.readouterr().out
    question = load_problems(data)[0].question
    assert f"#### 36\n\nQuestion: {question}\nAnswer:\n" in shown
    assert "a completion ends with 2 '</s>', before 'Question:', or after 60 tokens" in shown
    n_tokens = int(shown.split(" tokens, with BOS")[0].rsplit("\n", 1)[1])
    assert f"\n  ... {n_tokens - 16 - 128} more ...\n" in shown
    assert sum(line[:9].strip().isdecimal() for line in shown.splitlines()) == 16 + 128


def test_one_sample_can_be_made_again(
    full: Path, tiny_model: Path, data: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], tmp_path: Path,
) -> None:  # fmt: skip
    stored = json.loads(lines_of(full)[7])
    only = f"{stored['problem_id']}:{stored['sample_id']}"
    run_here(monkeypatch, options(tiny_model, data, full, only=only))
    assert f"{stored['completion']}\n{full} has the same" in capsys.readouterr().out
    manifest = (full / "manifest.json").read_text()
    run_here(monkeypatch, options(tiny_model, data, full, only=only, n_samples=9))
    with pytest.raises(UserError, match=r"temperature was 1\.0, now 0\.5"):
        run_here(monkeypatch, options(tiny_model, data, full, only=only, temperature=0.5))
    assert (full / "manifest.json").read_text() == manifest
    capsys.readouterr()
    other = Path(shutil.copytree(full, tmp_path / "s"))
    text = (full / "samples-0.jsonl").read_text()
    completion = json.dumps(stored["completion"], ensure_ascii=False)
    (other / "samples-0.jsonl").write_text(text.replace(completion, '"?"'))
    run_here(monkeypatch, options(tiny_model, data, other, only=only))
    assert "\n?\nthey differ" in capsys.readouterr().out
    run_here(monkeypatch, options(tiny_model, data, tmp_path / "none", only=only))
    assert "none does not have it" in capsys.readouterr().out
    assert not (tmp_path / "none").exists()
    for wrong in ("x:0", f"{stored['problem_id']}:x", "0"):
        with pytest.raises(UserError, match="expected PROBLEM_ID:SAMPLE_ID, such as"):
            run_here(monkeypatch, options(tiny_model, data, full, only=wrong))

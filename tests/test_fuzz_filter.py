"""Run benchmarks/fuzz_filter.py briefly, and check that it detects what it looks for."""

import builtins
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import fuzz_filter
from benchmarks.fuzz_filter import CANARY, Watch, find_faults, fuzz, report


@pytest.fixture(scope="module")
def watch() -> Iterator[Watch]:
    """One for the module, because an audit hook cannot be removed."""
    yield Watch()
    delattr(builtins, CANARY)


@pytest.fixture(autouse=True)
def fresh(watch: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    watch.events.clear()
    watch.n_canary_calls = 0


def test_no_string_raises_or_is_executed(watch: Watch, capsys: pytest.CaptureFixture[str]) -> None:
    tally = fuzz(1500, 1, watch)
    report(tally, watch)
    assert tally.n_strings == 1500
    assert tally.exceptions == []
    assert watch.forbidden() == {}
    assert watch.events["compile"] > 500  # the hook works
    assert watch.n_canary_calls == 0
    assert os.listdir() == []
    assert all(count > 25 for count in tally.n_statuses.values())
    assert len(tally.n_statuses) == 6
    assert "exceptions  0" in capsys.readouterr().out


def test_a_reader_that_evaluates_is_found(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    def evaluate(completion: str, question: str, checks: object) -> list[str]:
        if CANARY in completion and len(completion) < 100 and "<" not in completion:
            eval(completion.partition("=1")[0])
        return []

    monkeypatch.setattr(fuzz_filter, "failed_checks", evaluate)
    tally = fuzz(300, 1, watch)
    faults = "\n".join(find_faults(tally, watch, os.listdir()))
    assert "exception" in faults
    assert "'exec'" in faults
    assert "canary was called" in faults

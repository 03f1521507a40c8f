"""Samples on their way to the disk: what the bar shows, and when something is wrong with them."""

from pathlib import Path

import pytest

from screl.grading.answers import extract_answer
from screl.samples.store import Sample, SampleWriter, read_samples
from screl.sampling import progress as intake_module
from screl.sampling.engine import Request
from screl.sampling.progress import SampleCollector


def made(sample_id: int, text: str = "#### 3") -> Sample:
    return Sample("a", sample_id, text, 2, "stop")


def make_intake(writer: SampleWriter, n: int = 4) -> SampleCollector:
    requests = [Request("a", [1], range(n))]
    return SampleCollector(
        writer, {"a": extract_answer("#### 3", "strict")}, None, lambda _: [], requests, True
    )


def test_samples_are_on_the_disk_and_counted(tmp_path: Path) -> None:
    with SampleWriter(tmp_path) as writer:
        intake = make_intake(writer)
        assert intake([made(1), made(0, "#### 4")]) == []
        assert [sample.sample_id for sample in read_samples(tmp_path)] == [1, 0]
        assert (intake.n_samples, intake.n_tokens, intake.tokens_per_second()) == (2, 4, None)
        intake([made(2)])
        assert intake.tokens_per_second() is not None
        intake.close()


def test_every_alarm_is_told_once_and_all_are_there_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(intake_module, "SECONDS_BETWEEN_CHECKS", -1.0)  # at every chance
    with SampleWriter(tmp_path) as writer:
        intake = make_intake(writer, 60)
        ids = iter(range(60))
        monkeypatch.setattr(
            intake_module, "run_alarms", lambda _: {"cut_off": "first"} if next(ids) < 2 else both
        )
        both = {"cut_off": "first", "repeats": "second"}
        for sample_id in range(6):
            intake([made(sample_id)])
        assert intake.close() == both
    told = capsys.readouterr().err
    assert told.count("warning: first") == 1
    assert told.count("warning: second") == 1

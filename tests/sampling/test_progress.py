"""Samples on their way to the disk: what the bar shows, and when something is wrong with them."""

import math
from pathlib import Path

import pytest

from screl.core.io import UserError
from screl.grading.answers import extract_answer
from screl.samples.store import Sample, SampleWriter, read_samples
from screl.sampling import progress as intake_module
from screl.sampling.engine import Drawn, Request, Watch
from screl.sampling.progress import SampleCollector


def drawn(sample_id: int, text: str = "#### 3", log_probability: float | None = None) -> Drawn:
    watch = None
    if log_probability is not None:
        watch = Watch(tuple(text.encode()), log_probability)
    return Drawn(Sample("a", sample_id, text, 2, "stop"), watch)


def make_intake(writer: SampleWriter, n: int = 4, watched: bool = True) -> SampleCollector:
    requests = [Request("a", [1], range(n), watched)]
    return SampleCollector(
        writer, {"a": extract_answer("#### 3", "strict")}, None, lambda _: [], requests
    )


def test_samples_are_on_the_disk_and_counted(tmp_path: Path) -> None:
    with SampleWriter(tmp_path) as writer:
        intake = make_intake(writer)
        assert intake([drawn(1), drawn(0, "#### 4")]) == []
        assert [sample.sample_id for sample in read_samples(tmp_path)] == [1, 0]
        assert (intake.n_samples, intake.n_tokens, intake.tokens_per_second()) == (2, 4, None)
        intake([drawn(2)])
        assert intake.tokens_per_second() is not None
        intake.close()


def test_repeats_are_judged_in_the_order_of_the_samples(tmp_path: Path) -> None:
    """Sample 3 comes first; in order it is the fourth, and the third repeats the second."""
    with SampleWriter(tmp_path) as writer:
        intake = make_intake(writer)
        half = math.log(0.5)
        intake([drawn(3, "x", half), drawn(1, "y", half)])
        assert intake.health.repeats.n_samples == 0
        intake([drawn(0, "x", half), drawn(2, "y", half)])
        repeats = intake.health.repeats
        assert (repeats.n_samples, repeats.n_repeats) == (4, 2)
        assert repeats.n_expected == pytest.approx(0 + 0.5 + 1 + 1)
        intake.close()


@pytest.mark.parametrize("log_probability", [math.nan, 1.0])
def test_a_probability_that_is_none_ends_the_run(tmp_path: Path, log_probability: float) -> None:
    with SampleWriter(tmp_path) as writer:
        intake = make_intake(writer)
        with pytest.raises(UserError, match=r"sample 0: .* the checkpoint is damaged"):
            intake([drawn(0, "x", log_probability)])
        intake.close()
    assert len(list(read_samples(tmp_path))) == 1


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
            intake([drawn(sample_id)])
        assert intake.close() == both
    told = capsys.readouterr().err
    assert told.count("warning: first") == 1
    assert told.count("warning: second") == 1

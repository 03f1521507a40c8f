"""Check what happens to samples as they arrive, and when an alarm is shown."""

from pathlib import Path

import pytest

from screl.core.problems import Problem
from screl.grading.verdict import JudgeRules
from screl.samples.store import Sample, SampleWriter, read_samples
from screl.sampling import progress
from screl.sampling.checks import Health
from screl.sampling.progress import SampleCollector
from screl.sampling.tally import ProblemTally


def made(sample_id: int, text: str = "#### 3") -> Sample:
    return Sample("a", sample_id, text, 2, "stop")


def make_collector(writer: SampleWriter) -> tuple[SampleCollector, ProblemTally, Health]:
    tally, health = ProblemTally(), Health()
    problems = [Problem("a", "1 and 2?", "#### 3", 1)]
    collector = SampleCollector(
        writer, problems, {"a": tally}, health, None, lambda _: [], [], JudgeRules()
    )
    return collector, tally, health


def test_samples_are_on_the_disk_and_counted(tmp_path: Path) -> None:
    with SampleWriter(tmp_path) as writer:
        collector, tally, health = make_collector(writer)
        assert collector([made(1), made(0, "#### 4")]) == []
        assert [sample.sample_id for sample in read_samples(tmp_path)] == [1, 0]
        assert (collector.n_samples, collector.n_tokens) == (2, 4)
        assert collector.tokens_per_second() is None  # the first samples do not count
        collector([made(2, "none")])
        assert collector.tokens_per_second() is not None
        assert (tally.n_graded, tally.n_right) == (3, 1)
        assert (health.unanswered.n, health.unanswered.n_found) == (3, 1)
        collector.close()


def test_every_alarm_is_shown_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_CHECKS", -1.0)  # check every time
    alarms = {"cut_off": "first"}
    monkeypatch.setattr(progress, "run_alarms", lambda _: alarms)
    with SampleWriter(tmp_path) as writer:
        collector, *_ = make_collector(writer)
        for sample_id in range(6):
            collector([made(sample_id)])
            if sample_id == 2:
                alarms["repeats"] = "second"
        collector.close()
    shown = capsys.readouterr().err
    assert shown.count("warning: first") == 1
    assert shown.count("warning: second") == 1

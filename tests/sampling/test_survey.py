"""What a sampling run has come to, of stores made by hand."""

from pathlib import Path

import pytest

from screl.core.io import write_json
from screl.core.problems import Problem
from screl.samples.reader import open_runs
from screl.samples.store import Sample, SampleWriter
from screl.sampling.checks import summarize_run

RIGHT, OTHER, WRONG = "<<1+2=3>>3\n#### 3", "<<2+1=3>>3\n#### 3", "#### 4"
PROBLEMS = [Problem("a", "1 and 2?", RIGHT, 1), Problem("b", "Why?", "Because.", 2)]


def survey_of(tmp_path: Path, samples: list[Sample], greedy: bool = False) -> tuple[dict, str]:
    write_json(tmp_path / "manifest.json", {"n_samples": 4, "greedy": greedy})
    with SampleWriter(tmp_path) as writer:
        writer.write(samples)
    found = summarize_run(PROBLEMS, open_runs(tmp_path, PROBLEMS, "train", allow_partial=True)[0])
    by_id = [[one.n_tokens for one in samples if one.problem_id == p.problem_id] for p in PROBLEMS]
    assert found.lengths == by_id
    return found.results, found.more


def samples(problem_id: str, *texts: str, finish_reason: str = "stop") -> list[Sample]:
    return [Sample(problem_id, i, text, 5 + i % 2, finish_reason) for i, text in enumerate(texts)]


def test_only_what_can_be_graded_counts_as_right_or_wrong(tmp_path: Path) -> None:
    cut_off = samples("b", "x", "#### 3", "y", "z", finish_reason="length")
    results, more = survey_of(tmp_path, samples("a", RIGHT, OTHER, OTHER, WRONG) + cut_off)
    assert results == {
        "n_samples": 8, "n_tokens": 44, "share_cut_off": 0.5, "share_right": 0.75,
        "more_samples": more,
    }  # fmt: skip
    assert "the next sample finds one with" in more


@pytest.mark.parametrize("made", [[], samples("b", "x")])
def test_with_nothing_to_grade_no_share_is_told(tmp_path: Path, made: list[Sample]) -> None:
    results, more = survey_of(tmp_path, made)
    assert (results["n_samples"], results["share_right"]) == (len(made), None)
    assert more == ""


def test_a_greedy_run_has_no_more_samples(tmp_path: Path) -> None:
    assert survey_of(tmp_path, samples("a", RIGHT), greedy=True)[1] == ""

"""Check what a run's samples add up to, counted as they arrive or read from the store."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from screl.core.cost import Cost, count_samples
from screl.core.io import write_json
from screl.core.problems import Problem, load_problems
from screl.grading.verdict import JudgeRules
from screl.models.loading import load_shape
from screl.samples.reader import open_runs
from screl.samples.store import Sample, SampleWriter
from screl.sampling import run as run_module
from screl.sampling.tally import RunSummary, read_tallies, sampling_cost, summarize_run
from tests.conftest import ROOT, write_lines
from tests.sampling.conftest import TextPool, options, run_here

RIGHT, OTHER, WRONG = "<<1+2=3>>3\n#### 3", "<<2+1=3>>3\n#### 3", "#### 4"
PROBLEMS = [Problem("a", "1 and 2?", RIGHT, 1), Problem("b", "Why?", "Because.", 2)]


def read_summary(store: Path, problems: Sequence[Problem], greedy: bool = False) -> RunSummary:
    (run,) = open_runs(store, problems, "train", allow_partial=True)
    return summarize_run(read_tallies(problems, run, JudgeRules()).values(), greedy)


def summary_of(store: Path, samples: list[Sample], greedy: bool = False) -> RunSummary:
    write_json(store / "manifest.json", {"n_samples": 4, "greedy": greedy})
    with SampleWriter(store) as writer:
        writer.write(samples)
    return read_summary(store, PROBLEMS, greedy)


def samples_of(problem_id: str, *texts: str, finish_reason: str = "stop") -> list[Sample]:
    return [Sample(problem_id, i, text, 5 + i % 2, finish_reason) for i, text in enumerate(texts)]


def test_only_samples_that_can_be_graded_count_as_right_or_wrong(tmp_path: Path) -> None:
    cut_off = samples_of("b", "x", "#### 3", "y", "z", finish_reason="length")
    summary = summary_of(tmp_path, samples_of("a", RIGHT, OTHER, OTHER, WRONG) + cut_off)
    assert summary.results == {
        "n_samples": 8, "n_tokens": 44, "share_cut_off": 0.5, "share_right": 0.75,
        "n_not_graded": 4,
        "more_samples": summary.more_samples,
    }  # fmt: skip
    assert "the next sample finds a new path with" in summary.more_samples
    assert summary.lengths == [[5, 6, 5, 6], [5, 6, 5, 6]]


@pytest.mark.parametrize("samples", [[], samples_of("b", "x")])
def test_with_nothing_to_grade_no_share_is_right(tmp_path: Path, samples: list[Sample]) -> None:
    results, more_samples, _ = summary_of(tmp_path, samples)
    assert (results["n_samples"], results["share_right"]) == (len(samples), None)
    assert more_samples == ""


def test_a_greedy_run_has_no_estimate(tmp_path: Path) -> None:
    assert summary_of(tmp_path, samples_of("a", RIGHT), greedy=True).more_samples == ""


def text_of(problem: Problem, sample_id: int) -> str:
    """Return a wrong answer, the solution, or a right answer by one of four paths."""
    _, marker, gold = problem.solution.partition("#### ")
    kind = (sample_id * 7 + len(problem.question)) % 11
    if not marker or kind < 3:
        return ("no answer", "#### 77777", "<<1+1=3>>\n#### 3")[kind % 3]
    return problem.solution if kind < 5 else f"<<{gold}+{kind % 4}-{kind % 4}={gold}>>#### {gold}"


@pytest.mark.parametrize("until_correct", [None, 3])
def test_a_run_a_resumed_run_and_a_reading_of_the_whole_store_agree(
    until_correct: int | None, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = (ROOT / "data/mini/test.jsonl").read_text().splitlines()[:12]
    if not until_correct:
        rows[3] = json.dumps({"problem_id": "x", "query": "Why?", "response": "Because."})
    path = write_lines(tmp_path / "d.jsonl", rows)
    problems = load_problems(path)
    of_id = {problem.problem_id: problem for problem in problems}
    pool = TextPool(lambda problem_id, i: text_of(of_id[problem_id], i))
    monkeypatch.setattr(run_module, "make_pool", lambda *_: pool)

    def run(store: Path, n_samples: int, **changes: object) -> dict[str, Any]:
        wanted = (
            {"until_correct": min(until_correct, n_samples), "max_samples": n_samples,
             "n_samples": None}
            if until_correct else {"n_samples": n_samples}
        )  # fmt: skip
        run_here(monkeypatch, options(tiny_model, path, store, **wanted, **changes))
        results: dict[str, Any] = json.loads((store / "run.json").read_text())["results"]
        return results

    at_once = run(tmp_path / "a", 20)
    for n_samples in (2, 7):
        run(tmp_path / "b", n_samples, chunk_size=3)
    resumed = run(tmp_path / "b", 20)
    whole = read_summary(tmp_path / "a", problems)
    assert list(at_once) == [
        "n_samples", "n_tokens", "share_cut_off", "share_right", "n_not_graded", "more_samples",
        "n_samples_made_now", "tokens_per_second", "alarms", "cost",
    ]  # fmt: skip
    for key, value in whole.results.items():
        assert at_once[key] == value
        assert resumed[key] == value or until_correct  # whose blocks were others
    assert 0.2 < at_once["share_right"] < 0.9
    if until_correct:
        assert read_summary(tmp_path / "b", problems).results == {
            key: resumed[key] for key in whole.results
        }
    else:
        assert resumed["cost"]["flops"] == at_once["cost"]["flops"]
        assert resumed["cost"]["tokens"] == at_once["cost"]["tokens"]
        assert resumed["n_samples_made_now"] == 12 * 13


SUMMARY = RunSummary({"n_samples": 3}, "", [[4, 2, 7], []])


def cost_of(model: Path, store: Path, n_made: int) -> Cost:
    """Return the cost of a store of which this session made ``n_made`` samples in 10 seconds."""
    time = Cost("gpu", 10.0)
    run_json = store / "run.json"
    return sampling_cost(SUMMARY, load_shape(str(model)), [5, 9], time, run_json, n_made)


def time_of(cost: Cost) -> Cost:
    return replace(cost, flops=0.0, tokens=0)


def write_earlier(store: Path, n_samples: int, time: Cost | None) -> None:
    results: dict[str, Any] = {"n_samples": n_samples}
    if time:
        results["cost"] = asdict(replace(time, flops=1.0, tokens=1))
    (store / "run.json").write_text(json.dumps({"results": results}))


def test_all_samples_count_with_their_prompts(tiny_model: Path, tmp_path: Path) -> None:
    cost = cost_of(tiny_model, tmp_path, n_made=1)
    assert cost.tokens == 3 * 5 + 4 + 2 + 7
    assert cost.flops == count_samples(load_shape(str(tiny_model)), [5, 9], [[4, 2, 7], []])[0] > 0


def test_a_first_session_counts_alone(tiny_model: Path, tmp_path: Path) -> None:
    write_earlier(tmp_path, 3, Cost("gpu", 1000.0))  # of samples that were deleted since
    assert time_of(cost_of(tiny_model, tmp_path, n_made=3)) == Cost("gpu", 10.0, True)


@pytest.mark.parametrize("was_complete", [True, False])
def test_sessions_add_up(tiny_model: Path, tmp_path: Path, was_complete: bool) -> None:
    write_earlier(tmp_path, 2, Cost("gpu", 1000.0, was_complete))
    time = time_of(cost_of(tiny_model, tmp_path, n_made=1))
    assert time == Cost("gpu", 1010.0, was_complete)


@pytest.mark.parametrize(
    "earlier",
    [None,  # killed
     (1, Cost("gpu", 1000.0)),  # one ended well, a later one was killed
     (2, None),  # of a version that recorded no cost
     (2, Cost("cpu", 1000.0))],
)  # fmt: skip
def test_sessions_of_unknown_cost_are_marked(
    tiny_model: Path, tmp_path: Path, earlier: tuple[int, Cost | None] | None
) -> None:
    if earlier:
        write_earlier(tmp_path, *earlier)
    time = time_of(cost_of(tiny_model, tmp_path, n_made=1))
    assert time == Cost("gpu", 10.0, False)

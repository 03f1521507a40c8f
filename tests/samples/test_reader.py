"""Samples joined to their problems: the same from every layout, and every gap named."""

import json
import os
import random
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from screl.core.io import UserError, write_json
from screl.core.problems import Problem, build_prompt
from screl.samples import line_index, reader
from screl.samples.reader import (
    map_problems,
    open_runs,
    other_data_warning,
    read_completions,
    refuse_repeats,
)
from screl.samples.store import Sample, SampleWriter, finish_store

GOLDEN = Path(__file__).parents[1] / "data/golden"
PROBLEMS = [Problem(i, f"How many {thing}?", "#### 1", i + 1) for i, thing in enumerate("abc")]
SAMPLES = [  # not in the order of problems and samples
    Sample(i, j, f"{i}.{j}", 1, "length" if i == j else "stop") for j in (1, 0) for i in (2, 0, 1)
]
TEXTS = [["0.0", "0.1"], ["1.0", "1.1"], ["2.0", "2.1"]]


def make_store(folder: Path, samples: list[Sample], **manifest: object) -> Path:
    write_json(folder / "manifest.json", {"n_samples": 2, "greedy": False} | manifest)
    with SampleWriter(folder) as writer:
        writer.write(samples)
    return folder


def texts(path: Path, **options: Any) -> list[list[str]]:
    """Return each problem's completions in the order of sample_id."""
    (run,) = open_runs(path, PROBLEMS, "test", **options)
    rows = read_completions(PROBLEMS, [run], 0, len(PROBLEMS))
    return [[sample.completion for sample in of_run] for _, (of_run,) in rows]


def test_a_store_is_joined_by_id_in_sample_order(tmp_path: Path) -> None:
    (run,) = open_runs(make_store(tmp_path, SAMPLES), PROBLEMS, "test")
    assert (run.greedy, run.n_samples, run.name) == (False, 2, str(tmp_path))
    of_problems = [of_run for _, (of_run,) in read_completions(PROBLEMS, [run], 0, 3)]
    assert of_problems[1] == [Sample(1, 0, "1.0", 1, "stop"), Sample(1, 1, "1.1", 1, "length")]
    assert [[s.is_cut_off for s in row].count(True) for row in of_problems] == [1, 1, 0]
    assert texts(tmp_path) == TEXTS
    assert texts(tmp_path, k=1) == [["0.0"], ["1.0"], ["2.0"]]
    for k in (0, 3):
        with pytest.raises(UserError, match=f"has 2 samples per problem; --k {k} is not among th"):
            texts(tmp_path, k=k)


def test_a_greedy_store(tmp_path: Path) -> None:
    samples = [Sample(i, 0, "x", 1, "stop") for i in range(3)]
    (run,) = open_runs(make_store(tmp_path, samples, n_samples=1, greedy=True), PROBLEMS, "test")
    assert run.greedy


def test_missing_samples_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    samples = [s for s in SAMPLES if (s.problem_id, s.sample_id) not in {(1, 1), (2, 0)}]
    make_store(tmp_path, samples)
    with open(tmp_path / "samples-1.jsonl", "a") as file:
        file.write('{"problem_id":1,"sample_id":1,')  # torn, so missing
    with pytest.raises(
        UserError,
        match=r"2 of 6 samples are missing \(first: problem 1, sample 1\); run sample\.py again or",
    ):
        texts(tmp_path)
    assert texts(tmp_path, allow_partial=True) == [["0.0", "0.1"], ["1.0"], ["2.1"]]
    # with k = 1 only problem 2 lacks its sample
    with pytest.raises(
        UserError, match=r"1 of 3 samples are missing \(first: problem 2, sample 0\)"
    ):
        texts(tmp_path, k=1)


def test_an_adaptive_store_is_complete_when_its_manifest_says_so(tmp_path: Path) -> None:
    samples = [sample for sample in SAMPLES if sample.sample_id == 0]
    store = make_store(tmp_path / "s", samples, until_correct=1, finished=False)
    with pytest.raises(UserError, match="its sampling has not finished; run"):
        open_runs(store, PROBLEMS, "train")
    assert texts(store, allow_partial=True) == [["0.0"], ["1.0"], ["2.0"]]
    finish_store(store)
    assert texts(store) == [["0.0"], ["1.0"], ["2.0"]]


def test_an_empty_store_lacks_everything(tmp_path: Path) -> None:
    make_store(tmp_path, [])
    (tmp_path / "samples-0.jsonl").unlink()
    with pytest.raises(UserError, match="6 of 6 samples are missing"):
        texts(tmp_path)
    assert texts(tmp_path, allow_partial=True) == [[], [], []]


def test_a_broken_manifest_is_an_error_of_one_line(tmp_path: Path) -> None:
    for manifest in ("[]", "{}", '{"n_samples": "two"}', "{"):
        (tmp_path / "manifest.json").write_text(manifest)
        with pytest.raises(UserError, match=r"manifest\.json: .+"):
            texts(tmp_path)


def test_samples_of_other_data_are_warned_about(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text("{}")
    store = make_store(tmp_path / "store", [], data_path="old.jsonl", data_sha256="0" * 64)
    named = [Problem("a", "q", "s", 1)]
    warning = other_data_warning(store, data, named)
    assert warning is not None
    assert "was sampled for old.jsonl, which had other content" in warning
    with pytest.raises(UserError, match="its rows have no problem_id to join by; give the data"):
        other_data_warning(store, data, PROBLEMS)
    assert other_data_warning(make_store(tmp_path / "silent", []), data, named) is None
    assert other_data_warning(GOLDEN / "votes", data, named) is None


def test_a_run_given_twice_is_refused(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    for folder in (a, b):
        folder.mkdir()
        (folder / "file.jsonl").touch()
    (tmp_path / "link").symlink_to(a)
    refuse_repeats([a, b / "file.jsonl"])
    for repeat in (a, tmp_path / "link", a / "file.jsonl"):
        with pytest.raises(UserError, match="given twice; give every run once"):
            refuse_repeats([a, b, repeat])


# Every layout, any number of processes, blocks and ranges of any size: the same samples.


def make_problems(n: int) -> list[Problem]:
    return [Problem(i, f"What is {i} and nothing else?", "#### 1", i + 1) for i in range(n)]


def write_published(folder: Path, rows: list[list[str]]) -> Path:
    folder.mkdir()
    for sample_id in range(len(rows[0])):
        lines = [
            json.dumps([[build_prompt(problem.question), of_problem[sample_id]]]) + "\n"
            for problem, of_problem in zip(make_problems(len(rows)), rows, strict=True)
        ]
        (folder / f"raw_generation_0.7_{sample_id + 1}_test.json").write_text("".join(lines))
    return folder


def write_jsonl(path: Path, rows: list[list[str]], chance: random.Random) -> Path:
    """Write problems in any order, some completions in lists and some one per row."""
    left = [(i, list(of_problem)) for i, of_problem in enumerate(rows)]
    lines = []
    while left:
        i, of_problem = left[chance.randrange(len(left))]
        n = chance.randint(1, len(of_problem))
        text: object = of_problem[:n] if n > 1 or chance.random() < 0.5 else of_problem[0]
        lines.append(json.dumps({"id": i, "completion": text}) + "\n")
        del of_problem[:n]
        left = [(j, rest) for j, rest in left if rest]
    path.write_text("".join(lines))
    return path


def write_store(folder: Path, rows: list[list[str]], chance: random.Random) -> Path:
    samples = [
        Sample(i, j, text, 1, "stop")
        for i, of_problem in enumerate(rows)
        for j, text in enumerate(of_problem)
    ]
    chance.shuffle(samples)
    cut = chance.randint(0, len(samples))
    make_store(folder, samples[:cut])
    (folder / "samples-0.jsonl").rename(folder / "samples-1.jsonl")
    return make_store(folder, samples[cut:], n_samples=len(rows[0]))


def gather(problem: Problem, of_runs: list[list[Sample]], mark: str) -> tuple[object, ...]:
    return mark, problem.problem_id, [[(s.sample_id, s.completion) for s in row] for row in of_runs]


@settings(max_examples=25, deadline=None)
@given(
    words=st.lists(st.text(max_size=6), min_size=1, max_size=9),
    n_problems=st.integers(1, 25),
    n_samples=st.integers(1, 4),
    seed=st.integers(0, 10**6),
    range_bytes=st.integers(1, 300),
    block_samples=st.integers(1, 60),
    n_workers=st.sampled_from([1, 2]),
)
def test_all_layouts_give_the_same_samples(
    tmp_path_factory: pytest.TempPathFactory,
    words: list[str],
    n_problems: int,
    n_samples: int,
    seed: int,
    range_bytes: int,
    block_samples: int,
    n_workers: int,
) -> None:
    folder, chance = tmp_path_factory.mktemp("layouts"), random.Random(seed)
    rows = [chance.choices(words, k=n_samples) for _ in range(n_problems)]
    problems = make_problems(n_problems)
    paths = [
        write_store(folder / "store", rows, chance),
        write_published(folder / "published", rows),
        write_jsonl(folder / "rows.jsonl", rows, chance),
    ]
    expected = [list(enumerate(of_problem)) for of_problem in rows]
    with (
        patch.object(line_index, "RANGE_BYTES", range_bytes),
        patch.object(reader, "BLOCK_SAMPLES", block_samples),
    ):
        runs = [
            run for path in paths for run in open_runs(path, problems, "test", n_workers=n_workers)
        ]
        assert [run.layout for run in runs] == ["store", "published", "jsonl"]
        found = map_problems(gather, problems, runs, "mark", n_workers=n_workers)
        assert list(found) == [
            ("mark", i, [of_problem] * 3) for i, of_problem in enumerate(expected)
        ]


def process_of(_: Problem, of_runs: list[list[Sample]]) -> tuple[int, int]:
    return os.getpid(), len(of_runs[0])


def test_processes_share_the_work(tmp_path: Path) -> None:
    problems = [Problem(i, "q", "s", i + 1) for i in range(43)]
    samples = [Sample(i, j, "x", 1, "stop") for i in range(43) for j in range(2)]
    (run,) = open_runs(make_store(tmp_path, samples), problems, "test")
    here = list(map_problems(process_of, problems, [run], n_workers=1))
    assert here == [(os.getpid(), 2)] * 43
    there = list(map_problems(process_of, problems, [run], n_workers=2))
    assert len(there) == 43
    assert os.getpid() not in {process for process, _ in there}


@pytest.mark.parametrize("n_workers", [1, 2])
def test_a_malformed_sample_is_named_in_any_process(tmp_path: Path, n_workers: int) -> None:
    make_store(tmp_path, SAMPLES)
    path = tmp_path / "samples-0.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"completion":"2.0"', b'"completion":2'))
    (run,) = open_runs(tmp_path, PROBLEMS, "test")
    with pytest.raises(UserError, match=r"samples-0\.jsonl:4: completion is 2, which has the wron"):
        list(map_problems(process_of, PROBLEMS, [run], n_workers=n_workers))

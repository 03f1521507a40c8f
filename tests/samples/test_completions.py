"""Samples joined to their problems, from a sample store and, alike, from every other layout."""

import json
import os
import random
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from screl.core.alpaca import build_prompt
from screl.core.io import UserError, write_json
from screl.core.problems import Problem, ProblemId
from screl.samples import line_index as sample_index
from screl.samples import reader as completions
from screl.samples.reader import Run, map_problems, open_runs, other_data_warning, read_completions
from screl.samples.store import Sample, SampleWriter, finish_store

GOLDEN = Path(__file__).parents[1] / "data/golden"
PROBLEMS = [Problem(i, f"How many {thing}?", "#### 1", i + 1) for i, thing in enumerate("abc")]


def texts_of(run: Run, problems: list[Problem] = PROBLEMS) -> list[list[str]]:
    """For every problem its texts in the order of the samples."""
    rows = read_completions(problems, [run], 0, len(problems))
    return [[completion.completion for completion in of_run[0]] for _, of_run in rows]


def texts(path: Path, **options: Any) -> list[list[str]]:
    (run,) = open_runs(path, PROBLEMS, "test", **options)
    return texts_of(run)


def make_store(folder: Path, samples: list[Sample], **manifest: object) -> Path:
    write_json(folder / "manifest.json", {"n_samples": 2, "greedy": False} | manifest)
    with SampleWriter(folder) as writer:
        writer.write(samples)
    return folder


def all_samples() -> list[Sample]:
    """In an order of their own: the last sample first."""
    return [
        Sample(i, j, f"{i}.{j}", 1, "length" if i == j else "stop")
        for j in (1, 0)
        for i in (2, 0, 1)
    ]


ALL_TEXTS = [["0.0", "0.1"], ["1.0", "1.1"], ["2.0", "2.1"]]


def test_a_store_is_joined_by_id_in_sample_order(tmp_path: Path) -> None:
    (run,) = open_runs(make_store(tmp_path, all_samples()), PROBLEMS, "test")
    assert texts_of(run) == ALL_TEXTS
    assert (run.greedy, run.n_samples, run.name) == (False, 2, str(tmp_path))
    of_problems = [of_run[0] for _, of_run in read_completions(PROBLEMS, [run], 0, 3)]
    assert of_problems[1] == [
        Sample(PROBLEMS[1].problem_id, 0, "1.0", 1, "stop"),
        Sample(PROBLEMS[1].problem_id, 1, "1.1", 1, "length"),
    ]
    assert [[c.is_cut_off for c in row].count(True) for row in of_problems] == [1, 1, 0]
    assert texts(tmp_path, k=1) == [["0.0"], ["1.0"], ["2.0"]]
    with pytest.raises(UserError, match="has 2 samples per problem; --k 3 is not among them"):
        texts(tmp_path, k=3)


def test_a_greedy_store(tmp_path: Path) -> None:
    samples = [Sample(i, 0, "x", 1, "stop") for i in range(3)]
    (run,) = open_runs(make_store(tmp_path, samples, n_samples=1, greedy=True), PROBLEMS, "test")
    assert run.greedy


def test_samples_of_several_workers(tmp_path: Path) -> None:
    make_store(tmp_path, all_samples()[::2])
    with SampleWriter(tmp_path, 1) as writer:
        writer.write(all_samples()[1::2])
    (tmp_path / "samples-2.jsonl").touch()  # a worker that has begun
    assert texts(tmp_path) == ALL_TEXTS
    with SampleWriter(tmp_path, 2) as writer:
        writer.write(all_samples()[3:4])
    with pytest.raises(UserError, match=r"samples-2\.jsonl:1: problem 2 has sample 0 twice; del"):
        texts(tmp_path)


@pytest.mark.parametrize("torn", ['{"problem_id":1,"sam', '{"problem_id":9,"sample_id":0,', "{"])
def test_a_torn_last_line_is_a_missing_sample(tmp_path: Path, torn: str) -> None:
    make_store(tmp_path, all_samples()[:-1])
    for worker in (0, 1):  # each was killed
        with open(tmp_path / f"samples-{worker}.jsonl", "a") as file:
            file.write(torn)
    with pytest.raises(UserError, match=r"1 of 6 samples are missing \(first: problem 1, sample 0"):
        texts(tmp_path)
    assert texts(tmp_path, allow_partial=True) == [["0.0", "0.1"], ["1.1"], ["2.0", "2.1"]]


def test_missing_samples_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    samples = [s for s in all_samples() if (s.problem_id, s.sample_id) not in {(1, 1), (2, 0)}]
    make_store(tmp_path, samples)
    with pytest.raises(
        UserError,
        match=r"2 of 6 samples are missing \(first: problem 1, sample 1\); run sample\.py again or",
    ):
        texts(tmp_path)
    assert texts(tmp_path, allow_partial=True) == [["0.0", "0.1"], ["1.0"], ["2.1"]]
    # the first sample of every problem is enough for k = 1, but for problem 2
    with pytest.raises(
        UserError, match=r"1 of 3 samples are missing \(first: problem 2, sample 0\)"
    ):
        texts(tmp_path, k=1)


def test_samples_until_enough_are_whole_when_the_manifest_says_so(tmp_path: Path) -> None:
    samples = [sample for sample in all_samples() if sample.sample_id == 0]
    store = make_store(tmp_path / "s", samples, until_correct=1, finished=False)
    with pytest.raises(UserError, match="its sampling has not ended; run"):
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


@pytest.mark.parametrize("sample_id", [2, 100, 10**18 - 1, 10**18, 2**63, 2**64 - 1, -1, -(2**63)])
def test_samples_that_are_not_asked_for_are_left_out(tmp_path: Path, sample_id: int) -> None:
    extra = [Sample(i, sample_id, "extra", 1, "stop") for i in (0, 0, 1)]
    assert texts(make_store(tmp_path, [*extra, *all_samples()])) == ALL_TEXTS


@pytest.mark.parametrize("problem_id", ["other", "Ω", '"', 9, 10**18, 2**64 - 1, -1])
def test_a_store_of_other_problems_is_refused(tmp_path: Path, problem_id: ProblemId) -> None:
    samples = [*all_samples(), Sample(problem_id, 0, "x", 1, "stop")]
    make_store(tmp_path, samples, data_path="other.jsonl")
    with pytest.raises(
        UserError, match=r"samples-0\.jsonl:7: .* problem .*sampled for \(other\.jsonl\)"
    ) as caught:
        texts(tmp_path, allow_partial=True)
    assert f"problem {problem_id!r} that --data_path does not have" in str(caught.value)


IDS = st.lists(
    st.integers(-5, 5) | st.sampled_from([10**17, 10**18, 2**63 - 1]) | st.text(max_size=5),
    min_size=1,
    max_size=5,
    unique=True,
)


@given(ids=IDS | st.permutations([1, "1", '"', "\\", '\\"', "\n", "é", "Ω 1", " ", "", "\x7f"]))
def test_ids_of_any_kind(tmp_path_factory: pytest.TempPathFactory, ids: list[ProblemId]) -> None:
    problems = [Problem(name, "q", "s", i + 1) for i, name in enumerate(ids)]
    samples = [Sample(name, 0, f"of {i}", 1, "stop") for i, name in enumerate(ids)]
    store = make_store(tmp_path_factory.mktemp("ids"), samples[::-1], n_samples=1)
    (run,) = open_runs(store, problems, "test", n_workers=1)
    assert texts_of(run, problems) == [[f"of {i}"] for i in range(len(ids))]


def test_lines_that_are_not_as_the_writer_writes_them(tmp_path: Path) -> None:
    make_store(tmp_path, [])
    rows = [
        {"problem_id": s.problem_id, "sample_id": s.sample_id, "completion": s.completion}
        | {"n_tokens": 1, "finish_reason": "stop"}
        for s in all_samples()
    ]
    lines = [
        json.dumps(rows[0]),  # spaces
        json.dumps(dict(reversed(rows[1].items()))),  # another order
        json.dumps(rows[2], separators=(",", ":"), ensure_ascii=False)[:-1] + " }",
        "  " + json.dumps(rows[3]) + "  \r",
        json.dumps(rows[4], separators=(",", ":")) + "\r\n\n   ",
        json.dumps(rows[5], separators=(" ,\t", " : ")),
    ]
    (tmp_path / "samples-0.jsonl").write_text("\n".join(lines) + "\n")
    assert texts(tmp_path) == ALL_TEXTS


@pytest.mark.parametrize(
    "values",
    [
        *({"problem_id": [1]}, {"problem_id": True}, {"problem_id": 1.0}, {"problem_id": None}),
        *({"sample_id": "1"}, {"sample_id": False}, {"sample_id": 10**30}, {"sample_id": None}),
        *({"completion": None}, {"completion": ["x"]}, {"more": 1}),
        *({"n_tokens": "1"}, {"n_tokens": None}, {"finish_reason": None}, {"finish_reason": 1}),
    ],
)
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_a_malformed_sample_is_named(
    tmp_path: Path, values: dict[str, object], separators: tuple[str, str]
) -> None:
    make_store(tmp_path, all_samples()[:1])
    sample = {"problem_id": 0, "sample_id": 0, "completion": "", "n_tokens": 1}
    line = json.dumps(sample | {"finish_reason": "stop"} | values, separators=separators) + "\n"
    with open(tmp_path / "samples-0.jsonl", "a") as file:
        file.write(line)
    with pytest.raises(UserError, match=r"samples-0\.jsonl:2: .*mend or delete this line"):
        texts(tmp_path, allow_partial=True)


@pytest.mark.parametrize(
    "line",
    [
        *(b"7", b"{}", b"null", b'"x"', b"[]", b"\x00", b"nonsense", b"{"),
        b'{"problem_id":0,"sample_id":0,',
        b'{"problem_id":0,"sample_id":0,"completion":"\xff","n_tokens":1,"finish_reason":"stop"}',
        b'{"problem_id":"\xff","sample_id":0,"completion":"","n_tokens":1,"finish_reason":"stop"}',
        b'{"problem_id":"0\n","sample_id":0,"completion":"","n_tokens":1,"finish_reason":"stop"}',
        b'{"problem_id":00,"sample_id":0,"completion":"","n_tokens":1,"finish_reason":"stop"}',
        b'{"problem_id":0,"sample_id":' + b"0" * 5000 + b',"completion":""}',
        b'{"problem_id":' + b"1" * 5000 + b',"sample_id":0,"completion":""}',
        b'{"problem_id":0,"sample_id":0,"completion":""}{"problem_id":0,"sample_id":0}',
        b'{"problem_id":0,"sample_id":0,"completion":' + b"[" * 5000,
    ],
)
def test_a_line_that_is_no_sample_is_named(tmp_path: Path, line: bytes) -> None:
    make_store(tmp_path, all_samples()[:1])
    with open(tmp_path / "samples-0.jsonl", "ab") as file:
        file.write(b"\n" + line + b"\n")
    with pytest.raises(UserError, match=r"samples-0\.jsonl:3: .*mend or delete this line"):
        texts(tmp_path, allow_partial=True)


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


# Every layout, any number of processes, blocks and ranges of any size: the same samples.


def many_problems(n: int) -> list[Problem]:
    return [Problem(i, f"What is {i} and nothing else?", "#### 1", i + 1) for i in range(n)]


def write_published(folder: Path, rows: list[list[str]]) -> Path:
    folder.mkdir()
    for sample_id in range(len(rows[0])):
        lines = [
            json.dumps([[build_prompt(problem.question), of_problem[sample_id]]]) + "\n"
            for problem, of_problem in zip(many_problems(len(rows)), rows, strict=True)
        ]
        (folder / f"raw_generation_0.7_{sample_id + 1}_test.json").write_text("".join(lines))
    return folder


def write_plain(path: Path, rows: list[list[str]], chance: random.Random) -> Path:
    """Some as lists, some one a row; problems in any order."""
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
    make_store(folder, samples[:cut], n_samples=len(rows[0]))
    with SampleWriter(folder, 1) as writer:
        writer.write(samples[cut:])
    return folder


def gather(problem: Problem, of_runs: list[list[Sample]], mark: str) -> tuple[object, ...]:
    """What a worker gets: the problem, and of each run ids and texts."""
    return mark, problem.problem_id, [[(c.sample_id, c.completion) for c in row] for row in of_runs]


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
    problems = many_problems(n_problems)
    paths = [
        write_store(folder / "store", rows, chance),
        write_published(folder / "published", rows),
        write_plain(folder / "plain.jsonl", rows, chance),
    ]
    expected = [list(enumerate(of_problem)) for of_problem in rows]
    with (
        patch.object(sample_index, "RANGE_BYTES", range_bytes),
        patch.object(completions, "BLOCK_SAMPLES", block_samples),
    ):
        runs = [
            run for path in paths for run in open_runs(path, problems, "test", n_workers=n_workers)
        ]
        assert [run.layout for run in runs] == ["store", "published", "plain"]
        found = map_problems(gather, problems, runs, "mark", n_workers=n_workers)
        assert list(found) == [
            ("mark", i, [of_problem] * 3) for i, of_problem in enumerate(expected)
        ]


def process_of(_: Problem, of_runs: list[list[Sample]]) -> tuple[int, int]:
    return os.getpid(), len(of_runs[0])


def test_work_is_shared_out(tmp_path: Path) -> None:
    problems = [Problem(i, "q", "s", i + 1) for i in range(43)]
    samples = [Sample(i, j, "x", 1, "stop") for i in range(43) for j in range(2)]
    (run,) = open_runs(make_store(tmp_path, samples), problems, "test")
    here = list(map_problems(process_of, problems, [run], n_workers=1))
    assert here == [(os.getpid(), 2)] * 43
    there = list(map_problems(process_of, problems, [run], n_workers=2))
    assert len(there) == 43
    assert os.getpid() not in {process for process, _ in there}


@pytest.mark.parametrize("n_workers", [1, 2])
def test_a_malformed_sample_is_named_by_a_worker_too(tmp_path: Path, n_workers: int) -> None:
    make_store(tmp_path, all_samples())
    path = tmp_path / "samples-0.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"completion":"2.0"', b'"completion":2'))
    (run,) = open_runs(tmp_path, PROBLEMS, "test")
    with pytest.raises(UserError, match=r"samples-0\.jsonl:4: completion is 2, of the wrong type"):
        list(map_problems(process_of, PROBLEMS, [run], n_workers=n_workers))

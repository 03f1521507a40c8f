"""The sample store: each sample exactly once, whatever kills the run that writes it."""

import errno
import json
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from screl.core.io import UserError
from screl.core.problems import Problem, ProblemId
from screl.samples.line_index import read_lines
from screl.samples.store import (
    Sample,
    SampleWriter,
    finish_store,
    index_store,
    open_store,
    parse_stored,
    questions_sha256,
    read_manifest,
    read_samples,
)

PROBLEMS = [Problem(i, f"What is {i}?", "", i + 1) for i in range(3)]
MANIFEST = {
    "model_sha256": "m",
    "temperature": 0.7,
    "n_samples": 2,
    "until_correct": None,
    "data_path": "a",
    "n_problems": 3,
    "questions_sha256": questions_sha256(PROBLEMS),
    "versions": {},
}


def make(problem_id: ProblemId, sample_id: int, text: str = "x") -> Sample:
    return Sample(problem_id, sample_id, text, 1, "stop")


def write(folder: Path, *samples: Sample) -> None:
    with SampleWriter(folder) as writer:
        writer.write(samples)


def index_samples(
    folder: Path, n_samples: int = 2, problems: list[Problem] = PROBLEMS
) -> list[Sample]:
    """Read by index, as the filter and the scorer do."""
    index = index_store(folder, problems, n_samples, n_workers=1)
    lines = read_lines(index, 0, len(problems))
    return [sample for i, row in enumerate(lines) for sample in parse_stored(index, i, row)]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    samples = [make(0, 0, "line\nline \u2028 ½ \x00"), make(0, 1), make(1, 0)]
    with SampleWriter(tmp_path) as writer:
        writer.write(samples[:2])
        writer.write(samples[2:])
    assert list(read_samples(tmp_path)) == index_samples(tmp_path) == samples


@pytest.mark.parametrize(
    "torn", ['{"problem_id":1,"sam', '{"problem_id":9,"sample_id":0,', "{", "x" * 9000]
)
def test_a_torn_last_line_is_ignored_and_removed(tmp_path: Path, torn: str) -> None:
    file = tmp_path / "samples-0.jsonl"
    file.write_text(torn)
    write(tmp_path, make(0, 0))
    with open(file, "a") as stream:
        stream.write(torn)
    assert list(read_samples(tmp_path)) == index_samples(tmp_path) == [make(0, 0)]
    write(tmp_path, make(1, 0))
    assert list(read_samples(tmp_path)) == index_samples(tmp_path) == [make(0, 0), make(1, 0)]


def test_files_of_several_workers(tmp_path: Path) -> None:
    """Such stores of older versions are read; a sample may not be in two files."""
    for worker in (1, 0):
        write(tmp_path, *(make(i, worker, f"{i}.{worker}") for i in (2, 0, 1)))
        with open(tmp_path / "samples-0.jsonl", "a") as file:
            file.write('\n  \r\n{"problem_id":0,"sample_id":0,')  # blank lines and a torn one
        if worker:
            (tmp_path / "samples-0.jsonl").rename(tmp_path / "samples-1.jsonl")
    (tmp_path / "samples-2.jsonl").touch()  # a worker that has just started
    found = index_samples(tmp_path)
    assert found == [make(i, j, f"{i}.{j}") for i in range(3) for j in range(2)]
    assert sorted(read_samples(tmp_path), key=lambda s: s.completion) == found
    (tmp_path / "samples-2.jsonl").write_bytes((tmp_path / "samples-0.jsonl").read_bytes())
    for read in (index_samples, lambda path: list(read_samples(path))):
        with pytest.raises(UserError, match=r"samples-2\.jsonl:1: problem 2 has sample 0 twice; d"):
            read(tmp_path)


def test_lines_in_another_form_than_the_writer_s(tmp_path: Path) -> None:
    samples = [make(i, j, f"{i}.{j}") for i in range(3) for j in range(2)]
    rows = list(map(asdict, samples))
    lines = [
        json.dumps(rows[0]),  # spaces
        json.dumps(dict(reversed(rows[1].items()))),  # another order
        json.dumps(rows[2], separators=(",", ":"), ensure_ascii=False)[:-1] + " }",
        "  " + json.dumps(rows[3]) + "  \r",
        json.dumps(rows[4], separators=(",", ":")) + "\r\n\n   ",
        json.dumps(rows[5], separators=(" ,\t", " : ")),
    ]
    (tmp_path / "samples-0.jsonl").write_text("\n".join(lines) + "\n")
    assert index_samples(tmp_path) == list(read_samples(tmp_path)) == samples


IDS = st.lists(
    st.integers(-5, 5) | st.sampled_from([10**17, 10**18, 2**63 - 1]) | st.text(max_size=5),
    min_size=1,
    max_size=5,
    unique=True,
)


@given(ids=IDS | st.permutations([1, "1", '"', "\\", '\\"', "\n", "é", "Ω 1", " ", "", "\x7f"]))
def test_ids_of_any_kind(tmp_path_factory: pytest.TempPathFactory, ids: list[ProblemId]) -> None:
    folder = tmp_path_factory.mktemp("ids")
    samples = [make(name, 0, f"of {i}") for i, name in enumerate(ids)]
    write(folder, *samples[::-1])
    problems = [Problem(name, "q", "s", i + 1) for i, name in enumerate(ids)]
    assert index_samples(folder, 1, problems) == samples


@pytest.mark.parametrize("sample_id", [2, 10**18 - 1, 10**18, 2**63, 2**64 - 1, -1, -(2**63)])
def test_samples_beyond_n_samples_are_left_out(tmp_path: Path, sample_id: int) -> None:
    write(tmp_path, make(0, sample_id), make(0, sample_id), make(0, 0))
    assert index_samples(tmp_path) == [make(0, 0)]


@pytest.mark.parametrize("problem_id", ["other", "Ω", '"', 9, 10**18, 2**64 - 1, -1])
def test_samples_of_an_unknown_problem_are_refused(tmp_path: Path, problem_id: ProblemId) -> None:
    write(tmp_path, make(0, 0), make(problem_id, 0))
    with pytest.raises(UserError, match=r"samples-0\.jsonl:2: .*it was sampled for \(a\)") as error:
        index_store(tmp_path, PROBLEMS, 2, "a")
    assert f"problem {problem_id!r}, which --data_path does not have" in str(error.value)


VALUES: list[dict[str, object]] = [
    *({"problem_id": [1]}, {"problem_id": True}, {"problem_id": 1.0}, {"problem_id": None}),
    *({"sample_id": "1"}, {"sample_id": False}, {"sample_id": 10**30}, {"sample_id": None}),
    *({"completion": None}, {"completion": ["x"]}, {"more": 1}),
    *({"n_tokens": "1"}, {"n_tokens": None}, {"finish_reason": None}, {"finish_reason": 1}),
]


@pytest.mark.parametrize(
    "line",
    [
        *(
            json.dumps(asdict(make(0, 0)) | values, separators=separators).encode()
            for values in VALUES
            for separators in ((",", ":"), (", ", ": "))
        ),
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
def test_a_malformed_line_is_named(tmp_path: Path, line: bytes) -> None:
    """Whether the index parses it, recognizes only its beginning, or it is read in order."""
    (tmp_path / "samples-0.jsonl").write_bytes(b"\n" + line + b"\n")
    message = r"samples-0\.jsonl:2: .*; \w+ or delete this line"
    for read in (index_samples, lambda path: list(read_samples(path))):
        with pytest.raises(UserError, match=message):
            read(tmp_path)


def test_what_is_wrong_with_a_line_is_said(tmp_path: Path) -> None:
    for line, message in (
        ('{"problem_id": 1}', "expected the keys problem_id, sample_id, .*, found problem_id;"),
        ("{bad}", "not valid JSON"),
        (json.dumps(asdict(make(0, 0)) | {"n_tokens": "1"}), "n_tokens is '1', which has the wro"),
    ):
        (tmp_path / "samples-0.jsonl").write_text(line + "\n")
        with pytest.raises(UserError, match=rf"samples-0\.jsonl:1: {message}"):
            list(read_samples(tmp_path))


def test_a_full_disk_names_the_file_and_loses_nothing(tmp_path: Path) -> None:
    write(tmp_path, make(0, 0))
    full = tmp_path / "full"
    full.mkdir()
    (full / "samples-0.jsonl").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"No space left.*full/samples-0\.jsonl") as caught:
        write(full, make(0, 1))
    assert caught.value.errno == errno.ENOSPC
    assert list(read_samples(tmp_path)) == [make(0, 0)]


def test_another_run_is_refused_with_every_difference_named(tmp_path: Path) -> None:
    store = tmp_path / "store"
    open_store(store, MANIFEST | {"model_sha256": "no samples yet, so not binding"}, PROBLEMS)
    open_store(store, MANIFEST, PROBLEMS)
    write(store, make(0, 0))
    open_store(store, MANIFEST | {"data_path": "moved"}, PROBLEMS)
    with pytest.raises(UserError, match=r"model_sha256 was 'm', now 'n'; temperature was 0\.7, no"):
        open_store(store, MANIFEST | {"model_sha256": "n", "temperature": 1.0}, PROBLEMS)


def test_a_store_grows_and_does_not_shrink(tmp_path: Path) -> None:
    open_store(tmp_path, MANIFEST, PROBLEMS)
    write(tmp_path, make(0, 0))
    open_store(tmp_path, MANIFEST | {"n_samples": 5}, PROBLEMS)
    open_store(tmp_path, MANIFEST | {"n_samples": 3}, PROBLEMS)
    assert read_manifest(tmp_path)["n_samples"] == 5


def test_an_adaptive_store_may_get_the_same_number_of_samples_for_all(tmp_path: Path) -> None:
    open_store(tmp_path, MANIFEST, PROBLEMS)
    write(tmp_path, make(0, 0))
    adaptive = MANIFEST | {"n_samples": 8, "until_correct": 2, "finished": False}
    open_store(tmp_path, adaptive, PROBLEMS)
    finish_store(tmp_path)
    assert read_manifest(tmp_path) == adaptive | {"finished": True}
    open_store(tmp_path, adaptive, PROBLEMS)
    assert read_manifest(tmp_path) == adaptive
    with pytest.raises(UserError, match="give --n_samples 8 or more"):
        open_store(tmp_path, MANIFEST | {"n_samples": 7}, PROBLEMS)
    open_store(tmp_path, MANIFEST | {"n_samples": 8}, PROBLEMS)
    assert read_manifest(tmp_path) == MANIFEST | {"n_samples": 8}


@pytest.mark.parametrize("n_samples", [None, "4", 0])
def test_a_manifest_that_was_tampered_with_is_named(tmp_path: Path, n_samples: object) -> None:
    open_store(tmp_path, MANIFEST | {"n_samples": n_samples}, PROBLEMS)
    write(tmp_path, make(0, 0))
    with pytest.raises(UserError, match=r"manifest\.json: no n_samples"):
        open_store(tmp_path, MANIFEST, PROBLEMS)


def test_samples_without_a_manifest_are_refused(tmp_path: Path) -> None:
    write(tmp_path, make(0, 0))
    with pytest.raises(UserError, match="no manifest"):
        open_store(tmp_path, MANIFEST, PROBLEMS)

"""The sample store: exactly once, whatever happens in between."""

import errno
from dataclasses import asdict
from pathlib import Path

import orjson
import pytest

from screl.core.io import UserError
from screl.core.problems import Problem
from screl.samples.line_index import read_lines
from screl.samples.store import (
    Sample,
    SampleWriter,
    finish_store,
    index_store,
    open_store,
    parse_sample,
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


def make(problem_id: int, sample_id: int, text: str = "x") -> Sample:
    return Sample(problem_id, sample_id, text, 1, "stop")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    samples = [make(0, 0, "line\nline \u2028 ½ \x00"), make(0, 1), make(1, 0)]
    with SampleWriter(tmp_path) as writer:
        writer.write(samples[:2])
        writer.write(samples[2:])
    assert list(read_samples(tmp_path)) == samples


@pytest.mark.parametrize("torn", ['{"problem_id":1,"sam', "{", "x" * 9000])
def test_a_torn_tail_is_dropped_and_cut_off(tmp_path: Path, torn: str) -> None:
    with SampleWriter(tmp_path) as writer:
        writer.write([make(0, 0)])
    with open(tmp_path / "samples-0.jsonl", "a") as file:
        file.write(torn)
    assert list(read_samples(tmp_path)) == [make(0, 0)]
    with SampleWriter(tmp_path) as writer:
        writer.write([make(1, 0)])
    assert list(read_samples(tmp_path)) == [make(0, 0), make(1, 0)]


def test_a_file_that_is_one_torn_line_starts_anew(tmp_path: Path) -> None:
    (tmp_path / "samples-0.jsonl").write_text('{"problem_id"')
    with SampleWriter(tmp_path) as writer:
        writer.write([make(0, 0)])
    assert list(read_samples(tmp_path)) == [make(0, 0)]


def test_a_duplicate_is_named(tmp_path: Path) -> None:
    for worker in (0, 1):
        with SampleWriter(tmp_path, worker) as writer:
            writer.write([make(3, 1, str(worker))])
    with pytest.raises(UserError, match=r"samples-1\.jsonl:1: problem 3 has sample 1 twice"):
        list(read_samples(tmp_path))


def test_a_malformed_line_in_the_middle_is_named(tmp_path: Path) -> None:
    (tmp_path / "samples-0.jsonl").write_text('{"problem_id": 1}\n')
    with pytest.raises(UserError, match=r"samples-0\.jsonl:1: expected the keys problem_id, sam"):
        list(read_samples(tmp_path))
    (tmp_path / "samples-0.jsonl").write_text("{bad}\n{}\n")
    with pytest.raises(UserError, match=r"samples-0\.jsonl:1: not valid JSON"):
        list(read_samples(tmp_path))


def test_all_samples_are_read_or_found_alike(tmp_path: Path) -> None:
    """By sample.py, which goes on, and by the index of those who use the samples."""
    problems = [Problem(i, "q", "s", i + 1) for i in range(3)]
    for worker in (0, 1):
        with SampleWriter(tmp_path, worker) as writer:
            writer.write([make(i, worker, f"{i}.{worker}") for i in (2, 0, 1)])
        with open(tmp_path / f"samples-{worker}.jsonl", "a") as file:
            file.write('\n  \r\n{"problem_id":0,"sample_id":0,')  # blank lines, a torn one
    index = index_store(tmp_path, problems, 2)
    assert index.files == (tmp_path / "samples-0.jsonl", tmp_path / "samples-1.jsonl")
    lines = [line for of_problem in read_lines(index, 0, 3) for line in of_problem]
    found = [parse_sample(line or b"", tmp_path, 0) for line in lines]
    assert found == [make(i, j, f"{i}.{j}") for i in range(3) for j in range(2)]
    assert sorted(read_samples(tmp_path), key=lambda s: s.completion) == found


def test_a_number_of_tokens_is_a_number(tmp_path: Path) -> None:
    line = orjson.dumps(asdict(make(0, 0)) | {"n_tokens": "1"}) + b"\n"
    (tmp_path / "samples-0.jsonl").write_bytes(b"\n" + line)
    message = r"samples-0\.jsonl:2: n_tokens is '1', of the wrong type; mend or delete this line"
    with pytest.raises(UserError, match=message):
        list(read_samples(tmp_path))
    with pytest.raises(UserError, match=message):
        parse_sample(line, tmp_path / "samples-0.jsonl", 1)


def test_a_full_disk_names_the_file_and_loses_nothing(tmp_path: Path) -> None:
    with SampleWriter(tmp_path) as writer:
        writer.write([make(0, 0)])
    (tmp_path / "samples-1.jsonl").symlink_to("/dev/full")
    with (
        pytest.raises(OSError, match=r"No space left.*samples-1\.jsonl") as caught,
        SampleWriter(tmp_path, 1) as writer,
    ):
        writer.write([make(0, 1)])
    assert caught.value.errno == errno.ENOSPC
    (tmp_path / "samples-1.jsonl").unlink()
    assert list(read_samples(tmp_path)) == [make(0, 0)]


def test_another_run_is_refused_with_every_difference_named(tmp_path: Path) -> None:
    store = tmp_path / "store"
    open_store(store, MANIFEST | {"model_sha256": "nothing sampled of it: does not bind"}, PROBLEMS)
    open_store(store, MANIFEST, PROBLEMS)
    with SampleWriter(store) as writer:
        writer.write([make(0, 0)])
    open_store(store, MANIFEST | {"data_path": "moved"}, PROBLEMS)
    with pytest.raises(UserError, match=r"model_sha256 was 'm', now 'n'; temperature was 0\.7, no"):
        open_store(store, MANIFEST | {"model_sha256": "n", "temperature": 1.0}, PROBLEMS)


def test_more_samples_are_welcome_and_fewer_do_not_shrink_the_store(tmp_path: Path) -> None:
    open_store(tmp_path, MANIFEST, PROBLEMS)
    with SampleWriter(tmp_path) as writer:
        writer.write([make(0, 0)])
    open_store(tmp_path, MANIFEST | {"n_samples": 5}, PROBLEMS)
    open_store(tmp_path, MANIFEST | {"n_samples": 3}, PROBLEMS)
    assert read_manifest(tmp_path)["n_samples"] == 5


def test_samples_until_enough_may_become_equally_many(tmp_path: Path) -> None:
    open_store(tmp_path, MANIFEST, PROBLEMS)
    with SampleWriter(tmp_path) as writer:
        writer.write([make(0, 0)])
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
    with SampleWriter(tmp_path) as writer:
        writer.write([make(0, 0)])
    with pytest.raises(UserError, match=r"manifest\.json: no n_samples"):
        open_store(tmp_path, MANIFEST, PROBLEMS)


def test_samples_without_a_manifest_are_refused(tmp_path: Path) -> None:
    with SampleWriter(tmp_path) as writer:
        writer.write([make(0, 0)])
    with pytest.raises(UserError, match="no manifest"):
        open_store(tmp_path, MANIFEST, PROBLEMS)

"""Samples of other programs go to the right problem, or are refused; never to another one."""

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from screl.core.io import UserError
from screl.core.problems import Problem, load_problems
from screl.samples.joining import Questions
from screl.samples.reader import open_runs, read_completions
from screl.samples.store import Sample
from tests.conftest import ROOT

CASES = ROOT / "tests/data/cases/samples"
TWO, GSM = (load_problems(CASES / f"problems_{name}.jsonl") for name in ("two", "gsm"))


def read(path: Path, problems: list[Problem]) -> list[list[Sample]]:
    (run,) = open_runs(path, problems, "test")
    return [of_run for _, (of_run,) in read_completions(problems, [run], 0, len(problems))]


def write(folder: Path, *rows: Any) -> Path:
    path = folder / "outputs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def answers(samples: list[list[Sample]]) -> list[str]:
    return [of_one[0].completion.split("####")[-1].split()[0] for of_one in samples]


ONE_EACH = ["array.json", "bom.jsonl", "messages.jsonl", "openai_batch.jsonl", "sharegpt.jsonl",
            "strids.jsonl"]  # fmt: skip


@pytest.mark.parametrize("name", ONE_EACH)
def test_files_of_one_completion_per_problem(name: str) -> None:
    found = read(CASES / name, TWO)
    assert (answers(found), [len(of_one) for of_one in found]) == (["7", "12"], [1, 1])


@pytest.mark.parametrize("name", ONE_EACH)
def test_the_same_in_another_order_compressed_and_as_parquet(tmp_path: Path, name: str) -> None:
    text = (CASES / name).read_text("utf-8-sig")
    rows = json.loads(text) if text.startswith("[") else list(map(json.loads, text.splitlines()))
    assert answers(read(write(tmp_path, *rows[::-1]), TWO)) == ["7", "12"]
    path = tmp_path / "outputs.gz"
    path.write_bytes(gzip.compress(text.encode()))
    assert answers(read(path, TWO)) == ["7", "12"]
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    assert answers(read(path, TWO)) == ["7", "12"]
    path.write_text(text, "utf-16")
    with pytest.raises(UserError, match=r"outputs\.gz: is UTF-16: save it as UTF-8"):
        read(path, TWO)


def test_several_outputs_with_their_finish_reasons() -> None:
    found = read(CASES / "vllm_n.jsonl", TWO)
    reasons = [[sample.finish_reason for sample in of_one] for of_one in found]
    assert (answers(found), reasons) == (["7", "12"], [["stop", "length"]] * 2)


def test_a_dump_sorted_by_a_hash_is_joined_by_the_question_in_its_prompt(tmp_path: Path) -> None:
    path = CASES / "verl_dump_shuffled.jsonl"
    right = [problem.solution.split("#### ")[1] for problem in GSM]
    assert answers(read(path, GSM)) == right
    rows = list(map(json.loads, path.read_text().splitlines()))
    # without its prompt, the answers still show that its order is another
    bare = [{"output": row["output"], "gts": row["gts"]} for row in rows]
    with pytest.raises(UserError, match="the rows are not in the order of the problems"):
        read(write(tmp_path, *bare), GSM)
    # one row without a prompt: neither by question nor by place
    del rows[2]["input"]
    with pytest.raises(UserError, match=r"jsonl:3: no id, and the rows are not in the order"):
        read(write(tmp_path, *rows), GSM)


def test_an_id_that_a_text_contradicts_is_refused(tmp_path: Path) -> None:
    rows = list(map(json.loads, (CASES / "verl_dump_shuffled.jsonl").read_text().splitlines()))
    with pytest.raises(UserError, match=r"jsonl:1: its question is not that of problem 0"):
        read(write(tmp_path, *({"idx": i} | row for i, row in enumerate(rows))), GSM)


def test_a_completion_that_repeats_another_prompt_is_not_joined_by_place(tmp_path: Path) -> None:
    texts = [f"Q: {problem.question}\n{problem.solution} ok" for problem in GSM]
    rows = [{"generated_text": text} for text in texts]
    random.Random(1).shuffle(rows)
    found = read(write(tmp_path, *rows), GSM)
    assert [of_one[0].completion for of_one in found] == texts


def test_a_log_that_holds_every_completion_twice_is_one_greedy_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = CASES / "lm_eval_2024_twice.jsonl"
    (run,) = open_runs(path, GSM, "test")
    assert (run.greedy, run.n_samples, run.index.n_missing) == (True, 1, 0)
    assert "every completion stands there 2 times" in capsys.readouterr().err
    # two different completions are two samples
    rows = list(map(json.loads, path.read_text().splitlines()))
    rows[0]["resps"] = [["another"]]
    (run,) = open_runs(write(tmp_path, *rows), GSM, "test")
    assert (run.greedy, run.n_samples) == (False, 2)


def batch_row(custom_id: str, text: str | None) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    response = {"body": {"choices": [{"message": message, "finish_reason": "stop"}]}}
    return {"id": "batch_req", "custom_id": custom_id, "response": text and response}


def test_the_requests_of_a_batch_are_joined_by_their_number(tmp_path: Path) -> None:
    rows = [batch_row("request-1", "of 1"), batch_row("request-0", "of 0")]
    found = read(write(tmp_path, *rows), TWO)
    assert [of_one[0].completion for of_one in found] == ["of 0", "of 1"]
    for ids in (("request-1", "request-2"), ("a", "b"), ("request-0", "request-0")):
        with pytest.raises(UserError, match=r"custom_id '.*' names no problem; give"):
            read(write(tmp_path, *(batch_row(name, "x") for name in ids)), TWO)
    with pytest.raises(UserError, match=r"jsonl:2: response holds no text or a null"):
        read(write(tmp_path, batch_row("request-0", "x"), batch_row("request-1", None)), TWO)


def test_several_turns_are_refused(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (CASES / "messages.jsonl").read_text().splitlines()]
    rows[1]["messages"] *= 2
    with pytest.raises(UserError, match=r"jsonl:2: several turns \(user, assistant, user, assis"):
        read(write(tmp_path, *rows), TWO)


def test_a_search_finds_every_question(tmp_path: Path) -> None:
    """Also those shorter than the ending by which they are searched for."""
    problems = [
        Problem(i, q, "", i) for i, q in enumerate(["1+1?", "2+1+1?", "How many are there?"])
    ]
    questions = Questions(problems)
    assert questions.search("Q:1+1?A:2Q:Howmanyarethere?A:").asked == 2
    assert questions.search("2+1+1?") == (1, {0, 1})
    assert questions.search("nothing") == (None, frozenset())

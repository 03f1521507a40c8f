"""Check that options that cannot be right end in a message that names them."""

import sys
from pathlib import Path

import pytest

import sample
from screl.core.config import run_main
from screl.core.io import UserError
from screl.models.prompts import SHOTS
from tests.conftest import MINI_MODEL, ROOT, write_lines
from tests.sampling.conftest import options, run_here

ICL = {"prompt": "icl", "n_shots": 2}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"greedy": True}, "leave out --n_samples"),
        ({"n_samples": 0}, "--n_samples must be at least 1"),
        ({"gpu_memory_utilization": 2}, "--gpu_memory_utilization must be in"),
        ({"temperature": 0}, "for the likeliest token"),
        ({"top_p": 0}, "--top_p must be in"),
        ({"max_new_tokens": 500}, r"test\.jsonl:1: the prompt has \d+ tokens; .* has room for 12"),
        ({"until_correct": 2}, "--until_correct and --max_samples go together"),
        ({"until_correct": 3, "max_samples": 2}, "at least 1 and at most --max_samples"),
        ({"until_correct": 1, "max_samples": 2, "n_samples": 1, "greedy": True}, "leave out --gr"),
        (ICL | {"n_shots": 8}, r"jsonl:1: the prompt has 2\d\d\d tokens; .* give fewer --n_shots"),
        (ICL | {"n_shots": 9}, r"icl/gsm8k\.jsonl: has 8 rows, too few for --n_shots 9"),
        ({"n_shots": 2}, "--n_shots, --shots_path and --shots_seed need --prompt icl"),
        ({"n_shots": 8, "shots_path": SHOTS}, "need --prompt icl"),
        (ICL | {"shots_path": ROOT / "data/mini/test.jsonl"}, r"test\.jsonl:1: this question is a"),
    ],
)
def test_options_that_cannot_be_right_are_named(
    tiny_model: Path, data: Path, tmp_path: Path, changes: dict[str, object], message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    with pytest.raises(UserError, match=message):
        run_here(monkeypatch, options(tiny_model, data, tmp_path / "s", **changes))
    assert not (tmp_path / "s").exists()


def test_bad_input_ends_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torn = write_lines(tmp_path / "torn.jsonl", ['{"query": "a", "response": "b"}', '{"query": '])
    monkeypatch.setattr(sys, "argv", ["sample.py", *options(MINI_MODEL, torn, tmp_path / "s")])
    with pytest.raises(SystemExit, match=r"error: .*torn\.jsonl:2: not valid JSON") as error:
        run_main(sample.main)
    assert "\n" not in str(error.value)

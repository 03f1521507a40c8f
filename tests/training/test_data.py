"""Test how rows become tokens, what carries loss, what is left out, and the order of training."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from screl.core.io import UserError
from screl.core.problems import Problem, build_prompt, load_problems
from screl.models.prompts import TextPrompt
from screl.models.tokenizer import describe_example, load_tokenizer, tokenize_example
from screl.training import data as data_module
from screl.training.data import cache_key, tokenize_examples, training_order
from screl.training.model import pack
from tests.conftest import write_lines
from tests.training.conftest import run_here, train_options

DATA = Path("data.jsonl")
PROBLEM = Problem(0, "Jo has 2 pens and 3 cups. How many?", "2+3=<<2+3=5>>5\n#### 5", 1)


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path):
    return AutoTokenizer.from_pretrained(tiny_model)


def test_only_the_response_and_eos_carry_loss(tokenizer) -> None:
    example = tokenize_example(tokenizer, PROBLEM)
    ids = example.input_ids.tolist()
    assert ids[0] == tokenizer.bos_token_id
    assert ids.count(tokenizer.bos_token_id) == 1
    assert tokenizer.decode(ids[1 : example.n_prompt]) == build_prompt(PROBLEM.question)
    assert tokenizer.decode(ids[example.n_prompt : -1]) == PROBLEM.solution
    assert ids[-1] == tokenizer.eos_token_id
    batch = pack([example])
    assert batch.targets.tolist() == ids[example.n_prompt :]
    assert batch.predicting.tolist() == [*range(example.n_prompt - 1, len(ids) - 1)]
    shown = describe_example(tokenizer, PROBLEM, example).split(" on:\n")[1].split("\n")
    assert [row[2] for row in shown] == [" "] * example.n_prompt + ["*"] * example.n_targets


def test_a_merge_across_the_boundary_keeps_the_prompts_own_tokens() -> None:
    """A tokenizer that has the token ':2' is still trained on the prompt as given at inference."""
    characters = sorted(set(build_prompt(PROBLEM.question) + PROBLEM.solution))
    vocabulary = {token: i for i, token in enumerate(["</s>", *characters, ":2"])}
    model = models.BPE(vocab=vocabulary, merges=[(":", "2")])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model), eos_token="</s>")
    prompt = tokenizer(build_prompt(PROBLEM.question)).input_ids
    joint = tokenizer(build_prompt(PROBLEM.question) + PROBLEM.solution).input_ids
    assert joint[: len(prompt)] != prompt  # tokenizing both together would merge
    example = tokenize_example(tokenizer, PROBLEM)
    assert example.input_ids[: example.n_prompt].tolist() == prompt
    assert tokenizer.decode(example.input_ids[example.n_prompt : -1]).replace(" ", "") == (
        PROBLEM.solution.replace(" ", "")
    )


def test_a_tokenizer_that_appends_eos_does_not_end_the_prompt_with_it(tiny_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    eos = tokenizer.eos_token
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"<s> $A {eos}",
        special_tokens=[("<s>", tokenizer.bos_token_id), (eos, tokenizer.eos_token_id)],
    )
    assert tokenizer("a").input_ids[-1] == tokenizer.eos_token_id
    ids = tokenize_example(tokenizer, PROBLEM).input_ids.tolist()
    assert ids.count(tokenizer.eos_token_id) == 1


def test_rows_are_tokenized_once(
    tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    problems = [PROBLEM, Problem(1, "How many?", "9\n#### 9", 2)]
    first = tokenize_examples(TextPrompt(tokenizer), problems, "key", DATA)
    again = tokenize_examples(None, problems, "key", DATA)  # needs no tokenizer
    assert len(again) == 2
    for one, other in zip(first, again, strict=True):
        assert one.input_ids.tolist() == other.input_ids.tolist()
        assert (one.input_ids.dtype, one.n_prompt) == (other.input_ids.dtype, other.n_prompt)
    (cached,) = (tmp_path / "gsm8k-screl/tokens").iterdir()
    cached.write_bytes(cached.read_bytes()[:100])
    torn = tokenize_examples(TextPrompt(tokenizer), problems, "key", DATA)
    assert torn[1].input_ids.tolist() == first[1].input_ids.tolist()


def test_the_cache_depends_on_its_inputs_and_on_the_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = cache_key("a", "b")
    assert cache_key("a", "b") == before
    assert len({before, cache_key("a", "c"), cache_key("b", "b")}) == 3
    changed = write_lines(tmp_path / "prompts.py", ["# another template"])
    monkeypatch.setattr(data_module, "ROW_CODE", [*data_module.ROW_CODE[:-1], changed])
    assert cache_key("a", "b") != before


def test_a_cache_that_cannot_be_written_does_no_harm(
    tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gsm8k-screl").write_text("a file in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert len(tokenize_examples(TextPrompt(tokenizer), [PROBLEM], "key", DATA)) == 1


@given(
    n_rows=st.integers(1, 40),
    epochs=st.sampled_from([0.5, 1, 2, 3]),
    batch=st.integers(1, 16),
    seed=st.integers(0, 5),
)
def test_every_step_is_full_and_rows_occur_as_often_as_the_epochs_say(
    n_rows: int, epochs: float, batch: int, seed: int
) -> None:
    steps = training_order(n_rows, epochs, batch, seed)
    assert all(len(step) == batch for step in steps)
    n = sum(map(len, steps))
    assert n_rows * epochs - 0.5 <= n < n_rows * epochs + batch + 0.5
    counts = Counter(row for step in steps for row in step)
    assert max(counts.values()) - min(counts[row] for row in range(n_rows)) <= 2
    if epochs >= 1:
        assert all(counts[row] >= int(epochs) - (batch > 1) for row in range(n_rows))


def test_the_order_depends_on_the_seed_alone() -> None:
    assert training_order(50, 2, 8, 1) == training_order(50, 2, 8, 1)
    assert training_order(50, 2, 8, 1) != training_order(50, 2, 8, 2)


def test_long_rows_are_left_out_and_named(
    tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    tokenizer = load_tokenizer(str(tiny_model))
    problems = load_problems(data)
    lengths = [len(tokenize_example(tokenizer, problem)) for problem in problems]
    longest = max(lengths)
    lines = [p.line for p, length in zip(problems, lengths, strict=True) if length == longest]
    argv = train_options(tiny_model, data, tmp_path / "m", dry_run=True)
    run_here(monkeypatch, [*argv, f"--max_length={longest - 1}"])
    warning = capsys.readouterr().err
    assert f"left out {len(lines)} of 22 rows, longer than --max_length {longest - 1}" in warning
    assert f"line {', '.join(map(str, lines))}" in warning
    with pytest.raises(UserError, match="no row is left; raise --max_length"):
        run_here(monkeypatch, [*argv, "--max_length=5"])


def test_steps_that_make_more_epochs_or_none_are_reported(
    tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    argv = train_options(tiny_model, data, tmp_path / "m", dry_run=True, num_train_epochs=1)
    run_here(monkeypatch, [*argv, "--global_batch_size=64"])
    assert "warning: training takes 2.91 epochs, not 1: steps of 64" in capsys.readouterr().err
    run_here(monkeypatch, argv)
    assert "epochs, not" not in capsys.readouterr().err
    with pytest.raises(UserError, match=r"--num_train_epochs 0\.01 of 22 rows is less than one"):
        run_here(monkeypatch, [*argv, "--num_train_epochs=0.01"])


def test_an_empty_response_is_refused(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = ['{"query": "a", "response": "b"}', '{"query": "a", "response": " "}']
    data = write_lines(tmp_path / "d.jsonl", rows)
    with pytest.raises(UserError, match=r"d\.jsonl:2: the response is empty; fix or delete"):
        run_here(monkeypatch, train_options(tiny_model, data, tmp_path / "m"))

"""Token rows: what carries loss, what is left out, and the order of training."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from screl.problems import Problem
from screl.prompts import build_prompt
from screl.sft_data import (
    IGNORE_INDEX,
    Example,
    collate,
    describe_example,
    tokenize_example,
    tokenize_examples,
    training_order,
)

PROBLEM = Problem(0, "Jo has 2 pens and 3 cups. How many?", "2+3=<<2+3=5>>5\n#### 5", 1)


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path):
    return AutoTokenizer.from_pretrained(tiny_model)


def test_loss_on_response_and_eos_only(tokenizer) -> None:
    example = tokenize_example(tokenizer, PROBLEM)
    ids = example.input_ids.tolist()
    assert ids[0] == tokenizer.bos_token_id
    assert ids.count(tokenizer.bos_token_id) == 1
    assert tokenizer.decode(ids[1 : example.n_prompt]) == build_prompt(PROBLEM.question)
    assert tokenizer.decode(ids[example.n_prompt : -1]) == PROBLEM.solution
    assert ids[-1] == tokenizer.eos_token_id
    batch = collate([example], tokenizer.pad_token_id)
    labels = batch["labels"][0].tolist()
    assert labels == [IGNORE_INDEX] * example.n_prompt + ids[example.n_prompt :]


def test_padding_is_masked_and_eos_is_not_even_where_pad_is_eos() -> None:
    short, long = Example(np.array([5, 6, 2]), 1), Example(np.array([5, 6, 7, 8, 2]), 2)
    batch = collate([short, long], pad=2)
    assert batch["input_ids"].tolist() == [[5, 6, 2, 2, 2], [5, 6, 7, 8, 2]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    ignored = IGNORE_INDEX
    assert batch["labels"].tolist() == [
        [ignored, 6, 2, ignored, ignored],
        [ignored, ignored, 7, 8, 2],
    ]


def test_a_merge_across_the_boundary_cannot_mislabel() -> None:
    """A tokenizer that has the token ':2' must still be trained on the prompt's own tokens."""
    characters = sorted(set(build_prompt(PROBLEM.question) + PROBLEM.solution))
    vocabulary = {token: i for i, token in enumerate(["</s>", *characters, ":2"])}
    model = models.BPE(vocab=vocabulary, merges=[(":", "2")])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model), eos_token="</s>")
    prompt = tokenizer(build_prompt(PROBLEM.question)).input_ids
    joint = tokenizer(build_prompt(PROBLEM.question) + PROBLEM.solution).input_ids
    assert joint[: len(prompt)] != prompt  # the trap is there
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
    assert tokenizer("a").input_ids[-1] == tokenizer.eos_token_id  # the trap is there
    ids = tokenize_example(tokenizer, PROBLEM).input_ids.tolist()
    assert ids.count(tokenizer.eos_token_id) == 1


def test_long_rows_are_left_out_and_never_cut(tokenizer) -> None:
    longer = Problem(1, PROBLEM.question, PROBLEM.solution * 3, 2)
    length = len(tokenize_example(tokenizer, PROBLEM))
    examples, too_long = tokenize_examples(tokenizer, [PROBLEM, longer], max_length=length)
    assert [len(example) for example in examples] == [length]
    assert too_long == [longer]
    assert tokenize_examples(tokenizer, [PROBLEM], max_length=length - 1) == ([], [PROBLEM])


def test_dry_run_marks_the_tokens_with_loss(tokenizer) -> None:
    example = tokenize_example(tokenizer, PROBLEM)
    text = describe_example(tokenizer, PROBLEM, example)
    rows = text.split("(*):\n")[1].split("\n")
    marks = [row[2] for row in rows]
    assert marks == [" "] * example.n_prompt + ["*"] * (len(example) - example.n_prompt)


@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=40),
    epochs=st.sampled_from([0.5, 1, 2, 3]),
    batch=st.integers(1, 16),
    seed=st.integers(0, 5),
)
def test_every_step_is_full_and_every_row_comes_as_often_as_the_epochs_say(
    lengths: list[int], epochs: float, batch: int, seed: int
) -> None:
    order = training_order(lengths, epochs, batch, seed)
    n = len(lengths)
    assert len(order) % batch == 0
    assert n * epochs - 0.5 <= len(order) < n * epochs + batch + 0.5
    counts = Counter(order)
    assert max(counts.values()) - min(counts[row] for row in range(n)) <= 2
    if epochs >= 1:
        assert all(counts[row] >= int(epochs) - (batch > 1) for row in range(n))
    for start in range(0, len(order), batch):
        step = [lengths[row] for row in order[start : start + batch]]
        assert step == sorted(step)


def test_the_order_depends_on_the_seed_alone() -> None:
    assert training_order([1] * 50, 2, 8, 1) == training_order([1] * 50, 2, 8, 1)
    assert training_order([1] * 50, 2, 8, 1) != training_order([1] * 50, 2, 8, 2)

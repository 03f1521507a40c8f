"""Check where a completion ends, and what an exchange with an engine returns."""

import pytest

from screl.models.tokenizer import Tokenizer, decode_completion, load_tokenizer, prompt_ids
from screl.sampling.engine import Request, StopRule, consecutive, sample_seed
from tests.conftest import MINI_MODEL

TEXT = " It is 2+3=5.\n#### 5\n\nQuestion: Why? Question: No?"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer(str(MINI_MODEL))


@pytest.fixture(scope="module")
def request_of(tokenizer: Tokenizer) -> Request:
    return Request("a", prompt_ids(tokenizer, "Question: How many?\nAnswer:"), range(1))


def ids_of(tokenizer: Tokenizer, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False).input_ids
    return ids


@pytest.mark.parametrize("stop", ["Question:", "\n\nQuestion:", "5", "is 2+3=5.", "####", "estion"])
def test_a_completion_ends_with_the_first_token_that_completes_the_stop_string(
    tokenizer: Tokenizer, request_of: Request, stop: str
) -> None:
    ids, rule = ids_of(tokenizer, TEXT), StopRule(tokenizer, [2], stop)
    assert all("Question:" not in tokenizer.decode([i]) for i in ids)  # it spans several tokens
    texts = [decode_completion(tokenizer, request_of.prompt_ids, ids[:n]) for n in range(len(ids))]
    first = next(n for n, text in enumerate(texts) if stop in text)
    for n in range(1, first):
        assert not rule.is_reached(request_of, ids[:n])
    assert rule.is_reached(request_of, ids[:first])
    sample = rule.to_sample(request_of, 0, ids[:first])
    assert (sample.completion, sample.n_tokens, sample.finish_reason) == (
        TEXT[: TEXT.index(stop)].strip(), first, "stop"
    )  # fmt: skip


def test_text_after_the_stop_string_is_not_kept(tokenizer: Tokenizer, request_of: Request) -> None:
    """A token may bring more than the end of the stop string."""
    rule = StopRule(tokenizer, [2], "estion")
    sample = rule.to_sample(request_of, 0, ids_of(tokenizer, TEXT))
    assert sample.completion == "It is 2+3=5.\n#### 5\n\nQu"


def test_eos_ends_a_completion_and_the_limit_cuts_it(
    tokenizer: Tokenizer, request_of: Request
) -> None:
    ids = ids_of(tokenizer, " 5 pens\n")
    eos = tokenizer.eos_token_id
    for stop, text in ((None, " 5 pens\n"), ("Question:", "5 pens")):
        rule = StopRule(tokenizer, [eos], stop)
        assert not rule.is_reached(request_of, ids)
        assert rule.is_reached(request_of, [*ids, eos])
        made = [rule.to_sample(request_of, 0, row) for row in (ids, [*ids, eos])]
        assert [one.completion for one in made] == [text, text]
        assert [one.n_tokens for one in made] == [len(ids), len(ids) + 1]
        assert [one.finish_reason for one in made] == ["length", "stop"]


def test_a_stop_string_that_begins_in_the_prompt_ends_nothing(tokenizer: Tokenizer) -> None:
    request = Request("a", prompt_ids(tokenizer, "x\n\nQuestion"), range(1))
    rule = StopRule(tokenizer, [2], "Question:")
    ids = ids_of(tokenizer, ": 5")
    assert not any(rule.is_reached(request, ids[: n + 1]) for n in range(len(ids)))
    assert rule.to_sample(request, 0, ids).completion == ": 5"


def test_seeds_are_consecutive_and_differ_between_problems() -> None:
    seeds = [sample_seed(0, problem, j) for problem in (0, "0", 1) for j in range(4)]
    assert len(set(seeds)) == 12
    assert sample_seed(0, 5, 7) == sample_seed(0, 5, 0) + 7 < 2**64


def test_sample_ids_are_split_into_consecutive_ranges() -> None:
    ids = [0, 1, 2, 3, 7, 9, 10]
    assert list(consecutive(ids, 3)) == [range(3), range(3, 4), range(7, 8), range(9, 11)]
    assert list(consecutive([], 3)) == []

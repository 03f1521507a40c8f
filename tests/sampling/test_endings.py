"""A completion ends with EOS or where the next question begins, wherever tokens are divided."""

import pytest

from screl.models.tokenizer import Tokenizer, decode_completion, load_tokenizer, prompt_ids
from screl.sampling.engine import Request, StopRule
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
def test_it_ends_with_the_first_token_that_completes_the_stop_string(
    tokenizer: Tokenizer, request_of: Request, stop: str
) -> None:
    ids, endings = ids_of(tokenizer, TEXT), StopRule(tokenizer, [2], stop)
    texts = [decode_completion(tokenizer, request_of.prompt_ids, ids[:n]) for n in range(len(ids))]
    first = next(n for n, text in enumerate(texts) if stop in text)
    for n in range(1, first):
        assert not endings.is_reached(request_of, ids[:n])
    assert endings.is_reached(request_of, ids[:first])
    sample = endings.to_sample(request_of, 0, ids[:first])
    assert (sample.completion, sample.n_tokens, sample.finish_reason) == (
        TEXT[: TEXT.index(stop)].strip(), first, "stop"
    )  # fmt: skip


def test_the_stop_string_is_divided_among_tokens(tokenizer: Tokenizer) -> None:
    """Or the test above would show less than it says."""
    assert all("Question:" not in tokenizer.decode([i]) for i in ids_of(tokenizer, TEXT))


def test_what_follows_it_is_not_kept(tokenizer: Tokenizer, request_of: Request) -> None:
    """Should a token bring more than the end of the stop string."""
    endings = StopRule(tokenizer, [2], "estion")
    sample = endings.to_sample(request_of, 0, ids_of(tokenizer, TEXT))
    assert sample.completion == "It is 2+3=5.\n#### 5\n\nQu"


def test_other_ends(tokenizer: Tokenizer, request_of: Request) -> None:
    ids = ids_of(tokenizer, " 5 pens\n")
    eos = tokenizer.eos_token_id
    for stop, text in ((None, " 5 pens\n"), ("Question:", "5 pens")):
        endings = StopRule(tokenizer, [eos], stop)
        assert not endings.is_reached(request_of, ids)
        assert endings.is_reached(request_of, [*ids, eos])
        made = [endings.to_sample(request_of, 0, row) for row in (ids, [*ids, eos])]
        assert [one.completion for one in made] == [text, text]
        assert [one.n_tokens for one in made] == [len(ids), len(ids) + 1]
        assert [one.finish_reason for one in made] == ["length", "stop"]


def test_the_question_in_the_prompt_ends_nothing(tokenizer: Tokenizer) -> None:
    """Not even if the completion goes on with what the prompt ends with."""
    request = Request("a", prompt_ids(tokenizer, "x\n\nQuestion"), range(1))
    endings = StopRule(tokenizer, [2], "Question:")
    ids = ids_of(tokenizer, ": 5")
    assert not any(endings.is_reached(request, ids[: n + 1]) for n in range(len(ids)))
    assert endings.to_sample(request, 0, ids).completion == ": 5"

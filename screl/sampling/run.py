"""One sampling run into a store: what it is, what is missing of it, and having that made.

What a store's samples have cost, those of earlier sessions too.
"""

import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from screl.core.alpaca import ALPACA_NO_INPUT, build_prompt
from screl.core.cost import (
    PROCESSORS,
    Cost,
    Devices,
    DeviceTime,
    Stopwatch,
    add_session,
    count_samples,
    read_cost,
)
from screl.core.io import UserError, file_sha256, read_json_object
from screl.core.problems import Problem
from screl.core.run_info import package_versions
from screl.grading.answers import extract_answer, gold_answers
from screl.models.folder import check_weights, fingerprint
from screl.models.loading import load_shape, longest_sequence
from screl.models.prompts import SHOTS, STOP, choose_shots, icl_template
from screl.models.tokenizer import load_tokenizer, prompt_ids
from screl.samples.line_index import MISSING, SampleIndex
from screl.samples.store import (
    SampleWriter,
    index_store,
    is_store,
    questions_sha256,
    read_manifest,
    read_samples,
)
from screl.sampling.adaptive import Budget, WantedSamples
from screl.sampling.checks import MIN_TEMPERATURE
from screl.sampling.config import SampleConfig
from screl.sampling.engine import EngineSpec, Request, SamplingParams, consecutive
from screl.sampling.progress import SampleCollector
from screl.sampling.scheduler import Unfulfilled, WorkerPool, deal
from screl.sampling.workers import (
    DeviceGroup,
    InProcessPool,
    ProcessPool,
    core_groups,
    device_groups,
    visible_gpus,
)

if TYPE_CHECKING:
    pass
    from screl.sampling.checks import RunSummary


class Made(NamedTuple):
    """What a session has done: samples and their tokens; tokens a second (None if it was too short
    to tell); what seems to be wrong with the run; what could not be made; and what it ran on."""

    n_samples: int
    n_tokens: int
    tokens_per_second: float | None
    alarms: dict[str, str]
    unfulfilled: list[Unfulfilled]
    devices: Devices


EngineName = Literal["vllm", "transformers"]
# vLLM takes as many of these as its memory has room for; the other engine has room for all.
BATCH_SIZES: dict[EngineName, int] = {"vllm": 512, "transformers": 128}


def choose_engine(config: SampleConfig) -> EngineName:
    """What a SampleConfig's ``auto`` means: the engine that began the store, else vLLM if it is
    installed. UserError if an engine is asked for that is not."""
    installed = importlib.util.find_spec("vllm") is not None
    engine = config.engine
    if engine == "auto":
        stored = read_manifest(config.output_dir) if is_store(config.output_dir) else {}
        engine = stored.get("engine", "vllm" if installed else "transformers")
    if engine == "vllm" and not installed:
        raise UserError("--engine vllm: vLLM is not installed; see requirements-gpu.txt")
    if engine == "transformers" and config.tensor_parallel_size > 1:
        raise UserError("--tensor_parallel_size needs --engine vllm")
    return engine


def make_manifest(
    config: SampleConfig, engine: EngineName, problems: Sequence[Problem], prompts: "Prompts"
) -> dict[str, Any]:
    """What is said of the store of a SampleConfig: all that decides a sample, and how many."""
    check_weights(config.model_name_or_path)
    drawing = ("temperature", "top_p", "top_k", "seed")
    of_icl = {
        "n_shots": config.n_shots,
        "shots_seed": config.shots_seed,
        "shots_path": str(config.shots_path or SHOTS),
        "stop": STOP,
    }
    return {
        "model_name_or_path": config.model_name_or_path,
        "model_sha256": fingerprint(config.model_name_or_path),
        "data_path": str(config.data_path),
        "data_sha256": file_sha256(config.data_path),
        "questions_sha256": questions_sha256(problems),
        "n_problems": len(problems),
        "prompt": config.prompt,
        **(of_icl if config.prompt == "icl" else {}),
        "prompt_template": prompts.template,
        "greedy": config.greedy,
        "n_samples": config.max_samples or config.n_samples,
        "until_correct": config.until_correct,
        "finished": False if config.until_correct else None,  # None: can be counted
        **{key: None if config.greedy else getattr(config, key) for key in drawing},
        "max_new_tokens": config.max_new_tokens,
        "engine": engine,
        "precision": config.precision,
        "versions": package_versions(),
    }


def missing_samples(problems: Sequence[Problem], index: SampleIndex) -> Iterator[WantedSamples]:
    """For each problem the sample ids that the store lacks, where it lacks any."""
    for problem, missing in zip(problems, index.file_no == MISSING, strict=True):
        if missing.any():
            yield WantedSamples(problem, missing.nonzero()[0].tolist())


class Prompts:
    """Makes requests of wishes. UserError, before anything is sampled, for a prompt too long, and
    for exemplars that are missing or asked themselves."""

    def __init__(self, config: SampleConfig, problems: Sequence[Problem]) -> None:
        tokenizer = load_tokenizer(config.model_name_or_path)
        self._chunk_size = config.chunk_size
        self.template = ALPACA_NO_INPUT
        if config.prompt == "icl":
            shots = choose_shots(
                config.shots_path or SHOTS, config.n_shots, config.shots_seed, problems,
                config.data_path,
            )  # fmt: skip
            self.template = icl_template(shots)
        self.ids = {p.problem_id: prompt_ids(tokenizer, self.text(p)) for p in problems}
        self.longest = max(map(len, self.ids.values())) + config.max_new_tokens
        room = longest_sequence(config.model_name_or_path)
        for problem in problems:
            n_tokens = len(self.ids[problem.problem_id])
            if n_tokens + config.max_new_tokens > room:
                raise UserError(
                    f"{config.data_path}:{problem.line}: the prompt has {n_tokens} tokens; with "
                    f"--max_new_tokens {config.max_new_tokens} the model has room for "
                    f"{room - config.max_new_tokens}: lower it, or "
                    + ("give fewer --n_shots" if config.prompt == "icl" else "take the row out")
                )

    def text(self, problem: Problem) -> str:
        """What a problem's token ids are of."""
        return build_prompt(problem.question, self.template)

    def requests(self, wishes: Iterable[WantedSamples]) -> list[Request]:
        """In chunks of at most ``chunk_size`` samples."""
        return [
            Request(wish.problem.problem_id, self.ids[wish.problem.problem_id], sample_ids)
            for wish in wishes
            for sample_ids in consecutive(wish.sample_ids, self._chunk_size)
        ]


def make_spec(config: SampleConfig, engine: EngineName, prompts: Prompts) -> EngineSpec:
    """What every worker makes its engine of."""
    path = Path(config.model_name_or_path)
    params = SamplingParams(
        greedy=config.greedy,
        temperature=config.temperature,
        top_p=config.top_p,
        top_k=config.top_k,
        max_new_tokens=config.max_new_tokens,
        seed=config.seed,
        stop=STOP if config.prompt == "icl" else None,
    )
    return EngineSpec(
        engine=engine,
        # a path is the same for workers that were started elsewhere
        model_name_or_path=str(path.resolve()) if path.exists() else config.model_name_or_path,
        precision=config.precision,
        params=params,
        batch_size=config.batch_size or BATCH_SIZES[engine],
        max_tokens=prompts.longest,
        tensor_parallel_size=config.tensor_parallel_size,
        gpu_memory_utilization=config.gpu_memory_utilization,
    )


def make_pool(config: SampleConfig, spec: EngineSpec) -> WorkerPool[Any]:
    """Who does the work: a Ray cluster, a process for each group of GPUs, or this process."""
    if config.launcher == "ray":
        from screl.sampling.ray import RayPool

        return RayPool(spec, config.address, config.n_workers)
    groups, on_gpus = worker_groups(config)
    # vLLM starts processes that hold the GPU's memory: they must end with whoever started them
    if len(groups) == 1 and spec.engine == "transformers":
        return InProcessPool(spec)
    return ProcessPool(spec, groups, on_gpus)


def worker_groups(config: SampleConfig) -> tuple[list[DeviceGroup], bool]:
    """The devices of each worker on this machine, and whether they are GPUs."""
    import torch

    n_gpus = torch.cuda.device_count()
    if n_gpus:
        return device_groups(
            visible_gpus(n_gpus), config.tensor_parallel_size, config.n_workers
        ), True
    return core_groups(config.n_workers or 1), False


def sample(
    config: SampleConfig, engine: EngineName, problems: Sequence[Problem], prompts: Prompts
) -> Made:
    """Have what the store lacks made. The caller holds its lock and has opened it."""
    gold = {
        problem.problem_id: answer
        for problem in problems
        if (answer := extract_answer(problem.solution, "strict")) is not None
    }
    n_samples = config.max_samples or config.n_samples
    index = index_store(config.output_dir, problems, n_samples, config.data_path)
    budget = None
    if config.until_correct:
        gold_answers(problems, config.data_path, "strict")  # every solution must have one
        budget = Budget(problems, config.until_correct, n_samples)
        wishes: Iterable[WantedSamples] = budget.begin(read_samples(config.output_dir))
    else:
        wishes = missing_samples(problems, index)
    requests = prompts.requests(wishes)
    if not requests:
        return Made(0, 0, None, {}, [], PROCESSORS)
    with SampleWriter(config.output_dir) as writer:
        expects_variety = not config.greedy and config.temperature >= MIN_TEMPERATURE
        intake = SampleCollector(writer, gold, budget, prompts.requests, requests, expects_variety)
        spec = make_spec(config, engine, prompts)
        crew = make_pool(config, spec)
        try:
            unfulfilled = deal(crew, requests, intake, spec.batch_size)
        finally:
            alarms = intake.close()
    return Made(
        n_samples=intake.n_samples,
        n_tokens=intake.n_tokens,
        tokens_per_second=intake.tokens_per_second(),
        alarms=alarms,
        unfulfilled=unfulfilled,
        devices=crew.devices(),
    )


def sampling_cost(
    config: SampleConfig, problems: Sequence[Problem], prompts: "Prompts", made: "Made",
    found: "RunSummary", stopwatch: Stopwatch,
) -> Cost:  # fmt: skip
    """FLOPs and tokens of all samples that are there, and the time that went into them.

    ``found`` are all samples, ``made`` those of this session, which began with ``stopwatch``.
    """
    n_prompt = [len(prompts.ids[problem.problem_id]) for problem in problems]
    flops, tokens = count_samples(load_shape(config.model_name_or_path), n_prompt, found.lengths)
    time = stopwatch.time_of(made.devices)
    if n_before := found.results["n_samples"] - made.n_samples:
        time = add_session(earlier_time(config.output_dir / "run.json", n_before), time)
    return Cost(flops, tokens, time)


def earlier_time(run_json: Path, n_samples: int) -> DeviceTime | None:
    """Of the sessions that made the first ``n_samples``; None if it is not known: a session that is
    killed writes no run.json."""
    try:
        recorded = read_json_object(run_json)["results"]["n_samples"]
    except (UserError, KeyError, TypeError):
        return None
    cost = read_cost(run_json)
    return cost.time if cost and recorded == n_samples else None

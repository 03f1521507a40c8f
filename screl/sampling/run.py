"""Prepare and run the sampling of a store's missing samples: prompts, engines and workers."""

import importlib.util
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from screl.core.config import say
from screl.core.cost import PROCESSORS, Devices
from screl.core.io import UserError, file_sha256
from screl.core.problems import Problem, ProblemId
from screl.core.prompt_choice import PromptChoice
from screl.core.run_info import package_versions, training_config
from screl.grading.verdict import JudgeRules, require_golds
from screl.grading.verifiers import record_verifier
from screl.models.folder import check_weights, fingerprint
from screl.models.loading import longest_sequence
from screl.models.prompts import (
    SHOTS,
    STOP,
    Prompt,
    TextPrompt,
    choose_shots,
    icl_template,
    make_prompt,
    settle_prompt,
    trained_prompt,
)
from screl.models.tokenizer import load_tokenizer, special_tokens_in
from screl.samples.line_index import MISSING, SampleIndex
from screl.samples.reader import open_runs
from screl.samples.store import SampleWriter, is_store, questions_sha256, read_manifest
from screl.sampling.adaptive import Budget, WantedSamples
from screl.sampling.checks import MIN_TEMPERATURE, Health, run_alarms
from screl.sampling.config import SampleConfig
from screl.sampling.engine import EngineSpec, Request, SamplingParams, consecutive
from screl.sampling.progress import SampleCollector
from screl.sampling.scheduler import Unfulfilled, WorkerPool, run_requests
from screl.sampling.tally import ProblemTally, RunSummary, read_tallies, summarize_run
from screl.sampling.workers import (
    DeviceGroup,
    InProcessPool,
    SubprocessPool,
    split_cores,
    split_gpus,
    visible_gpus,
)

EngineName = Literal["vllm", "transformers"]
# vLLM runs as many of these at once as fit in its memory; transformers needs memory for all.
BATCH_SIZES: dict[EngineName, int] = {"vllm": 512, "transformers": 128}


def choose_engine(config: SampleConfig) -> EngineName:
    """Return the name of the engine to use.

    ``auto`` means the engine that began the store or, for a new store, vLLM if it is installed.
    Raises UserError if the engine asked for is not installed.
    """
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


def with_prompt(config: SampleConfig) -> SampleConfig:
    """Return the options with nothing left to decide about the prompt, and say what was decided.

    Warns if the model was trained on another prompt.
    """
    name, asked = config.model_name_or_path, config.prompt_choice
    begun = None
    if is_store(config.output_dir):
        begun = PromptChoice.of(read_manifest(config.output_dir))
    choice = settle_prompt(asked, name, begun)
    trained = trained_prompt(name)
    if trained and not trained.is_same(choice):
        say(f"warning: {name} was trained with {trained}, but is sampled with {choice}")
    elif asked.prompt == "auto" and choice.prompt == "chat":
        say(f"prompt: the chat template of {name} ({choice})")
    return replace(config, **asdict(choice))


class Prompts:
    """The prompt of each problem.

    Raises UserError, before anything is sampled, for a prompt that is too long, and for exemplars
    that are missing or are among the problems.
    """

    def __init__(self, config: SampleConfig, problems: Sequence[Problem]) -> None:
        tokenizer = load_tokenizer(config.model_name_or_path)
        self._chunk_size = config.chunk_size
        self._prompt: Prompt = make_prompt(tokenizer, config.prompt_choice)
        if config.prompt == "icl":
            shots = choose_shots(
                config.shots_path or SHOTS, config.n_shots, config.shots_seed, problems,
                config.data_path,
            )  # fmt: skip
            self._prompt = TextPrompt(tokenizer, icl_template(shots))
        self.template, self.end_of_turn = self._prompt.template, self._prompt.end_of_turn
        self.ids = {p.problem_id: self._prompt.ids(p.question) for p in problems}
        special = {
            token
            for problem in problems
            for token in special_tokens_in(
                tokenizer, problem.question, self.ids[problem.problem_id]
            )
        }
        if special:
            say(
                f"warning: questions hold the text of special tokens ({', '.join(sorted(special))})"
                ", which become control tokens here instead of plain text; take it out"
            )
        self.longest = max(map(len, self.ids.values())) + config.max_new_tokens
        room = longest_sequence(config.model_name_or_path)
        for problem in problems:
            n_tokens = len(self.ids[problem.problem_id])
            if n_tokens + config.max_new_tokens > room:
                raise UserError(
                    f"{config.data_path}:{problem.line}: the prompt has {n_tokens} tokens; with "
                    f"--max_new_tokens {config.max_new_tokens} the model has room for "
                    f"{room - config.max_new_tokens}: lower it, or "
                    + ("give fewer --n_shots" if config.prompt == "icl" else "remove the row")
                )

    def text(self, problem: Problem) -> str:
        """Return the prompt of ``problem`` as text."""
        return self._prompt.text(problem.question)

    def requests(self, wanted: Iterable[WantedSamples]) -> list[Request]:
        """Return requests of at most ``--chunk_size`` samples each."""
        return [
            Request(problem.problem_id, self.ids[problem.problem_id], chunk)
            for problem, sample_ids in wanted
            for chunk in consecutive(sample_ids, self._chunk_size)
        ]


def make_manifest(
    config: SampleConfig, engine: EngineName, problems: Sequence[Problem], prompts: Prompts
) -> dict[str, Any]:
    """Return the manifest of the store: all that decides a sample, and the number of samples."""
    check_weights(config.model_name_or_path)
    sampled = ("temperature", "top_p", "top_k", "seed")
    of_icl = {
        "n_shots": config.n_shots,
        "shots_seed": config.shots_seed,
        "shots_path": str(config.shots_path or SHOTS),
        "stop": STOP,
    }
    of_chat = {
        "system_prompt": config.system_prompt,
        "chat_template_kwargs": config.chat_template_kwargs,
    }
    more: dict[str, dict[str, Any]] = {"icl": of_icl, "chat": of_chat}
    return {
        "model_name_or_path": config.model_name_or_path,
        "model_sha256": fingerprint(config.model_name_or_path),
        "data_path": str(config.data_path),
        "data_sha256": file_sha256(config.data_path),
        "questions_sha256": questions_sha256(problems),
        "n_problems": len(problems),
        "prompt": config.prompt,
        **more.get(config.prompt, {}),
        "prompt_template": prompts.template,
        "greedy": config.greedy,
        "n_samples": config.max_samples or config.n_samples,
        "until_correct": config.until_correct,
        "finished": False if config.until_correct else None,  # None: follows from n_samples
        **{key: None if config.greedy else getattr(config, key) for key in sampled},
        "max_new_tokens": config.max_new_tokens,
        "engine": engine,
        "precision": config.precision,
        "versions": package_versions(),
    }


def make_spec(config: SampleConfig, engine: EngineName, prompts: Prompts) -> EngineSpec:
    """Return the specification from which every worker makes its engine."""
    path = Path(config.model_name_or_path)
    params = SamplingParams(
        greedy=config.greedy,
        temperature=config.temperature,
        top_p=config.top_p,
        top_k=config.top_k,
        max_new_tokens=config.max_new_tokens,
        seed=config.seed,
        stop=STOP if config.prompt == "icl" else None,
        end_of_turn=prompts.end_of_turn,
    )
    return EngineSpec(
        engine=engine,
        # absolute, for workers that run in another folder
        model_name_or_path=str(path.resolve()) if path.exists() else config.model_name_or_path,
        precision=config.precision,
        params=params,
        batch_size=config.batch_size or BATCH_SIZES[engine],
        max_tokens=prompts.longest,
        tensor_parallel_size=config.tensor_parallel_size,
        gpu_memory_utilization=config.gpu_memory_utilization,
    )


def make_pool(config: SampleConfig, spec: EngineSpec) -> WorkerPool[Any]:
    """Return a pool of workers: on a Ray cluster, in a process per group of GPUs, or in this
    process."""
    if config.launcher == "ray":
        from screl.sampling.ray import RayPool

        return RayPool(spec, config.address, config.n_workers)
    groups, on_gpus = worker_groups(config)
    # vLLM starts processes that hold the GPU's memory and must end with the one that started them
    if len(groups) == 1 and spec.engine == "transformers":
        return InProcessPool(spec)
    return SubprocessPool(spec, groups, on_gpus)


def worker_groups(config: SampleConfig) -> tuple[list[DeviceGroup], bool]:
    """Return the devices of each worker on this machine, and whether they are GPUs."""
    import torch

    if n_gpus := torch.cuda.device_count():
        gpus = visible_gpus(n_gpus)
        return split_gpus(gpus, config.tensor_parallel_size, config.n_workers), True
    return split_cores(config.n_workers or 1), False


class SessionResult(NamedTuple):
    """The result of one call of sample.py.

    ``summary`` covers all samples in the store; all other fields cover this session only.
    ``tokens_per_second`` is None if the session was too short to measure it; ``alarms`` are the
    lines of ``run_alarms`` by name; ``is_interrupted`` if Ctrl-C or SIGTERM ended it.
    """

    n_samples: int
    n_tokens: int
    tokens_per_second: float | None
    alarms: dict[str, str]
    unfulfilled: list[Unfulfilled]
    devices: Devices
    summary: RunSummary
    is_interrupted: bool = False


def run_sampling(
    config: SampleConfig, engine: EngineName, problems: Sequence[Problem], prompts: Prompts,
    rules: JudgeRules,
) -> SessionResult:  # fmt: skip
    """Make the samples that the store lacks, until KeyboardInterrupt.

    The caller has opened the store and holds its lock. ``rules`` judge the samples.
    """
    n_samples = config.max_samples or config.n_samples
    index, tallies = read_store(config.output_dir, problems, rules)
    n_before = count_samples(tallies)
    wanted: Iterable[WantedSamples] = missing_samples(problems, index, n_samples)
    budget = None
    if config.until_correct:
        require_golds(problems, config.data_path, rules)  # every solution must have an answer
        budget = Budget(wanted, tallies, config.until_correct, n_samples, rules)
        wanted = budget.first_blocks()
    requests = prompts.requests(wanted)
    if not requests:
        summary = summarize(tallies, config.greedy, rules)
        return SessionResult(0, 0, None, {}, [], PROCESSORS, summary)
    expects_variety = not config.greedy and config.temperature >= MIN_TEMPERATURE
    # exemplars show a base model how to end, and a chat template is that of a tuned model
    is_tuned = config.prompt != "alpaca" or bool(training_config(Path(config.model_name_or_path)))
    health = Health(expects_variety, is_tuned)
    spec = make_spec(config, engine, prompts)
    with SampleWriter(config.output_dir) as writer:
        collector = SampleCollector(
            writer, problems, tallies, health, budget, prompts.requests, requests, rules
        )
        pool = make_pool(config, spec)
        try:
            unfulfilled = run_requests(pool, requests, collector, spec.batch_size)
            is_interrupted = False
        except KeyboardInterrupt:
            unfulfilled, is_interrupted = [], True
        finally:
            collector.close()
    if is_interrupted:  # perhaps after storing some samples and before counting them
        _, tallies = read_store(config.output_dir, problems, rules)
    return SessionResult(
        n_samples=count_samples(tallies) - n_before,
        n_tokens=collector.n_tokens,
        tokens_per_second=collector.tokens_per_second(),
        alarms=run_alarms(health),
        unfulfilled=unfulfilled,
        devices=pool.devices(),
        summary=summarize(tallies, config.greedy, rules),
        is_interrupted=is_interrupted,
    )


def summarize(
    tallies: Mapping[ProblemId, ProblemTally], greedy: bool, rules: JudgeRules
) -> RunSummary:
    """Return the summary of a run, with what its verifier could not judge."""
    summary = summarize_run(tallies.values(), greedy)
    failures = {problem_id: tally.failures for problem_id, tally in tallies.items()}
    verified = record_verifier(rules.verifier, failures)
    return summary._replace(results=summary.results | verified)


def read_store(
    path: Path, problems: Sequence[Problem], rules: JudgeRules
) -> tuple[SampleIndex, dict[ProblemId, ProblemTally]]:
    """Return where the samples of a store are, and the tally of each problem."""
    (stored,) = open_runs(path, problems, "train", allow_partial=True)
    return stored.index, read_tallies(problems, stored, rules)


def count_samples(tallies: Mapping[ProblemId, ProblemTally]) -> int:
    """Return the number of samples in all tallies."""
    return sum(len(tally.lengths) for tally in tallies.values())


def missing_samples(
    problems: Sequence[Problem], index: SampleIndex, n_samples: int
) -> Iterator[WantedSamples]:
    """Yield, for each problem that lacks any of its first ``n_samples``, the missing ones."""
    for problem, missing in zip(problems, index.file_no[:, :n_samples] == MISSING, strict=True):
        if missing.any():
            yield WantedSamples(problem, missing.nonzero()[0].tolist())

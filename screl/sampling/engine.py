"""Define the interface of a sampling engine: its parameters, requests, and results."""

import gc
import hashlib
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from screl.core.io import UserError
from screl.core.problems import ProblemId
from screl.models.tokenizer import Tokenizer, decode_completion
from screl.samples.store import Sample

PATIENCE = 1.0  # seconds of work per exchange; completions that have ended are then stored


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """The parameters of sampling a token. ``top_k`` 0 and ``top_p`` 1.0 mean no limit.

    ``stop`` is a text that ends a completion, as EOS does, and is not part of it. ``end_of_turn``
    is the token with which the prompt's chat template ends an answer.
    """

    greedy: bool
    temperature: float
    top_p: float
    top_k: int
    max_new_tokens: int
    seed: int
    stop: str | None = None
    end_of_turn: int | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """The prompt of one problem and the consecutive ``sample_ids`` to make."""

    problem_id: ProblemId
    prompt_ids: list[int]
    sample_ids: range


def sample_seed(run_seed: int, problem_id: ProblemId, sample_id: int) -> int:
    """Return the seed of one completion, ``hash(run seed, problem) + sample_id``, below 2^64.

    Consecutive samples have consecutive seeds, which is how vLLM numbers the ``n`` of one request.
    """
    digest = hashlib.sha256(f"{run_seed}|{problem_id!r}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 1) + sample_id


def consecutive(sample_ids: Sequence[int], most: int) -> Iterator[range]:
    """Split ascending ``sample_ids`` into ranges of at most ``most``.

    >>> list(consecutive([0, 1, 2, 3, 7, 9, 10], 3))
    [range(0, 3), range(3, 4), range(7, 8), range(9, 11)]
    """
    begin = 0
    for end in range(1, len(sample_ids) + 1):
        is_full = end - begin == most
        if end == len(sample_ids) or is_full or sample_ids[end] != sample_ids[end - 1] + 1:
            yield range(sample_ids[begin], sample_ids[end - 1] + 1)
            begin = end


class StopRule:
    """The rule that ends a completion: an EOS token or, if one is set, a stop string."""

    def __init__(self, tokenizer: Tokenizer, eos: Iterable[int], stop: str | None) -> None:
        self._tokenizer, self._eos, self._stop = tokenizer, frozenset(eos), stop
        self._may_complete: dict[int, bool] = {}  # token -> whether it has the stop string's end

    def is_reached(self, request: Request, token_ids: Sequence[int]) -> bool:
        """Return whether the last token of ``token_ids`` ends a completion."""
        newest = token_ids[-1]
        if newest in self._eos or self._stop is None:
            return newest in self._eos
        # Decode only where the stop string may end: with a small model, decoding takes longer than
        # the token. A stop string may begin within one token and end within another.
        if newest not in self._may_complete:
            self._may_complete[newest] = self._stop[-1] in self._tokenizer.decode([newest])
        return self._may_complete[newest] and self._stop in self._decode(request, token_ids)

    def to_sample(self, request: Request, sample_id: int, token_ids: list[int]) -> Sample:
        """Return the sample of a completion that has ended or was cut off.

        EOS and the stop string count as tokens. The text ends before the stop string; if one is
        set, white space at both ends is removed, because a few-shot prompt separates its parts by
        spaces and blank lines.
        """
        is_ended = token_ids[-1] in self._eos
        text = self._decode(request, token_ids[:-1] if is_ended else token_ids)
        if self._stop is not None:
            text, found, _ = text.partition(self._stop)
            text, is_ended = text.strip(), is_ended or bool(found)
        return Sample(
            problem_id=request.problem_id,
            sample_id=sample_id,
            completion=text,
            n_tokens=len(token_ids),
            finish_reason="stop" if is_ended else "length",
        )

    def _decode(self, request: Request, token_ids: Sequence[int]) -> str:
        return decode_completion(self._tokenizer, request.prompt_ids, list(token_ids))


@dataclass(frozen=True)
class EngineSpec:
    """Everything needed to make an engine.

    ``batch_size`` is the number of completions made at once, ``max_tokens`` the length of the
    longest prompt with its completion.
    """

    engine: Literal["vllm", "transformers"]
    model_name_or_path: str
    precision: Literal["bf16", "fp32"]
    params: SamplingParams
    batch_size: int
    max_tokens: int
    tensor_parallel_size: int = 1
    gpu_memory_utilization: float = 0.9


class Engine(Protocol):
    """The interface of HFEngine and VLLMEngine."""

    def add(self, request: Request) -> None:
        """Queue a request; raise ValueError if the engine cannot take it."""

    def step(self) -> list[Sample]:
        """Work a little and return the samples that have ended."""

    @property
    def n_unfinished(self) -> int:
        """Return how many requested samples have not been returned yet."""

    def close(self) -> None:
        """Free the engine's memory and end its processes; it cannot be used afterwards."""


def make_engine(spec: EngineSpec) -> Engine:
    """Load the model and return its engine, after seconds to minutes.

    Raises UserError if the model cannot be loaded.
    """
    from screl.models.loading import load_model
    from screl.models.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(spec.model_name_or_path)
    if spec.engine == "vllm":
        from screl.sampling.vllm import VLLMEngine

        return VLLMEngine(spec, tokenizer)
    import torch

    from screl.sampling.transformers import HFEngine

    dtype = torch.bfloat16 if spec.precision == "bf16" else torch.float32
    model = load_model(spec.model_name_or_path, dtype)
    if torch.accelerator.is_available():
        model = model.to(torch.accelerator.current_accelerator())
    return HFEngine(model, tokenizer, spec.params, spec.batch_size)


class Failure(NamedTuple):
    """The reason why an engine cannot go on; if ``out_of_memory``, a smaller batch may help."""

    reason: str
    out_of_memory: bool


class ExchangeResult(NamedTuple):
    """The result of an exchange: samples that have ended, requests that the engine refused (each
    with the reason), and the engine's failure if it failed."""

    samples: list[Sample]
    refused: list[tuple[Request, str]]
    failure: Failure | None = None


class EngineHost:
    """The owner of an engine, which makes it when it is first needed."""

    def __init__(self, spec: EngineSpec) -> None:
        self._spec = spec
        self._engine: Engine | None = None

    def start(self) -> None:
        """Make the engine; raise UserError, in one line, if that fails."""
        try:
            self._engine = make_engine(self._spec)
        except UserError:
            raise
        except Exception as error:  # each library raises its own
            raise UserError(
                f"{self._spec.model_name_or_path}: the {self._spec.engine} engine does not start: "
                f"{describe_failure(error).reason}"
            ) from error

    def exchange(self, requests: list[Request], enough: int) -> ExchangeResult:
        """Call the function ``exchange`` with the engine."""
        if self._engine is None:
            self.start()
        assert self._engine is not None
        return exchange(self._engine, requests, enough)

    def close(self) -> None:
        """Close the engine and free its memory."""
        if self._engine:
            self._engine.close()
        self._engine = None
        gc.collect()


def exchange(engine: Engine, requests: list[Request], enough: int) -> ExchangeResult:
    """Give ``requests`` to an engine and let it work for PATIENCE seconds.

    Returns earlier if fewer than ``enough`` samples are unfinished, so that the engine can be given
    more work before it is idle.
    """
    samples: list[Sample] = []
    refused = []
    deadline = time.monotonic() + PATIENCE
    try:
        for request in requests:
            try:
                engine.add(request)
            except ValueError as error:
                refused.append((request, str(error)))
        while engine.n_unfinished:
            samples += engine.step()
            if engine.n_unfinished < enough or time.monotonic() >= deadline:
                break
    except UserError:
        raise
    except Exception as error:  # of any kind: other requests may still succeed
        return ExchangeResult(samples, refused, describe_failure(error))
    return ExchangeResult(samples, refused)


def describe_failure(error: Exception) -> Failure:
    """Return an error in one line, and whether memory ran out."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return Failure(text[:300], isinstance(error, MemoryError) or names_lack_of_memory(text))


def names_lack_of_memory(message: str) -> bool:
    """Return whether an error message is that of torch for too little memory, on any device."""
    return "out of memory" in message.lower() or "can't allocate memory" in message

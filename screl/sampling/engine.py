"""What a sampling engine is asked for and what it gives back, the same for every engine.

What ends a completion, and what is kept of it then; the same for every engine.
"""

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


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How a token is drawn. ``top_k`` 0 and ``top_p`` 1.0 switch themselves off.

    ``stop``: a text that ends a completion, as EOS does, and is not part of it.
    """

    greedy: bool
    temperature: float
    top_p: float
    top_k: int
    max_new_tokens: int
    seed: int
    stop: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One problem's prompt, and which of its samples are wanted: ``sample_ids``, consecutive."""

    problem_id: ProblemId
    prompt_ids: list[int]
    sample_ids: range


def sample_seed(run_seed: int, problem_id: ProblemId, sample_id: int) -> int:
    """``hash(run seed, problem) + sample_id``: the seed of one completion, below 2^64.

    Consecutive samples have consecutive seeds, which is how vLLM numbers the ``n`` of one request.
    """
    digest = hashlib.sha256(f"{run_seed}|{problem_id!r}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 1) + sample_id


def consecutive(sample_ids: Sequence[int], most: int) -> Iterator[range]:
    """``sample_ids``, which ascend, as ranges of at most ``most``.

    >>> list(consecutive([0, 1, 2, 3, 7, 9, 10], 3))
    [range(0, 3), range(3, 4), range(7, 8), range(9, 11)]
    """
    begin = 0
    for end in range(1, len(sample_ids) + 1):
        whole = end - begin == most
        if end == len(sample_ids) or whole or sample_ids[end] != sample_ids[end - 1] + 1:
            yield range(sample_ids[begin], sample_ids[end - 1] + 1)
            begin = end


class StopRule:
    """EOS tokens and, if there is one, a stop string."""

    def __init__(self, tokenizer: Tokenizer, ends: Iterable[int], stop: str | None) -> None:
        self._tokenizer, self._ends, self._stop = tokenizer, frozenset(ends), stop
        self._completes: dict[int, bool] = {}  # whether a token has the stop string's last letter

    def is_reached(self, request: Request, token_ids: Sequence[int]) -> bool:
        """Whether a completion, which had not ended before its newest token, has ended with it."""
        newest = token_ids[-1]
        if newest in self._ends or self._stop is None:
            return newest in self._ends
        # The text is decoded where it may matter only: that takes longer than writing a token of
        # a small model. A stop string can begin anywhere in a token, and end anywhere in another.
        if newest not in self._completes:
            self._completes[newest] = self._stop[-1] in self._tokenizer.decode([newest])
        return self._completes[newest] and self._stop in self._text(request, token_ids)

    def to_sample(self, request: Request, sample_id: int, token_ids: list[int]) -> Sample:
        """Return a completion that has ended or was cut off. All its tokens count, an EOS and a
        stop string too.

        Its text ends before the stop string, and where there may be one, it has no white space at
        its ends: there a few-shot prompt has the space or blank line between its parts.
        """
        is_ended = token_ids[-1] in self._ends
        text = self._text(request, token_ids[:-1] if is_ended else token_ids)
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

    def _text(self, request: Request, token_ids: Sequence[int]) -> str:
        return decode_completion(self._tokenizer, request.prompt_ids, list(token_ids))


@dataclass(frozen=True)
class EngineSpec:
    """Everything an engine is made of. ``batch_size``: samples at once. ``max_tokens``: of the
    longest prompt and its completion."""

    engine: Literal["vllm", "transformers"]
    model_name_or_path: str
    precision: Literal["bf16", "fp32"]
    params: SamplingParams
    batch_size: int
    max_tokens: int
    tensor_parallel_size: int = 1
    gpu_memory_utilization: float = 0.9


class Engine(Protocol):
    """What HFEngine and VLLMEngine have in common."""

    def add(self, request: Request) -> None:
        """Take a request; ValueError if that is impossible."""

    def step(self) -> list[Sample]:
        """Work a little; the samples that have ended."""

    @property
    def n_unfinished(self) -> int:
        """Samples that are wanted and not yet given."""


def make_engine(spec: EngineSpec) -> Engine:
    """Load the model, which takes seconds to minutes. UserError if it cannot be loaded."""
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


PATIENCE = 1.0  # seconds of work between two exchanges: what is drawn by then goes to the disk


class Failure(NamedTuple):
    """Why an engine can not go on."""

    reason: str
    out_of_memory: bool


class ExchangeResult(NamedTuple):
    """What came of an exchange: samples; requests that the engine would not take, with why; and
    what the engine died of, if it did."""

    samples: list[Sample]
    refused: list[tuple[Request, str]]
    failure: Failure | None = None


class EngineHost:
    """A place for an engine, which is made when it is first needed."""

    def __init__(self, spec: EngineSpec) -> None:
        self._spec = spec
        self._engine: Engine | None = None

    def start(self) -> None:
        """Make the engine. UserError, in one line, if that fails."""
        try:
            self._engine = make_engine(self._spec)
        except UserError:
            raise
        except Exception as error:  # of whatever library it is made with
            reason = describe(error).reason
            raise UserError(
                f"{self._spec.model_name_or_path}: the {self._spec.engine} engine does not start: "
                f"{reason}"
            ) from error

    def exchange(self, requests: list[Request], enough: int) -> ExchangeResult:
        """``exchange`` with the engine."""
        if self._engine is None:
            self.start()
        assert self._engine is not None
        return exchange(self._engine, requests, enough)

    def close(self) -> None:
        """Let the engine go, and the memory that it holds."""
        self._engine = None
        gc.collect()


def exchange(engine: Engine, requests: list[Request], enough: int) -> ExchangeResult:
    """Give ``requests`` to an engine and let it work: until PATIENCE is over, or fewer than
    ``enough`` samples are unfinished, so that it gets more before it runs dry."""
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
    except Exception as error:  # whatever it is: other requests are not to blame
        return ExchangeResult(samples, refused, describe(error))
    return ExchangeResult(samples, refused)


def describe(error: Exception) -> Failure:
    """One line of it, and whether less at once may help."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    out_of_memory = isinstance(error, MemoryError) or "out of memory" in text.lower()
    return Failure(text[:300], out_of_memory or "can't allocate memory" in text)

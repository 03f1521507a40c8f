"""What runs beside each model: it makes an engine and keeps it full, for whoever deals requests."""

import gc
import time
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from screl.files import UserError
from screl.requests import Drawn, Request, SamplingParams

PATIENCE = 1.0  # seconds of work between two exchanges: what is drawn by then goes to the disk


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

    def step(self) -> list[Drawn]:
        """Work a little; the samples that have ended."""

    @property
    def n_unfinished(self) -> int:
        """Samples that are wanted and not yet given."""


class Failure(NamedTuple):
    """Why an engine can not go on."""

    reason: str
    out_of_memory: bool


class Answer(NamedTuple):
    """What came of an exchange: samples; requests that the engine would not take, with why; and
    what the engine died of, if it did."""

    drawn: list[Drawn]
    refused: list[tuple[Request, str]]
    failure: Failure | None = None


class Workbench:
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

    def exchange(self, requests: list[Request], enough: int) -> Answer:
        """``exchange`` with the engine."""
        if self._engine is None:
            self.start()
        assert self._engine is not None
        return exchange(self._engine, requests, enough)

    def close(self) -> None:
        """Let the engine go, and the memory that it holds."""
        self._engine = None
        gc.collect()


def exchange(engine: Engine, requests: list[Request], enough: int) -> Answer:
    """Give ``requests`` to an engine and let it work: until PATIENCE is over, or fewer than
    ``enough`` samples are unfinished, so that it gets more before it runs dry."""
    drawn: list[Drawn] = []
    refused = []
    deadline = time.monotonic() + PATIENCE
    try:
        for request in requests:
            try:
                engine.add(request)
            except ValueError as error:
                refused.append((request, str(error)))
        while engine.n_unfinished:
            drawn += engine.step()
            if engine.n_unfinished < enough or time.monotonic() >= deadline:
                break
    except Exception as error:  # whatever it is: other requests are not to blame
        return Answer(drawn, refused, describe(error))
    return Answer(drawn, refused)


def describe(error: Exception) -> Failure:
    """One line of it, and whether less at once may help."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    out_of_memory = isinstance(error, MemoryError) or "out of memory" in text.lower()
    return Failure(text[:300], out_of_memory or "can't allocate memory" in text)


def make_engine(spec: EngineSpec) -> Engine:
    """Load the model, which takes seconds to minutes. UserError if it cannot be loaded."""
    from screl import modeling

    tokenizer = modeling.load_tokenizer(spec.model_name_or_path)
    if spec.engine == "vllm":
        from screl.engine_vllm import VLLMEngine

        return VLLMEngine(spec, tokenizer)
    import torch

    from screl.engine_hf import HFEngine

    dtype = torch.bfloat16 if spec.precision == "bf16" else torch.float32
    model = modeling.load_model(spec.model_name_or_path, dtype)
    if torch.accelerator.is_available():
        model = model.to(torch.accelerator.current_accelerator())
    return HFEngine(model, tokenizer, spec.params, spec.batch_size)

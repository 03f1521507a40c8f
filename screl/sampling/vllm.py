"""Sample with vLLM: several samples of a problem per request, token ids in and out."""

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

from screl.models.tokenizer import Tokenizer, eos_ids, load_generation_config
from screl.samples.store import Sample
from screl.sampling.engine import EngineSpec, Request, StopRule, sample_seed
from screl.sampling.vllm_errors import ErrorLog

CPU_PREFILL_TOKENS = 8192  # tokens of prompts that are run at once on a CPU


def engine_settings(spec: EngineSpec) -> dict[str, Any]:
    """Return the arguments of vLLM's LLM or EngineArgs."""
    from vllm.platforms import current_platform

    settings: dict[str, Any] = {"gpu_memory_utilization": spec.gpu_memory_utilization}
    if current_platform.is_cpu():
        # chunked prefill there fails with seeds: "CPU Generator does not use offset"
        settings = {
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(spec.max_tokens, CPU_PREFILL_TOKENS),
        }
    return settings | {
        "model": spec.model_name_or_path,
        "dtype": {"bf16": "bfloat16", "fp32": "float32"}[spec.precision],
        "max_model_len": spec.max_tokens,
        "max_num_seqs": spec.batch_size,
        "tensor_parallel_size": spec.tensor_parallel_size,
        # We pass token ids, so that vLLM does not decide about BOS; it needs the tokenizer only to
        # find a stop string.
        "skip_tokenizer_init": spec.params.stop is None,
        "generation_config": "vllm",  # no defaults from the checkpoint
        "disable_log_stats": True,
        "use_tqdm_on_load": False,  # sample.py shows its own progress bar
    }


class VLLMEngine:
    """vLLM's engine, fed step by step rather than batch by batch.

    ``add`` requests, then ``step`` while ``n_unfinished`` is not 0. The samples of a request are
    returned together, but those of the next request begin as soon as some of them have ended.
    """

    def __init__(self, spec: EngineSpec, tokenizer: Tokenizer) -> None:
        # vLLM reads this, and the configuration of its log, when it is imported
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
        self._errors = ErrorLog()
        from vllm import EngineArgs, LLMEngine
        from vllm.usage.usage_lib import UsageContext

        self._params = spec.params
        configured = load_generation_config(spec.model_name_or_path)
        self._eos = eos_ids(configured, tokenizer, spec.params.end_of_turn)
        self._stop_rule = StopRule(tokenizer, self._eos, spec.params.stop)
        self._request_numbers = itertools.count()
        self._requests: dict[str, Request] = {}
        with self._naming_the_cause():
            self._engine = LLMEngine.from_engine_args(
                EngineArgs(**engine_settings(spec)),
                usage_context=UsageContext.LLM_CLASS,  # decides how many tokens a step takes
            )
        Thread(target=_end_the_wait, args=(self._engine.engine_core,), daemon=True).start()

    def close(self) -> None:
        """End the processes that vLLM has started, so that they free the GPU's memory."""
        self._engine.engine_core.shutdown()
        self._errors.close()

    def add(self, request: Request) -> None:
        """Queue a request; raise ValueError if it does not fit the model."""
        from vllm.exceptions import VLLMClientError

        name = str(next(self._request_numbers))
        prompt: Any = {"prompt_token_ids": request.prompt_ids}
        try:
            with self._naming_the_cause():
                self._engine.add_request(name, prompt, self.sampling_params(request))
        except VLLMClientError as error:
            raise ValueError(str(error)) from None
        self._requests[name] = request

    @property
    def n_unfinished(self) -> int:
        """Return how many requested samples have not been returned yet."""
        return sum(len(request.sample_ids) for request in self._requests.values())

    def step(self) -> list[Sample]:
        """Let the engine work a little and return the samples of the requests that have ended.

        Raises RuntimeError, with the cause, if the engine has died.
        """
        with self._naming_the_cause():
            ended = [output for output in self._engine.step() if output.finished]
        return [sample for output in ended for sample in self._samples(output)]

    def sampling_params(self, request: Request) -> Any:
        """Return vLLM's SamplingParams for a request, with nothing left to defaults."""
        from vllm import SamplingParams as VLLMSamplingParams
        from vllm.sampling_params import RequestOutputKind

        params, first = self._params, request.sample_ids[0]
        return VLLMSamplingParams(
            n=len(request.sample_ids),
            # vLLM gives the n samples this seed and the following ones
            seed=None if params.greedy else sample_seed(params.seed, request.problem_id, first),
            temperature=0.0 if params.greedy else params.temperature,
            top_p=params.top_p,
            top_k=params.top_k,
            max_tokens=params.max_new_tokens,
            stop_token_ids=self._eos,
            ignore_eos=True,  # EOS is among stop_token_ids
            stop=params.stop,
            detokenize=params.stop is not None,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    @contextmanager
    def _naming_the_cause(self) -> Iterator[None]:
        """Raise RuntimeError with the logged cause where vLLM says only that there is one."""
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            yield
        except Exception as error:
            if isinstance(error, EngineDeadError) or "See root cause above" in str(error):
                raise RuntimeError(f"vLLM's engine died: {self._errors.cause()}") from error
            raise

    def _samples(self, output: Any) -> list[Sample]:
        request = self._requests.pop(output.request_id)
        return [
            self._stop_rule.to_sample(request, sample_id, list(output_of_sample.token_ids))
            for sample_id, output_of_sample in zip(request.sample_ids, output.outputs, strict=True)
        ]


def _end_the_wait(client: Any) -> None:
    """Wake the thread that waits for results if the engine's process is killed.

    vLLM 0.32 notices this and ends the thread that receives results, but not the wait for them.
    """
    from vllm.v1.engine.exceptions import EngineDeadError

    if hasattr(client, "output_queue_thread"):  # else the engine runs in this process
        client.output_queue_thread.join()
        client.outputs_queue.put(EngineDeadError())

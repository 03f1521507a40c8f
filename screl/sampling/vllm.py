"""Sampling with vLLM: one request for several samples of a problem, token ids in and out."""

import itertools
import os
from typing import Any

from screl.models.tokenizer import Tokenizer, eos_ids, load_generation_config
from screl.samples.store import Sample
from screl.sampling.engine import EngineSpec, Request, StopRule, sample_seed

PREFILL_TOKENS = 8192  # at once on a CPU


def engine_settings(spec: EngineSpec) -> dict[str, Any]:
    """Arguments of vLLM's LLM or EngineArgs."""
    from vllm.platforms import current_platform

    settings: dict[str, Any] = {"gpu_memory_utilization": spec.gpu_memory_utilization}
    if current_platform.is_cpu():
        # chunked prefill there fails with seeds: "CPU Generator does not use offset"
        settings = {
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(spec.max_tokens, PREFILL_TOKENS),
        }
    return settings | {
        "model": spec.model_name_or_path,
        "dtype": {"bf16": "bfloat16", "fp32": "float32"}[spec.precision],
        "max_model_len": spec.max_tokens,
        "max_num_seqs": spec.batch_size,
        "tensor_parallel_size": spec.tensor_parallel_size,
        # token ids only: BOS is not vLLM's to decide; what it writes it must read for a stop string
        "skip_tokenizer_init": spec.params.stop is None,
        "generation_config": "vllm",  # nothing hidden in the checkpoint's own
        "disable_log_stats": True,
        "use_tqdm_on_load": False,  # the one bar is sample.py's
    }


class VLLMEngine:
    """vLLM's engine, fed and emptied step by step instead of one batch after another.

    ``add`` requests, then ``step`` as long as ``n_unfinished`` is not 0. The samples of a request
    come back together; when some of them have ended, those of the next request are begun.
    """

    def __init__(self, spec: EngineSpec, tokenizer: Tokenizer) -> None:
        # read when it is imported; what sample.py says goes to stdout, and only that
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
        os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
        from vllm import EngineArgs, LLMEngine
        from vllm.usage.usage_lib import UsageContext

        self._params = spec.params
        self._ends = eos_ids(load_generation_config(spec.model_name_or_path), tokenizer)
        self._stop_rule = StopRule(tokenizer, self._ends, spec.params.stop)
        self._numbers = itertools.count()
        self._requests: dict[str, Request] = {}
        self._engine = LLMEngine.from_engine_args(
            EngineArgs(**engine_settings(spec)),
            usage_context=UsageContext.LLM_CLASS,  # decides how many tokens a step takes
        )

    def __del__(self) -> None:
        """End the processes that vLLM has started: they hold the GPU's memory."""
        if hasattr(self, "_engine"):
            self._engine.engine_core.shutdown()

    def add(self, request: Request) -> None:
        """Take a request; ValueError if it does not fit the model."""
        from vllm.exceptions import VLLMClientError

        name = str(next(self._numbers))
        prompt: Any = {"prompt_token_ids": request.prompt_ids}
        try:
            self._engine.add_request(name, prompt, self.sampling_params(request))
        except VLLMClientError as error:
            raise ValueError(str(error)) from None
        self._requests[name] = request

    @property
    def n_unfinished(self) -> int:
        """Samples that are wanted and not yet given."""
        return sum(len(request.sample_ids) for request in self._requests.values())

    def step(self) -> list[Sample]:
        """Let the engine work a little; the samples of all requests that have ended."""
        ended = [output for output in self._engine.step() if output.finished]
        return [sample for output in ended for sample in self._samples(output)]

    def sampling_params(self, request: Request) -> Any:
        """vLLM's SamplingParams for a request, with nothing left to defaults."""
        from vllm import SamplingParams as VLLMSamplingParams
        from vllm.sampling_params import RequestOutputKind

        params, first = self._params, request.sample_ids[0]
        return VLLMSamplingParams(
            n=len(request.sample_ids),
            # the seeds of the n samples are this one and those that follow
            seed=None if params.greedy else sample_seed(params.seed, request.problem_id, first),
            temperature=0.0 if params.greedy else params.temperature,
            top_p=params.top_p,
            top_k=params.top_k,
            max_tokens=params.max_new_tokens,
            stop_token_ids=self._ends,
            ignore_eos=True,  # stop_token_ids says it all
            stop=params.stop,
            detokenize=params.stop is not None,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def _samples(self, output: Any) -> list[Sample]:
        request = self._requests.pop(output.request_id)
        return [
            self._stop_rule.to_sample(request, sample_id, list(made.token_ids))
            for sample_id, made in zip(request.sample_ids, output.outputs, strict=True)
        ]

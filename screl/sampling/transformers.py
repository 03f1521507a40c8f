"""Sample with transformers, in slots that are refilled as soon as a completion ends.

A prompt is run once for all its samples. Every completion draws from a random stream of its own,
keyed by its seed, so which samples share a batch changes nothing beyond floating-point noise.
"""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from transformers import DynamicCache
from transformers.cache_utils import Cache

from screl.core.io import UserError
from screl.models.loading import Model
from screl.models.tokenizer import Tokenizer, eos_ids, pad_id
from screl.samples.store import Sample
from screl.sampling.engine import Request, SamplingParams, StopRule, sample_seed
from screl.sampling.slot_cache import ATTENTION, SlotCache

PREFILL_TOKENS = 4096  # most tokens of prompts that are run at once, including padding
NOT_A_TOKEN = -1


def random_stream(seed: int, length: int) -> np.ndarray:
    """Return ``length`` float32 numbers in [0, 1) that depend only on the seed.

    A longer stream begins with the same numbers as a shorter one.
    """
    return np.random.Generator(np.random.Philox(key=seed)).random(length, np.float32)


def choose_tokens(
    logits: torch.Tensor, random: torch.Tensor, params: SamplingParams
) -> torch.Tensor:
    """Return the next token of each row, (rows,); NOT_A_TOKEN where logits are not numbers.

    ``logits`` is (rows, vocabulary), ``random`` (rows,) in [0, 1). Applies temperature, top-k and
    top-p, in the order of transformers, then inverts the cumulative distribution.
    """
    if params.greedy:
        return logits.argmax(dim=-1)
    logits = logits.float() / params.temperature
    order = None
    if params.top_k or params.top_p < 1.0:
        n_kept = min(params.top_k or logits.shape[1], logits.shape[1])
        logits, order = logits.topk(n_kept, dim=-1)
    probabilities = logits.softmax(dim=-1)
    cumulative = probabilities.cumsum(dim=-1)
    total = cumulative[:, -1:]
    if params.top_p < 1.0:  # up to and including the token with which top_p is reached
        total = cumulative.gather(1, (cumulative < params.top_p * total).sum(1, keepdim=True))
    # below the total, so that a number that rounds to 1 draws no token of probability 0
    target = torch.minimum(random[:, None] * total, total.nextafter(torch.zeros_like(total)))
    place = torch.searchsorted(cumulative, target, right=True)
    place = place.clamp(max=cumulative.shape[1] - 1)  # searching for NaN ends after the last token
    tokens = place if order is None else order.gather(1, place)
    return tokens.masked_fill(total.isnan(), NOT_A_TOKEN).squeeze(1)


class _Row:
    """A completion that is being written."""

    def __init__(self, request: Request, sample_id: int) -> None:
        self.request, self.sample_id = request, sample_id
        self.token_ids: list[int] = []

    @property
    def n_cached(self) -> int:
        """The number of tokens that the model has run: all but the last one written."""
        return len(self.request.prompt_ids) + len(self.token_ids) - 1


class _Prefilled(NamedTuple):
    """The result of running prompts: states for a cache, (prompts, vocabulary) logits after the
    last token, each prompt's length in tokens, and the longest length."""

    states: Cache
    logits: torch.Tensor
    lengths: torch.Tensor
    longest: int


class HFEngine:
    """A model that writes up to ``n_slots`` completions at once, and a queue of requests.

    ``add`` requests, then ``step`` while ``n_unfinished`` is not 0.
    """

    def __init__(
        self, model: Model, tokenizer: Tokenizer, params: SamplingParams, n_slots: int
    ) -> None:
        model.eval()
        model.set_attn_implementation(ATTENTION)
        if model.config.get_text_config()._attn_implementation != ATTENTION:  # it only warns
            raise UserError(
                f"{type(model).__name__} computes attention by code of its own; give --engine vllm"
            )
        self._model, self._tokenizer, self._params = model, tokenizer, params
        eos = eos_ids(model.generation_config, tokenizer, params.end_of_turn)
        self._stop_rule = StopRule(tokenizer, eos, params.stop)
        self._queue: deque[Request] = deque()
        # samples without a slot whose prompt has been run, with its number in self._prefilled
        self._ready: deque[tuple[int, _Row]] = deque()
        self._prefilled: _Prefilled | None = None
        self._rows: list[_Row] = []  # _rows[i] is in slot i
        self._cache = SlotCache(model, n_slots)
        # per slot: the token to be run next, the number of tokens written, and the random numbers
        self._tokens = torch.zeros(n_slots, dtype=torch.long, device=model.device)
        self._n_written = torch.zeros_like(self._tokens)
        self._random = torch.zeros(n_slots, params.max_new_tokens, device=model.device)

    def add(self, request: Request) -> None:
        """Queue a request."""
        self._queue.append(request)

    @property
    def n_unfinished(self) -> int:
        """Return how many requested samples have not been returned yet."""
        n_queued = sum(len(request.sample_ids) for request in self._queue)
        return len(self._rows) + len(self._ready) + n_queued

    def close(self) -> None:
        """Drop the model and the cache."""
        del self._model, self._cache, self._prefilled

    @torch.inference_mode()
    def step(self) -> list[Sample]:
        """Fill free slots, write one token in each, and return the samples that have ended."""
        samples: list[Sample] = []
        while (self._ready or self._queue) and len(self._rows) < len(self._tokens):
            if not self._ready:
                self._prefilled = self._prefill(self._next_requests())
            logits = self._fill_slots()
            samples += self._write_tokens(logits, len(self._rows) - len(logits))
        if self._rows:
            samples += self._write_tokens(self._decode(), 0)
        return samples

    def _next_requests(self) -> list[Request]:
        """Return as many requests as can be run at once, and mark their samples as ready.

        Returns at least one request and no more than there are slots, so that fewer slots need less
        memory here too.
        """
        requests: list[Request] = []
        longest = 0
        while self._queue and len(requests) < len(self._tokens):
            longest = max(longest, len(self._queue[0].prompt_ids))
            if requests and longest * (len(requests) + 1) > PREFILL_TOKENS:
                break
            request = self._queue.popleft()
            self._ready.extend((len(requests), _Row(request, i)) for i in request.sample_ids)
            requests.append(request)
        return requests

    def _prefill(self, requests: Sequence[Request]) -> _Prefilled:
        """Run prompts padded on the right, where causal attention needs no mask for padding."""
        device = self._model.device
        ids = [request.prompt_ids for request in requests]
        longest, pad = max(map(len, ids)), pad_id(self._tokenizer)
        padded = torch.tensor([row + [pad] * (longest - len(row)) for row in ids], device=device)
        lengths = torch.tensor([len(row) for row in ids], device=device)
        last, of_prompt = (lengths - 1).unique(return_inverse=True)
        output = self._model(
            input_ids=padded,
            position_ids=torch.arange(longest, device=device)[None],
            past_key_values=DynamicCache(),  # without a config it keeps what is outside a window
            use_cache=True,
            logits_to_keep=last,
        )
        logits = output.logits[torch.arange(len(ids), device=device), of_prompt]
        return _Prefilled(output.past_key_values, logits, lengths, longest)

    def _fill_slots(self) -> torch.Tensor:
        """Put ready samples into free slots and return their (rows, vocabulary) logits."""
        prefilled = self._prefilled
        assert prefilled is not None
        n_new = min(len(self._ready), len(self._tokens) - len(self._rows))
        numbers, new = zip(*(self._ready.popleft() for _ in range(n_new)), strict=True)
        which = torch.tensor(numbers, device=self._model.device)
        at = slice(len(self._rows), len(self._rows) + n_new)
        self._rows += new
        self._cache.reserve(prefilled.longest)
        self._cache.fill(at, prefilled.states, which)
        self._cache.lengths[at] = prefilled.lengths[which]
        self._n_written[at] = 0
        streams = [self._stream(row) for row in new]
        self._random[at] = torch.from_numpy(np.stack(streams)).to(self._random.device)
        if not self._ready:
            self._prefilled = None  # free its memory
        return prefilled.logits[which]

    def _stream(self, row: _Row) -> np.ndarray:
        seed = sample_seed(self._params.seed, row.request.problem_id, row.sample_id)
        return random_stream(seed, self._params.max_new_tokens)

    def _decode(self) -> torch.Tensor:
        """Run the newest token of every row and return (rows, vocabulary) logits."""
        n_rows = len(self._rows)
        lengths = self._cache.lengths[:n_rows]
        self._cache.width = 1 + max(row.n_cached for row in self._rows)
        self._cache.reserve(self._cache.width)
        seen = torch.arange(self._cache.width, device=lengths.device) <= lengths[:, None]
        logits = self._model(
            input_ids=self._tokens[:n_rows, None],
            attention_mask=seen[:, None, None],
            position_ids=lengths[:, None],
            past_key_values=self._cache,
            use_cache=True,
        ).logits[:, -1]
        lengths += 1
        return logits

    def _write_tokens(self, logits: torch.Tensor, first: int) -> list[Sample]:
        """Write a token in every row from ``first`` on; remove and return samples that end."""
        at = slice(first, len(self._rows))
        random = self._random[at].gather(1, self._n_written[at, None]).squeeze(1)
        tokens = choose_tokens(logits, random, self._params)
        self._tokens[at] = tokens
        self._n_written[at] += 1
        ended = []
        for i, token in enumerate(tokens.tolist(), start=first):  # waits for the device, once
            row = self._rows[i]
            if token == NOT_A_TOKEN:
                raise UserError(
                    f"problem {row.request.problem_id!r}, sample {row.sample_id}: the model's "
                    "logits are not numbers: the checkpoint is damaged, or needs --precision fp32"
                )
            row.token_ids.append(token)
            is_full = len(row.token_ids) == self._params.max_new_tokens
            if is_full or self._stop_rule.is_reached(row.request, row.token_ids):
                ended.append(i)
        return self._remove(ended) if ended else []

    def _remove(self, ended: list[int]) -> list[Sample]:
        """Remove rows and return their samples.

        The last rows move into the gaps, so the slots in use remain the first ones.
        """
        rows = [self._rows[i] for i in ended]
        samples = [self._stop_rule.to_sample(r.request, r.sample_id, r.token_ids) for r in rows]
        for i in reversed(ended):
            last = self._rows.pop()
            if i < len(self._rows):
                self._rows[i] = last
                self._cache.move(len(self._rows), i, last.n_cached)
                for state in (self._tokens, self._n_written, self._random):
                    state[i] = state[len(self._rows)]
        return samples

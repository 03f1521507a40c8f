"""What a sampling engine is asked for and what it gives back, the same for every engine."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from screl.problems import ProblemId
from screl.store import Sample


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
    """One problem's prompt, and which of its samples are wanted: ``sample_ids``, consecutive.

    ``watched``: a Watch of each is wanted too.
    """

    problem_id: ProblemId
    prompt_ids: list[int]
    sample_ids: range
    watched: bool = False


class Watch(NamedTuple):
    """Of a watched sample: its token ids, with EOS or the stop string, and the log of their
    probability under the distribution they were drawn from (after temperature, top-k and top-p).
    """

    token_ids: tuple[int, ...]
    log_probability: float


class Drawn(NamedTuple):
    """What an engine gives for one sample_id of a request."""

    sample: Sample
    watch: Watch | None


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

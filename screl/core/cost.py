"""Count the cost of a stage: FLOPs by the paper's formulas, and device time over all its sessions.

FLOPs (arXiv 2308.01825, appendix E; N is the number of weights outside embedding and head): 6 N per
trained token; when sampling, 2 N per prompt token and 1.66 N per generated token, both plus
attention. They are meant for comparison with the paper's Table 4, not as a measurement:

* The prompt is counted once per sample, although the engines here run it once per problem.
* 1.66 N is 2 N without the key and value matrices, a sixth of a LLaMA without grouped queries,
  although generated tokens go through these as well.
* Half of a generated token's attention is counted (queries times keys, but not the weighted
  values); at GSM8K's lengths the rest is less than 1%. The head and recomputed activations are not
  counted.

Device time is the time that GPUs were held. For processors it is the CPU seconds of the stage's
processes, except with vLLM and on a Ray cluster, where it is the time held. A session lasts from
the start of its script until run.json is written.
"""

import resource
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

from screl.core.io import UserError, read_json_object
from screl.core.shape import Shape, n_weights


class Devices(NamedTuple):
    """The devices that a stage holds; ``n`` is None if CPU seconds are counted instead."""

    kind: Literal["gpu", "cpu"]
    n: int | None


PROCESSORS = Devices("cpu", None)


@dataclass(frozen=True)
class Cost:
    """The cost of a stage or of one of its sessions, as written to run.json as ``results.cost``.

    ``tokens`` are trained tokens, or those of prompts and completions. ``all_sessions`` is False if
    the time of an earlier session is missing.
    """

    device: str
    device_seconds: float
    all_sessions: bool = True
    flops: float = 0.0
    tokens: int = 0


class Stopwatch:
    """A stopwatch for device time, which starts when it is made."""

    def __init__(self) -> None:
        self.started = time.time()
        self.cpu_before = _cpu_seconds()

    def time_of(self, devices: Devices) -> Cost:
        """Return the time spent on ``devices`` so far, to a millisecond."""
        if devices.n is None:
            return Cost(devices.kind, round(_cpu_seconds() - self.cpu_before, 3))
        return Cost(devices.kind, round(devices.n * (time.time() - self.started), 3))


def _cpu_seconds() -> float:
    """Return the CPU seconds of this process and of its children that have ended."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def add_session(earlier: Cost | None, now: Cost) -> Cost:
    """Return ``now`` with the time of ``earlier`` sessions added.

    If ``earlier`` is unknown (None) or on another kind of device, return ``now`` alone, marked as
    not covering all sessions.
    """
    if earlier is None or earlier.device != now.device:
        return replace(now, all_sessions=False)
    seconds = earlier.device_seconds + now.device_seconds
    covered = earlier.all_sessions and now.all_sessions
    return replace(now, device_seconds=seconds, all_sessions=covered)


def read_cost(run_json: Path) -> Cost | None:
    """Read ``results.cost`` of a run.json; return None if the file or a usable cost is missing."""
    try:
        cost = Cost(**read_json_object(run_json)["results"]["cost"])
        return replace(cost, flops=float(cost.flops), device_seconds=float(cost.device_seconds))
    except (UserError, KeyError, TypeError, ValueError):
        return None


def n_counted(shape: Shape) -> int:
    """Return the paper's N, the number of weights outside embedding and head."""
    return n_weights(shape) - shape.root + shape.hidden_size


def training_flops(shape: Shape, n_tokens: int) -> float:
    """Return the FLOPs of training on ``n_tokens``, forward and backward, over all epochs."""
    return float(6 * n_counted(shape) * n_tokens)


def count_samples(
    shape: Shape, prompts: Iterable[int], lengths: Iterable[Sequence[int]]
) -> tuple[float, int]:
    """Return the FLOPs and tokens of a sampling run; the prompt counts once per sample.

    ``prompts`` holds the length of each problem's prompt, ``lengths`` the lengths of its samples.
    The paper prints the sum over i of i C'(i). The factor i would count token i once for every
    token before it and give 100 times the paper's own Table 4, so it is left out here.
    """
    n_prompted = n_generated = n_attended = 0
    for n_prompt, of_problem in zip(prompts, lengths, strict=True):
        n_prompted += len(of_problem) * n_prompt
        n_generated += sum(of_problem)
        # token i attends to i others; summed over i from n_prompt to n_prompt + n - 1
        n_attended += sum(n * n_prompt + n * (n - 1) // 2 for n in of_problem)
        n_attended += len(of_problem) * n_prompt**2
    attention = 2 * shape.num_hidden_layers * shape.hidden_size * n_attended
    flops = n_counted(shape) * (2 * n_prompted + 1.66 * n_generated) + attention
    return flops, n_prompted + n_generated

"""Count the cost of a stage: FLOPs by the paper's formulas, and device time over all its sessions.

FLOPs (arXiv 2308.01825, appendix E; N is the number of weights outside embedding and head): 6 N per
trained token; when sampling, 2 N per prompt token and 1.66 N per generated token, both plus
attention. They are meant for comparison with the paper's Table 4, not as a measurement:

* The prompt is counted once per sample, although the engines here run it once per problem.
* 1.66 N is 2 N without the key and value matrices, which are a sixth of a LLaMA without grouped
  queries. Generated tokens go through these matrices as well, so 2 N would be right.
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
from pathlib import Path
from typing import Any, Literal, NamedTuple

from screl.core.io import UserError, read_json_object
from screl.core.shape import Shape, n_weights


class Devices(NamedTuple):
    """The devices that a stage holds; ``n`` is None if CPU seconds are counted instead."""

    kind: Literal["gpu", "cpu"]
    n: int | None


PROCESSORS = Devices("cpu", None)


class DeviceTime(NamedTuple):
    """Seconds on one kind of device; ``all_sessions`` is False if an earlier session is missing."""

    device: str
    device_seconds: float
    all_sessions: bool = True


class Cost(NamedTuple):
    """The cost of a stage; ``tokens`` are trained tokens, or those of prompts and completions."""

    flops: float
    tokens: int
    time: DeviceTime


class Stopwatch:
    """A stopwatch for device time, which starts when it is made."""

    def __init__(self) -> None:
        self.started = time.time()
        self.cpu_before = _cpu_seconds()

    def time_of(self, devices: Devices) -> DeviceTime:
        """Return the time spent on ``devices`` so far."""
        if devices.n is None:
            return DeviceTime(devices.kind, _cpu_seconds() - self.cpu_before)
        return DeviceTime(devices.kind, devices.n * (time.time() - self.started))


def _cpu_seconds() -> float:
    """Return the CPU seconds of this process and of its children that have ended."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def add_session(earlier: DeviceTime | None, now: DeviceTime) -> DeviceTime:
    """Return the sum of two sessions' times.

    If ``earlier`` is unknown (None) or on another kind of device, return ``now`` alone, marked as
    not covering all sessions.
    """
    if earlier is None or earlier.device != now.device:
        return now._replace(all_sessions=False)
    seconds = earlier.device_seconds + now.device_seconds
    return DeviceTime(now.device, seconds, earlier.all_sessions and now.all_sessions)


def cost_to_json(cost: Cost) -> dict[str, Any]:
    """Return ``cost`` as ``results.cost`` of a run.json."""
    seconds = {"device_seconds": round(cost.time.device_seconds, 3)}
    return {"flops": cost.flops, "tokens": cost.tokens} | cost.time._asdict() | seconds


def read_cost(run_json: Path) -> Cost | None:
    """Read ``results.cost`` of a run.json; return None if the file or a usable cost is missing."""
    try:
        cost = read_json_object(run_json)["results"]["cost"]
        all_sessions = bool(cost.get("all_sessions", True))
        spent = DeviceTime(str(cost["device"]), float(cost["device_seconds"]), all_sessions)
        return Cost(float(cost["flops"]), int(cost["tokens"]), spent)
    except (UserError, KeyError, TypeError, ValueError, AttributeError):
        return None


def n_counted(shape: Shape) -> int:
    """Return the paper's N, the number of weights outside embedding and head."""
    return n_weights(shape) - shape.root + shape.hidden_size


def training_flops(shape: Shape, n_tokens: int) -> float:
    """Return the FLOPs of training on ``n_tokens``, forward and backward, over all epochs."""
    return float(6 * n_counted(shape) * n_tokens)


def sampling_flops(shape: Shape, n_prompt: int, lengths: Sequence[int]) -> float:
    """Return the FLOPs of sampling completions of these ``lengths`` for one problem.

    The paper prints the sum over i of i C'(i). The factor i would count token i once for every
    token before it and give 100 times the paper's own Table 4, so it is left out here.
    """
    n_tokens = sum(lengths)
    # token i attends to i others; summed over i from n_prompt to n_prompt + n - 1
    n_attended = sum(n * n_prompt + n * (n - 1) // 2 for n in lengths)
    n_attended += len(lengths) * n_prompt**2
    attention = 2 * shape.num_hidden_layers * shape.hidden_size * n_attended
    return n_counted(shape) * (2 * len(lengths) * n_prompt + 1.66 * n_tokens) + attention


def count_samples(
    shape: Shape, prompts: Iterable[int], lengths: Iterable[Sequence[int]]
) -> tuple[float, int]:
    """Return the FLOPs and tokens of a sampling run; the prompt counts once per sample.

    ``prompts`` holds the length of each problem's prompt, ``lengths`` the lengths of its samples.
    """
    flops, n_tokens = 0.0, 0
    for n_prompt, of_problem in zip(prompts, lengths, strict=True):
        flops += sampling_flops(shape, n_prompt, of_problem)
        n_tokens += len(of_problem) * n_prompt + sum(of_problem)
    return flops, n_tokens

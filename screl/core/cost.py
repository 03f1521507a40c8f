"""``results.cost`` of a run.json: what the stage has cost, over all its sessions.

Device seconds are those of the GPUs held, or, of a stage on this machine's processors, the CPU
seconds that the system has counted for its processes: threads that wait by spinning count, idle
processors do not. Where the system does not count them, with vLLM and on a Ray cluster, processors
are held like GPUs. A session begins when its script does and ends when run.json is written.

The arithmetic that a stage costs, counted as the paper counts it (arXiv 2308.01825, appendix E).

N is the number of weights outside the embedding and the head. Training takes 6 N FLOPs a token,
running a model 2 N, and writing a token with the states of the earlier ones at hand 1.66 N; to the
last two comes attention. These are the paper's formulas, so that numbers can be put beside its
Table 4, and no measurement of what a device did:

* The paper counts the prompt of every sample. The engines here run it once for all samples of a
  request, so sampling k of each problem takes less than is counted.
* 1.66 N is 2 N without the keys' and values' matrices (a sixth of a LLaMA with as many heads for
  them as for queries). A written token goes through these too: 2 N would be right.
* Attention of a written token is counted half: its queries meet the keys, and the weighted values
  are not counted. At the lengths of GSM8K this is less than 1 %.
* What the head and recomputed activations take is not counted.
"""

import resource
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from screl.core.io import UserError, read_json_object
from screl.core.shape import Shape, n_weights


class Devices(NamedTuple):
    """What a stage runs on: so many devices, each for the whole time; ``n`` is None for this
    machine's processors, whose time the system counts."""

    kind: Literal["gpu", "cpu"]
    n: int | None


PROCESSORS = Devices("cpu", None)


class DeviceTime(NamedTuple):
    """Seconds of a kind of device. ``all_sessions``: False if there was an earlier session whose
    seconds are not known, so that these are too few."""

    device: str
    device_seconds: float
    all_sessions: bool = True


class Cost(NamedTuple):
    """What a stage has cost. ``tokens``: trained on, or of prompts and completions."""

    flops: float
    tokens: int
    time: DeviceTime


class Stopwatch:
    """Runs from the moment it is made."""

    def __init__(self) -> None:
        self.started = time.time()
        self.cpu_before = cpu_seconds()

    def time_of(self, devices: Devices) -> DeviceTime:
        """Device seconds until now."""
        if devices.n is None:
            return DeviceTime(devices.kind, cpu_seconds() - self.cpu_before)
        return DeviceTime(devices.kind, devices.n * (time.time() - self.started))


def cpu_seconds() -> float:
    """Of this process, and of those that it has started and seen end, from their beginning."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def add_session(earlier: DeviceTime | None, now: DeviceTime) -> DeviceTime:
    """Both together; of ``now`` alone, which is said, if what was before is not known (None) or of
    another kind of device."""
    if earlier is None or earlier.device != now.device:
        return now._replace(all_sessions=False)
    seconds = earlier.device_seconds + now.device_seconds
    return DeviceTime(now.device, seconds, earlier.all_sessions and now.all_sessions)


def cost_to_json(cost: Cost) -> dict[str, Any]:
    """The ``cost`` of a run.json's results; read_cost reads it."""
    seconds = {"device_seconds": round(cost.time.device_seconds, 3)}
    return {"flops": cost.flops, "tokens": cost.tokens} | cost.time._asdict() | seconds


def read_cost(run_json: Path) -> Cost | None:
    """What a run.json says of its cost; None if it says nothing, or is not there."""
    try:
        cost = read_json_object(run_json)["results"]["cost"]
        is_whole = bool(cost.get("all_sessions", True))
        spent = DeviceTime(str(cost["device"]), float(cost["device_seconds"]), is_whole)
        return Cost(float(cost["flops"]), int(cost["tokens"]), spent)
    except (UserError, KeyError, TypeError, ValueError, AttributeError):
        return None


TRAINING, FORWARD, CACHED = 6, 2, 1.66  # FLOPs a weight and token


def n_counted(shape: Shape) -> int:
    """The paper's N: weights but those of the embedding and the head; exact where n_weights is."""
    return n_weights(shape) - shape.root + shape.hidden_size


def training_flops(shape: Shape, n_tokens: int) -> float:
    """FLOPs of training on ``n_tokens``, all epochs: 6 N each, forward and backward."""
    return float(TRAINING * n_counted(shape) * n_tokens)


def forward_flops(shape: Shape, n_context: int) -> float:
    """FLOPs of running one token of a text of ``n_context``."""
    return float(FORWARD * n_counted(shape) + _attention_flops(shape, n_context))


def cached_flops(shape: Shape, n_context: int) -> float:
    """FLOPs of writing one token behind ``n_context`` others whose states are at hand."""
    return CACHED * n_counted(shape) + _attention_flops(shape, n_context)


def sampling_flops(shape: Shape, n_prompt: int, lengths: Sequence[int]) -> float:
    """FLOPs of all samples of one problem: each runs ``n_prompt`` tokens and writes one by one
    those that ``lengths`` has of it.

    Printed is the sum over i of i C'(i), which would count token i as often as there are tokens
    before it: 100 times the Table 4 of the same paper. The factor i is left out here.
    """
    prompts = len(lengths) * n_prompt * forward_flops(shape, n_prompt)
    # the sum of cached_flops(shape, i) for i from n_prompt to n_prompt + n - 1, n of each length
    n_contexts = sum(n * n_prompt + n * (n - 1) // 2 for n in lengths)
    return prompts + sum(lengths) * cached_flops(shape, 0) + _attention_flops(shape, n_contexts)


def count_samples(
    shape: Shape, prompts: Iterable[int], lengths: Iterable[Sequence[int]]
) -> tuple[float, int]:
    """FLOPs of a whole run, and its tokens: those of every sample with its prompt.

    ``prompts`` are the tokens of each problem's prompt, ``lengths`` those of each of its samples.
    """
    flops, n_tokens = 0.0, 0
    for n_prompt, of_problem in zip(prompts, lengths, strict=True):
        flops += sampling_flops(shape, n_prompt, of_problem)
        n_tokens += len(of_problem) * n_prompt + sum(of_problem)
    return flops, n_tokens


def _attention_flops(shape: Shape, n_context: int) -> int:
    return 2 * shape.num_hidden_layers * n_context * shape.hidden_size

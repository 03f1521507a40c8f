"""``results.cost`` of a run.json: what the stage has cost, over all its sessions.

Device seconds are those of the GPUs held, or, of a stage on this machine's processors, the CPU
seconds that the system has counted for its processes: threads that wait by spinning count, idle
processors do not. Where the system does not count them, with vLLM and on a Ray cluster, processors
are held like GPUs. A session begins when its script does and ends when run.json is written.
"""

import resource
import time
from pathlib import Path
from typing import Any, Literal, NamedTuple

from screl.files import UserError, read_json_object


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

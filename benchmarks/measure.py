"""What the benchmarks share: run a command as a user would, and see what it takes."""

import random
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent

WORDS = """
    she he they sells buys makes apples every day pages books hours week friends more than each box
    costs gives away left total money candies school garden the a of and for in
""".split()  # noqa: SIM905 - shorter than a list


def report(name: str, command: list[str], n_samples: int) -> str:
    """Run ``command``; print its seconds, samples per second and peak memory. Returns its output.

    Exits if it fails.
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
    """The largest sum, over a process and its children, of memory that is their own or shared
    among them (proportional set size, so that shared pages count once), sampled every 50 ms."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._peak = 0
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def peak(self) -> int:
        """In bytes, after the process has ended."""
        self._thread.join()
        return self._peak

    def _watch(self) -> None:
        while total := sum(map(proportional_set_size, family(self._pid))):
            self._peak = max(self._peak, total)
            time.sleep(0.05)


def family(pid: int) -> list[int]:
    """A process and all that descend from it (Linux)."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return [pid]
    return [pid, *(descendant for child in children for descendant in family(int(child)))]


def proportional_set_size(pid: int) -> int:
    """In bytes; 0 for a process that has ended (Linux)."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def words(rng: random.Random, n: int) -> str:
    """``n`` words that mean nothing."""
    return " ".join(rng.choices(WORDS, k=n))

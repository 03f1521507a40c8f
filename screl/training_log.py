"""``train_log.jsonl``, one line a step, and the progress bar."""

import json
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from screl.files import write_atomic
from screl.processes import is_main_process, sum_over_processes
from screl.run_cost import PROCESSORS, Devices, DeviceTime, Stopwatch, add_session

LOG = "train_log.jsonl"


class TrainingLog:
    """Bar on stderr and lines in ``folder``, of the main process only; what the run has taken."""

    def __init__(
        self, folder: Path, n_steps: int, state: dict[str, Any], watch: Stopwatch, on_gpu: bool
    ) -> None:
        """Begin with what ``state`` of the last checkpoint says was done: its lines and seconds.
        ``watch`` runs since this process began."""
        self.path = folder / LOG
        self.entries: list[dict[str, Any]] = list(state.get("log", []))
        self.seconds_before: float = state.get("seconds", 0.0)
        self.started = time.time()
        self.watch, self.device = watch, Devices("gpu", 1) if on_gpu else PROCESSORS
        self.time_before: DeviceTime | None = DeviceTime(self.device.kind, 0.0)
        if state["step"]:  # older checkpoints have no time
            self.time_before = DeviceTime(**state["time"]) if "time" in state else None
        if is_main_process():
            write_atomic(self.path, map(as_line, self.entries))
            self.bar = tqdm(total=n_steps, initial=len(self.entries), desc="train", unit="step")

    def state(self) -> dict[str, Any]:
        """What a checkpoint has to keep; all processes must ask for it."""
        time = self.device_time()
        return {"log": self.entries, "seconds": self.seconds(), "time": time._asdict()}

    def seconds(self) -> float:
        """Of training, over all sessions of this run."""
        return self.seconds_before + time.time() - self.started

    def device_time(self) -> DeviceTime:
        """Of all processes, over all sessions; each up to the checkpoint that the next one went on
        from. All processes must ask for it."""
        mine = self.watch.time_of(self.device)
        now = mine._replace(device_seconds=sum_over_processes(mine.device_seconds))
        return add_session(self.time_before, now)

    def add(self, entry: dict[str, Any]) -> None:
        """Write the line of a step."""
        self.entries.append(entry)
        if is_main_process():
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(as_line(entry))
            self.bar.update()
            self.bar.set_postfix(
                loss=f"{entry['loss']:.4f}",
                lr=f"{entry['learning_rate']:.1e}",
                tok_s=f"{entry['tokens_per_second']:.0f}",
            )

    def close(self) -> None:
        """End the bar."""
        if is_main_process():
            self.bar.close()


def as_line(entry: dict[str, Any]) -> str:
    """An entry as it stands in the file."""
    return json.dumps(entry) + "\n"

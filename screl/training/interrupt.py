"""End a run that gets SIGINT or SIGTERM with a checkpoint, or say what is lost."""

import signal
from types import FrameType

from screl.training.processes import is_main_process, say, sum_over_processes

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """A request to end the run after the present step, which any process may have received."""

    def __init__(self) -> None:
        """Take the signals over; a second one ends this process at once."""
        self._received = False
        self._before = {number: signal.signal(number, self._receive) for number in SIGNALS}

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._received:
            raise KeyboardInterrupt
        self._received = True
        name = signal.Signals(number).name
        say(f"\n{name}: the run ends after this step; another one ends it at once")

    def end(self) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def agreed(self) -> bool:
        """Return whether any process was asked to end; all processes must call this."""
        return sum_over_processes(float(self._received)) > 0


def interrupted(step: int, saved: bool) -> KeyboardInterrupt:
    """Return the exception that ends a run after ``step`` steps, with what is kept or lost."""
    if not is_main_process():
        return KeyboardInterrupt("")
    if saved:
        return KeyboardInterrupt(
            f"interrupted after step {step}, which is saved; run the same command again to continue"
        )
    return KeyboardInterrupt(
        f"interrupted after step {step}; with --save_steps 0 nothing is saved, so the same command "
        "begins again"
    )

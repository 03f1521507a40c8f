"""Signals that stop a run do so once, and never while a process is being started."""

import signal
import subprocess
import sys

import pytest

from screl.core.stopping import STOP_SIGNALS, stop_signals, stops_held_back


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_the_first_signal_interrupts_and_others_are_ignored(number: int) -> None:
    before = [signal.getsignal(one) for one in STOP_SIGNALS]
    cleaned_up = False
    with pytest.raises(KeyboardInterrupt), stop_signals():  # noqa: PT012
        try:
            signal.raise_signal(number)
            pytest.fail("not interrupted")
        finally:
            for other in STOP_SIGNALS:
                signal.raise_signal(other)
            cleaned_up = True
    assert cleaned_up
    assert [signal.getsignal(one) for one in STOP_SIGNALS] == before


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_is_held_back_until_the_block_ends(number: int) -> None:
    is_done = False
    with pytest.raises(KeyboardInterrupt), stop_signals():  # noqa: PT012
        with stops_held_back():
            signal.raise_signal(number)
            is_done = True
        pytest.fail("not interrupted")
    assert is_done


def test_a_process_started_inside_does_not_get_ctrl_c() -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGINT); print('alive')"
    with stops_held_back():
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.communicate()[0] == b"alive\n"

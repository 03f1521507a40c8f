"""Progress bars: drawn on a terminal, lines in a log file."""

import io
import sys

import pytest
from tqdm import tqdm

from screl.core import progress
from screl.core.progress import progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that tqdm sees, a list of one number."""
    now = [0.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    return now


def test_a_log_file_gets_a_line_every_ten_seconds(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    bar = progress_bar(1000, "train", "step")
    for second in range(100):
        clock[0] = second * 0.25
        bar.update(3)
    bar.set_postfix({"loss": "0.5"}, refresh=False)
    bar.close()
    lines = capsys.readouterr().err.splitlines()
    # at 0, 10 and 20 s, and at the end
    assert [line.split("|")[0].split() for line in lines] == [
        ["train:", "0%"], ["train:", "12%"], ["train:", "24%"], ["train:", "30%"],
    ]  # fmt: skip
    assert "300/1000 [00:24<" in lines[-1]
    assert lines[-1].endswith("loss=0.5]")
    assert "\r" not in "".join(lines)


def test_a_warning_between_two_states_is_one_line(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    bar = progress_bar(10, "sample", "sample")
    bar.update(5)
    bar.write("warning: cut off", file=sys.stderr)
    bar.close()
    out, err = capsys.readouterr()
    assert out == ""
    first, warning, last = err.splitlines()
    assert warning == "warning: cut off"
    assert " 0/10 " in first
    assert " 5/10 " in last


def test_a_terminal_gets_tqdms_own_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    bar = progress_bar(4, "train", "step", initial=1)
    assert (type(bar), bar.n) == (tqdm, 1)
    assert bar.mininterval < 1
    bar.close()
    assert terminal.getvalue().startswith("\rtrain:  25%")


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_bar_that_is_not_shown_writes_nothing(
    is_terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Terminal() if is_terminal else io.StringIO()
    monkeypatch.setattr(progress.sys, "stderr", stream)
    bar = progress_bar(4, "train", "step", is_shown=False)
    bar.update()
    bar.set_postfix(loss="1")
    bar.close()
    assert stream.getvalue() == ""

"""Test that a process that falls silent is named by the one that watches it."""

import time

import pytest

from screl.training import processes


class Store(dict[str, bytes]):
    """The part of torch's store that the watch uses, until it is closed."""

    closed = False

    def set(self, key: str, value: str) -> None:
        if self.closed:
            raise RuntimeError("closed")
        self[key] = value.encode()

    def check(self, keys: list[str]) -> bool:
        return all(key in self for key in keys)


@pytest.mark.parametrize("silent", [True, False])
def test_a_silent_process_is_named(
    silent: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "3")  # the last process watches the first
    monkeypatch.setattr(processes, "BEAT_SECONDS", 0.01)
    monkeypatch.setattr(processes, "SILENT_SECONDS", 0.3)
    store = Store({"beat/0": b"node7 41 0"})
    processes.watch_next_process(store)  # type: ignore[arg-type]
    for beat in range(40):
        time.sleep(0.02)
        if not silent:
            store.set("beat/0", f"node7 41 {beat}")
    store.closed = True
    errors = capsys.readouterr().err
    assert ("process 0 (pid 41 on node7) has been silent" in errors) is silent
    assert "beat/2" in store

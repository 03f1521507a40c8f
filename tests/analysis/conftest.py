"""Keep the work of a few problems in the process of the test."""

import pytest


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("screl.core.parallel.n_processors", lambda: 1)

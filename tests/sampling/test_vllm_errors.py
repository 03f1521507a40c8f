"""The cause of an engine's death is read from what vLLM's processes have logged."""

import json
import logging.config
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from screl.sampling.engine import describe_failure
from screl.sampling.vllm_errors import CONFIG_PATH, ErrorLog

MEMORY = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB"
WORKER = "RuntimeError: Worker failed with error 'x', please check the stack trace above"


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[ErrorLog]:
    for name in (CONFIG_PATH, "VLLM_LOGGING_LEVEL"):  # which other tests may have set
        monkeypatch.delenv(name, raising=False)
    log = ErrorLog()
    yield log
    log.close()


def log_of_engine(error: str) -> None:
    """Log what vLLM's engine process does when ``error`` ends it."""
    logging.config.dictConfig(json.loads(Path(os.environ[CONFIG_PATH]).read_text()))
    lines = ["EngineCore encountered a fatal error.", "Traceback (most recent call last):", error]
    logging.getLogger("vllm.v1.engine.core").error("\n".join(lines))
    for name in ("vllm", "vllm.v1.engine.core"):
        logging.getLogger(name).handlers.clear()


@pytest.mark.parametrize(
    ("errors", "cause", "out_of_memory"),
    [
        ([MEMORY], MEMORY, True),
        ([MEMORY, WORKER], MEMORY, True),  # raised again for another reason
        (["ValueError: first", "zmq.error.Again: no", WORKER], WORKER, False),
        ([], "it was killed, or its errors are in vLLM's log", False),
    ],
)
def test_the_cause_is_the_last_error_or_the_lack_of_memory(
    log: ErrorLog, errors: list[str], cause: str, out_of_memory: bool
) -> None:
    for error in errors:
        log_of_engine(error)
    assert log.cause() == cause
    failure = describe_failure(RuntimeError(f"vLLM's engine died: {log.cause()}"))
    assert failure.out_of_memory == out_of_memory


def test_errors_are_still_shown_and_warnings_are_no_cause(
    log: ErrorLog, capsys: pytest.CaptureFixture[str]
) -> None:
    logging.config.dictConfig(json.loads(Path(os.environ[CONFIG_PATH]).read_text()))
    logging.getLogger("vllm").warning("ValueError: only a warning")
    logging.getLogger("vllm").handlers.clear()
    assert "WARNING" in capsys.readouterr().err
    assert log.cause().startswith("it was killed")


def test_nothing_is_left_and_the_users_configuration_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in (CONFIG_PATH, "VLLM_LOGGING_LEVEL"):  # which other tests may have set
        monkeypatch.delenv(name, raising=False)
    log = ErrorLog()
    folder = Path(os.environ[CONFIG_PATH]).parent
    log.close()
    assert CONFIG_PATH not in os.environ
    assert not folder.exists()
    monkeypatch.setenv(CONFIG_PATH, "mine.json")
    log = ErrorLog()
    log.close()
    assert os.environ[CONFIG_PATH] == "mine.json"

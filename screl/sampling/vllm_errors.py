"""Find out why vLLM's engine died.

The engine runs in other processes, and the exception in this one only refers to the traceback that
they have written to their log.
"""

import json
import os
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from screl.sampling.engine import names_lack_of_memory

CONFIG_PATH = "VLLM_LOGGING_CONFIG_PATH"  # environment variable, read by all of vLLM's processes
ERROR_LINE = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception): .+", re.MULTILINE)


class ErrorLog:
    """A temporary file to which vLLM's processes also write their errors.

    Make it before vLLM is imported. If the user has configured vLLM's log, it stays as it is, and
    no cause is found.
    """

    def __init__(self) -> None:
        self._folder = TemporaryDirectory(prefix="vllm-errors-")
        self._path = Path(self._folder.name) / "errors.log"
        if CONFIG_PATH not in os.environ and os.environ.get("VLLM_CONFIGURE_LOGGING", "1") == "1":
            config_path = self._path.with_name("logging.json")
            config_path.write_text(json.dumps(_log_config(self._path)), encoding="utf-8")
            os.environ[CONFIG_PATH] = str(config_path)

    def cause(self) -> str:
        """Return the logged error that names a lack of memory or, without one, the last error."""
        text = self._path.read_text(errors="replace") if self._path.exists() else ""
        errors = ERROR_LINE.findall(text)
        of_memory = list(filter(names_lack_of_memory, errors))
        return (of_memory or errors or ["it was killed, or its errors are in vLLM's log"])[-1]

    def close(self) -> None:
        """Remove the file."""
        if os.environ.get(CONFIG_PATH, "").startswith(self._folder.name):
            del os.environ[CONFIG_PATH]
        self._folder.cleanup()


def _log_config(path: Path) -> dict[str, Any]:
    """Return vLLM's log as it is by default, on stderr, and errors in ``path`` too."""
    level = os.environ.get("VLLM_LOGGING_LEVEL", "WARNING")
    shown = "(%(processName)s pid=%(process)d) %(levelname)s %(asctime)s %(message)s"
    handlers = {
        "stderr": {
            "class": "logging.StreamHandler", "stream": "ext://sys.stderr", "level": level,
            "formatter": "shown",
        },
        "errors": {"class": "logging.FileHandler", "filename": str(path), "level": "ERROR"},
    }  # fmt: skip
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"shown": {"format": shown, "datefmt": "%m-%d %H:%M:%S"}},
        "handlers": handlers,
        "loggers": {"vllm": {"handlers": list(handlers), "level": level, "propagate": False}},
    }

"""Judge generated code by the row's unit tests, in a subprocess without a network.

A row has "tests", Python code that raises an exception if the completion's code is wrong. The code
runs as this user and may read and write this user's files: for code from a model that you do not
trust, run the whole stage in a container.
"""

import re
import subprocess
import sys
import tempfile
from typing import Any

SECONDS = 3  # for a completion's code
TIME_LIMIT_S, MEMORY_LIMIT_MB = 10, 1024  # of a call of check, which the project reads
BLOCK = re.compile(r"```(?:python)?\n(.*?)```", re.DOTALL)


def without_network() -> list[str]:
    """Return the command that takes the network away; raise RuntimeError where none works.

    A failure counts as not verified, so code never runs with a network by accident.
    """
    for command in (["unshare", "-n"], ["unshare", "-rn"]):
        try:
            if subprocess.run([*command, "true"], capture_output=True).returncode == 0:
                return command
        except FileNotFoundError:
            break
    raise RuntimeError("unshare -n does not work here; use a container without a network")


def check(row: dict[str, Any], completion: str) -> bool:
    """Return whether the last code block of a completion passes the row's tests."""
    blocks = BLOCK.findall(completion)
    if not blocks:
        return False
    program = f"{blocks[-1]}\n{row['tests']}\nprint('passed all tests')\n"
    command = [*without_network(), sys.executable, "-I", "-c", program]
    with tempfile.TemporaryDirectory() as folder:
        try:
            result = subprocess.run(
                command, cwd=folder, env={}, stdin=subprocess.DEVNULL, capture_output=True,
                text=True, errors="replace", timeout=SECONDS,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return False  # code that does not end is wrong
    return result.returncode == 0 and result.stdout.endswith("passed all tests\n")

"""Run a user's verifier: the program of the process that screl.grading.verifiers starts.

It imports the user's file once, then forks for every call: a call cannot change what a later one
sees, is limited in time and memory, and may crash. It imports nothing of the project.
"""

import contextlib
import ctypes
import importlib.util
import json
import os
import pickle
import random
import resource
import select
import signal
import struct
import sys
import time
import traceback
from collections.abc import Callable
from types import ModuleType
from typing import Any, BinaryIO

TIME_LIMIT_S = 10.0  # of one call; a constant of the same name in the user's file replaces it
MEMORY_LIMIT_MB = 1024  # of address space, beyond what the imported file uses; likewise
MAX_ANSWER = 10_000  # characters
HEADER = struct.Struct(">I")
PR_SET_CHILD_SUBREAPER = 36  # of Linux's prctl: orphans of a call become children of this process


def main() -> None:
    """Answer requests on the standard input until it ends; what the verifier prints is dropped."""
    # private copies of the pipes, so that nothing which the verifier prints gets into them
    requests = os.fdopen(os.dup(0), "rb")
    results = os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    try:
        module = load(sys.argv[1])
        function = getattr(module, sys.argv[2], None)
        assert callable(function), f"has no function {sys.argv[2]!r}"
    except AssertionError as error:
        send(results, ["error", str(error)])
        return
    except BaseException as error:
        send(results, ["error", f"cannot be imported ({describe(error)})"])
        return
    seconds = float(getattr(module, "TIME_LIMIT_S", TIME_LIMIT_S))
    megabytes = float(getattr(module, "MEMORY_LIMIT_MB", MEMORY_LIMIT_MB))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    send(results, ["ready", seconds])
    while (request := receive(requests)) is not None:
        send(results, call(function, request, seconds, megabytes, (requests, results)))


def load(path: str) -> ModuleType:
    """Import the file at ``path``, which may import its neighbors."""
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    spec = importlib.util.spec_from_file_location("verifier", path)
    assert spec is not None, "is not a Python file"
    assert spec.loader is not None, "is not a Python file"
    module = importlib.util.module_from_spec(spec)
    sys.modules["verifier"] = module  # for dataclasses and pickle
    spec.loader.exec_module(module)
    return module


def call(
    function: Callable[..., Any], request: bytes, seconds: float, megabytes: float,
    pipes: tuple[BinaryIO, BinaryIO],
) -> list[Any]:  # fmt: skip
    """Return the outcome of one call: its kind, and its value or what went wrong."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setsid()  # a group of its own, which is killed as a whole
            os.close(reading)
            for pipe in pipes:
                os.close(pipe.fileno())
            limit_memory(megabytes)
            outcome = outcome_of(function, request)
            with os.fdopen(writing, "wb") as file:
                send(file, outcome)
        finally:
            os._exit(0)
    os.close(writing)
    message = read_until(reading, time.monotonic() + seconds)
    os.close(reading)
    status = end(child)
    if message is None:
        return ["time limit", f"no result in {seconds:g} s"]
    if message:
        try:
            return list(json.loads(message))
        except ValueError:
            return ["crash", "no result"]
    how = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
    return ["crash", f"ended without a result ({how})"]


def end(child: int) -> int:
    """Kill a call's process and all that it started; return its exit status."""
    for kill in (os.killpg, os.kill):  # its group may not exist yet
        with contextlib.suppress(ProcessLookupError):
            kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    while orphans := children():
        for pid in orphans:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
    return status


def children() -> list[int]:
    """Return this process's children: what a call left behind; none where /proc does not say."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return []


def limit_memory(megabytes: float) -> None:
    """Limit this process, and those that it starts, and have them leave no core files."""
    n_bytes = address_space() + int(megabytes * 2**20)
    resource.setrlimit(resource.RLIMIT_AS, (n_bytes, n_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def address_space() -> int:
    """Return the bytes of address space that this process uses; 0 where /proc does not say."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def outcome_of(function: Callable[..., Any], request: bytes) -> list[Any]:
    """Call the function; return ["right" or "wrong", None], ["answer", text] or what failed."""
    random.seed(0)  # the same numbers in every call; a fork has seeded it anew
    try:
        value = function(*pickle.loads(request))
    except MemoryError:
        return ["memory limit", "out of memory"]
    except BaseException as error:
        return ["exception", describe(error)]
    if isinstance(value, bool):
        return ["right" if value else "wrong", None]
    if isinstance(value, str):
        if len(value) > MAX_ANSWER:
            return ["wrong type", f"returned a text of {len(value):,} characters"]
        return ["answer", value]
    return ["wrong type", f"returned {type(value).__name__}, not bool or str"]


def describe(error: BaseException) -> str:
    """Return the type, first line and place of an exception in at most 200 characters."""
    lines = str(error).split("\n")
    where = traceback.extract_tb(error.__traceback__)
    place = (
        f" on line {where[-1].lineno} of {os.path.basename(where[-1].filename)}" if where else ""
    )
    return f"{type(error).__name__}{': ' if lines[0] else ''}{lines[0][:150]}{place}"


def read_until(pipe: int, deadline: float) -> bytes | None:
    """Return one message; b"" if the pipe ends first, None if the time does."""
    received = b""
    while True:
        if len(received) >= 4 and len(received) >= 4 + HEADER.unpack(received[:4])[0]:
            return received[4 : 4 + HEADER.unpack(received[:4])[0]]
        ready, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return None
        part = os.read(pipe, 65536)
        if not part:
            return b""
        received += part


def send(file: BinaryIO, value: list[Any]) -> None:
    """Write a value as JSON, preceded by its length."""
    data = json.dumps(value).encode()
    file.write(HEADER.pack(len(data)) + data)
    file.flush()


def receive(file: BinaryIO) -> bytes | None:
    """Return the next request; None at the end."""
    header = file.read(HEADER.size)
    return file.read(HEADER.unpack(header)[0]) if len(header) == HEADER.size else None


if __name__ == "__main__":
    main()

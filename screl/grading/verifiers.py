"""Judge completions by the user's own function, --verifier FILE.py:function.

``function(row, completion)`` gets the row of the data file, as a dict, and returns whether the
completion is right, or the answer in it as a text. It runs in a process of its own (see
verifier_process), which is started again whenever it ends, so that nothing that the function does
can stop or change the stage.
"""

import atexit
import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from screl.core.io import UserError, file_sha256
from screl.core.problems import Problem, ProblemId
from screl.grading import verifier_process
from screl.grading.boxed import last_boxed
from screl.grading.numbers import read_number

IMPORT_LIMIT_S = 60.0
MAX_SHOWN = 10  # problems
GRACE_S = 5.0  # beyond a call's own limit, for a verifier that stops its parent process


class Outcome(NamedTuple):
    """The verifier's judgement of a completion.

    ``answer`` is what the vote counts: the function's text, "right" or "wrong" for a bool, None if
    it found no answer (an empty text) or failed. ``failure``
    says why it could not judge, such as "time limit: no result in 10 s", else it is "".
    """

    answer: str | None
    is_right: bool
    failure: str = ""


class VerifierProcess:
    """The process that runs one verifier; raises UserError if the file cannot be loaded."""

    def __init__(self, spec: str) -> None:
        self._file, self._function = split_spec(spec)
        self._spec = spec
        self.start()

    def start(self) -> None:
        """Start the process and wait until the file is imported."""
        # -P: without it, the user's "import numbers" would find this folder's numbers.py
        program = [sys.executable, "-P", verifier_process.__file__]
        self._process = subprocess.Popen(
            [*program, str(self._file), self._function],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # an interrupt is for the stage, which ends this process
            env=os.environ | {"PYTHONHASHSEED": "0"},  # the same verdict in every process
        )
        reply = self._receive(IMPORT_LIMIT_S)
        if reply is None or reply[0] != "ready":
            self.stop()
            why = reply[1] if reply else f"could not be imported in {IMPORT_LIMIT_S:g} s, or ended"
            raise UserError(f"--verifier {self._spec}: {self._file.name} {why}")
        self._seconds = float(reply[1])

    def call(self, row: dict[str, Any], completion: str) -> tuple[str, str | None]:
        """Return the kind of the outcome and its value, as verifier_process describes them."""
        data = pickle.dumps((row, completion))
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(verifier_process.HEADER.pack(len(data)) + data)
            self._process.stdin.flush()
            reply = self._receive(self._seconds + GRACE_S)
        except BrokenPipeError:
            reply = None
        if reply is None:  # it killed or stopped its parent process
            self.stop()
            self.start()
            return "crash", "ended the process that runs it"
        return reply[0], reply[1]

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def _receive(self, seconds: float) -> list[Any] | None:
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        message = verifier_process.read_until(pipe, time.monotonic() + seconds)
        return list(json.loads(message)) if message else None


def split_spec(spec: str) -> tuple[Path, str]:
    """Return the file and the function of FILE.py:function; raise UserError if it is no file."""
    path, colon, function = spec.rpartition(":")
    if not colon or not function.isidentifier():
        raise UserError(f"--verifier {spec}: give FILE.py:function")
    if not Path(path).is_file():
        raise UserError(f"--verifier {spec}: {path}: no such file; check the path")
    return Path(path), function


def check_verifier(spec: str) -> None:
    """Raise UserError, in one line, if the verifier's file or function cannot be loaded."""
    VerifierProcess(spec).stop()


def record_verifier(
    spec: str | None, failures: Mapping[ProblemId, Mapping[str, int]]
) -> dict[str, Any]:
    """Return what run.json and metrics.json say of the verifier; {} without one.

    It is the file, its SHA-256, the function, and the ``failures`` of each problem, by kind.
    """
    if spec is None:
        return {}
    file, function = split_spec(spec)
    told = {str(problem_id): dict(counts) for problem_id, counts in failures.items() if counts}
    facts = {"file": str(file), "function": function, "sha256": file_sha256(file)}
    return {"verifier": facts | {"n_not_verified": _count(failures), "not_verified": told}}


def failure_lines(failures: Mapping[ProblemId, Mapping[str, int]]) -> list[str]:
    """Return lines that say which completions the verifier could not judge; [] if it judged all."""
    found = {problem_id: counts for problem_id, counts in failures.items() if counts}
    if not found:
        return []
    lines = [
        f"warning: the verifier could not judge {_count(found)} completions, of {len(found)} "
        "problems; they count as not right:"
    ]
    for problem_id, counts in list(found.items())[:MAX_SHOWN]:
        each = "; ".join(f"{failure} ({n})" for failure, n in counts.items())
        lines.append(f"  problem {problem_id}: {each}")
    if len(found) > MAX_SHOWN:
        lines.append(f"  and {len(found) - MAX_SHOWN} more problems, all in the JSON file")
    return lines


def _count(failures: Mapping[ProblemId, Mapping[str, int]]) -> int:
    return sum(sum(counts.values()) for counts in failures.values())


def verify(problem: Problem, completion: str, spec: str) -> Outcome:
    """Return the judgement of one completion by the verifier ``spec``.

    A text is the answer. It is right if it equals the row's gold answer: as a number, where both
    are numbers (screl.grading.numbers), else as text without case and repeated blanks.
    """
    kind, value = _process_of(spec, os.getpid()).call(problem.row, completion)
    match kind:
        case "right" | "wrong":
            return Outcome(kind, kind == "right")
        case "answer" if value is not None and not value.strip():
            return Outcome(None, False)
        case "answer":
            gold = short_gold(problem)
            if gold is None:
                return Outcome(None, False, "no gold: returned a text, but the row has no answer")
            answer = str(value).strip()
            return Outcome(answer, same_answer(answer, gold))
    return Outcome(None, False, f"{kind}: {value}")


def short_gold(problem: Problem) -> str | None:
    """Return the problem's final answer as text; None if it has none."""
    if problem.answer is not None:
        return problem.answer
    boxed = last_boxed(problem.solution)
    after = problem.solution.rpartition("####")[2] if "####" in problem.solution else ""
    return boxed or after.strip() or None


def same_answer(first: str, second: str) -> bool:
    """Return whether two answers are the same number or the same text.

    >>> same_answer("1,200", "1200.0"), same_answer("3 March", "3  march"), same_answer("3", "4")
    (True, True, False)
    """
    numbers = read_number(first), read_number(second)
    if None not in numbers:
        return numbers[0] == numbers[1]
    return first.casefold().split() == second.casefold().split()


@lru_cache(maxsize=8)
def _process_of(spec: str, pid: int) -> VerifierProcess:
    """Return this process's own verifier: after a fork, the parent's must not be shared."""
    process = VerifierProcess(spec)
    atexit.register(lambda: process.stop() if os.getpid() == pid else None)
    return process

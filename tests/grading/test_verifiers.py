"""A user's verifier judges completions; nothing that it does stops the stage or passes unseen."""

import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from screl.core.io import UserError, file_sha256
from screl.core.problems import Problem
from screl.grading.verifiers import (
    Outcome,
    _process_of,
    check_verifier,
    failure_lines,
    record_verifier,
    verify,
)

PROBLEM = Problem(0, "1+1?", "<<1+1=2>>\n#### 2", 1, row={"query": "1+1?", "level": 3})

Judge = Callable[..., Outcome]


@pytest.fixture
def judge(tmp_path: Path) -> Iterator[Judge]:
    """A function that judges a completion by the body of a verifier."""

    def judge(body: str, completion: str = "It is 2.", problem: Problem = PROBLEM) -> Outcome:
        path = tmp_path / "check.py"
        path.write_text(f"TIME_LIMIT_S, MEMORY_LIMIT_MB = 0.5, 200\n{body}\n")
        _process_of.cache_clear()
        return verify(problem, completion, f"{path}:verify")

    yield judge
    _process_of.cache_clear()


def function(*lines: str) -> str:
    return "\n    ".join(["def verify(row, completion):", *lines])


def test_a_bool_is_the_verdict_and_the_row_is_the_data_files(judge: Judge) -> None:
    body = function("return row['level'] == 3 and '2' in completion")
    assert judge(body) == Outcome("right", True)
    assert judge(body, "It is 3.") == Outcome("wrong", False)


@pytest.mark.parametrize(
    ("answer", "gold", "outcome"),
    [
        ("2", None, Outcome("2", True)),
        ("2.0", None, Outcome("2.0", True)),
        (" 3 ", None, Outcome("3", False)),
        ("3  March", "3 march", Outcome("3  March", True)),
        ("4 March", "3 march", Outcome("4 March", False)),
        ("", None, Outcome(None, False)),
    ],
)
def test_a_text_is_the_answer_and_is_compared_with_the_gold_answer(
    judge: Judge, answer: str, gold: str | None, outcome: Outcome
) -> None:
    problem = Problem(0, "1+1?", "#### 2", 1, answer=gold)
    assert judge(function(f"return {answer!r}"), problem=problem) == outcome


def test_a_text_without_a_gold_answer_is_a_failure(judge: Judge) -> None:
    outcome = judge(function("return '2'"), problem=Problem(0, "1+1?", "", 1))
    assert outcome.failure == "no gold: returned a text, but the row has no answer"


FAILURES = {
    "raises": ("return 1 / 0", r"exception: ZeroDivisionError: .* on line 4 of check\.py"),
    "recursion": ("return verify(row, completion)", r"exception: RecursionError"),
    "exits": ("raise SystemExit(0)", r"exception: SystemExit: 0"),
    "interrupt": ("raise KeyboardInterrupt", r"exception: KeyboardInterrupt"),
    "leaves": ("import os; os._exit(0)", r"crash: ended without a result \(exit status 0\)"),
    "segfault": ("import ctypes; ctypes.string_at(0)", r"crash: .*killed by signal 11"),
    "abort": ("import os; os.abort()", r"crash: .*killed by signal 6"),
    "memory": ("return bool(bytearray(2**31))", r"memory limit: out of memory"),
    "loop": ("while True: pass", r"time limit: no result in 0\.5 s"),
    "sleep": ("import time; time.sleep(60)", r"time limit: no result in 0\.5 s"),
    "stuck": ("import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)",
              r"time limit"),
    "none": ("return None", r"wrong type: returned NoneType, not bool or str"),
    "int": ("return 1", r"wrong type: returned int, not bool or str"),
    "long": ("return 'x' * 20_000", r"wrong type: returned a text of 20,000 characters"),
    "parent": ("import os, signal; os.kill(os.getppid(), signal.SIGKILL); return True", r"crash: "),
    "stops parent": (
        "import os, signal, time; os.kill(os.getppid(), signal.SIGSTOP); time.sleep(60)", r"crash: "
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_is_told_and_the_next_call_works(
    judge: Judge, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("screl.grading.verifiers.GRACE_S", 1.0)
    line, failure = FAILURES[name]
    body = function("if completion == 'good': return True", line)
    outcome = judge(body)
    assert outcome.answer is None
    assert not outcome.is_right
    assert re.match(failure, outcome.failure), outcome.failure
    assert judge(body, "good") == Outcome("right", True)


def test_what_it_prints_does_not_get_into_the_results(judge: Judge) -> None:
    noise = "import os, sys; print('x' * 10**6); os.write(1, b'{}'); sys.stderr.write('y' * 10**6)"
    assert judge(
        f"print('at import')\n{function(noise, 'input = sys.stdin.read()', 'return True')}"
    )[1]


def test_a_call_cannot_change_what_a_later_one_sees(judge: Judge, tmp_path: Path) -> None:
    body = f"seen = []\n{function('seen.append(1)', 'row.clear()', 'return str(len(seen))')}"
    path = tmp_path / "check.py"
    path.write_text(body)
    outcomes = [verify(PROBLEM, text, f"{path}:verify").answer for text in ("a", "b", "c")]
    assert outcomes == ["1", "1", "1"]
    assert PROBLEM.row == {"query": "1+1?", "level": 3}


def test_chance_is_the_same_in_every_process(judge: Judge) -> None:
    body = "import random\n" + function("return f'{hash(completion)} {random.random()}'")
    assert judge(body).answer == judge(body).answer  # by two processes


def test_the_standard_librarys_modules_are_not_hidden_by_the_projects(judge: Judge) -> None:
    body = "import numbers, fractions\n" + function("return isinstance(1, numbers.Number)")
    assert judge(body) == Outcome("right", True)


def test_a_verifier_that_forks_gives_one_result_and_leaves_no_process(
    judge: Judge, tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"
    body = function(
        "import os, time",
        "if os.fork() == 0:",
        "    os.setsid()",  # out of reach of its group
        f"    open({str(pid_file)!r}, 'w').write(str(os.getpid()))",
        "    time.sleep(60)",
        f"while not os.path.exists({str(pid_file)!r}): pass",
        "time.sleep(0.1)",
        "return True",
    )
    assert judge(body) == Outcome("right", True)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


def test_a_stuck_call_ends_in_time(judge: Judge) -> None:
    begin = time.monotonic()
    assert judge(function("import os", "while os.fork() >= 0: os.wait()")).failure
    assert time.monotonic() - begin < 10


def test_the_file_may_import_its_neighbors_and_define_dataclasses(
    judge: Judge, tmp_path: Path
) -> None:
    (tmp_path / "helper.py").write_text("ANSWER = 2\n")
    body = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\nimport helper\n"
        "@dataclass\nclass A:\n    x: int\n" + function("return A(helper.ANSWER).x == 2")
    )
    path = tmp_path / "neighbor.py"
    path.write_text(body)
    assert verify(PROBLEM, "", f"{path}:verify") == Outcome("right", True)


@pytest.mark.parametrize(
    ("content", "spec", "error"),
    [
        ("", "check.py", "give FILE.py:function"),
        ("", "check.py:", "give FILE.py:function"),
        (None, "check.py:verify", r"check\.py: no such file"),
        ("x = 1", "check.py:verify", r"check\.py has no function 'verify'"),
        ("verify = 1", "check.py:verify", r"check\.py has no function 'verify'"),
        ("def verify(:", "check.py:verify", r"cannot be imported \(SyntaxError"),
        ("import nothing_like_this", "check.py:verify", "cannot be imported .ModuleNotFoundError"),
        ("raise SystemExit", "check.py:verify", "cannot be imported .SystemExit"),
        ("import os; os._exit(3)", "check.py:verify", "could not be imported"),
    ],
)
def test_a_verifier_that_cannot_be_loaded_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, spec: str, error: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("check.py").write_text(content)
    with pytest.raises(UserError, match=error) as caught:
        check_verifier(spec)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"--verifier {spec}: ")


def test_the_verifier_is_recorded_with_its_hash(tmp_path: Path) -> None:
    path = tmp_path / "check.py"
    path.write_text(function("return True"))
    failures = {0: Counter(), 7: Counter({"crash: it": 2, "time limit: it": 1})}
    assert record_verifier(None, {}) == {}
    assert record_verifier(f"{path}:verify", failures)["verifier"] == {
        "file": str(path),
        "function": "verify",
        "sha256": file_sha256(path),
        "n_not_verified": 3,
        "not_verified": {"7": {"crash: it": 2, "time limit: it": 1}},
    }
    assert failure_lines({0: Counter()}) == []
    assert failure_lines(failures) == [
        "warning: the verifier could not judge 3 completions, of 1 problems; they count as not "
        "right:",
        "  problem 7: crash: it (2); time limit: it (1)",
    ]
    many = failure_lines({i: Counter({"crash: it": 1}) for i in range(30)})
    assert len(many) == 12
    assert many[-1].endswith("and 20 more problems, all in the JSON file")

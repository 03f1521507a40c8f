"""Break every line of the modules that decide the results, and check that a test fails each time.

    python scripts/mutation_check.py [MODULE ...]    # such as scoring/votes; default: all MODULES

Tries each fault of scripts/mutants.py in a temporary copy of the source and runs the tests of the
module, tests/FOLDER/test_MODULE.py, with hypothesis seeded. Prints how many mutants there were, how
many a test killed, and every survivor; exits with status 1 if one is not in EQUIVALENT. Needs
Linux: each mutant runs in a forked process, to save the slow imports, with limited time and memory.
"""

import argparse
import os
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

import hypothesis
import numpy  # noqa: F401 - imported once, for all forked processes
import pytest
import rapidfuzz.distance  # noqa: F401

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.mutants import mutants

ROOT = Path(__file__).resolve().parents[1]
MODULES = (
    "grading/answers",
    "grading/boxed",
    "grading/choices",
    "grading/numbers",
    "grading/paths",
    "grading/spelling",
    "grading/styles",
    "grading/thinking",
    "grading/verdict",
    "grading/written",
    "rejection/selection",
    "rejection/filter",
    "scoring/votes",
)
# Modules that are tested through the one that uses them.
TESTED_BY = {
    "grading/boxed": "grading/formulas",
    "grading/numbers": "grading/answers",
    "grading/spelling": "grading/formulas",
}
CPU_SECONDS = 60  # ten times as long as a module's tests; a mutant may loop forever
MEMORY_BYTES = 8 << 30  # or fill the memory

# Mutants that behave like the module, and why no test can fail.
_FARTHER = "if current is None or (-far, candidate.order) < (-current[0], current[1].order):"
_FILTER, _XX_FILTER = '"filter"', "'XXfilter'"
_PROBLEM, _XX_PROBLEM = '"problem"', "'XXproblem'"
_BAR = 'bar = progress_bar(len(problems), "filter", "problem")'
_LEAD = "lead = 1 if winner is None else counts[answer] - counts[winner]"
EQUIVALENT = {
    r'if "\0" in text: -> if True:': "a text without NUL is not changed",
    r'text = text.split("\0", maxsplit=1)[0] -> text = text.split("\0", maxsplit=2)[0]': (
        "what follows the first NUL is not used"
    ),
    "if len(a) != len(b): -> if True:": "adds nothing if there is no further line",
    f"{_FARTHER} -> if current is None or "
    "((-far, candidate.order) <= (-current[0], current[1].order)):": "only the same sample has the "
    "same text, source and sample_id",
    f"{_BAR} -> {_BAR.replace(_FILTER, _XX_FILTER)}": "only the progress bar differs",
    f"{_BAR} -> {_BAR.replace(_PROBLEM, _XX_PROBLEM)}": "only the progress bar differs",
    "bar.update() -> pass": "only the progress bar differs",
    "bar.close() -> pass": "only the progress bar differs",
    'if verdict.reason == "valid" and rules.process_checks: -> '
    "if (verdict.reason == 'valid'):": "without process checks, none fails",
    "counts[answer] += 1 -> counts[answer] += 2": "the order of the counts is the same",
    f"{_LEAD} -> {_LEAD.replace('winner is None', 'False')}": "a Counter's missing count is 0",
    f"{_LEAD} -> {_LEAD.replace('1 if', '2 if')}": "only its sign matters",
    "if lead > 0 or (lead == 0 and first_at[answer] < first_at[winner]): -> "
    "if lead > 0 or (lead == 0 and (first_at[answer] <= first_at[winner])):": (
        "no other answer has the position of the winner"
    ),
    "most = max(counts.values(), default=0) -> most = max(counts.values(), default=1)": (
        "without answers nothing is returned in any case"
    ),
}


def tests_of(module: str) -> str:
    """Return the file that holds the tests of ``module``, such as scoring/votes."""
    path = Path(TESTED_BY.get(module, module))
    return f"tests/{path.parent}/test_{path.name}.py"


def is_green(copied: Path, module: str) -> bool:
    """Return whether the tests of ``module`` pass in the copy, in a forked process."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] == 0
    status = 1
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        log = os.open(copied / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir(copied)
        options = "-x -q -p no:cacheprovider -p no:xdist --assert=plain --hypothesis-seed=0"
        status = pytest.main([*options.split(), tests_of(module)])
    finally:
        os._exit(status)


def check(module: str, copied: Path) -> int:
    """Try the mutants of ``module``, print those that survive, and return how many should not."""
    path = copied / f"screl/{module}.py"
    source = path.read_text(encoding="utf-8")
    if not is_green(copied, module):
        sys.exit(
            f"{tests_of(module)} fails without any change:\n{(copied / 'log.txt').read_text()}"
        )
    start, tried = time.monotonic(), mutants(source)
    survivors = []
    for text, change in tried.items():
        path.write_text(text, encoding="utf-8")
        if is_green(copied, module):
            survivors.append(change)
    path.write_text(source, encoding="utf-8")
    unknown = [change for change in survivors if change[1] not in EQUIVALENT]
    print(
        f"{module}: {len(tried)} mutants, {len(tried) - len(survivors)} killed, "
        f"{len(survivors) - len(unknown)} equivalent, {len(unknown)} survived; "
        f"{time.monotonic() - start:.0f} s",
        flush=True,
    )
    for line, was_and_now in unknown:
        print(f"  screl/{module}.py:{line}: {was_and_now}", flush=True)
    return len(unknown)


def main() -> int:
    """Check the modules; return 1 if a mutant survived."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "modules", nargs="*", metavar="MODULE", help=f"default: {' '.join(MODULES)}"
    )
    modules = parser.parse_args().modules or MODULES
    for module in modules:
        if not (ROOT / tests_of(module)).is_file():
            parser.error(f"{tests_of(module)} does not exist; name a module like scoring/votes")
    sys.dont_write_bytecode = True  # a .pyc cannot distinguish mutants of the same second and size
    hypothesis.settings.register_profile(
        "mutants",
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    )  # do not store failures or shrink them
    hypothesis.settings.load_profile("mutants")
    with tempfile.TemporaryDirectory() as folder:
        copied = Path(folder)
        skip = shutil.ignore_patterns("__pycache__")
        for name in ("screl", "tests"):
            shutil.copytree(ROOT / name, copied / name, ignore=skip)
        shutil.copy(ROOT / "pyproject.toml", copied)
        return int(sum(check(module, copied) for module in modules) > 0)


if __name__ == "__main__":
    sys.exit(main())

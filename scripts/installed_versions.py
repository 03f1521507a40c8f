"""Print one line if the installed packages differ from the pins of requirements files.

    python scripts/installed_versions.py requirements.txt [MORE ...]

Imports only the standard library, since any package may be missing.
"""

import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

PIN = re.compile(r"([\w.-]+)==([\w.]+)")


def pins(path: Path) -> Iterator[tuple[str, str]]:
    """Yield package and version of every pin in a requirements file and in those it includes."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("-r "):
            yield from pins(path.parent / line.removeprefix("-r ").strip())
        elif pin := PIN.match(line):
            yield pin[1], pin[2]


def differences(paths: list[Path]) -> list[str]:
    """Return the differences, such as "torch 2.11.0 instead of 2.13.0" and "no gguf"."""
    found = []
    for package, version in dict.fromkeys(pin for path in paths for pin in pins(path)):
        try:
            installed = metadata.version(package).partition("+")[0]  # 2.13.0+cpu counts as 2.13.0
        except metadata.PackageNotFoundError:
            found.append(f"no {package}")
            continue
        if installed != version:
            found.append(f"{package} {installed} instead of {version}")
    return found


if __name__ == "__main__":
    if found := differences([Path(name) for name in sys.argv[1:]]):
        print(f"this Python differs from {' '.join(sys.argv[1:])}: {', '.join(found)}")

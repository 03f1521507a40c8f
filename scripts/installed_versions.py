"""How the packages that are installed differ from requirements files; one line, or nothing.

python scripts/installed_versions.py requirements.txt [MORE ...]

Needs Python alone: it says what is missing where nothing of it may be there.
"""

import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

PIN = re.compile(r"([\w.-]+)==([\w.]+)")


def pins(path: Path) -> Iterator[tuple[str, str]]:
    """Package and version of every line of a requirements file, and of those that it includes."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("-r "):
            yield from pins(path.parent / line.removeprefix("-r ").strip())
        elif pin := PIN.match(line):
            yield pin[1], pin[2]


def differences(paths: list[Path]) -> list[str]:
    """What is not as the files say: "torch 2.11.0 instead of 2.13.0", "no gguf"."""
    found = []
    for package, version in dict.fromkeys(pin for path in paths for pin in pins(path)):
        try:
            installed = metadata.version(package).partition("+")[0]  # 2.13.0+cpu is 2.13.0
        except metadata.PackageNotFoundError:
            found.append(f"no {package}")
            continue
        if installed != version:
            found.append(f"{package} {installed} instead of {version}")
    return found


if __name__ == "__main__":
    if found := differences([Path(name) for name in sys.argv[1:]]):
        print(f"this Python differs from {' '.join(sys.argv[1:])}: {', '.join(found)}")

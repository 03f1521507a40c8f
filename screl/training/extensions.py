"""Find locks that killed builds of DeepSpeed's extensions left, for which a run waits forever.

torch builds an extension under a file ``lock`` that the building process keeps open and then
deletes. Every other process waits until the file is gone, even if its maker was killed.
"""

import os
from contextlib import suppress
from pathlib import Path

from torch.utils.cpp_extension import get_default_build_root

from screl.core.io import UserError


def refuse_dead_locks() -> None:
    """Raise UserError if an extension is locked and no process of this machine has the lock open.

    All processes must have called this before one of them builds an extension.
    """
    folder = Path(os.environ.get("TORCH_EXTENSIONS_DIR") or get_default_build_root())
    locks = {lock.resolve() for lock in folder.rglob("lock") if lock.is_file()}
    if dead := sorted(locks - _open_files()):
        raise UserError(
            f"{dead[0]}: left by a build that was killed, and DeepSpeed would wait for it forever; "
            f"unless another machine is building there now, run: rm {' '.join(map(str, dead))}"
        )


def _open_files() -> set[Path]:
    """Return the files that are open on this machine, in processes that may be seen (Linux)."""
    found = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):  # closed in the meantime
            found.add(link.readlink())
    return found

"""Locks of extensions that are being built are waited for; those of killed builds are named."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from screl.core.io import UserError
from screl.training.extensions import refuse_dead_locks

# what torch.utils.cpp_extension does while it builds
BUILD = """
import sys, time
from torch.utils.file_baton import FileBaton
assert FileBaton(sys.argv[1]).try_acquire()
print("locked", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("named", [True, False])
def test_the_lock_of_a_killed_build_is_named(
    named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the folder is TORCH_EXTENSIONS_DIR or torch's own choice below the home folder."""
    if named:
        monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
        lock = tmp_path / "cpu_adam/lock"
    else:
        monkeypatch.delenv("TORCH_EXTENSIONS_DIR", raising=False)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))
        lock = tmp_path / ".cache/torch_extensions/py311_cpu/cpu_adam/lock"
    refuse_dead_locks()  # no folder yet
    lock.parent.mkdir(parents=True)
    refuse_dead_locks()
    build = subprocess.Popen(
        [sys.executable, "-c", BUILD, str(lock)], stdout=subprocess.PIPE, text=True
    )
    assert build.stdout is not None
    assert build.stdout.readline() == "locked\n"
    refuse_dead_locks()  # somebody is building
    build.kill()
    build.communicate()
    with pytest.raises(UserError, match=rf"^{lock}: left by .* run: rm {lock}$"):
        refuse_dead_locks()
    os.remove(lock)
    refuse_dead_locks()

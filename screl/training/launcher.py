"""Understand what the launchers ``deepspeed`` and ``accelerate launch`` do to a command.

``torchrun`` sets the environment that ``processes`` reads; the others set the same, except where
they start several processes that know nothing of each other, or one where several were asked for.
"""

import os
import sys
from pathlib import Path

from screl.core.io import UserError

USE_TORCHRUN = "use torchrun --nproc_per_node N train.py ..., with N processes per machine"


def read_launcher() -> None:
    """Drop the option that ``deepspeed`` adds, which repeats an environment variable.

    Raises UserError if this process would train alone although several were asked for.
    """
    sys.argv = [word for word in sys.argv if not word.startswith("--local_rank=")]
    if "RANK" in os.environ:
        return
    by_mpi = os.environ.get("OMPI_COMM_WORLD_SIZE") or os.environ.get("PMI_SIZE") or "1"
    if int(by_mpi) > 1:
        raise UserError(
            f"mpirun started {by_mpi} processes that would all train alone; {USE_TORCHRUN}"
        )
    if "ACCELERATE_MIXED_PRECISION" in os.environ and (asked := _asked_of_accelerate()) > 1:
        raise UserError(
            f"accelerate launch was asked for {asked} processes and started one, as on CPUs "
            f"without --multi_gpu; {USE_TORCHRUN}"
        )


def _asked_of_accelerate() -> int:
    """Return the number of processes that the command line or config file of accelerate names."""
    from accelerate.commands.config.config_args import default_config_file, load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    command = Path(f"/proc/{os.getppid()}/cmdline")
    words = command.read_text().split("\0")[:-1] if command.exists() else []
    while words and Path(words.pop(0)).name not in ("launch", "accelerate-launch"):
        pass
    if not words:
        return 1
    given = launch_command_parser().parse_args(words)
    if given.num_processes:
        return int(given.num_processes)
    if given.config_file or (Path(default_config_file).is_file() and not given.cpu):
        return int(load_config_from_file(given.config_file).num_processes)
    return 1

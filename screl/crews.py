"""Workers on this machine: one in this process, or several, each a process with its own GPUs."""

import multiprocessing
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait

from screl.coordinator import WorkerLostError
from screl.files import UserError
from screl.requests import Request
from screl.worker import Answer, EngineSpec, Workbench

SECONDS_TO_END = 10.0  # an engine that is told to end has this long


class OwnProcess:
    """A crew of one, which works while it is asked for its answer."""

    def __init__(self, spec: EngineSpec) -> None:
        self._spec = spec

    def hire(self, n_present: int, batch_size: int) -> list["OwnWorker"]:
        """One, if there is none."""
        return [] if n_present else [OwnWorker(replace(self._spec, batch_size=batch_size))]

    def wait(self, workers: list["OwnWorker"]) -> list["OwnWorker"]:
        """All of them."""
        return workers


class OwnWorker:
    """An engine in this process."""

    def __init__(self, spec: EngineSpec) -> None:
        self._bench = Workbench(spec)

    def ask(self, requests: list[Request], enough: int) -> None:
        """Remember what is wanted."""
        self._asked = requests, enough

    def answer(self) -> Answer:
        """Do it."""
        return self._bench.exchange(*self._asked)

    def stop(self) -> None:
        """Drop the engine."""
        self._bench.close()


class Processes:
    """A process for each group of devices: of GPUs, or without any of the CPU's cores."""

    def __init__(self, spec: EngineSpec, groups: Sequence[Sequence[int]], on_gpus: bool) -> None:
        self._spec, self._on_gpus = spec, on_gpus
        self._free = list(groups)

    def hire(self, n_present: int, batch_size: int) -> list["ProcessWorker"]:
        """One for each group that has none."""
        spec = replace(self._spec, batch_size=batch_size)
        free, self._free = self._free, []
        return [ProcessWorker(spec, group, self._on_gpus, self._free) for group in free]

    def wait(self, workers: list["ProcessWorker"]) -> list["ProcessWorker"]:
        """Those that have answered or died, when there is one."""
        ready = wait([worker.connection for worker in workers])
        return [worker for worker in workers if worker.connection in ready]


class ProcessWorker:
    """An engine in a process of its own."""

    def __init__(
        self, spec: EngineSpec, group: Sequence[int], on_gpus: bool, free: list[Sequence[int]]
    ) -> None:
        self._group, self._free = group, free
        context = multiprocessing.get_context("spawn")  # a forked process cannot use the GPU
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, spec, group, on_gpus))
        self._process.start()
        theirs.close()  # so that the end of the process is the end of the connection

    def ask(self, requests: list[Request], enough: int) -> None:
        """Send the request; should the process be dead, ``answer`` will tell."""
        with suppress(BrokenPipeError):
            self.connection.send((requests, enough))

    def answer(self) -> Answer:
        """Receive what came of it."""
        try:
            answer = self.connection.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            raise WorkerLostError(
                f"its process ended with exit code {self._process.exitcode}"
            ) from None
        if isinstance(answer, UserError):
            raise answer
        assert isinstance(answer, Answer)
        return answer

    def stop(self) -> None:
        """End the process; its devices are free again."""
        self.connection.close()
        self._process.join(SECONDS_TO_END)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._free.append(self._group)


def serve(connection: Connection, spec: EngineSpec, group: Sequence[int], on_gpus: bool) -> None:
    """Exchange with the other end of ``connection`` until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who deals is interrupted, and closes
    if on_gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, group))
    elif hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, group)  # threads are as many as the cores that are left
    bench = Workbench(spec)
    with suppress(EOFError, OSError):  # the other end is gone
        while True:
            asked = connection.recv()
            try:
                connection.send(bench.exchange(*asked))
            except UserError as error:
                connection.send(error)
                return


def device_groups(
    n_devices: int, tensor_parallel_size: int, n_workers: int | None
) -> list[list[int]]:
    """The devices of each worker: as many workers as there is room for, or ``n_workers``.

    UserError if there are not enough devices.
    """
    n_workers = n_workers or max(1, n_devices // tensor_parallel_size)
    size = tensor_parallel_size
    if n_workers * size > n_devices:
        raise UserError(
            f"{n_workers} workers of {size} GPUs each need {n_workers * size}, but {n_devices} "
            "are visible; lower --n_workers or --tensor_parallel_size"
        )
    return [list(range(i * size, (i + 1) * size)) for i in range(n_workers)]


def core_groups(n_workers: int) -> list[list[int]]:
    """The cores of this process, dealt out to workers. UserError if there are more workers."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if cores and n_workers > len(cores):
        raise UserError(f"--n_workers {n_workers}: there are {len(cores)} cores")
    return [cores[i::n_workers] for i in range(n_workers)]

"""What runs beside each model: it makes an engine and keeps it full, for whoever deals requests.

Workers on this machine: one in this process, or several, each a process with its own GPUs.
"""

import multiprocessing
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait

from screl.core.cost import PROCESSORS, Devices
from screl.core.io import UserError
from screl.sampling.engine import EngineHost, EngineSpec, ExchangeResult, Request
from screl.sampling.scheduler import WorkerLostError

SECONDS_TO_END = 10.0  # an engine that is told to end has this long
SECONDS_TO_WAIT = 10.0  # for an answer, before others have a look


DeviceGroup = Sequence[
    str
]  # names of devices: GPUs as in CUDA_VISIBLE_DEVICES, or numbers of cores


class InProcessPool:
    """A crew of one, which works while it is asked for its answer."""

    def __init__(self, spec: EngineSpec) -> None:
        self._spec = spec

    def hire(self, n_present: int, batch_size: int) -> list["InProcessWorker"]:
        """One, if there is none."""
        return [] if n_present else [InProcessWorker(replace(self._spec, batch_size=batch_size))]

    def wait(self, workers: list["InProcessWorker"]) -> list["InProcessWorker"]:
        """All of them."""
        return workers

    def devices(self) -> Devices:
        """The GPU, where there is one."""
        import torch

        return Devices("gpu", 1) if torch.accelerator.is_available() else PROCESSORS


class InProcessWorker:
    """An engine in this process."""

    def __init__(self, spec: EngineSpec) -> None:
        self._bench = EngineHost(spec)

    def ask(self, requests: list[Request], enough: int) -> None:
        """Remember what is wanted."""
        self._asked = requests, enough

    def answer(self) -> ExchangeResult:
        """Do it."""
        return self._bench.exchange(*self._asked)

    def stop(self) -> None:
        """Drop the engine."""
        self._bench.close()


class ProcessPool:
    """A process for each group of devices: of GPUs, or without any of the CPU's cores."""

    def __init__(self, spec: EngineSpec, groups: Sequence[DeviceGroup], on_gpus: bool) -> None:
        self._spec, self._on_gpus = spec, on_gpus
        self._free = list(groups)
        self._n_devices = sum(map(len, groups))

    def hire(self, n_present: int, batch_size: int) -> list["ProcessWorker"]:
        """One for each group that has none."""
        spec = replace(self._spec, batch_size=batch_size)
        workers = [ProcessWorker(spec, group, self._on_gpus, self._free) for group in self._free]
        self._free.clear()
        return workers

    def wait(self, workers: list["ProcessWorker"]) -> list["ProcessWorker"]:
        """Those that have answered or died, when there is one; after a while, none."""
        # its end too: a child that it leaves behind may hold the other end of the connection
        events = {worker: (worker.connection, worker.process.sentinel) for worker in workers}
        ready = set(wait([event for both in events.values() for event in both], SECONDS_TO_WAIT))
        return [worker for worker, both in events.items() if ready.intersection(both)]

    def devices(self) -> Devices:
        """All groups; of the processes that vLLM starts the system never tells the time, so its
        cores count as GPUs do."""
        if self._on_gpus:
            return Devices("gpu", self._n_devices)
        is_counted = self._spec.engine == "transformers" or not self._n_devices
        return PROCESSORS if is_counted else Devices("cpu", self._n_devices)


class ProcessWorker:
    """An engine in a process of its own."""

    def __init__(
        self, spec: EngineSpec, group: DeviceGroup, on_gpus: bool, free: list[DeviceGroup]
    ) -> None:
        self._group, self._free = group, free
        context = multiprocessing.get_context("spawn")  # a forked process cannot use the GPU
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, spec, group, on_gpus))
        self.process.start()
        theirs.close()  # so that the end of the process is the end of the connection

    def ask(self, requests: list[Request], enough: int) -> None:
        """Send the request; should the process be dead, ``answer`` will tell."""
        with suppress(OSError):
            self.connection.send((requests, enough))

    def answer(self) -> ExchangeResult:
        """Receive what came of it, when ``wait`` has returned this worker."""
        try:
            if not self.connection.poll():  # so it was not an answer that ended the wait
                raise EOFError
            answer = self.connection.recv()
        except (EOFError, OSError):  # OSError: it ended in the middle of an answer
            self.process.join(SECONDS_TO_END)
            code = self.process.exitcode
            raise WorkerLostError(f"its process ended with exit code {code}") from None
        if isinstance(answer, UserError):
            raise answer
        assert isinstance(answer, ExchangeResult)
        return answer

    def stop(self) -> None:
        """End the process and what it has started; its devices are free again."""
        self.connection.close()
        self.process.join(SECONDS_TO_END)
        assert self.process.pid is not None
        self.process.kill()  # for one that has not come to be the head of a group yet
        with suppress(ProcessLookupError, PermissionError):  # nothing of it is left
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.join()
        self._free.append(self._group)


def serve(connection: Connection, spec: EngineSpec, group: DeviceGroup, on_gpus: bool) -> None:
    """Exchange with the other end of ``connection`` until it is closed."""
    # A group of its own, so that it can be ended with all that it starts (vLLM's processes), and so
    # that Ctrl-C reaches only the one who deals, who then closes the connection.
    os.setsid()
    if on_gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(group)
    elif hasattr(os, "sched_setaffinity"):
        import torch

        os.sched_setaffinity(0, map(int, group))
        # more threads than cores wait for each other, spinning; this process may have imported
        # torch, which counts the cores, before they were taken away
        torch.set_num_threads(min(torch.get_num_threads(), len(group)))
    bench = EngineHost(spec)
    with suppress(EOFError, OSError):  # the other end is gone
        while True:
            asked = connection.recv()
            try:
                connection.send(bench.exchange(*asked))
            except UserError as error:
                connection.send(error)
                return


def visible_gpus(n: int) -> DeviceGroup:
    """The names of the ``n`` GPUs that this process sees: as the user gave them, or numbers."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [name.strip() for name in named.split(",")][:n] if named else [str(i) for i in range(n)]


def device_groups(
    gpus: DeviceGroup, tensor_parallel_size: int, n_workers: int | None
) -> list[DeviceGroup]:
    """The GPUs of each worker: as many workers as there is room for, or ``n_workers``.

    UserError if there are not enough.
    """
    size = tensor_parallel_size
    n_workers = n_workers or max(1, len(gpus) // size)
    if n_workers * size > len(gpus):
        raise UserError(
            f"{n_workers} workers of {size} GPUs each need {n_workers * size}, but {len(gpus)} "
            "are visible; lower --n_workers or --tensor_parallel_size"
        )
    return [gpus[i * size : (i + 1) * size] for i in range(n_workers)]


def core_groups(n_workers: int) -> list[DeviceGroup]:
    """The cores of this process, dealt out to workers. UserError if there are more workers."""
    has_cores = hasattr(os, "sched_getaffinity")
    cores = [str(core) for core in sorted(os.sched_getaffinity(0))] if has_cores else []
    if cores and n_workers > len(cores):
        raise UserError(f"--n_workers {n_workers}: there are {len(cores)} cores")
    return [cores[i::n_workers] for i in range(n_workers)]

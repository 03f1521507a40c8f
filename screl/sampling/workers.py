"""Run engines on this machine: one in this process, or several in subprocesses."""

import multiprocessing
import os
import signal
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.resource_tracker import ensure_running

from screl.core.cost import PROCESSORS, Devices
from screl.core.io import UserError
from screl.core.stopping import stops_held_back
from screl.sampling.engine import EngineHost, EngineSpec, ExchangeResult, Request
from screl.sampling.scheduler import WorkerLostError

SECONDS_TO_END = 10.0  # for an engine to end by itself after its connection is closed
SECONDS_TO_WAIT = 10.0  # for a result, before the scheduler takes its next step

# Names of devices: GPUs as in CUDA_VISIBLE_DEVICES, or CPU cores by number.
DeviceGroup = Sequence[str]


class InProcessPool:
    """A pool with a single worker in this process, which runs when its result is received."""

    def __init__(self, spec: EngineSpec) -> None:
        self._spec = spec

    def start_workers(self, n_running: int, batch_size: int) -> list["InProcessWorker"]:
        """Return one worker if none is running."""
        return [] if n_running else [InProcessWorker(replace(self._spec, batch_size=batch_size))]

    def wait(self, workers: list["InProcessWorker"]) -> list["InProcessWorker"]:
        """Return ``workers``."""
        return workers

    def devices(self) -> Devices:
        """Return this process's GPU, or its processors if it has no GPU."""
        import torch

        return Devices("gpu", 1) if torch.accelerator.is_available() else PROCESSORS


class InProcessWorker:
    """An engine in this process."""

    def __init__(self, spec: EngineSpec) -> None:
        self._host = EngineHost(spec)

    def send(self, requests: list[Request], enough: int) -> None:
        """Keep the requests for ``receive``."""
        self._sent = requests, enough

    def receive(self) -> ExchangeResult:
        """Run the exchange."""
        return self._host.exchange(*self._sent)

    def stop(self) -> None:
        """Close the engine."""
        self._host.close()


class SubprocessPool:
    """A pool with a worker process for each group of GPUs or, without GPUs, of CPU cores."""

    def __init__(self, spec: EngineSpec, groups: Sequence[DeviceGroup], on_gpus: bool) -> None:
        self._spec, self._on_gpus = spec, on_gpus
        self._free = list(groups)
        self._n_devices = sum(map(len, groups))

    def start_workers(self, n_running: int, batch_size: int) -> list["SubprocessWorker"]:
        """Return a worker for each group of devices that has none."""
        spec = replace(self._spec, batch_size=batch_size)
        workers = [SubprocessWorker(spec, group, self._on_gpus, self._free) for group in self._free]
        self._free.clear()
        return workers

    def wait(self, workers: list["SubprocessWorker"]) -> list["SubprocessWorker"]:
        """Return the workers that have a result or have died, waiting for the first of them.

        Returns [] after SECONDS_TO_WAIT.
        """
        # wait for the process too: a child process may keep its end of the connection open
        events = {worker: (worker.connection, worker.process.sentinel) for worker in workers}
        ready = set(wait([event for both in events.values() for event in both], SECONDS_TO_WAIT))
        return [worker for worker, both in events.items() if ready.intersection(both)]

    def devices(self) -> Devices:
        """Return all devices of all groups.

        vLLM's own processes are never waited for, so the system does not report their CPU time; the
        cores they run on count as held, like GPUs.
        """
        if self._on_gpus:
            return Devices("gpu", self._n_devices)
        is_counted = self._spec.engine == "transformers" or not self._n_devices
        return PROCESSORS if is_counted else Devices("cpu", self._n_devices)


class SubprocessWorker:
    """An engine in a process of its own."""

    def __init__(
        self, spec: EngineSpec, group: DeviceGroup, on_gpus: bool, free: list[DeviceGroup]
    ) -> None:
        self._group, self._free = group, free
        context = multiprocessing.get_context("spawn")  # a forked process cannot use the GPU
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve_exchanges, args=(theirs, spec, group, on_gpus))
        ensure_running()  # it would start with the process otherwise, and allow Ctrl-C again
        with stops_held_back():  # from the process too, until it leads a process group of its own
            self.process.start()
        theirs.close()  # so that the end of the process is the end of the connection

    def send(self, requests: list[Request], enough: int) -> None:
        """Send the requests; if the process is dead, ``receive`` says so."""
        with suppress(OSError):
            self.connection.send((requests, enough))

    def receive(self) -> ExchangeResult:
        """Return the result; call this after ``wait`` has returned this worker."""
        try:
            if not self.connection.poll():  # the wait ended because the process did
                raise EOFError
            result = self.connection.recv()
        except (EOFError, OSError):  # OSError: the process ended while sending
            self.process.join(SECONDS_TO_END)
            code = self.process.exitcode
            raise WorkerLostError(f"its process ended with exit code {code}") from None
        if isinstance(result, UserError):
            raise result
        assert isinstance(result, ExchangeResult)
        return result

    def stop(self) -> None:
        """End the process and its child processes, and free its devices."""
        self.connection.close()
        self.process.join(SECONDS_TO_END)
        assert self.process.pid is not None
        self.process.kill()  # in case it does not lead a process group yet
        with suppress(ProcessLookupError, PermissionError):  # no process of the group is left
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.join()
        self._free.append(self._group)


def serve_exchanges(
    connection: Connection, spec: EngineSpec, group: DeviceGroup, on_gpus: bool
) -> None:
    """Run the exchanges requested through ``connection`` until its other end is closed."""
    # Lead a process group: this process can then be ended together with vLLM's processes, and
    # Ctrl-C reaches only the scheduler, which then closes the connection.
    os.setsid()
    if on_gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(group)
    elif hasattr(os, "sched_setaffinity"):
        import torch

        os.sched_setaffinity(0, map(int, group))
        # If threads outnumber cores, they spin while they wait for each other. torch counted the
        # cores when it was imported, which may have been before the affinity was set.
        torch.set_num_threads(min(torch.get_num_threads(), len(group)))
    with (
        closing(EngineHost(spec)) as host,
        suppress(EOFError, OSError),  # the other end is gone
    ):
        while True:
            sent = connection.recv()
            try:
                connection.send(host.exchange(*sent))
            except UserError as error:
                connection.send(error)
                return


def visible_gpus(n: int) -> DeviceGroup:
    """Return the names of this process's ``n`` GPUs, as in CUDA_VISIBLE_DEVICES if it is set."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [name.strip() for name in named.split(",")][:n] if named else [str(i) for i in range(n)]


def split_gpus(
    gpus: DeviceGroup, tensor_parallel_size: int, n_workers: int | None
) -> list[DeviceGroup]:
    """Return the GPUs of each of ``n_workers``; None means as many workers as GPUs allow.

    Raises UserError if there are too few GPUs.
    """
    size = tensor_parallel_size
    n_workers = n_workers or max(1, len(gpus) // size)
    if n_workers * size > len(gpus):
        raise UserError(
            f"--n_workers {n_workers} with --tensor_parallel_size {size} needs {n_workers * size} "
            f"GPUs, but this process sees {len(gpus)}; lower one of them"
        )
    return [gpus[i * size : (i + 1) * size] for i in range(n_workers)]


def split_cores(n_workers: int) -> list[DeviceGroup]:
    """Return the CPU cores of each worker; raise UserError if workers outnumber cores."""
    has_cores = hasattr(os, "sched_getaffinity")
    cores = [str(core) for core in sorted(os.sched_getaffinity(0))] if has_cores else []
    if cores and n_workers > len(cores):
        raise UserError(
            f"--n_workers {n_workers} needs as many cores, but this process may use {len(cores)}; "
            "lower it"
        )
    return [cores[i::n_workers] for i in range(n_workers)]

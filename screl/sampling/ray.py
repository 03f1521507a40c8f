"""Run engines on the machines of a Ray cluster, whose machines may come and go."""

import math
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from screl.core.cost import Devices
from screl.core.io import UserError
from screl.sampling.engine import EngineHost, EngineSpec, ExchangeResult, Request
from screl.sampling.scheduler import WorkerLostError

SECONDS_TO_END = 10.0  # for an actor to close its engine, before it is killed
SECONDS_TO_WAIT = 1.0  # for a result, before checking whether machines have come or gone
SECONDS_TO_NOTICE = 120.0  # without any worker, before a message says so


class RayPool:
    """A worker for each group of GPUs in the cluster or, without any GPU, for each of its CPUs."""

    def __init__(self, spec: EngineSpec, address: str, n_workers: int | None) -> None:
        """Connect to the cluster at ``address``, as in ray.init; "auto" is this machine's cluster.

        ``n_workers`` limits the number of workers; None means as many as there is room for.
        """
        import ray

        self._spec, self._most = spec, n_workers
        handler = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(
                address=address,
                # the machines of the cluster need the libraries, but no copy of this project
                runtime_env={"py_modules": [str(Path(__file__).parents[1])]},
                log_to_driver=False,
                logging_level="WARNING",
            )
        except (ConnectionError, ValueError) as error:
            raise UserError(
                f"--address {address}: no Ray cluster found ({first_line(error)}); start one with "
                "ray start --head"
            ) from None
        signal.signal(signal.SIGTERM, handler)  # ray.init sets its own, which just exits
        self._resource = "GPU" if ray.cluster_resources().get("GPU") else "CPU"
        if self._resource == "CPU":
            print("no GPU in the cluster: sampling on its CPUs", file=sys.stderr)
        self._starting: list[RayWorker] = []
        self._most_running = 0
        self._notice_at = time.monotonic() + SECONDS_TO_NOTICE

    def start_workers(self, n_running: int, batch_size: int) -> list["RayWorker"]:
        """Return the workers that have started or failed to (``receive`` raises for those), and
        begin to start others where machines have room."""
        import ray

        for _ in range(self._n_places() - n_running - len(self._starting)):
            spec = replace(self._spec, batch_size=batch_size)
            self._starting.append(RayWorker(spec, self._resource))
        ended = [w for w in self._starting if ray.wait([w.reference], timeout=0)[0]]
        self._starting = [worker for worker in self._starting if worker not in ended]
        self._most_running = max(self._most_running, n_running + len(ended))
        if n_running or ended:
            self._notice_at = time.monotonic() + SECONDS_TO_NOTICE
        elif time.monotonic() > self._notice_at:
            self._notice_at = math.inf
            size = self._spec.tensor_parallel_size
            print(
                f"still waiting for a machine with {size} free {self._resource}(s) and for its "
                "engine to start; ray status shows what is free",
                file=sys.stderr,
            )
        return ended

    def wait(self, workers: list["RayWorker"]) -> list["RayWorker"]:
        """Return the workers that have a result or have died, waiting for the first of them.

        Returns [] after SECONDS_TO_WAIT.
        """
        import ray

        references = [worker.reference for worker in [*workers, *self._starting]]
        if not references:
            time.sleep(SECONDS_TO_WAIT)
            return []
        ready, _ = ray.wait(references, timeout=SECONDS_TO_WAIT)
        return [worker for worker in workers if worker.reference in ready]

    def devices(self) -> Devices:
        """Return the devices of the most workers that ran at once."""
        if self._resource == "GPU":
            return Devices("gpu", self._most_running * self._spec.tensor_parallel_size)
        return Devices("cpu", self._most_running)

    def _n_places(self) -> int:
        import ray

        size = self._spec.tensor_parallel_size if self._resource == "GPU" else 1
        resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        places = sum(int(of_node.get(self._resource, 0)) // size for of_node in resources)
        return places if self._most is None else min(places, self._most)


class RayWorker:
    """An engine in a Ray actor; ``reference`` is the handle of the result to wait for."""

    def __init__(self, spec: EngineSpec, resource: str) -> None:
        import ray

        share: dict[str, Any] = {"num_cpus": 1}
        if resource == "GPU":
            share["num_gpus"] = spec.tensor_parallel_size
        self._actor = ray.remote(**share)(EngineHost).remote(spec)
        self.reference = self._actor.start.remote()

    def send(self, requests: list[Request], enough: int) -> None:
        """Send the requests to the actor."""
        self.reference = self._actor.exchange.remote(requests, enough)

    def receive(self) -> ExchangeResult:
        """Fetch the result."""
        import ray

        try:
            result: ExchangeResult = ray.get(self.reference)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise error.cause from None
            raise WorkerLostError(first_line(error.cause or error)) from None
        except ray.exceptions.RayError as error:
            raise WorkerLostError(first_line(error)) from None
        return result

    def stop(self) -> None:
        """End the actor and free its resources."""
        import ray

        # vLLM's processes would outlive an actor that is killed
        ray.wait([self._actor.close.remote()], timeout=SECONDS_TO_END)
        ray.kill(self._actor)


def first_line(error: Exception) -> str:
    """Return the first line of an error message."""
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else repr(error)

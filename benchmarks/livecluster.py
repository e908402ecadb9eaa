"""Dask clusters to replay on: workers with an emulated network, or real processes.

Knows neither graphs nor plans. In-process workers share this process and sleep, so that
eight of them run on a host of few cores; a `get_data` of one of them takes what the
declared network says, with no link shared. Speeds are `replay.Speeds`' affair.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

from distributed import Client, Scheduler, Worker
from distributed.utils import LoopRunner

import handout_dask as hd
from handout_dask.runtime.replay import SPEEDS, Speeds

POLL = 0.005  # s between looks at whether the scheduler is empty


@dataclass(frozen=True, slots=True)
class Network:
    """What a message from one worker to another takes.

    Parameters
    ----------
    latency : float
        Milliseconds.
    bandwidth : float
        MB/s, of each message, however many there are at once.
    """

    latency: float
    bandwidth: float

    def seconds(self, nbytes: float) -> float:
        """How long so many bytes are under way."""
        return self.latency / 1e3 + nbytes / self.bandwidth / 1e6


class DistantWorker(Worker):
    """A worker that lets others wait for its data as a network would."""

    def __init__(self, *args: Any, network: Network | None, **options: Any) -> None:
        self.network = network
        super().__init__(*args, **options)

    async def get_data(
        self, comm: Any, keys: Collection[Any], who: str | None = None, **options: Any
    ) -> Any:
        """Serve data, after the time that its way takes; to clients at once."""
        if who is not None and self.network is not None:
            known = [self.state.tasks.get(key) for key in keys]
            nbytes = sum(task.nbytes or 0 for task in known if task is not None)
            await asyncio.sleep(self.network.seconds(nbytes))
        return await super().get_data(comm, keys, who=who, **options)


class Cluster:
    """A running cluster of declared nodes, with a client that is not the default.

    Parameters
    ----------
    declared : handout_dask.Cluster
        Every node that there is, or that may join, and the links.
    absent : collection of str
        Names of nodes that are not there at first.

    Attributes
    ----------
    client : distributed.Client
        Synchronous.
    """

    client: Client

    def __init__(self, declared: hd.Cluster, absent: Collection[str] = ()) -> None:
        self.declared, self.absent = declared, frozenset(absent)

    def emulate_speeds(self) -> None:
        """Let replayed functions know how fast their node is."""
        self.client.register_plugin(Speeds(self.declared.nodes))

    def until_empty(self, timeout: float = 60.0) -> None:
        """Wait until nothing of the last run is left."""
        until = time.perf_counter() + timeout
        known = self.client.run_on_scheduler
        while known(lambda dask_scheduler: len(dask_scheduler.tasks)):
            if time.perf_counter() > until:
                raise TimeoutError(f"the scheduler keeps tasks for {timeout:g} s")
            time.sleep(POLL)

    def addresses(self) -> dict[str, str]:
        """The address of each node that is up."""
        workers = self.client.run_on_scheduler(
            lambda dask_scheduler: [
                (str(ws.name), ws.address) for ws in dask_scheduler.workers.values()
            ]
        )
        return dict(workers)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *args: Any) -> None:
        self.close()

    def close(self) -> None:
        """End it."""
        raise NotImplementedError


class Threads(Cluster):
    """Scheduler and workers in an event loop of this process.

    Parameters
    ----------
    network : Network, optional
        What is emulated; without, what is sent arrives at once.
    """

    def __init__(
        self,
        declared: hd.Cluster,
        network: Network | None = None,
        absent: Collection[str] = (),
    ) -> None:
        super().__init__(declared, absent)
        self.network = network
        self.workers: dict[str, DistantWorker] = {}
        logging.getLogger("distributed").setLevel(logging.ERROR)
        self._runner = LoopRunner(loop=None, asynchronous=False)
        self._runner.start()
        try:
            self._runner.run_sync(self._start)
            self.client = Client(
                self.scheduler.address, loop=self._runner.loop, set_as_default=False
            )
            self.emulate_speeds()
        except BaseException:
            self._runner.run_sync(self._stop)
            self._runner.stop()
            raise

    async def _start(self) -> None:
        self.scheduler = await Scheduler(
            protocol="inproc://", dashboard=False, dashboard_address="127.0.0.1:0"
        )
        await self._bring(self._first())

    def _first(self) -> list[hd.Node]:
        return [node for node in self.declared.nodes if node.name not in self.absent]

    async def _bring(self, nodes: Iterable[hd.Node]) -> None:
        for node in nodes:
            self.workers[node.name] = await DistantWorker(
                self.scheduler.address,
                name=node.name,
                nthreads=node.slots,
                memory_limit=0,
                dashboard=False,
                network=self.network,
            )

    async def _stop(self) -> None:
        for name in list(self.workers):
            await self._end(name)
        await self.scheduler.close()

    async def _end(self, name: str) -> None:
        worker = self.workers.pop(name)
        await worker.close(timeout=1, executor_wait=False, nanny=False)

    # ---------------------------------------------------------------------- events
    def lose(self, name: str) -> None:
        """A node goes, with what runs and lies on it."""
        self._runner.run_sync(self._end, name)

    def join(self, name: str) -> None:
        """A declared node comes."""
        self._runner.run_sync(self._bring, [self.declared[name]])

    def slow_down(self, name: str, factor: float) -> None:
        """What starts on a node from now on takes so many times longer."""
        self.workers[name].plugins[SPEEDS].speed /= factor

    def restore(self) -> None:
        """Bring the nodes of the beginning back, and their speeds."""
        first = {node.name: node for node in self._first()}
        for name in set(self.workers) - set(first):
            self.lose(name)
        for name in set(first) - set(self.workers):
            self.join(name)
        for name, worker in self.workers.items():
            worker.plugins[SPEEDS].speed = first[name].speed

    def close(self) -> None:
        """End it."""
        self.client.close()
        self._runner.run_sync(self._stop)
        self._runner.stop()


class Processes(Cluster):
    """A worker process for each node on this host, over TCP loopback."""

    def __init__(self, declared: hd.Cluster) -> None:
        super().__init__(declared)
        self._supervisor = hd.Supervisor(declared.nodes)
        try:
            self.client = Client(self._supervisor.cluster, set_as_default=False)
            self.client.wait_for_workers(len(declared), timeout=60)
            self.emulate_speeds()
        except BaseException:
            self._supervisor.close()
            raise

    def restore(self) -> None:
        """Nothing was done to it."""

    def close(self) -> None:
        """End it."""
        self.client.close()
        self._supervisor.close()


class Alarm:
    """Does something once, some seconds after it is set; notes when it did.

    Attributes
    ----------
    rang : float or None
        Seconds from `set` to the deed, or None if it was not done.
    """

    def __init__(self, seconds: float, deed: Callable[[], None]) -> None:
        self._seconds, self._deed = seconds, deed
        self._timer: threading.Timer | None = None
        self.rang: float | None = None
        self._failure: BaseException | None = None

    def set(self) -> None:
        """Begin to count."""
        begin = time.perf_counter()

        def ring() -> None:
            self.rang = time.perf_counter() - begin
            try:
                self._deed()
            except BaseException as error:
                self._failure = error

        self._timer = threading.Timer(self._seconds, ring)
        self._timer.daemon = True
        self._timer.start()

    def stop(self) -> None:
        """Do it no more, if it was not done; wait if it is being done, and raise."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
        if self._failure is not None:
            raise self._failure

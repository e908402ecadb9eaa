"""A scheduler and nannies as processes of their own, to be killed, frozen and cut.

Each node is a ``dask worker`` process (the nanny) with a worker process under it, as
one starts them by hand, so that nothing of them lives in the process that breaks them.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from distributed import Client

from benchmarks.breaking.netns import Hosts

START = 60.0  # s after which a process that does not come up is an error
POLL = 0.01  # s between looks at what is no event here
SCHEDULER = "distributed.cli.dask_scheduler"
WORKER = "distributed.cli.dask_worker"
# Workers import what they run by name only where it is installed.
ROOT = str(Path(__file__).parents[2])


def until(condition: Callable[[], Any], limit: float, what: str) -> Any:
    """What `condition` returns once that is true; a TimeoutError after `limit` s."""
    end = time.monotonic() + limit
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            raise TimeoutError(f"not within {limit:g} s: {what}")
        time.sleep(POLL)


def free_port(host: str) -> int:
    """A port that nobody listens at just now."""
    with socket.create_server((host, 0)) as server:
        return int(server.getsockname()[1])


def send(pid: int, number: int) -> None:
    """A signal to a process that may be gone."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def worker_below(nanny: int) -> int | None:
    """The worker process of a nanny, if it has one."""
    with suppress(psutil.Error):
        for child in psutil.Process(nanny).children():
            with suppress(psutil.Error):
                if any("spawn_main" in word for word in child.cmdline()):
                    return child.pid
    return None


@dataclass(slots=True)
class Spec:
    """How a node is started.

    Attributes
    ----------
    threads : int
        Functions at once.
    memory : str
        Where its nanny ends it, at 95 %; "0" is never.
    host : str
        Of `Hosts`; "" is this namespace.
    spill : str
        Its local directory; "" is one of the cluster's.
    nanny : bool
        Whether it has one.
    """

    threads: int = 1
    memory: str = "0"
    host: str = ""
    spill: str = ""
    nanny: bool = True


@dataclass(slots=True)
class Real:
    """A cluster of real processes.

    Parameters
    ----------
    specs : mapping of str to Spec
        The nodes, by name.
    hosts : Hosts, optional
        The network that they are on; without, loopback.
    config : mapping, optional
        Dask's, as ``{"distributed.scheduler.worker-ttl": "10s"}``, for all processes.
    spare : mapping of str to Spec, optional
        Nodes that may come and go, and are not there at first.

    Attributes
    ----------
    address : str
        The scheduler's; it stays when that is started again.
    client : Client
        Not the default one.
    """

    specs: Mapping[str, Spec]
    hosts: Hosts | None = None
    config: Mapping[str, Any] | None = None
    spare: Mapping[str, Spec] = field(default_factory=dict)
    address: str = ""
    client: Any = None
    scheduler: Any = None
    nannies: dict[str, Any] = field(default_factory=dict)
    folder: str = ""
    _all: list[Any] = field(default_factory=list)

    @property
    def where(self) -> Any:
        """What an executor is given."""
        return self.client

    # ------------------------------------------------------------------- life
    def __enter__(self) -> Real:
        self.folder = tempfile.mkdtemp(prefix="breaking-")
        try:
            host = self.hosts.here if self.hosts else "127.0.0.1"
            self.address = f"tcp://{host}:{free_port(host)}"
            self.start_scheduler()
            for name in self.specs:
                self.start(name)
            self.connect()
            self.until_up()
        except BaseException:
            self.close()
            raise
        return self

    def connect(self) -> Any:
        """A client of the scheduler, in place of the last one."""
        if self.client is not None:
            with suppress(Exception):
                self.client.close(timeout=2)
        self.client = Client(self.address, timeout=START, set_as_default=False)
        return self.client

    def _spawn(self, name: str, words: Iterable[str]) -> Any:
        given = {
            "DASK_" + key.upper().replace(".", "__").replace("-", "_"): str(value)
            for key, value in (self.config or {}).items()
        }
        with open(Path(self.folder, f"{name}.log"), "ab") as log:
            process = subprocess.Popen(
                list(words),
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": ROOT, **given},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._all.append(process)
        return process

    def start_scheduler(self) -> None:
        """Start it, on the port that it had before."""
        host, _, port = self.address.removeprefix("tcp://").partition(":")
        self.scheduler = self._spawn(
            "scheduler",
            [
                sys.executable, "-m", SCHEDULER, "--host", host, "--port", port,
                "--dashboard-address", f"{host}:0", "--idle-timeout", "600",
            ],
        )  # fmt: skip

    def start(self, name: str) -> None:
        """Start a node: its nanny, which starts its worker."""
        spec = {**self.specs, **self.spare}[name]
        before: list[str] = []
        host = self.hosts.here if self.hosts else "127.0.0.1"
        if spec.host:
            assert self.hosts is not None
            before, host = self.hosts.prefix(spec.host), self.hosts.address[spec.host]
        spill = spec.spill or str(Path(self.folder, name))
        self.nannies[name] = self._spawn(
            name,
            [
                *before, sys.executable, "-m", WORKER, self.address, "--name", name,
                "--nthreads", str(spec.threads), "--memory-limit", spec.memory,
                "--nanny" if spec.nanny else "--no-nanny", "--host", host,
                "--no-dashboard", "--local-directory", spill,
            ],
        )  # fmt: skip

    def close(self) -> None:
        """End everything, frozen or cut as it may be, and remove what it wrote."""
        if self.hosts is not None:
            for name in self.hosts.address:
                with suppress(OSError):
                    self.hosts.heal(name)
        if self.client is not None:
            with suppress(Exception):
                self.client.close(timeout=2)
        family = []
        for process in self._all:
            with suppress(psutil.Error):
                one = psutil.Process(process.pid)
                family += [one, *one.children(recursive=True)]
        for one in family:
            with suppress(psutil.Error):
                one.kill()
        for process in self._all:
            process.wait(START)
        psutil.wait_procs(family, timeout=START)
        subprocess.run(["rm", "-rf", self.folder], check=False)

    def __exit__(self, *args: Any) -> None:
        self.close()

    # ---------------------------------------------------------------- looking
    def names(self) -> set[str]:
        """Names of the workers that the scheduler has."""
        return {str(w["name"]) for w in self._workers().values()}

    def _workers(self) -> dict[str, Any]:
        info = self.client.sync(self.client.scheduler.identity, n_workers=-1)
        found: dict[str, Any] = info["workers"]
        return found

    def until_up(self, limit: float = START) -> float:
        """Wait until every node is up; seconds that this took."""
        begin = time.monotonic()
        until(lambda: self.names() >= set(self.specs), limit, "all nodes are up")
        return time.monotonic() - begin

    def worker(self, name: str) -> int:
        """The pid of a node's worker process; waits until it has one."""
        nanny = self.nannies[name].pid
        if not self.specs[name].nanny:
            return int(nanny)
        found: int = until(lambda: worker_below(nanny), START, f"{name} has a worker")
        return found

    def text(self, name: str) -> str:
        """What a process wrote to its standard streams."""
        return Path(self.folder, f"{name}.log").read_text(errors="replace")

    # --------------------------------------------------------------- breaking
    def kill(self, name: str) -> int:
        """SIGKILL to the worker; its nanny starts another. Returns the pid."""
        pid = self.worker(name)
        send(pid, signal.SIGKILL)
        return pid

    def kill_nanny(self, name: str) -> None:
        """SIGKILL to the nanny; its worker ends by itself."""
        send(self.nannies[name].pid, signal.SIGKILL)

    def lose(self, name: str) -> None:
        """Both at once, as a host that is switched off."""
        nanny = self.nannies[name].pid
        pid = worker_below(nanny)
        send(nanny, signal.SIGKILL)
        if pid is not None:
            send(pid, signal.SIGKILL)
        self.nannies[name].wait(START)

    def leave(self, name: str) -> None:
        """A node is told to end, and has the time to bring what it holds elsewhere."""
        send(self.nannies[name].pid, signal.SIGTERM)

    def freeze(self, name: str, *, nanny: bool = False) -> int:
        """SIGSTOP to the worker, or the whole node; returns the worker's pid."""
        pid = self.worker(name)
        if nanny:
            send(self.nannies[name].pid, signal.SIGSTOP)
        send(pid, signal.SIGSTOP)
        return pid

    def thaw(self, name: str, pid: int | None = None) -> None:
        """SIGCONT to all of a node."""
        nanny = self.nannies[name].pid
        for one in {nanny, pid or worker_below(nanny) or nanny}:
            send(one, signal.SIGCONT)

    def kill_scheduler(self) -> None:
        """SIGKILL to the scheduler."""
        self.scheduler.kill()
        self.scheduler.wait(START)

    def revive(self) -> None:
        """Let all nodes be as in the beginning: up, going and connected."""
        for name in self.spare:
            if name in self.nannies:
                self.lose(name)
        for name in self.hosts.address if self.hosts else ():
            assert self.hosts is not None
            self.hosts.heal(name)
        for name in self.specs:
            self.thaw(name)
            if self.nannies[name].poll() is not None:
                self.start(name)
        self.until_up()

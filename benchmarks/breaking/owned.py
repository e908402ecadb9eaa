"""A cluster of our own supervisor, with what breaks a `Real` one."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import psutil
from distributed import Client

import handout_dask as hd
from benchmarks.breaking.cluster import START, Spec, send, until, worker_below
from benchmarks.breaking.netns import Hosts


@dataclass(frozen=True, slots=True)
class Process:
    """The process of a node's nanny."""

    pid: int

    def poll(self) -> int | None:
        """None while it runs, as of a Popen."""
        return None if psutil.pid_exists(self.pid) else 0


@dataclass(slots=True)
class Owned:
    """Isolated nodes under a supervisor that starts them again without limit.

    Attributes are as those of `Real`; `spare` nodes are added to the supervisor, and
    removed.
    """

    specs: Mapping[str, Spec]
    hosts: Hosts | None = None
    config: Mapping[str, Any] | None = None
    spare: Mapping[str, Spec] = field(default_factory=dict)
    client: Any = None
    supervisor: Any = None
    folder: str = ""

    @property
    def where(self) -> Any:
        """What an executor is given."""
        return self.supervisor

    def __enter__(self) -> Owned:
        self.folder = tempfile.mkdtemp(prefix="breaking-")
        command, host = {}, {}
        if self.hosts is not None:
            host = dict.fromkeys(
                ["scheduler", *self.specs, *self.spare], self.hosts.here
            )
            for name, spec in self.specs.items():
                if spec.host:
                    command[name] = tuple(self.hosts.prefix(spec.host))
                    host[name] = self.hosts.address[spec.host]
        self.supervisor = hd.Supervisor(
            [hd.Node(name, {"cpu": spec.threads}) for name, spec in self.specs.items()],
            isolated=True,
            restart=hd.RestartPolicy(max_restarts=None),
            **({"command": command, "host": host} if host else {}),
        )
        try:
            address = self.supervisor.cluster.scheduler_address
            self.client = Client(address, timeout=START, set_as_default=False)
            self.until_up()
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """End everything."""
        if self.hosts is not None:
            for name in self.hosts.address:
                with suppress(OSError):
                    self.hosts.heal(name)
        if self.client is not None:
            self.client.close(timeout=2)
        self.supervisor.close()
        os.rmdir(self.folder)

    def __exit__(self, *args: Any) -> None:
        self.close()

    # ---------------------------------------------------------------- looking
    @property
    def nannies(self) -> dict[str, Process]:
        """The processes of nodes that there are now."""
        found = {}
        for child in self.supervisor.children():
            if child["pid"] is not None:
                found[child["name"]] = Process(child["pid"])
        return found

    def names(self) -> set[str]:
        """Names of the workers that the scheduler has."""
        info = self.client.sync(self.client.scheduler.identity, n_workers=-1)
        return {str(worker["name"]) for worker in info["workers"].values()}

    def until_up(self, limit: float = START) -> float:
        """Wait until every node is up; seconds that this took."""
        begin = time.monotonic()
        until(lambda: self.names() >= set(self.specs), limit, "all nodes are up")
        return time.monotonic() - begin

    # --------------------------------------------------------------- breaking
    def lose(self, name: str) -> None:
        """Both at once, as a host that is switched off."""
        nanny = self.nannies.get(name)
        if nanny is not None:
            worker = worker_below(nanny.pid)
            send(nanny.pid, signal.SIGKILL)
            if worker is not None:
                send(worker, signal.SIGKILL)

    def start(self, name: str) -> None:
        """A spare node joins; others are started by the supervisor."""
        if name in self.spare and name not in self.supervisor.specs:
            try:
                self.supervisor.add(hd.Node(name, {"cpu": self.spare[name].threads}))
            except hd.SupervisorError:
                if name in self.supervisor.specs:  # it was not asked to leave meanwhile
                    raise

    def leave(self, name: str) -> None:
        """A spare node is removed in an orderly way."""
        if name in self.supervisor.specs:
            self.supervisor.remove(name)

    def thaw(self, name: str, pid: int | None = None) -> None:
        """SIGCONT to all of a node."""
        nanny = self.nannies.get(name)
        if nanny is not None:
            for one in {nanny.pid, pid or worker_below(nanny.pid) or nanny.pid}:
                send(one, signal.SIGCONT)

    def revive(self) -> None:
        """Let all nodes be as in the beginning."""
        for name in self.hosts.address if self.hosts else ():
            assert self.hosts is not None
            self.hosts.heal(name)
        for name in self.specs:
            self.thaw(name)
        for name in self.spare:
            self.leave(name)
        self.until_up()

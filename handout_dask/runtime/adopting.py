"""Adopting: watches the workers of a cluster that somebody else has started.

Owns nothing. What it can do about a worker that stays away is what the cluster's own
class can do: start what it specifies (Dask's SpecCluster and all that is made of it,
such as SSHCluster and the classes of dask-jobqueue), or scale to as many as there were
(dask-kubernetes and others). Of a plain address it can only tell.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from time import time
from typing import Any, Self

from distributed import Client
from distributed.core import Status

from handout_dask.errors import HandoutError
from handout_dask.restarts import (
    ASKED,
    DIED,
    FAILED,
    UP,
    Exit,
    GiveUp,
    Restart,
    RestartPolicy,
    Restarts,
)
from handout_dask.runtime.fleet import NEEDED, run_in
from handout_dask.runtime.nannying import EXIT

logger = logging.getLogger(__name__)

AWAY = "away"
LOOK = 2.0  # s between looks at what no event told of
TOPIC = "all"  # on which Dask's scheduler tells of workers that come and go
OVER = (Status.closed, Status.closing, Status.failed)


class Adopted:
    """A cluster that was started elsewhere, watched; made by `Supervisor.adopt`.

    Parameters
    ----------
    cluster : Dask cluster, address, or Client
        As an Executor is given it; neither asynchronous nor an Executor's own.
    restart : RestartPolicy, optional
        When the cluster is asked to bring a worker back that stays away. Default:
        never.
    patience : float
        Seconds that a worker has to come back by itself, as by its nanny.

    Attributes
    ----------
    given : object
        What was adopted.
    """

    def __init__(
        self,
        cluster: Any,
        restart: RestartPolicy | None = None,
        patience: float = 15.0,
    ) -> None:
        if restart is not None and not isinstance(restart, RestartPolicy):
            raise HandoutError(f"restart={restart!r} must be a RestartPolicy")
        if getattr(cluster, "asynchronous", False):
            raise HandoutError(
                "an asynchronous cluster can't be adopted; give its address"
            )
        self.given, self._patience = cluster, patience
        self._policy = restart or RestartPolicy(kind="temporary")
        is_client = isinstance(cluster, Client)
        self._cluster = cluster.cluster if is_client else cluster
        if restart is not None and not hasattr(self._cluster, "scale"):
            raise HandoutError(
                f"restart needs a cluster object that can scale, not {cluster!r}; give "
                "that, or leave it out"
            )
        self._owned = None if is_client else Client(cluster, set_as_default=False)
        self._client: Client = self._owned or cluster
        self._restarts = Restarts()
        self._address: dict[str, str] = {}  # by name, of those that are there
        self._pids: dict[str, int] = {}
        self._evidence: dict[str, dict[str, Any]] = {}  # by address, how it ended
        self._left: list[tuple[float, str, dict[str, Any]]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._wanted = 0
        self._client.sync(self._begin)

    def children(self) -> list[dict[str, Any]]:
        """What is watched; as of `Supervisor.children`.

        A state more is "away": gone, and it may yet come back by itself.
        """
        return [
            {
                "name": name,
                "kind": child.policy.kind,
                "pid": self._pids.get(name) if name in self._address else None,
                "state": self._state(name, child.state),
                "restarts": child.restarts,
                "last": child.last,
            }
            for name, child in list(self._restarts.children.items())
        ]

    def _state(self, name: str, decided: str) -> str:
        if name in self._address:
            return UP
        return AWAY if decided == UP else decided

    def close(self) -> None:
        """Watch no more. The cluster goes on."""
        if self._client.status == "running":
            self._client.sync(self._end)
        if self._owned is not None:
            self._owned.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: Any) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Adopted {self.given!r}: {len(self._address)} workers>"

    # ------------------------------------------------------------------- watching
    async def _begin(self) -> None:
        self._client.subscribe_topic(TOPIC, self._hear)
        self._client.subscribe_topic(EXIT, self._hear_evidence)
        await self._look()
        self._wanted = len(self._address)
        self._work(self._look_often())

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        for topic in (TOPIC, EXIT):
            with suppress(ValueError):
                self._client.unsubscribe_topic(topic)

    def _hear(self, event: tuple[float, Any]) -> None:
        when, told = event
        action = told.get("action") if isinstance(told, dict) else None
        if action == "add-worker":
            self._work(self._look())
        elif action == "remove-worker":
            self._gone(when, told["worker"], told)

    def _hear_evidence(self, event: tuple[float, Any]) -> None:
        self._evidence[event[1]["worker"]] = event[1]

    def _work(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _look_often(self) -> None:
        """See also what nobody told, as while the client sought its scheduler."""
        while True:
            await asyncio.sleep(LOOK)
            with suppress(Exception):
                await self._look()

    async def _look(self) -> None:
        """Which workers are there, under which names."""
        with suppress(OSError):
            before = {*self._address.values()}
            found = await self._client.scheduler.identity(n_workers=-1)
            for address in before - {*found["workers"]}:
                self._gone(time(), address, {"stimulus_id": "it is not there"})
            for address, worker in found["workers"].items():
                name = str(worker["name"])
                if name not in self._restarts.children:
                    self._restarts.add(name, self._policy)
                if self._address.get(name) != address:
                    self._address[name] = address
                    self._restarts.is_up(name)
            with suppress(Exception):  # handout_dask may not be installed there
                self._pids |= await self._client.run_on_scheduler(pids_of)

    def _gone(self, when: float, address: str, told: dict[str, Any]) -> None:
        """A worker is gone; how, is known best by its nanny, if that has our plugin."""
        names = [name for name, known in self._address.items() if known == address]
        for name in names:
            del self._address[name]
            seen = self._evidence.pop(address, {})
            asked = told.get("expected") or "retire" in str(told.get("stimulus_id"))
            exit = Exit(
                name, when, ASKED if asked or seen.get("asked") else DIED,
                seen.get("code"), seen.get("pid") or self._pids.get(name),
                f"the scheduler says: {told.get('stimulus_id')}",
            )  # fmt: skip
            logger.warning("%s", exit)
            self._restarts.children[name].last = exit
            self._work(self._wait_for(exit))

    # ----------------------------------------------------------------- restarting
    async def _wait_for(self, exit: Exit) -> None:
        """Have a worker brought back that does not come back by itself."""
        await asyncio.sleep(self._patience if exit.how == DIED else 0.0)
        while exit.name not in self._address:
            decision = self._restarts.ended(exit)
            if isinstance(decision, GiveUp):
                logger.error("Given up: %s. %s", exit.name, decision.why)
            if not isinstance(decision, Restart):
                return
            why = "it did not come back"
            try:
                await run_in(self._cluster.loop, self._bring_back(exit.name))
            except Exception as error:
                why = f"{type(error).__name__}: {error}"
            await asyncio.sleep(self._patience)
            exit = Exit(exit.name, time(), FAILED, text=why)

    async def _bring_back(self, name: str) -> None:
        """Ask the cluster, in its own way, to start what is missing."""
        cluster = self._cluster
        if getattr(cluster, "_adaptive", None) is not None:
            return  # it decides how many there are
        if not all(hasattr(cluster, what) for what in NEEDED):
            if len(self._address) < self._wanted:
                found = cluster.scale(self._wanted)
                if asyncio.iscoroutine(found):
                    await found
            return
        for key, worker in list(cluster.workers.items()):
            if str(key) == name and key in cluster.worker_spec:
                del cluster.workers[key]
                if getattr(worker, "status", Status.closed) not in OVER:
                    with suppress(Exception):
                        await worker.close()
        await cluster._correct_state()


def pids_of(dask_scheduler: Any) -> dict[str, int]:
    """The processes of a scheduler's workers, by name; runs there."""
    return {str(ws.name): ws.pid for ws in dask_scheduler.workers.values()}

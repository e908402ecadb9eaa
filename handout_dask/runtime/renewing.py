"""Renewing: starts workers anew whose threads go on with functions that were cancelled.

Beside plugin.py it touches the scheduler's internals; the seams here:

* ``Scheduler.handle_worker_status_change`` to paused keeps tasks from a worker, as if
  that had said so itself.
* ``Scheduler.request_acquire_replicas`` brings results elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import time
from typing import Any

from distributed import Scheduler
from distributed.core import Status

from handout_dask.dispatch import Dispatcher
from handout_dask.runtime.lingering import Lingering
from handout_dask.runtime.roster import Roster
from handout_dask.stopping import LEAVE, RENEW, Threads, what_to_do

logger = logging.getLogger(__name__)

BRING = 1.0, 1e-8  # s, and s/byte, that results may take to get away at most
LONGEST = 20.0  # s that they may at all
HEARD = 2.0  # s since when a worker must have said something to be asked for them
STEP = 0.05  # s between looks at whether they are away


class Renewer:
    """Looks at times after nodes on which cancelled functions go on.

    Parameters
    ----------
    scheduler : distributed.Scheduler
        Whose workers they are.
    dispatcher, roster, lingering : Dispatcher, Roster, Lingering
        What runs where; which node is which worker; what was cancelled.

    Attributes
    ----------
    give_up : callable
        Takes a worker for gone, says why, and lets its nanny start another one.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        dispatcher: Dispatcher,
        roster: Roster,
        lingering: Lingering,
    ) -> None:
        self._scheduler, self._dispatcher = scheduler, dispatcher
        self._roster, self._lingering = roster, lingering
        self._drained: dict[str, str] = {}  # nodes that get nothing new: addresses
        self._renewed: set[str] = set()  # addresses of workers that are being ended
        self._told: set[str] = set()  # addresses of those that can't be
        self.give_up: Callable[[Any, str], Awaitable[None]] | None = None

    def look(self, now: float) -> None:
        """Start anew what is due."""
        due = self._lingering.cancelled() if self.give_up is not None else {}
        for name, address in list(self._drained.items()):
            if name not in due or self._roster.address.get(name) != address:
                self._undrain(name)
        for name in due:
            ws = self._scheduler.workers.get(self._roster.address.get(name, ""))
            if ws is None or ws.address in self._renewed:
                continue
            todo = what_to_do(self._threads(name, ws, due[name], now), now)
            if todo == LEAVE:
                continue
            if not ws.nanny:
                self._tell(name, ws, "it has no nanny")
            elif self._drain(name, ws) and todo == RENEW:
                self._renewed.add(ws.address)
                self._scheduler.loop.add_callback(self._renew, name, ws)

    def stop(self) -> None:
        """Leave workers as they would be without us."""
        for name in list(self._drained):
            self._undrain(name)

    def _threads(
        self, name: str, ws: Any, cancelled: list[tuple[float, float]], now: float
    ) -> Threads:
        wanted = len(self._dispatcher.nodes[name].running)
        if len(cancelled) < ws.nthreads:  # others' tasks may run beside
            ours = self._lingering.is_ours
            wanted += sum(not ours(task.key) for task in ws.processing)
        over = any(now - since >= grace for since, grace in cancelled)
        lasting = self._lasting(name, ws) if over and ws.nanny else ""
        return Threads(cancelled, wanted, ws.last_seen, lasting)

    def _lasting(self, name: str, ws: Any) -> str:
        """What nobody can compute again, and is nowhere else."""
        if ws.actors:
            lasting = "an actor"
        elif any(t.run_spec is None and len(t.who_has) == 1 for t in ws.has_what):
            self._bring_away(ws, only_lonely=True)
            lasting = "data that was scattered"
        else:
            return ""
        self._tell(name, ws, f"it has {lasting}")
        return lasting

    def _tell(self, name: str, ws: Any, why: str) -> None:
        if ws.address not in self._told:
            self._told.add(ws.address)
            logger.warning(
                "Node %s goes on with a function that was cancelled, and can't be "
                "started anew: %s",
                name,
                why,
            )

    # ----------------------------------------------------------------------- enacting
    def _drain(self, name: str, ws: Any) -> bool:
        """Send nothing new there; whether that is so."""
        if ws.status is Status.running:
            self._drained[name] = ws.address
            stimulus = f"handout-drain-{time()}"
            self._scheduler.handle_worker_status_change(Status.paused, ws, stimulus)
        return ws.status is Status.paused

    def _undrain(self, name: str) -> None:
        ws = self._scheduler.workers.get(self._drained.pop(name))
        if ws is not None and ws.status is Status.paused:
            stimulus = f"handout-drained-{time()}"
            self._scheduler.handle_worker_status_change(Status.running, ws, stimulus)

    async def _renew(self, name: str, ws: Any) -> None:
        """Bring its results elsewhere, if it still can give them, and end it."""
        try:
            if time() - ws.last_seen < HEARD:
                await self._wait_for(ws, self._bring_away(ws))
            due = self._lingering.cancelled().get(name)
            if due is None or self._scheduler.workers.get(ws.address) is not ws:
                return  # its thread has ended by itself meanwhile
            now = time()
            if what_to_do(self._threads(name, ws, due, now), now) != RENEW:
                return
            assert self.give_up is not None
            await self.give_up(ws, "goes on with what was cancelled")
        finally:
            self._renewed.discard(ws.address)

    def _bring_away(self, ws: Any, only_lonely: bool = False) -> dict[Any, Any]:
        """Let other workers fetch what this one alone has; returns the tasks by key."""
        others = [x for x in self._scheduler.running if x is not ws]
        alone = {
            task.key: task
            for task in ws.has_what
            if len(task.who_has) == 1 and (task.run_spec is None or not only_lonely)
        }
        if not others:
            return {}
        shares: dict[str, list[Any]] = {}
        for number, key in enumerate(alone):
            other = others[number % len(others)]
            shares.setdefault(other.address, []).append(key)
        for address, keys in shares.items():
            self._scheduler.request_acquire_replicas(
                address, keys, stimulus_id=f"handout-rescue-{time()}"
            )
        return alone

    async def _wait_for(self, ws: Any, tasks: dict[Any, Any]) -> None:
        """Wait until others have this, but not for ever."""
        size = sum(max(0, task.nbytes) for task in tasks.values())
        until = time() + min(BRING[0] + BRING[1] * size, LONGEST)
        while time() < until and any(t.who_has == {ws} for t in tasks.values()):
            await asyncio.sleep(STEP)

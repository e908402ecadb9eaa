"""Observing: takes in what workers tell of themselves on their heartbeats.

What they found goes to the roster, what they use to the tracker; nodes to which other
processes leave less than they declare are narrowed. Beside plugin.py it reads the
scheduler's internals; the seams here:

* ``WorkerState.metrics`` is what a worker told with its last heartbeat.
* ``Scheduler.broadcast`` asks workers at once.
* ``Scheduler.handlers`` takes our RPC.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable, Mapping
from contextlib import suppress
from dataclasses import fields
from time import time
from typing import Any

from distributed import Scheduler

from handout_dask.dispatch import Dispatcher
from handout_dask.observed import Sample, Usable, own_use
from handout_dask.runtime.filling import Filling
from handout_dask.runtime.probe import ASK, FOUND, SAMPLE, put_probes
from handout_dask.runtime.records import NAME, LiveRun
from handout_dask.runtime.replanner import Replanner
from handout_dask.runtime.roster import Roster
from handout_dask.runtime.sender import Sender
from handout_dask.tracker import LiveTracker

logger = logging.getLogger(__name__)

USAGE = "handout_usage"  # our RPC
PATIENCE = 2.0  # s that an executor waits to hear what undeclared nodes have
MEASURED = [field.name for field in fields(Sample) if field.name != "node"]
RATES = {"disk_io": "host_disk_io", "network_io": "host_net_io"}  # ours, Dask's


class Observer:
    """Keeps the tracker and the roster up to date with what workers tell.

    Parameters
    ----------
    scheduler : distributed.Scheduler
        Whose workers tell.
    dispatcher, runs, tracker, roster : Dispatcher, dict, LiveTracker, Roster
        The nodes; live runs by token; what is told of what nodes use, and of what they
        have.
    sender, replanner : Sender, Replanner
        Are told of nodes whose capacity has changed.
    renew : callable
        ``renew(address)``: take a worker in again; it has something that it had not.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        dispatcher: Dispatcher,
        runs: dict[str, LiveRun],
        tracker: LiveTracker,
        roster: Roster,
        sender: Sender,
        replanner: Replanner,
        renew: Callable[[str], None],
    ) -> None:
        self._scheduler, self._dispatcher, self._tracker = (
            scheduler, dispatcher, tracker,
        )  # fmt: skip
        self._roster, self._sender, self._replanner = roster, sender, replanner
        self._renew = renew
        replanner.limits = tracker.limits
        self._filling = Filling(scheduler, dispatcher, runs, roster, replanner)
        self._usable = Usable()
        self._samples: dict[str, Sample] = {}
        self._told: dict[str, dict[str, float]] = {}  # by node, what it uses
        self._begun: asyncio.Task[None] | None = None
        self.is_loaded = False  # whether all who were there have their probes

    # ------------------------------------------------------------------ beginning
    def begin(self) -> None:
        """Put probes on all workers, and ask them what they found."""
        self._scheduler.handlers[USAGE] = self.rpc_usage
        self._begun = asyncio.ensure_future(self._begin())

    async def _begin(self) -> None:
        self.is_loaded = await put_probes(self._scheduler)
        with suppress(Exception):
            told = await self._scheduler.broadcast(msg={"op": ASK}, on_error="return")
            for address, found in told.items():
                if isinstance(found, Mapping):
                    self._take_found(address, found)

    async def ready(self) -> None:
        """Wait until nodes that nobody declares have told what they found."""
        names = [*filter(self._roster.is_undeclared, self._roster.address)]
        if self._begun is not None and not all(map(self._roster.finds.knows, names)):
            await asyncio.wait([self._begun], timeout=PATIENCE)

    async def stop(self) -> None:
        """Let the beginning come to its end, so that nothing is put that was taken."""
        self._scheduler.handlers.pop(USAGE, None)
        if self._begun is not None:
            await asyncio.wait([self._begun], timeout=PATIENCE)

    def _take_found(self, address: str, found: Mapping[str, Any]) -> None:
        name = self._roster.names.get(address)
        if name is None or not self._roster.finds.tell(name, found):
            return
        before = self._roster.node(name)
        for mate in {*self._roster.sharing(name), name}:  # parts may be other ones now
            self._renew(self._roster.address[mate])
        node = self._roster.node(name)
        if node.speed != before.speed:  # what it was slow by was of the other speed
            self._replanner.history.relax(name)
        if node != before:
            self._replanner.changed(f"node {name} was measured")

    # -------------------------------------------------------------------- looking
    def look(self, now: float) -> None:
        """Take in what has been told since the last look."""
        self._filling.look(now)
        news = False
        for address, name in list(self._roster.names.items()):
            ws = self._scheduler.workers.get(address)
            told = ws.metrics.get(NAME) if ws is not None else None
            if told and FOUND in told:
                self._take_found(address, told[FOUND])
            if told and SAMPLE in told:
                news |= self._take(name, told[SAMPLE], ws.metrics)
        for name in self._samples.keys() - self._roster.address.keys():
            del self._samples[name], self._told[name]
            self._tracker.observe(name, {})
            news = True
        if news:
            self._follow(now)

    def _take(
        self, name: str, told: Mapping[str, Any], metrics: Mapping[str, Any]
    ) -> bool:
        """Note the sample of a node; whether it is a new one."""
        sample = Sample(name, **{what: told[what] for what in MEASURED})
        if self._samples.get(name) == sample:
            return False
        self._samples[name] = sample
        self._told[name] = {**_rates(metrics), **told.get("device", {})}
        return True

    def _follow(self, now: float) -> None:
        """Let what is usable follow what was measured."""
        nodes = {name: self._roster.node(name) for name in self._samples}
        before = self._usable.limits()
        changed = self._usable.follow(self._samples.values(), nodes, now)
        limits = self._usable.limits()
        for name, used in own_use(self._samples.values()).items():
            self._tracker.observe(name, {**self._told[name], **used}, limits.get(name))
        if changed:
            logger.info("Capacity of %s changed: %s", sorted(changed), limits)
            self._sender.wake(*changed)
            resources = {r for rows in (before, limits) for n in changed
                         for r in rows.get(n, ())}  # fmt: skip
            if not resources.isdisjoint(self._asked()):
                names = ", ".join(sorted(changed))
                self._replanner.changed(f"capacity of {names} changed")

    def _asked(self) -> set[str]:
        """The resources that functions of live runs ask for."""
        outlines = [run.spec.outline for run in self._dispatcher.runs.values()]
        return {name for x in outlines if x is not None for name in x.demand[0]}

    # -------------------------------------------------------------------- telling
    def limits(self) -> dict[str, dict[str, float]]:
        """What can be claimed in all, where that is less than is declared."""
        return self._tracker.limits()

    async def rpc_usage(self, owner: str) -> dict[str, Any]:
        """What is known of the use of nodes, as text and numbers.

        Returns
        -------
        dict
            ``order``: the names, as this executor shall see them; ``snapshot`` and
            ``limits``, as the tracker has them; ``observed``, all that was measured, by
            node; ``holders``, by node: run, graph, function and what it holds.
        """
        self.look(time())
        return {
            "order": self._roster.order(owner),
            "snapshot": self._tracker.snapshot(),
            "limits": self._tracker.limits(),
            "observed": {name: self._observed(name) for name in self._samples},
            "holders": {
                node: [(*self._who(claim), amounts) for claim, amounts in rows]
                for node, rows in self._tracker.holders().items()
            },
        }

    def _observed(self, name: str) -> dict[str, float]:
        sample = self._samples[name]
        used = own_use(
            [x for x in self._samples.values() if x.process == sample.process]
        )[name]
        host = {
            "host_cores": sample.cores, "host_cpu": sample.busy,
            "host_memory": sample.total, "host_memory_available": sample.available,
        }  # fmt: skip
        return {**used, **self._told[name], **host}

    def _who(self, claim: Hashable) -> tuple[str, str | None, str]:
        """Run, graph and function of a claim, for people."""
        if not isinstance(claim, tuple) or len(claim) < 2:
            return str(claim), None, ""
        token, i = claim[:2]
        run = self._dispatcher.runs.get(token)
        outline = None if run is None else run.spec.outline
        book = self._dispatcher.nodes.get(claim[2]) if len(claim) > 2 else None
        linger = None if book is None else book.lingering.get((token, i))
        if outline is None and linger is not None:
            return str(token), linger.title, linger.label
        if outline is None:
            return str(token), None, str(i)
        return str(token), outline.title, outline.labels[i]


def _rates(metrics: Mapping[str, Any]) -> dict[str, float]:
    """What Dask's own monitor says: rates of the host [MB/s], use of the device."""
    out: dict[str, float] = {}
    for resource, what in RATES.items():
        if what in metrics:  # read and written; "bps" are bytes (2026.8.0)
            out[resource] = sum(metrics[what].values()) / 1e6
    busy, used = metrics.get("gpu_utilization"), metrics.get("gpu_memory_used")
    if busy is not None:
        out["gpus"] = busy / 100
    if used is not None:
        out["gpu_memory"] = used / 1e6
    return out

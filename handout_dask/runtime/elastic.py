"""Keeper: lets nodes start and end as `holding` decides, on the scheduler's side.

Beside plugin.py it touches the scheduler's internals; the seams here:

* ``Scheduler.retire_workers`` brings what is only on a node elsewhere, and ends it.
* ``RetireWorker.no_recipients`` makes it give up, as Dask does where there is no room.
* ``WorkerState.processing`` tells of tasks that are not ours.
"""

from __future__ import annotations

import asyncio
import logging
from time import time
from typing import Any

from distributed import Scheduler
from distributed.active_memory_manager import RetireWorker
from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.protocol import pickle

from handout_dask.dispatch import Dispatcher
from handout_dask.holding import needs
from handout_dask.runtime.replanner import Replanner
from handout_dask.runtime.roster import Roster
from handout_dask.runtime.sender import Sender
from handout_dask.scaling import Decision, End, Expect, Lose

logger = logging.getLogger(__name__)

RPCS = ("elastic", "hold")
GIVEN_UP = "handout-given-up"  # the topic of nodes that a supervisor has given up
MOVING = 30.0  # s that results may take to be brought elsewhere from a node that ends


class Keeper(SchedulerPlugin):
    """Enacts what is decided on nodes that start and end; starting is the client's.

    Parameters
    ----------
    scheduler : distributed.Scheduler
        Whose workers are ended.
    dispatcher, roster, sender, replanner : Dispatcher, Roster, Sender, Replanner
        The books; the nodes; told what is news to them.
    """

    name = "handout-keeper"
    idempotent = True

    def __init__(
        self,
        scheduler: Scheduler,
        dispatcher: Dispatcher,
        roster: Roster,
        sender: Sender,
        replanner: Replanner,
    ) -> None:
        self._scheduler, self._dispatcher, self._roster = scheduler, dispatcher, roster
        self._sender, self._replanner = sender, replanner
        self._holding = roster.holding
        self._tasks: set[asyncio.Task[None]] = set()
        for what in RPCS:
            scheduler.handlers[f"handout_{what}"] = getattr(self, f"rpc_{what}")
        scheduler.add_plugin(self)

    def stop(self) -> None:
        """Leave the scheduler."""
        for what in RPCS:
            self._scheduler.handlers.pop(f"handout_{what}", None)
        if self._scheduler.plugins.get(self.name) is self:
            self._scheduler.remove_plugin(self.name)

    # ------------------------------------------------------------------- members
    async def rpc_elastic(self, owner: str, cluster: bytes, elastic: bytes) -> None:
        """An executor lets nodes start and end."""
        there = [*self._roster.address]
        nodes, options = pickle.loads(cluster), pickle.loads(elastic)
        self._roster.expect(nodes)
        self._enact(self._holding.declare(owner, nodes, options, there, time()))

    def leave(self, owner: str) -> None:
        """An executor has left; nobody starts its nodes any more."""
        self._enact(self._holding.withdraw(owner))

    async def rpc_hold(
        self, owner: str, specified: list[str], failed: dict[str, str]
    ) -> dict[str, list[str]]:
        """What a client has to start, and to put away, for it keeps these running."""
        now = self._dispatcher.now = time()
        holding = self._holding
        for name, why in failed.items():
            self._enact(holding.failed(name, why, now))
        self._enact(holding.specified(owner, specified, now))
        wanted = needs(self._dispatcher.runs.values(), self._dispatcher.nodes)
        self._enact(holding.decide(wanted, self._is_busy, now))
        for name in holding.slow(now):
            self._replanner.changed(f"node {name} is slow to start")
        start, away = holding.wanted(owner)
        return {"start": start, "away": away}

    def _is_busy(self, name: str) -> bool:
        """Whether anything runs on a node, or is sent there; ours or not."""
        book = self._dispatcher.nodes.get(name)
        if book is not None and (book.running or book.ahead):
            return True
        ws = self._scheduler.workers.get(self._roster.address.get(name, ""))
        return ws is not None and bool(ws.processing)

    # ----------------------------------------------------------------- decisions
    def _enact(self, decisions: list[Decision]) -> None:
        for decision in decisions:
            name = decision.node
            if isinstance(decision, End):
                self._dispatcher.expect_node(self._roster.node(name))
                task = asyncio.create_task(self._end(name))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            elif isinstance(decision, Lose):
                self._roster.lose(name, time(), decision.why)
                self._sender.wake(*self._dispatcher.lose_node(name))
                self._replanner.changed(f"node {name}: {decision.why}")
            elif isinstance(decision, Expect):
                self._roster.down.pop(name, None)
                self._dispatcher.expect_node(self._roster.node(name))
                for lost in self._roster.down:  # perhaps this can run what waits there
                    self._sender.wake(*self._dispatcher.lose_node(lost))

    def _give_up_moving(self, address: str) -> None:
        """Leave a node up whose results can't be brought elsewhere, Dask's way."""
        manager = self._scheduler.extensions.get("amm")
        for policy in list(getattr(manager, "policies", ())):
            if isinstance(policy, RetireWorker) and policy.address == address:
                policy.no_recipients = True
                manager.policies.remove(policy)

    async def _end(self, name: str) -> None:
        """Bring the results of a node elsewhere and end it, or leave it up."""
        address = self._roster.address.get(name, "")
        self._scheduler.loop.call_later(MOVING, self._give_up_moving, address)
        try:
            ended = await self._scheduler.retire_workers(
                workers=[address], close_workers=True, remove=True
            )
        except Exception:
            logger.exception("Node %s can't be ended", name)
            ended = {}
        if address not in ended and address in self._scheduler.workers:
            self._holding.stays(name, time())
            self._dispatcher.set_node(self._roster.node(name))
            self._sender.wake(name)

    def log_event(self, topic: str, msg: Any) -> None:
        """Word from a supervisor: nobody starts these nodes again."""
        if topic == GIVEN_UP:
            self._roster.final.update(msg["names"])
            self._enact([Lose(name, msg["why"]) for name in msg["names"]])

    def joined(self, name: str) -> None:
        """A worker is there."""
        self._holding.joined(name, time())

    def left(self, name: str) -> bool:
        """A worker is gone; whether it was ended here, so that it may return."""
        was_ended = self._holding.left(name, time())
        if was_ended:
            self._roster.down.pop(name, None)
            self._dispatcher.expect_node(self._roster.node(name))
        return was_ended

    def valid_workers_downscaling(
        self, scheduler: Scheduler, workers: list[Any]
    ) -> list[Any]:
        """The workers that an Adaptive of the user's may end: no plan needs them."""
        wanted = needs(self._dispatcher.runs.values(), self._dispatcher.nodes)
        names = [str(ws.name) for ws in workers]
        return [
            ws
            for ws, name in zip(workers, names, strict=True)
            if name not in wanted and not self._is_busy(name)
        ]

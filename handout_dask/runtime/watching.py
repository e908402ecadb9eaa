"""Watching: looks at times for what no event of the scheduler tells of."""

from __future__ import annotations

from time import time

from distributed import Scheduler
from tornado.ioloop import PeriodicCallback

from handout_dask.dispatch import Dispatcher
from handout_dask.runtime.erring import disable, strand
from handout_dask.runtime.records import LiveRun
from handout_dask.runtime.replanner import Replanner
from handout_dask.runtime.roster import Roster
from handout_dask.runtime.sender import Sender

GRACE = 10.0  # s that a pinned function waits for its node to return
TICK = 500  # ms between looks at what no event told of: paused workers, lost nodes
LATE = 100  # ms between looks for functions that are late


class Watch:
    """Timers: functions that run late, nodes that stay away, events that got lost.

    Parameters
    ----------
    scheduler : distributed.Scheduler
        Whose tasks fail if they can run nowhere any more.
    dispatcher, runs, roster : Dispatcher, dict, Roster
        The books; live runs by token; which nodes are gone.
    sender, replanner : Sender, Replanner
        Audit the books; look for late functions.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        dispatcher: Dispatcher,
        runs: dict[str, LiveRun],
        roster: Roster,
        sender: Sender,
        replanner: Replanner,
    ) -> None:
        self._scheduler, self._dispatcher, self._runs = scheduler, dispatcher, runs
        self._roster, self._sender, self._replanner = roster, sender, replanner
        self._unable: dict[tuple[str, int], float] = {}  # functions, since when
        self._timers = [
            PeriodicCallback(self._look, TICK), PeriodicCallback(self._look_late, LATE)
        ]  # fmt: skip

    def start(self) -> None:
        """Begin to look."""
        for timer in self._timers:
            timer.start()

    def stop(self) -> None:
        """Look no more."""
        for timer in self._timers:
            timer.stop()

    def _look(self) -> None:
        now = self._dispatcher.now = time()
        for name, since in list(self._roster.down.items()):
            if now - since > GRACE:
                for token, i in self._dispatcher.stranded(name):
                    key, why = self._runs[token].key(i), self._roster.why.get(name, "")
                    strand(self._scheduler, key, name, GRACE, why)
                if not self._dispatcher.stranded(name):
                    del self._roster.down[name]
        self._fail_unable(now)
        if self._runs:
            self._sender.audit()

    def _fail_unable(self, now: float) -> None:
        """Fail functions that no node can run any more as nodes are now."""
        unable = self._dispatcher.unable()
        self._unable = {member: self._unable.get(member, now) for member in unable}
        for (token, i), since in self._unable.items():
            if now - since > GRACE:
                run = self._runs[token]
                node = self._dispatcher.nodes[run.book.node[i]].node
                disable(self._scheduler, run.key(i), node, run.book.cost(i))

    def _look_late(self) -> None:
        if self._runs:
            self._dispatcher.now = time()
            self._replanner.watch()

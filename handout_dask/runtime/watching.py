"""Watching: looks at times for what no event of the scheduler tells of."""

from __future__ import annotations

from time import time

from distributed import Scheduler
from tornado.ioloop import PeriodicCallback

from handout_dask.choosing import is_tied
from handout_dask.dispatch import Dispatcher
from handout_dask.runtime.erring import disable, strand
from handout_dask.runtime.lingering import Lingering
from handout_dask.runtime.observing import Observer
from handout_dask.runtime.records import LiveRun
from handout_dask.runtime.replanner import Replanner
from handout_dask.runtime.roster import Roster
from handout_dask.runtime.sender import Sender
from handout_dask.runtime.speculating import Speculator

GRACE = 10.0  # s that a function waits for the return of its only node
ALL_GONE = 60.0  # s that what can run on any node waits, while none is there
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
    sender, replanner, speculator : Sender, Replanner, Speculator
        Audit the books; look for late functions; begin them anew elsewhere.
    lingering : Lingering
        Looks for what nodes have let go.
    observer : Observer
        Takes in what workers tell of themselves.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        dispatcher: Dispatcher,
        runs: dict[str, LiveRun],
        roster: Roster,
        sender: Sender,
        replanner: Replanner,
        speculator: Speculator,
        lingering: Lingering,
        observer: Observer,
    ) -> None:
        self._scheduler, self._dispatcher, self._runs = scheduler, dispatcher, runs
        self._roster, self._sender, self._replanner = roster, sender, replanner
        self._speculator, self._lingering = speculator, lingering
        self._observer = observer
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
                self._strand(name, now - since)
        self._fail_unable(now)
        self._lingering.look(now)
        self._observer.look(now)
        if self._runs:
            self._sender.audit()

    def _strand(self, name: str, gone: float) -> None:
        """Fail what waits for a node that does not come back, and can't go elsewhere.

        What could go anywhere waits longer where all nodes are gone: they may all be
        starting again.
        """
        why = self._roster.why.get(name, "")
        none = not any(book.up for book in self._dispatcher.nodes.values())
        for token, i in self._dispatcher.stranded(name):
            run = self._runs[token]
            only = is_tied(run.book, i) or len(run.book.able(i)) < 2
            if only or not none or gone > ALL_GONE:
                strand(self._scheduler, run.key(i), name, gone, why, only=only)
        if not self._dispatcher.stranded(name):
            del self._roster.down[name]

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
            self._speculator.look()

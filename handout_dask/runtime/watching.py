"""Watching: looks at times for what no event of the scheduler tells of."""

from __future__ import annotations

from time import time

from distributed import Scheduler
from tornado.ioloop import PeriodicCallback

from handout_dask.choosing import is_tied
from handout_dask.dispatch import Dispatcher
from handout_dask.pins import patience
from handout_dask.runtime.erring import disable, strand
from handout_dask.runtime.lingering import Lingering
from handout_dask.runtime.observing import Observer
from handout_dask.runtime.records import LiveRun
from handout_dask.runtime.refusing import Refusals
from handout_dask.runtime.renewing import Renewer
from handout_dask.runtime.replanner import Replanner
from handout_dask.runtime.roster import Roster
from handout_dask.runtime.sender import Sender
from handout_dask.runtime.speculating import Speculator

GRACE = 10.0  # s that a function waits for a node that can run it
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

    Attributes
    ----------
    renewer : Renewer
        Starts workers anew whose threads go on with what was cancelled.
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
        self.renewer = Renewer(scheduler, dispatcher, roster, lingering)
        self._refusals = Refusals(scheduler, dispatcher, runs)
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
        self.renewer.stop()

    def _look(self) -> None:
        now = self._dispatcher.now = time()
        self._look_gone()
        self._fail_unable(now)
        self._lingering.look(now)
        self.renewer.look(now)
        self._observer.look(now)
        self._refusals.look(now)
        if self._runs:
            self._sender.audit()

    def lost(self, name: str) -> None:
        """A node is gone: what is bound to it is looked at when its time is over."""
        waiting = self._dispatcher.stranded(name)
        for seconds in {self._patience(*member) for member in waiting}:
            self._scheduler.loop.call_later(seconds, self._look_gone)

    def _look_gone(self) -> None:
        """Fail what waits for nodes that don't come back, and can't go elsewhere."""
        now = time()
        waited = {
            name
            for run in self._runs.values()
            for name in run.book.queues
            if not self._dispatcher.is_due(name)
        }
        for name in waited:  # lost when nothing waited for it yet, perhaps
            self._roster.down.setdefault(name, now)
        for name, since in list(self._roster.down.items()):
            self._strand(name, now - since)
            if now - since > GRACE and not self._dispatcher.stranded(name):
                self._roster.down.pop(name, None)

    def _strand(self, name: str, gone: float) -> None:
        why, final = self._roster.why.get(name, ""), self._roster.final
        for token, i in self._dispatcher.stranded(name):
            run, only = self._runs[token], self._is_only(token, i)
            over = name in final and (only or run.book.able(i) <= final)
            if over or gone >= self._patience(token, i):
                policy = run.spec.when_lost(i)
                more = why or (f"on_lost is {policy!r}" if only else "")
                strand(self._scheduler, run.key(i), name, gone, more, only=only)

    def _is_only(self, token: str, i: int) -> bool:
        """Whether a function can run on no other node than its own."""
        book = self._runs[token].book
        return is_tied(book, i) or len(book.able(i)) < 2

    def _patience(self, token: str, i: int) -> float:
        """Seconds that a function waits for its node, which is gone.

        What could go anywhere waits longer where all nodes are gone: they may all be
        starting again.
        """
        if self._is_only(token, i):
            return patience(self._runs[token].spec.when_lost(i))
        there = any(book.up for book in self._dispatcher.nodes.values())
        return GRACE if there else ALL_GONE

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

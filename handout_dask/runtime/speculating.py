"""Speculating: begins late functions anew on other nodes, where the user allows it.

Beside plugin.py it touches the scheduler's internals; the seams here:

* ``Scheduler.transitions({key: "released"})`` takes a task back from its worker, whose
  thread goes on to its end unheard.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import time
from typing import Any

from distributed import Scheduler

from handout_dask.books import NodeBook
from handout_dask.dispatch import Dispatcher
from handout_dask.runtime.inputs import Inputs
from handout_dask.runtime.records import LiveRun
from handout_dask.runtime.replanner import OVERDUE, Replanner
from handout_dask.runtime.sender import Sender
from handout_dask.speculation import elsewhere

logger = logging.getLogger(__name__)

WORTH = 0.2  # s; functions that are to take less are left where they are


class Speculator:
    """Looks for functions that run late on nodes that are slower than believed.

    Parameters
    ----------
    scheduler : distributed.Scheduler
        Whose tasks begin anew.
    dispatcher, runs, address : Dispatcher, dict, dict
        The books; live runs by token; addresses of workers by name of node.
    is_running : callable
        Whether a node, by name, takes work.
    inputs, sender, replanner : Inputs, Sender, Replanner
        Bring inputs; send; know what functions should take, and plan the rest again.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        dispatcher: Dispatcher,
        runs: dict[str, LiveRun],
        address: dict[str, str],
        is_running: Callable[[str], bool],
        inputs: Inputs,
        sender: Sender,
        replanner: Replanner,
    ) -> None:
        self._scheduler, self._dispatcher, self._runs = scheduler, dispatcher, runs
        self._address, self._is_running = address, is_running
        self._inputs, self._sender, self._replanner = inputs, sender, replanner

    def look(self) -> None:
        """Begin anew what would end clearly earlier elsewhere; each at most once."""
        for name, book in list(self._dispatcher.nodes.items()):
            factor = self._replanner.history.node_factor(name)
            if factor < OVERDUE or not self._is_running(name):
                continue
            for token, i in list(book.running):
                run = self._runs.get(token)
                if run is None or not self._may_move(run, i, book):
                    continue
                passed = self._dispatcher.now - run.book.since - run.book.start[i]
                believed = self._replanner.believed(run, i, book.node)
                if not believed or max(factor * believed, passed) < WORTH:
                    continue
                offers = self._offers(run, i, name)
                best = elsewhere(passed, believed, factor, offers)
                if best is not None:
                    self._begin_anew(run, i, best)

    @staticmethod
    def _may_move(run: LiveRun, i: int, book: NodeBook) -> bool:
        spec, token = run.spec, run.spec.token
        if not spec.speculative or spec.outline is None or i in run.anew:
            return False
        tied = i in run.book.pinned or i in spec.group or i in run.book.bound
        return not tied and (token, i) not in book.unsure

    def _offers(self, run: LiveRun, i: int, but: str) -> dict[str, float]:
        """Seconds until the function would end on each other node that can run it."""
        key, demand, offers = run.key(i), run.book.demand(i), {}
        for name in run.book.able(i):
            book = self._dispatcher.nodes.get(name)
            if name == but or book is None or not book.up or not self._is_running(name):
                continue
            if book.barred or name in run.book.shunned.get(i, ()):
                continue
            if not self._dispatcher.tracker.available(name, demand):
                continue
            if len(book.running) >= book.slots or book.ahead:
                continue
            takes = self._replanner.believed(run, i, book.node) or 0.0
            takes *= self._replanner.history.node_factor(name)
            offers[name] = takes + self._inputs.arrives(key, self._address[name])
        return offers

    def _begin_anew(self, run: LiveRun, i: int, name: str) -> None:
        key: Any = run.key(i)
        task = self._scheduler.tasks.get(key)
        if task is None or task.state != "processing":
            return
        run.anew.add(i)
        was = run.book.node[i]
        self._scheduler.transitions({key: "released"}, f"handout-anew-{time()}")
        self._dispatcher.bind(run.spec.token, i, name)
        self._inputs.fetch(key, self._address.get(name, ""))
        self._sender.wake(name, was)
        self._replanner.anew(run)
        logger.info("Function %s of run %s begins anew on %s", i, run.spec.token, name)

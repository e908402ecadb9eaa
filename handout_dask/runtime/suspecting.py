"""Suspecting: what ran on a node that may have died of its memory, runs alone next."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from handout_dask.books import NodeBook
from handout_dask.dispatch import Dispatcher
from handout_dask.runtime.records import LiveRun

FILLED = 0.5  # share of a node's memory that was claimed or seen used, to suspect it


class Suspects:
    """Lets functions of a node that died claim the whole memory of the next one.

    Which of several took too much nobody knows. Alone, each has room, and is measured:
    if it is the one, others of its name claim what it took from then on.

    Parameters
    ----------
    dispatcher : Dispatcher
        The books, in which the functions still run when they are told of.
    is_there : callable
        Whether the worker of a node, by name, is there.
    """

    def __init__(self, dispatcher: Dispatcher, is_there: Callable[[str], bool]) -> None:
        self._dispatcher, self._is_there = dispatcher, is_there
        self._filled: dict[str, bool] = {}  # nodes that are being lost

    def taken_back(self, run: LiveRun, i: int) -> None:
        """Dask takes a function back; if its node has died, it may be why."""
        name = run.book.node[i]
        book = self._dispatcher.nodes[name]
        if (run.spec.token, i) not in book.running or self._is_there(name):
            return
        if name not in self._filled:  # before the first of them leaves the books
            self._filled[name] = self._is_filled(book)
        if self._filled[name]:
            able = (self._dispatcher.nodes.get(n) for n in run.book.able(i))
            has = [b.node.capacity("memory") for b in able if b is not None]
            run.book.claim_memory({i: max((x for x in has if x < inf), default=0.0)})
            run.book.claims.first.add(i)

    def lost(self, name: str) -> None:
        """All functions of a node that was lost have been told of."""
        self._filled.pop(name, None)

    def _is_filled(self, book: NodeBook) -> bool:
        room = book.node.capacity("memory")
        if not 0.0 < room < inf:
            return False
        runs = self._dispatcher.runs
        claimed = sum(
            runs[token].demand(i, book.node).get("memory", 0.0)
            for token, i in book.running
        )
        seen = self._dispatcher.tracker.snapshot().get(book.node.name, {})
        used = seen.get("memory", (0.0, 0.0, None))[2] or 0.0
        return max(claimed, used) >= FILLED * room

"""Refusing: ends functions that a user's tracker refuses though nothing runs."""

from __future__ import annotations

from time import time

import dask
from distributed import Scheduler
from distributed.protocol import pickle, to_serialize

from handout_dask.books import READY
from handout_dask.dispatch import Dispatcher
from handout_dask.errors import AllocationError
from handout_dask.runtime.erring import err, label_of
from handout_dask.runtime.records import LiveRun

CONFIG = "handout.refused-after"  # in dask.config of the scheduler
PATIENCE = "60s"


class Refusals:
    """Looks for runs that only wait for a tracker of their own.

    Once all that any run held is given back, a tracker that counts claims has no reason
    any more to refuse. It may have others, that pass; but not for ever.

    Parameters
    ----------
    scheduler : distributed.Scheduler
        Whose tasks fail.
    dispatcher, runs : Dispatcher, dict
        The books; live runs by token.
    """

    def __init__(
        self, scheduler: Scheduler, dispatcher: Dispatcher, runs: dict[str, LiveRun]
    ) -> None:
        self._scheduler, self._dispatcher, self._runs = scheduler, dispatcher, runs
        self._since: dict[str, float] = {}  # by token

    def look(self, now: float) -> None:
        """Fail what has been refused for too long."""
        idle = not any(
            book.running or book.ahead or book.lingering
            for book in self._dispatcher.nodes.values()
        )
        refused = {t for t, run in self._runs.items() if idle and run.book.refusing}
        self._since = {token: self._since.get(token, now) for token in refused}
        for token, since in self._since.items():
            if now - since > patience():
                self._fail(self._runs[token], now - since)

    def _fail(self, run: LiveRun, seconds: float) -> None:
        book = run.book
        for i, state in enumerate(book.state):
            which = book.refusing.get(book.need[i])
            task = self._scheduler.tasks.get(run.key(i))
            if state != READY or which is None or task is None:
                continue
            if task.state != "no-worker":
                continue
            tracker = type(book.trackers[which]).__name__
            error = AllocationError(
                f"function {label_of(task)} can't run: the tracker {tracker} refuses "
                f"its request on node {book.node[i]!r} for {seconds:.0f} s, though "
                f"nothing runs that holds anything ({CONFIG!r} in dask.config says "
                "how long that may be)"
            )
            raised = to_serialize(pickle.dumps(error))
            stimulus = f"handout-refused-{time()}"
            err(self._scheduler, run.key(i), stimulus, exception=raised)


def patience() -> float:
    """Seconds for which a tracker may refuse while nothing runs."""
    seconds = dask.utils.parse_timedelta(dask.config.get(CONFIG, PATIENCE))
    return float(seconds)

"""Lingering: learns when workers have let go functions that were taken back from them.

Until then these hold what they held. Beside plugin.py it reads the scheduler's
internals; the seams here:

* ``WorkerState.metrics`` is what a worker's probe told with its last heartbeat, which
  came at ``WorkerState.last_seen``.
* ``Scheduler.worker_plugins`` tells whether workers have, or get, a probe.
* ``Scheduler.stream_handlers`` of task-finished, task-erred and reschedule are wrapped:
  what was taken back may end by itself before its worker hears of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from distributed import Scheduler

from handout_dask.books import DONE, FAILED, Member
from handout_dask.dispatch import Dispatcher
from handout_dask.runtime.keys import Keys
from handout_dask.runtime.probe import RUNNING
from handout_dask.runtime.records import NAME, LiveRun
from handout_dask.runtime.roster import Roster
from handout_dask.runtime.sender import Sender

# s after a function was taken back, from when on a heartbeat that does not list it says
# that it is gone. Before, word of it may have been on its way to the worker.
SETTLED = 2.0
ENDS = ("task-finished", "task-erred", "reschedule")  # what ends a thread


class Lingering:
    """Tells the books what their nodes have let go.

    Parameters
    ----------
    scheduler : distributed.Scheduler
        Whose workers tell.
    dispatcher, runs, keys, roster, sender : Dispatcher, dict, Keys, Roster, Sender
        The books; live runs by token; whose keys are whose; which node is which
        worker; sends what fits then.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        dispatcher: Dispatcher,
        runs: dict[str, LiveRun],
        keys: Keys,
        roster: Roster,
        sender: Sender,
    ) -> None:
        self._scheduler, self._dispatcher, self._runs = scheduler, dispatcher, runs
        self._keys, self._roster, self._sender = keys, roster, sender
        self._dropped: dict[Member, Any] = {}  # of runs that are gone, with their keys
        self._doomed: dict[Member, float] = {}  # cancelled: [s] they may go on
        dispatcher.tells = self.tells
        handlers = scheduler.stream_handlers
        self._own = {op: self._wrapped(handlers[op]) for op in ENDS}
        self._dask = {op: handlers[op] for op in ENDS}
        handlers.update(self._own)

    def stop(self) -> None:
        """Put handlers back, unless somebody else has wrapped ours."""
        handlers = self._scheduler.stream_handlers
        for op, own in self._own.items():
            if handlers.get(op) is own:
                handlers[op] = self._dask[op]

    def _wrapped(self, handler: Callable[..., Any]) -> Callable[..., Any]:
        def handle(key: Any, worker: str = "", **message: Any) -> None:
            handler(key=key, worker=worker, **message)
            name = self._roster.names.get(worker)
            book = self._dispatcher.nodes.get(name or "")
            if name is not None and book is not None and book.lingering:
                self._let_go(key, name)

        return handle

    def tells(self, name: str) -> bool:
        """Whether a node says what it has let go."""
        ws = self._scheduler.workers.get(self._roster.address.get(name, ""))
        return ws is not None and (
            NAME in ws.metrics or NAME in self._scheduler.worker_plugins
        )

    def drop(self, run: LiveRun) -> None:
        """The books of a run were closed."""
        token = run.spec.token
        for book in self._dispatcher.nodes.values():
            for member in book.lingering:
                if member[0] == token:
                    self._dropped[member] = run.key(member[1])
                    if run.book.state[member[1]] not in (DONE, FAILED):
                        self.doom(run, member[1])

    def doom(self, run: LiveRun, i: int) -> None:
        """A function was cancelled: nobody wants what its threads go on with."""
        if run.spec.grace is not None:
            self._doomed[run.spec.token, i] = run.spec.grace

    def cancelled(self) -> dict[str, list[tuple[float, float]]]:
        """On which nodes cancelled functions go on: since when, how long they may."""
        found: dict[str, list[tuple[float, float]]] = {}
        left = {}
        for name, book in self._dispatcher.nodes.items() if self._doomed else ():
            for member, linger in book.lingering.items():
                grace = self._doomed.get(member)
                if grace is not None:
                    left[member] = grace
                    if linger.slot:
                        found.setdefault(name, []).append((linger.since, grace))
        self._doomed = left
        return found

    def is_ours(self, key: Any) -> bool:
        """Whether a task is of one of our runs."""
        return self._keys.run_of(key) is not None or key in self._dropped.values()

    def left(self, message: Any) -> None:
        """Word from a worker that a task left it without an end."""
        key, name = message["key"], self._roster.names.get(message["worker"])
        if name is not None:
            self._let_go(tuple(key) if isinstance(key, list) else key, name)

    def _let_go(self, key: Any, name: str) -> None:
        book = self._dispatcher.nodes.get(name)
        for member in [] if book is None else list(book.lingering):
            if self._key(member) == key and self._dispatcher.left(*member, name):
                self._forget(member)
                self._sender.wake(name)

    def look(self, now: float) -> None:
        """Compare with what workers said last, should word have been lost."""
        for name, book in self._dispatcher.nodes.items():
            if not book.lingering:
                continue
            ws = self._scheduler.workers.get(self._roster.address.get(name, ""))
            running = None if ws is None else ws.metrics.get(NAME, {}).get(RUNNING)
            if running is None:
                running = [] if ws is None else [task.key for task in ws.executing]
            runs = {tuple(key) if isinstance(key, list) else key for key in running}
            for member, linger in list(book.lingering.items()):
                seen = now if ws is None else ws.last_seen
                if seen - linger.since > SETTLED and self._key(member) not in runs:
                    self._dispatcher.left(*member, name)
                    self._forget(member)
                    self._sender.wake(name)
        for member in [*self._dropped]:
            self._forget(member)

    def _key(self, member: Member) -> Any:
        run = self._runs.get(member[0])
        return self._dropped.get(member) if run is None else run.key(member[1])

    def _forget(self, member: Member) -> None:
        """Of a run that is gone, if it lingers nowhere any more."""
        if not any(member in b.lingering for b in self._dispatcher.nodes.values()):
            self._dropped.pop(member, None)

"""Follower: what the scheduler says of the tasks of live runs, taken into the books.

Beside plugin.py it touches the scheduler's internals; the seams here:

* ``TaskState.state`` and ``dependents``, as `transition` finds them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import time
from typing import Any

from distributed import Scheduler

from handout_dask.books import DONE, ENDED, FAILED, GONE, WAITING
from handout_dask.dispatch import Dispatcher
from handout_dask.holding import Holding
from handout_dask.runtime.erring import fault_of
from handout_dask.runtime.inputs import Inputs
from handout_dask.runtime.journaling import Journals
from handout_dask.runtime.keys import Keys
from handout_dask.runtime.lingering import Lingering
from handout_dask.runtime.process import EXECUTOR
from handout_dask.runtime.records import NAME, LiveRun
from handout_dask.runtime.replanner import Replanner
from handout_dask.runtime.sender import Sender
from handout_dask.setbacks import Attempt

logger = logging.getLogger(__name__)

STOPPED = "a failure"  # who cancelled a run that stops at the first
FLUSH = 0.05  # s for which records are gathered before they go to the client


class Follower:
    """Keeps books and records of live runs.

    Parameters
    ----------
    scheduler : distributed.Scheduler
        Whose tasks are followed.
    dispatcher, runs, keys, address : Dispatcher, dict, Keys, dict
        The books; live runs by token; whose keys are whose; addresses by name.
    sender, inputs, replanner : Sender, Inputs, Replanner
        Told what is news to them.
    holding : Holding
        Knows which nodes were held, which is told with the records.
    lingering : Lingering
        Goes on with what was sent of a run that is dropped.

    Attributes
    ----------
    suspects : Suspects
        What may have taken the memory of a node that died.
    journals : Journals
        Write what happens in runs that have one.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        dispatcher: Dispatcher,
        runs: dict[str, LiveRun],
        keys: Keys,
        address: dict[str, str],
        sender: Sender,
        inputs: Inputs,
        replanner: Replanner,
        holding: Holding,
        lingering: Lingering,
    ) -> None:
        self._scheduler, self._dispatcher, self._runs = scheduler, dispatcher, runs
        self._keys, self._address = keys, address
        self._sender, self._inputs, self._replanner = sender, inputs, replanner
        sender.began = self.tell
        self._holding, self._lingering = holding, lingering
        self.journals = Journals(scheduler, runs, self._close)
        self.stop: Callable[[LiveRun], None] = lambda run: None
        self.dropped: Callable[[str], None] = lambda token: None
        self.closed: Callable[[LiveRun], None] = lambda run: None

    def moved(
        self,
        run: LiveRun,
        i: int,
        key: Any,
        start: str,
        finish: str,
        about: dict[str, Any],
    ) -> None:
        """The task of a function changed its state; `about` is what Dask says of it."""
        books, token = self._dispatcher, run.spec.token
        if finish == "no-worker":
            name = books.ready(token, i)
            self._inputs.fetch(key, self._address.get(name, ""))
            self._sender.wake(*([*self._address] if run.spec.eager else [name]))
        elif finish == "memory":
            expected = run.book.start[i], run.book.end[i]
            seconds = self._record(run, i, "done", about)
            self._sender.wake(books.ended(token, i, DONE, seconds))
            self._replanner.ended(run, i, seconds, *expected, about)
            self.push(key)
        elif finish == "released":
            self._released(run, i, key)
        elif finish == "waiting" and start == "released":
            if run.book.state[i] != WAITING:
                self._sender.wake(books.waiting(token, i, lingers=True))
        elif finish == "erred":
            fault = fault_of(self._scheduler.tasks[key], self._keys.is_cut)
            self._record(run, i, "failed" if fault else "blocked", about, fault)
            self._sender.wake(books.ended(token, i, FAILED))
            if fault:
                self._replanner.failed(run)
                if run.spec.stops:
                    run.cancelled_by = run.cancelled_by or STOPPED
                    self._scheduler.loop.add_callback(self.stop, run)
        elif finish == "forgotten":
            self.gone(run, i)
            run.keys_left -= 1
        if not run.book.left:
            self.flush(run)
            if finish != "forgotten":
                self._replanner.shared(run)
        if not run.keys_left:
            self.drop(token)

    def push(self, key: Any) -> None:
        """Bring a new result to where functions will read it."""
        for task in self._scheduler.tasks[key].dependents:
            found = self._keys.find(task.key)
            if found is not None:
                run, i = found
                name = run.book.node[i]
                self._inputs.push(key, self._address.get(name, ""))

    def _released(self, run: LiveRun, i: int, key: Any) -> None:
        """Run again, or no longer needed: park it, so that only the books send it."""
        books = self._dispatcher
        self._sender.park(key)
        if run.book.state[i] in ENDED:
            return
        name = run.book.node[i]
        self._sender.wake(name, books.waiting(run.spec.token, i, lingers=True))
        self._scheduler.loop.add_callback(self._unneeded, run, i, key)

    def _unneeded(self, run: LiveRun, i: int, key: Any) -> None:
        """If nothing followed its release: all that would have read it failed."""
        task = self._scheduler.tasks.get(key)
        if task is not None and task.state == "released":
            if run.spec.token in self._runs:
                self.gone(run, i)
            if not run.book.left:
                self.flush(run)

    def gone(self, run: LiveRun, i: int) -> None:
        """A function will not run."""
        if run.book.state[i] not in ENDED:
            self._record(run, i, "gone", {})
            books, token = self._dispatcher, run.spec.token
            self._sender.wake(books.ended(token, i, GONE, lingers=True))
            if run.cancelled_by:
                self._lingering.doom(run, i)

    def drop(self, token: str) -> None:
        """Close the books of a run."""
        run = self._runs.pop(token, None)
        if run is None:
            return
        self.flush(run)
        self.journals.over(token)
        self._keys.drop(run)
        self._sender.wake(*self._dispatcher.drop_run(token))
        self._lingering.drop(run)
        self.dropped(token)
        try:
            self.closed(run)
        except Exception:  # pages are not worth the slots that it held
            logger.exception("Run %s can't be shown on", token)

    def _close(self, token: str) -> None:
        """Close the books of a run that is over, and is to be gone on with."""
        run = self._runs[token]
        self.drop(token)
        self.unpark(run)

    def unpark(self, run: LiveRun) -> None:
        """Let Dask compute again what is kept, should it be lost now or later.

        In a thread: processes of functions' own may be gone by then.
        """
        own, due = self._keys.of(run), {}
        for key, task in self._scheduler.tasks.items():
            if key in own or (type(key) is tuple and key[0] in own):
                task.worker_restrictions = set()
                notes = dict(task.annotations or {})
                if notes.pop("executor", None) == EXECUTOR:
                    task.annotations = notes
                if task.state == "no-worker":  # it was lost already
                    due[key] = "processing"
        if due:
            self._scheduler.transitions(due, f"handout-unpark-{time()}")

    def awake(self, run: LiveRun, i: int) -> None:
        """A function has rested, and waits for its node again."""
        task = self._scheduler.tasks.get(run.key(i))
        if task is not None and task.state == "no-worker":
            self.moved(run, i, task.key, "waiting", "no-worker", {})

    # -------------------------------------------------------------------- records
    def tried(self, run: LiveRun, i: int, attempt: Attempt) -> None:
        """Note an attempt that did not deliver, after which there may be another."""
        run.late.pop(i, None)
        run.tried(i, attempt)
        self.tell(run)

    def _record(
        self,
        run: LiveRun,
        i: int,
        outcome: str,
        about: dict[str, Any],
        fault: Any = None,
    ) -> float | None:
        """Note what happened for the client; returns the seconds that it took."""
        run.late.pop(i, None)
        seconds = run.record(i, outcome, about, fault)
        self.journals.note(run, i)
        self.tell(run)
        return seconds

    def tell(self, run: LiveRun) -> None:
        """There is something to send to a run's client, soon."""
        if not run.flushing:
            run.flushing = True
            self._scheduler.loop.call_later(FLUSH, self.flush, run)

    def flush(self, run: LiveRun) -> None:
        """Send the records of a run to its client."""
        run.flushing = False
        message = run.message()
        if message is not None:
            now = time()
            message["holds"] = self._holding.holds(run.owner, run.since, now)
            for reader in run.readers:
                self._scheduler.log_event(f"{NAME}/{reader}", message)

"""Sender: sends parked functions to the workers that the dispatcher names.

Beside plugin.py it touches the scheduler's internals; the seams here:

* ``TaskState.worker_restrictions`` to an address that does not exist parks a task (it
  comes to rest in ``no-worker`` once its inputs are computed); to a real one aims it.
* ``TaskState.suspicious`` is never more than 0 for a task that was parked, so that Dask
  fails none for the deaths of its workers: who is to blame for these is decided here.
* ``TaskState.priority`` orders what was sent to one worker.
* ``Scheduler.transitions({key: "processing"})`` sends.
* ``Scheduler.unrunnable`` has since when Dask thinks that a parked task lacks a worker.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic, time
from typing import Any

from distributed import Scheduler
from distributed.core import Status
from distributed.protocol import pickle, to_serialize

from handout_dask.books import SENT, WAITING
from handout_dask.dispatch import Dispatcher
from handout_dask.errors import TrackerError
from handout_dask.runtime.erring import err
from handout_dask.runtime.inputs import Inputs
from handout_dask.runtime.records import LiveRun
from handout_dask.runtime.runner import ALLOWED, ALLOWED_GPU, ANNOUNCE, ATTEMPT, VARIANT

logger = logging.getLogger(__name__)

PARKED = {"handout://parked"}
UNSUSPECTED = -1  # one death, and Dask's allowance of no death at all is not exceeded
NOTES = (ANNOUNCE, ATTEMPT, VARIANT, ALLOWED, ALLOWED_GPU)  # of one attempt each


class Sender:
    """Sends functions, and cuttings of elements, when they are due.

    Parameters
    ----------
    scheduler : distributed.Scheduler
        Whose tasks are sent.
    dispatcher : Dispatcher
        Says which function goes next.
    runs : dict
        Live runs by token; kept by the plugin.
    address : dict
        Addresses of workers by name of node; kept by the plugin.
    inputs : Inputs
        Whose gathered fetches go out first.

    Attributes
    ----------
    began : callable
        ``began(run)``: the first function of a run was sent.
    acted : callable
        ``acted()``: nodes were looked at, and what was due was sent.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        dispatcher: Dispatcher,
        runs: dict[str, LiveRun],
        address: dict[str, str],
        inputs: Inputs,
    ) -> None:
        self._scheduler, self._dispatcher = scheduler, dispatcher
        self._runs, self._address, self._inputs = runs, address, inputs
        self._nodes: dict[str, None] = {}  # to look at
        self._cuts: dict[Any, None] = {}
        self._is_due = False
        self._sequence = 0
        self.began: Callable[[LiveRun], None] = lambda run: None
        self.acted: Callable[[], None] = lambda: None

    def park(self, key: Any) -> None:
        """Let a task come to rest, until it is sent from here."""
        task = self._scheduler.tasks[key]
        task.worker_restrictions, task.suspicious = PARKED, UNSUSPECTED

    def wake(self, *names: str) -> None:
        """Look at these nodes as soon as the present event is over."""
        self._nodes.update(dict.fromkeys(names))
        if not self._is_due:
            self._is_due = True
            self._scheduler.loop.add_callback(self._send)

    def cut(self, key: Any) -> None:
        """The whole is there of which a task cuts an element."""
        self._cuts[key] = None
        self.wake()

    def _send(self) -> None:
        self._is_due = False
        self._dispatcher.now = time()
        self._inputs.send()
        keys = [key for key in self._cuts if self._aim_cut(key)]
        self._cuts.clear()
        sent = []
        while self._nodes:
            name = self._dispatcher.first_of(self._nodes)
            del self._nodes[name]
            address = self._address.get(name, "")
            ws = self._scheduler.workers.get(address)
            if ws is None or ws.status is not Status.running:
                continue
            try:
                for send in self._dispatcher.next(name, self._arrives):
                    run = self._runs[send.token]
                    key, number = run.key(send.i), run.book.attempts[send.i]
                    sent.append((send.token, send.i))
                    if self._scheduler.tasks[key].state == "no-worker":
                        notes: dict[str, Any] = (
                            {ANNOUNCE: True} if send.announce else {}
                        )
                        if number > 1:
                            notes[ATTEMPT] = number
                            if send.i in run.book.switched:
                                notes[VARIANT] = run.book.switched[send.i]
                            if send.i in run.book.grown:
                                notes[ALLOWED] = run.book.grown[send.i]
                            if send.i in run.book.grown_gpu:
                                notes[ALLOWED_GPU] = run.book.grown_gpu[send.i]
                        self._aim(key, address, 0, notes)
                        keys.append(key)
            except TrackerError as error:
                self._refuse(error)
        if keys:  # recommendations are taken from the end
            due = dict.fromkeys(reversed(keys), "processing")
            self._scheduler.transitions(due, f"handout-send-{time()}")
        for token, i in sent:
            if not self._runs[token].begun:
                self._runs[token].begun = True
                self.began(self._runs[token])
            self._check(token, i, lingers=False)
        self.acted()

    def _refuse(self, error: TrackerError) -> None:
        """Fail a function that a user's tracker can't be asked about."""
        token, i = error.member
        stimulus, raised = f"handout-tracker-{time()}", pickle.dumps(error)
        key = self._runs[token].key(i)
        err(self._scheduler, key, stimulus, exception=to_serialize(raised))

    def _aim(
        self, key: Any, address: str, tier: int, notes: dict[str, Any] | None = None
    ) -> None:
        """Bind a parked task to a worker, behind what was sent there before."""
        task = self._scheduler.tasks[key]
        task.worker_restrictions = {address}
        self._sequence += 1
        task.priority = (task.priority[0] + tier, 0, self._sequence)
        if notes is not None:  # nothing of its attempts before stays
            kept = {k: v for k, v in (task.annotations or {}).items() if k not in NOTES}
            task.annotations = {**kept, **notes}

    def _aim_cut(self, key: Any) -> bool:
        """Bind the cutting of an element to where the whole is, before functions."""
        task = self._scheduler.tasks.get(key)
        if task is None or task.state != "no-worker":
            return False
        (whole,) = task.dependencies
        holder = next(iter(whole.who_has or ()), None)
        if holder is None:
            return False
        self._aim(key, holder.address, -1)
        return True

    def _arrives(self, token: str, i: int, name: str) -> float:
        return self._inputs.arrives(self._runs[token].key(i), self._address[name])

    def _check(self, token: str, i: int, lingers: bool) -> bool:
        """Whether the scheduler has a function where the books have it: on its way.

        If not, the books are put right, and the function is sent again. It `lingers`
        where it may have been sent all the same.
        """
        run = self._runs.get(token)
        task = None if run is None else self._scheduler.tasks.get(run.key(i))
        if task is None or task.state in ("processing", "memory", "erred"):
            return True
        self.park(task.key)
        self._dispatcher.waiting(token, i, lingers)
        if task.state == "no-worker":
            self._dispatcher.ready(token, i)
        return False

    def audit(self) -> None:
        """Compare the books with the scheduler, so that an event that got lost on its
        way does not stop a run for ever. Nothing should ever be found.
        """
        found = []
        for book in list(self._dispatcher.nodes.values()):
            for member in [*book.running, *book.ahead]:
                if not self._check(*member, lingers=True):
                    found.append(member)
        for token, run in self._runs.items():
            if not run.book.left or SENT in run.book.state:
                continue
            for i, state in enumerate(run.book.state):
                task = self._scheduler.tasks.get(run.key(i))
                if state != WAITING or task is None or i in run.book.rests:
                    continue
                if task.state == "no-worker":
                    self._dispatcher.ready(token, i)
                    found.append((token, i))
        if found:
            logger.warning(
                "Books put right for %d functions: %s", len(found), found[:5]
            )
        self._stay_parked()
        self.wake(*self._address)

    def _stay_parked(self) -> None:
        """Keep a no-workers-timeout from failing what only waits for its turn."""
        if self._scheduler.no_workers_timeout is None:
            return
        unrunnable = self._scheduler.unrunnable
        for task in [t for t in unrunnable if t.worker_restrictions == PARKED]:
            del unrunnable[task]
            unrunnable[task] = monotonic()  # as the last: Dask has them by time

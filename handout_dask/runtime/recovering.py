"""Recovering: tells `recovery` what fails, on the scheduler, and does what it decides.

Beside plugin.py it touches the scheduler's internals; the seams here:

* ``Scheduler.stream_handlers["task-erred"]`` is wrapped: a task of a planned run that
  is to be tried again gets ``TaskState.retries`` for it, before Dask sees it fail.
* ``TaskState.run_id`` and ``processing_on`` tell an attempt from those before it.
* The event ``remove-worker`` on the topic ``all`` comes before the tasks of the worker
  change their states, with ``processing-tasks`` and ``expected``.
* ``Scheduler.nanny_plugins`` tells whether nannies say how workers ended.
* ``TaskState.suspicious`` makes Dask fail the cutting of an element that is on a node
  each time one dies.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Mapping
from math import inf
from time import time
from typing import Any

from distributed.diagnostics.plugin import SchedulerPlugin
from tornado.ioloop import PeriodicCallback

from handout_dask import variants
from handout_dask.books import ENDED, NodeBook
from handout_dask.cases import Case
from handout_dask.errors import FunctionError, HandoutError
from handout_dask.recovery import EVIDENCE, UNEXPLAINED, Recovery
from handout_dask.runtime.barring import Barring
from handout_dask.runtime.bonds import refuse
from handout_dask.runtime.clocks import Clocks
from handout_dask.runtime.erring import label_of
from handout_dask.runtime.faulting import FAULT
from handout_dask.runtime.gathered import AdoptedRun
from handout_dask.runtime.nannying import EXIT
from handout_dask.runtime.records import NAME, LiveRun
from handout_dask.setbacks import (
    CRASH,
    GPU_MEMORY,
    MEMORY,
    Again,
    Attempt,
    Decision,
    Exit,
    Fault,
    GiveUp,
    Hold,
    Quarantine,
    Tried,
)

logger = logging.getLogger(__name__)

FILLED = 0.5  # share of a node's memory that was claimed or seen used, to suspect it
LOOK, OVERDUE = 500, 0.25  # ms between looks for what no timer told; s beyond a rest
KEPT = 1000  # faults of which the failure is not known yet


class Recovering(SchedulerPlugin):
    """Answers failures of functions and nodes.

    Parameters
    ----------
    host : HandoutPlugin
        Whose books, roster, sender and follower it uses; it is there longer than this.

    Attributes
    ----------
    recovery : Recovery
        Which decides.
    clocks : Clocks
        Fail what waits for too long.
    """

    name = "handout-recovering"
    idempotent = True

    def __init__(self, host: Any) -> None:
        self._host, self._scheduler = host, host.scheduler
        self._books, self._runs = host.dispatcher, host.runs
        self.recovery = Recovery()
        self._faults: dict[tuple[Any, str], Fault] = {}
        self._removed: dict[str, str] = {}  # why nodes were removed from outside
        self._nannied: dict[str, bool] = {}  # whether workers have a nanny
        self._cuts: dict[Any, int] = {}  # deaths of nodes where elements were cut
        handlers = self._scheduler.stream_handlers
        self._dask = handlers["task-erred"]
        handlers["task-erred"] = self._task_erred
        self._barring = Barring(
            self._scheduler, self._books, host.sender, host.replanner
        )
        self._timer = PeriodicCallback(self._look, LOOK)
        self._timer.start()
        for address, ws in self._scheduler.workers.items():
            self._nannied[address] = bool(ws.nanny)
        self._scheduler.add_plugin(self)
        self.clocks = Clocks(self._scheduler, self._books, self._runs, host.lingering)
        host.follower.dropped = self.drop

    def stop(self) -> None:
        """Leave the scheduler as it was found."""
        handlers = self._scheduler.stream_handlers
        if handlers.get("task-erred") == self._task_erred:
            handlers["task-erred"] = self._dask
        self.clocks.stop()
        self._timer.stop()
        if self._scheduler.plugins.get(self.name) is self:
            self._scheduler.remove_plugin(self.name)

    def meet(self, run: LiveRun) -> None:
        """A run begins."""
        for i, (crashes, alone) in run.spec.crashes.items():  # before it was resumed
            member = run.spec.token, i
            self.recovery.cases[member] = Case(charged={CRASH: crashes}, alone=alone)
            if alone:
                self._books.resting.loners[member] = None
        self.clocks.meet(run)

    def drop(self, token: str) -> None:
        """The books of a run were closed."""
        self.recovery.forget(token)
        if not self._runs:
            self._cuts.clear()
        self._books.resting.drop(token)

    def node_removed(self, name: str, why: str) -> None:
        """A node is about to be removed, for which no function is to blame."""
        self._removed[name] = why

    # --------------------------------------------------------------------- what happens
    def add_worker(self, scheduler: Any, worker: str) -> None:
        """A worker is there."""
        self._nannied[worker] = bool(scheduler.workers[worker].nanny)

    def remove_worker(self, scheduler: Any, worker: str, **kwargs: Any) -> None:
        """A worker is gone, as was told before."""
        self._nannied.pop(worker, None)

    def log_event(self, topic: str, msg: Any) -> None:
        """Word of what a function failed of, of the end of a process, or of a node."""
        try:
            if topic == FAULT:
                self._note(msg)
            elif topic == EXIT:
                exit = Exit.of(msg, self._host.keys.member)
                self._enact(
                    self.recovery.learned(str(msg["worker"]), exit, self._now())
                )
            elif topic == "all" and msg.get("action") == "remove-worker":
                self._died(msg)
        except Exception:
            logger.exception("What was told on %s can't be taken in: %s", topic, msg)

    def transition(
        self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any
    ) -> None:
        """A task changed its state; comes after the host's own hook."""
        if finish == "memory" and not self.recovery.is_idle:
            found = self._host.keys.find(key)
            if found is not None:
                run, i = found
                member, node = (run.spec.token, i), run.book.node[i]
                self._enact(self.recovery.done(member, node, self._now()))
                self._books.resting.release(member)
                self._host.sender.wake(node)
        elif finish in ("erred", "forgotten") and not self.recovery.is_idle:
            found = self._host.keys.find(key)
            if found is not None:
                run, i = found
                self.recovery.gone((run.spec.token, i))
                self._books.resting.release((run.spec.token, i))

    def _now(self) -> float:
        now = self._books.now = time()
        return now

    # ------------------------------------------------------------- functions that fail
    def _note(self, msg: Mapping[str, Any]) -> None:
        key = msg["key"]
        key = tuple(key) if isinstance(key, list) else key
        self._faults[key, str(msg.get("worker", ""))] = Fault.of(msg)
        if len(self._faults) > KEPT:
            del self._faults[next(iter(self._faults))]

    def _task_erred(self, key: Any, worker: str = "", **message: Any) -> None:
        """A task failed on a worker: it may get another try of which Dask knows."""
        fault = self._faults.pop((key, worker), None)
        again: list[Again] = []
        try:
            again = self._failed(key, worker, fault, message)
        except Exception:
            logger.exception("Task %r fails, for nothing can be decided on it", key)
        if again:
            self._scheduler.tasks[key].retries = 1
        self._dask(key=key, worker=worker, **message)
        for decision in again:
            self._settle(decision)

    def _failed(
        self, key: Any, worker: str, fault: Fault | None, message: Mapping[str, Any]
    ) -> list[Again]:
        found = self._host.keys.find(key)
        task = self._scheduler.tasks.get(key)
        if found is None or isinstance(found[0], AdoptedRun) or task is None:
            return []
        ws = task.processing_on
        if ws is None or ws.address != worker or task.run_id != message.get("run_id"):
            return []  # of an attempt that was taken back
        run, i = found
        now, member = self._now(), (run.spec.token, i)
        spans = message.get("startstops") or ()
        spans = [span for span in spans if span["action"] == "compute"]
        begin, end = (spans[0]["start"], spans[-1]["stop"]) if spans else (now, now)
        tried = self._tried(run, i, begin, end)
        if fault is None:
            fault = Fault.guessed(str(message.get("exception_text", "")))
        elif fault.text:
            run.seen.said[i] = str(fault)
        out = []
        for decision in self.recovery.failed(tried, fault, now):
            if isinstance(decision, Again):
                run.seen.said.pop(i, None)  # its attempt says it
                self._begin_rest(decision)
                self._host.follower.tried(run, i, decision.attempt)
                out.append(decision)
            else:
                self._books.resting.release(member)
        return out

    def _tried(self, run: LiveRun, i: int, begin: float, end: float) -> Tried:
        """What is to be known of an attempt of a function that is over."""
        book, name = run.book, run.book.node[i]
        nodes = (self._books.nodes.get(n) for n in book.able(i))
        able = [b.node for b in nodes if b is not None]
        known = self._books.nodes.get(name)
        claim = book.demand(i, None if known is None else known.node)
        return Tried(
            (run.spec.token, i),
            label_of(self._scheduler.tasks[run.key(i)]),
            run.spec.policy(i),
            Attempt(book.attempts[i], name, begin, end),
            claim.get(MEMORY, 0.0),
            max((node.capacity(MEMORY) for node in able), default=0.0),
            claim.get(GPU_MEMORY, 0.0),
            max((node.capacity(GPU_MEMORY) for node in able), default=0.0),
            book.option(i) if run.spec.option else 0,
            variants.others(book, i, self._books.nodes),
        )

    # ------------------------------------------------------------------ nodes that die
    def _died(self, msg: Mapping[str, Any]) -> None:
        """A worker was removed; its tasks are about to be taken back."""
        worker = msg["worker"]
        name = self._host.roster.names.get(worker)
        book = self._books.nodes.get(name or "")
        if name is None or book is None:
            return
        now, tried, company = self._now(), [], len(book.lingering)
        for key in msg["processing-tasks"]:
            found = self._host.keys.find(key)
            if found is None:
                company += 1
                self._count_cut(key)
                continue
            run, i = found
            if run.book.state[i] in ENDED or run.book.node[i] != name:
                continue
            has_begun = (run.spec.token, i) in book.running
            begin = run.since + run.book.start[i] if has_begun else now
            tried.append(self._tried(run, i, min(begin, now), now))
        why = self._removed.pop(name, "")
        if not why and msg["expected"]:
            why = "it has left"
        self._enact(
            self.recovery.died(
                worker,
                name,
                tried,
                now,
                why=why,
                is_explained=self._nannied.get(worker, False)
                and NAME in self._scheduler.nanny_plugins,
                filled=self._is_filled(book),
                company=company,
            )
        )
        self._scheduler.loop.call_later(EVIDENCE + 0.01, self._look)

    def _count_cut(self, key: Any) -> None:
        """The cutting of an element was on a node that died; too often it fails."""
        if self._host.keys.is_cut(key):
            self._cuts[key] = self._cuts.get(key, 0) + 1
            if self._cuts[key] > UNEXPLAINED:
                self._scheduler.tasks[key].suspicious = sys.maxsize - 1

    def _look(self) -> None:
        """Time passed; by the clock, which is not that of timers."""
        now = self._now()
        self._enact(self.recovery.passed(now))
        for token, run in list(self._runs.items()):
            for i, rest in list(run.book.rests.items()):
                if now > rest.until + OVERDUE and self._books.resting.wake((token, i)):
                    self._host.follower.awake(run, i)

    def _is_filled(self, book: NodeBook) -> bool:
        """Whether the memory of a node may have run out."""
        room = book.node.capacity("memory")
        if not 0.0 < room < inf:
            return False
        runs = self._books.runs
        claimed = sum(
            runs[token].demand(i, book.node).get("memory", 0.0)
            for token, i in book.running
        )
        seen = self._books.tracker.snapshot().get(book.node.name, {})
        used = seen.get("memory", (0.0, 0.0, None))[2] or 0.0
        return bool(max(claimed, used) >= FILLED * room)

    # -------------------------------------------------------------------- what is done
    def _enact(self, decisions: Iterable[Decision]) -> None:
        for decision in decisions:
            if isinstance(decision, Hold):
                self._books.resting.rest(decision.member, decision.until, decision.why)
            elif isinstance(decision, Again):
                token, i = decision.member
                self._host.follower.tried(self._runs[token], i, decision.attempt)
                self._begin_rest(decision)
                self._settle(decision)
            elif isinstance(decision, GiveUp):
                # Not at once: its node may be about to be taken out of the books.
                why = "it is about to fail"
                self._books.resting.rest(decision.member, inf, why)
                self._scheduler.loop.add_callback(self._give_up, decision)
            elif isinstance(decision, Quarantine):
                self._barring.bar(decision.node, decision.until, decision.why)

    def _begin_rest(self, decision: Again) -> None:
        """Enter in the books, before the function waits again, how it shall."""
        resting, member = self._books.resting, decision.member
        token, i = member
        resting.rest(member, decision.at, decision.why)
        case = self.recovery.cases.get(member)
        crashes = 0 if case is None else case.charged.get(CRASH, 0)
        self._host.follower.journals.set_back(token, i, crashes, decision.alone)
        if decision.at > self._books.now:
            delay = max(decision.at - time(), 0.0)
            self._scheduler.loop.call_later(delay, self._wake, decision)
        if decision.alone:
            resting.loners[member] = None
        else:
            resting.loners.pop(member, None)
        variants.change(self._runs[token].book, i, decision, self._books.nodes)
        if decision.avoid:
            resting.shun(member, decision.avoid)

    def _settle(self, decision: Again) -> None:
        """It waits again, or is about to."""
        if decision.at <= self._books.now:
            self._wake(decision)
        if decision.avoid:
            self._books.resting.leave(decision.member)
        run = self._runs.get(decision.member[0])
        if run is not None:
            self._host.replanner.anew(run)

    def _wake(self, decision: Again) -> None:
        """A function has rested."""
        token, i = decision.member
        run = self._runs.get(token)
        rest = None if run is None else run.book.rests.get(i)
        if run is None or rest is None or rest.until > decision.at:
            return
        self._now()
        if self._books.resting.wake(decision.member):
            self._host.follower.awake(run, i)

    def _give_up(self, decision: GiveUp) -> None:
        """A function fails for what became of its node."""
        token, i = decision.member
        run = self._runs.get(token)
        if run is None or run.book.state[i] in ENDED:
            return
        self._now()
        self._books.resting.release(decision.member)
        self._host.follower.tried(run, i, decision.attempt)
        run.book.node[i] = decision.attempt.node
        error = decision.error
        if not isinstance(error, HandoutError):
            error = FunctionError(decision.attempt.error)
        refuse(self._scheduler, run.key(i), error)

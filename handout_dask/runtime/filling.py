"""Filling: holds back what would fill nodes whose disks are full; ends what can't be.

Beside plugin.py it reads the scheduler's internals; the seams here:

* ``WorkerState.metrics`` is what a worker's probe told with its last heartbeat;
  ``executing`` what runs there, ``processing`` what was sent there, ``nbytes`` the
  size of the results there.
* ``TaskState.waiters``, ``who_wants``, ``nbytes``: whether a result is needed when a
  function has read it.
* ``Scheduler.transitions({key: "released"})`` takes back what a paused worker does not
  begin.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields
from time import time
from typing import Any

import dask
from distributed import Scheduler
from distributed.core import Status
from distributed.protocol import pickle, to_serialize

from handout_dask.books import READY, Member, RunBook
from handout_dask.dispatch import Dispatcher
from handout_dask.errors import ResourceExhaustedError
from handout_dask.fullness import Fill, Fullness
from handout_dask.runtime.erring import err, label_of
from handout_dask.runtime.probe import DISK, RUNNING
from handout_dask.runtime.records import NAME, LiveRun
from handout_dask.runtime.replanner import Replanner
from handout_dask.runtime.roster import Roster

TOLD = [field.name for field in fields(Fill)]
UNKNOWN = "one that has not told yet how full it is"  # why a node is sent no more
UNTOLD = 3.0  # s for which a node that has told nothing is taken to have no disk
HELD_UP = 2.0  # s that a paused worker may leave alone what it was sent
MB = 1e6


class Filling:
    """Keeps what is known of full nodes, and acts on it.

    Parameters
    ----------
    scheduler : distributed.Scheduler
        Whose workers tell, and whose tasks fail if there is no room for them.
    dispatcher, runs, roster : Dispatcher, dict, Roster
        The books, which ask before they send; live runs by token; which node is which
        worker.
    replanner : Replanner
        Told when a node is full.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        dispatcher: Dispatcher,
        runs: dict[str, LiveRun],
        roster: Roster,
        replanner: Replanner,
    ) -> None:
        self._scheduler, self._dispatcher, self._runs = scheduler, dispatcher, runs
        self._roster, self._replanner = roster, replanner
        self._fullness = Fullness()
        self._full: set[str] = set()
        self._untold: dict[str, float] = {}  # until when nodes are taken for diskless
        self._bare: dict[str, float] = {}  # [MB] these hold besides results
        self._paused: dict[str, float] = {}  # since when
        dispatcher.admits, dispatcher.refusal = self._admits, self._refusal
        replanner.has_room = lambda name: not self._is_full(name)

    # ------------------------------------------------------------------- sending
    def _admits(self, run: RunBook, i: int, name: str) -> bool:
        if self._fullness.fill(name) is None:
            self._meet(name)
        if not self._fullness.is_cramped(name):
            return True
        live = self._runs.get(run.spec.token)
        if live is None:
            return True
        member, (frees, brings) = (run.spec.token, i), self._inputs(live.key(i), name)
        mb = self._expected(run, i) + brings
        if self._fullness.admits(name, member, mb, frees):
            run.held_back.pop(i, None)
            return True
        run.held_back[i] = name
        return False

    def _meet(self, name: str) -> None:
        """Take in what is known of a node of which nothing was taken in before.

        One that has told nothing yet is taken to have no disk: else it were full before
        it tells, of results that it makes in moments.
        """
        ws = self._scheduler.workers.get(self._roster.address.get(name, ""))
        if ws is None:
            return
        now = time()
        if ws.metrics.get(NAME, {}).get(DISK):
            self._look_at(name, ws, now)
        elif now < self._untold.setdefault(name, now + UNTOLD):
            self._assume(name, ws)
            self._fullness.moves(now)  # it is about to tell

    def _assume(self, name: str, ws: Any) -> None:
        """Take a node to have no disk; what has ended there has left what it did."""
        used, results = ws.metrics.get("memory", 0) / MB, ws.nbytes / MB
        bare = self._bare.setdefault(name, max(used - results, 0.0))
        book, refused = self._dispatcher.nodes[name], self._fullness.refused(name)
        fill = _assumed(ws, max(used, bare + results), results)
        in_hand = [*book.running, *book.ahead]
        self._fullness.told(name, fill, in_hand)
        self._fullness.left(name, in_hand)
        self._let(refused)

    def _is_full(self, name: str) -> bool:
        """Whether a node has told that it is full: not if it has yet to tell."""
        return name not in self._untold and self._fullness.is_full(name)

    def _expected(self, run: RunBook, i: int) -> float:
        """[MB] that a function leaves: as seen of its name, or declared; else 0."""
        outline = run.spec.outline
        if outline is None:
            return 0.0
        declared = float(outline.output_mb[i])
        live = self._runs.get(run.spec.token)
        seen = 0.0 if live is None else live.largest.get(int(outline.name[i]), 0) / MB
        return max(seen, declared if declared == declared else 0.0)

    def _inputs(self, key: Any, name: str) -> tuple[float, float]:
        """[MB] of inputs on a node that nobody needs afterwards; and of those that have
        to be brought there.
        """
        task = self._scheduler.tasks.get(key)
        ws = self._scheduler.workers.get(self._roster.address.get(name, ""))
        frees = brings = 0
        for read in task.dependencies if task is not None else ():
            if ws not in (read.who_has or ()):
                brings += max(read.nbytes, 0)
            elif read.waiters == {task} and not read.who_wants:
                frees += max(read.nbytes, 0)
        return frees / MB, brings / MB

    def _refusal(self, run: RunBook, i: int) -> str:
        name = run.node[i]
        why = self._fullness.why(name, (run.spec.token, i))
        return UNKNOWN if why and name in self._untold else why

    # ------------------------------------------------------------------- looking
    def look(self, now: float) -> None:
        """Take in what has been told since the last look, and act on it."""
        if not self._runs:
            return
        held = self._held_up()  # by what was told before the last sending
        full = set(filter(self._is_full, self._roster.address))
        moves = any(ws.executing for ws in self._scheduler.workers.values())
        there = self._roster.address
        for name in [name for name in self._paused if name not in there]:
            del self._paused[name]
        for name in self._fullness.names() - there.keys():
            self._let(self._fullness.refused(name))
            self._fullness.forget(name)
        for name in self._untold.keys() - there.keys():
            self._untold.pop(name)
            self._bare.pop(name, None)
        for name, address in there.items():
            ws = self._scheduler.workers.get(address)
            if ws is not None:
                moves |= self._look_at(name, ws, now)
        if full - self._full:
            self._replanner.changed(f"node {min(full - self._full)} is full")
        self._full = full
        if moves or not held:
            self._fullness.moves(now)
        elif self._fullness.is_stuck(now):
            for token, i in held:
                self._fail(self._runs[token], i)

    def _let(self, members: Collection[Member]) -> None:
        for token, i in members:
            if token in self._runs:
                self._runs[token].book.held_back.pop(i, None)

    def _look_at(self, name: str, ws: Any, now: float) -> bool:
        """Take in what one worker told; whether it shows that something happens."""
        told, moves = ws.metrics.get(NAME, {}), False
        if told.get(DISK):
            self._untold.pop(name, None)
            self._bare.pop(name, None)
            book = self._dispatcher.nodes[name]
            fill = Fill(**{what: told[DISK][what] for what in TOLD})
            refused = self._fullness.refused(name)
            moves = self._fullness.told(name, fill, [*book.running, *book.ahead])
            if not self._fullness.is_full(name):  # what it refused is tried again
                self._let(refused)
        elif now > self._untold.get(name, now):  # it never will
            self._let(self._fullness.refused(name))
            self._fullness.forget(name)
        elif name in self._untold:
            self._assume(name, ws)
        if ws.status is not Status.paused:
            moves |= self._paused.pop(name, None) is not None
        elif now - self._paused.setdefault(name, now) > HELD_UP:
            self._take_back(name, told.get(RUNNING))
        return moves

    def _take_back(self, name: str, running: Any) -> None:
        """Take back what a paused worker was sent, and has not begun."""
        if running is None:
            return
        begun = {tuple(key) if isinstance(key, list) else key for key in running}
        book, due = self._dispatcher.nodes[name], {}
        for token, i in [*book.running, *book.ahead]:
            key = self._runs[token].key(i)
            task = self._scheduler.tasks.get(key)
            if key not in begun and task is not None and task.state == "processing":
                due[key] = "released"
        if due:
            self._scheduler.transitions(due, f"handout-paused-{time()}")

    def _held_up(self) -> list[Member]:
        """What is ready on nodes that have no room, or no memory to begin anything."""
        return [
            (token, i)
            for token, run in self._runs.items()
            for name, queue in run.book.queues.items()
            if queue.ready and self._is_held_up(name)
            for _, i in queue.ready
            if run.book.state[i] == READY and run.book.node[i] == name
        ]

    def _is_held_up(self, name: str) -> bool:
        fill = self._fullness.fill(name)
        if fill is None:
            return False
        paused = name in self._paused and fill.used > fill.ceiling
        return paused or self._fullness.is_full(name)

    def _fail(self, run: LiveRun, i: int) -> None:
        """Fail a function for which there is no room, and will be none."""
        name, key = run.book.node[i], run.key(i)
        task, fill = self._scheduler.tasks.get(key), self._fullness.fill(name)
        if task is None or task.state != "no-worker" or fill is None:
            return
        expected = self._expected(run.book, i)
        size = f" ({expected:.0f} MB)" if expected else ""
        what = "disk" if self._fullness.is_cramped(name) else "memory"
        error = ResourceExhaustedError(
            f"function {label_of(task)} can't run: node {name!r} has no room for its "
            f"result{size}, and nothing goes on that would make some: {fill}. Free the "
            "disk, keep fewer results, or add nodes or memory.",
            what,
            fill.total if what == "disk" else fill.limit,
            fill.total - fill.free if what == "disk" else fill.used,
        )
        raised = to_serialize(pickle.dumps(error))
        err(self._scheduler, key, f"handout-full-{time()}", exception=raised)


def _assumed(ws: Any, used: float, results: float) -> Fill:
    """What is known of a worker that has told nothing: as if it had no disk."""
    pause = dask.config.get("distributed.worker.memory.pause", 0.8)
    return Fill(
        limit=ws.memory_limit / MB,
        used=used,
        pause=float(pause or 0.0),
        managed=results,
        path="a place that it has not told yet",
        device=ws.address,
        free=0.0,
        total=0.0,
        spilled=0.0,
        failures=0,
    )

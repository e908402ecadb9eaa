"""Clocks: fails functions that have waited too long, or whose deadline has passed.

How long one may run is watched where it runs. Beside plugin.py it touches the
scheduler's internals; the seams here:

* ``Scheduler.transitions({key: "released"})`` takes a task back from its worker.
"""

from __future__ import annotations

from time import perf_counter, time
from typing import Any

from distributed import Scheduler

from handout_dask.books import ENDED, READY, SENT, Member
from handout_dask.dispatch import Dispatcher
from handout_dask.retry import RetryPolicy
from handout_dask.runtime.bonds import refuse
from handout_dask.runtime.erring import label_of
from handout_dask.runtime.lingering import Lingering
from handout_dask.runtime.records import LiveRun
from handout_dask.setbacks import overdue

TICK, SHARE = 0.05, 20.0  # s between looks, and times as long as one takes, at least


class Clocks:
    """Looks at functions whose policies have clocks, as long as there are any.

    Parameters
    ----------
    scheduler : distributed.Scheduler
        Whose tasks fail.
    dispatcher, runs, lingering : Dispatcher, dict, Lingering
        The books; live runs by token; what goes on that was taken back.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        dispatcher: Dispatcher,
        runs: dict[str, LiveRun],
        lingering: Lingering,
    ) -> None:
        self._scheduler, self._dispatcher, self._runs = scheduler, dispatcher, runs
        self._lingering = lingering
        self._clocked: dict[str, list[tuple[int, RetryPolicy]]] = {}
        self._since: dict[Member, float] = {}  # since when functions are ready
        self._due: Any = None

    def stop(self) -> None:
        """Look no more."""
        if self._due is not None:
            self._scheduler.loop.remove_timeout(self._due)
            self._due = None

    def meet(self, run: LiveRun) -> None:
        """A run begins."""
        spec = run.spec
        pairs = [(i, spec.policy(i)) for i in range(len(spec.node))]
        clocked = [(i, p) for i, p in pairs if p.has_clocks]
        if clocked:
            self._clocked[spec.token] = clocked
            if self._due is None:
                self._look_in(TICK)

    def _look_in(self, seconds: float) -> None:
        self._due = self._scheduler.loop.call_later(seconds, self._look)

    def _look(self) -> None:
        begin, self._due = perf_counter(), None
        now = self._dispatcher.now = time()
        since, self._since = self._since, {}
        for token, clocked in list(self._clocked.items()):
            run = self._runs.get(token)
            if run is None or not run.book.left:
                del self._clocked[token]
                continue
            for i, policy in clocked:
                self._check(run, i, policy, since, now)
        if self._clocked:
            self._look_in(max(TICK, SHARE * (perf_counter() - begin)))

    def _check(
        self, run: LiveRun, i: int, policy: RetryPolicy, since: dict[Member, float],
        now: float,
    ) -> None:  # fmt: skip
        state, member = run.book.state[i], (run.spec.token, i)
        if state in ENDED:
            return
        waited = None
        if state == READY:
            self._since[member] = since.get(member, now)
            waited = now - self._since[member]
        task = self._scheduler.tasks.get(run.key(i))
        if task is None:
            return  # its graph is on its way
        error = overdue(label_of(task), policy, waited, now - run.since)
        if error is None:
            return
        if state == SENT:
            stimulus = f"handout-overdue-{now}"
            self._scheduler.transitions({task.key: "released"}, stimulus)
            self._lingering.doom(run, i)
        refuse(self._scheduler, task.key, error)

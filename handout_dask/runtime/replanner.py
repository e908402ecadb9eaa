"""Replanner: plans again what has not started of live runs, beside the event loop.

Decides when; `allocators.revision` decides what. Learns what functions take.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from time import perf_counter, time
from typing import Any

import numpy as np

from handout_dask.allocators.revision import Revision, revise, stand_of
from handout_dask.allocators.warming import path_for
from handout_dask.books import READY
from handout_dask.dispatch import Dispatcher
from handout_dask.held import Held
from handout_dask.learned import mean_speed
from handout_dask.node import Node
from handout_dask.observed import narrowed
from handout_dask.runtime.learner import Learner, declared_of, speed_of
from handout_dask.runtime.records import LiveRun
from handout_dask.runtime.roster import Roster

logger = logging.getLogger(__name__)

LEAST_OFF, OFF = 0.02, 0.01  # s, share of what is left: what is off by more is news
PAUSE = 30.0  # times as long as planning again took, it is not done again
LEAST_PAUSE = 0.02  # s
MOST_PAUSE = 0.1  # of the time that is left, where that is more than a second
COST_SHARE, MOST_COST = 0.05, 0.02  # of a new value in the mean; s
AGAIN = 1.15  # times as late a function is news once more
RECOVERS = 0.005  # share of its slowness that an idle node is forgiven at each look
WAITS = 0.1  # s after its planned start that a ready function may wait
OUTDATED = 0.5  # s; with an older plan a node does not idle for what it says
OVERDUE = 1.2  # times its expected time, after which a function that runs is news


class Replanner:
    """Keeps the plans of live runs up to date.

    Parameters
    ----------
    dispatcher : Dispatcher
        Of whose runs what has not started is planned again.
    runs : dict
        Live runs by token; kept by the plugin.
    roster : Roster
        Knows nodes and links.
    is_running : callable
        Whether a node, by name, takes work.
    revised : callable
        ``revised(run, moved)``: told which functions shall run elsewhere now.
    told : callable
        ``told(run)``: there is something to tell of a run to its client.
    loop : tornado.ioloop.IOLoop
        The scheduler's.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        runs: dict[str, LiveRun],
        roster: Roster,
        is_running: Callable[[str], bool],
        revised: Callable[[LiveRun, Iterable[int]], None],
        told: Callable[[LiveRun], None],
        loop: Any,
    ) -> None:
        self._dispatcher, self._runs, self._roster = dispatcher, runs, roster
        self._is_running, self._revised, self._loop = is_running, revised, loop
        self._told = told
        # What of nodes can be used, where that is less than they declare.
        self.limits: Callable[[], dict[str, dict[str, float]]] = dict
        self.has_room: Callable[[str], bool] = lambda name: True
        self._pool = ThreadPoolExecutor(1, "handout-replan")
        self._learner = Learner()
        self.history = self._learner.history
        self._is_loaded = False  # what planning again needs, which is done once
        self._spent = 0.0  # s of planning again so far
        self.cost = 0.0  # s from a free slot to news of the end, besides the run time

    def close(self) -> None:
        """End the thread, when what it does is done."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    # --------------------------------------------------------------------- news
    def changed(self, why: str) -> None:
        """Something happened to a node; all that has not started is planned again."""
        for run in self._runs.values():
            run.pause_until = 0.0
            if run.due is not None:  # it waits for the end of a pause
                self._loop.remove_timeout(run.due)
                run.due, run.planning = None, False
            run.urgent = run.planning
            self._want(run, why)

    def shared(self, but: LiveRun) -> None:
        """A run began or ended, so that others have less room, or more."""
        if but.book.left:
            self._learner.meet(but)
        for run in self._runs.values():
            if run is not but:
                self._want(run, "another run began or ended")

    def failed(self, run: LiveRun) -> None:
        """A function failed; what depends on it needs no room."""
        self._want(run, "a function failed")

    def anew(self, run: LiveRun) -> None:
        """A function that ran late begins anew on another node."""
        self._want(run, "begins anew")

    def joined(self, name: str) -> None:
        """A node is there that was not, or had gone."""
        self.history.relax(name)
        self.changed(f"node {name} joined")

    def ended(
        self,
        run: LiveRun,
        i: int,
        seconds: float | None,
        start: float,
        end: float,
        about: Mapping[str, Any],
    ) -> None:
        """A function ended, which was expected to begin and to end then [s]; `about` is
        what Dask says of it.
        """
        outline = run.spec.outline
        if outline is None or seconds is None:
            return
        node = self._dispatcher.nodes[run.book.node[i]].node
        if self._learner.took(run, i, node, seconds, about):
            self._want(run, "takes more memory")
        at = self._dispatcher.now - run.book.since
        besides = min(max(at - start - seconds, 0.0), MOST_COST)
        self.cost += COST_SHARE * (besides - self.cost)
        if abs(at - end) > max(LEAST_OFF, OFF * (run.book.last - at)):
            self._want(run, "late" if at > end else "early")

    def believed(self, run: LiveRun, i: int, node: Node) -> float | None:
        """Seconds that a function takes on a node that is as declared, if known."""
        outline = run.spec.outline
        assert outline is not None
        name, label = outline.names[outline.name[i]], outline.labels[i]
        work = self.history.believed(name, label, declared_of(run, i))
        return None if work is None else work / speed_of(run, i, node)

    def watch(self) -> None:
        """Look for what no event tells of: functions that run on, nodes that idle."""
        now = self._dispatcher.now
        for name, book in self._dispatcher.nodes.items():
            if not book.running and self.history.node_factor(name) > OVERDUE:
                self.history.relax(name, RECOVERS)
            for token, i in book.running:
                run = self._runs.get(token)
                if run is None or run.spec.outline is None:
                    continue
                begun, expected = run.book.start[i], run.book.seconds(i)
                passed = now - run.book.since - begun
                if passed > run.late.get(i, OVERDUE * expected + LEAST_OFF):
                    run.late[i] = AGAIN * passed
                    believed = self.believed(run, i, book.node)
                    if believed and (token, i) not in book.unsure:
                        self.history.overdue(name, passed / max(believed, 1e-3))
                    self._want(run, "late")
        for run in self._runs.values():
            if run.book.blocked or self._is_kept_waiting(run):
                run.book.blocked = False
                if now - run.revised_at > OUTDATED:
                    self._want(run, "waits")

    def _is_kept_waiting(self, run: LiveRun) -> bool:
        """Whether a function is ready that should have begun already."""
        book = run.book
        at = self._dispatcher.now - book.since
        at -= max(WAITS, OFF * (book.last - at))
        return any(
            book.state[i] == READY and book.start[i] < at
            for queue in book.queues.values()
            for _, i in queue.ready[:1]
        )

    # ----------------------------------------------------------------- planning
    def _want(self, run: LiveRun, why: str) -> None:
        if run.spec.outline is None or not run.spec.adaptive or not run.book.left:
            return
        run.news.setdefault(why)
        if not run.planning:
            run.planning = True
            pause = max(0.0, run.pause_until - time())
            run.due = self._loop.call_later(pause, self._begin, run)

    def _begin(self, run: LiveRun) -> None:
        try:
            self._plan(run)
        except Exception:
            run.planning = False
            logger.exception("Run %s can't be planned again", run.spec.token)

    def _plan(self, run: LiveRun) -> None:
        run.due = None
        if run.spec.token not in self._runs or not run.book.left:
            run.planning = False
            return
        begin = perf_counter()
        news, run.news = [*run.news], {}
        self._dispatcher.now = now = time()
        spec = run.spec
        outline = run.book.outline
        assert outline is not None
        names = [
            name
            for name in self._roster.address
            if self._is_running(name) and self.has_room(name)
        ]
        nodes = self._dispatcher.nodes
        names = [name for name in names if not nodes[name].barred] or names
        cluster = self._roster.cluster(run.owner, names, away=True)
        cluster = narrowed(cluster, self.limits(), outline)
        if not cluster.nodes:
            run.planning = False
            return
        slower = np.array(
            [self.history.node_factor(node.name) for node in cluster.nodes]
        )
        held = [
            Held(*row)
            for row in self._dispatcher.outlook(before=run.book)
            if row[0] in cluster.index
        ] + self._roster.holding.held(run.owner, now)
        ahead = [
            i
            for book in self._dispatcher.nodes.values()
            for token, i in book.ahead
            if token == spec.token
        ]
        stand = stand_of(run.book, now, ahead)
        option = np.array(spec.option)
        for i, other in run.book.switched.items():
            option[i] = other
        chosen = outline.option_ptr[:-1] + option
        work = outline.option_work.copy()
        memory = self._learner.memory(run, self._dispatcher.nodes)
        extra = self.cost * mean_speed(cluster)

        def plan() -> tuple[Revision, float]:
            begin = perf_counter()
            work[chosen] = self._learner.work(run, chosen) + extra
            made = revise(
                outline,
                option,
                stand,
                cluster,
                held,
                work,
                slower,
                spec.fixed,
                spec.deadline,
                mb=self._learner.sizes(run),
                memory=memory,
                path=path_for(len(option), self._spent),
            )
            took = perf_counter() - begin
            self._spent += took
            return made, took

        future = self._pool.submit(plan)
        spent = perf_counter() - begin
        future.add_done_callback(
            lambda done: self._loop.add_callback(self._end, run, news, spent, done)
        )

    def _end(
        self, run: LiveRun, news: list[str], spent: float,
        done: Future[tuple[Revision, float]],
    ) -> None:  # fmt: skip
        run.planning = False
        if run.spec.token not in self._runs or done.cancelled():
            return
        try:
            revision, seconds = done.result()
        except Exception:
            run.pause_until = time() + 1.0
            logger.exception("Run %s can't be planned again", run.spec.token)
            return
        begin = perf_counter()
        run.revised_at = time()
        if not self._is_loaded:
            self._is_loaded, spent, seconds = True, 0.0, 0.0
        moved = self._dispatcher.revise(
            run.spec.token, revision.node, revision.start, revision.end,
            revision.latest, revision.rank,
        )  # fmt: skip
        now = time() - run.book.since
        run.replans.append((now, ", ".join(news), revision.makespan, len(moved)))
        self._told(run)
        self._revised(run, moved)
        spent += seconds + perf_counter() - begin
        most = max(1.0, MOST_PAUSE * (run.book.last - now))
        if not run.urgent:
            run.pause_until = time() + min(max(LEAST_PAUSE, PAUSE * spent), most)
        run.urgent = False
        if run.news:
            self._want(run, next(iter(run.news)))

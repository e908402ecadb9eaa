"""Viewing: live runs, and those that ended of late, as Pictures for pages.

Reads the books; changes nothing. What takes long is made beside the event loop.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from time import time
from typing import Any

import numpy as np
from tornado.ioloop import PeriodicCallback

from handout_dask.billing import bill
from handout_dask.books import DONE, FAILED, GONE, READY, WAITING
from handout_dask.comparison import held_money
from handout_dask.dispatch import Dispatcher
from handout_dask.events import Hold
from handout_dask.node import Cluster, Node
from handout_dask.picture import AGAIN, BLOCKED, CANCELLED, RUNNING, Picture
from handout_dask.plans import Plan
from handout_dask.problem import Problem
from handout_dask.runtime.follower import STOPPED
from handout_dask.runtime.inputs import Inputs
from handout_dask.runtime.lookout import Lookout
from handout_dask.runtime.overview import Overview
from handout_dask.runtime.records import LiveRun
from handout_dask.runtime.roster import Roster
from handout_dask.runtime.viewed import Viewed, keep
from handout_dask.showing import Summary
from handout_dask.spanlog import MOST_ERROR, short
from handout_dask.waiting import Asked

logger = logging.getLogger(__name__)

TICK = 500  # ms between looks at what nodes hold and use
FRESH = 0.2  # s for which a picture is shown again, be it to another page
KEPT, MOST_KEPT = 20, 200_000  # runs that ended, and functions of them, to be shown
BOUNDS = 5000  # functions; of more it takes too long to find the critical path
OFTEN = 2000  # functions; of more it is seldom looked up where each shall run
SELDOM = 3.0  # s between those looks
OFFERS = 3  # of other nodes that are told
LOOKED = 50  # functions that are looked at for why they wait, for each one told

# From the states of the books to those of a Picture.
SHOWN = np.array([0, 1, 2, 5, 6, 8], dtype=np.uint8)


class Viewing:
    """Makes Pictures; what pages ask (see `showing.Pictures`).

    Parameters
    ----------
    host : HandoutPlugin
        Whose runs and nodes it shows.
    mount : callable
        ``mount(scheduler, viewing)`` makes pages, if there can be any; it returns what
        takes them away.
    """

    def __init__(self, host: Any, mount: Callable[..., Callable[[], None]]) -> None:
        self._scheduler, self._is_running = host.scheduler, host._is_running
        self._dispatcher: Dispatcher = host.dispatcher
        self._runs: dict[str, LiveRun] = host.runs
        self._roster: Roster = host.roster
        self._inputs: Inputs = host.inputs
        self._viewed: dict[str, Viewed] = {}  # in the order in which they were met
        self._pool = ThreadPoolExecutor(1, "handout-view")
        self._lookout = Lookout(
            self._dispatcher.tracker.snapshot,
            self._is_busy,
            self._keep,
            host.scheduler.loop,
        )
        host.sender.acted = self._lookout.changed
        self.is_live = True
        host.follower.closed = self._closed
        self._timer = PeriodicCallback(self._look, TICK)
        self._timer.start()
        self._overview = Overview(
            host.scheduler, self._dispatcher, self.runs, self._is_running
        )
        self._unmount = mount(host.scheduler, self)

    def stop(self) -> None:
        """There is nobody any more who runs anything."""
        self.is_live = False
        self._timer.stop()
        self._overview.stop()
        self._unmount()
        self._pool.shutdown(wait=False, cancel_futures=True)

    # ------------------------------------------------------------------- looking
    def _look(self) -> None:
        self._meet()
        self._lookout.look()

    def _is_busy(self) -> bool:
        return any(run.book.left for run in self._runs.values())

    def _keep(self) -> None:
        """Keep what was seen of runs that have ended."""
        self._meet()
        keep(reversed(self._viewed.values()), self._lookout)

    def _meet(self) -> None:
        for token, run in self._runs.items():
            if token not in self._viewed and run.spec.outline is not None:
                self._viewed[token] = Viewed(run)

    def _closed(self, run: LiveRun) -> None:
        """The books of a run were closed; it is shown on, as long as there is room."""
        self._meet()
        token = run.spec.token
        if run.spec.outline is None or not self.is_live:
            return
        viewed = self._viewed.setdefault(token, Viewed(run))
        viewed.over = time() - run.since
        viewed.last = None
        self._lookout.look()
        self._keep()
        ended = [v for v in self._viewed.values() if v.over is not None]
        functions = sum(len(v.run.spec.node) for v in ended)
        for old in ended[:-1]:
            if len(ended) <= KEPT and functions <= MOST_KEPT:
                break
            ended.remove(old)
            functions -= len(old.run.spec.node)
            del self._viewed[old.run.spec.token]

    # ------------------------------------------------------------- what pages ask
    def runs(self) -> list[Summary]:
        """Runs that are known, the latest first."""
        self._meet()
        return [self._summary(viewed) for viewed in reversed(self._viewed.values())]

    def _summary(self, viewed: Viewed) -> Summary:
        run, book, seen = viewed.run, viewed.run.book, viewed.run.seen
        outline, running = run.spec.outline, 0
        assert outline is not None
        if viewed.over is None:
            nodes = self._dispatcher.nodes.values()
            running = sum(t == run.spec.token for x in nodes for t, _ in x.running)
        now = viewed.now
        failed = {i for i, x in enumerate(book.state) if x == FAILED} - seen.blocked
        return Summary(
            run.spec.token, short(outline.title or ""), self._status(viewed),
            len(book.state), book.state.count(DONE), running, len(failed),
            seen.retries, now, max(run.spec.end, default=0.0),
            self._expected(viewed, now), self._money(viewed, {}, now),
            self._planned_money(viewed),
        )  # fmt: skip

    def picture(self, name: str) -> Picture | None:
        """A run as it is now; None if it is not known, or not yet made ready."""
        viewed = self._viewed.get(name)
        if viewed is None:
            return None
        now = time()
        if viewed.last is not None and now - viewed.last_at < FRESH:
            return viewed.last
        if viewed.base is None:
            if not self.is_live:
                return None
            viewed.base = self._begin(viewed.run)
        if not _is_ready(viewed.base):
            return None
        viewed.last, viewed.last_at = self._drawn(viewed, viewed.base.result()), now
        return viewed.last

    def waits(self, name: str, most: int) -> list[tuple[str, str]]:
        """Functions that wait, and for what; the first that should have begun first."""
        viewed = self._viewed.get(name)
        if viewed is None or name not in self._dispatcher.runs:
            return []
        book, outline = viewed.run.book, viewed.run.spec.outline
        assert outline is not None
        self._dispatcher.now = time()
        ready = [i for i, state in enumerate(book.state) if state == READY]
        ready.sort(key=book.start.__getitem__)
        if len(ready) < most:
            waiting = [i for i, state in enumerate(book.state) if state == WAITING]
            waiting = waiting[: LOOKED * most]
            ready += sorted(waiting, key=book.start.__getitem__)
        out = []
        for i in ready[:most]:
            asked = Asked(self._dispatcher, name, i, self._is_running)
            standing = asked.standing(self._arrives)
            text = str(standing.reason) if standing.reason else standing.state
            for other in standing.elsewhere[:OFFERS]:
                text += f"; {other.node} would end at {other.end:.6g} s"
            out.append((short(outline.labels[i]), short(text, MOST_ERROR)))
        return out

    def _arrives(self, token: str, i: int, name: str) -> float:
        key = self._runs[token].key(i)
        address = self._roster.address.get(name)
        if key not in self._scheduler.tasks or address is None:
            return 0.0
        return self._inputs.arrives(key, address)

    # ------------------------------------------------------------------- drawing
    def _begin(self, run: LiveRun) -> Future[Picture]:
        """Begin to make what never changes of a run."""
        cluster = self._roster.cluster(run.owner, away=True)
        nodes = [self._node(name, cluster) for name in run.seen.names]
        made = self._pool.submit(_base, run, cluster, nodes)
        made.add_done_callback(_complain)
        return made

    def _node(self, name: str, cluster: Cluster) -> Node:
        if name in cluster.index:
            return cluster[name]
        book = self._dispatcher.nodes.get(name)
        return Node(name) if book is None else book.node

    def _drawn(self, viewed: Viewed, base: Picture) -> Picture:
        """The run as it is now."""
        seen = viewed.run.seen
        state, begun = self._states(viewed)
        if len(seen.names) > len(base.nodes):
            base = base.with_nodes(tuple(map(short, seen.names)))
        now = viewed.now
        return replace(
            base,
            status=self._status(viewed),
            now=now,
            expected=self._expected(viewed, now),
            state=state,
            where=self._where(viewed, base),
            begun=begun,
            spans=seen.log.spans(),
            money=self._money(viewed, begun, now),
            replans=tuple(seen.replans),
            samples=viewed.samples(self._lookout),
        )

    def _states(self, viewed: Viewed) -> tuple[np.ndarray, dict[int, float]]:
        """(n,) how functions stand, and when those began that run."""
        run, book = viewed.run, viewed.run.book
        state = SHOWN[np.frombuffer(bytes(book.state), dtype=np.uint8)]
        state[[i for i in run.seen.blocked if book.state[i] == FAILED]] = BLOCKED
        again = [i for i in run.seen.again if book.state[i] in (WAITING, READY)]
        state[again] = AGAIN
        begun = {}
        if viewed.over is None:
            for node in self._dispatcher.nodes.values():
                for token, i in node.running:
                    if token == run.spec.token and (token, i) not in node.unsure:
                        begun[i] = book.start[i]
            state[[*begun]] = RUNNING
        else:
            ended = np.isin(state, SHOWN[[DONE, FAILED, GONE]]) | (state == BLOCKED)
            state[~ended] = CANCELLED
        return state, begun

    def _status(self, viewed: Viewed) -> str:
        run, book = viewed.run, viewed.run.book
        if book.left and viewed.over is None and not run.cancelled_by:
            began = len(run.seen.log) or book.left < len(book.state) or any(
                token == run.spec.token
                for node in self._dispatcher.nodes.values()
                for token, _ in node.running
            )  # fmt: skip
            return "running" if began else "pending"
        if run.cancelled_by == STOPPED or FAILED in book.state:
            return "failed"
        return "cancelled" if book.left or GONE in book.state else "done"

    def _expected(self, viewed: Viewed, now: float) -> float:
        """When it is expected to end, or did [s]."""
        last = viewed.run.book.last
        ended = viewed.ended is not None
        return now if ended or last == float("inf") else max(last, now)

    def _where(self, viewed: Viewed, base: Picture) -> np.ndarray:
        """(n,) on which node functions are, were, or shall be."""
        now, run = time(), viewed.run
        pause = SELDOM if len(base) > OFTEN else 0.0
        if viewed.where is None or now - viewed.where_at > pause:
            names = run.seen.names
            found = [names.setdefault(x, len(names)) for x in run.book.node]
            viewed.where, viewed.where_at = np.array(found, dtype=np.int64), now
        return viewed.where

    def _cluster(self, viewed: Viewed) -> Cluster:
        """Its nodes as `Seen.names` has them, with their prices."""
        names = viewed.run.seen.names
        if viewed.cluster is None or len(viewed.cluster) < len(names):
            known = self._roster.cluster(viewed.run.owner, away=True)
            nodes = [self._node(name, known) for name in names]
            billing, quantum = known.billing, known.quantum
            viewed.cluster = Cluster(nodes, billing=billing, quantum=quantum)
        return viewed.cluster

    def _planned_money(self, viewed: Viewed) -> float:
        """Money as planned; counted once."""
        if viewed.planned_money is None:
            spec, cluster = viewed.run.spec, self._cluster(viewed)
            node = np.array([cluster.index[x] for x in spec.node], dtype=np.int64)
            times = np.array(spec.start), np.array(spec.end)
            viewed.planned_money = bill(cluster, node, *times)
        return viewed.planned_money

    def _money(self, viewed: Viewed, begun: dict[int, float], now: float) -> float:
        """Money up to now."""
        run, cluster = viewed.run, self._cluster(viewed)
        if cluster.billing == "held":
            holds = self._roster.holding.holds(run.owner, run.since, run.since + now)
            if holds:
                return held_money(cluster, (Hold(*hold) for hold in holds))
        spans = run.seen.log.spans()
        ours = [(i, cluster.index.get(run.book.node[i], -1)) for i in begun]
        where = np.array([j for _, j in ours if j >= 0], dtype=np.int64)
        since = np.array([begun[i] for i, j in ours if j >= 0], dtype=float)
        node = np.concatenate([spans.node, where])
        start = np.concatenate([spans.start, since])
        end = np.concatenate([spans.end, np.full(len(where), now)])
        return bill(cluster, node, start, end)


def _base(run: LiveRun, cluster: Cluster, nodes: list[Node]) -> Picture:
    """What never changes of a run; made in a thread."""
    spec = run.spec
    assert spec.outline is not None
    if [node.name for node in nodes] != [*cluster.index]:
        cluster = cluster.with_nodes(nodes)
    n = len(spec.node)
    plan = Plan(
        Problem(spec.outline, cluster),
        np.array([cluster.index[name] for name in spec.node], dtype=np.int64),
        np.array(spec.option if len(spec.option) else [0] * n, dtype=np.int64),
        np.array(spec.start, dtype=float),
        np.array(spec.end, dtype=float),
    )
    try:
        return Picture.of_plan(plan, spec.token, bounds=n <= BOUNDS, order=False)
    except Exception:  # a plan that was not made by rules
        return Picture.of_plan(plan, spec.token, bounds=False, order=False)


def _complain(made: Future[Any]) -> None:
    if not made.cancelled() and made.exception() is not None:
        logger.error("A run can't be shown", exc_info=made.exception())


def _is_ready(made: Future[Picture]) -> bool:
    """Whether there is something to take."""
    return made.done() and not made.cancelled() and made.exception() is None

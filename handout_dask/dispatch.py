"""Which function is sent to which node next. Pure.

Is told what became ready, started and ended, and answers with what to send. Knows
neither Dask nor a clock.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from handout_dask.books import (
    DONE,
    ENDED,
    READY,
    SENT,
    WAITING,
    Member,
    NodeBook,
    RunBook,
    RunSpec,
)
from handout_dask.errors import TrackerError
from handout_dask.node import Node
from handout_dask.tracker import ResourceTracker

AHEAD_SECONDS = (
    0.025  # work per slot that a node may have in hand, to hide the way there
)
AHEAD_MOST = 32  # functions per slot


@dataclass(frozen=True, slots=True)
class Send:
    """A decision: send this function to this node.

    `announce` asks for word of its start.
    """

    token: str
    i: int
    node: str
    announce: bool


class Dispatcher:
    """The books of all runs and nodes, and what to send next.

    Functions of one run start on each node in planned order. Runs are served in order
    of submission; a later one gets what an earlier one can't use at the moment.

    Parameters
    ----------
    tracker : ResourceTracker
        Shared by all runs.
    """

    def __init__(self, tracker: ResourceTracker) -> None:
        self.tracker = tracker
        self.nodes: dict[str, NodeBook] = {}
        self.runs: dict[str, RunBook] = {}

    # ------------------------------------------------------------ nodes and runs
    def set_node(self, node: Node) -> None:
        """Make a node known, or change what it has; it is up."""
        self.tracker.register(node.name, node.capabilities)
        for run in self.runs.values():
            for tracker in run.trackers[1:]:
                tracker.register(node.name, node.capabilities)
        book = self.nodes.setdefault(node.name, NodeBook(node))
        book.node, book.up = node, True

    def add_run(self, spec: RunSpec, own: ResourceTracker | None = None) -> RunBook:
        """Open the books of a run; `own` is asked besides the shared tracker."""
        trackers = [self.tracker] if own is None else [self.tracker, own]
        if own is not None:
            for book in self.nodes.values():
                own.register(book.node.name, book.node.capabilities)
        run = self.runs[spec.token] = RunBook(spec, trackers)
        for name in [name for name in run.queues if not self._is_up(name)]:
            self._move_from(run, name)
        return run

    def drop_run(self, token: str) -> set[str]:
        """Close the books of a run; returns the nodes on which something was freed."""
        run = self.runs.get(token)
        if run is None:
            return set()
        freed = {run.node[i] for i, state in enumerate(run.state) if state == SENT}
        for i, state in enumerate(run.state):
            if state == SENT:
                self._free(run, i)
        del self.runs[token]
        return freed

    def lose_node(self, name: str) -> set[str]:
        """A node is gone; what may move, moves. Returns the nodes that got work."""
        if name not in self.nodes:
            return set()
        self.nodes[name].up = False
        touched: set[str] = set()
        for run in self.runs.values():
            touched |= self._move_from(run, name)
        return touched

    def stranded(self, name: str) -> list[Member]:
        """Functions that wait for a node and can run nowhere else."""
        return [
            (token, i)
            for token, run in self.runs.items()
            for i, state in enumerate(run.state)
            if run.node[i] == name and state in (WAITING, READY)
        ]

    # ------------------------------------------------------------------- events
    def ready(self, token: str, i: int) -> str:
        """The inputs of a function are computed; returns its node."""
        run = self.runs[token]
        if run.state[i] != READY:
            self._enter(run, i, READY)
        return run.node[i]

    def waiting(self, token: str, i: int) -> str:
        """A function has to be run (again); returns its node."""
        run = self.runs[token]
        if run.state[i] != WAITING:
            self._enter(run, i, WAITING)
            if not self._is_up(run.node[i]):
                self._move_from(run, run.node[i])
        return run.node[i]

    def started(self, token: str, i: int) -> str:
        """Word came that a function has its inputs and runs; returns its node."""
        run = self.runs[token]
        self.nodes[run.node[i]].unsure.discard((token, i))
        return run.node[i]

    def ended(
        self, token: str, i: int, state: int, seconds: float | None = None
    ) -> str:
        """A function ended (DONE, FAILED or GONE); returns its node."""
        run = self.runs[token]
        if seconds is not None:
            run.mean = seconds if not run.mean else 0.8 * run.mean + 0.2 * seconds
        if run.state[i] not in ENDED or state == DONE:
            self._enter(run, i, state)
        return run.node[i]

    def _enter(self, run: RunBook, i: int, state: int) -> None:
        """Change the state of a function, with all that hangs on it."""
        before = run.state[i]
        if before == SENT:
            self._free(run, i)
        run.left += (before in ENDED) - (state in ENDED)
        run.state[i] = state
        if state in (WAITING, READY) and before not in (WAITING, READY):
            queue = run.queues.setdefault(run.node[i], [])
            heapq.heappush(queue, (run.spec.rank[i], i))

    def _free(self, run: RunBook, i: int) -> None:
        member, book = (run.spec.token, i), self.nodes[run.node[i]]
        run.trackers[0].release(member)
        for tracker in run.trackers[1:]:
            with suppress(Exception):  # a user's; the function has ended all the same
                tracker.release(member)
        book.unsure.discard(member)
        book.lone -= self._is_lone(run, i)
        if member in book.running:
            del book.running[member]
            run.running -= 1
        else:
            book.ahead.remove(member)
            book.ahead_seconds -= run.seconds(i)
        while book.ahead and len(book.running) < book.node.capacity("slots"):
            token, k = book.ahead.popleft()
            other = self.runs[token]
            book.ahead_seconds -= other.seconds(k)
            book.running[token, k] = None
            other.running += 1
            cores = other.spec.demand[other.spec.need[k]].get("cpu", 1.0)
            other.trackers[0].request((token, k), book.node.name, {"cpu": cores})
            for tracker in other.trackers[1:]:
                with suppress(Exception):
                    tracker.request((token, k), book.node.name, {"cpu": cores})
        if not book.ahead:
            book.ahead_seconds = 0.0

    # ---------------------------------------------------------------- decisions
    def next(
        self, name: str, settled: Callable[[str, int, str], bool]
    ) -> Iterator[Send]:
        """What to send to a node now, in order; each is in the books once yielded.

        Parameters
        ----------
        name : str
            The node.
        settled : callable
            ``settled(token, i, node)``: are all inputs of the function on the node?
        """
        book = self.nodes.get(name)
        # Behind a function whose inputs are under way nothing may be sent: with its
        # inputs at hand it would start first.
        while book is not None and book.up and not book.unsure:
            send = self._next(book, settled)
            if send is None:
                return
            yield send

    def _next(
        self, book: NodeBook, settled: Callable[[str, int, str], bool]
    ) -> Send | None:
        name = book.node.name
        for token, run in self.runs.items():
            i = run.head(name)
            if i is None or run.state[i] != READY:
                continue
            demand = run.spec.demand[run.spec.need[i]]
            full = len(book.running) >= book.node.capacity("slots")
            if run.spec.limit is not None and (full or run.running >= run.spec.limit):
                continue
            if full and not self._may_go_ahead(book, run, demand):
                continue
            sure = settled(token, i, name)
            if full:
                if not sure:  # its inputs are on their way; word will come
                    continue
                demand = {k: v for k, v in demand.items() if k != "cpu"}
            if not self._claim(run, i, name, demand):
                continue
            run.state[i] = SENT
            run.attempts[i] += 1
            book.lone += self._is_lone(run, i)
            if full:
                book.ahead.append((token, i))
                book.ahead_seconds += run.seconds(i)
            else:
                book.running[token, i] = None
                run.running += 1
            if not sure:
                book.unsure.add((token, i))
            return Send(token, i, name, announce=not sure)
        return None

    def _may_go_ahead(
        self, book: NodeBook, run: RunBook, demand: Mapping[str, float]
    ) -> bool:
        """Whether a function may be sent for a slot that is not free yet."""
        slots = book.node.capacity("slots")
        if len(book.ahead) >= AHEAD_MOST * slots or demand.get("cpu", 1.0) > 1:
            return False
        if book.ahead and book.ahead_seconds >= AHEAD_SECONDS * slots:
            return False
        return book.even and not book.lone

    @staticmethod
    def _is_lone(run: RunBook, i: int) -> bool:
        """Whether nothing may be sent ahead behind a function.

        Elements of its result are to be cut out before its node goes on, so that they
        don't wait for another function to end; or it takes more cores than others.
        """
        spec = run.spec
        return i in spec.cuts or spec.demand[spec.need[i]].get("cpu", 1.0) > 1

    def _claim(self, run: RunBook, i: int, name: str, demand: dict[str, float]) -> bool:
        """Take the demand in the books of every tracker, or of none."""
        member = (run.spec.token, i)
        for k, tracker in enumerate(run.trackers):
            try:
                taken = tracker.request(member, name, demand)
            except Exception as error:
                for other in run.trackers[:k]:
                    other.release(member)
                raise TrackerError(
                    f"the tracker {type(tracker).__name__} raised when it was asked: "
                    f"{type(error).__name__}: {error}",
                    member,
                ) from error
            if not taken:
                for other in run.trackers[:k]:
                    other.release(member)
                return False
        return True

    # -------------------------------------------------------------------- moves
    def _is_up(self, name: str) -> bool:
        return name in self.nodes and self.nodes[name].up

    def _move_from(self, run: RunBook, name: str) -> set[str]:
        """Move what waits for a node that is gone to nodes that can run it."""
        touched: set[str] = set()
        for i, state in enumerate(run.state):
            if run.node[i] != name or state not in (WAITING, READY):
                continue
            together = run.spec.group.get(i, (i,))
            if any(k in run.spec.pinned or run.state[k] == SENT for k in together):
                continue
            able = [run.spec.able[run.spec.need[k]] for k in together]
            nodes = frozenset.intersection(*able)
            choice = min(
                (self.nodes[n] for n in nodes if self._is_up(n)),
                key=lambda book: (self._load(book), book.node.name),
                default=None,
            )
            if choice is None:
                continue
            for k in together:
                run.node[k] = choice.node.name
                if run.state[k] in (WAITING, READY):
                    queue = run.queues.setdefault(choice.node.name, [])
                    heapq.heappush(queue, (run.spec.rank[k], k))
            touched.add(choice.node.name)
        return touched

    def _load(self, book: NodeBook) -> float:
        queued = sum(
            len(run.queues.get(book.node.name, ())) for run in self.runs.values()
        )
        rate = book.node.capacity("slots") * book.node.speed
        return (len(book.running) + len(book.ahead) + queued) / rate

    # ------------------------------------------------------------------ reading
    def outlook(self, elapsed: Mapping[str, float]) -> list[tuple[Any, ...]]:
        """What nodes are promised: ``(node, start, end, demand)`` per function left.

        Parameters
        ----------
        elapsed : mapping
            Seconds since each run began, by token. Times returned are from now on.
        """
        out = []
        for token, run in self.runs.items():
            spec, since = run.spec, elapsed.get(token, 0.0)
            for i, state in enumerate(run.state):
                if state in ENDED:
                    continue
                span = spec.end[i] - spec.start[i]
                begin = 0.0 if state == SENT else max(0.0, spec.start[i] - since)
                left = max(span - max(0.0, since - spec.start[i]), 0.1 * span)
                end = begin + (left if state == SENT else span)
                out.append((run.node[i], begin, end, spec.demand[spec.need[i]]))
        return out

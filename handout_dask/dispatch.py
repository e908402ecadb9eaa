"""Which function is sent to which node next. Pure.

Is told what became ready, started and ended, and answers with what to send. Knows
neither Dask nor a clock: whoever asks says what time it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from handout_dask.begun import expected_end
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
from handout_dask.choosing import Arrives, choose, choose_by_plan, is_lone
from handout_dask.errors import TrackerError
from handout_dask.node import Node
from handout_dask.promised import promised
from handout_dask.tracker import ResourceTracker

AHEAD_WITHIN = 0.2  # s until a slot gets free: to be sent for it now, not elsewhere yet


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

    Functions of one run start on each node in planned order. If that is not ready, one
    that is goes first where that makes nothing late (backfilling). Of several runs
    those of higher priority are served first, of equal ones those that are about to
    miss a deadline, and the others by turns.

    Parameters
    ----------
    tracker : ResourceTracker
        Shared by all runs.

    Attributes
    ----------
    now : float
        The time [s]; whoever tells or asks sets it before.
    """

    def __init__(self, tracker: ResourceTracker) -> None:
        self.tracker = tracker
        self.now = 0.0
        self.nodes: dict[str, NodeBook] = {}
        self.runs: dict[str, RunBook] = {}

    # ------------------------------------------------------------ nodes and runs
    def set_node(self, node: Node) -> None:
        """Make a node known, or change what it has; it is up."""
        self.tracker.register(node.name, node.capabilities)
        for run in self.runs.values():
            run.meet(node)
            for tracker in run.trackers[1:]:
                tracker.register(node.name, node.capabilities)
        book = self.nodes.setdefault(node.name, NodeBook(node))
        book.set(node)
        book.up, book.expected = True, False
        for run in self.runs.values():
            if run.is_diminished:
                self._move_from(run, node.name, unable=True)
        self._promote(book)

    def expect_node(self, node: Node) -> None:
        """A node is not there, but will be (again): functions wait for it."""
        book = self.nodes.setdefault(node.name, NodeBook(node))
        book.up, book.expected = False, True

    def add_run(self, spec: RunSpec, own: ResourceTracker | None = None) -> RunBook:
        """Open the books of a run, from now on; `own` is asked besides the shared
        tracker.
        """
        trackers = [self.tracker] if own is None else [self.tracker, own]
        if own is not None:
            for book in self.nodes.values():
                own.register(book.node.name, book.node.capabilities)
        run = RunBook(spec, trackers, self.now)
        rivals = [
            other.served
            for other in self.runs.values()
            if other.left and other.spec.priority == spec.priority
        ]
        run.served = min(rivals, default=0.0)
        self.runs[spec.token] = run
        for name in [name for name in run.queues if not self.is_due(name)]:
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
        self.nodes[name].up = self.nodes[name].expected = False
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

    def unable(self) -> list[Member]:
        """Functions that are ready, and that no node can run as it is now."""
        return [(token, i) for token, run in self.runs.items() for i in run.unable()]

    def bind(self, token: str, i: int, name: str) -> bool:
        """Keep a function on a node from now on; whether that is possible."""
        run = self.runs[token]
        if name not in run.able(i) or not self.is_up(name) or i in run.spec.pinned:
            return False
        run.bound.add(i)
        if run.node[i] != name and run.state[i] in (WAITING, READY):
            run.node[i] = name
            run.put(i)
        return run.node[i] == name

    # ------------------------------------------------------------------- events
    def ready(self, token: str, i: int) -> str:
        """The inputs of a function are computed; returns its node."""
        return self._await(token, i, READY)

    def waiting(self, token: str, i: int) -> str:
        """A function has to be run (again); returns its node."""
        return self._await(token, i, WAITING)

    def _await(self, token: str, i: int, state: int) -> str:
        run = self.runs[token]
        if run.state[i] != state:
            self._enter(run, i, state)
            if not self.is_due(run.node[i]):
                self._move_from(run, run.node[i])
        return run.node[i]

    def started(self, token: str, i: int) -> str:
        """Word came that a function has its inputs and runs; returns its node."""
        run = self.runs[token]
        book = self.nodes[run.node[i]]
        book.unsure.discard((token, i))
        if (token, i) in book.running:
            run.begin(i, self.now)
        return run.node[i]

    def ended(
        self, token: str, i: int, state: int, seconds: float | None = None
    ) -> str:
        """A function ended (DONE, FAILED or GONE); returns its node."""
        run = self.runs[token]
        if seconds is not None:
            run.end[i] = self.now - run.since
            run.start[i] = run.end[i] - seconds
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
            run.put(i)
        elif state == READY:
            run.get_ready(i)

    def _free(self, run: RunBook, i: int) -> None:
        member, book = (run.spec.token, i), self.nodes[run.node[i]]
        run.trackers[0].release(member)
        for tracker in run.trackers[1:]:
            with suppress(Exception):  # a user's; the function has ended all the same
                tracker.release(member)
        book.unsure.discard(member)
        book.lone -= is_lone(run, i)
        if member in book.running:
            del book.running[member]
            run.running -= 1
        else:
            book.ahead_seconds -= book.ahead.pop(member)
        self._promote(book)

    def _promote(self, book: NodeBook) -> None:
        """Give free slots to what was sent ahead, in the order in which it was."""
        while book.ahead and len(book.running) < book.slots:
            member = next(iter(book.ahead))
            book.ahead_seconds -= book.ahead.pop(member)
            run, i = self.runs[member[0]], member[1]
            run.begin(i, self.now)
            run.running += 1
            cores = book.running[member] = run.cores(i)
            run.trackers[0].request(member, book.node.name, {"cpu": cores})
            for tracker in run.trackers[1:]:
                with suppress(Exception):
                    tracker.request(member, book.node.name, {"cpu": cores})
        if not book.ahead:
            book.ahead_seconds = 0.0

    # ---------------------------------------------------------------- decisions
    def next(self, name: str, arrives: Arrives) -> Iterator[Send]:
        """What to send to a node now, in order; each is in the books once yielded.

        Parameters
        ----------
        name : str
            The node.
        arrives : callable
            ``arrives(token, i, node)``: seconds until all inputs of the function are on
            the node; 0 if they are.
        """
        book = self.nodes.get(name)
        while book is not None and book.up:
            send = self._next(book, arrives)
            if send is None:
                return
            yield send

    def _next(self, book: NodeBook, arrives: Arrives) -> Send | None:
        full = len(book.running) >= book.slots
        # Behind a function whose inputs are under way nothing may be sent for the same
        # slot: with its inputs at hand it would start first.
        if full and (book.unsure or self._first_end(book) > AHEAD_WITHIN):
            return None
        for run in self._by_turn():
            limit = run.spec.limit
            if limit is not None and (full or run.running >= limit):
                continue
            rule = choose if run.spec.adaptive else choose_by_plan
            chosen = rule(book, run, full, arrives, self._claim, self.now)
            if chosen is not None:
                return self._send(book, run, *chosen, full)
        return None

    def _first_end(self, book: NodeBook) -> float:
        """Seconds until the first slot is expected to get free."""
        left = []
        for token, i in book.running:
            run = self.runs[token]
            at = self.now - run.since
            left.append(expected_end(run.start[i], run.seconds(i), at) - at)
        return min(left, default=0.0)

    def _by_turn(self) -> Iterable[RunBook]:
        if len(self.runs) == 1:
            return self.runs.values()
        return sorted(
            self.runs.values(),
            key=lambda run: (-run.spec.priority, not run.is_pressed, run.served),
        )

    def _send(
        self, book: NodeBook, run: RunBook, i: int, sure: bool, full: bool
    ) -> Send:
        """Enter in the books that function i, whose demand is claimed, is sent."""
        member, seconds = (run.spec.token, i), run.seconds(i)
        run.state[i] = SENT
        run.attempts[i] += 1
        run.served += seconds / run.spec.weight
        book.lone += is_lone(run, i)
        if full:
            book.ahead[member] = seconds
            book.ahead_seconds += seconds
        else:
            book.running[member] = run.cores(i)
            run.begin(i, self.now)
            run.running += 1
        if not sure:
            book.unsure.add(member)
        return Send(*member, book.node.name, announce=not sure)

    def _claim(self, run: RunBook, i: int, name: str, full: bool) -> bool:
        """Take the demand in the books of every tracker, or of none.

        What is sent ahead takes its cores when it gets a slot.
        """
        member, demand = (run.spec.token, i), run.demand(i)
        if full:
            demand = {k: v for k, v in demand.items() if k != "cpu"}
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
    def is_up(self, name: str) -> bool:
        """Whether a node is there."""
        return name in self.nodes and self.nodes[name].up

    def is_due(self, name: str) -> bool:
        """Whether functions may wait for a node: it is there, or expected."""
        return self.is_up(name) or (name in self.nodes and self.nodes[name].expected)

    def _move_from(self, run: RunBook, name: str, unable: bool = False) -> set[str]:
        """Move what waits for a node that is gone to nodes that can run it.

        Or what the node is `unable` to run, if it is there.
        """
        touched: set[str] = set()
        for i, state in enumerate(run.state):
            if run.node[i] != name or state not in (WAITING, READY):
                continue
            if unable and name in run.able(i):
                continue
            together = run.spec.group.get(i, (i,))
            if any(k in run.spec.pinned or run.state[k] == SENT for k in together):
                continue
            able = [run.able(k) for k in together]
            nodes = set.intersection(*able)
            choice = min(
                (self.nodes[n] for n in nodes if self.is_due(n)),
                key=lambda book: (not book.up, self._load(book), book.node.name),
                default=None,
            )
            if choice is None:
                continue
            for k in together:
                run.node[k] = choice.node.name
                if run.state[k] in (WAITING, READY):
                    run.put(k)
            touched.add(choice.node.name)
        return touched

    def _load(self, book: NodeBook) -> float:
        queued = sum(run.length(book.node.name) for run in self.runs.values())
        rate = book.slots * book.node.speed
        return (len(book.running) + len(book.ahead) + queued) / rate

    def revise(
        self, token: str, node: list[str], start: list[float], end: list[float],
        latest: list[float], rank: list[int],
    ) -> list[int]:  # fmt: skip
        """Follow another plan with what was not sent yet; lists as in RunBook.

        Returns
        -------
        list of int
            The functions whose node is another one now. Of functions that must share
            a node none moves if one of them was sent meanwhile.
        """
        return self.runs[token].replace(node, start, end, latest, rank, self.is_due)

    def outlook(self, before: RunBook | None = None) -> list[tuple[Any, ...]]:
        """What nodes are promised, from now on; `promised` says it."""
        return promised(self.runs.values(), self.now, before)

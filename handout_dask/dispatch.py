"""Which function is sent to which node next. Pure.

Is told what became ready, started and ended, and answers with what to send. Knows
neither Dask nor a clock: whoever asks says what time it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from handout_dask import moving, slots
from handout_dask.books import (
    DONE,
    ENDED,
    READY,
    SENT,
    WAITING,
    Member,
    NodeBook,
    RunBook,
)
from handout_dask.choosing import AHEAD_SECONDS, Arrives, is_tied, rule_of
from handout_dask.claiming import take
from handout_dask.errors import TrackerError
from handout_dask.node import Node
from handout_dask.promised import lingering, promised
from handout_dask.resting import Resting
from handout_dask.runspec import RunSpec
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
    tells : callable
        ``tells(node)``: whether a node says so (`left`) when it has let go a function
        that was taken back while it was there. What others had is free at once.
    admits : callable
        ``admits(run, i, node)``: whether a node has room for what a function leaves.
    refusal : callable
        ``refusal(run, i)``: why its node has none; "" if it has.
    """

    def __init__(self, tracker: ResourceTracker) -> None:
        self.tracker = tracker
        self.now = 0.0
        self.tells: Callable[[str], bool] = lambda name: False
        self.admits: Callable[[RunBook, int, str], bool] = lambda run, i, name: True
        self.refusal: Callable[[RunBook, int], str] = lambda run, i: ""
        self.nodes: dict[str, NodeBook] = {}
        self.runs: dict[str, RunBook] = {}
        self.resting = Resting(self.nodes, self.runs)

    @property
    def lingering(self) -> list[Member]:
        """What was taken back from nodes that have not let it go yet."""
        return [member for book in self.nodes.values() for member in book.lingering]

    # ------------------------------------------------------------ nodes and runs
    def set_node(self, node: Node) -> None:
        """Make a node known, or change what it has; it is up."""
        book = self.nodes.setdefault(node.name, NodeBook(node))
        book.set(node)
        book.up, book.expected = True, False
        self.tracker.register(node.name, node.capabilities)
        for run in self.runs.values():
            run.meet(node)
            for tracker in run.trackers[1:]:
                with suppress(Exception):  # a user's; it will be asked, and say so
                    tracker.register(node.name, node.capabilities)
        for run in self.runs.values():
            if run.is_diminished:
                moving.move_from(run, node.name, self.nodes, self.runs, unable=True)
        slots.promote(book, self.runs, self.now)

    def expect_node(self, node: Node) -> None:
        """A node is not there, but will be (again): functions wait for it."""
        book = self.nodes.setdefault(node.name, NodeBook(node))
        book.up, book.expected = False, True
        slots.forget(book)

    def add_run(self, spec: RunSpec, own: ResourceTracker | None = None) -> RunBook:
        """Open the books of a run, from now on; `own` is asked besides the shared
        tracker.
        """
        trackers = [self.tracker] if own is None else [self.tracker, own]
        if own is not None:
            for book in self.nodes.values():
                try:
                    own.register(book.node.name, book.node.capabilities)
                except Exception as error:
                    raise TrackerError(
                        f"the tracker {type(own).__name__} raised when it was told of "
                        f"node {book.node.name!r}: {type(error).__name__}: {error}",
                        (spec.token, 0),
                    ) from error
        run = RunBook(spec, trackers, self.now)
        rivals = [
            other.served
            for other in self.runs.values()
            if other.left and other.spec.priority == spec.priority
        ]
        run.served = min(rivals, default=0.0)
        self.runs[spec.token] = run
        for name in [name for name in run.queues if not self.is_due(name)]:
            moving.move_from(run, name, self.nodes, self.runs)
        self.resting.avoid_barred(spec.token)
        return run

    def drop_run(self, token: str) -> set[str]:
        """Close the books of a run; returns the nodes on which something was freed.

        What was sent of it is taken back.
        """
        run = self.runs.get(token)
        if run is None:
            return set()
        freed = {run.node[i] for i, state in enumerate(run.state) if state == SENT}
        for i, state in enumerate(run.state):
            if state == SENT:
                self._free(run, i, lingers=True)
        del self.runs[token]
        return freed

    def lose_node(self, name: str) -> set[str]:
        """A node is gone; what may move, moves. Returns the nodes that got work."""
        if name not in self.nodes:
            return set()
        self.nodes[name].up = self.nodes[name].expected = False
        slots.forget(self.nodes[name])
        touched: set[str] = set()
        for run in self.runs.values():
            touched |= moving.move_from(run, name, self.nodes, self.runs)
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
        if name not in run.able(i) or not self.is_up(name) or i in run.pinned:
            return False
        run.bound.add(i)
        return moving.move(run, i, name)

    def move(self, token: str, i: int, name: str) -> bool:
        """Let a function that waits, wait for another node; whether it does now."""
        run = self.runs[token]
        if name not in run.able(i) or not self.is_up(name) or is_tied(run, i):
            return False
        return moving.move(run, i, name)

    # ------------------------------------------------------------------- events
    def ready(self, token: str, i: int) -> str:
        """The inputs of a function are computed; returns its node."""
        return self._await(token, i, READY)

    def waiting(self, token: str, i: int, lingers: bool = False) -> str:
        """A function has to be run (again); returns its node.

        It `lingers` there if it was sent, and the node has not said that it ended.
        """
        return self._await(token, i, WAITING, lingers)

    def _await(self, token: str, i: int, state: int, lingers: bool = False) -> str:
        run = self.runs[token]
        if run.state[i] != state and not (state == READY and i in run.rests):
            self._enter(run, i, state, lingers)
            if not self.is_due(run.node[i]):
                moving.move_from(run, run.node[i], self.nodes, self.runs)
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
        self, token: str, i: int, state: int, seconds: float | None = None,
        lingers: bool = False,
    ) -> str:  # fmt: skip
        """A function ended (DONE, FAILED or GONE); returns its node.

        It `lingers` there if it was sent, and the node has not said that it ended.
        """
        run = self.runs[token]
        if seconds is not None:
            run.end[i] = self.now - run.since
            run.start[i] = run.end[i] - seconds
            run.mean = seconds if not run.mean else 0.8 * run.mean + 0.2 * seconds
        if run.state[i] not in ENDED or state == DONE:
            self._enter(run, i, state, lingers)
        return run.node[i]

    def left(self, token: str, i: int, name: str) -> bool:
        """A node has let go a function that was taken back; whether it lingered.

        Its run may be gone, and word may come twice, or too late: when the function
        was sent there again, the thread that goes on is the new one's.
        """
        book = self.nodes.get(name)
        if book is None or (token, i) not in book.lingering:
            return False
        slots.let_go(book, (token, i))
        slots.promote(book, self.runs, self.now)
        return True

    def _enter(self, run: RunBook, i: int, state: int, lingers: bool = False) -> None:
        """Change the state of a function, with all that hangs on it."""
        before = run.state[i]
        if before == SENT:
            self._free(run, i, lingers)
        run.left += (before in ENDED) - (state in ENDED)
        run.state[i] = state
        if state in (WAITING, READY) and before not in (WAITING, READY):
            run.put(i)
        elif state == READY:
            run.get_ready(i)

    def _free(self, run: RunBook, i: int, lingers: bool) -> None:
        book = self.nodes[run.node[i]]
        lingers = lingers and book.up and self.tells(book.node.name)
        slots.free(book, run, i, lingers, self.runs, self.now)

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

    def first_of(self, names: Iterable[str]) -> str:
        """Which of some nodes to ask first: what goes anywhere goes as planned if that
        is possible.
        """
        eager = [run for run in self.runs.values() if run.spec.eager]
        return next(
            (n for n in names if any(run.has_ready(n) for run in eager)),
            next(iter(names)),
        )

    def _next(self, book: NodeBook, arrives: Arrives) -> Send | None:
        if book.lingering:
            again = self._again(book)
            if again is not None:
                run, i = again
                sure = arrives(run.spec.token, i, book.node.name) <= 0.0
                return self._send(book, run, i, sure, full=False)
        if self.resting.loners:
            turn = self.resting.turn(book)
            if turn is None:
                return None
            if turn and take(*turn, book, False):
                sure = arrives(turn[0].spec.token, turn[1], book.node.name) <= 0.0
                return self._send(book, *turn, sure, full=False)
        full, first = book.is_full, 0.0
        # Behind a function whose inputs are under way nothing may be sent for the same
        # slot: with its inputs at hand it would start first.
        if full:
            first = slots.first_end(book, self.runs, self.now)
            if book.unsure or first > AHEAD_WITHIN:
                return None
        for run in self._by_turn():
            limit = run.spec.limit
            if limit is not None and (full or run.running >= limit):
                continue
            if run.spec.eager and first > AHEAD_SECONDS:
                continue
            rule = rule_of(run.spec)
            chosen = rule(book, run, full, arrives, self._claim, self.now)
            if chosen is not None:
                return self._send(book, run, *chosen, full)
        return None

    def _again(self, book: NodeBook) -> tuple[RunBook, int] | None:
        """What is ready, and runs here still since it was taken back: it goes on."""
        for (token, i), linger in book.lingering.items():
            run = self.runs.get(token)
            if run is None or not linger.slot or run.state[i] != READY:
                continue
            limit = run.spec.limit
            if run.node[i] != book.node.name or (limit and run.running >= limit):
                continue
            if linger.demand == run.demand(i, book.node):
                return run, i
        return None

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
        run.state[i], run.node[i] = SENT, book.node.name
        run.attempts[i] += 1
        run.served += seconds / run.spec.weight
        slots.enter(book, run, i, full, self.now)
        if not sure:
            book.unsure.add(member)
        return Send(*member, book.node.name, announce=not sure)

    def _claim(self, run: RunBook, i: int, name: str, full: bool) -> bool:
        if (run.spec.token, i) in self.resting.loners:
            return False
        return self.admits(run, i, name) and take(run, i, self.nodes[name], full)

    # -------------------------------------------------------------------- moves
    def is_up(self, name: str) -> bool:
        """Whether a node is there."""
        return name in self.nodes and self.nodes[name].up

    def is_due(self, name: str) -> bool:
        """Whether functions may wait for a node: it is there, or expected."""
        return moving.is_due(self.nodes, name)

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
        own = promised(self.runs.values(), self.now, before)
        return own + lingering(self.nodes.values(), self.now)

"""The machine behind `simulate`: functions, nodes and transfers as states and events.

Knows a Plan and factors of run time; not why they are as they are, nor that a node may
be lost (`loss` handles that, on this state).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from handout_dask.errors import AllocationError
from handout_dask.events import DONE, LOST, Span
from handout_dask.plans import Plan
from handout_dask.room import Room

WAITS, RUNS, ENDED = range(3)


@dataclass(slots=True, eq=False)
class Flight:
    """A result, or a part of it, on its way to functions of one node."""

    sender: int
    receiver: int
    mb: float
    edges: tuple[int, ...]
    lost: bool = False


class Player:
    """The state of a simulation; ``i`` is a function, ``j`` a node, ``e`` an edge.

    A function WAITS until it starts (``missing`` counts the inputs that are not on its
    node yet), RUNS, and has ENDED; if its result is lost and needed, it waits again.
    An edge has ``arrived``, is in flight, or its producer has not ended.
    """

    def __init__(
        self, plan: Plan, factor: np.ndarray, network: str, order: str
    ) -> None:
        self.problem = problem = plan.problem
        self.oneport, self.strict = network == "oneport", order == "strict"
        n, m = len(problem.functions), len(problem.nodes)
        # -- the functions and their links
        rank = np.empty(n, dtype=np.int64)
        rank[np.lexsort((np.arange(n), plan.end, plan.start))] = np.arange(n)
        self.urgency: list[int] = rank.tolist()  # by planned start
        self.ptr: list[int] = problem.pred_ptr.tolist()
        self.producer: list[int] = problem.pred_of.tolist()
        self.mb: list[float] = problem.pred_mb.tolist()
        self.reader: list[int] = np.repeat(np.arange(n), np.diff(self.ptr)).tolist()
        self.out: list[list[int]] = [[] for _ in range(n)]
        for e, u in enumerate(self.producer):
            self.out[u].append(e)
        self.position = problem.graph.links().position
        self.factor: list[float] = factor.tolist()
        # -- where they are, and how far
        self.node = [-1] * n
        self.planned: list[list[tuple[int, int]]] = [[] for _ in range(m)]
        self.seconds = [0.0] * n
        self.kind_of = [0] * n  # the class of the alternative that runs
        self.state = [WAITS] * n
        self.left = n
        self.attempt = [0] * n
        self.started = [0.0] * n
        self.missing = np.diff(problem.pred_ptr).tolist()
        self.arrived = [False] * len(self.mb)
        self.flight: list[Flight | None] = [None] * len(self.mb)
        # -- the nodes
        self.alive = [True] * m
        self.opens = [0.0] * m  # when it starts its first function, at the earliest
        self.room = Room(problem)
        self.queue: list[list[tuple[int, int]]] = [[] for _ in range(m)]
        self.outbox: list[list[tuple[int, int, int, int, Flight]]] = [
            [] for _ in range(m)
        ]
        self.sending: list[Flight | None] = [None] * m
        self.receiving: list[Flight | None] = [None] * m
        # -- the time
        self.touched: set[int] = set()
        self.ended = False  # whether a function has, at this instant
        self.steer: Callable[[float], None] = _go_on  # called when some have
        self.spans: list[Span] = []
        self._events: list[tuple[float, bool, int, Callable[..., None], Any]] = []
        self._serial = 0
        for i, (j, option) in enumerate(zip(plan.node, plan.option, strict=True)):
            self.assign(i, int(j), int(option))

    def assign(self, i: int, j: int, option: int) -> None:
        """Let a function that waits run on node j, as this cost alternative."""
        problem = self.problem
        o = int(problem.option_ptr[i]) + option
        c = int(problem.option_class[o])
        rate = float(problem.rate[c, problem.kind[j]])
        self.node[i], self.kind_of[i] = j, c
        self.seconds[i] = float(problem.option_work[o]) / rate * self.factor[i]
        heapq.heappush(self.planned[j], (self.urgency[i], i))

    def run(self) -> tuple[Span, ...]:
        """Play to the end; the spans by start."""
        for j, when in self.room.releases():
            self.post(when, lambda _, j: self.touched.add(j), j)
        for i, missing in enumerate(self.missing):
            if not missing:
                self.enqueue(i)
        now = 0.0
        while True:
            while self.left and self._events and self._events[0][0] <= now:
                _, _, _, handle, what = heapq.heappop(self._events)
                handle(now, what)
            if self.ended:
                self.ended = False
                self.steer(now)
            for j in sorted(self.touched):
                self._dispatch(j, now)
            self.touched.clear()
            if self.oneport:
                self._send_waiting(now)
            if not self.left or not self._events:
                break
            now = self._events[0][0]
        if self.left:
            self._raise_stuck()
        return tuple(sorted(self.spans, key=lambda span: (span.start, span.end)))

    def post(
        self, when: float, handle: Callable[..., None], what: Any, late: bool = False
    ) -> None:
        """Call ``handle(when, what)`` then; `late` after all else of that instant."""
        self._serial += 1
        heapq.heappush(self._events, (when, late, self._serial, handle, what))

    def hold_back(self, j: int, when: float) -> None:
        """Let node j start nothing before that time."""
        self.opens[j] = max(self.opens[j], when)
        self.post(when, lambda _, j: self.touched.add(j), j)

    def _raise_stuck(self) -> None:
        waits = [i for i, state in enumerate(self.state) if state == WAITS]
        i = min(waits, key=self.urgency.__getitem__)
        raise AllocationError(
            f"{self.left} functions can never start; the first by plan is "
            f"{self.problem.functions[i].id!r} on node "
            f"{self.problem.nodes[self.node[i]].name!r}"
        )

    # ------------------------------------------------------------- on one node
    def enqueue(self, i: int) -> None:
        """The inputs of function i are all on its node."""
        heapq.heappush(self.queue[self.node[i]], (self.urgency[i], i))
        self.touched.add(self.node[i])

    def _dispatch(self, j: int, now: float) -> None:
        queue, planned, skipped = self.queue[j], self.planned[j], []
        if now < self.opens[j]:
            return
        while self.alive[j] and queue and self.room.has_slot(j):
            i = queue[0][1]
            if self.strict and planned[0][1] != i:
                break
            if self.room.fits(self.kind_of[i], j, now, now + self.seconds[i]):
                heapq.heappop(queue)
                self._start(i, j, now)
            elif self.strict:
                break
            else:
                skipped.append(heapq.heappop(queue))
        for item in skipped:
            heapq.heappush(queue, item)

    def _start(self, i: int, j: int, now: float) -> None:
        if self.strict:
            heapq.heappop(self.planned[j])
        self.room.take(self.kind_of[i], j)
        self.state[i] = RUNS
        self.attempt[i] += 1
        self.started[i] = now
        self.post(now + self.seconds[i], self._end, (i, self.attempt[i]))

    def _end(self, now: float, what: tuple[int, int]) -> None:
        i, attempt = what
        if self.state[i] != RUNS or self.attempt[i] != attempt:
            return  # lost meanwhile
        j = self.node[i]
        self.room.give(self.kind_of[i], j)
        self.touched.add(j)
        self.state[i] = ENDED
        self.ended = True
        self.left -= 1
        self.record(i, now, DONE)
        self.deliver(now, ((e, j) for e in self.out[i] if not self.arrived[e]))

    def record(self, i: int, now: float, outcome: str) -> None:
        """Emit the span of the attempt that ends now."""
        function, name = (
            self.problem.functions[i],
            self.problem.nodes[self.node[i]].name,
        )
        nbytes = _nbytes(function.alternatives[0].output_size)
        lost = outcome == LOST
        self.spans.append(
            Span(
                function.id,
                name,
                self.started[i],
                now,
                self.attempt[i],
                outcome,
                None if lost else nbytes,
                f"node {name!r} was lost" if lost else None,
            )
        )

    # ------------------------------------------------------------ between nodes
    def transfer(self, a: int, b: int, mb: float) -> float:
        """Seconds that MB travel from node a to node b."""
        cluster = self.problem.cluster
        return (
            0.0
            if a == b
            else float(cluster.latency[a, b] / 1e3 + mb / cluster.bandwidth[a, b])
        )

    def deliver(self, now: float, edges: Iterable[tuple[int, int]]) -> None:
        """Bring what edges carry from nodes that have it to the readers' nodes."""
        away: dict[tuple[int, int, int], list[int]] = {}
        for e, a in edges:
            b = self.node[self.reader[e]]
            if a == b:
                self._arrive(e)
            elif self.oneport:
                away.setdefault((self.producer[e], a, b), []).append(e)
            else:
                flight = self.flight[e] = Flight(a, b, self.mb[e], (e,))
                self.post(now + self.transfer(a, b, flight.mb), self._land, flight)
        for (u, a, b), together in away.items():  # a result travels once per node
            flight = Flight(a, b, max(self.mb[e] for e in together), tuple(together))
            first = min(self.urgency[self.reader[e]] for e in together)
            self._serial += 1
            item = (first, self.position[u], b, self._serial, flight)
            heapq.heappush(self.outbox[a], item)
            for e in together:
                self.flight[e] = flight

    def _send_waiting(self, now: float) -> None:
        for a, outbox in enumerate(self.outbox):
            if outbox and not self.sending[a] and not self.receiving[outbox[0][2]]:
                flight = heapq.heappop(outbox)[-1]
                self.sending[a] = self.receiving[flight.receiver] = flight
                seconds = self.transfer(a, flight.receiver, flight.mb)
                self.post(now + seconds, self._land, flight)

    def _land(self, _: float, flight: Flight) -> None:
        if flight.lost:
            return
        if self.oneport:
            self.sending[flight.sender] = self.receiving[flight.receiver] = None
        for e in flight.edges:
            self._arrive(e)

    def _arrive(self, e: int) -> None:
        v = self.reader[e]
        self.arrived[e], self.flight[e] = True, None
        self.missing[v] -= 1
        if not self.missing[v]:
            self.enqueue(v)


def _go_on(_: float) -> None:
    """Steer nowhere."""


def _nbytes(size: float | Mapping[Any, float] | None) -> int | None:
    """Bytes of a result of so many MB, or MB for each of its elements."""
    if size is None:
        return None
    return round((sum(size.values()) if isinstance(size, Mapping) else size) * 1e6)

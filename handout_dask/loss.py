"""What a simulation does when a node is lost: forget, recompute, move. Pure.

Works on the state of a `player.Player`; knows neither the network nor the noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cached_property

from handout_dask.errors import NodeLostError
from handout_dask.events import LOST
from handout_dask.player import ENDED, RUNS, WAITS, Player
from handout_dask.problem import Problem


class Losses:
    """Loses nodes of a player.

    What ran there is lost; a result is computed again if an unfinished function reads
    it, or none reads it at all (it is what the run is for), and no other node has it,
    be it from a transfer to another reader. Then what has no node moves.
    """

    def __init__(self, player: Player) -> None:
        self.player = player

    def lose(self, now: float, j: int) -> None:
        """Node j is gone from now on."""
        p = self.player
        if not p.alive[j]:
            return
        p.alive[j] = False
        p.queue[j], p.planned[j], p.outbox[j] = [], [], []
        self._drop_flights(j)
        again = []
        for i, where in enumerate(p.node):
            if where == j and p.state[i] == RUNS:
                p.record(i, now, LOST)
            if where == j and (p.state[i] != ENDED or not p.out[i]):
                again.append(i)
        moved = self._forget(again)
        self._move(sorted(moved, key=p.urgency.__getitem__), now)
        waiting = [i for i, state in enumerate(p.state) if state == WAITS]
        for i in moved:
            p.missing[i] = p.ptr[i + 1] - p.ptr[i]
            if not p.missing[i]:
                p.enqueue(i)
        p.deliver(now, list(self._obtainable(waiting)))

    def _drop_flights(self, j: int) -> None:
        p = self.player
        for flight in {f for f in p.flight if f and j in (f.sender, f.receiver)}:
            flight.lost = True
            for e in flight.edges:
                p.flight[e] = None
            if p.sending[flight.sender] is flight:
                p.sending[flight.sender] = p.receiving[flight.receiver] = None
        for a, outbox in enumerate(p.outbox):
            # Sorted is a heap.
            p.outbox[a] = sorted(item for item in outbox if not item[-1].lost)

    def _forget(self, again: list[int]) -> set[int]:
        """Let functions wait again, and whatever they and others miss; all of these."""
        p = self.player
        forgotten: set[int] = set()
        unchecked = [i for i, state in enumerate(p.state) if state == WAITS]
        while again or unchecked:
            if again:
                i = again.pop()
                if i in forgotten:
                    continue
                forgotten.add(i)
                p.left += p.state[i] == ENDED
                p.state[i] = WAITS
                for e in range(p.ptr[i], p.ptr[i + 1]):
                    p.arrived[e] = False
                unchecked.append(i)
                continue
            i = unchecked.pop()
            for e in self._missed(i):
                if p.state[p.producer[e]] == ENDED and not self._holders(e):
                    again.append(p.producer[e])
        return forgotten

    def _missed(self, i: int) -> Iterable[int]:
        """Inputs of a function that have not arrived and are not on their way."""
        p = self.player
        edges = range(p.ptr[i], p.ptr[i + 1])
        return (e for e in edges if not p.arrived[e] and not p.flight[e])

    def _holders(self, e: int) -> list[int]:
        """Nodes that have what an edge carries; its producer has ended."""
        p = self.player
        u = p.producer[e]
        if p.alive[p.node[u]]:
            return [p.node[u]]
        found: dict[int, None] = {}
        for o in p.out[u]:
            j = p.node[p.reader[o]]
            whole = None in self._parts[o]
            if (
                p.arrived[o]
                and p.alive[j]
                and (whole or self._parts[e] <= self._parts[o])
            ):
                found[j] = None
        return [*found]

    @cached_property
    def _parts(self) -> list[frozenset[str | None]]:
        """What each edge carries: elements by repr, or None for the whole."""
        p = self.player
        links = p.problem.graph.links()
        parts: list[frozenset[str | None]] = []
        for v in range(len(p.node)):
            read: dict[int, set[str | None]] = {}
            for a in range(links.ptr[v], links.ptr[v + 1]):
                at = links.index[a]
                element = None if at is None else repr(at)
                read.setdefault(links.producer[a], set()).add(element)
            parts += [frozenset(read[u]) for u in p.producer[p.ptr[v] : p.ptr[v + 1]]]
        return parts

    def _obtainable(self, waiting: Iterable[int]) -> Iterable[tuple[int, int]]:
        """(edge, nearest node that has it): missed inputs of which there is one."""
        p = self.player
        for i in waiting:
            for e in self._missed(i):
                if p.state[p.producer[e]] == ENDED:
                    yield (
                        e,
                        min(self._holders(e), key=lambda a: self._way(e, a, p.node[i])),
                    )

    def _way(self, e: int, a: int, b: int) -> float:
        return self.player.transfer(a, b, self.player.mb[e])

    # ------------------------------------------------------------------ moving
    def _move(self, moved: list[int], now: float) -> None:
        """Assign functions anew, each group together, to where the first ends first."""
        p = self.player
        problem = p.problem
        gone, placed = set(moved), set()
        backlog = [0.0] * len(p.alive)  # seconds of work that waits or runs there
        for i, state in enumerate(p.state):
            if state != ENDED and i not in gone:
                took = now - p.started[i] if state == RUNS else 0.0
                rest = problem.option(i, p.node[i])[1] - took
                backlog[p.node[i]] += max(0.0, rest)
        for i in moved:
            if i in placed:
                continue
            together, anchors = [i], None
            if problem.group[i] >= 0:
                group = [
                    int(k) for k in (problem.group == problem.group[i]).nonzero()[0]
                ]
                together = [k for k in group if k in gone]
                anchors = {p.node[k] for k in group if p.alive[p.node[k]]}
            j = self._best(i, together, anchors, backlog, now)
            for k in together:
                option, seconds = problem.option(k, j)
                p.assign(k, j, option)
                backlog[j] += seconds
                placed.add(k)

    def _best(
        self,
        i: int,
        together: list[int],
        anchors: set[int] | None,
        backlog: list[float],
        now: float,
    ) -> int:
        """The node where function i ends first behind the work that is there."""
        p = self.player
        problem = p.problem
        best, earliest = -1, math.inf
        for j, node in enumerate(problem.nodes):
            if not p.alive[j] or (anchors and j not in anchors):
                continue
            if any(problem.time(k, j) == math.inf for k in together):
                continue
            arrival = 0.0
            for e in range(p.ptr[i], p.ptr[i + 1]):
                if p.state[p.producer[e]] == ENDED:
                    ways = [self._way(e, a, j) for a in self._holders(e)]
                    arrival = max(arrival, min(ways))
            end = max(arrival, backlog[j] / node.capacity("slots")) + problem.time(i, j)
            if end < earliest:
                best, earliest = j, end
        if best < 0:
            raise NodeLostError(
                _nowhere(problem, i, problem.nodes[p.node[i]].name, now)
            )
        return best


def _nowhere(problem: Problem, i: int, lost: str, now: float) -> str:
    who = f"function {problem.functions[i].id!r}"
    if problem.pin[i] >= 0:
        return (
            f"{who} is pinned to node {lost!r}, which was lost at {now:.6g} s. "
            "Pin it to another node, or to none."
        )
    return (
        f"{who} was on node {lost!r}, which was lost at {now:.6g} s, and no other node "
        "can run it. Add one."
    )

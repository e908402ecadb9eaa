"""What a simulation does when a node is lost: forget, recompute, move. Pure.

Works on the state of a `player.Player`; knows neither the network nor the noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cached_property

import numpy as np

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
        p.alive[j] = False
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
                if p.state[p.producer[e]] == ENDED and not self.holders(e):
                    again.append(p.producer[e])
        return forgotten

    def _missed(self, i: int) -> Iterable[int]:
        """Inputs of a function that have not arrived and are not on their way."""
        p = self.player
        edges = range(p.ptr[i], p.ptr[i + 1])
        return (e for e in edges if not p.arrived[e] and not p.flight[e])

    def holders(self, e: int) -> list[int]:
        """Nodes that have what an edge carries, whose producer has ended."""
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
                    to, mb = p.node[i], p.mb[e]
                    ways = [(p.transfer(a, to, mb), a) for a in self.holders(e)]
                    yield e, min(ways)[1]

    # ------------------------------------------------------------------ moving
    def _move(self, moved: list[int], now: float) -> None:
        """Assign functions anew, each group together, to where the first ends first."""
        p = self.player
        problem = p.problem
        gone = set(moved)
        outlook = _Outlook(self, now, gone)
        for i in moved:
            if i in outlook.ends:
                continue
            together, nodes = [i], [j for j, alive in enumerate(p.alive) if alive]
            if problem.group[i] >= 0:
                group = np.flatnonzero(problem.group == problem.group[i]).tolist()
                together = [k for k in group if k in gone]
                # Where one of the group has moved before, the others follow.
                nodes = [p.node[k] for k in group if p.alive[p.node[k]]] or nodes
            able = [j for j in nodes if all(_runs(problem, k, j) for k in together)]
            if not able:
                lost = problem.nodes[p.node[i]].name
                raise NodeLostError(_nowhere(problem, i, lost, now))
            j = min(able, key=lambda j: outlook.end(i, j))
            for k in together:
                outlook.settle(k, j)
                p.assign(k, j, problem.option(k, j)[0])


class _Outlook:
    """When functions that move would end, in seconds from now, by declared times."""

    def __init__(self, losses: Losses, now: float, gone: set[int]) -> None:
        self.losses, self.player = losses, losses.player
        self.ends: dict[int, float] = {}  # of those that have their new node
        p = self.player
        self.backlog = [0.0] * len(p.alive)  # seconds of work that waits or runs there
        for i, state in enumerate(p.state):
            if state != ENDED and i not in gone:
                took = now - p.started[i] if state == RUNS else 0.0
                rest = p.problem.option(i, p.node[i])[1] - took
                self.backlog[p.node[i]] += max(0.0, rest)

    def end(self, i: int, j: int) -> float:
        """When function i would end on node j, behind the work that is there."""
        p = self.player
        start = self.backlog[j] / p.problem.nodes[j].capacity("slots")
        for e in range(p.ptr[i], p.ptr[i + 1]):
            u = p.producer[e]
            if p.state[u] == ENDED:
                arrival = min(self._way(e, a, j) for a in self.losses.holders(e))
            elif u in self.ends:
                arrival = self.ends[u] + self._way(e, p.node[u], j)
            else:
                arrival = 0.0  # not foreseen
            start = max(start, arrival)
        return start + p.problem.option(i, j)[1]

    def _way(self, e: int, a: int, b: int) -> float:
        return self.player.transfer(a, b, self.player.mb[e])

    def settle(self, i: int, j: int) -> None:
        """Function i goes to node j."""
        self.ends[i] = self.end(i, j)
        self.backlog[j] += self.player.problem.option(i, j)[1]


def _runs(problem: Problem, i: int, j: int) -> bool:
    return problem.time(i, j) < math.inf


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

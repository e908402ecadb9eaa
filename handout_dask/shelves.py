"""Shelves: the room of each node, and who left to whom what a plan's functions take."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterable

import numpy as np

from handout_dask.node import TOLERANCE
from handout_dask.problem import Problem

NOBODY = -1  # left the room that is free from the beginning on


class Shelf:
    """What is free of one resource on one node, and who left it, longest ago first."""

    def __init__(self, room: float) -> None:
        self.free = room
        self.none = 10 * TOLERANCE * max(room, 1.0)
        self._left = OrderedDict({NOBODY: room})

    def give(self, u: int, amount: float) -> None:
        """Function u leaves an amount; what is held too much of comes first."""
        owed = max(0.0, -self.free)
        self.free += amount
        if amount - owed > self.none:
            self._left[u] = amount - owed

    def take(self, amount: float, liked: Iterable[int]) -> list[int]:
        """Take an amount, first of what `liked` left; from whom it was."""
        self.free -= amount
        givers = []
        for u in liked:
            if amount > self.none and u in self._left:
                amount -= self._pick(u, amount)
                givers.append(u)
        while amount > self.none and self._left:
            u = next(iter(self._left))
            amount -= self._pick(u, amount)
            givers.append(u)
        return givers

    def _pick(self, u: int, amount: float) -> float:
        left = self._left[u] - amount
        if left > self.none:
            self._left[u] = left
            return amount
        return self._left.pop(u)


def room_waits(
    problem: Problem,
    node: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    need: np.ndarray,
    order: list[int],
    none: float,
) -> tuple[list[int], list[int]]:
    """From whom each function has the room that it takes.

    Parameters
    ----------
    problem : Problem
        Whose nodes they are on.
    node, start, end, need : (k,), (k,) [s], (k,) [s], (k, r)
        Functions, as the problem numbers them, then what is held.
    order : list of int
        All of them by start, and by end of those that start together.
    none : float
        Seconds that count as none.

    Returns
    -------
    (list of int, list of int)
        Who left room, and who took it; one pair for all resources.
    """
    shelves = [
        {r: Shelf(x) for r, x in enumerate(row) if x < np.inf}
        for row in problem.room[problem.kind].tolist()
    ]
    n = len(problem.functions)
    running: list[list[tuple[float, bool, int]]] = [[] for _ in shelves]
    preds = (*problem.preds, *((),) * (len(order) - n))
    where, starts, ends = node.tolist(), start.tolist(), end.tolist()
    wanted = [[(r, x) for r, x in enumerate(row) if x] for row in need.tolist()]
    before: list[int] = []
    after: list[int] = []
    for i in order:
        shelf, queue = shelves[where[i]], running[where[i]]
        while queue and queue[0][0] <= starts[i] + none:
            u = heapq.heappop(queue)[2]
            for r, x in wanted[u]:
                shelf[r].give(u, x)
        wanted[i] = asked = [(r, x) for r, x in wanted[i] if r in shelf]
        short = ends[i] - starts[i] <= 2 * none
        if short and any(x > shelf[r].free + shelf[r].none for r, x in asked):
            continue
        givers: dict[int, None] = {}
        for r, x in asked:
            givers.update(dict.fromkeys(shelf[r].take(x, (*preds[i], *givers))))
        givers.pop(NOBODY, None)
        before += givers
        after += [i] * len(givers)
        if short:
            for r, x in asked:
                shelf[r].give(i, x)
        else:
            # What is held can't slip: of what is left together, its room goes first.
            heapq.heappush(queue, (ends[i], i < n, i))
    return before, after

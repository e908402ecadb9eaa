"""Room: what is free on each node of a simulation, now and for a while. Pure books."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from handout_dask.node import TOLERANCE
from handout_dask.problem import Problem


class Room:
    """What is free on each node, now and for a while."""

    def __init__(self, problem: Problem) -> None:
        room = problem.room
        self._free = room[problem.kind].tolist()  # [j][r]
        bound = TOLERANCE * np.maximum(np.where(np.isfinite(room), room, 0.0), 1.0)
        self._slack = bound.max(axis=0, initial=TOLERANCE).tolist()
        self._need = [  # [c]: ((r, amount), ...)
            tuple((r, x) for r, x in enumerate(row) if x)
            for row in problem.need.tolist()
        ]
        self._held: dict[int, list[tuple[float, float, list[float]]]] = {}
        where, start, end, need = problem.held_arrays
        for j, *row in zip(
            where.tolist(), start.tolist(), end.tolist(), need.tolist(), strict=True
        ):
            self._held.setdefault(j, []).append((row[0], row[1], row[2]))

    def releases(self) -> Iterator[tuple[int, float]]:
        """(node, time) at which something that is held becomes free."""
        for j, rows in self._held.items():
            yield from ((j, end) for _, end, _ in rows if math.isfinite(end))

    def has_slot(self, j: int) -> bool:
        """Whether node j may start anything at all."""
        return bool(self._free[j][0] >= 1)  # Problem: the first resource is slots

    def fits(self, c: int, j: int, start: float, end: float) -> bool:
        """Whether a function of class c has room on node j from start to end."""
        free = self._free[j]
        if j in self._held:
            taken = self._peak(j, start, end)
            free = [x - y for x, y in zip(free, taken, strict=True)]
        return all(x <= free[r] + self._slack[r] for r, x in self._need[c])

    def _peak(self, j: int, start: float, end: float) -> list[float]:
        """The most of each resource that is held at once from start to end."""
        rows = [row for row in self._held[j] if row[0] < end and row[1] > start]
        peak = [0.0] * len(self._slack)
        for at in {max(start, row[0]) for row in rows}:
            now = [need for begin, until, need in rows if begin <= at < until]
            level = [sum(column) for column in zip(*now, strict=True)]
            peak = [max(pair) for pair in zip(peak, level, strict=True)]
        return peak

    def take(self, c: int, j: int) -> None:
        """Take what a function of class c holds on node j."""
        for r, x in self._need[c]:
            self._free[j][r] -= x

    def give(self, c: int, j: int) -> None:
        """Give it back."""
        for r, x in self._need[c]:
            self._free[j][r] += x

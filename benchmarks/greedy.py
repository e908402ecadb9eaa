"""Greedy rules to compare with, on problems of the judge; they share no code with ours.

Both take tasks in topological order. `earliest` gives each to the node where it can
start first, filling gaps; `online` goes through time and gives what is ready to the
least loaded node that has room now.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from typing import Any

ROUNDING = 1e-9  # of a level of resources
Row = dict[str, Any]
Matrix = list[list[float]]


class Levels:
    """What a node has free over time, of each resource."""

    def __init__(self, capacity: list[float]) -> None:
        self.times = [0.0]
        self.free = [capacity]  # from times[k] to times[k + 1]

    def earliest(self, ready: float, span: float, need: list[float]) -> float:
        """The first time from `ready` on [s] at which the need has room for a span."""
        start, k = ready, bisect_right(self.times, ready) - 1
        while True:
            last = k + 1 == len(self.times)
            if not _fits(need, self.free[k]):
                start = self.times[k + 1]
            elif last or self.times[k + 1] >= start + span:
                return start
            k += 1

    def hold(self, start: float, end: float, need: list[float]) -> None:
        """Take the need from start to end."""
        lo, hi = self._split(start), self._split(end)
        for k in range(lo, hi):
            free = self.free[k]
            self.free[k] = [a - b for a, b in zip(free, need, strict=True)]

    def _split(self, at: float) -> int:
        k = bisect_left(self.times, at)
        if k == len(self.times) or self.times[k] != at:
            self.times.insert(k, at)
            self.free.insert(k, self.free[k - 1])
        return k


def _fits(need: list[float], free: list[float]) -> bool:
    return all(a <= b + ROUNDING for a, b in zip(need, free, strict=True))


def _tables(judge: Any, problem: Any, nodeset: Any) -> tuple[Matrix, Matrix, Matrix]:
    """Seconds of tasks on nodes, needs of tasks and capacities of nodes."""
    need = [[task.demand(r) for r in judge.RESOURCES] for task in problem.tasks]
    has = [[node.capacity(r) for r in judge.RESOURCES] for node in nodeset.nodes]
    return judge.durations(problem, nodeset).tolist(), need, has


def earliest(judge: Any, problem: Any, nodeset: Any) -> list[Row]:
    """In topological order, to the earliest start; of equal ones the least loaded."""
    seconds, need, has = _tables(judge, problem, nodeset)
    levels = [Levels(capacity) for capacity in has]
    load = [0.0] * len(has)  # busy seconds per slot
    where, end = [-1] * len(seconds), [0.0] * len(seconds)
    rows = []
    for v in problem.order:
        choices = []
        for j, span in enumerate(seconds[v]):
            if span < float("inf"):
                ready = max(
                    (end[u] + nodeset.transfer(where[u], j, size)
                     for u, size in problem.preds[v]),
                    default=0.0,
                )  # fmt: skip
                at = levels[j].earliest(ready, span, need[v])
                choices.append((at, load[j], j))
        start, _, j = min(choices)
        where[v], end[v] = j, start + seconds[v][j]
        load[j] += seconds[v][j] / (nodeset.nodes[j].slots or 1)
        if end[v] > start:
            levels[j].hold(start, end[v], need[v])
        rows.append(_row(problem, nodeset, v, j, start, end[v]))
    return rows


def online(judge: Any, problem: Any, nodeset: Any) -> list[Row]:
    """As time goes on, what is ready to the least loaded node that has room now.

    Load is the share of its slots that a node has taken. Room is taken from the
    decision on, also while inputs travel.
    """
    seconds, need, free = _tables(judge, problem, nodeset)
    slots = [node.slots or 1 for node in nodeset.nodes]
    taken = [0] * len(free)
    missing = [len(preds) for preds in problem.preds]
    place = {v: k for k, v in enumerate(problem.order)}
    ready = sorted((place[v], v) for v, m in enumerate(missing) if not m)
    where, end = [-1] * len(seconds), [0.0] * len(seconds)
    running: list[tuple[float, int]] = []
    rows, now = [], 0.0
    while ready or running:
        waiting = []
        for k, v in ready:
            fits = [
                (taken[j] / slots[j], j)
                for j, span in enumerate(seconds[v])
                if span < float("inf") and _fits(need[v], free[j])
            ]
            if not fits:
                waiting.append((k, v))
                continue
            j = min(fits)[1]
            arrivals = [
                end[u] + nodeset.transfer(where[u], j, size)
                for u, size in problem.preds[v]
            ]
            start = max([now, *arrivals])
            where[v], end[v] = j, start + seconds[v][j]
            free[j] = [a - b for a, b in zip(free[j], need[v], strict=True)]
            taken[j] += 1
            heapq.heappush(running, (end[v], v))
            rows.append(_row(problem, nodeset, v, j, start, end[v]))
        ready, now = waiting, running[0][0]
        while running and running[0][0] <= now:
            u = heapq.heappop(running)[1]
            j = where[u]
            free[j] = [a + b for a, b in zip(free[j], need[u], strict=True)]
            taken[j] -= 1
            for v, _ in problem.succs[u]:
                missing[v] -= 1
                if not missing[v]:
                    ready.append((place[v], v))
        ready.sort()
    return rows


def _row(problem: Any, nodeset: Any, v: int, j: int, start: float, end: float) -> Row:
    return {
        "task": problem.tasks[v].id,
        "node": nodeset.nodes[j].id,
        "start": start,
        "end": end,
    }


RULES = {"greedy earliest": earliest, "greedy online": online}

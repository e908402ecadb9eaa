"""Slack: what in a plan waits for what, and how late each function may end.

Placements and a Problem in, waits out; knows no Plan and not who made it.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from handout_dask.problem import Problem
from handout_dask.shelves import room_waits


@dataclass(frozen=True, slots=True)
class Step:
    """One function of a critical path; ``because`` says what its start is bound by."""

    function: Hashable
    node: str
    start: float
    end: float
    because: str


@dataclass(frozen=True, eq=False)
class Precedence:
    """What each function of a valid plan waits for: inputs, and room on its node.

    Whatever keeps to these waits keeps the rules of the problem, for each function
    takes its room from the same functions as in the plan.

    Attributes
    ----------
    problem : Problem
        With n functions and h intervals held, which are n, n + 1, ... here.
    node, start, end : (n + h,) int, float [s], float [s]
        Where and when each of them is.
    before, after : (w,) int
        Who is waited for, and who waits; by the start of the latter.
    by_room : (w,) bool
        Whether for room, not for an input.
    gap : (w,) float [s]
        How long ago the input had come, or the room was free; 0 where it binds.

    Notes
    -----
    A resource flow (Artigues, Michelon, Reusser: Insertion techniques for static and
    dynamic resource-constrained project scheduling, EJOR 149(2), 2003,
    doi:10.1016/S0377-2217(02)00758-0). Departures: room is taken first from who is
    waited for anyway, then from who left it longest ago, which leaves most slack;
    functions of no time take room only where there is some; what is held can't move.
    """

    problem: Problem
    node: np.ndarray
    start: np.ndarray
    end: np.ndarray
    before: np.ndarray
    after: np.ndarray
    by_room: np.ndarray
    gap: np.ndarray

    @cached_property
    def slack(self) -> np.ndarray:
        """(n,) [s]: by how much the end of each can slip with the makespan as it is."""
        out: np.ndarray = np.minimum(self.to_makespan, self.to_held)
        return out

    @cached_property
    def to_makespan(self) -> np.ndarray:
        """(n,) [s]: the slack, but for what is held."""
        last = self.end[: len(self.problem.functions)].max(initial=0.0)
        return self._slips(last - self.end, np.inf)

    @cached_property
    def to_held(self) -> np.ndarray:
        """(n,) [s]: how late each can end before room is missing that is held."""
        return self._slips(np.full(len(self.end), np.inf), 0.0)

    def _slips(self, own: np.ndarray, held: float) -> np.ndarray:
        """(n,) [s]: the least of its own and, less the gaps, of what waits for it."""
        n = len(self.problem.functions)
        out = own.tolist()
        out[n:] = [held] * (len(out) - n)
        waits = (self.before, self.after, self.gap)
        for u, v, gap in zip(*(x[::-1].tolist() for x in waits), strict=True):
            if out[v] + gap < out[u]:
                out[u] = out[v] + gap
        return np.array(out[:n], dtype=float)

    @cached_property
    def _bound(self) -> tuple[list[float], list[int]]:
        """Since when a chain of waits without a gap leads to each; by which wait."""
        n = len(self.problem.functions)
        since, by = self.start.tolist(), [-1] * len(self.start)
        since[n:] = self.end[n:].tolist()  # of what is held only the end binds
        tight = np.flatnonzero(self.gap == 0)
        for w, u, v in zip(
            tight.tolist(),
            self.before[tight].tolist(),
            self.after[tight].tolist(),
            strict=True,
        ):
            if v < n and (by[v] < 0 or since[u] < since[v]):
                since[v], by[v] = min(since[u], since[v]), w
        return since, by

    def critical(self) -> list[int]:
        """Functions of a longest chain, each bound by the one before it.

        The last ends at the makespan; of several chains, one that begins first.
        """
        n = len(self.problem.functions)
        if not n:
            return []
        since, by = self._bound
        last = np.flatnonzero(self.end[:n] == self.end[:n].max()).tolist()
        chain = [min(last, key=lambda i: since[i])]
        while (w := by[chain[-1]]) >= 0 and self.before[w] < n:
            chain.append(int(self.before[w]))
        return chain[::-1]

    def because(self, i: int) -> str:
        """What the start of function i is bound by, as text; "begins" if nothing."""
        w = self._bound[1][i]
        if w < 0:
            return "begins"
        u, functions = int(self.before[w]), self.problem.functions
        if u >= len(functions):
            return f"room held until {self.end[u]:.6g} s"
        if self.by_room[w]:
            return f"room left by {functions[u].id!r}"
        away = self.node[u] != self.node[i]
        name = f", from {self.problem.nodes[self.node[u]].name}" if away else ""
        return f"input of {functions[u].id!r}{name}"

    def step(self, i: int) -> Step:
        """Function i with where, when and why then."""
        name = self.problem.nodes[self.node[i]].name
        start, end = float(self.start[i]), float(self.end[i])
        return Step(self.problem.functions[i].id, name, start, end, self.because(i))


def rounding(end: np.ndarray) -> float:
    """Seconds that count as none in a plan of these ends, as in its check."""
    return 1e-9 + 1e-7 * float(end.max(initial=0.0))


def transfer_times(
    problem: Problem, mb: np.ndarray, a: np.ndarray, b: np.ndarray
) -> np.ndarray:
    """(e,) [s] that so many MB travel from nodes a to nodes b, alone on the network."""
    cluster = problem.cluster
    with np.errstate(divide="ignore", invalid="ignore"):
        moving = cluster.latency[a, b] / 1e3 + mb / cluster.bandwidth[a, b]
    return np.where(a == b, 0.0, moving)


def precedence(
    problem: Problem,
    node: np.ndarray,
    option: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
) -> Precedence:
    """What waits for what in a valid plan; arrays (n,) as in Plan."""
    n, none = len(node), rounding(end)
    held_node, held_start, held_end, held_need = problem.held_arrays
    node = np.concatenate([node, held_node])
    start = np.concatenate([start, held_start])
    end = np.concatenate([end, held_end])
    chosen = problem.option_class[problem.option_ptr[:-1] + option]
    need = np.concatenate([problem.need[chosen], held_need])
    numbers = np.arange(len(node))
    order = np.lexsort((numbers, end, numbers < n, start))
    u, v = room_waits(problem, node, start, end, need, order.tolist(), none)
    reader = np.repeat(np.arange(n), np.diff(problem.pred_ptr))
    before = np.concatenate([problem.pred_of, np.array(u, dtype=np.int64)])
    after = np.concatenate([reader, np.array(v, dtype=np.int64)])
    by_room = np.arange(len(after)) >= len(reader)
    over = end[before]
    over[: len(reader)] += transfer_times(
        problem, problem.pred_mb, node[problem.pred_of], node[reader]
    )
    gap = start[after] - over
    gap[gap <= none] = 0.0
    place = np.empty(len(order), dtype=np.int64)
    place[order] = numbers
    by = np.lexsort((by_room, place[after]))
    return Precedence(
        problem, node, start, end, before[by], after[by], by_room[by], gap[by]
    )

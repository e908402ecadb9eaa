"""Offers: what each node would give one function of a plan, the rest staying as it is.

Knows no rule by which an allocator chooses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from handout_dask.billing import bill
from handout_dask.node import TOLERANCE
from handout_dask.plans import Plan
from handout_dask.problem import Lack
from handout_dask.slack import rounding, transfer_times


@dataclass(frozen=True, slots=True)
class Offer:
    """What one node gives a function, all others of the plan staying where they are.

    Attributes
    ----------
    node : str
        Its name.
    start, end : float
        Seconds; the earliest end in the room that the plan leaves. inf if what is held
        on the node leaves no room for ever.
    makespan : float
        Of the whole plan [s], when what waits for the function follows later by as
        much as it must, in the order that it has; inf if it would meet what is held.
    money : float
        For the whole plan, others where and when they are.
    mb : float
        MB that the function reads from other nodes.
    """

    node: str
    start: float
    end: float
    makespan: float
    money: float
    mb: float


class Offers:
    """What each node gives function i of a plan."""

    def __init__(self, plan: Plan, i: int) -> None:
        self.plan, self.i, self.here = plan, i, int(plan.node[i])
        self.problem = problem = plan.problem
        self.inputs = slice(int(problem.pred_ptr[i]), int(problem.pred_ptr[i + 1]))
        self.outputs = np.flatnonzero(problem.pred_of == i)
        self.readers = np.searchsorted(problem.pred_ptr, self.outputs, "right") - 1
        self.money = plan.money
        self.rest = float(np.delete(plan.end, i).max(initial=0.0))

    def as_planned(self) -> Offer:
        """What the plan gives it."""
        plan, i = self.plan, self.i
        name = self.problem.nodes[self.here].name
        start, end = float(plan.start[i]), float(plan.end[i])
        return Offer(
            name, start, end, plan.makespan, self.money, self._fetched(self.here)
        )

    def elsewhere(self, j: int) -> Offer:
        """What node j would give it."""
        start, end = self._earliest(j)
        money, makespan = self._money(j, start, end), self._makespan(j, end)
        name = self.problem.nodes[j].name
        return Offer(name, start, end, makespan, money, self._fetched(j))

    def refused_by_mates(self) -> dict[str, tuple[Lack, ...]]:
        """Nodes that it can't move to without those that must share its node."""
        problem, i = self.problem, self.i
        if problem.group[i] < 0:
            return {}
        mates = np.flatnonzero(problem.group == problem.group[i])
        mate = repr(problem.functions[next(int(g) for g in mates if g != i)].id)
        here = problem.nodes[self.here].name
        return {
            node.name: (Lack("node", here, node.name, mate),)
            for node in problem.nodes
            if node.name != here
        }

    def _fetched(self, j: int) -> float:
        of, mb = self.problem.pred_of[self.inputs], self.problem.pred_mb[self.inputs]
        return float(mb[self.plan.node[of] != j].sum())

    def _earliest(self, j: int) -> tuple[float, float]:
        """The start and end of the alternative that ends first on node j."""
        plan, problem = self.plan, self.problem
        of, mb = problem.pred_of[self.inputs], problem.pred_mb[self.inputs]
        a = plan.node[of]
        moving = transfer_times(problem, mb, a, np.full_like(a, j))
        ready = float((plan.end[of] + moving).max(initial=0.0))
        there = np.flatnonzero(plan.node == j)
        held_node, *others = problem.held_arrays
        chosen = problem.option_class[problem.option_ptr[there] + plan.option[there]]
        taken = (plan.start[there], plan.end[there], problem.need[chosen])
        start, end, need = (
            np.concatenate([ours, held[held_node == j]])
            for ours, held in zip(taken, others, strict=True)
        )
        kind, best = problem.kind[j], (np.inf, np.inf)
        for o in range(problem.option_ptr[self.i], problem.option_ptr[self.i + 1]):
            c = problem.option_class[o]
            if problem.rate[c, kind] > 0:
                seconds = float(problem.option_work[o] / problem.rate[c, kind])
                begin = earliest_start(
                    start, end, need, problem.room[kind], problem.need[c], ready,
                    seconds, rounding(plan.end),
                )  # fmt: skip
                best = min(best, (begin + seconds, begin))
        return best[1], best[0]

    def _makespan(self, j: int, end: float) -> float:
        """Of the plan, when it ends then on node j, and its readers follow."""
        plan, at = self.plan, self.plan.node[self.readers]
        mb = self.problem.pred_mb[self.outputs]
        moving = transfer_times(self.problem, mb, np.full_like(at, j), at)
        late = end + moving - plan.start[self.readers]
        late[late <= rounding(plan.end)] = -np.inf
        bound = plan.precedence
        if (late > bound.to_held[self.readers]).any():
            return float(np.inf)
        grown = plan.makespan + late - bound.to_makespan[self.readers]
        return float(max(self.rest, end, grown.max(initial=0.0)))

    def _money(self, j: int, start: float, end: float) -> float:
        """Of the plan, when it runs then on node j."""
        if end == np.inf:
            return float(end)
        plan, cluster = self.plan, self.problem.cluster
        some = np.flatnonzero((plan.node == self.here) | (plan.node == j))
        i = np.flatnonzero(some == self.i)
        before = [array[some] for array in (plan.node, plan.start, plan.end)]
        after = [array.copy() for array in before]
        for array, value in zip(after, (j, start, end), strict=True):
            array[i] = value
        return self.money - bill(cluster, *before) + bill(cluster, *after)


def earliest_start(
    start: np.ndarray,
    end: np.ndarray,
    need: np.ndarray,
    room: np.ndarray,
    want: np.ndarray,
    ready: float,
    seconds: float,
    none: float,
) -> float:
    """The earliest start on a node from which what is wanted fits as long as it runs.

    Parameters
    ----------
    start, end, need : (k,) [s], (k,) [s], (k, r)
        What is on the node already.
    room, want : (r,)
        What the empty node has, and what is wanted of it.
    ready, seconds, none : float
        Not before; for how long; what counts as no time.

    Returns
    -------
    float
        Seconds; inf if there is no such start.
    """
    asked = np.flatnonzero(want)
    ends = np.isfinite(end)
    times = np.concatenate([start, end[ends]])
    order = np.argsort(times, kind="stable")
    change = np.concatenate([need, -need[ends]])[order][:, asked]
    times, last = np.unique(times[order][::-1], return_index=True)
    level = np.cumsum(change, axis=0)[len(order) - 1 - last]
    spare = room[asked] + 10 * TOLERANCE * np.maximum(room[asked], 1.0)
    full = (level + want[asked] > spare).any(axis=1)
    before = np.append(False, full)[:-1]
    opens, closes = times[before & ~full], np.append(times[full & ~before], np.inf)
    now = np.searchsorted(times, ready, "right") - 1
    starts = opens[opens > ready]
    if now < 0 or not full[now]:
        starts = np.append(ready, starts)
    until = closes[np.searchsorted(closes, starts, "right")]
    fits = starts[starts + seconds <= until + none]
    return float(fits[0]) if len(fits) else np.inf

"""Allocator ``packing``: few nodes, well filled; the others stay whole and free."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from handout_dask.allocators.balance import busy_seconds
from handout_dask.allocators.clusters import Clusters
from handout_dask.allocators.engine import EARLIEST_END, Weights
from handout_dask.allocators.within import best, heft, latest, require_number
from handout_dask.plans import Plan
from handout_dask.problem import Problem

TRIES = 8  # nodes that can't be closed, one after the other, before it is left


@dataclass(frozen=True)
class Packing:
    """Fewest nodes, then least `fragmentation`, in ``slack`` times HEFT's makespan.

    A node that nothing uses is the largest hole that can be left for a big function. On
    the nodes that are used each function goes where least of cpu, memory and all else
    stays free beside it, so that what is large still fits elsewhere.

    Parameters
    ----------
    slack : float
        The makespan is at most this factor of HEFT's; inf: only nodes count.

    Notes
    -----
    Best fit of vectors: Panigrahy, Talwar, Uyeda, Wieder, Heuristics for vector bin
    packing, Microsoft Research, 2011; and Tetris: Grandl et al., Multi-resource packing
    for cluster schedulers, SIGCOMM 2014, doi:10.1145/2619239.2626334. Departures: the
    sum of free fractions decides, not the dot product of need and room; functions come
    in HEFT's order, not by size, since they depend on each other. Nodes are opened in
    the order of greedy set cover, then of room; their number is bisected; then those
    least used are closed while the rest still make it in time.

    What is held on nodes already does not attract more to them.
    """

    slack: float = 1.5

    def __post_init__(self) -> None:
        require_number(self, "slack", 1.0, "1.5 allows 1.5 times HEFT's makespan")

    def allocate(self, problem: Problem) -> Plan:
        """A plan on at most as many nodes as HEFT's."""
        plan = heft(problem)
        if not problem.functions:
            return best([plan], _cost, repr(self))
        clusters, horizon = Clusters(problem), latest(plan, self.slack)
        ranked, low = opening_order(clusters)
        fits = _weights(plan)

        def on(nodes: np.ndarray) -> list[Plan]:
            """Plans in time on these nodes, and others for what they can't run."""
            closed = np.ones(len(problem.nodes), dtype=bool)
            closed[nodes] = False
            can = clusters.able & ~closed
            shut = np.where(can.any(axis=1, keepdims=True), ~can, False)[clusters.of]
            bias = np.where(shut, np.inf, 0.0)
            made = (heft(problem, weights=w, bias=bias) for w in fits)
            return [x for x in made if x.makespan <= horizon]

        high = len(ranked)
        plan = min([plan, *on(ranked)], key=_cost)
        while low < high:
            middle = (low + high) // 2
            found = on(ranked[:middle])
            low, high = (low, middle) if found else (middle + 1, high)
            plan = min([plan, *found], key=_cost)
        return best([_close(plan, on)], _cost, repr(self))


def _close(plan: Plan, on: Callable[[np.ndarray], list[Plan]]) -> Plan:
    """Close the least used nodes while that costs less."""
    failed: set[int] = set()
    while len(failed) < TRIES:
        used = np.unique(plan.node)
        load = busy_seconds(plan).max(axis=1)
        left = [
            j for j in used[np.argsort(load[used], kind="stable")] if j not in failed
        ]
        if not left:
            break
        found = min([plan, *on(used[used != left[0]])], key=_cost)
        if found is plan:
            failed.add(left[0])
        plan = found
    return plan


def _weights(plan: Plan) -> tuple[Weights, ...]:
    """The tightest fit, one in which a run time counts as much, and none."""
    spans = plan.end - plan.start
    wide, mean = 1e3 * max(plan.makespan, 1.0), float(spans.mean())
    mixed = Weights(end=1.0, leftover=mean)
    return Weights(end=1.0, leftover=wide), mixed, EARLIEST_END


def opening_order(clusters: Clusters) -> tuple[np.ndarray, int]:
    """Nodes as they shall be opened, and how many it takes to run everything at all.

    Returns
    -------
    (m,) int array
        First a greedy cover of what is to be run (Chvatal, Math. Oper. Res. 4(3), 1979,
        doi:10.1287/moor.4.3.233), then by the room they have of what is needed.
    int
        The size of the cover.
    """
    p = clusters.problem
    busy = clusters.busy[:, p.kind].max(axis=2)  # (g, m) [s]
    busy = np.where(clusters.able, busy, 0.0)
    most = busy.max(axis=1, keepdims=True)
    pace = np.divide(most, busy, out=np.ones_like(busy), where=busy > 0) * clusters.able
    value = (most * pace).sum(axis=0)  # (m,) what it can run, and how fast
    bare, order = np.ones(len(clusters), dtype=bool), []
    while bare.any():
        gain = clusters.able[bare].sum(axis=0)
        j = int(np.lexsort((-value, -gain))[0])
        if not gain[j]:
            break
        order.append(j)
        bare &= ~clusters.able[:, j]
    rest = [j for j in np.argsort(-value, kind="stable").tolist() if j not in order]
    return np.array([*order, *rest], dtype=np.int64), len(order)


def nodes_used(plan: Plan) -> int:
    """How many nodes run anything."""
    return len(np.unique(plan.node))


def fragmentation(plan: Plan) -> float:
    """The fraction of the nodes' finite resources that is unused while they are used.

    Each node from its first start to its last end, all its finite resources alike.
    """
    p = plan.problem
    if not len(plan):
        return 0.0
    first = np.full(len(p.nodes), np.inf)
    last = np.zeros(len(p.nodes))
    np.minimum.at(first, plan.node, plan.start)
    np.maximum.at(last, plan.node, plan.end)
    used = np.isfinite(first)
    span = np.where(used, last - np.where(used, first, 0.0), 0.0)
    room = p.room[p.kind]
    finite = (room > 0) & np.isfinite(room)
    share = busy_seconds(plan).sum(axis=1) / np.maximum(finite.sum(axis=1), 1)  # [s]
    return float(1 - share.sum() / span.sum()) if span.sum() > 0 else 0.0


def _cost(plan: Plan) -> tuple[int, float, float]:
    return nodes_used(plan), fragmentation(plan), plan.makespan

"""Allocator ``throughput``: the shortest period of a stream of one graph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from handout_dask.allocators.balance import busy_seconds, evenly, gather, load_of
from handout_dask.allocators.clusters import Clusters, edges
from handout_dask.allocators.within import assigned, best, heft
from handout_dask.errors import AllocationError
from handout_dask.plans import Plan
from handout_dask.problem import Problem

LADDER = (1.0, 1.1, 1.25, 1.5, 2.0, np.inf)  # of the least peak, for fewer MB
LOOKS = 1000  # at moves of one cluster, at the end


@dataclass(frozen=True)
class Throughput:
    """Least period: seconds after which the next instance of the graph can follow.

    When instances stream through, each on the nodes of this plan, none of a node's
    resources and no link can be busy for longer than a period in each. `period` is the
    longest of those times; it bounds what any schedule of the stream reaches.

    Parameters
    ----------
    links : bool
        Whether transfers count: a link carries the MB that one instance sends over it.

    Notes
    -----
    Mapping a stream onto unrelated nodes for the least bottleneck: Benoit, Robert,
    Mapping pipeline skeletons onto heterogeneous platforms, J. Parallel Distrib.
    Comput. 68(6), 2008, doi:10.1016/j.jpdc.2007.11.004. Departures: any graph and any
    resource; longest first, then moves and exchanges off the busiest node; where links
    count, moves that save MB while nodes stay below multiples of the least peak, and at
    last such as shorten the period. The better of that and HEFT's plan is taken.

    It does not replicate functions, and does not shorten one instance's makespan: the
    times of the plan are those of the first instance. Nothing follows from what is held
    already, as that passes.
    """

    links: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.links, bool):
            raise AllocationError(
                f"Throughput: links={self.links!r} must be True, for transfers to "
                "count, or False"
            )

    def allocate(self, problem: Problem) -> Plan:
        """A plan whose period is at most that of HEFT."""
        plans = [heft(problem)]
        if problem.functions:
            clusters = Clusters(problem)
            columns = list(range(len(problem.resources)))
            begin = clusters.nodes(plans[0].node)
            even = evenly(clusters, begin, columns)
            found = [even]
            if self.links and problem.pred_mb.any():
                peak = load_of(clusters, even).max() or np.inf
                found += [
                    gather(clusters, start, np.full(len(columns), factor * peak))
                    for factor in LADDER
                    for start in (even, begin)
                ]
            node = min(found, key=lambda x: _busiest(clusters, x, self.links))
            node = _relieved(clusters, node, self.links)
            plans.append(assigned(problem, node[clusters.of]))
        return best(
            plans, lambda plan: (period(plan, self.links), plan.makespan), repr(self)
        )


def _relieved(clusters: Clusters, node: np.ndarray, links: bool) -> np.ndarray:
    """Moves of one cluster each that shorten the period, for a number of looks."""
    least, looks = _busiest(clusters, node, links), 0
    moved = True
    while moved:
        moved = False
        for g in range(len(clusters)):
            for j in np.flatnonzero(clusters.able[g]).tolist():
                if looks == LOOKS:
                    return node
                looks += 1
                other = node.copy()
                other[g] = j
                now = _busiest(clusters, other, links)
                if now < least * (1 - 1e-9):
                    node, least, moved = other, now, True
    return node


def _busiest(clusters: Clusters, node: np.ndarray, links: bool) -> float:
    """As `period`, of clusters on their nodes."""
    most = float(load_of(clusters, node).max(initial=0.0))
    seconds = _link_seconds(clusters.problem, node[clusters.of]) if links else 0.0
    return max(most, seconds)


def _link_seconds(problem: Problem, node: np.ndarray) -> float:
    """For how long the busiest link carries MB, for functions on these nodes."""
    a, b = (node[x] for x in edges(problem))
    mb = np.zeros((len(problem.nodes), len(problem.nodes)))
    np.add.at(mb, (a, b), problem.pred_mb)
    np.fill_diagonal(mb, 0.0)
    sent = mb > 0
    return float((mb[sent] / problem.cluster.bandwidth[sent]).max(initial=0.0))


def period(plan: Plan, links: bool = True) -> float:
    """Seconds of each instance for which the busiest resource, or link, is in use.

    Parameters
    ----------
    plan : Plan
        Of one instance.
    links : bool
        Whether links count, each by its MB over its bandwidth; latency does not.
    """
    most = float(busy_seconds(plan).max(initial=0.0))
    return max(most, _link_seconds(plan.problem, plan.node)) if links else most

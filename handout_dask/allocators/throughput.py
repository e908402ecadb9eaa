"""Allocator ``throughput``: the shortest period of a stream of one graph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from handout_dask.allocators.balance import busy_seconds, even_out, gather, spread
from handout_dask.allocators.clusters import Clusters, edges
from handout_dask.allocators.within import assigned, best, heft
from handout_dask.errors import AllocationError
from handout_dask.plans import Plan
from handout_dask.problem import Problem

LADDER = (1.0, 1.1, 1.25, 1.5, 2.0, 4.0, np.inf)  # of the least peak, for fewer MB


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
    count, moves that save MB while nodes stay below multiples of the least peak. The
    better of that and HEFT's plan is taken.

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
            node = even_out(clusters, spread(clusters, columns), columns)
            plans.append(assigned(problem, node[clusters.of]))
            peak = busy_seconds(plans[-1]).max()
            for factor in LADDER if self.links and problem.pred_mb.any() else ():
                limit = np.full(len(columns), factor * peak if peak else np.inf)
                fewer = gather(clusters, node, limit)
                plans.append(assigned(problem, fewer[clusters.of]))
        return best(
            plans, lambda plan: (period(plan, self.links), plan.makespan), repr(self)
        )


def period(plan: Plan, links: bool = True) -> float:
    """Seconds of each instance for which the busiest resource, or link, is in use.

    Parameters
    ----------
    plan : Plan
        Of one instance.
    links : bool
        Whether links count, each by its MB over its bandwidth; latency does not.
    """
    p = plan.problem
    most = float(busy_seconds(plan).max(initial=0.0))
    if links:
        a, b = (plan.node[x] for x in edges(p))
        mb = np.zeros((len(p.nodes), len(p.nodes)))
        np.add.at(mb, (a, b), p.pred_mb)
        np.fill_diagonal(mb, 0.0)
        sent = mb > 0
        most = max(most, float((mb[sent] / p.cluster.bandwidth[sent]).max(initial=0.0)))
    return most

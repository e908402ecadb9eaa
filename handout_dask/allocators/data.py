"""Allocator ``data``: disk and network bandwidth, evenly used; few MB moved."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from handout_dask.allocators.balance import (
    busy_seconds,
    evenly,
    gather,
    load_of,
)
from handout_dask.allocators.clusters import Clusters
from handout_dask.allocators.within import LOOSE, assigned, best, heft, require_number
from handout_dask.plans import Plan
from handout_dask.problem import Problem

BANDWIDTHS = ("disk_io", "network_io")


@dataclass(frozen=True)
class Data:
    """The scarcest bandwidth most evenly used, then the fewest MB between nodes.

    ``disk_io`` and ``network_io`` [MB/s] are held while a function runs. On each node
    they are in full use for the sum of its functions' seconds x MB/s over what the node
    has; the longest of these times is the `peak`. A plan's peak is within
    ``tolerance`` of the least one found, and of such plans it moves fewest MB; slots
    are kept within the same tolerance of even use meanwhile.

    Parameters
    ----------
    tolerance : float
        By which fraction the peak may exceed the least one, to save MB.

    Notes
    -----
    Dominant resources as in Ghodsi et al., Dominant resource fairness, NSDI 2011, but
    of nodes in place of users: the share that is largest decides. Longest first, then
    moves and exchanges off the busiest node, then moves that save MB; the better of
    that and HEFT's plan. Where no function asks for either bandwidth, slots are
    balanced.

    Transfers themselves do not take ``network_io``: only declared demands do.
    """

    tolerance: float = 0.1

    def __post_init__(self) -> None:
        require_number(self, "tolerance", 0.0, "0.1 allows a tenth more than the least")

    def allocate(self, problem: Problem) -> Plan:
        """A plan of a peak at most 1 + tolerance times HEFT's."""
        plans = [heft(problem)]
        if problem.functions:
            clusters, names = Clusters(problem), problem.resources
            scarce = [r for r, name in enumerate(names) if name in BANDWIDTHS] or [0]
            node = evenly(clusters, clusters.nodes(plans[0].node), scarce)
            limit = np.full(len(names), np.inf)
            for r in {0, *scarce}:  # 0: slots
                load = load_of(clusters, node)[:, [r] if r not in scarce else scarce]
                limit[r] = load.max() * (1 + self.tolerance)
            fewer = gather(clusters, node, limit)
            plans += [assigned(problem, x[clusters.of]) for x in (node, fewer)]
        least = min(peak(plan) for plan in plans) * (1 + self.tolerance) * LOOSE

        def cost(plan: Plan) -> tuple[bool, float, float]:
            return peak(plan) > least, plan.transferred, plan.makespan

        return best(plans, cost, repr(self))


def peak(plan: Plan) -> float:
    """Seconds for which the busiest disk or network interface is in full use."""
    names = plan.problem.resources
    columns = [r for r, name in enumerate(names) if name in BANDWIDTHS]
    return float(busy_seconds(plan)[:, columns].max(initial=0.0))

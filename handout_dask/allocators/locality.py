"""Allocator ``locality``: the fewest MB from one node to another."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from handout_dask.allocators.balance import gather, spread
from handout_dask.allocators.clusters import Clusters
from handout_dask.allocators.engine import Weights
from handout_dask.allocators.within import (
    assigned,
    best,
    bisect,
    heft,
    latest,
    require_number,
)
from handout_dask.plans import Plan
from handout_dask.problem import Problem


@dataclass(frozen=True)
class Locality:
    """Least transfer: MB that cross between nodes; of equal plans the shortest.

    Functions that read one another end up on one node, as far as it can run them: with
    no bound on time, all of a connected graph where one node can run it. A ``slack``
    gives up MB for time.

    Parameters
    ----------
    slack : float
        The makespan is at most this factor of HEFT's; inf: MB alone count.

    Notes
    -----
    The best of three: the function's own view, each where least must be fetched, ties
    to the earliest end (as data-local scheduling has it: Zaharia et al., Delay
    scheduling, EuroSys 2010, doi:10.1145/1755913.1755940, without its waiting); edge
    zeroing (see `Clusters.merged`); and HEFT's plan. Then moves of one function, or
    group, that save MB. A local optimum: multiway cut, which this is, is NP-hard.

    Edges count each for itself, as `Plan.transferred` has it: two readers on one node
    fetch twice. Where inputs that no function makes lie is not known.
    """

    slack: float = math.inf

    def __post_init__(self) -> None:
        require_number(self, "slack", 1.0, "2 allows twice HEFT's makespan")

    def allocate(self, problem: Problem) -> Plan:
        """A plan that moves no more MB than HEFT's."""
        fast = heft(problem)
        if not problem.functions:
            return best([fast], _moved, repr(self))
        horizon = latest(fast, self.slack)

        def greedy(weight: float) -> Plan:
            end_or_mb = Weights(end=1.0, moved=weight) if weight < np.inf else ALONE
            return heft(problem, weights=end_or_mb)

        scale = fast.makespan / max(float(problem.pred_mb.sum()), 1e-9) or 1.0
        plans = [fast, bisect(greedy, _moved, fast, self.slack, scale)]
        clusters = Clusters(problem)
        joined = clusters.merged()
        node = spread(joined, list(range(len(problem.resources))))
        plans.append(assigned(problem, node[joined.of]))
        free = np.full(len(problem.resources), horizon)
        for plan in tuple(plans):
            node = gather(clusters, clusters.nodes(plan.node), free)
            plans.append(assigned(problem, node[clusters.of]))
        kept = [p for p in plans if p is fast or p.makespan <= horizon]
        return best(kept, lambda plan: (_moved(plan), plan.makespan), repr(self))


ALONE = Weights(moved=1.0)


def _moved(plan: Plan) -> float:
    return plan.transferred

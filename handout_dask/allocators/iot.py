"""Allocator ``iot``: the least energy on nodes with peripherals and power budgets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from handout_dask.allocators.engine import Weights
from handout_dask.allocators.within import best, bisect, heft, require_number
from handout_dask.plans import Plan
from handout_dask.problem import Problem


@dataclass(frozen=True)
class IoT:
    """Least energy, in at most ``slack`` times HEFT's makespan.

    Energy is the watts of each node times the seconds of its functions, see `energy`.
    Peripherals (``camera``) and power budgets (``power``, in watts, what a node can
    feed at once) are demands: as with every allocator, no node ever holds more than it
    has of them, and who needs one goes where it is.

    Parameters
    ----------
    slack : float
        The makespan is at most this factor of HEFT's; inf: energy alone counts.

    Notes
    -----
    In HEFT's order, each function where its end + w x energy is least, the weight w
    bisected: a list heuristic for energy of the kind of Lee, Zomaya, Energy conscious
    scheduling for distributed computing systems under different operating conditions,
    IEEE TPDS 22(8), 2011, doi:10.1109/TPDS.2010.208. Departures: nodes have one
    frequency; the makespan is a bound, not a term.

    Power when idle and the energy of transfers are not counted; a node that declares no
    watts counts as free of charge.
    """

    slack: float = 1.5

    def __post_init__(self) -> None:
        require_number(self, "slack", 1.0, "1.5 allows 1.5 times HEFT's makespan")

    def allocate(self, problem: Problem) -> Plan:
        """A plan that takes at most the energy of HEFT's."""
        watts = np.array([node.watts for node in problem.nodes])

        def make(weight: float) -> Plan:
            both = Weights(end=1.0, money=weight) if weight < np.inf else ENERGY
            return heft(problem, weights=both, price=watts)

        fast = heft(problem)
        if watts.any():
            fast = bisect(make, energy, fast, self.slack, 1.0 / watts.max())
        return best([fast], energy, repr(self))


ENERGY = Weights(money=1.0)


def energy(plan: Plan) -> float:
    """Joules: each function's seconds times the watts of its node."""
    watts = np.array([node.watts for node in plan.problem.nodes])
    return float(((plan.end - plan.start) * watts[plan.node]).sum()) if len(plan) else 0

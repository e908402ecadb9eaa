"""Allocator ``time``: the shortest makespan, by list scheduling and search."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from handout_dask.allocators.contention import as_played, load
from handout_dask.allocators.effort import FEW, Effort, Meter
from handout_dask.allocators.engine import place, upward_rank
from handout_dask.allocators.search import improve
from handout_dask.plans import Plan
from handout_dask.problem import Problem


@dataclass(frozen=True, repr=False)
class Time(Effort):
    """Minimum makespan.

    Parameters
    ----------
    time_budget : float, optional
        CPU seconds to search for a better plan than those that list scheduling gives;
        0 is none. Default: 0.1 s, or 5 % of the makespan if that is less.
    iterations : int, optional
        So many moves instead: the plan then depends on nothing but the seed.
    seed : int
        Of the search.

    Notes
    -----
    At once: HEFT (Topcuoglu, Hariri, Wu, IEEE TPDS 13(3), 2002, doi:10.1109/71.993206).
    Departures: a gap counts as free when slots, cores, memory and every other resource
    fit in it; of several cost alternatives the one that ends first is taken; where it
    costs little, other orders are tried too, and the best plan is taken.

    Then simulated annealing (Kirkpatrick, Gelatt, Vecchi, Science 220, 1983,
    doi:10.1126/science.220.4598.671) over the order of the functions and their
    placements, from several list schedules, with moves that begin at the critical path.
    """

    def allocate(self, problem: Problem) -> Plan:
        """The best plan found."""
        load(problem)
        meter = Meter()
        plans = list_schedules(problem)
        return improve(problem, plans, self, repr(self), meter)


def list_schedules(problem: Problem) -> list[Plan]:
    """HEFT's plan, and where that is quick those of some other orders.

    With times as the problem's network makes them.
    """
    if not problem.functions:
        return [place(problem)]
    keys: list[np.ndarray | None] = [-upward_rank(problem)]
    if len(problem.functions) * len(problem.nodes) <= FEW:
        keys += [
            -upward_rank(problem, "best"),
            -upward_rank(problem, "mean", transfer=False),
            np.arange(len(problem.functions), dtype=float),
            None,  # as they become ready
        ]
    plans = [place(problem, key=key) for key in keys]
    alone = -1 if problem.held else best_single_node(problem)
    if alone >= 0:
        plans.append(
            place(problem, key=keys[0], assigned=np.full(len(plans[0]), alone))
        )
    ported = problem.network == "oneport"
    return [as_played(plan) for plan in plans] if ported else plans


def best_single_node(problem: Problem) -> int:
    """The node on which all functions together take the least time; -1 if none can."""
    rate = problem.rate[problem.option_class]
    spans = np.full(rate.shape, np.inf)
    np.divide(problem.option_work[:, None], rate, out=spans, where=rate > 0)
    total = np.minimum.reduceat(spans, problem.option_ptr[:-1]).sum(axis=0)  # (k,)
    slots = np.minimum(problem.room[:, 0], len(problem.functions))
    each = (total / slots)[problem.kind]
    pins = np.unique(problem.pin[problem.pin >= 0])
    if len(pins) > 1 or (problem.pin == -2).any():
        return -1
    best = int(pins[0]) if len(pins) else int(each.argmin())
    return best if np.isfinite(each[best]) else -1

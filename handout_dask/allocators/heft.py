"""Allocator ``time``: the shortest makespan, by HEFT with insertion."""

from __future__ import annotations

from dataclasses import dataclass

from handout_dask.allocators.engine import EARLIEST_END, place, upward_rank
from handout_dask.plans import Plan
from handout_dask.problem import Problem


@dataclass(frozen=True)
class Time:
    """Minimum makespan: by decreasing upward rank, each to the earliest end.

    Notes
    -----
    HEFT: Topcuoglu, Hariri, Wu, IEEE TPDS 13(3), 2002, doi:10.1109/71.993206.
    Departures: a gap counts as free when slots, cores, memory and every other resource
    fit in it; of several cost alternatives the one that ends first is taken.
    """

    def allocate(self, problem: Problem) -> Plan:
        """A plan with gaps filled where that is earlier."""
        key = -upward_rank(problem) if problem.functions else None
        return place(problem, key=key, rule=EARLIEST_END, allocator=repr(self))

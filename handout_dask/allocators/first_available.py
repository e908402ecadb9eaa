"""Allocator ``first-available``: as functions become ready, the first free node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from handout_dask.allocators.engine import EARLIEST_START, place
from handout_dask.plans import Plan
from handout_dask.problem import Problem


@dataclass(frozen=True)
class FirstAvailable:
    """Never waits for a better node: in order of readiness, to the earliest start.

    Of functions that become ready at the same moment those come first that fewest nodes
    can run, such as pinned ones: another one can spill over. Of several nodes on which
    a function could start at the same moment it takes the first in the cluster's order.
    Speed and price are not looked at. On a cluster what is ready goes to the first node
    that is really free, wherever it was planned.
    """

    waits: ClassVar[bool] = False

    def allocate(self, problem: Problem) -> Plan:
        """A plan in which nothing waits beside a free node that fits."""
        return place(problem, weights=EARLIEST_START, allocator=repr(self))

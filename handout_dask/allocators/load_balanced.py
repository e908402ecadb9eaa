"""Allocator ``load-balanced``: as functions become ready, the node with least work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from handout_dask.allocators.engine import LEAST_LOAD, place
from handout_dask.plans import Plan
from handout_dask.problem import Problem


@dataclass(frozen=True)
class LoadBalanced:
    """Equal shares: in order of readiness, to the node of least busy time per slot.

    Busy time is what the plan has put there so far, in seconds on that node, so that a
    fast node gets more functions than a slow one. Of functions that become ready at the
    same moment those come first that fewest nodes can run. On a cluster what is ready
    goes to another node that is free, where its own is busy for longer than planned.
    """

    waits: ClassVar[bool] = False

    def allocate(self, problem: Problem) -> Plan:
        """A plan with about the same busy time on every slot."""
        return place(problem, weights=LEAST_LOAD, allocator=repr(self))

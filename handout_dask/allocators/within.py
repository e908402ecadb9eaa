"""What may be given up for a lower cost: plans within a multiple of HEFT's makespan."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from handout_dask.allocators.engine import (
    EARLIEST_END,
    Weights,
    arrays,
    place,
    upward_rank,
)
from handout_dask.allocators.kernel import choices
from handout_dask.errors import AllocationError
from handout_dask.plans import Plan
from handout_dask.problem import Problem

STEPS = 12  # of bisection
LOOSE = 1 + 1e-9


def heft(problem: Problem, **more: Any) -> Plan:
    """HEFT's plan, or one in its order that other arguments of `place` make.

    Where some functions have no other node, and others have, also one in which those
    go before all that are ready with them, lest their room be taken; the shorter is it.
    """
    more.setdefault("weights", EARLIEST_END)
    if not problem.functions:
        return place(problem, **more)
    key = -upward_rank(problem)
    plan = place(problem, key=key, **more)
    bound = choices(arrays(problem, more.get("assigned"))) == 1
    if len(problem.nodes) > 1 and bound.any() and not bound.all():
        first = np.where(bound, key + key.min() - 1.0, key)
        plan = min(plan, place(problem, key=first, **more), key=lambda p: p.makespan)
    return plan


def assigned(problem: Problem, node: np.ndarray) -> Plan:
    """Each function on its node by its fastest alternative, in HEFT's order.

    Parameters
    ----------
    problem : Problem
        With n functions on m nodes.
    node : (n,) int array
        That keeps pins and groups.
    """
    alike = np.ones(len(problem.nodes))
    return heft(problem, assigned=node, weights=Weights(money=1.0), price=alike)


def latest(fast: Plan, slack: float) -> float:
    """Seconds: slack times a plan's makespan, and a rounding error; inf for inf."""
    return fast.makespan * slack * LOOSE if slack < math.inf else math.inf


def best(plans: Iterable[Plan], cost: Callable[[Plan], Any], allocator: str) -> Plan:
    """The first of the plans of least cost, in the allocator's name."""
    return replace(min(plans, key=cost), allocator=allocator)


def bisect(
    make: Callable[[float], Plan],
    cost: Callable[[Plan], float],
    fast: Plan,
    slack: float,
    scale: float,
) -> Plan:
    """The plan of least cost that takes at most slack times what the fast one does.

    Parameters
    ----------
    make : callable
        From the weight of the cost, in seconds per unit, to a plan; inf: it alone
        counts.
    cost : callable
        Of a plan.
    fast : Plan
        Returned if none is cheaper within the slack.
    slack : float
        Factor of its makespan.
    scale : float
        A weight of the order at which time and cost balance.
    """
    horizon = latest(fast, slack)
    good = [fast]

    def is_good(weight: float) -> bool:
        made = make(weight)
        if made.makespan <= horizon:
            good.append(made)
            return True
        return False

    if not is_good(math.inf):
        low, high = math.log(scale) - 10.0, math.log(scale) + 10.0
        for _ in range(STEPS):
            middle = (low + high) / 2
            if is_good(math.exp(middle)):
                low = middle
            else:
                high = middle
    return min(good, key=lambda plan: (cost(plan), plan.makespan))


def require_number(
    owner: object, name: str, least: float, hint: str, most: float = math.inf
) -> None:
    """Refuse a parameter of a strategy that is no number from least to most.

    Raises
    ------
    AllocationError
        That says what is asked.
    """
    value = getattr(owner, name)
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not number or not least <= value <= most:
        strategy = type(owner).__name__
        asked = f"of at least {least:g}"
        if most < math.inf:
            asked += f" and at most {most:g}"
        raise AllocationError(
            f"{strategy}: {name}={value!r} must be a number {asked}; {hint}"
        )

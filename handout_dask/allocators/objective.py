"""Allocator ``objective``: a weighted sum of makespan, money, energy and transfers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from handout_dask.allocators.contention import as_played, load
from handout_dask.allocators.decoder import Aim
from handout_dask.allocators.effort import Effort, Meter, is_number
from handout_dask.allocators.engine import Weights, place, upward_rank
from handout_dask.allocators.makespan import list_schedules
from handout_dask.allocators.search import improve
from handout_dask.errors import AllocationError
from handout_dask.plans import Plan
from handout_dask.problem import Problem

MEASURES = ("makespan", "money", "energy", "transfer")
LARGEST = 1e9  # weight
TASTES = (0.1, 1.0, 10.0)  # of list schedules for what is not time


@dataclass(frozen=True, repr=False)
class Objective(Effort):
    """The least weighted sum of what a plan takes, each relative to HEFT's plan.

    Parameters
    ----------
    time_budget, iterations, seed
        As for ``time``.
    weights : mapping or tuple of pairs
        From ``makespan``, ``money``, ``energy`` (watts while functions run) and
        ``transfer`` (MB between nodes) to how much each counts. A weight of 0.2 for
        money makes 1 % less money worth as much as 0.2 % less makespan.

    Notes
    -----
    The search of ``time`` with this sum as its value. What is 0 in HEFT's plan counts
    by itself, not relatively. Where nodes are billed by the time they are held, money
    and energy can't both count.
    """

    weights: Mapping[str, float] | tuple[tuple[str, float], ...] = (("makespan", 1.0),)

    def __post_init__(self) -> None:
        """Refuse unknown measures and impossible weights.

        Raises
        ------
        AllocationError
            That says which are known.
        """
        Effort.__post_init__(self)
        try:
            pairs = tuple(dict(self.weights).items())
        except (TypeError, ValueError):
            raise AllocationError(
                f"weights={self.weights!r} must be a mapping, such as "
                "{'makespan': 1, 'money': 0.2}"
            ) from None
        object.__setattr__(self, "weights", pairs)  # hashable, and safe from changes
        for name, weight in pairs:
            if name not in MEASURES:
                known = ", ".join(MEASURES)
                raise AllocationError(f"objective {name!r} must be one of {known}")
            if not is_number(weight) or not 0 <= weight <= LARGEST:
                raise AllocationError(
                    f"objective {name!r}: weight {weight!r} must be a number from 0 to "
                    f"{LARGEST:g}"
                )
        if not any(weight for _, weight in pairs):
            raise AllocationError("an objective needs a weight above 0")

    def allocate(self, problem: Problem) -> Plan:
        """The best plan found.

        Raises
        ------
        AllocationError
            If money and energy are weighed where nodes are billed as held.
        """
        held = problem.cluster.billing == "held"
        if held and self._of("money") and self._of("energy"):
            raise AllocationError(
                "money of held nodes and energy of functions can't be weighed together"
            )
        if not problem.functions:
            return place(problem, allocator=repr(self))
        load(problem)
        meter = Meter()
        plans = list_schedules(problem)
        aim, price = self._aim(problem, plans[0])
        mean = float(price[price > 0].mean()) if price.any() else math.inf
        key = -upward_rank(problem)
        total = float(problem.pred_mb.sum()) or math.inf
        self.limit(meter, plans[0].makespan)
        for taste in TASTES:
            if meter.is_overdrawn(problem):
                break
            weights = Weights(
                end=aim.time * plans[0].makespan + 1e-6,
                money=taste * aim.money / mean,
                moved=taste * aim.moved * plans[0].makespan / total,
            )
            plans.append(place(problem, key=key, weights=weights, price=price))
        if problem.network == "oneport":
            plans = [as_played(plan) for plan in plans]
        held = aim.held or problem.cluster.billing == "function"
        own = None if held and not self._of("energy") else price
        return improve(problem, plans, self, repr(self), meter, aim, own)

    def _of(self, name: str) -> float:
        return float(dict(self.weights).get(name, 0.0))

    def _aim(self, problem: Problem, plan: Plan) -> tuple[Aim, np.ndarray]:
        """What is minimised, and what a second of function costs on each node."""
        seconds = plan.end - plan.start
        price = np.array([node.price for node in problem.nodes]) / 3600.0
        watts = np.array([node.watts for node in problem.nodes], dtype=float)
        makespan, money, energy, transfer = (self._of(name) for name in MEASURES)
        held = problem.cluster.billing == "held" and money > 0
        by_energy = float((seconds * watts[plan.node]).sum()) or 1.0
        if energy and not money:
            price, scale = watts, energy / by_energy
        else:
            by_money = plan.money or 1.0
            scale = money / by_money
            if energy:
                price = price + watts * (energy / by_energy) / scale
        return Aim(
            time=makespan / (plan.makespan or 1.0),
            money=scale,
            moved=transfer / (plan.transferred or 1.0),
            deadline=math.inf,
            late=0.0,
            budget=math.inf,
            over=0.0,
            held=held,
            quantum=problem.cluster.quantum if held else 0.0,
        ), price


def objective(weights: Mapping[str, float], **effort: object) -> Objective:
    """The allocator that minimises a weighted sum.

    Parameters
    ----------
    weights : mapping
        As of `Objective`: ``{"makespan": 1, "money": 0.2, "transfer": 0.1}``.
    **effort
        ``time_budget``, ``iterations`` or ``seed``.

    Raises
    ------
    AllocationError
        If a weight or a parameter makes no sense.
    """
    try:
        return Objective(weights=weights, **effort)  # type: ignore[arg-type]
    except TypeError as error:
        raise AllocationError(f"objective: {error}") from error

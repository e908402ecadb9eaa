"""Anytime search: from plans that list scheduling gives to a better one.

Knows Plans and an Aim; how it is searched is `annealing`'s affair.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from handout_dask.allocators import contention, decoder, engine, kernel
from handout_dask.allocators.annealing import Annealer, is_loaded, kernels
from handout_dask.allocators.compiling import at_hand
from handout_dask.allocators.decoder import Aim
from handout_dask.allocators.effort import SEARCH, Effort, Meter
from handout_dask.allocators.instance import is_searchable, plan_of, schedule_of
from handout_dask.begun import Begun
from handout_dask.errors import AllocationError
from handout_dask.plans import Plan
from handout_dask.problem import Problem

LOADING = 0.02  # s of search below which loading numba (0.5 s) doesn't pay
FEW = 20  # functions that are searched without numba, unless it is loaded already
LOADING_PAYS = 0.2, 1000  # s, or moves, of search; for few functions too
FAR_TOO_MANY = 50_000  # functions for each second above which that is of no use

CLOSE = 1e-9  # share within which two makespans are the same
QUICK = Aim(1.0, 0.0, 0.0, np.inf, 0.0, np.inf, 0.0, False, 0.0)  # least makespan


def improve(
    problem: Problem,
    plans: list[Plan],
    effort: Effort,
    allocator: str,
    meter: Meter,
    aim: Aim = QUICK,
    price: np.ndarray | None = None,
    longest: float = SEARCH,
) -> Plan:
    """The best plan by an aim that a search finds, never worse than the given ones.

    Parameters
    ----------
    problem : Problem
        Feasible.
    plans : list of Plan
        To begin with.
    effort : Effort
        How long to search.
    allocator : str
        What the plan shall say it is from.
    meter : Meter
        Which has run since planning began.
    aim : Aim
        What is minimised.
    price : (m,) array, optional
        What a second of function costs on each node; default: money.
    longest : float
        Seconds that the search takes by default at most.
    """
    ported = problem.network == "oneport"
    known = [value_of_plan(aim, plan, price) for plan in plans]
    best = plans[int(np.argmin(known))]
    effort.limit(meter, best.makespan, longest)
    if aim is QUICK and best.makespan <= least_makespan(problem) * (1 + CLOSE):
        return replace(best, allocator=allocator)
    if _is_worthwhile(problem, meter, effort):
        found = search(problem, plans, aim, meter, effort.seed, price=price)
        if found is not None:
            plan = contention.as_played(found) if ported else found
            if value_of_plan(aim, plan, price) < min(known):
                best = plan
    return replace(best, allocator=allocator)


def _is_worthwhile(problem: Problem, meter: Meter, effort: Effort) -> bool:
    """Whether a search can be of use in its time."""
    if not problem.functions or not is_searchable(problem) or meter.passed() >= 1.0:
        return False
    if meter.seconds is None or effort.time_budget is not None:
        return True
    if len(problem.functions) > FAR_TOO_MANY * meter.seconds:
        return False
    if len(problem.functions) <= FEW:
        return True
    if not is_loaded() and meter.seconds < LOADING:
        return False
    with meter.paused_once("kernels"):  # while numba is loaded
        _, anneal = kernels(problem.network, compiled=True)
        return at_hand(*kernel.compiled(), anneal)


def least_makespan(problem: Problem) -> float:
    """What no plan is shorter than [s]: the longest path, or all work in all slots.

    Each function at its fastest, and nothing ever waits for a transfer.
    """
    if not problem.functions:
        return 0.0
    inverse = np.divide(
        1.0, problem.rate, out=np.full(problem.rate.shape, np.inf),
        where=problem.rate > 0,
    )  # fmt: skip
    pace = inverse.min(axis=1, initial=np.inf)[problem.option_class]
    times = np.zeros(len(pace))  # 0 s of what runs nowhere is not NaN
    np.multiply(problem.option_work, pace, out=times, where=problem.option_work > 0)
    work = float(np.minimum.reduceat(times, problem.option_ptr[:-1]).sum())
    slots = float(problem.room[problem.kind, 0].sum())
    path = engine.upward_rank(problem, "best", transfer=False)
    return max(float(path.max()), work / slots if slots else 0.0)


def value_of_plan(aim: Aim, plan: Plan, price: np.ndarray | None = None) -> float:
    """What an aim says of a plan; inf if it does not keep the limits."""
    money = money_of(plan, price)
    if plan.makespan > aim.deadline or money > aim.budget:
        return math.inf
    value: float = decoder.value_of(aim, plan.makespan, money, plan.transferred)
    return value


def search(
    problem: Problem,
    plans: list[Plan],
    aim: Aim,
    meter: Meter,
    seed: int = 0,
    *,
    begun: Begun | None = None,
    now: float = 0.0,
    home: np.ndarray | None = None,
    price: np.ndarray | None = None,
    path: str | None = None,
) -> Plan | None:
    """The best plan that a search finds; None if none keeps the limits of the aim.

    Parameters
    ----------
    problem : Problem
        Feasible and searchable.
    plans : list of Plan
        To begin with; the result is never worse than the best of them.
    aim : Aim
        What is minimised, within which limits.
    meter : Meter
        Ends the search.
    seed : int
        Of the random numbers.
    begun, now, price : optional
        As for `engine.place`; what has begun only on the free network.
    home : (n,) int, optional
        As for `make_instance`. Without it, what is read of functions that have ended
        counts as sent at `now`, wherever it goes.
    path : {"numpy", "compiled"}, optional
        Who computes; the plan is the same.
    """
    if begun is not None and problem.network != "free":
        raise AllocationError("what has begun can only be searched on the free network")
    small = len(problem.functions) <= FEW and meter.is_short(LOADING_PAYS)
    if path is None and small:
        quick = is_loaded() and at_hand(kernels(problem.network, compiled=True)[1])
        path = None if quick else "numpy"
    with meter.paused_once(problem.network):  # while kernels are loaded, or compiled
        if path != "numpy" and not kernel.is_loaded():
            engine.place(problem, path="compiled")  # so that it is, for the next one
        annealer = Annealer(
            problem,
            plans[0],
            aim,
            seed,
            begun=begun,
            now=now,
            home=home,
            price=price,
            path=path,
        )
    for plan in plans[1:]:
        annealer.keep(schedule_of(plan, begun))
    annealer.run(meter)
    if annealer.best_value == math.inf:
        return None
    return plan_of(problem, annealer.best, "")


def money_of(plan: Plan, price: np.ndarray | None = None) -> float:
    """What a plan costs: as it is billed, or by the second of function at a price."""
    if price is None:
        return plan.money
    return float(((plan.end - plan.start) * price[plan.node]).sum())

"""What to do with the rest of a plan when things went otherwise: keep it, or plan anew.

A pure function of the plan, what has begun, and the time.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from handout_dask.allocators.annealing import kernels, new_search
from handout_dask.allocators.decoder import Instance, Schedule
from handout_dask.allocators.engine import place, upward_rank
from handout_dask.allocators.instance import make_instance, plan_of, schedule_of
from handout_dask.allocators.search import QUICK
from handout_dask.begun import Begun
from handout_dask.plans import Plan

PATH = "compiled"  # since it is asked over and over


def replan(plan: Plan, begun: Begun, now: float) -> Plan:
    """The plan itself, or HEFT's for what has not begun, if that is to end earlier.

    Both are foreseen with transfers that don't compete.

    Parameters
    ----------
    plan : Plan
        What is being carried out.
    begun : Begun
        What of it has begun, with known or expected ends.
    now : float
        Seconds since the beginning.

    Returns
    -------
    Plan
        The same object if it is kept.
    """
    problem = plan.problem
    p = make_instance(problem, begun, now, home=plan.node, path=PATH)
    p = p._replace(ports=())
    kept = course(p, plan, begun)
    sent = replace(begun, end=np.maximum(begun.end, now))  # no sooner to another node
    key = -upward_rank(problem, path=PATH)
    fresh = place(
        problem, key=key, begun=sent, now=now, path=PATH, allocator=plan.allocator
    )
    fresh = course(p, fresh, begun)
    return fresh if fresh.makespan < kept.makespan else plan


def course(p: Instance, plan: Plan, begun: Begun) -> Plan:
    """What comes of a plan from now on, if each node keeps to its order.

    Parameters
    ----------
    p : Instance
        Of the plan's problem, with what has begun and the time.
    plan : Plan
        What has not begun follows it.
    begun : Begun
        What has.
    """
    waits = begun.node < 0
    ahead = replace(
        plan,
        node=np.where(waits, plan.node, begun.node),
        option=np.where(waits, plan.option, begun.option),
        start=np.where(waits, plan.start, begun.start),
        end=np.where(waits, plan.end, begun.end),
    )
    s = schedule_of(ahead, begun)
    _, anneal = kernels("free", compiled=True)
    x = new_search(s, np.zeros(4), np.ones(1, dtype=np.int64))
    anneal(p, QUICK, x, -1, 0.0)
    return plan_of(plan.problem, Schedule(x.order, x.rows), plan.allocator)

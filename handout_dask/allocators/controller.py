"""What to do with the rest of a plan when things went otherwise: keep it, or plan anew.

Pure functions of the plan, what has begun, and the time.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np

from handout_dask.allocators.annealing import kernels, new_search
from handout_dask.allocators.decoder import Instance, Schedule
from handout_dask.allocators.engine import place, upward_rank
from handout_dask.allocators.instance import make_instance, plan_of, schedule_of
from handout_dask.allocators.remains import Remains, remains_of
from handout_dask.allocators.search import QUICK
from handout_dask.begun import Begun
from handout_dask.plans import Plan
from handout_dask.problem import Problem

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
    key = -upward_rank(problem, path=PATH)
    fresh = course(p, _placed(problem, key, begun, now, PATH, plan.allocator), begun)
    return fresh if fresh.makespan < kept.makespan else plan


def reconsider(
    plan: Plan,
    begun: Begun,
    now: float,
    *,
    home: np.ndarray | None = None,
    fixed: bool = False,
    slower: np.ndarray | None = None,
    gain: float = 0.0,
    path: str = PATH,
) -> Plan:
    """The plan, or HEFT's for what has not begun, with the times that are expected now.

    Transfers are foreseen not to compete.

    Parameters
    ----------
    plan : Plan
        What is being carried out; n functions, m nodes. After nodes came or went, or
        times were learned, its problem is made anew by `Problem.on`, and its ``node``
        is that of `remains.carried`: -1 where a function needs another one.
    begun : Begun
        What has begun, with known or expected ends, by the nodes of that problem. An
        end of inf will not come: what reads it waits for ever.
    now : float
        Seconds since the beginning; nothing else starts earlier.
    home : (n,) int, optional
        The nodes to which inputs have been sent so far; default: the plan's.
    fixed : bool
        Whether functions stay on their nodes where they can, and those on a node in
        their order. The others are placed where they end first.
    slower : (m,) float, optional
        By what factor run times on each node are longer than the problem says.
    gain : float
        HEFT's plan counts if it shortens the time that is left by more than this
        share.
    path : {"numpy", "compiled"}
        Who computes.

    Returns
    -------
    Plan
        Of the same problem. What has begun is as given. What can run nowhere, and all
        that depends on it, has start and end inf, and node -1 where it has no possible
        one; the makespan is inf then. What ended on a node that is gone has node -1.
    """
    rest = remains_of(plan, begun, now, slower)
    has = begun.node != -1
    node = np.where(has, np.maximum(begun.node, -1), rest.node)
    option = np.where(has, begun.option, rest.option)
    start = np.where(has, begun.start, np.inf)
    end = np.where(has, begun.end, np.inf)
    if rest.waits.any():
        sent = plan.node if home is None else home
        made = _best(rest, plan, now, sent, fixed, gain, path)
        for mine, new in (
            (node, made.node), (option, made.option), (start, made.start),
            (end, made.end),
        ):  # fmt: skip
            mine[rest.waits] = new[rest.waits]
    return replace(plan, node=node, option=option, start=start, end=end)


def _best(
    rest: Remains, plan: Plan, now: float, home: np.ndarray, fixed: bool, gain: float,
    path: str,
) -> Plan:  # fmt: skip
    """What comes of the plan, or of a fresh one if that is better or needed."""
    problem, begun = rest.problem, rest.begun
    with np.errstate(invalid="ignore"):  # what follows on what runs nowhere: inf - inf
        p = make_instance(problem, begun, now, home=home, path=path)
    p = p._replace(ports=())
    kept = None
    if not (rest.waits & (rest.node < 0)).any():
        own = replace(plan, problem=problem, node=rest.node, option=rest.option)
        kept = course(p, own, begun, path)
        if fixed:
            return kept
    if fixed:
        problem = _pinned(problem, rest.node)
        key = np.empty(len(plan.node))
        key[np.lexsort((plan.end, plan.start))] = range(len(key))
    else:
        key = -upward_rank(_runnable(problem), path=path)
    fresh = _placed(problem, key, begun, now, path, plan.allocator)
    fresh = course(p, replace(fresh, problem=rest.problem), begun, path)
    if kept is None:
        return fresh
    enough = kept.makespan - gain * (kept.makespan - now)
    return fresh if fresh.makespan < enough else kept


def _pinned(problem: Problem, node: np.ndarray) -> Problem:
    """The problem, of whose functions those that have a node are pinned to it."""
    out = copy.copy(problem)
    out.pin = np.where(node >= 0, node, problem.pin)
    out.group = np.where(node >= 0, -1, problem.group)
    return out


def _runnable(problem: Problem) -> Problem:
    """The problem, but what can run nowhere counts as run at speed 1, not for ever."""
    nowhere: np.ndarray = np.logical_not((problem.rate > 0).any(axis=1))
    if not nowhere.any():
        return problem
    out = copy.copy(problem)
    out.rate = np.where(nowhere[:, None], 1.0, problem.rate)
    return out


def _placed(
    problem: Problem, key: np.ndarray, begun: Begun, now: float, path: str,
    allocator: str,
) -> Plan:  # fmt: skip
    """What has not begun, in the order of a key, each to where it ends first."""
    sent = replace(begun, end=np.maximum(begun.end, now))  # no sooner to another node
    return place(problem, key=key, begun=sent, now=now, path=path, allocator=allocator)


def course(p: Instance, plan: Plan, begun: Begun, path: str = PATH) -> Plan:
    """What comes of a plan from now on, if each node keeps to its order.

    Parameters
    ----------
    p : Instance
        Of the plan's problem, with what has begun and the time.
    plan : Plan
        What has not begun follows it.
    begun : Begun
        What has.
    path : {"numpy", "compiled"}
        Who computes; the plan is the same.
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
    _, anneal = kernels("free", compiled=path == "compiled")
    x = new_search(s, np.zeros(4), np.ones(1, dtype=np.int64))
    anneal(p, QUICK, x, -1, 0.0)
    return plan_of(plan.problem, Schedule(x.order, x.rows), plan.allocator)

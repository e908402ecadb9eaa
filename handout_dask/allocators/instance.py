"""From a Problem, a Plan and what has begun to the arrays that the search works on."""

from __future__ import annotations

import numpy as np

from handout_dask.allocators import engine, kernel
from handout_dask.allocators.contention import make_ports
from handout_dask.allocators.decoder import (
    FUNCTION,
    LINK,
    NODE,
    PRED,
    ROW,
    Instance,
    Schedule,
)
from handout_dask.begun import Begun
from handout_dask.plans import Plan
from handout_dask.problem import Problem


def is_searchable(problem: Problem, now: float = 0.0) -> bool:
    """Whether the decoder can plan around what is held.

    It can't where something begins later, or where transfers wait for each other.
    """
    starts = problem.held_arrays[1]
    return not len(starts) or (problem.network == "free" and starts.max() <= now)


def make_instance(
    problem: Problem,
    begun: Begun | None = None,
    now: float = 0.0,
    price: np.ndarray | None = None,
    held: bool = False,
    path: str | None = None,
    home: np.ndarray | None = None,
) -> Instance:
    """The search's view of a problem.

    Parameters
    ----------
    problem : Problem
        Searchable and feasible; n functions, m nodes.
    begun : Begun, optional
        What has begun already, and stays as it is.
    now : float
        Nothing else starts earlier [s].
    price : (m,) array, optional
        What a second of function costs on each node; default: money.
    held : bool
        Whether nodes are paid from first to last use.
    path : {"numpy", "compiled"}, optional
        As for `engine.place`.
    home : (n,) int, optional
        The node of each function by the plan that is being carried out: what it reads
        of functions that have ended is on its way there.
    """
    a = engine.arrays(problem)
    n, h, m = len(problem.functions), len(a.held_node), len(a.kind)
    has_begun = np.zeros(n, dtype=np.bool_) if begun is None else begun.node >= 0
    if price is None:
        price = np.array([x.price for x in problem.nodes]) / 3600.0
    span = _spans(a)
    fast = np.minimum.reduceat(span.min(axis=1), a.option_ptr[:-1])
    rank, *_ = kernel.functions(n, path)
    links = a.pred_ptr, a.pred_of, a.pred_mb
    o, c = len(a.option_work), len(a.need)

    functions = np.zeros(n + h + 1, dtype=FUNCTION)
    for name, ptr in (
        ("pred", a.pred_ptr), ("succ", a.succ_ptr), ("option", a.option_ptr),
    ):  # fmt: skip
        functions[name][: n + 1] = ptr
        functions[name][n + 1 :] = ptr[-1]
    functions["option"][n:] = np.arange(o, o + h + 1)
    functions["tail"][:n] = rank(*links, fast, 0.0, 0.0) - fast
    functions["group"] = -1
    functions["group"][:n] = a.group
    functions["home"] = -1
    if home is not None:
        functions["home"][:n] = home
    functions["pinned"][:n] = a.pin >= 0
    functions["pinned"][n:] = 1
    stuck = np.unique(a.group[has_begun])  # must follow those that have begun
    functions["pinned"][:n] |= np.isin(a.group, stuck[stuck >= 0])

    holds = np.bincount(a.held_node, minlength=m)
    nodes = np.zeros(m, dtype=NODE)
    nodes["kind"], nodes["price"] = a.kind, price
    nodes["single"] = (problem.room[a.kind, 0] == 1.0) & (holds == 0)
    preds = np.zeros(len(a.pred_of), dtype=PRED)
    preds["of"], preds["mb"] = a.pred_of, a.pred_mb
    pairs = np.zeros((m, m), dtype=LINK)
    pairs["latency"], pairs["slow"] = a.latency, a.slow
    crowd = holds
    if begun is not None:
        crowd = crowd + np.bincount(begun.node[has_begun], minlength=m)
    most = (
        int(min(problem.room[:, 0].max(initial=1.0), n)) + int(crowd.max(initial=0)) + 1
    )
    return Instance(
        size=n,
        fixed=h + int(has_begun.sum()),
        now=float(now),
        least_money=0.0 if held else _least_money(a, span, price),
        functions=functions,
        nodes=nodes,
        preds=preds,
        succs=a.succ_of,
        links=pairs,
        option_class=np.append(a.option_class, np.arange(c, c + h)),
        span=np.concatenate([span, np.zeros((h, span.shape[1]))]),
        need=np.concatenate([a.need, a.held_need]),
        room=a.room,
        running=np.zeros((m, most), dtype=np.int64),
        members=_members(a.group),
        ports=make_ports(problem, a) if problem.network == "oneport" else (),
    )


def _members(group: np.ndarray) -> np.ndarray:
    """(g, q) int: the functions of each group, filled up with -1."""
    sizes = np.bincount(group[group >= 0])
    out = np.full((max(len(sizes), 1), max(sizes.max(initial=0), 1)), -1)
    for g in range(len(sizes)):
        mates = np.flatnonzero(group == g)
        out[g, : len(mates)] = mates
    return out


def _least_money(a: engine.Arrays, span: np.ndarray, price: np.ndarray) -> float:
    """What every function on its cheapest node costs."""
    cheapest = np.full(span.shape[1], np.inf)
    np.minimum.at(cheapest, a.kind, price)
    bill = np.full_like(span, np.inf)
    np.multiply(span, cheapest, out=bill, where=np.isfinite(span))
    bill = bill.min(axis=1)
    return float(np.minimum.reduceat(bill, a.option_ptr[:-1]).sum())


def _spans(a: engine.Arrays) -> np.ndarray:
    """(o, k) [s] of each alternative on each kind of node."""
    rate = a.rate[a.option_class]
    out = np.full(rate.shape, np.inf)
    np.divide(a.option_work[:, None], rate, out=out, where=rate > 0)
    return out


def schedule_of(plan: Plan, begun: Begun | None = None) -> Schedule:
    """A plan as the search sees it, with what is held in front."""
    problem = plan.problem
    node, start, end, _ = problem.held_arrays
    n, h, o = len(plan.node), len(node), len(problem.option_work)
    rows = np.zeros(n + h, dtype=ROW)
    rows["node"] = np.append(plan.node, node)
    rows["option"] = np.append(problem.option_ptr[:-1] + plan.option, o + np.arange(h))
    rows["start"], rows["end"] = np.append(plan.start, start), np.append(plan.end, end)
    later = np.append(np.ones(n), np.zeros(h))
    if begun is not None:
        later[:n] = begun.node < 0
    order = np.lexsort((np.arange(n + h), rows["end"], rows["start"], later))
    return Schedule(order.astype(np.int64), rows)


def plan_of(problem: Problem, s: Schedule, allocator: str) -> Plan:
    """A schedule as a plan."""
    rows = s.rows[: len(problem.functions)]
    option = rows["option"] - problem.option_ptr[:-1]
    times = rows["start"].copy(), rows["end"].copy()
    return Plan(problem, rows["node"].copy(), option, *times, allocator=allocator)

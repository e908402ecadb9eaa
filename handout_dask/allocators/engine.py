"""The shared placing engine: a Problem and an order in, a Plan out. Pure.

Every allocator is a choice of order and rule over `place`; HEFT's upward rank is here
too, since several of them use it.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Any

import numpy as np

from handout_dask.allocators import kernel
from handout_dask.errors import AllocationError
from handout_dask.node import TOLERANCE
from handout_dask.plans import Plan
from handout_dask.problem import Problem

EARLIEST_END = kernel.EARLIEST_END
EARLIEST_START = kernel.EARLIEST_START
LEAST_LOAD = kernel.LEAST_LOAD


@dataclass(frozen=True, slots=True)
class Arrays:
    """What the kernels read of a Problem."""

    succ_ptr: np.ndarray  # (n + 1,)
    succ_of: np.ndarray  # (e,)
    succ_mb: np.ndarray  # (e,) [MB]
    latency: np.ndarray  # (m, m) [s]
    slow: np.ndarray  # (m, m) [s/MB]
    held: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
    slack: np.ndarray  # (r,) what a sum of demands may exceed a room by


def arrays(problem: Problem) -> Arrays:
    """The kernels' view of a Problem."""
    succ_ptr, succ_of = problem.succs_arrays
    order = np.argsort(problem.pred_of, kind="stable")
    bandwidth = problem.cluster.bandwidth
    slow = np.divide(1.0, bandwidth, out=np.zeros_like(bandwidth), where=bandwidth > 0)
    room = np.where(np.isfinite(problem.room), problem.room, 0.0)
    slack = TOLERANCE * room.max(axis=0, initial=1e-9)
    latency = problem.cluster.latency / 1e3
    mb = problem.pred_mb[order]
    return Arrays(succ_ptr, succ_of, mb, latency, slow, problem.held_arrays, slack)


def upward_rank(problem: Problem) -> np.ndarray:
    """Upward rank of each function [s], by mean run times and mean transfer times.

    Parameters
    ----------
    problem : Problem
        With n functions.

    Returns
    -------
    (n,) array
        Seconds; larger is more urgent. Never smaller than that of a successor.

    Notes
    -----
    Topcuoglu, Hariri, Wu: Performance-effective and low-complexity task scheduling for
    heterogeneous computing, IEEE TPDS 13(3), 2002, doi:10.1109/71.993206. The means are
    over the nodes that can run the function; of several alternatives the least counts.
    """
    a = arrays(problem)
    m = len(problem.nodes)
    nodes_of_kind = np.bincount(problem.kind, minlength=len(problem.kinds))
    runs = problem.rate > 0
    inverse = np.divide(1.0, problem.rate, out=np.zeros_like(problem.rate), where=runs)
    able = np.maximum(runs @ nodes_of_kind, 1)
    mean = (inverse @ nodes_of_kind) / able  # (c,) [s per s of work]
    mean[~runs.any(axis=1)] = np.inf
    mean_of = mean[problem.option_class]
    runs_somewhere = np.isfinite(mean_of)  # 0 s of what runs nowhere is not NaN
    times = np.full(len(mean_of), np.inf)
    np.multiply(problem.option_work, mean_of, out=times, where=runs_somewhere)
    mean_time = np.minimum.reduceat(times, problem.option_ptr[:-1])
    off = ~np.eye(m, dtype=bool)
    latency = float(a.latency[off].mean()) if m > 1 else 0.0
    slow = float(a.slow[off].mean()) if m > 1 else 0.0
    rank, _ = kernel.functions(len(mean_time) * m)
    out: np.ndarray = rank(a.succ_ptr, a.succ_of, a.succ_mb, mean_time, latency, slow)
    return out


def node_order(problem: Problem, key: np.ndarray, assigned: np.ndarray) -> np.ndarray:
    """The place of each function in an order that keeps to the key on each node.

    Parameters
    ----------
    problem : Problem
        With n functions.
    key : (n,) array
        In which order functions of one node shall start.
    assigned : (n,) int array
        The node of each function.

    Returns
    -------
    (n,) array
        A topological order of the graph, in which no function comes before one of a
        smaller key on its node, except where the dependencies leave nothing else.
    """
    n = len(key)
    queues: list[list[int]] = [[] for _ in problem.nodes]
    for i in np.lexsort((np.arange(n), key))[::-1].tolist():
        queues[assigned[i]].append(i)  # the next one last
    ptr, of = (x.tolist() for x in problem.succs_arrays)
    missing = np.diff(problem.pred_ptr).tolist()
    waiting = [(key[i], i) for i in range(n) if not missing[i]]  # ready, but not first
    heapq.heapify(waiting)
    first = [queue[-1] for queue in queues if queue and not missing[queue[-1]]]
    rank = np.full(n, -1.0)
    for count in range(n):
        while first and rank[first[-1]] >= 0:
            first.pop()
        while not first and rank[waiting[0][1]] >= 0:
            heapq.heappop(waiting)
        i = first.pop() if first else heapq.heappop(waiting)[1]
        rank[i] = count
        touched = {assigned[i]}
        for v in of[ptr[i] : ptr[i + 1]]:
            missing[v] -= 1
            if not missing[v]:
                heapq.heappush(waiting, (key[v], v))
                touched.add(assigned[v])
        for j in touched:
            queue = queues[j]
            while queue and rank[queue[-1]] >= 0:
                queue.pop()
            if queue and not missing[queue[-1]]:
                first.append(queue[-1])  # maybe again
    return rank


def place(
    problem: Problem,
    *,
    key: np.ndarray | None = None,
    rule: int = EARLIEST_END,
    assigned: np.ndarray | None = None,
    in_order: bool = False,
    allocator: str = "",
) -> Plan:
    """Place functions one after the other, each on the node that the rule prefers.

    Parameters
    ----------
    problem : Problem
        Feasible.
    key : (n,) array, optional
        Of the functions whose predecessors are placed, the one with the smallest key is
        next; without, the one that became ready first.
    rule : int
        EARLIEST_END, EARLIEST_START or LEAST_LOAD; ties go to the first node.
    assigned : (n,) int array, optional
        The node of each function, where it is given.
    in_order : bool
        Whether functions of a node start in the order of the key, instead of filling
        gaps.
    allocator : str
        What the plan shall say it is from.

    Returns
    -------
    Plan
        Not yet checked.
    """
    n, m = len(problem.functions), len(problem.nodes)
    if not n:
        nothing = np.zeros(0)
        return Plan(problem, nothing.astype(int), nothing.astype(int), nothing, nothing,
                    allocator=allocator)  # fmt: skip
    a = arrays(problem)
    _, run = kernel.functions(n * m)
    given: Any = np.zeros(n) if key is None else np.asarray(key, dtype=float)
    pin = problem.pin if assigned is None else np.asarray(assigned, dtype=np.int64)
    group = problem.group if assigned is None else np.full(n, -1, dtype=np.int64)
    node, option, start, end = run(
        given, key is None, rule, in_order, problem.pred_ptr, problem.pred_of,
        problem.pred_mb, a.succ_ptr, a.succ_of, problem.option_ptr, problem.option_work,
        problem.option_class, problem.need, problem.rate, problem.kind, problem.room,
        a.latency, a.slow, pin, group, *a.held, a.slack,
    )  # fmt: skip
    if (node < 0).any():
        i = next(i for i in range(n) if node[i] < 0)
        problem.require_feasible()
        where = "on any node" if assigned is None else "on the node it is assigned to"
        raise AllocationError(
            f"function {problem.functions[i].id!r} finds no room {where}: what is held "
            "there already does not end"
        )
    return Plan(problem, node, option, start, end, allocator=allocator)

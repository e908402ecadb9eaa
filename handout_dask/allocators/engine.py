"""The shared placing engine: a Problem and an order in, a Plan out. Pure.

Every allocator is a choice of order and rule over `place`; HEFT's upward rank is here
too, since several of them use it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from handout_dask.allocators import kernel
from handout_dask.errors import AllocationError
from handout_dask.plans import Plan
from handout_dask.problem import TOLERANCE, Problem

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
    held = _held(problem)
    return Arrays(succ_ptr, succ_of, problem.pred_mb[order], latency, slow, held, slack)


def _held(problem: Problem) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    where = problem.cluster.index
    rows = [h for h in problem.held if h.node in where and h.end > max(h.start, 0.0)]
    need = np.zeros((len(rows), len(problem.resources)))
    for row, h in enumerate(rows):
        demand: Mapping[str, float] = {"slots": 1.0, "cpu": 1.0, **h.demand}
        if "gpus" in demand:
            demand = {**demand, "devices": math.ceil(demand["gpus"])}
        need[row] = [demand.get(name, 0.0) for name in problem.resources]
    return (
        np.array([where[h.node] for h in rows], dtype=np.int64),
        np.array([max(h.start, 0.0) for h in rows], dtype=float),
        np.array([h.end for h in rows], dtype=float),
        need,
    )


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
    times = problem.option_work * mean[problem.option_class]
    mean_time = np.minimum.reduceat(times, problem.option_ptr[:-1])
    off = ~np.eye(m, dtype=bool)
    latency = float(a.latency[off].mean()) if m > 1 else 0.0
    slow = float(a.slow[off].mean()) if m > 1 else 0.0
    rank, _ = kernel.functions(len(mean_time) * m)
    out: np.ndarray = rank(a.succ_ptr, a.succ_of, a.succ_mb, mean_time, latency, slow)
    return out


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
        raise AllocationError(
            f"function {problem.functions[i].id!r} can't be placed where it is assigned"
        )
    return Plan(problem, node, option, start, end, allocator=allocator)

"""The shared placing engine: a Problem and an order in, a Plan out. Pure.

Every allocator is a choice of order and weights over `place`; HEFT's upward rank is
here too, since several of them use it.
"""

from __future__ import annotations

import heapq
from dataclasses import astuple, dataclass

import numpy as np

from handout_dask.allocators import kernel
from handout_dask.allocators.kernel import Arrays as Arrays
from handout_dask.begun import Begun
from handout_dask.errors import AllocationError
from handout_dask.node import TOLERANCE
from handout_dask.plans import Plan
from handout_dask.problem import Problem


@dataclass(frozen=True, slots=True)
class Weights:
    """How much each thing counts in the score of a function on a node; least wins.

    Equal scores go to the earlier end, then to the first node, then to the first
    alternative; where nothing but `start` and `load` counts, to the first node at once.

    Parameters
    ----------
    end, start : float
        Per second at which the function ends, starts.
    money : float
        Per money that its run costs, by the second of function.
    moved : float
        Per MB of its inputs that are on other nodes.
    load : float
        Per second that the node is busy already, divided by its slots.
    leftover : float
        Per room that stays free beside the function when it starts: for each finite
        resource the free fraction, summed.
    """

    end: float = 0.0
    start: float = 0.0
    money: float = 0.0
    moved: float = 0.0
    load: float = 0.0
    leftover: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what a bound of the score can't be told for.

        Raises
        ------
        AllocationError
            If a weight is negative or not finite, or all are 0.
        """
        weights = astuple(self)
        if not all(0 <= w < np.inf for w in weights) or not any(weights):
            raise AllocationError(
                f"{self!r}: weights are finite and not negative, and not all 0"
            )


ROUNDING = 1e-15  # of the largest room: what sums of demands may be off by
EARLIEST_END = Weights(end=1.0)
EARLIEST_START = Weights(start=1.0)
LEAST_LOAD = Weights(load=1.0)


def arrays(problem: Problem, assigned: np.ndarray | None = None) -> Arrays:
    """The kernels' view of a Problem, pins and groups replaced by an assignment."""
    p, n = problem, len(problem.functions)
    slow = np.zeros_like(p.cluster.bandwidth)
    np.divide(1.0, p.cluster.bandwidth, out=slow, where=p.cluster.bandwidth > 0)
    latency = p.cluster.latency / 1e3
    np.fill_diagonal(slow, 0.0)
    np.fill_diagonal(latency, 0.0)
    finite = np.where(np.isfinite(p.room), p.room, 0.0)
    slack = ROUNDING * finite.max(axis=0, initial=1e-9)
    room = np.ascontiguousarray(p.room + TOLERANCE * finite)
    pin, group = p.pin, p.group
    if assigned is not None:
        pin = np.ascontiguousarray(assigned, dtype=np.int64)
        group = np.full(n, -1, dtype=np.int64)
    return Arrays(
        p.pred_ptr, p.pred_of, p.pred_mb, *p.succs_arrays, p.option_ptr, p.option_work,
        p.option_class, p.need, np.ascontiguousarray(p.rate), p.kind, room, latency,
        slow, pin, group, *p.held_arrays, slack,
    )  # fmt: skip


def upward_rank(
    problem: Problem,
    by: str = "mean",
    transfer: bool = True,
    path: str | None = None,
    noise: np.ndarray | float = 1.0,
) -> np.ndarray:
    """Upward rank of each function [s], by its run times and mean transfer times.

    Parameters
    ----------
    problem : Problem
        With n functions.
    by : {"mean", "best", "worst"}
        Which of the times on the nodes that can run a function counts.
    transfer : bool
        Whether transfers count.
    path : {"numpy", "compiled"}, optional
        As for `place`.
    noise : (n,) array, optional
        Factors of the run times.

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
    m = len(problem.nodes)
    runs = problem.rate > 0
    inverse = np.divide(1.0, problem.rate, out=np.zeros_like(problem.rate), where=runs)
    if by == "mean":
        nodes_of_kind = np.bincount(problem.kind, minlength=len(problem.kinds))
        pace = (inverse @ nodes_of_kind) / np.maximum(runs @ nodes_of_kind, 1)
    elif by == "best":
        pace = np.where(runs, inverse, np.inf).min(axis=1, initial=np.inf)
    elif by == "worst":
        pace = inverse.max(axis=1, initial=0.0)
    else:
        raise AllocationError(f"upward rank by {by!r}: it is mean, best or worst")
    pace[~runs.any(axis=1)] = np.inf
    pace_of = pace[problem.option_class]  # (o,) [s per s of work]
    times = np.full(len(pace_of), np.inf)  # 0 s of what runs nowhere is not NaN
    np.multiply(problem.option_work, pace_of, out=times, where=np.isfinite(pace_of))
    time = np.minimum.reduceat(times, problem.option_ptr[:-1]) * noise
    latency = slow = 0.0
    if transfer and m > 1:
        a = arrays(problem)
        latency = float(a.latency.sum() / (m * m - m))
        slow = float(a.slow.sum() / (m * m - m))
    rank, *_ = kernel.functions(len(time), path)
    links = problem.pred_ptr, problem.pred_of, problem.pred_mb
    out: np.ndarray = rank(*links, time, latency, slow)
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


def topological(
    problem: Problem, key: np.ndarray, path: str | None = None
) -> np.ndarray:
    """(n,) int: functions by key, except that none comes before a predecessor."""
    n = len(key)
    order = np.argsort(key, kind="stable")
    rank = np.empty(n, dtype=np.int64)
    rank[order] = np.arange(n)
    reader = np.repeat(np.arange(n), np.diff(problem.pred_ptr))
    if (rank[problem.pred_of] < rank[reader]).all():
        return order
    _, sort, _ = kernel.functions(n, path)
    out: np.ndarray = sort(key, problem.pred_ptr, *problem.succs_arrays)
    return out


def place(
    problem: Problem,
    *,
    key: np.ndarray | None = None,
    weights: Weights = EARLIEST_END,
    price: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    assigned: np.ndarray | None = None,
    in_order: bool = False,
    begun: Begun | None = None,
    now: float = 0.0,
    path: str | None = None,
    allocator: str = "",
) -> Plan:
    """Place functions one after the other, each on the node where its score is least.

    Parameters
    ----------
    problem : Problem
        Feasible; n functions, m nodes.
    key : (n,) array, optional
        Of the functions whose predecessors are placed, the one with the smallest key is
        next; without, the one that became ready first, of equal ones one that fewest
        nodes can run.
    weights : Weights
        What the score is made of.
    price : (m,) array, optional
        What a second of function costs on each node; default: money.
    bias : (n, m) array, optional
        Seconds that are added to a function's end in its score, such as those that
        must follow it.
    assigned : (n,) int array, optional
        The node of each function, where it is given.
    in_order : bool
        Whether functions of a node start in the order of the key, instead of filling
        gaps.
    begun : Begun, optional
        What has begun already, and is not placed again.
    now : float
        Nothing else starts earlier [s].
    path : {"numpy", "compiled"}, optional
        Who computes; the plan is the same. Default: what is faster.
    allocator : str
        What the plan shall say it is from.

    Returns
    -------
    Plan
        Not yet checked.

    Raises
    ------
    AllocationError
        If what is held somewhere for ever leaves no room for a function.
    """
    n, m = len(problem.functions), len(problem.nodes)
    if begun is None:
        node = np.full(n, -1, dtype=np.int64)
        option, start, end = np.zeros(n, dtype=np.int64), np.zeros(n), np.zeros(n)
    else:
        node, option = (np.array(x, dtype=np.int64) for x in (begun.node, begun.option))
        start, end = (np.array(x, dtype=float) for x in (begun.start, begun.end))
    if n:
        order = np.zeros(0, dtype=np.int64)
        if key is not None:
            key = np.where(node >= 0, -np.inf, key)
            order = topological(problem, key, path)
            order = order[node[order] < 0]
        if price is None:
            price = np.array([x.price for x in problem.nodes]) / 3600.0
        _, _, run = kernel.functions(n + n * m // 256, path)  # nodes count in NumPy
        run(
            arrays(problem, assigned), order, bool(in_order), _floats(weights),
            np.ascontiguousarray(price, dtype=float),
            np.ascontiguousarray(np.zeros((0, m)) if bias is None else bias, float),
            node, option, start, end, float(now),
        )  # fmt: skip
        if node.min() < 0:
            raise _no_room(problem, int(node.argmin()), assigned)
    return Plan(problem, node, option, start, end, allocator=allocator)


def _floats(weights: Weights) -> tuple[float, ...]:
    return tuple(float(w) for w in astuple(weights))


def _no_room(problem: Problem, i: int, assigned: np.ndarray | None) -> AllocationError:
    problem.require_feasible()
    where = "on any node" if assigned is None else "on the node it is assigned to"
    return AllocationError(
        f"function {problem.functions[i].id!r} finds no room {where}: what is held "
        "there already does not end"
    )

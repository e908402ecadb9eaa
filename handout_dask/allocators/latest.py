"""Latest starts: how late what a plan has may start, with its makespan as it is.

A kernel of plain Python that numba compiles; much faster than `Plan.slack`, never more
than it allows to a function on a node of one slot.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from handout_dask.allocators.compiling import compile_kernel
from handout_dask.plans import Plan
from handout_dask.slack import transfer_times


def latest_starts(plan: Plan, path: str = "compiled") -> np.ndarray:
    """(n,) [s]: until when each function may start without the makespan growing.

    Each keeps its node and its run time. On nodes where only slots are short, each
    takes the slot of one that it reads, or one that was left longest ago; on the others
    it comes after all that had ended when it starts.

    Parameters
    ----------
    plan : Plan
        Valid, but for what never runs: where start or end is inf, so is the result.
    path : {"numpy", "compiled"}
        Who computes.
    """
    problem = plan.problem
    n, m = len(plan.node), len(problem.nodes)
    held_node, held_start, held_end, _ = problem.held_arrays
    start, end = np.append(plan.start, held_start), np.append(plan.end, held_end)
    node = np.append(plan.node, held_node)
    numbers = np.arange(len(node))
    runs = np.isfinite(start) & np.isfinite(end) & (node >= 0)
    runs[n:] = np.isfinite(start[n:])
    last = float(plan.end[runs[:n]].max(initial=0.0))
    order = np.lexsort((numbers, end, start))
    order = order[runs[order]]
    reader = np.repeat(np.arange(n), np.diff(problem.pred_ptr))
    over = transfer_times(
        problem, problem.pred_mb, plan.node[problem.pred_of], plan.node[reader]
    )
    out = np.where(numbers < n, np.inf, start)
    run = compiled() if path == "compiled" else walk
    run(
        order, node, start, end, problem.pred_ptr, problem.pred_of, over,
        _counted_slots(plan, runs[:n]), np.bincount(node[order], minlength=m), last,
        out,
    )  # fmt: skip
    late: np.ndarray = np.maximum(out[:n], plan.start)
    return late


def _counted_slots(plan: Plan, runs: np.ndarray) -> np.ndarray:
    """(m,) int: slots of each node, or 0 where something else may be short."""
    problem = plan.problem
    m = len(problem.nodes)
    chosen = problem.option_class[problem.option_ptr[:-1] + plan.option][runs]
    most = np.zeros((m, len(problem.resources)))
    np.maximum.at(most, plan.node[runs], problem.need[chosen])
    room = problem.room[problem.kind]
    slots = np.minimum(room[:, :1], len(plan.node) + 1)
    enough = (most[:, 1:] * slots <= room[:, 1:] * (1 + 1e-9)).all(axis=1)
    enough[problem.held_arrays[0]] = False
    return np.where(enough, slots[:, 0], 0).astype(np.int64)


@lru_cache(maxsize=1)
def compiled() -> Any:
    """The kernel compiled."""
    return compile_kernel(walk, ())


def walk(
    order: Any, node: Any, start: Any, end: Any, pred_ptr: Any, pred_of: Any,
    over: Any, slots: Any, count: Any, last: Any, out: Any,
) -> None:  # fmt: skip
    """Write the latest start of each function of `order` into `out`.

    Parameters
    ----------
    order : (q,) int
        Functions and what is held, by start.
    node, start, end : (n + h,)
        Where and when; what is held comes last.
    pred_ptr, pred_of, over : (n + 1,), (e,), (e,) [s]
        What is read, and how long it travels.
    slots, count : (m,) int
        Of each node, 0 where more than slots may be short; how many of `order`.
    last : float
        The makespan [s].
    out : (n + h,) float
        The start of what is held.
    """
    n, m, total = len(pred_ptr) - 1, len(slots), len(order)
    begin = np.zeros(m + 1, np.int64)  # of each node's part of `mine`
    for j in range(m):
        begin[j + 1] = begin[j] + count[j]
    filled = begin[:-1].copy()
    mine = np.zeros(total, np.int64)  # functions of a node by start
    place = np.zeros(len(node), np.int64)
    before = np.full(len(node), -1)  # who had its slot
    track = np.zeros(m + 1, np.int64)
    for j in range(m):
        track[j + 1] = track[j] + min(slots[j], count[j])
    on_track = np.full(track[m], -1)
    track_of = np.full(len(node), -1)
    for at in range(total):
        i = order[at]
        j = node[i]
        mine[filled[j]] = i
        place[i] = filled[j]
        filled[j] += 1
        if slots[j] > 0 and end[i] > start[i]:
            pick = -1
            for e in range(pred_ptr[i], pred_ptr[i + 1]):
                t = track_of[pred_of[e]]
                if t >= track[j] and t < track[j + 1] and on_track[t] == pred_of[e]:
                    pick = t
            if pick < 0:
                pick = track[j]
                for t in range(track[j], track[j + 1]):
                    if on_track[t] < 0:
                        pick = t
                        break
                    if end[on_track[t]] < end[on_track[pick]]:
                        pick = t
            track_of[i] = pick
            before[i] = on_track[pick]
            on_track[pick] = i
    latest = np.full(len(node), last)  # end
    behind = np.full(total + 1, np.inf)  # the least of `out` from here on, per node
    for back in range(total):
        i = order[total - 1 - back]
        j = node[i]
        if slots[j] == 0:
            low, high = place[i] + 1, begin[j + 1]
            while low < high:  # the first that starts once it has ended
                middle = (low + high) // 2
                if start[mine[middle]] >= end[i] - 1e-9:
                    high = middle
                else:
                    low = middle + 1
            if low < begin[j + 1] and end[i] > start[i]:
                latest[i] = min(latest[i], behind[low])
        if i < n:
            out[i] = latest[i] - (end[i] - start[i])
        if slots[j] == 0:
            behind[place[i]] = out[i]
            if place[i] + 1 < begin[j + 1]:
                behind[place[i]] = min(out[i], behind[place[i] + 1])
        if before[i] >= 0:
            latest[before[i]] = min(latest[before[i]], out[i])
        if i < n:
            for e in range(pred_ptr[i], pred_ptr[i + 1]):
                u = pred_of[e]
                latest[u] = min(latest[u], out[i] - over[e])

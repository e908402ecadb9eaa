"""The placing kernel: functions one after the other, each where its score is least.

Plain Python over numpy arrays that numba compiles. Knows only arrays. `vector` holds
the same in NumPy, with the same result; `functions` says which of both is used.

For each function a lower bound of the score on all nodes comes first: its inputs have
arrived, a slot may be free. Only nodes that could still win are searched for room; the
order in which they are looked at doesn't change who wins.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from handout_dask.allocators import timeline
from handout_dask.allocators.compiling import at_hand, compile_kernel
from handout_dask.errors import AllocationError

ENDLESS = 1e30  # s
SMALL = 10_000  # functions below which loading numba (0.5 s) doesn't pay
LARGE = 200_000  # functions above which even compiling (15 s) does


class Arrays(NamedTuple):
    """What kernels read of a Problem; all C-contiguous, int64 or float64."""

    pred_ptr: Any  # (n + 1,)
    pred_of: Any  # (e,)
    pred_mb: Any  # (e,) [MB]
    succ_ptr: Any  # (n + 1,)
    succ_of: Any  # (e,)
    option_ptr: Any  # (n + 1,)
    option_work: Any  # (o,) [s] at speed 1
    option_class: Any  # (o,)
    need: Any  # (c, r)
    rate: Any  # (c, k)
    kind: Any  # (m,)
    room: Any  # (k, r), with tolerance
    latency: Any  # (m, m) [s], diagonal 0
    slow: Any  # (m, m) [s/MB], diagonal 0
    pin: Any  # (n,)
    group: Any  # (n,)
    held_node: Any  # (h,)
    held_start: Any  # (h,) [s]
    held_end: Any  # (h,) [s]
    held_need: Any  # (h, r)
    slack: Any  # (r,) what sums may be off by


def upward_rank(
    pred_ptr: Any, pred_of: Any, pred_mb: Any, time: Any, latency: Any, slow: Any
) -> Any:
    """Seconds from the start of each function to the end of the graph."""
    rank = np.zeros(len(time))
    for i in range(len(time) - 1, -1, -1):
        rank[i] += time[i]  # the longest path after it is known by now
        for e in range(pred_ptr[i], pred_ptr[i + 1]):
            path = latency + pred_mb[e] * slow + rank[i]
            if path > rank[pred_of[e]]:
                rank[pred_of[e]] = path
    return rank


def topological(key: Any, pred_ptr: Any, succ_ptr: Any, succ_of: Any) -> Any:
    """Functions by key, except that none comes before one of its predecessors."""
    n = len(key)
    missing = pred_ptr[1:] - pred_ptr[:-1]
    order = np.zeros(n, np.int64)
    heap = [(0.0, 0) for _ in range(0)]
    for i in range(n):
        if missing[i] == 0:
            heapq.heappush(heap, (key[i], i))
    for count in range(n):
        _, i = heapq.heappop(heap)
        order[count] = i
        for e in range(succ_ptr[i], succ_ptr[i + 1]):
            v = succ_of[e]
            missing[v] -= 1
            if missing[v] == 0:
                heapq.heappush(heap, (key[v], v))
    return order


def score_of(weights: Any, end: Any, start: Any, wait: Any, money: Any, away: Any,
             load: Any) -> Any:  # fmt: skip
    """The score but for what stays free; never less for a later start and end."""
    w_end, w_start, w_money, w_moved, w_load, _ = weights
    rest = w_money * money + w_moved * away + w_load * load
    return (w_end * (end + wait) + w_start * start) + rest


def leftover(free: Any, s: Any, need: Any, c: Any, room: Any, k: Any) -> Any:
    """The fractions of finite rooms that stay free beside `need`, summed."""
    total = 0.0
    for r in range(need.shape[1]):
        if 0.0 < room[k, r] < np.inf:
            total += (free[s, r] - need[c, r]) / room[k, r]
    return total


def precedes(by_end: Any, end: Any, j: Any, best_end: Any, best: Any) -> Any:
    """Whether (end, j) goes before (best_end, best) when their scores are equal."""
    if by_end and end != best_end:
        return end < best_end
    return j < best or (j == best and end < best_end)


def when_ready(pred_ptr: Any, pred_of: Any, i: Any, end: Any, now: Any) -> Any:
    """When the last predecessor of function i has ended."""
    when = now
    for e in range(pred_ptr[i], pred_ptr[i + 1]):
        when = max(when, end[pred_of[e]])
    return when


def fill(a: Any, desk: Any, order: Any, in_order: Any, weights: Any, price: Any,
         bias: Any, node: Any, option: Any, start: Any, end: Any,
         now: Any) -> Any:  # fmt: skip
    """As `place`, on a desk that is laid out."""
    (pred_ptr, pred_of, pred_mb, succ_ptr, succ_of, option_ptr, option_work,
     option_class, need, rate, kind, room, latency, slow, pin, group, held_node,
     held_start, held_end, held_need, slack) = a  # fmt: skip
    (time, free, spot, edge, load, floor, chosen, able, few, missing, ready, away,
     spans, low, bound) = desk  # fmt: skip
    n, m = len(pin), len(kind)
    w_end, _, w_money, w_moved, _, w_left = weights
    by_end = w_end + w_money + w_moved + w_left > 0.0
    for h in range(len(held_node)):
        j, lo, hi = held_node[h], held_start[h], held_end[h]
        load[j] += min(hi - lo, ENDLESS) / room[kind[j], 0]
        timeline.take(time, free, spot, edge, j, lo, hi, held_need, h, slack)
    by_ready, count = len(order) == 0, len(order)
    heap = [(0.0, 0, 0) for _ in range(0)]
    for i in range(n):
        if node[i] >= 0:
            j, c = node[i], option_class[option_ptr[i] + option[i]]
            load[j] += (end[i] - start[i]) / room[kind[j], 0]
            lo, hi = max(start[i], now), end[i]
            timeline.take(time, free, spot, edge, j, lo, hi, need, c, slack)
            if in_order:
                floor[j] = max(floor[j], start[i])
            if group[i] >= 0:
                chosen[group[i]] = j
        elif by_ready:
            count += 1
            for e in range(pred_ptr[i], pred_ptr[i + 1]):
                if node[pred_of[e]] < 0:
                    missing[i] += 1
            if missing[i] == 0:
                when = when_ready(pred_ptr, pred_of, i, end, now)
                heapq.heappush(heap, (when, few[i], i))
    for turn in range(count):
        i = heapq.heappop(heap)[2] if by_ready else order[turn]
        fixed, mates = pin[i], group[i]
        if mates >= 0 and chosen[mates] >= 0 and chosen[mates] != fixed:
            fixed = chosen[mates] if fixed == -1 else -2
        first, stop = max(fixed, 0), max(fixed + 1, 0) if fixed != -1 else m
        for j in range(first, stop):
            ready[j] = floor[j]
        for e in range(pred_ptr[i], pred_ptr[i + 1]):
            at, mb, done = node[pred_of[e]], pred_mb[e], end[pred_of[e]]
            for j in range(first, stop):
                arrival = done + (latency[at, j] + mb * slow[at, j])
                ready[j] = arrival if arrival > ready[j] else ready[j]
        if w_moved > 0.0:
            for j in range(first, stop):
                away[j] = 0.0
                for e in range(pred_ptr[i], pred_ptr[i + 1]):
                    if node[pred_of[e]] != j:
                        away[j] += pred_mb[e]
        best, best_option, best_start = -2, 0, 0.0
        best_score = best_end = np.inf
        for o in range(option_ptr[i], option_ptr[i + 1]):
            c, work = option_class[o], option_work[o]
            lo, hi = 0, len(spans)
            if stop - first == 1:
                lo, hi = kind[first], kind[first] + 1
            for k in range(lo, hi):
                spans[k] = work / rate[c, k] if rate[c, k] > 0.0 else np.inf
            seed = first
            for j in range(first, stop):
                span = spans[kind[j]]
                at = max(ready[j], edge[timeline.FRONT, j])
                if at + span > edge[timeline.SHUT, j] or (
                    span > edge[timeline.GAP, j] and at >= edge[timeline.SINCE, j]
                ):
                    at = max(at, edge[timeline.OPEN, j])
                low[j], bound[j] = at + span, np.inf
                if low[j] < np.inf and (mates < 0 or able[mates, j]):
                    wait = bias[i, j] if len(bias) > 0 else 0.0
                    bound[j] = score_of(
                        weights, low[j], at, wait, span * price[j], away[j], load[j]
                    )
                if bound[j] < bound[seed] or (
                    bound[j] == bound[seed] and low[j] < low[seed]
                ):
                    seed = j
            for look in range(first - 1, stop):  # the most promising first
                j = seed if look < first else look
                if look < first and first == stop:
                    continue
                if bound[j] > best_score or bound[j] == np.inf:
                    continue
                if look >= first and j == seed:
                    continue
                if bound[j] == best_score and not precedes(
                    by_end, low[j], j, best_end, best
                ):
                    continue  # it can't win the tie either
                span = spans[kind[j]]
                at, s = timeline.find_start(
                    time, free, spot, edge, j, ready[j], span, need, c, slack
                )
                if at == np.inf:
                    continue
                until = at + span
                wait = bias[i, j] if len(bias) > 0 else 0.0
                score = score_of(
                    weights, until, at, wait, span * price[j], away[j], load[j]
                )
                if w_left > 0.0:
                    score += w_left * leftover(free, s, need, c, room, kind[j])
                if score < best_score or (
                    score == best_score and precedes(by_end, until, j, best_end, best)
                ):
                    best, best_option, best_score = j, o - option_ptr[i], score
                    best_start, best_end = at, until
        node[i], option[i], start[i], end[i] = best, best_option, best_start, best_end
        if best < 0:
            return
        c = option_class[option_ptr[i] + best_option]
        load[best] += (best_end - best_start) / room[kind[best], 0]
        timeline.take(
            time, free, spot, edge, best, best_start, best_end, need, c, slack
        )
        if in_order:
            floor[best] = max(floor[best], best_start)
        if mates >= 0:
            chosen[mates] = best
        if by_ready:
            for e in range(succ_ptr[i], succ_ptr[i + 1]):
                v = succ_of[e]
                missing[v] -= 1
                if missing[v] == 0:
                    when = when_ready(pred_ptr, pred_of, v, end, now)
                    heapq.heappush(heap, (when, few[v], v))


def common_nodes(a: Arrays) -> np.ndarray:
    """(groups, m) bool: where all functions of a group can run."""
    able = np.ones((int(a.group.max(initial=-1)) + 1, len(a.kind)), dtype=bool)
    for i in np.flatnonzero(a.group >= 0):
        classes = a.option_class[a.option_ptr[i] : a.option_ptr[i + 1]]
        able[a.group[i]] &= (a.rate[classes] > 0).any(axis=0)[a.kind]
    return able


def choices(a: Arrays) -> np.ndarray:
    """(n,) int: on how many nodes each function can run, by pin and group too.

    Of several alternatives the one that runs on most nodes counts.
    """
    runs = (a.rate > 0) @ np.bincount(a.kind, minlength=len(a.room))  # (c,)
    few: np.ndarray = np.maximum.reduceat(runs[a.option_class], a.option_ptr[:-1])
    bound = np.flatnonzero(a.group >= 0)
    few[bound] = np.minimum(few[bound], common_nodes(a).sum(axis=1)[a.group[bound]])
    few[a.pin != -1] = 1
    return few


def lay_out(a: Arrays, now: float) -> tuple[np.ndarray, ...]:
    """Empty books for `fill`: timelines, of nodes, of groups, and room for bounds."""
    n, m, able = len(a.pin), len(a.kind), common_nodes(a)
    return (
        *timeline.empty(a.room, a.kind, n + len(a.held_node)),
        np.zeros(m), np.full(m, now), np.full(len(able), -1), able, choices(a),
        np.zeros(n, dtype=np.int64), np.zeros(m), np.zeros(m), np.zeros(len(a.room)),
        np.zeros(m), np.zeros(m),
    )  # fmt: skip


@lru_cache(maxsize=1)
def compiled() -> tuple[Callable[..., Any], ...]:
    """``(upward_rank, topological, fill)`` compiled, which the first time takes long.

    What was compiled is kept on disk beside this file, or where numba can write.
    """
    helpers = (
        timeline.stretch, timeline.move, timeline.widen, timeline.segment_at,
        timeline.find_start, timeline.cut, timeline.merge, timeline.close,
        timeline.take, score_of, leftover, precedes, when_ready,
    )  # fmt: skip
    return (
        compile_kernel(upward_rank, ()),
        compile_kernel(topological, ()),
        compile_kernel(fill, helpers),
    )


def place(a: Arrays, order: np.ndarray, in_order: bool, weights: tuple[float, ...],
          price: np.ndarray, bias: np.ndarray, node: np.ndarray, option: np.ndarray,
          start: np.ndarray, end: np.ndarray, now: float) -> None:  # fmt: skip
    """Place all functions that have not begun, in node, option, start and end.

    Parameters
    ----------
    a : Arrays
    order : (q,) int
        The functions to place, predecessors first; empty: as they become ready, of
        equal ones those with the fewest `choices` first.
    in_order : bool
        On each node, start no function before one that was placed there earlier.
    weights : tuple of 6 floats
        As the fields of Weights.
    price : (m,) float
        Per second.
    bias : (n, m) or (0, m) float
        Added to the end in the score [s].
    node, option, start, end : (n,)
        Written; what has begun is there already, node is -1 for all others. A node
        of -2 says that the function finds no room.
    now : float
        Nothing starts earlier [s].
    """
    fill = compiled()[2]
    desk = lay_out(a, now)
    fill(a, desk, order, in_order, weights, price, bias, node, option, start, end, now)


def is_loaded() -> bool:
    """Whether kernels have been asked for in this process."""
    return compiled.cache_info().currsize > 0


def functions(n: int, path: str | None = None) -> tuple[Callable[..., Any], ...]:
    """``(upward_rank, topological, place)``, compiled where that pays or is loaded.

    Parameters
    ----------
    n : int
        How many functions are to be placed; more where there are many nodes.
    path : {"numpy", "compiled"}, optional
        Use this one. Otherwise NumPy, unless there are many functions or kernels are
        loaded already; and while they are compiled for the first time on a machine.
    """
    if path not in (None, "numpy", "compiled"):
        raise AllocationError(f"path {path!r}: it is 'numpy' or 'compiled'")
    if path is None and n <= LARGE:
        quick = is_loaded() or n > SMALL
        path = None if quick and at_hand(*compiled()) else "numpy"
    if path == "numpy":
        from handout_dask.allocators import vector

        return vector.upward_rank, topological, vector.place
    return (*compiled()[:2], place)

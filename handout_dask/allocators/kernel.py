"""The placing kernel: functions in order of a key, each to the node a rule prefers.

Plain Python over numpy arrays, so that the same source runs as it is on small problems
and compiled by numba on large ones, with the same result. Knows only arrays.

A node's occupation is a step function of time: segment s of node j begins at
``time[j, s]`` and leaves ``free[j, s, :]`` of each resource; neighbours that are alike
are one segment, the last never ends. So a gap is found by walking segments, whatever
mix of slots, cores, memory and other resources binds.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

EARLIEST_END, EARLIEST_START, LEAST_LOAD = 0, 1, 2
ENDLESS = 1e30  # s
SMALL = 10_000  # functions x nodes below which compiling or loading numba doesn't pay


def upward_rank(
    succ_ptr: Any, succ_of: Any, succ_mb: Any, mean_time: Any, latency: Any, slow: Any
) -> Any:
    """Seconds from the start of each function to the end of the graph, in the mean."""
    n = len(mean_time)
    rank = np.zeros(n)
    for i in range(n - 1, -1, -1):
        longest = 0.0
        for e in range(succ_ptr[i], succ_ptr[i + 1]):
            path = latency + succ_mb[e] * slow + rank[succ_of[e]]
            if path > longest:
                longest = path
        rank[i] = mean_time[i] + longest
    return rank


def find_start(time: Any, free: Any, count: Any, j: Any, ready: Any, span: Any,
               need: Any, slack: Any) -> Any:  # fmt: skip
    """The earliest start from `ready` on with room for `need` for `span` seconds.

    inf if there is none, since what is held does not end.
    """
    lo, hi = 0, count[j] - 1
    while lo < hi:  # the last segment that begins at or before `ready`
        mid = (lo + hi + 1) // 2
        if time[j, mid] <= ready:
            lo = mid
        else:
            hi = mid - 1
    start = ready
    s = lo
    while True:
        fits = True
        for r in range(len(need)):
            # What is not needed may be overdrawn: held intervals can exceed the room.
            if need[r] > 0.0 and need[r] > free[j, s, r] + slack[r]:
                fits = False
                break
        if not fits:
            s += 1
            if s >= count[j]:
                return np.inf
            start = time[j, s]
            continue
        if s + 1 >= count[j] or time[j, s + 1] >= start + span:
            return start
        s += 1


def cut(time: Any, free: Any, count: Any, j: Any, at: Any) -> Any:
    """Make a segment of node j begin at `at`; returns its number."""
    lo, hi = 0, count[j] - 1
    while lo < hi:
        mid = (lo + hi + 1) // 2
        if time[j, mid] <= at:
            lo = mid
        else:
            hi = mid - 1
    if time[j, lo] == at:
        return lo
    for s in range(count[j], lo + 1, -1):
        time[j, s] = time[j, s - 1]
        free[j, s] = free[j, s - 1]
    time[j, lo + 1] = at
    free[j, lo + 1] = free[j, lo]
    count[j] += 1
    return lo + 1


def alike(free: Any, j: Any, s: Any, slack: Any) -> Any:
    """Whether segment s of node j leaves the same as the one before it."""
    for r in range(free.shape[2]):
        a, b = free[j, s, r], free[j, s - 1, r]
        if a != b and abs(a - b) > slack[r]:  # inf == inf
            return False
    return True


def take(time: Any, free: Any, count: Any, j: Any, start: Any, end: Any, need: Any,
         slack: Any) -> Any:  # fmt: skip
    """Take `need` of node j from start to end, where it is known to fit."""
    if end <= start:
        return
    first = cut(time, free, count, j, start)
    last = cut(time, free, count, j, end)
    for s in range(first, last):
        for r in range(len(need)):
            # A class without demand must not turn an unlimited room into NaN.
            if need[r] > 0.0:
                free[j, s, r] -= need[r]
    for s in (last, first):  # the inner segments differ as they did before
        if s > 0 and alike(free, j, s, slack):
            for k in range(s, count[j] - 1):
                time[j, k] = time[j, k + 1]
                free[j, k] = free[j, k + 1]
            count[j] -= 1


def place(key: Any, by_ready: Any, rule: Any, in_order: Any, pred_ptr: Any,
          pred_of: Any, pred_mb: Any, succ_ptr: Any, succ_of: Any, option_ptr: Any,
          option_work: Any, option_class: Any, need: Any, rate: Any, kind: Any,
          room: Any, latency: Any, slow: Any, pin: Any, group: Any, held_node: Any,
          held_start: Any, held_end: Any, held_need: Any,
          slack: Any) -> Any:  # fmt: skip
    """Place all functions; returns node, option, start and end of each.

    Parameters
    ----------
    key : (n,) float
        Of the functions whose predecessors are placed, the smallest goes first.
    by_ready : bool
        Use the time at which the last predecessor ends as the key instead.
    rule : int
        Which node is preferred: EARLIEST_END, EARLIEST_START, LEAST_LOAD.
    in_order : bool
        On each node, start no function before one that was placed there earlier.
    held_* : (h,), (h,), (h,), (h, r)
        What is taken already.
    others
        As in Problem; latency (m, m) [s], slow (m, m) [s/MB].
    """
    n, m, r_count = len(pin), len(kind), need.shape[1]
    size = 16
    time = np.zeros((m, size))
    free = np.zeros((m, size, r_count))
    count = np.ones(m, dtype=np.int64)
    for j in range(m):
        free[j, 0] = room[kind[j]]
    last_start = np.zeros(m)
    load = np.zeros(m)
    node = np.full(n, -1, dtype=np.int64)
    option = np.zeros(n, dtype=np.int64)
    start = np.zeros(n)
    end = np.zeros(n)
    groups = 0
    for i in range(n):
        groups = max(groups, group[i] + 1)
    chosen = np.full(groups, -1, dtype=np.int64)  # the node of each group
    able = np.ones((groups, m), dtype=np.bool_)  # where all of a group can run
    for i in range(n):
        if group[i] >= 0:
            for j in range(m):
                runs = False
                for o in range(option_ptr[i], option_ptr[i + 1]):
                    if rate[option_class[o], kind[j]] > 0.0:
                        runs = True
                able[group[i], j] = able[group[i], j] and runs

    for h in range(len(held_node)):
        j = held_node[h]
        if count[j] + 2 > size:
            time = np.concatenate((time, np.zeros((m, size))), axis=1)
            free = np.concatenate((free, np.zeros((m, size, r_count))), axis=1)
            size *= 2
        take(time, free, count, j, held_start[h], held_end[h], held_need[h], slack)
        load[j] += min(held_end[h] - held_start[h], ENDLESS) / room[kind[j], 0]

    missing = np.zeros(n, dtype=np.int64)
    heap = [(0.0, 0) for _ in range(0)]
    for i in range(n):
        missing[i] = pred_ptr[i + 1] - pred_ptr[i]
        if missing[i] == 0:
            heapq.heappush(heap, (0.0 if by_ready else key[i], i))
    while len(heap) > 0:
        _, i = heapq.heappop(heap)
        best_node, best_option = -1, 0
        best_start = best_end = best_score = np.inf
        for j in range(m):
            if pin[i] >= 0 and pin[i] != j:
                continue
            if group[i] >= 0:
                if chosen[group[i]] >= 0 and chosen[group[i]] != j:
                    continue
                if not able[group[i], j]:
                    continue
            ready = last_start[j] if in_order else 0.0
            for e in range(pred_ptr[i], pred_ptr[i + 1]):
                u = pred_of[e]
                a = node[u]
                arrival = end[u]
                if a != j:
                    arrival += latency[a, j] + pred_mb[e] * slow[a, j]
                if arrival > ready:
                    ready = arrival
            if rule == EARLIEST_END and ready >= best_end:
                continue  # it can't end earlier here than on a node seen already
            for o in range(option_ptr[i], option_ptr[i + 1]):
                c = option_class[o]
                speed = rate[c, kind[j]]
                if speed <= 0.0:
                    continue
                span = option_work[o] / speed
                if rule == EARLIEST_END and ready + span >= best_end:
                    continue
                at = find_start(time, free, count, j, ready, span, need[c], slack)
                if at == np.inf:
                    continue
                if rule == EARLIEST_END:
                    score = at + span
                elif rule == EARLIEST_START:
                    score = at
                else:
                    score = load[j]
                if score < best_score or (score == best_score and best_node == j
                                          and at + span < best_end):  # fmt: skip
                    best_score, best_node, best_option = score, j, o
                    best_start, best_end = at, at + span
        j = best_node
        if j < 0:
            return node, option, start, end  # the caller sees node == -1
        node[i], option[i] = j, best_option - option_ptr[i]
        start[i], end[i] = best_start, best_end
        last_start[j] = max(last_start[j], best_start)
        c = option_class[best_option]
        load[j] += (best_end - best_start) / room[kind[j], 0]
        if group[i] >= 0:
            chosen[group[i]] = j
        if count[j] + 2 > size:
            time = np.concatenate((time, np.zeros((m, size))), axis=1)
            free = np.concatenate((free, np.zeros((m, size, r_count))), axis=1)
            size *= 2
        take(time, free, count, j, best_start, best_end, need[c], slack)
        for e in range(succ_ptr[i], succ_ptr[i + 1]):
            v = succ_of[e]
            missing[v] -= 1
            if missing[v] == 0:
                when = 0.0
                for p in range(pred_ptr[v], pred_ptr[v + 1]):
                    when = max(when, end[pred_of[p]])
                heapq.heappush(heap, (when if by_ready else key[v], v))
    return node, option, start, end


@lru_cache(maxsize=1)
def compiled() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """``(upward_rank, place)`` compiled; the first call ever takes some seconds."""
    import numba
    from numba.extending import register_jitable

    for helper in (find_start, cut, alike, take):
        register_jitable(helper)
    jit = numba.njit(cache=True, nogil=True)
    return jit(upward_rank), jit(place)


def functions(work: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """``(upward_rank, place)``, compiled where work (functions x nodes) is much."""
    if work <= SMALL and not compiled.cache_info().currsize:
        return upward_rank, place
    return compiled()

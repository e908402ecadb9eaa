"""Timelines: what is free on each node, as step functions of time, in one pool.

Plain Python that numba compiles. Knows nodes, times and amounts; not what runs.

A node's segments stand side by side in a region of the pool: segment s begins at
``time[s]`` and leaves ``free[s, :]`` of each resource; neighbours that are alike are
one, the last never ends. A region that is full moves to one of twice the size at the
end of the pool. So what is taken late moves only what is later still, and memory
follows the segments that there are, at most fivefold, not nodes x the busiest node:
of the pool only what was written is ever backed by memory.

Beside them ``edge[:, j]`` tells what bounds a search on node j. It looks at slots
alone, the first resource, of which everything needs one. Searches in vain sharpen it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

REGION = 8  # segments that a node has room for at first
ROUNDING = 1e-15  # relative, of a gap's length to its end

BEGIN, COUNT, SIZE = 0, 1, 2  # rows of spot: a region, how much of it is in use
FRONT = 0  # row of edge [s]: no slot is free before
SHUT = 1  # no slot is free from here until `OPEN`
OPEN = 2  # a slot is free for good from here on
GAP = 3  # no stretch with a free slot from `SINCE` to `SHUT` is longer
SINCE = 4


def empty(room: np.ndarray, kind: np.ndarray, most: int) -> tuple[np.ndarray, ...]:
    """``(time, free, spot, edge)`` of empty nodes, of which `most` times is taken.

    Parameters
    ----------
    room : (k, r) array
        Of each resource on each kind.
    kind : (m,) int array
        Of each node.
    most : int
        How often something is taken, at most.

    Returns
    -------
    (p,), (p, r), (3, m + 1), (5, m) arrays
        The pool, and of each node its region and its edges; at m the free region.
    """
    m = len(kind)
    # Each taking adds two segments; all regions of a node hold under 4 x (count + 2).
    p = (4 * 3 + REGION) * m + 8 * most
    time, free = np.empty(p), np.empty((p, room.shape[1]))
    spot = np.zeros((3, m + 1), dtype=np.int64)
    spot[BEGIN] = REGION * np.arange(m + 1)
    spot[COUNT], spot[SIZE] = 1, REGION
    time[spot[BEGIN, :m]] = 0.0
    free[spot[BEGIN, :m]] = room[kind]
    return time, free, spot, np.zeros((5, m))


def widen(time: Any, free: Any, spot: Any, j: Any) -> Any:
    """Move node j to a region of twice the size."""
    m = spot.shape[1] - 1
    move(time, free, spot[BEGIN, j], spot[BEGIN, m], spot[COUNT, j])
    spot[BEGIN, j] = spot[BEGIN, m]
    spot[SIZE, j] *= 2
    spot[BEGIN, m] += spot[SIZE, j]


def move(time: Any, free: Any, old: Any, new: Any, count: Any) -> Any:
    """Move segments from `old` on to `new` on."""
    up = new > old  # then the last goes first
    for k in range(count):
        s = count - 1 - k if up else k
        time[new + s] = time[old + s]
        for r in range(free.shape[1]):
            free[new + s, r] = free[old + s, r]


def segment_at(time: Any, first: Any, stop: Any, at: Any) -> Any:
    """The last of the segments first .. stop - 1 that begins at or before `at`.

    Searched from the end in growing steps, since most is taken late.
    """
    lo, hi, step = stop - 1, stop, 1
    while lo > first and time[lo] > at:
        hi = lo
        lo = max(first, lo - step)
        step *= 2
    while hi - lo > 1:
        mid = (lo + hi) // 2
        if time[mid] <= at:
            lo = mid
        else:
            hi = mid
    return lo


def find_start(time: Any, free: Any, spot: Any, edge: Any, j: Any, ready: Any,
               span: Any, need: Any, c: Any, slack: Any) -> Any:  # fmt: skip
    """The earliest start on node j from `ready` on with room for class c for `span`.

    Returns
    -------
    (float, int)
        The start, and the segment that it is in; inf if what is held does not end.
    """
    stop = spot[BEGIN, j] + spot[COUNT, j]
    s = begin = segment_at(time, spot[BEGIN, j], stop, ready)
    start = since = ready
    gap = 0.0
    while True:
        fits = True
        for r in range(need.shape[1]):
            # What is not needed may be overdrawn: held intervals can exceed the room.
            if need[c, r] > 0.0 and free[s, r] < need[c, r] - slack[r]:
                fits = False
                break
        s += 1
        if fits:
            if s >= stop or time[s] >= start + span:
                break
            continue
        if s >= stop:
            return np.inf, begin
        if free[s - 1, 0] < 1.0 - slack[0]:
            gap = max(gap, stretch(since, time[s - 1]))
            since = time[s]
        start, begin = time[s], s
    if start >= edge[OPEN, j]:
        edge[SINCE, j], edge[GAP, j] = ready, gap
    return start, begin


def stretch(start: Any, end: Any) -> Any:
    """What span may fit from start to end, where start + span <= end, rounded."""
    return end - start + ROUNDING * end


def cut(time: Any, free: Any, spot: Any, j: Any, at: Any) -> Any:
    """Make a segment of node j begin at `at`; returns it."""
    stop = spot[BEGIN, j] + spot[COUNT, j]
    s = segment_at(time, spot[BEGIN, j], stop, at)
    if time[s] == at:
        return s
    move(time, free, s, s + 1, stop - s)
    time[s + 1] = at
    spot[COUNT, j] += 1
    return s + 1


def merge(time: Any, free: Any, spot: Any, j: Any, s: Any, slack: Any) -> Any:
    """Make segment s and the one before it one, if they leave the same."""
    if s == spot[BEGIN, j]:
        return
    for r in range(free.shape[1]):
        a, b = free[s, r], free[s - 1, r]
        if a != b and abs(a - b) > slack[r]:  # inf == inf
            return
    spot[COUNT, j] -= 1
    move(time, free, s + 1, s, spot[BEGIN, j] + spot[COUNT, j] - s)


def take(time: Any, free: Any, spot: Any, edge: Any, j: Any, start: Any, end: Any,
         need: Any, c: Any, slack: Any) -> Any:  # fmt: skip
    """Take what row c of `need` says of node j from start to end."""
    if end <= start:
        return
    if spot[COUNT, j] + 2 > spot[SIZE, j]:
        widen(time, free, spot, j)
    first = cut(time, free, spot, j, start)
    last = cut(time, free, spot, j, end)
    for s in range(first, last):
        for r in range(need.shape[1]):
            # A class without demand must not turn an unlimited room into NaN.
            if need[c, r] > 0.0:
                free[s, r] -= need[c, r]
        if free[s, 0] < 1.0 - slack[0]:
            close(edge, j, time[s], time[s + 1])
    merge(time, free, spot, j, last, slack)  # the inner ones differ as they did before
    merge(time, free, spot, j, first, slack)
    if start <= edge[FRONT, j]:
        stop = spot[BEGIN, j] + spot[COUNT, j] - 1
        s = segment_at(time, spot[BEGIN, j], stop + 1, edge[FRONT, j])
        while s < stop and free[s, 0] < 1.0 - slack[0]:
            s += 1
            edge[FRONT, j] = time[s]


def close(edge: Any, j: Any, start: Any, end: Any) -> Any:
    """Note that no slot of node j is free from start to end."""
    if start > edge[OPEN, j]:
        edge[GAP, j] = max(edge[GAP, j], stretch(edge[OPEN, j], start))
        edge[SHUT, j], edge[OPEN, j] = start, end
    elif end >= edge[SHUT, j]:
        edge[SHUT, j] = min(start, edge[SHUT, j])
        edge[OPEN, j] = max(end, edge[OPEN, j])

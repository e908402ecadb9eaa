"""Lanes: what ran beside what, and how much at once; pure numpy."""

from __future__ import annotations

from heapq import heappop, heappush

import numpy as np

from handout_dask.samples import steps


def lanes(start: np.ndarray, end: np.ndarray, beside: float = 0.0) -> np.ndarray:
    """(k,) for each interval the first lane that is free when it begins.

    Parameters
    ----------
    start, end : (k,) float
        Where one ends another may begin.
    beside : float
        By so much they may overlap in a lane: clocks tell of an end late.

    Examples
    --------
    >>> lanes(np.array([0.0, 1.0, 2.0]), np.array([2.0, 3.0, 4.0])).tolist()
    [0, 1, 0]
    """
    lane = np.zeros(len(start), dtype=np.int64)
    free: list[int] = []
    busy: list[tuple[float, int]] = []
    opened = 0
    slack = beside + 1e-9 * float(np.max(np.abs(end), initial=0.0))
    for k in np.lexsort((end, start)).tolist():
        while busy and busy[0][0] <= start[k] + slack:
            heappush(free, heappop(busy)[1])
        if free:
            lane[k] = heappop(free)
        else:
            lane[k] = opened
            opened += 1
        heappush(busy, (float(end[k]), int(lane[k])))
    return lane


def level(
    start: np.ndarray, end: np.ndarray, amount: np.ndarray, edges: np.ndarray
) -> np.ndarray:
    """(b,) mean of a sum of amounts between each two of b + 1 times.

    Parameters
    ----------
    start, end, amount : (k,) float
        What is held from when to when.
    edges : (b + 1,) float
        Times that rise.

    Examples
    --------
    >>> level(np.zeros(1), np.ones(1), np.ones(1), np.array([0.0, 0.5, 2.0])).tolist()
    [1.0, 0.3333333333333333]
    """
    if not len(start):
        return np.zeros(len(edges) - 1)
    times, sums = steps(start, end, amount)
    total = np.concatenate(([0.0], np.cumsum(np.diff(times) * sums[:-1])))
    there = np.interp(edges, times, total)
    return np.asarray(np.diff(there) / np.maximum(np.diff(edges), 1e-300))

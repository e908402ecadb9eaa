"""Samples: what nodes have, hold and use over time, thinned out as they grow. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

MOST = 400  # samples that are kept; when there are more, every second one is

Snapshot = Mapping[str, Mapping[str, tuple[float, float, float | None]]]


@dataclass(frozen=True, eq=False)
class Samples:
    """What was seen of nodes over time: s samples of m nodes and r resources.

    Attributes
    ----------
    nodes, resources : tuple of str
        m and r names.
    time : (s,) float [s]
        Since the run began.
    capacity, claimed, observed : (s, m, r) float
        In the resource's unit; nan is not known, or not there.
    version : int
        Another one where what was seen before was thinned out, or there is more to see
        of each moment.
    """

    nodes: tuple[str, ...]
    resources: tuple[str, ...]
    time: np.ndarray
    capacity: np.ndarray
    claimed: np.ndarray
    observed: np.ndarray
    version: int = 0


_NONE = np.empty((0, 0, 0))
NOTHING = Samples((), (), np.empty(0), _NONE, _NONE, _NONE)


class SampleLog:
    """Snapshots of a tracker over time; each stands until the next.

    Parameters
    ----------
    most : int
        How many are kept. When there are more, every second one is forgotten, and from
        then on of those to come as well.

    Examples
    --------
    >>> log = SampleLog(most=4)
    >>> for at in range(9):
    ...     log.add(100.0 + at, {"n0": {"cpu": (4.0, at, None)}})
    >>> found = log.samples(since=100.0)
    >>> found.time.tolist(), found.claimed[:, 0, 0].tolist()
    ([0.0, 4.0, 8.0], [0.0, 4.0, 8.0])
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._version = 0
        self.clear()

    def clear(self) -> None:
        """Forget all."""
        self._every = self._skipped = 1
        self._count = 0
        self._nodes: dict[str, int] = {}
        self._resources: dict[str, int] = {}
        self._time = np.empty(self._most + 1)
        self._values = np.empty((3, self._most + 1, 0, 0))
        self._version += 1

    def add(self, now: float, snapshot: Snapshot) -> None:
        """Note what there is at a time [s], later than the last."""
        self._skipped += 1
        if self._skipped <= self._every:
            return
        self._skipped = 1
        self._make_room(snapshot)
        row = np.full((3, len(self._nodes), len(self._resources)), np.nan)
        for node, rows in snapshot.items():
            j = self._nodes[node]
            for resource, (capacity, claimed, seen) in rows.items():
                r = self._resources[resource]
                row[:, j, r] = capacity, claimed, np.nan if seen is None else seen
        self._time[self._count], self._values[:, self._count] = now, row
        self._count += 1
        if self._count > self._most:
            kept = slice(0, self._count, 2)
            if self._count % 2 == 0:  # the last one goes, too
                self._skipped += self._every
            self._put(self._time[kept].copy(), self._values[:, kept].copy())
            self._every *= 2

    def _make_room(self, snapshot: Snapshot) -> None:
        """Let there be a place for each node and resource."""
        before = len(self._nodes), len(self._resources)
        for node, rows in snapshot.items():
            self._nodes.setdefault(node, len(self._nodes))
            for resource in rows:
                self._resources.setdefault(resource, len(self._resources))
        m, r = len(self._nodes), len(self._resources)
        if (m, r) != before:
            old = self._values[:, : self._count]
            values = np.full((3, self._count, m, r), np.nan)
            values[:, :, : before[0], : before[1]] = old
            self._put(self._time[: self._count].copy(), values)

    def _put(self, time: np.ndarray, values: np.ndarray) -> None:
        """Go on with these in new arrays: who has read the old ones keeps them."""
        self._count = len(time)
        self._time = np.empty(self._most + 1)
        self._time[: self._count] = time
        self._values = np.empty((3, self._most + 1, *values.shape[2:]))
        self._values[:, : self._count] = values
        self._version += 1

    def samples(self, since: float, until: float = float("inf")) -> Samples:
        """What was noted from one time to another; times count from the first."""
        time = self._time[: self._count]
        a, b = np.searchsorted(time, since), np.searchsorted(time, until, side="right")
        capacity, claimed, observed = self._values[:, a:b]
        return Samples(
            tuple(self._nodes), tuple(self._resources), time[a:b] - since, capacity,
            claimed, observed, self._version,
        )  # fmt: skip


def steps(
    start: np.ndarray, end: np.ndarray, amount: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """When a sum changes, and what it is from then on.

    Examples
    --------
    >>> times, sums = steps(np.array([0.0, 1.0]), np.array([2.0, 3.0]), np.ones(2))
    >>> times.tolist(), sums.tolist()
    ([0.0, 1.0, 2.0, 3.0], [1.0, 2.0, 1.0, 0.0])
    """
    times, at = np.unique(np.concatenate([start, end]), return_inverse=True)
    change = np.zeros(len(times))
    np.add.at(change, at, np.concatenate([amount, -amount]))
    return times, np.cumsum(change)

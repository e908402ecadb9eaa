"""The books of live runs and nodes: what is planned, sent, held and done. Pure.

Plain state, written by `dispatch.Dispatcher` alone; knows neither Dask nor a clock.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from handout_dask.node import Node
from handout_dask.tracker import ResourceTracker

WAITING, READY, SENT, DONE, FAILED, GONE = range(6)
ENDED = (DONE, FAILED, GONE)

Member = tuple[str, int]  # the token of a run, the index of a function in it


@dataclass(frozen=True, slots=True)
class RunSpec:
    """What the scheduler has to know of a planned run; n functions, c classes.

    Attributes
    ----------
    token : str
        Names the run.
    prefix : list of str
        The Dask key of function i is (prefix[i], i).
    cut_prefix : str
        Keys of the elements that are cut out of results are (this, number).
    node : list of str
        n planned nodes, by name.
    rank : list of int
        n places in the planned order of execution.
    need : list of int
        n classes.
    demand : list of dict
        c demands held while running, with ``cpu``.
    able : list of frozenset of str
        c sets of nodes that can run the class.
    pinned : frozenset of int
        Functions that may not leave their node.
    group : dict of int to tuple of int
        Functions that must share a node, by each of them.
    start, end : list of float
        n planned times [s].
    cuts : frozenset of int
        Functions whose results other nodes need elements of.
    limit : int or None
        How many functions may run at once.
    """

    token: str
    prefix: list[str]
    cut_prefix: str
    node: list[str]
    rank: list[int]
    need: list[int]
    demand: list[dict[str, float]]
    able: list[frozenset[str]]
    pinned: frozenset[int]
    group: dict[int, tuple[int, ...]]
    start: list[float]
    end: list[float]
    cuts: frozenset[int]
    limit: int | None = None


@dataclass(slots=True)
class NodeBook:
    """What one node has in hand. Written by Dispatcher only."""

    node: Node
    up: bool = True
    running: dict[Member, None] = field(default_factory=dict)  # each has a slot
    ahead: deque[Member] = field(default_factory=deque)  # sent, for the next free slot
    ahead_seconds: float = 0.0
    unsure: set[Member] = field(default_factory=set)  # sent, inputs still under way
    lone: int = 0  # how many in hand let nothing be sent ahead behind them

    @property
    def even(self) -> bool:
        """Whether any `slots` functions of one core each fit at once."""
        return self.node.capacity("cpu") >= self.node.capacity("slots")


class RunBook:
    """The state of one run. Written by Dispatcher only."""

    def __init__(self, spec: RunSpec, trackers: Sequence[ResourceTracker]) -> None:
        n = len(spec.node)
        self.spec = spec
        self.trackers = tuple(trackers)
        self.state = bytearray(n)
        self.node = list(spec.node)
        self.attempts = [0] * n
        self.running = 0
        self.left = n
        self.mean = 0.0  # seconds of functions of late; 0 is none yet
        self.queues: dict[str, list[tuple[int, int]]] = {}
        for i, name in enumerate(self.node):
            self.queues.setdefault(name, []).append((spec.rank[i], i))
        for queue in self.queues.values():
            heapq.heapify(queue)

    def head(self, name: str) -> int | None:
        """The first function in the node's order that was not sent yet."""
        queue = self.queues.get(name)
        while queue:
            i = queue[0][1]
            if self.state[i] in (WAITING, READY) and self.node[i] == name:
                return i
            heapq.heappop(queue)
        return None

    def seconds(self, i: int) -> float:
        """How long a function is expected to take; what was seen of late counts."""
        planned = self.spec.end[i] - self.spec.start[i]
        return min(planned, self.mean) if self.mean else planned

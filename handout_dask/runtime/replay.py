"""Replay a workflow trace: functions that sleep or spin for their declared time.

Only here is a node's speed emulated, from a table that a worker plugin carries.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from distributed import get_worker
from distributed.diagnostics.plugin import WorkerPlugin

from handout_dask.costs import Cost
from handout_dask.errors import HandoutError
from handout_dask.function import Function
from handout_dask.graph import Graph
from handout_dask.node import Node

MODES = ("sleep", "spin")
SPEEDS = "handout-speeds"


class Speeds(WorkerPlugin):
    """Tells replayed functions how fast the node is that they run on."""

    name = SPEEDS

    def __init__(self, nodes: Iterable[Node]) -> None:
        self.speeds = {node.name: node.speed for node in nodes}

    def setup(self, worker: Any) -> None:
        """Note the worker's own speed."""
        self.speed = self.speeds.get(str(worker.name), 1.0)


class Replay:
    """Code that takes a time and returns results of given sizes, whatever it reads.

    Parameters
    ----------
    mode : {"sleep", "spin"}
        Whether a core is busy meanwhile.
    seconds : float
        On a node of speed 1.
    sizes : mapping
        Bytes of each element of the result.
    """

    def __init__(self, mode: str, seconds: float, sizes: Mapping[Any, int]) -> None:
        self.mode, self.seconds, self.sizes = mode, seconds, dict(sizes)

    def __call__(self, *inputs: Any) -> dict[Any, bytes]:
        begin = time.perf_counter()
        speed = get_worker().plugins[SPEEDS].speed
        end = begin + self.seconds / speed
        if self.mode == "sleep":
            time.sleep(max(0.0, end - time.perf_counter()))
        else:
            while time.perf_counter() < end:
                pass
        return {index: bytes(size) for index, size in self.sizes.items()}

    def __reduce__(self) -> tuple[Any, ...]:
        return Replay, (self.mode, self.seconds, self.sizes)


def replayed(graph: Graph, mode: str, scale: float = 1.0) -> Graph:
    """A graph that can run: each function takes its time, and makes its files, x scale.

    Parameters
    ----------
    graph : Graph
        Of functions without code, as `read_workflow` makes it.
    mode : {"sleep", "spin"}
        Whether a core is busy meanwhile.
    scale : float
        Factor on run times and sizes.

    Raises
    ------
    HandoutError
        If the mode is unknown, or the scale is not above 0.
    """
    if mode not in MODES:
        raise HandoutError(f"replay {mode!r} must be one of {', '.join(MODES)}")
    if not 0 < scale < float("inf"):
        raise HandoutError(f"time-scale {scale!r} must be above 0")
    return Graph((_replayed(f, mode, scale) for f in graph), graph.name)


def _replayed(function: Function, mode: str, scale: float) -> Function:
    cost = function.alternatives[0]
    sizes = cost.output_size if isinstance(cost.output_size, Mapping) else {}
    entries = dict(cost)
    seconds = (cost.cpu_time or 0.0) / 1e3 * scale
    entries["cpu_time"] = seconds * 1e3
    entries["output_size"] = {k: mb * scale for k, mb in sizes.items()}
    made = {index: int(mb * 1e6 * scale) for index, mb in sizes.items()}
    made.setdefault("", 0)  # what is read where no file is
    return replace(function, cost=Cost(entries), code=Replay(mode, seconds, made))

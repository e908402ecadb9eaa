"""Warming: kernels for revisions are loaded, or compiled, beside who needs one at once.

The first time on a machine that takes half a minute: no run should stand still for it.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache

import numpy as np

from handout_dask.allocators.revision import Stand, revise
from handout_dask.books import WAITING
from handout_dask.function import Function
from handout_dask.graph import Graph
from handout_dask.node import Cluster, Node
from handout_dask.problem import Problem

SMALL = 2000  # functions; of more numpy takes longer than kernels to be compiled


def path_for(n: int) -> str:
    """What computes a revision of n functions soonest; has kernels loaded meanwhile."""
    return "compiled" if n > SMALL or _loading().done() else "numpy"


@cache
def _loading() -> Future[None]:
    pool = ThreadPoolExecutor(1, "handout-kernels")
    begun = pool.submit(load)
    pool.shutdown(wait=False)  # its thread ends with what it does
    return begun


def load() -> None:
    """Revise something small by all kernels that there are for it."""
    reads: dict[str, list[str]] = {"a": [], "b": ["a"], "c": ["a"]}
    graph = Graph(
        Function(id, of, cost={"cpu_time": 10, "output_size": 1})
        for id, of in reads.items()
    )
    cluster = Cluster([Node("n0", {"cpu": 1}), Node("n1", {"cpu": 1})])
    state = np.full(3, WAITING, dtype=np.uint8)
    times = np.arange(3.0)
    stand = Stand(["n0"] * 3, state, times, times + 1.0, frozenset(), 0.0)
    outline = Problem(graph, cluster).outline
    revise(outline, np.zeros(3, dtype=np.int64), stand, cluster, path="compiled")

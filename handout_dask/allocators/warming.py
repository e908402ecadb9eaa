"""Warming: kernels are compiled by a process beside those who need a plan at once.

The first time on a machine that takes a minute: nobody should stand still for it.
``python -m handout_dask.allocators.warming`` does it beforehand.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import IO, Any

import numpy as np

from handout_dask.allocators import annealing, contention, kernel, latest
from handout_dask.allocators.annealing import Annealer
from handout_dask.allocators.compiling import at_hand
from handout_dask.allocators.engine import place
from handout_dask.allocators.revision import Stand, revise
from handout_dask.allocators.search import QUICK
from handout_dask.books import WAITING
from handout_dask.function import Function
from handout_dask.graph import Graph
from handout_dask.node import Cluster, Node
from handout_dask.problem import Problem

FEW = 20_000  # functions; of more numpy takes longer than kernels to be compiled
LITTLE, LOADING = 500, 0.7  # functions (0.1 s by NumPy), and s to load kernels


def path_for(n: int, spent: float = math.inf) -> str:
    """What computes a revision of n functions soonest; else kernels are compiled.

    Small ones by NumPy also until `spent`, the seconds of those so far, is as long as
    it takes to load numba.
    """
    if n <= LITTLE and spent < LOADING and not annealing.is_loaded():
        return "numpy"
    _, anneal = annealing.kernels("free", compiled=True)
    wanted = *kernel.compiled(), anneal, latest.compiled()
    return "compiled" if n > FEW or at_hand(*wanted) else "numpy"


def load() -> None:
    """Have all kernels compiled, or loaded, by planning something small."""
    reads: dict[str, list[str]] = {"a": [], "b": ["a"], "c": ["a"]}
    graph = Graph(
        Function(id, of, cost={"cpu_time": 10, "output_size": 1})
        for id, of in reads.items()
    )
    cluster = Cluster([Node("n0", {"cpu": 1}), Node("n1", {"cpu": 1})])
    problem = Problem(graph, cluster)
    key = np.array([2.0, 0.0, 1.0])  # against the order, so that it has to be sorted
    plan = place(problem, key=key, path="compiled")
    Annealer(problem, plan, QUICK, 0, path="compiled")
    state = np.full(3, WAITING, dtype=np.uint8)
    times = np.arange(3.0)
    stand = Stand(["n0"] * 3, state, times, times + 1.0, frozenset(), 0.0)
    option = np.zeros(3, dtype=np.int64)
    revise(problem.outline, option, stand, cluster, path="compiled")
    ported = Problem(graph, cluster, network="oneport")
    Annealer(
        ported,
        contention.as_played(place(ported), path="compiled"),
        QUICK,
        0,
        path="compiled",
    )


def main() -> None:
    """Compile what is not kept yet, unless another process does."""
    if hasattr(os, "nice"):
        os.nice(5)
    fill: Any = kernel.compiled()[-1]
    if fill.stats.cache_path:
        folder = Path(fill.stats.cache_path)
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / "handout-warming.lock", "w") as lock:
            if _is_first(lock):
                load()


def _is_first(lock: IO[str]) -> bool:
    try:
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:
        return True
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()

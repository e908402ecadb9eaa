"""Optimising: Dask's graph optimisation for collections, such that costs survive it.

Runs where Dask materialises a graph: on the scheduler. Dask finds these functions by
its configuration (``array_optimize`` and the like), on the client.

What loses annotations (2026.8.0): the linear fusion of arrays, of delayed if it is
switched on, and all that bags do. Blockwise fusion keeps layers of different
annotations apart.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import dask
from dask.core import flatten
from dask.highlevelgraph import HighLevelGraph

HANDOUT = "handout"  # the annotation that bears a cost


def has_costs(dsk: Any) -> bool:
    """Whether a layer of a graph is annotated with a cost."""
    return isinstance(dsk, HighLevelGraph) and any(
        layer.annotations and HANDOUT in layer.annotations
        for layer in dsk.layers.values()
    )


def optimize_array(dsk: Any, keys: Any, **kwargs: Any) -> Any:
    """Dask's optimisation of arrays, without linear fusion where there are costs."""
    from dask.array import optimization

    if not has_costs(dsk):
        return optimization.optimize(dsk, keys, **kwargs)
    listed = _listed(keys)
    dsk = optimization.optimize_blockwise(dsk, keys=listed)
    dsk = optimization.fuse_roots(dsk, keys=listed)
    return dsk.cull(set(listed))


def optimize_delayed(dsk: Any, keys: Any, **kwargs: Any) -> Any:
    """Dask's optimisation of delayed, without fusion where there are costs."""
    from dask.delayed import optimize

    if not has_costs(dsk):
        return optimize(dsk, keys, **kwargs)
    return dsk.cull(set(_listed(keys)))


def optimize_bag(dsk: Any, keys: Any, **kwargs: Any) -> Any:
    """Dask's optimisation of bags; none where there are costs."""
    from dask.bag.core import optimize

    if not has_costs(dsk):
        return optimize(dsk, keys, **kwargs)
    return dsk.cull(set(_listed(keys)))


OPTIMIZERS = {
    "array_optimize": optimize_array,
    "delayed_optimize": optimize_delayed,
    "bag_optimize": optimize_bag,
}


def _listed(keys: Any) -> list[Hashable]:
    return list(flatten(keys if isinstance(keys, list | set) else [keys]))


class Kept:
    """That costs survive, in this process, as long as somebody wants it."""

    def __init__(self) -> None:
        self._users: set[str] = set()
        self._set: Any = None

    def begin(self, user: str) -> None:
        """Somebody wants it; what a user has configured stays."""
        if not self._users:
            free = {
                k: f for k, f in OPTIMIZERS.items() if dask.config.get(k, None) is None
            }
            self._set = dask.config.set(free)
        self._users.add(user)

    def end(self, user: str) -> None:
        """The last one who wanted it leaves Dask's configuration as it was."""
        if user in self._users:
            self._users.discard(user)
            if not self._users:
                self._set.__exit__(None, None, None)


KEPT = Kept()

"""Claims: what each function of a run holds while it runs: as declared, or as seen.

Pure state, written by `books.RunBook` alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from handout_dask.node import Node

MEMORY, GPU_MEMORY = GROWING = "memory", "gpu_memory"


class Claims:
    """The demands of n functions, by classes that grow in number.

    What was learned is claimed as far as a node has it: nothing becomes impossible by
    it.

    Parameters
    ----------
    need : sequence of int
        n declared classes; the books may change them, see `declare`.
    declared : sequence of dict
        c declared demands.

    Attributes
    ----------
    demand : list of dict
        Of each class.
    need : list of int
        The class of each function.
    first : set of int
        Functions that no later one may pass, lest they find no room for ever.
    """

    def __init__(
        self, need: Sequence[int], declared: Sequence[dict[str, float]]
    ) -> None:
        self._declared, self._own = declared, need
        self.demand, self.need = list(declared), list(need)
        self._numbers: dict[Any, int] = {}
        self._later: dict[int, dict[str, float]] = {}
        self.first: set[int] = set()

    def of(self, i: int, node: Node | None = None) -> dict[str, float]:
        """What function i holds, on any node or on this one."""
        k = self.need[i]
        demand = self.demand[k]
        if node is not None and k >= len(self._declared):
            for what in GROWING:
                has = node.capacity(what)
                if demand.get(what, 0.0) > has:
                    least = self._declared[self._own[i]].get(what, 0.0)
                    demand = {**demand, what: max(has, least)}
        return demand

    def raise_memory(self, i: int, mb: float, later: bool, what: str = MEMORY) -> None:
        """Let function i hold so much memory [MB], or from when it is sent again."""
        if later:
            self._later.setdefault(i, {})[what] = mb
            return
        now = self.demand[self.need[i]]
        if mb <= now.get(what, 0.0):
            return
        more = {**now, what: mb}
        key = tuple(sorted(more.items()))
        k = self._numbers.get(key)
        if k is None:
            k = self._numbers[key] = len(self.demand)
            self.demand.append(more)
        self.need[i] = k

    def declare(self, i: int) -> None:
        """Function i is of another declared class; what was learned was of the old."""
        self.need[i] = self._own[i]
        self._later.pop(i, None)

    def waits_again(self, i: int) -> None:
        """Function i holds nothing any more, and will be sent again."""
        for what, mb in self._later.pop(i, {}).items():
            self.raise_memory(i, mb, False, what)

"""ResourceTracker: who holds how much of what, on which node. The protocol and the static one.

Pure books: knows no clock and no Dask; whoever asks decides when to release.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any, Protocol, runtime_checkable

from handout_dask.costs import CUDA
from handout_dask.node import Node
from handout_dask.problem import TOLERANCE


@runtime_checkable
class ResourceTracker(Protocol):
    """Tracks what nodes have and what is claimed of it.

    Requests are flat maps: numbers are demands, True is a capability that the node must
    have. A resource that a node does not have is never available there.
    """

    def register(self, node: str, capabilities: Mapping[str, Any]) -> None:
        """Make a node known, or change what it has; claims on it stay."""
        ...

    def available(self, node: str, req: Mapping[str, Any]) -> bool:
        """Whether all of the request is free on the node now."""
        ...

    def request(self, claim: Hashable, node: str, req: Mapping[str, Any]) -> bool:
        """Take all of the request under the name `claim`, or nothing; in one step."""
        ...

    def release(self, claim: Hashable, part: Mapping[str, Any] | None = None) -> None:
        """Give back what a claim holds, or part of it; unknown claims hold nothing."""
        ...

    def snapshot(self) -> dict[str, dict[str, tuple[float, float, float | None]]]:
        """``{node: {resource: (capacity, claimed, observed)}}``."""
        ...


class StaticTracker:
    """Counts claims against declared capabilities; observes nothing.

    Examples
    --------
    >>> tracker = StaticTracker()
    >>> tracker.register("n0", {"cpu": 4, "memory": 2000})
    >>> tracker.request("a", "n0", {"memory": 1500})
    True
    >>> tracker.available("n0", {"memory": 600}), tracker.available("n0", {"camera": 1})
    (False, False)
    >>> tracker.release("a", {"memory": 1000})
    >>> tracker.snapshot()["n0"]["memory"]
    (2000.0, 500.0, None)
    """

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        self._claimed: dict[str, dict[str, float]] = {}
        self._claims: dict[Hashable, list[tuple[str, dict[str, float]]]] = {}

    def register(self, node: str, capabilities: Mapping[str, Any]) -> None:
        """Make a node known, or change what it has; claims on it stay.

        Raises
        ------
        CostError
            If a capability makes no sense.
        """
        self._nodes[node] = Node(node, capabilities)
        self._claimed.setdefault(node, {})

    def available(self, node: str, req: Mapping[str, Any]) -> bool:
        """Whether all of the request is free on the node now."""
        if node not in self._nodes:
            return False
        has, claimed = self._nodes[node], self._claimed[node]
        for name, amount in req.items():
            if amount is True:
                name = CUDA if name == "has_cuda_requirement" else name
                if not has.has(name):
                    return False
            elif amount is not False:
                room = _capacity(has, name) * (1 + TOLERANCE)
                if claimed.get(name, 0.0) + amount > room:
                    return False
        return True

    def request(self, claim: Hashable, node: str, req: Mapping[str, Any]) -> bool:
        """Take all of the request under the name `claim`, or nothing."""
        if not self.available(node, req):
            return False
        taken = {k: float(v) for k, v in req.items() if v is not True and v is not False}
        claimed = self._claimed[node]
        for name, amount in taken.items():
            claimed[name] = claimed.get(name, 0.0) + amount
        self._claims.setdefault(claim, []).append((node, taken))
        return True

    def release(self, claim: Hashable, part: Mapping[str, Any] | None = None) -> None:
        """Give back what a claim holds, or part of it; unknown claims hold nothing."""
        left = dict(part) if part is not None else None
        for node, taken in self._claims.get(claim, ()):
            for name in list(taken):
                back = taken[name]
                if left is not None:
                    back = min(back, float(left.get(name, 0.0)))
                    left[name] = float(left.get(name, 0.0)) - back
                taken[name] -= back
                rest = self._claimed[node].get(name, 0.0) - back
                # Sums of floats drift; what nobody holds is nothing.
                self._claimed[node][name] = rest if rest > 1e-9 else 0.0
                if not taken[name]:
                    del taken[name]
        held = [(node, taken) for node, taken in self._claims.pop(claim, ()) if taken]
        if held:
            self._claims[claim] = held

    def snapshot(self) -> dict[str, dict[str, tuple[float, float, float | None]]]:
        """``{node: {resource: (capacity, claimed, observed)}}``; observed is None."""
        out = {}
        for name, node in self._nodes.items():
            resources = {k for k, v in node.capabilities.items() if not isinstance(v, bool)}
            claimed = self._claimed[name]
            resources |= {k for k, v in claimed.items() if v}
            rows = {}
            for resource in sorted(resources):
                held = claimed.get(resource, 0.0)
                rows[resource] = (_capacity(node, resource), held, None)
            out[name] = rows
        return out


def _capacity(node: Node, resource: str) -> float:
    """In all; of several devices the memory of each counts together."""
    devices = node.capacity("gpus")
    if resource == "gpu_memory" and math.isfinite(devices) and devices > 1:
        return node.capacity(resource) * devices
    return node.capacity(resource)

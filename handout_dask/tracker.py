"""ResourceTracker: who holds how much of what, on which node; static and live.

Pure books: knows no clock and no Dask; whoever asks decides when to release.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping
from functools import lru_cache
from typing import Any, Protocol, runtime_checkable

from handout_dask.costs import CUDA, ESTIMATES, as_bool, parse_quantity
from handout_dask.node import TOLERANCE, Node

# Amounts are counted in whole steps: sums of floats drift, sums of integers don't.
STEPS = 2**60


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
        self._claimed: dict[str, Counter[str]] = {}  # [1 / STEPS], exact
        self._claims: dict[Hashable, list[tuple[str, dict[str, int]]]] = {}

    def register(self, node: str, capabilities: Mapping[str, Any]) -> None:
        """Make a node known, or change what it has; claims on it stay.

        Raises
        ------
        CostError
            If a capability makes no sense.
        """
        self._nodes[node] = Node(node, capabilities)
        self._claimed.setdefault(node, Counter())

    def available(self, node: str, req: Mapping[str, Any]) -> bool:
        """Whether all of the request is free on the node now.

        Raises
        ------
        CostError
            If the request makes no sense.
        """
        return self._takes(node, req) is not None

    def request(self, claim: Hashable, node: str, req: Mapping[str, Any]) -> bool:
        """Take all of the request under the name `claim`, or nothing.

        Raises
        ------
        CostError
            If the request makes no sense.
        """
        taken = self._takes(node, req, claim)
        if taken is None:
            return False
        if taken:
            self._claims.setdefault(claim, []).append((node, taken))
            self._claimed[node].update(taken)
        return True

    def release(self, claim: Hashable, part: Mapping[str, Any] | None = None) -> None:
        """Give back what a claim holds, or part of it; unknown claims hold nothing.

        Raises
        ------
        CostError
            If the part makes no sense.
        """
        wanted = None if part is None else _parse_request(part)[1]
        held = []
        for node, taken in self._claims.get(claim, ()):
            back = taken
            if wanted is not None:
                back = {k: min(v, wanted.get(k, 0)) for k, v in taken.items()}
                wanted = {k: v - back.get(k, 0) for k, v in wanted.items()}
            self._claimed[node].subtract(back)
            left = {k: v - back[k] for k, v in taken.items() if v > back[k]}
            if left:
                held.append((node, left))
        self._claims.pop(claim, None)
        if held:
            self._claims[claim] = held

    def snapshot(self) -> dict[str, dict[str, tuple[float, float, float | None]]]:
        """``{node: {resource: (capacity, claimed, observed)}}``; observed is None."""
        out: dict[str, dict[str, tuple[float, float, float | None]]] = {}
        for name, node in self._nodes.items():
            claimed = self._claimed[name]
            offered = {
                k for k, v in node.capabilities.items() if not isinstance(v, bool)
            }
            resources = sorted(offered | {k for k, v in claimed.items() if v})
            out[name] = {
                r: (_capacity(node, r), claimed[r] / STEPS, self._observed(name, r))
                for r in resources
            }
        return out

    def holders(self) -> dict[str, list[tuple[Hashable, dict[str, float]]]]:
        """``{node: [(claim, {resource: amount}), ...]}``, in the order of requests."""
        out: dict[str, list[tuple[Hashable, dict[str, float]]]] = {}
        for claim, held in self._claims.items():
            for node, taken in held:
                amounts = {name: amount / STEPS for name, amount in taken.items()}
                out.setdefault(node, []).append((claim, amounts))
        return out

    def _observed(self, node: str, resource: str) -> float | None:
        """How much of a resource is used, if that is measured."""
        return None

    def _room(self, node: Node, resource: str, claim: Hashable | None) -> float:
        """Up to how much may be claimed in all of a resource that something asks for.

        Who holds something of the node under that name already is named by `claim`.
        """
        return _capacity(node, resource)

    def _takes(
        self, node: str, req: Mapping[str, Any], claim: Hashable | None = None
    ) -> dict[str, int] | None:
        """What the request would take of the node now; None if it does not fit."""
        capabilities, demand = _parse_request(req)
        has = self._nodes.get(node)
        if has is None or not all(has.has(name) for name in capabilities):
            return None
        devices = has.capacity("gpus")
        if devices > 1 and ("gpus" in demand or "gpu_memory" in demand):
            # As in a Problem: where there are more, nothing shares a device.
            memory = demand.get("gpu_memory", 0)
            if memory > has.capacity("gpu_memory") * STEPS * (1 + TOLERANCE):
                return None
            gpus = math.ceil(demand.get("gpus", 0) / STEPS)
            whole = {"gpus": gpus * STEPS, "gpu_memory": memory * max(1, gpus)}
            demand |= {k: v for k, v in whole.items() if v}
        claimed = self._claimed[node]
        for name, amount in demand.items():
            room = self._room(has, name, claim) * (1 + TOLERANCE)
            if (claimed[name] + amount) / STEPS > room:
                return None
        return demand


class LiveTracker(StaticTracker):
    """Counts claims, is told what nodes really use, and what can be used of them.

    What other processes eat shrinks what is granted, yet stops nothing for ever: what
    fits the capacity is granted where nobody holds any of that resource, and who holds
    something of a node already may take more, up to its capacity.

    Examples
    --------
    >>> tracker = LiveTracker()
    >>> tracker.register("n0", {"cpu": 4, "memory": 2000})
    >>> tracker.observe("n0", {"memory": 300.0}, {"memory": 1000.0})
    >>> tracker.request("a", "n0", {"memory": 1500})
    True
    >>> tracker.available("n0", {"memory": 1})
    False
    >>> tracker.snapshot()["n0"]["memory"], tracker.limits()
    ((2000.0, 1500.0, 300.0), {'n0': {'memory': 1500.0}})
    """

    def __init__(self) -> None:
        super().__init__()
        self._used: dict[str, dict[str, float]] = {}
        self._usable: dict[str, dict[str, float]] = {}

    def observe(
        self,
        node: str,
        used: Mapping[str, float],
        usable: Mapping[str, float] | None = None,
    ) -> None:
        """Note what was measured of a node last.

        Parameters
        ----------
        node : str
            Its name.
        used : mapping
            How much of each resource it uses, in the resource's unit.
        usable : mapping, optional
            How much of a resource can be used, where that is less than its capacity.
        """
        self._used[node], self._usable[node] = dict(used), dict(usable or {})

    def limits(self) -> dict[str, dict[str, float]]:
        """``{node: {resource: amount}}`` that may be claimed in all, where that is less
        than the capacity; never less than what is claimed now.
        """
        out: dict[str, dict[str, float]] = {}
        for name, node in self._nodes.items():
            for resource, amount in self._usable.get(name, {}).items():
                limit = max(amount, self._claimed[name][resource] / STEPS)
                if limit < _capacity(node, resource):
                    out.setdefault(name, {})[resource] = limit
        return out

    def _observed(self, node: str, resource: str) -> float | None:
        return self._used.get(node, {}).get(resource)

    def _room(self, node: Node, resource: str, claim: Hashable | None) -> float:
        capacity = _capacity(node, resource)
        usable = self._usable.get(node.name, {}).get(resource, capacity)
        if usable >= capacity or not self._claimed[node.name][resource]:
            return capacity  # as it is mostly
        if any(name == node.name for name, _ in self._claims.get(claim, ())):
            return capacity
        return usable


def _parse_request(req: Mapping[str, Any]) -> tuple[list[str], dict[str, int]]:
    """``(capabilities, demand)`` of a flat map; its estimates ask nothing."""
    items = tuple((name, type(value), value) for name, value in req.items())
    try:
        capabilities, demand = _parse_items(items)
    except TypeError:  # something of it is not hashable
        capabilities, demand = _parse_items.__wrapped__(items)
    return list(capabilities), dict(demand)


@lru_cache(maxsize=1024)  # the same few are asked for over and over; 1 is not True
def _parse_items(
    items: tuple[tuple[str, type, Any], ...],
) -> tuple[list[str], dict[str, int]]:
    capabilities: list[str] = []
    demand: dict[str, int] = {}
    for name, _, value in items:
        if name in ESTIMATES:
            continue
        flag = as_bool(value)
        if flag is None:
            number, parts = parse_quantity("request", name, value).as_integer_ratio()
            if number:
                demand[name] = number * STEPS // parts
        elif flag:
            capabilities.append(CUDA if name == "has_cuda_requirement" else name)
    return capabilities, demand


def _capacity(node: Node, resource: str) -> float:
    """In all; of several devices the memory of each counts together."""
    devices = node.capacity("gpus")
    if resource == "gpu_memory" and devices > 1:
        return node.capacity(resource) * devices
    return node.capacity(resource)

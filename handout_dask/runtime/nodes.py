"""From what workers say of themselves, and what a user declares, to Nodes. No IO."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from handout_dask.costs import CUDA
from handout_dask.node import Cluster, Node
from handout_dask.traffic import Traffic

ALIKE = 0.15  # share by which rates of hosts of one kind may differ


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """What a Dask worker says of itself, and what was found there.

    Attributes
    ----------
    name, nthreads, resources : str, int, mapping
        As the worker was started.
    memory_limit : int or None
        Bytes.
    gpu_memory : float or None
        MB of the device that is its own; None if it has none.
    speed : float
        As calibrated, relative to the other hosts.
    """

    name: str
    nthreads: int
    memory_limit: int | None
    resources: Mapping[str, float]
    gpu_memory: float | None = None
    speed: float = 1.0


def node_of(info: WorkerInfo, declared: Node | None = None) -> Node:
    """The node that a worker is: what it says, and over it what was declared.

    An undeclared worker has a core for each thread, and what was found there; a
    declared one has the cores that were declared, or is not limited by cores. Functions
    at once are never more than the worker has threads.
    """
    capabilities: dict[str, Any] = {}
    if info.memory_limit:
        capabilities["memory"] = info.memory_limit / 1e6
    capabilities.update(info.resources)
    if declared is None:
        has: dict[str, Any] = {"cpu": float(info.nthreads)}
        if info.gpu_memory is not None:
            has |= {"gpus": 1, "gpu_memory": info.gpu_memory, CUDA: True}
        return Node(
            info.name, has | capabilities, speed=info.speed, slots=info.nthreads
        )
    slots = info.nthreads
    if declared.declared_slots is not None or "cpu" in declared.capabilities:
        slots = min(slots, int(declared.slots or 1))
    return Node(
        info.name,
        {**capabilities, **declared.capabilities},
        speed=declared.speed,
        gpu_speed=declared.gpu_speed,
        price=declared.price,
        watts=declared.watts,
        slots=slots,
        kind=declared.kind,
    )


class Finds:
    """What workers found on their hosts, made comparable.

    A device is the first worker's that found it, until that is gone: others on the host
    would take its memory for theirs too. Speeds are relative to the first host that
    was calibrated; hosts that differ by less than `ALIKE` are one kind, of one speed.
    """

    def __init__(self) -> None:
        self._found: dict[str, Mapping[str, Any]] = {}
        self._owner: dict[str, str] = {}  # of each device
        self._rates: list[float] = []  # one for each kind of host, as they came

    def tell(self, name: str, found: Mapping[str, Any]) -> bool:
        """A node found a ``device``, its ``gpu_memory``, its ``rate``; or not (yet).

        Whether it differs now from what was known.
        """
        before = self.knows(name), self.of(name)
        self._found[name] = found
        device, rate = found.get("device"), found.get("rate")
        if device is not None:
            self._owner.setdefault(device, name)
        if rate is not None and not any(_are_alike(rate, x) for x in self._rates):
            self._rates.append(rate)
        return before != (True, self.of(name))

    def knows(self, name: str) -> bool:
        """Whether a node has told what it found."""
        return name in self._found

    def of(self, name: str) -> tuple[float | None, float]:
        """MB of the node's own device, if any; its speed, 1.0 if unknown."""
        found = self._found.get(name, {})
        device, rate = found.get("device"), found.get("rate")
        owns = device is not None and self._owner.get(device) == name
        alike = [x for x in self._rates if rate is not None and _are_alike(rate, x)]
        speed = round(alike[0] / self._rates[0], 2) if alike else 1.0
        return found.get("gpu_memory") if owns else None, speed

    def forget(self, name: str) -> None:
        """A node is gone."""
        device = self._found.pop(name, {}).get("device")
        if device is not None and self._owner.get(device) == name:
            del self._owner[device]


def _are_alike(rate: float, other: float) -> bool:
    return max(rate, other) <= min(rate, other) * (1 + ALIKE)


def cluster_of(
    nodes: Iterable[Node], traffic: Traffic, declared: Cluster | None = None
) -> Cluster:
    """The cluster of these live nodes.

    Parameters
    ----------
    nodes : iterable of Node
        In the order in which allocators shall see them; declared ones come first.
    traffic : Traffic
        Tells of the links.
    declared : Cluster, optional
        Its order and billing are taken over.
    """
    listed = list(nodes)
    if declared is not None:
        listed.sort(key=lambda node: declared.index.get(node.name, len(declared)))
    bandwidth, latency = traffic.links([node.name for node in listed])
    billing = declared.billing if declared is not None else "function"
    quantum = declared.quantum if declared is not None else 0.0
    return Cluster(listed, bandwidth, latency, billing=billing, quantum=quantum)

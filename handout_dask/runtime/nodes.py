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
    would take its memory for theirs too; but it is `parted` among those that are
    declared to have CUDA. Speeds are relative to the first host that was calibrated;
    hosts that differ by less than `ALIKE` are one kind, of one speed.
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

    def sharing(self, name: str) -> list[str]:
        """The nodes that found the same device as a node, which is one of them."""
        device = self._found.get(name, {}).get("device")
        found = self._found.items()
        return [n for n, x in found if device and x.get("device") == device]

    def device_memory(self, name: str) -> float | None:
        """MB of the device that a node found, whoever owns it."""
        memory: float | None = self._found.get(name, {}).get("gpu_memory")
        return memory

    def knows(self, name: str) -> bool:
        """Whether a node has told what it found."""
        return name in self._found

    def of(self, name: str) -> tuple[float | None, float]:
        """MB of the node's own device, if any; its speed, 1.0 if unknown."""
        found = self._found.get(name, {})
        device, rate = found.get("device"), found.get("rate")
        alike = [x for x in self._rates if rate is not None and _are_alike(rate, x)]
        speed = round(alike[0] / self._rates[0], 2) if alike else 1.0
        owns = device is not None and self._owner.get(device) == name
        return found.get("gpu_memory") if owns else None, speed

    def forget(self, name: str) -> None:
        """A node is gone."""
        device = self._found.pop(name, {}).get("device")
        if device is not None and self._owner.get(device) == name:
            del self._owner[device]


def _are_alike(rate: float, other: float) -> bool:
    return max(rate, other) <= min(rate, other) * (1 + ALIKE)


def parted(nodes: Iterable[Node], memory: float) -> dict[str, float]:
    """What each of the nodes that share a device has of its memory [MB].

    What it declares, or an equal part of what the others leave; proportionally less
    where they declare more than there is.
    """
    declared = {node.name: node.capacity("gpu_memory") for node in nodes}
    given = sum(declared.values())
    rest = max(0.0, memory - given) / max(1, [*declared.values()].count(0))
    scale = min(1.0, memory / given) if given else 1.0
    return {name: mb * scale if mb else rest for name, mb in declared.items()}


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

"""From what workers say of themselves, and what a user declares, to Nodes. No IO."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from handout_dask.node import Cluster, Node
from handout_dask.traffic import Traffic


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """What a Dask worker says of itself."""

    name: str
    nthreads: int
    memory_limit: int | None  # bytes
    resources: Mapping[str, float]


def node_of(info: WorkerInfo, declared: Node | None = None) -> Node:
    """The node that a worker is: what it says, and over it what was declared.

    An undeclared worker has a core for each thread; a declared one has the cores that
    were declared, or is not limited by cores. Functions at once are never more than the
    worker has threads.
    """
    capabilities: dict[str, Any] = {}
    if info.memory_limit:
        capabilities["memory"] = info.memory_limit / 1e6
    capabilities.update(info.resources)
    if declared is None:
        cores = {"cpu": float(info.nthreads)}
        return Node(info.name, {**cores, **capabilities}, slots=info.nthreads)
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

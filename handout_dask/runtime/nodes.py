"""From what workers say of themselves, and what a user declares, to Nodes. No IO."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from handout_dask.node import Cluster, Node

LIVE_LATENCY = 2.0  # ms from one worker to another over loopback TCP, Dask 2026.8.0


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
    nodes: Iterable[Node], bandwidth: float, declared: Cluster | None = None
) -> Cluster:
    """The cluster of these live nodes.

    Parameters
    ----------
    nodes : iterable of Node
        In the order in which allocators shall see them; declared ones come first.
    bandwidth : float
        MB/s that were measured in the mean.
    declared : Cluster, optional
        Its order, links and billing are taken over for nodes that it knows.
    """
    listed = list(nodes)
    if declared is None:
        return Cluster(listed, bandwidth, LIVE_LATENCY)
    listed.sort(key=lambda node: declared.index.get(node.name, len(declared)))
    m = len(listed)
    known = [declared.index.get(node.name, -1) for node in listed]
    links = []
    for matrix, default in (
        (declared.bandwidth, bandwidth),
        (declared.latency, LIVE_LATENCY),
    ):
        full = np.full((m, m), float(default))
        for a, ja in enumerate(known):
            for b, jb in enumerate(known):
                if ja >= 0 and jb >= 0 and a != b:
                    full[a, b] = matrix[ja, jb]
        links.append(full)
    return Cluster(listed, *links, billing=declared.billing, quantum=declared.quantum)

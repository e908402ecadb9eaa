"""Node and Cluster: what nodes can do and cost, and the links between them. No Dask."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from handout_dask.costs import CUDA, UNITS, as_bool, parse_quantity
from handout_dask.errors import CostError
from handout_dask.shown import Shown

BILLINGS = ("function", "held")
TOLERANCE = 1e-10  # relative, for sums of demands against a capacity


@dataclass(frozen=True, slots=True)
class Node:
    """What one node offers.

    Parameters
    ----------
    name : str
        Unique in its cluster; a live worker is matched by it.
    capabilities : mapping
        ``cpu`` [cores], ``memory`` [MB], ``gpus`` [devices], ``gpu_memory`` [MB on each
        device], ``disk_io`` and ``network_io`` [MB/s], ``power`` [W], ``has_cuda``,
        and anything of the user's own: a number (consumable) or a bool. Absent means
        unlimited for cpu and memory, and absent for everything else.
    speed, gpu_speed : float
        Relative; a function of cpu_time t takes ``t / speed``.
    price : float
        Per hour.
    watts : float
        When busy.
    slots : int, optional
        Functions at once; default: floor of cpu, at least 1; 1 when cpu is absent.
    kind : str, optional
        Nodes of one kind share what is learned; default: by speed and capabilities.

    Raises
    ------
    CostError
        If a value makes no sense; the error names the node and the key.

    Examples
    --------
    >>> Node("n", {"cpu": 2.5, "memory": "8 GB"}).slots
    2
    """

    name: str
    capabilities: Mapping[str, Any] = field(default_factory=dict)
    speed: float = field(default=1.0, kw_only=True)
    gpu_speed: float = field(default=1.0, kw_only=True)
    price: float = field(default=0.0, kw_only=True)
    watts: float = field(default=0.0, kw_only=True)
    slots: int | None = field(default=None, kw_only=True)
    kind: str | None = field(default=None, kw_only=True)
    declared_slots: int | None = field(
        default=None, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        put = object.__setattr__
        if not isinstance(self.name, str) or not self.name:
            raise CostError(f"node name {self.name!r} must be a text")
        who = f"node {self.name!r}"
        if not isinstance(self.capabilities, Mapping):
            raise CostError(
                f"{who}: capabilities must be a mapping such as {{'cpu': 4}}, "
                f"not {self.capabilities!r}"
            )
        put(self, "capabilities", _parse_capabilities(who, self.capabilities))
        for what in ("speed", "gpu_speed", "price", "watts"):
            number = parse_quantity(who, what, getattr(self, what))
            if what.endswith("speed") and not number:
                raise CostError(f"{who}: {what} must be above 0")
            put(self, what, number)
        put(self, "declared_slots", self.slots)
        if self.slots is None:
            put(self, "slots", max(1, int(self.capabilities.get("cpu", 1))))
        whole = parse_quantity(who, "slots", self.slots)
        if whole < 1 or whole % 1:
            raise CostError(f"{who}: slots={self.slots!r} must be an integer above 0")
        put(self, "slots", int(whole))

    def capacity(self, resource: str) -> float:
        """How much of a resource the empty node has.

        Returns
        -------
        float
            inf for cpu and memory that are not declared, 0 for others; for
            ``gpu_memory`` MB on each device.
        """
        value = self.capabilities.get(resource)
        if resource == "slots":
            return float(self.slots or 1)
        if value is None:
            return math.inf if resource in ("cpu", "memory") else 0.0
        return float(value)

    def has(self, capability: str) -> bool:
        """Whether a capability is True or a number above 0."""
        return bool(self.capabilities.get(capability))


def _parse_capabilities(who: str, capabilities: Mapping[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in capabilities.items():
        if not isinstance(key, str) or not key:
            raise CostError(f"{who}: capability {key!r} must be a text")
        flag = None if key in UNITS else as_bool(value)
        out[key] = parse_quantity(who, key, value) if flag is None else flag
    if out.get(CUDA):
        out.setdefault("gpus", 1.0)
    if out.get("gpus", 0) % 1:
        raise CostError(f"{who}: gpus={out['gpus']} must be a whole number")
    return out


class Cluster(Shown):
    """Nodes and the links between them.

    Parameters
    ----------
    nodes : iterable of Node
        Names must differ.
    bandwidth : float or (m, m) array
        MB/s from one node to another; the diagonal is ignored.
    latency : float or (m, m) array
        ms from one node to another; the diagonal is ignored.
    billing : {"function", "held"}
        What is paid: each function's run time, or each node from first to last use.
    quantum : float
        Seconds to which a hold is rounded up.

    Raises
    ------
    CostError
        If a name is taken, or a number makes no sense.
    """

    def __init__(
        self,
        nodes: Iterable[Node],
        bandwidth: Any = 125.0,
        latency: Any = 0.5,
        *,
        billing: str = "function",
        quantum: float = 0.0,
    ) -> None:
        self.nodes = tuple(nodes)
        for node in self.nodes:
            if not isinstance(node, Node):
                raise CostError(f"a cluster holds Node objects, not {node!r}")
        self.index = {node.name: j for j, node in enumerate(self.nodes)}
        if len(self.index) < len(self.nodes):
            names = [node.name for node in self.nodes]
            twice = next(name for name in names if names.count(name) > 1)
            raise CostError(f"two nodes are named {twice!r}")
        m = len(self.nodes)
        self.bandwidth = _square("bandwidth", bandwidth, m)  # (m, m) [MB/s]
        self.latency = _square("latency", latency, m)  # (m, m) [ms]
        if m and not (self.bandwidth[~np.eye(m, dtype=bool)] > 0).all():
            raise CostError("bandwidth must be above 0 between every two nodes")
        if billing not in BILLINGS:
            raise CostError(f"billing {billing!r} must be one of {BILLINGS}")
        self.billing = billing
        self.quantum = parse_quantity("billing", "quantum", quantum)

    def __getitem__(self, name: str) -> Node:
        return self.nodes[self.index[name]]

    def with_nodes(self, nodes: Iterable[Node]) -> Cluster:
        """The same with these nodes; a new one's links are as the others' median.

        Without any to go by they are as by default.
        """
        listed = list(nodes)
        known = [self.index.get(node.name) for node in listed]
        pairs = [(a, b) for a in range(len(listed)) for b in range(len(listed))]
        links = []
        for old, default in ((self.bandwidth, 125.0), (self.latency, 0.5)):
            off = old[~np.eye(len(self), dtype=bool)]
            new = np.full((len(listed),) * 2, np.median(off) if off.size else default)
            for a, b in pairs:
                i, j = known[a], known[b]
                if i is not None and j is not None and i != j:
                    new[a, b] = old[i, j]
            links.append(new)
        return Cluster(listed, *links, billing=self.billing, quantum=self.quantum)

    def __len__(self) -> int:
        return len(self.nodes)

    def __repr__(self) -> str:
        return f"<Cluster of {len(self)} nodes>"


def _square(what: str, value: Any, m: int) -> np.ndarray:
    try:
        array = np.array(value, dtype=float)
    except (TypeError, ValueError):
        raise CostError(f"{what} must be a number or a matrix, not {value!r}") from None
    if array.ndim == 0:
        array = np.full((m, m), parse_quantity("network", what, float(array)))
    if array.shape != (m, m):
        raise CostError(f"{what} has shape {array.shape}; there are {m} nodes")
    off = array[~np.eye(m, dtype=bool)]
    if not (np.isfinite(off) & (off >= 0)).all():
        raise CostError(f"{what} must be finite and not negative")
    return array

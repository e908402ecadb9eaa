"""Roster: the nodes of a live scheduler by name, and what executors declare of them.

Is told of workers that come and go; touches no internals of the scheduler.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from handout_dask.costs import CUDA
from handout_dask.holding import Holding
from handout_dask.node import Cluster, Node
from handout_dask.runtime.nodes import (
    Finds,
    WorkerInfo,
    cluster_of,
    node_of,
    parted,
)
from handout_dask.traffic import Traffic


class Roster:
    """Names, addresses and declarations of nodes.

    Attributes
    ----------
    address : dict
        Addresses of workers by name of node; only of those that are there.
    names : dict
        The reverse.
    down : dict
        Since when [s] each lost node is gone.
    why : dict
        Why a lost node can't be started, where that is known.
    final : set of str
        Of lost nodes, those that nobody will start again.
    traffic : Traffic
        What is known of the links.
    holding : Holding
        The nodes that are started and ended by plan.
    finds : Finds
        What workers found on their hosts; counts where nobody declares a node.
    """

    def __init__(self, traffic: Traffic) -> None:
        self.traffic = traffic
        self.address: dict[str, str] = {}
        self.names: dict[str, str] = {}
        self.down: dict[str, float] = {}
        self.why: dict[str, str] = {}
        self.final: set[str] = set()
        self.holding = Holding()
        self.finds = Finds()
        self._nodes: dict[str, Node] = {}
        self._declared: dict[str, Cluster | None] = {}  # by executor

    def declare(self, owner: str, cluster: Cluster | None) -> None:
        """An executor says what its nodes and links are."""
        self._declared[owner] = cluster
        if cluster is not None:
            self.traffic.declare(cluster)

    def withdraw(self, owner: str) -> bool:
        """An executor has left; whether it had declared anything."""
        withdrawn = self._declared.pop(owner, None)
        if withdrawn is not None:
            self.traffic.declared.clear()
            for cluster in self._declared.values():
                if cluster is not None:
                    self.traffic.declare(cluster)
        return withdrawn is not None

    def add(self, ws: Any) -> Node:
        """A worker is there: its node is up, under the name that it had before."""
        name = str(ws.name)
        self.address[name] = ws.address
        self.names[ws.address] = name
        self.down.pop(name, None)
        if name in self.final:
            self.final.discard(name)
            self.why.pop(name, None)
        info = WorkerInfo(
            name, ws.nthreads, ws.memory_limit, dict(ws.resources), *self.finds.of(name)
        )
        node = self._nodes[name] = self._fitted(node_of(info, self.declared(name)))
        return node

    def sharing(self, name: str) -> list[str]:
        """Nodes with CUDA, by declaration, that are there and use one device."""
        mates = [n for n in self.finds.sharing(name) if n in self.address]
        declared = {n: self.declared(n) for n in mates}
        return [n for n, node in declared.items() if node and node.has(CUDA)]

    def is_undeclared(self, name: str) -> bool:
        """Whether what a node has depends on what is found there."""
        node = self.declared(name)
        return node is None or (node.has(CUDA) and not node.capacity("gpu_memory"))

    def _fitted(self, node: Node) -> Node:
        """A node with its part of its device, if it is declared to have CUDA."""
        sharing, memory = self.sharing(node.name), self.finds.device_memory(node.name)
        if node.name not in sharing or memory is None:
            return node
        known = [self.declared(name) for name in sharing]
        part = parted([n for n in known if n is not None], memory)[node.name]
        return replace(node, capabilities={**node.capabilities, "gpu_memory": part})

    def declared(self, name: str) -> Node | None:
        """What all executors declare of a node; None if none does."""
        known = [
            cluster[name]
            for cluster in self._declared.values()
            if cluster is not None and name in cluster.index
        ]
        return _joint(known)

    def order(self, owner: str) -> list[str]:
        """Names of nodes that are there, and of those of an executor that are away.

        As that executor declares them, then as others do, then as they came.
        """
        declared = [self._declared.get(owner), *self._declared.values()]
        names: dict[str, None] = {}
        for cluster in declared:
            names |= dict.fromkeys(cluster.index if cluster is not None else ())
        away = {node.name for node in self.holding.away(owner)}
        names |= dict.fromkeys([*self.address, *sorted(away)])
        return [name for name in names if name in self.address or name in away]

    def expect(self, cluster: Cluster) -> None:
        """These are not there, or not yet, and are so when they are."""
        for node in cluster.nodes:
            self._nodes.setdefault(node.name, node)

    def node(self, name: str) -> Node:
        """A node that is there, was there, or is expected."""
        return self._nodes[name]

    def lose(self, name: str, now: float, why: str) -> None:
        """A node that was expected does not come."""
        self.down[name], self.why[name] = now, why

    def remove(self, address: str, now: float) -> str | None:
        """A worker is gone; the name of its node, if that is gone with it."""
        name = self.names.pop(address, None)
        if name is None or self.address.get(name) != address:
            return None
        del self.address[name]
        self.finds.forget(name)
        self.down[name] = now
        if name not in self.final:
            self.why.pop(name, None)
        return name

    def cluster(
        self,
        owner: str,
        names: Iterable[str] | None = None,
        seen: Callable[[Node], Node] = lambda node: node,
        *,
        away: bool = False,
    ) -> Cluster:
        """The nodes that are there as an executor shall see them.

        Parameters
        ----------
        owner : str
            The executor, whose order and billing count.
        names : iterable of str, optional
            Only these.
        seen : callable
            What a node is to be taken for, such as one that is slower at the moment.
        away : bool
            Whether to add its nodes that are not there, but will be when needed.
        """
        wanted = dict.fromkeys(self.address if names is None else names)
        if away:
            wanted |= dict.fromkeys(node.name for node in self.holding.away(owner))
        listed = [seen(self._nodes[name]) for name in wanted]
        return cluster_of(listed, self.traffic, self._declared.get(owner))


def _joint(known: list[Node]) -> Node | None:
    """What several executors declare of one node: all of it; the last one's counts."""
    if len(known) < 2:
        return known[0] if known else None
    last = known[-1]
    capabilities: dict[str, Any] = {}
    for node in known:
        capabilities.update(node.capabilities)
    return Node(
        last.name, capabilities, speed=last.speed, gpu_speed=last.gpu_speed,
        price=last.price, watts=last.watts, slots=last.declared_slots, kind=last.kind,
    )  # fmt: skip

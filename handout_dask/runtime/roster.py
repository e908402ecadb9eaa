"""Roster: the nodes of a live scheduler by name, and what executors declare of them.

Is told of workers that come and go; touches no internals of the scheduler.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from handout_dask.node import Cluster, Node
from handout_dask.runtime.nodes import WorkerInfo, cluster_of, node_of
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
    traffic : Traffic
        What is known of the links.
    """

    def __init__(self, traffic: Traffic) -> None:
        self.traffic = traffic
        self.address: dict[str, str] = {}
        self.names: dict[str, str] = {}
        self.down: dict[str, float] = {}
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
        known = [
            cluster[name]
            for cluster in self._declared.values()
            if cluster is not None and name in cluster.index
        ]
        info = WorkerInfo(name, ws.nthreads, ws.memory_limit, dict(ws.resources))
        node = self._nodes[name] = node_of(info, known[-1] if known else None)
        return node

    def remove(self, address: str, now: float) -> str | None:
        """A worker is gone; the name of its node, if that is gone with it."""
        name = self.names.pop(address, None)
        if name is None or self.address.get(name) != address:
            return None
        del self.address[name]
        self.down[name] = now
        return name

    def cluster(
        self,
        owner: str,
        names: Iterable[str] | None = None,
        seen: Callable[[Node], Node] = lambda node: node,
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
        """
        listed = [
            seen(self._nodes[n]) for n in (self.address if names is None else names)
        ]
        return cluster_of(listed, self.traffic, self._declared.get(owner))

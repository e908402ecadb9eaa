"""Supervisor: starts the embedded nodes as a Dask cluster on loopback; ends them."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from typing import Any

import dask
from distributed import LocalCluster, Nanny, Scheduler, SpecCluster
from distributed.system import MEMORY_LIMIT

from handout_dask.node import Node

HOST = "127.0.0.1"
# A worker that asks a dead one for data goes on trying for this long, with the tasks
# that it shall compute meanwhile waiting behind; Dask's own 30 s are for networks.
CONFIG = {"distributed": {"comm": {"timeouts": {"connect": "5s"}}}}
BASE_MEMORY = 250_000_000  # bytes that an empty worker process needs for itself


class _Nodes(SpecCluster):
    """A cluster that does not give a node up when it is lost for a while."""

    def _update_worker_status(self, op: str, msg: Any) -> None:
        # SpecCluster's own ends the nanny of a worker that is away some time after a
        # loss, though the nanny may be starting it just then (2026.8.0).
        if op == "remove":
            super(SpecCluster, self)._update_worker_status(op, msg)
        else:
            super()._update_worker_status(op, msg)


class Supervisor:
    """A Dask cluster of declared nodes on this host, one worker process for each.

    Parameters
    ----------
    nodes : sequence of Node, optional
        What to start; without, as many workers as Dask's LocalCluster would.
    security : distributed.Security, optional
        As for any Dask cluster.
    asynchronous : bool
        Whether it is awaited in a running event loop.
    first : collection of str, optional
        Names of the nodes to start at once; the others are started when they are added
        to the cluster's ``worker_spec``. Default: all.

    Attributes
    ----------
    specs : dict
        How each declared node is started, by name.
    cluster : distributed.deploy.cluster.Cluster
        The running cluster. Its dashboard is on 127.0.0.1 and a free port.

    Notes
    -----
    A worker's memory limit is what its node declares, and 250 MB for the process
    itself, but no more than its fair share of the host. Speed and capabilities are
    declarations: they are planned with and counted, not emulated.
    """

    def __init__(
        self,
        nodes: Sequence[Node] | None = None,
        *,
        security: Any = None,
        asynchronous: bool = False,
        first: Collection[str] | None = None,
    ) -> None:
        self.specs: dict[str, dict[str, Any]] = {}
        common = {
            "asynchronous": asynchronous,
            "security": security,
            "silence_logs": logging.WARN,
        }
        if nodes is None:
            self.cluster = LocalCluster(
                host=HOST, dashboard_address=f"{HOST}:0", **common
            )
        else:
            scheduler = {
                "cls": Scheduler,
                "options": {
                    "host": HOST,
                    "port": 0,
                    "dashboard": True,
                    "dashboard_address": f"{HOST}:0",
                    "security": security,
                },
            }
            share = MEMORY_LIMIT // max(1, len(nodes))
            self.specs = {
                node.name: {"cls": Nanny, "options": _options(node, share, security)}
                for node in nodes
            }
            workers = {
                name: spec
                for name, spec in self.specs.items()
                if first is None or name in first
            }
            self.cluster = _Nodes(
                workers=workers, scheduler=scheduler, name="handout", **common
            )

    def close(self) -> Any:
        """End every node; awaitable if asynchronous."""
        return self.cluster.close()

    def __repr__(self) -> str:
        return f"<Supervisor of {self.cluster!r}>"


def _options(node: Node, share: int, security: Any) -> dict[str, Any]:
    limit = share
    if "memory" in node.capabilities:
        limit = min(share, int(node.capacity("memory") * 1e6) + BASE_MEMORY)
    return {
        "host": HOST,
        "nthreads": node.slots,
        "memory_limit": limit,
        "security": security,
        "dashboard": False,
        "config": dask.config.merge(dask.config.config, CONFIG),
        "silence_logs": logging.WARN,
    }

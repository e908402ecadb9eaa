"""Launching: how nodes and the scheduler are started, as Dask's SpecCluster has it."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import dask
from distributed.deploy.utils import nprocesses_nthreads
from distributed.system import MEMORY_LIMIT

from handout_dask.errors import HandoutError
from handout_dask.node import Node
from handout_dask.runtime.cuda import environments
from handout_dask.runtime.isolated import SCHEDULER, NodeProcess, SchedulerProcess
from handout_dask.runtime.janitor import Scratch
from handout_dask.runtime.securing import security_of
from handout_dask.runtime.supervised import EmbeddedNode, SupervisedScheduler
from handout_dask.runtime.ward import Ward

HOST = "127.0.0.1"
# A worker that asks a dead one for data goes on trying for this long, with the tasks
# that it shall compute meanwhile waiting behind; Dask's own 30 s are for networks.
CONFIG = {"distributed": {"comm": {"timeouts": {"connect": "5s"}}}}
BASE_MEMORY = 250_000_000  # bytes that an empty worker process needs for itself
Commands = Sequence[str] | Mapping[str, Sequence[str]]
Texts = str | Mapping[str, str]


class Launch:
    """What all nodes of one supervisor have in common.

    Parameters
    ----------
    ward : Ward
        Asked and told by the nodes.
    scratch : Scratch
        Of this process.
    security, isolated, command, python, host
        As of Supervisor.
    """

    def __init__(
        self,
        ward: Ward,
        scratch: Scratch,
        security: Any,
        isolated: bool,
        command: Commands,
        python: Texts,
        host: Texts,
    ) -> None:
        self._ward, self._scratch = ward, scratch
        self.security = security_of(security)
        self._isolated, self._command = isolated, command
        self._python, self._host = python, host

    def node(self, node: Node, count: int) -> dict[str, Any]:
        """How a node is started, one of so many."""
        limit = MEMORY_LIMIT // max(1, count)
        if "memory" in node.capabilities:
            limit = min(limit, int(node.capacity("memory") * 1e6) + BASE_MEMORY)
        return self._spec(node.slots or 1, limit, (node.name, node.kind))

    def environments(self, nodes: Sequence[Node]) -> dict[str, dict[str, str]]:
        """What nodes need in their environment, by name: their GPU of this host."""
        here = [n for n in nodes if not self._has_command((n.name, n.kind))]
        return environments(here)

    def any_node(self) -> tuple[dict[str, Any], int]:
        """How nodes are started that nobody declares, and how many; as LocalCluster."""
        count, threads = nprocesses_nthreads()
        return self._spec(threads, MEMORY_LIMIT // count, ()), count

    def _spec(
        self, threads: int, limit: int, names: Collection[str | None]
    ) -> dict[str, Any]:
        options = {
            "host": _chosen(self._host, names, HOST),
            "nthreads": threads,
            "memory_limit": limit,
            "security": self.security,
            "dashboard": False,
            "config": dask.config.merge(dask.config.config, CONFIG),
            "silence_logs": logging.WARN,
            "ward": self._ward,
            "scratch": self._scratch,
        }
        if not self._isolated:
            return {"cls": EmbeddedNode, "options": options}
        return {"cls": NodeProcess, "options": options | self._process(names)}

    def scheduler(self) -> dict[str, Any]:
        """How the scheduler is started."""
        host = _chosen(self._host, [SCHEDULER], HOST)
        options = {
            "host": host,
            "port": 0,
            "dashboard": True,
            "dashboard_address": f"{host}:0",
            "security": self.security,
        }
        if not self._isolated:
            options["scratch"] = self._scratch
            return {"cls": SupervisedScheduler, "options": options}
        more = {"ward": self._ward, "scratch": self._scratch}
        more |= self._process([SCHEDULER])
        return {"cls": SchedulerProcess, "options": options | more}

    def _has_command(self, names: Collection[str | None]) -> bool:
        return bool(_chosen(self._command, names, ()))

    def _process(self, names: Collection[str | None]) -> dict[str, Any]:
        """How a process of its own is started."""
        command = _chosen(self._command, names, ())
        if isinstance(command, str):
            raise HandoutError(
                f"command={command!r} must be a sequence of texts, such as "
                f"{tuple(command.split())!r}"
            )
        return {
            "command": tuple(command),
            "python": _chosen(self._python, names, sys.executable),
            "base": None if command else base_folder(),
        }


def _chosen(given: Any, names: Collection[str | None], default: Any) -> Any:
    """What a user gave for all, or by name or kind."""
    if not isinstance(given, Mapping):
        return given
    return next((given[name] for name in names if name in given), default)


def base_folder() -> str | None:
    """Where Dask is told to write, if it is."""
    base = dask.config.get("temporary-directory", None)
    return None if base is None else os.path.abspath(os.path.expanduser(base))

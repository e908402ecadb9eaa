"""Supervisor: starts nodes as a Dask cluster, keeps them up, and ends them."""

from __future__ import annotations

import logging
import sys
import weakref
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Self

from handout_dask.errors import HandoutError, SupervisorError
from handout_dask.node import Cluster, Node
from handout_dask.restarts import RESTARTING, UP, RestartPolicy, policies_of
from handout_dask.runtime.adopting import Adopted
from handout_dask.runtime.isolated import SCHEDULER
from handout_dask.runtime.janitor import Scratch
from handout_dask.runtime.launching import HOST, Commands, Launch, Texts, base_folder
from handout_dask.runtime.node_cluster import NodeCluster
from handout_dask.runtime.submission import declared_cluster
from handout_dask.runtime.ward import Ward


class Supervisor:
    """A Dask cluster of declared nodes, one worker process for each, that is kept up.

    A node that ends without being asked to is started again under its name, and the
    others are left alone. One that ends too often is given up, with the reason.

    Parameters
    ----------
    nodes : iterable of Node, Cluster, or path of a NODES file, optional
        What to start; without, as many workers as Dask's LocalCluster would.
    restart : RestartPolicy, or dict of them by node, optional
        When a node is started again, and when it is given up; default: three restarts
        within a minute are allowed.
    security : bool or distributed.Security, optional
        Encrypts connections; True makes credentials for this cluster alone.
    asynchronous : bool
        Whether it is awaited in a running event loop.
    isolated : bool
        Whether each node's nanny, and the scheduler, have processes of their own; then
        they too are started again when they die. If not, they are part of this process,
        which starts sooner.
    command : sequence of str, or dict of them, optional
        What isolated nodes are started by, such as ``("ssh", "host")`` or ``("ip",
        "netns", "exec", "w1")``; in a dict by name or kind of node, or "scheduler". The
        node's process ends with its standard input.
    python : str, or dict, optional
        The interpreter that is started so; by name or kind as well.
    host : str, or dict, optional
        The address at which each listens; by name or kind, or "scheduler" as well.
        Default: 127.0.0.1.
    first : collection of str, optional
        Names of the nodes to start at once; the others are started when they are added
        to the cluster's ``worker_spec``. Default: all.

    Attributes
    ----------
    cluster : distributed.SpecCluster
        The running cluster. Its dashboard is on a free port of the scheduler's host.
    specs : dict
        How each declared node is started, by name.
    declared : Cluster or None
        What the nodes are.

    Raises
    ------
    SupervisorError
        If a node can't be started.

    Notes
    -----
    A worker's memory limit is what its node declares, and 250 MB for the process
    itself, but no more than its fair share of the host. Speed and capabilities are
    declarations: they are planned with and counted, not emulated. Where this process
    may use GPUs, nodes with CUDA see one each, in turn, and the others none.

    Nodes end in the reverse order of their start, and the scheduler last. However this
    process ends, nodes and their temporary files end with it: their folder is removed
    by a small process that outlives this one.
    """

    def __init__(
        self,
        nodes: Any = None,
        *,
        restart: RestartPolicy | Mapping[str, RestartPolicy] | None = None,
        security: Any = None,
        asynchronous: bool = False,
        isolated: bool = False,
        command: Commands = (),
        python: Texts = sys.executable,
        host: Texts = HOST,
        first: Collection[str] | None = None,
    ) -> None:
        self.declared: Cluster | None = declared_cluster(nodes)
        self._isolated = isolated
        if command and not isolated:
            raise HandoutError("command needs isolated=True: it starts processes")
        names = [node.name for node in self._nodes]
        for name in names:
            self._check_name(name)
        policies = policies_of(restart, names)
        whole = restart if isinstance(restart, RestartPolicy) else RestartPolicy()
        self._ward = Ward(whole)
        if isolated:
            self._ward.restarts.add(SCHEDULER, whole)
        for name, policy in policies.items():
            self._ward.restarts.add(name, policy)
        self._joined: weakref.WeakSet[Any] = weakref.WeakSet()
        scratch = Scratch(base_folder())
        try:
            self._launch = Launch(
                self._ward, scratch, security, isolated, command, python, host
            )
            self._start(scratch, asynchronous, first)
        except BaseException as error:
            scratch.close()
            if isinstance(error, HandoutError) or not isinstance(error, Exception):
                raise
            raise SupervisorError(f"nodes can't be started: {_first(error)}") from error

    @property
    def _nodes(self) -> Sequence[Node]:
        return self.declared.nodes if self.declared is not None else ()

    def _start(
        self, scratch: Scratch, asynchronous: bool, first: Collection[str] | None
    ) -> None:
        launch = self._launch
        specs: dict[Any, dict[str, Any]] = {}
        more: dict[str, Any] | None = None
        if self.declared is None:
            more, count = launch.any_node()
            specs = dict.fromkeys(range(count), more)
        for node in self._nodes:
            specs[node.name] = launch.node(node, len(self._nodes))
        for name, environment in launch.environments(self._nodes).items():
            specs[name]["options"]["env"] = environment
        self.specs = {str(key): spec for key, spec in specs.items()}
        workers = {k: x for k, x in specs.items() if first is None or k in first}
        self.cluster = NodeCluster(
            self._ward, scratch, self.specs,
            workers=workers, worker=more, scheduler=launch.scheduler(), name="handout",
            asynchronous=asynchronous, security=launch.security,
            silence_logs=logging.WARN,
        )  # fmt: skip

    def _check_name(self, name: str) -> None:
        if self._isolated and name == SCHEDULER:
            raise HandoutError(f"a node can't be named {SCHEDULER!r} if isolated")

    # -------------------------------------------------------------------- reading
    @property
    def error(self) -> SupervisorError | None:
        """Why everything was given up; None if it was not."""
        return self.cluster.error

    @property
    def security(self) -> Any:
        """What encrypts connections, as Dask takes it; None if nothing does."""
        return self._launch.security

    def joined(self, connection: Any) -> None:
        """An executor uses this cluster; it learns of nodes that are declared later."""
        self._joined.add(connection)

    def children(self) -> list[dict[str, Any]]:
        """What is supervised, in the order in which it is started.

        Returns
        -------
        list of dict
            ``name``; ``kind`` of restart; ``pid`` of its process, None if it has none
            (a node's worker; if isolated, its nanny, or what starts it); ``state``,
            "up", "restarting", "ended", "given up" or "absent" (it was not needed yet);
            ``restarts`` so far; ``last``, its last Exit or None.
        """
        rows = []
        workers = {str(key): worker for key, worker in self.cluster.workers.items()}
        for name, child in self._ward.restarts.children.items():
            server = self.cluster.scheduler if name == SCHEDULER else workers.get(name)
            is_absent = server is None and child.last is None
            rows.append(
                {
                    "name": name,
                    "kind": child.policy.kind,
                    "pid": server.pid if server is not None else None,
                    "state": "absent" if is_absent else child.state,
                    "restarts": child.restarts,
                    "last": child.last,
                }
            )
        return rows

    @property
    def due(self) -> set[str]:
        """Nodes that run, or will again."""
        children = self._ward.restarts.children.copy()
        states = {name: child.state for name, child in children.items()}
        return {n for n, x in states.items() if x in (UP, RESTARTING)} - {SCHEDULER}

    # ------------------------------------------------------------------- changing
    def add(self, node: Node, restart: RestartPolicy | None = None) -> Any:
        """Start another node; awaitable if asynchronous.

        Parameters
        ----------
        node : Node
            Its name must be new, or that of a node that was removed.
        restart : RestartPolicy, optional
            For it; default: as for all.
        """
        return self.cluster.sync(self._add, node, restart)

    def remove(self, name: str) -> Any:
        """End a node, with its results brought elsewhere if there is room.

        It is not started again; awaitable if asynchronous.
        """
        return self.cluster.sync(self._remove, name)

    def replace(self, name: str, node: Node) -> Any:
        """Put a node in the place of another one, which may be gone, or given up.

        The new one is started first, so that results can be brought there; but where
        both bear one name the old one ends first. Awaitable if asynchronous.
        """
        return self.cluster.sync(self._replace, name, node)

    async def _add(self, node: Node, restart: RestartPolicy | None) -> None:
        if not isinstance(node, Node):
            raise HandoutError(f"a supervisor starts Nodes, not {node!r}")
        if self.declared is None:
            raise HandoutError(
                "nodes were not declared; use cluster.scale, or declare them"
            )
        if node.name in self.specs:
            raise HandoutError(f"there is a node {node.name!r} already; replace it")
        self._check_name(node.name)
        self._declare([*self._nodes, node])
        self._ward.restarts.add(node.name, restart or self._ward.policy)
        spec = self._launch.node(node, len(self._nodes))
        environment = self._launch.environments(self._nodes).get(node.name, {})
        spec["options"]["env"] = environment
        self.specs[node.name] = spec
        self.cluster.worker_spec[node.name] = spec
        await self._tell()
        try:
            await self.cluster.open(node.name)
        except Exception as error:
            if self.specs.get(node.name) is spec:  # else it was removed meanwhile
                self._drop(node.name)
            raise SupervisorError(
                f"node {node.name!r} can't be started: {_first(error)}"
            ) from error

    async def _remove(self, name: str) -> None:
        self._check(name)
        self._drop(name)
        await self.cluster.retire(name)
        await self._tell()

    async def _replace(self, name: str, node: Node) -> None:
        self._check(name)
        if not isinstance(node, Node):
            raise HandoutError(f"a supervisor starts Nodes, not {node!r}")
        policy = self._ward.restarts.children[name].policy
        if node.name == name:
            await self._remove(name)
            await self._add(node, policy)
        else:
            await self._add(node, policy)
            await self._remove(name)

    def _check(self, name: str) -> None:
        if name not in self.specs or self.declared is None:
            known = ", ".join([*self.specs][:5]) or "none"
            raise HandoutError(f"no node {name!r} was declared; there are {known}")

    def _drop(self, name: str) -> None:
        del self.specs[name]
        self._ward.restarts.remove(name)
        self.cluster.worker_spec.pop(name, None)
        self._declare([node for node in self._nodes if node.name != name])

    def _declare(self, nodes: Sequence[Node]) -> None:
        """Other nodes are declared; links of new ones are as the others' best."""
        old = self.declared
        assert old is not None
        self.declared = old.with_nodes(nodes)

    async def _tell(self) -> None:
        """Executors on this cluster learn what is declared now."""
        for connection in list(self._joined):
            await connection.redeclare(self.declared)

    # ------------------------------------------------------------------- adopting
    @staticmethod
    def adopt(
        cluster: Any, restart: RestartPolicy | None = None, patience: float = 15.0
    ) -> Adopted:
        """Watch a cluster that was started elsewhere, which is left as it is.

        Parameters
        ----------
        cluster : Dask cluster, address, or Client
            Such as of SSHCluster, or of dask-jobqueue or dask-kubernetes.
        restart : RestartPolicy, optional
            When the cluster is asked to bring back a worker that is gone, if its class
            can do that: by ``scale``, or, if it is a SpecCluster, by what it specifies.
            Default: never; `children` tells what is gone, and why.
        patience : float
            Seconds that a worker has to come back by itself, as by its nanny.

        Returns
        -------
        Adopted
            Has `children` and `close`; to be given to an Executor, as the cluster is.
        """
        return Adopted(cluster, restart, patience)

    # -------------------------------------------------------------------- closing
    def close(self) -> Any:
        """End every node; awaitable if asynchronous."""
        return self.cluster.close()

    def __enter__(self) -> Self:
        if self.cluster.asynchronous:
            raise HandoutError("an asynchronous Supervisor needs 'async with'")
        return self

    def __exit__(self, *args: Any) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        await self.cluster
        return self

    async def __aexit__(self, *args: Any) -> None:
        await self.cluster.close()

    def __await__(self) -> Any:
        return self.__aenter__().__await__()

    def __repr__(self) -> str:
        return f"<Supervisor of {self.cluster!r}>"


def _first(error: BaseException) -> str:
    """What was wrong at first; Dask says only that it failed."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {error}"

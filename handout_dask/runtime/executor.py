"""Executor: plans a graph on a Dask cluster's nodes and runs it there by the plan."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import Hashable
from dataclasses import replace
from typing import Any

from distributed.protocol import pickle

from handout_dask.accounts import resource_rows
from handout_dask.allocators import get_allocator
from handout_dask.allocators.effort import Effort
from handout_dask.errors import AllocationError, HandoutError
from handout_dask.explanation import Explanation, explain
from handout_dask.graph import Graph
from handout_dask.node import Cluster
from handout_dask.plans import allocate
from handout_dask.retry import RetryPolicy
from handout_dask.runtime.archive import Archive
from handout_dask.runtime.run import Run
from handout_dask.runtime.submission import (
    Turn,
    check_settings,
    declared_cluster,
    pickle_tracker,
)
from handout_dask.runtime.submitter import Submitter, offload
from handout_dask.scaling import Elastic
from handout_dask.tracker import ResourceTracker


class Executor(Submitter):
    """Runs graphs on a Dask cluster, where and when an allocator's plan says.

    Parameters
    ----------
    cluster : None, str, Client or Dask cluster
        None starts an embedded cluster on this host; otherwise an address, a Client or
        any cluster object. What the executor did not start it leaves as it was found.
    nodes : iterable of Node, Cluster, or path of a NODES file, optional
        What to start, or, on a cluster that exists, speeds, prices and capabilities
        that its workers don't tell, matched by worker name.
    allocator : str or Allocator
        Who decides.
    tracker : ResourceTracker, optional
        Asked besides the executor's own books before a function is sent; acts on the
        scheduler, so it is pickled to it.
    retry : RetryPolicy, optional
        For functions without their own.
    on_failure : {"finish", "stop", "ignore"}
        After a failure: finish what is independent, stop everything, or finish and let
        `execute` not raise.
    max_concurrency : int, optional
        Functions of one run at once.
    security : distributed.Security, optional
        For the connection to the cluster.
    adaptive : bool
        Whether what has not started is planned again when reality differs from the
        plan, and functions that are ready may go ahead of late ones. If not, each
        function runs on its planned node, in the planned order, unless that node is
        lost.
    seed : int, optional
        Of allocators that draw random numbers, in place of their own.
    asynchronous : bool
        As for Dask's Client: use ``async with``, and await what takes time.
    elastic : bool or Elastic
        Whether declared nodes that no plan needs are ended, with their results brought
        elsewhere, and started in time when one does; at first the cheapest node runs.
    speculative : bool
        Whether a function that runs late, on a node that is slower than believed, may
        begin anew on another one. The first attempt goes on unheard, so functions have
        to bear that two of them run at once.
    enforce_memory : bool
        Whether functions that declare `memory` run in processes of their own on their
        nodes, and end with ResourceExhaustedError if they take more; what they read is
        not counted, and what they start neither. Costs milliseconds for each, and the
        time in which its inputs and its result are copied. Dask's `get_worker`,
        `get_client`, `worker_client` and `secede` don't work there, nor what needs
        them.

    history : None, str, path or History, optional
        Where what functions took is kept across runs: a file, or any URL that fsspec
        knows; others may use it at the same time. None forgets it with the executor.

    Examples
    --------
    >>> from handout_dask import Executor, Function, Graph
    >>> graph = Graph([Function("a", [], int), Function("b", ["a"], lambda a: a + 1)])
    >>> with Executor() as executor:  # doctest: +SKIP
    ...     executor.execute(graph)["b"]
    1
    """

    def __init__(
        self,
        cluster: Any = None,
        *,
        nodes: Any = None,
        allocator: Any = "time",
        tracker: ResourceTracker | None = None,
        retry: RetryPolicy | None = None,
        on_failure: str = "finish",
        max_concurrency: int | None = None,
        security: Any = None,
        adaptive: bool = True,
        seed: int | None = None,
        asynchronous: bool = False,
        elastic: bool | Elastic = False,
        speculative: bool = False,
        enforce_memory: bool = False,
        history: Any = None,
    ) -> None:
        check_settings(on_failure, max_concurrency, retry)
        self.allocator = get_allocator(allocator)
        self._named = allocator if isinstance(allocator, str) else self.allocator
        if seed is not None and isinstance(self.allocator, Effort):
            self._named = self.allocator = replace(self.allocator, seed=seed)
        self.retry, self.on_failure = retry, on_failure
        self.max_concurrency, self.adaptive = max_concurrency, bool(adaptive)
        self.speculative, self.enforce_memory = bool(speculative), bool(enforce_memory)
        self._tracker = pickle_tracker(tracker)
        self._early: dict[str, list[dict[str, Any]]] = {}  # by token
        self._archive = Archive(history)
        self.history = self._archive.history
        self._runs: weakref.WeakValueDictionary[str, Run] = (
            weakref.WeakValueDictionary()
        )
        self._lock = asyncio.Lock()
        super().__init__(
            cluster, declared_cluster(nodes), security, asynchronous,
            Elastic.of(elastic),
        )  # fmt: skip

    async def _cancel_all(self) -> None:
        for run in list(self._runs.values()):
            if not run.detached:
                await run._cancel()

    def __repr__(self) -> str:
        return f"<Executor {self.id} by {self.allocator!r} on {self.where}>"

    # ------------------------------------------------------------------------ work
    def nodes(self) -> Any:
        """The cluster's nodes that are up now, as a Cluster."""
        return self._do(self._cluster)

    def resources(self) -> Any:
        """What nodes have, what all runs claim of it, and what is used.

        Returns
        -------
        list of dict
            ``node``, ``resource``, ``capacity`` (inf is unlimited), ``claimed``,
            ``free``, ``observed`` (None: not measured), ``usable`` (what other
            processes leave of the capacity; None: all), and ``holders``: who claims it,
            as dicts of ``run``, ``graph``, ``function`` and ``amount``. Nodes stand in
            declared order, or as they came; resources are sorted.
        """
        return self._do(self._resources)

    def usage(self) -> Any:
        """What nodes use, as measured with the last heartbeats of their workers.

        Returns
        -------
        dict of dict
            By node: ``cpu`` [cores] and ``memory`` [MB] of the worker and the processes
            that it started (workers of one process share evenly); of its host
            ``disk_io`` and ``network_io`` [MB/s], ``host_cores``, ``host_cpu`` [busy
            cores], ``host_memory`` and ``host_memory_available`` [MB]; with a GPU
            ``gpus`` (part of the time that it is busy) and ``gpu_memory`` [MB in use].
        """
        return self._do(self._usage)

    def plan(self, graph: Graph) -> Any:
        """The plan by which the graph would run now.

        Raises
        ------
        UnsatisfiableError
            If a function can run nowhere.
        """
        return self._do(self._plan, graph)

    def explain(self, graph: Graph, id: Hashable) -> Any:
        """Where a function of the graph can run, and why not elsewhere.

        Returns
        -------
        Explanation
            As data; its text is for people.
        """
        return self._do(self._explain, graph, id)

    def submit(
        self,
        graph: Graph,
        keep: Any = "all",
        detached: bool = False,
        *,
        priority: int = 0,
        weight: float = 1.0,
    ) -> Any:
        """Plan and start a graph; returns the Run at once.

        Parameters
        ----------
        graph : Graph
            Never changed.
        keep : {"all", "sinks"} or iterable of ids
            Which results outlive their consumers.
        detached : bool
            Whether the run goes on, and keeps its results, when this executor and its
            client are gone, until a run that `attach` gives is released.
        priority : int
            Of runs that compete for a node those of higher priority go first.
        weight : float
            Runs of equal priority share nodes in proportion to their weights.

        Raises
        ------
        UnsatisfiableError
            If a function can run nowhere; nothing is submitted then.
        GraphError
            If a function can't be sent, or `keep` names one that does not exist.
        """
        if detached and self.supervisor is not None:
            raise HandoutError(
                "detached=True needs a cluster that outlives this executor: give one"
            )
        turn = Turn.checked(priority, weight)
        return self._do(self._submit, graph, keep, turn, bool(detached))

    def attach(self, token: str) -> Any:
        """The Run of a detached run, by whomever it was submitted; see ``Run.token``.

        Raises
        ------
        HandoutError
            If the cluster knows no such run.
        """
        return self._do(self._attach, token)

    def runs(self) -> Any:
        """The runs on the cluster that have not been released.

        Returns
        -------
        list of dict
            ``token``, ``detached``, and how many functions are ``done``, have
            ``failed``, have ``ended`` in any way, and are in ``total``.
        """
        return self._do(self._list_runs)

    def execute(
        self,
        graph: Graph,
        raise_on_error: bool = True,
        *,
        keep: Any = "all",
        priority: int = 0,
        weight: float = 1.0,
    ) -> Any:
        """Plan and run a graph; returns the Run when all has ended.

        Parameters
        ----------
        graph : Graph
            Never changed.
        raise_on_error : bool
            Whether the first failure of a function is raised.
        keep : {"all", "sinks"} or iterable of ids
            Which results outlive their consumers.
        priority, weight : int, float
            As for `submit`.
        """
        turn = Turn.checked(priority, weight)
        if self.asynchronous:
            return self._do(self._execute, graph, raise_on_error, keep, turn)
        run: Run = self._do(self._submit, graph, keep, turn)
        try:
            run.wait()
        except BaseException:  # Ctrl-C: what was begun here ends here
            run.cancel()
            raise
        self._raise_first(run, raise_on_error)
        return run

    async def _execute(
        self, graph: Graph, raise_on_error: bool, keep: Any, turn: Turn
    ) -> Run:
        run = await self._submit(graph, keep, turn)
        try:
            await run._wait()
        except BaseException:
            await run._cancel()
            raise
        self._raise_first(run, raise_on_error)
        return run

    def _raise_first(self, run: Run, raise_on_error: bool) -> None:
        if raise_on_error and self.on_failure != "ignore":
            run._raise_first()

    async def _cluster(self) -> Cluster:
        state = await self.client.scheduler.handout_nodes(owner=self.id)
        cluster: Cluster = pickle.loads(state["cluster"])
        return cluster

    async def _resources(self) -> list[dict[str, Any]]:
        state = await self.client.scheduler.handout_usage(owner=self.id)
        order, snapshot = state["order"], state["snapshot"]
        return resource_rows(order, snapshot, state["limits"], state["holders"])

    async def _usage(self) -> dict[str, dict[str, float]]:
        state = await self.client.scheduler.handout_usage(owner=self.id)
        observed = state["observed"]
        return {name: observed[name] for name in state["order"] if name in observed}

    async def _explain(self, graph: Graph, id: Hashable) -> Explanation:
        problem = await self._problem(graph)
        graph[id]  # an unknown id is a KeyError here
        planned = None
        # Another function may fit nowhere, which is not this one's matter.
        with contextlib.suppress(AllocationError):
            made = await offload(lambda: allocate(problem, self._named))
            planned = made[id].node
        return explain(problem, id, planned)

"""Executor: plans a graph on a Dask cluster's nodes and runs it there by the plan."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Hashable
from dataclasses import replace
from typing import Any

from distributed.protocol import pickle

from handout_dask.accounts import resource_rows
from handout_dask.allocators import get_allocator
from handout_dask.allocators.effort import Effort
from handout_dask.errors import HandoutError
from handout_dask.graph import Graph
from handout_dask.node import Cluster
from handout_dask.pins import OnLost
from handout_dask.retry import RetryPolicy
from handout_dask.runtime.archive import Archive
from handout_dask.runtime.run import Run
from handout_dask.runtime.runfolder import Journal
from handout_dask.runtime.submission import (
    RESUMED,
    Turn,
    check_on_failure,
    check_settings,
    checked_grace,
    checked_on_lost,
    checked_timeout,
    declared_cluster,
    pickle_tracker,
)
from handout_dask.runtime.submitter import Submitter
from handout_dask.scaling import Elastic
from handout_dask.tracker import ResourceTracker


class Executor(Submitter):
    """Runs graphs on a Dask cluster, where and when an allocator's plan says.

    Parameters
    ----------
    cluster : None, str, Client, Supervisor or Dask cluster
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
    on_lost : {"elsewhere", "fail"} or wait(seconds), optional
        What functions that are pinned to a node do when it is gone, unless they say so
        themselves; default: ``wait(10)``.
    max_concurrency : int, optional
        Functions of one run at once.
    restart : RestartPolicy, or dict of them by node, optional
        When an embedded node that ended is started again; see `Supervisor`. Default:
        always.
    security : bool or distributed.Security, optional
        For the connections to a cluster, and within an embedded one. True, for an
        embedded one, encrypts them by credentials of its own (TLS); what that does not
        cover is logged, and in SECURITY.md.
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
        them. Functions with a GPU stay where they are, and end so if CuPy's pools give
        them more than their `gpu_memory`.
    timeout : float, optional
        Seconds that one attempt may run of functions that don't say it themselves; see
        `Function`.
    cancel_grace : float, optional
        What is cancelled while it runs ends at once in a process of its own, but in a
        thread it can't be ended. Seconds that such a thread may go on, before its
        worker is started anew, when all others that run there have ended; until then it
        holds what it claims. None: never. Default: 2, or ``handout.cancel-grace`` of
        Dask's configuration.
    history : None, str, path or History, optional
        Where what functions took is kept across runs: a file, or any URL that fsspec
        knows; others may use it at the same time. None forgets it with the executor.
    journal : None, str or path
        A folder, or any URL of one that fsspec knows, which this client, the scheduler
        and all workers reach: there runs are kept, a folder each, so that `resume` can
        go on with them whatever died. Functions, results and what happened stay until
        the folder is deleted. Costs a file for each result.
    durable : {"all", "marked"}
        With a journal, whose results are kept: those of all functions, or only of those
        with ``durable=True``; what is not kept, a resumed run runs again if it needs
        it.

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
        on_lost: OnLost | None = None,
        max_concurrency: int | None = None,
        restart: Any = None,
        security: Any = None,
        adaptive: bool = True,
        seed: int | None = None,
        asynchronous: bool = False,
        elastic: bool | Elastic = False,
        speculative: bool = False,
        enforce_memory: bool = False,
        timeout: float | None = None,
        cancel_grace: Any = "default",
        history: Any = None,
        journal: Any = None,
        durable: str = "all",
    ) -> None:
        given = dict(locals())
        check_settings(on_failure, max_concurrency, retry)
        self.allocator = get_allocator(allocator)
        self._named = allocator if isinstance(allocator, str) else self.allocator
        if seed is not None and isinstance(self.allocator, Effort):
            self._named = self.allocator = replace(self.allocator, seed=seed)
        self.retry, self.on_failure = retry, on_failure
        self.on_lost = checked_on_lost(on_lost)
        self.max_concurrency, self.adaptive = max_concurrency, bool(adaptive)
        self.speculative, self.enforce_memory = bool(speculative), bool(enforce_memory)
        self.timeout = checked_timeout(timeout)
        self.cancel_grace = checked_grace(cancel_grace)
        self._tracker = pickle_tracker(tracker)
        self._early: dict[str, list[dict[str, Any]]] = {}  # by token
        self._journal = Journal.of(journal, durable)
        self._archive = Archive(history)
        self.history = self._archive.history
        self._runs: weakref.WeakValueDictionary[str, Run] = (
            weakref.WeakValueDictionary()
        )
        self._lock = asyncio.Lock()
        declared = declared_cluster(nodes)
        self._settings = {what: given[what] for what in RESUMED}
        self._settings["nodes"] = declared if cluster is None else None
        super().__init__(
            cluster, declared, security, asynchronous, Elastic.of(elastic), restart
        )

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
        on_failure: str | None = None,
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
        on_failure : {"finish", "stop", "ignore"}, optional
            In place of the executor's, for this run.

        Raises
        ------
        UnsatisfiableError
            If a function can run nowhere; nothing is submitted then.
        GraphError
            If a function can't be sent, or `keep` names one that does not exist.
        """
        if detached and self._given is None:
            raise HandoutError(
                "detached=True needs a cluster that outlives this executor: give one"
            )
        turn = Turn.checked(priority, weight)
        check_on_failure(on_failure or self.on_failure)
        return self._do(self._submit, graph, keep, turn, bool(detached), on_failure)

    def resume(
        self,
        run_id: str,
        *,
        journal: Any = None,
        graph: Graph | None = None,
        trust: bool = False,
    ) -> Any:
        """Go on with a run that is in a journal; returns the Run at once.

        Parameters
        ----------
        run_id, journal, graph, trust
            As for `handout_dask.resume`; the executor's own journal is looked at first.
        """
        return self._do(self._resume, run_id, journal, graph, trust)

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
        on_failure: str | None = None,
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
        priority, weight, on_failure : int, float, str
            As for `submit`.
        """
        turn = Turn.checked(priority, weight)
        check_on_failure(on_failure or self.on_failure)
        if self.asynchronous:
            return self._do(
                self._execute, graph, raise_on_error, keep, turn, on_failure
            )
        run: Run = self._do(self._submit, graph, keep, turn, False, on_failure)
        try:
            run.wait()
        except BaseException:  # Ctrl-C: what was begun here ends here
            run.cancel()
            raise
        self._raise_first(run, raise_on_error)
        return run

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

"""Executor: plans a graph on a Dask cluster's nodes and runs it there by the plan."""

from __future__ import annotations

import asyncio
import uuid
import weakref
from collections.abc import Callable, Coroutine, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from distributed import Client
from distributed.protocol import pickle

from handout_dask.allocators import get_allocator
from handout_dask.dispatch import RunSpec
from handout_dask.errors import GraphError, HandoutError
from handout_dask.function import Function
from handout_dask.graph import Graph
from handout_dask.node import Cluster, Node
from handout_dask.plans import Plan, allocate
from handout_dask.problem import Held, Lack, Problem
from handout_dask.retry import RetryPolicy
from handout_dask.runtime.lower import CUT, Lowered, lower
from handout_dask.runtime.nodes import cluster_of
from handout_dask.runtime.plugin import NAME, install, submit_graph
from handout_dask.runtime.run import Run
from handout_dask.runtime.supervisor import Supervisor
from handout_dask.tracker import ResourceTracker

ON_FAILURE = ("finish", "stop", "ignore")


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a function can run, and why not elsewhere.

    Attributes
    ----------
    function : hashable
        Its id.
    fits : tuple of str
        Nodes that can run it.
    refusals : mapping
        ``{node: (Lack, ...)}`` for the others.
    planned : str or None
        The node that the allocator would choose; None if there is no plan.
    """

    function: Hashable
    fits: tuple[str, ...]
    refusals: Mapping[str, tuple[Lack, ...]]
    planned: str | None

    def __str__(self) -> str:
        lines = [f"function {self.function!r}"]
        for name in self.fits:
            chosen = " (planned)" if name == self.planned else ""
            lines.append(f"  {name}: can run it{chosen}")
        for name, lacks in self.refusals.items():
            lines.append(f"  {name}: {', '.join(map(str, lacks))}")
        return "\n".join(lines)


class Executor:
    """Runs graphs on a Dask cluster, where and when an allocator's plan says.

    Parameters
    ----------
    cluster : None, str, Client or Dask cluster
        None starts an embedded cluster on this host; otherwise an address, a Client or
        any cluster object. What the executor did not start it leaves as it was found.
    nodes : iterable of Node, Cluster, or path of a NODES file, optional
        What to start, or, on a cluster that exists, speeds, prices and capabilities that
        its workers don't tell, matched by worker name.
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
    asynchronous : bool
        As for Dask's Client: use ``async with``, and await what takes time.

    Examples
    --------
    >>> from handout_dask import Executor, Function, Graph
    >>> graph = Graph([Function("a", [], lambda: 20), Function("b", ["a"], lambda a: a + 1)])
    >>> with Executor() as executor:  # doctest: +SKIP
    ...     executor.execute(graph)["b"]
    21
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
        asynchronous: bool = False,
    ) -> None:
        if on_failure not in ON_FAILURE:
            raise HandoutError(f"on_failure={on_failure!r} must be one of {ON_FAILURE}")
        if max_concurrency is not None and (
            not isinstance(max_concurrency, int) or max_concurrency < 1
        ):
            raise HandoutError(
                f"max_concurrency={max_concurrency!r} must be at least 1"
            )
        self.allocator = get_allocator(allocator)
        self._named = allocator if isinstance(allocator, str) else self.allocator
        self.id = uuid.uuid4().hex[:12]
        self.declared = _declared(nodes)
        self.retry, self.on_failure = retry, on_failure
        self.max_concurrency = max_concurrency
        self._tracker = _pickle_tracker(tracker)
        self._given, self._security = cluster, security
        self.supervisor: Supervisor | None = None
        self._owns_client = not isinstance(cluster, Client)
        self._runs: weakref.WeakValueDictionary[str, Run] = (
            weakref.WeakValueDictionary()
        )
        self._state = "new"
        self.asynchronous = asynchronous
        if isinstance(cluster, Client):
            self.asynchronous = cluster.asynchronous
        if not self.asynchronous:
            self._start()

    # --------------------------------------------------------------- start and end
    def _start(self) -> None:
        """Connect from a thread of the user's."""
        try:
            if self._given is None:
                nodes = self.declared.nodes if self.declared else None
                self.supervisor = Supervisor(nodes, security=self._security)
            if isinstance(self._given, Client):
                self.client = self._given
            else:
                target = self.supervisor.cluster if self.supervisor else self._given
                options = {} if self._security is None else {"security": self._security}
                self.client = Client(target, set_as_default=False, **options)
            self.client.sync(self._join)
        except BaseException:
            self.close()
            raise

    async def _start_async(self) -> None:
        if self._given is None:
            nodes = self.declared.nodes if self.declared else None
            self.supervisor = Supervisor(
                nodes, security=self._security, asynchronous=True
            )
            await self.supervisor.cluster
        if isinstance(self._given, Client):
            self.client = self._given
        else:
            target = self.supervisor.cluster if self.supervisor else self._given
            options = {} if self._security is None else {"security": self._security}
            self.client = await Client(
                target, set_as_default=False, asynchronous=True, **options
            )
        await self._join()

    async def _join(self) -> None:
        declared = pickle.dumps(self.declared.nodes if self.declared else ())
        for attempt in range(3):  # another executor may take the plugin away in between
            await self._install()
            try:
                await self.client.scheduler.handout_join(
                    owner=self.id, client=self.client.id, declared=declared
                )
                break
            except Exception:
                if attempt == 2:
                    raise
        self._lock = asyncio.Lock()
        self.client.subscribe_topic(f"{NAME}/{self.id}", self._receive)
        self._state = "open"

    async def _install(self) -> None:
        try:
            await install(self.client)
        except Exception as error:
            raise HandoutError(
                "the scheduler can't load the plugin; handout_dask must be installed on "
                f"it too, in the same version: {type(error).__name__}: {error}"
            ) from error

    def close(self) -> Any:
        """Cancel what still runs and leave the cluster, or end it if it is embedded."""
        if self.asynchronous:
            return self._close()
        if self._state == "open":
            self._state = "closed"
            if self.client.status == "running":
                self.client.sync(self._leave)
        if self._owns_client and hasattr(self, "client"):
            self.client.close()
        if self.supervisor is not None:
            self.supervisor.close()
        return None

    async def _close(self) -> None:
        if self._state == "open":
            self._state = "closed"
            if self.client.status == "running":
                await self._leave()
        if self._owns_client and hasattr(self, "client"):
            await self.client.close()
        if self.supervisor is not None:
            await self.supervisor.close()

    async def _leave(self) -> None:
        for run in list(self._runs.values()):
            await run._cancel()
        self.client.unsubscribe_topic(f"{NAME}/{self.id}")
        await self.client.scheduler.handout_leave(owner=self.id)

    def __enter__(self) -> Executor:
        if self.asynchronous:
            raise HandoutError("an asynchronous Executor needs 'async with'")
        return self

    def __exit__(self, *args: Any) -> None:
        self.close()

    async def __aenter__(self) -> Executor:
        if self._state == "new":
            await self._start_async()
        return self

    async def __aexit__(self, *args: Any) -> None:
        await self._close()

    def __await__(self) -> Any:
        return self.__aenter__().__await__()

    def __repr__(self) -> str:
        where = (
            self.client.scheduler.address if hasattr(self, "client") else "nowhere yet"
        )
        return f"<Executor {self.id} by {self.allocator!r} on {where}: {self._state}>"

    @property
    def dashboard_link(self) -> str:
        """Where Dask's dashboard of the cluster is."""
        return str(self.client.dashboard_link)

    def _do(self, method: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> Any:
        if self._state != "open":
            raise HandoutError(f"the executor is {self._state}; it can't be used")
        return self.client.sync(method, *args)

    # ------------------------------------------------------------------------ work
    def nodes(self) -> Any:
        """The cluster's nodes that are up now, as a Cluster."""
        return self._do(self._cluster)

    def resources(self) -> Any:
        """What nodes have, and what all runs claim of it.

        Returns
        -------
        list of dict
            ``node``, ``resource``, ``capacity`` (inf is unlimited), ``claimed`` and
            ``observed`` (None: not measured).
        """
        return self._do(self._resources)

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

    def submit(self, graph: Graph, keep: Any = "all") -> Any:
        """Plan and start a graph; returns the Run at once.

        Parameters
        ----------
        graph : Graph
            Never changed.
        keep : {"all", "sinks"} or iterable of ids
            Which results outlive their consumers.

        Raises
        ------
        UnsatisfiableError
            If a function can run nowhere; nothing is submitted then.
        GraphError
            If a function can't be sent, or `keep` names one that does not exist.
        """
        return self._do(self._submit, graph, keep)

    def execute(
        self, graph: Graph, raise_on_error: bool = True, *, keep: Any = "all"
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
        """
        if self.asynchronous:
            return self._do(self._execute, graph, raise_on_error, keep)
        run: Run = self.submit(graph, keep)
        try:
            run.wait()
        except BaseException:  # Ctrl-C: what was begun here ends here
            run.cancel()
            raise
        self._raise_first(run, raise_on_error)
        return run

    async def _execute(self, graph: Graph, raise_on_error: bool, keep: Any) -> Run:
        run = await self._submit(graph, keep)
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
        state = await self.client.scheduler.handout_nodes()
        return cluster_of(
            pickle.loads(state["nodes"]), state["bandwidth"], self.declared
        )

    async def _resources(self) -> list[dict[str, Any]]:
        state = await self.client.scheduler.handout_nodes()
        return [
            {"node": node, "resource": name, "capacity": has, "claimed": claimed,
             "observed": observed}
            for node, rows in state["snapshot"].items()
            for name, (has, claimed, observed) in rows.items()
        ]  # fmt: skip

    async def _problem(self, graph: Graph) -> Problem:
        if not isinstance(graph, Graph):
            raise GraphError(f"an executor runs a Graph, not {type(graph).__name__}")
        state = await self.client.scheduler.handout_nodes()
        nodes = pickle.loads(state["nodes"])
        held = [Held(*row) for row in pickle.loads(state["held"])]
        declared = self.declared
        return await _offload(
            lambda: Problem(
                graph, cluster_of(nodes, state["bandwidth"], declared), held=held
            )
        )

    async def _plan(self, graph: Graph) -> Plan:
        problem = await self._problem(graph)
        return await _offload(lambda: allocate(problem, self._named))

    async def _explain(self, graph: Graph, id: Hashable) -> Explanation:
        problem = await self._problem(graph)
        i = problem.where[graph[id].id]
        refusals = problem.refusals(i)
        fits = tuple(n.name for n in problem.nodes if n.name not in refusals)
        planned = None
        if fits:
            try:
                made = await _offload(lambda: allocate(problem, self._named))
                planned = made[id].node
            except HandoutError:  # another function fits nowhere
                pass
        return Explanation(id, fits, refusals, planned)

    async def _submit(self, graph: Graph, keep: Any) -> Run:
        async with self._lock:  # so that of two plans the second sees the first
            plan = await self._plan(graph)
            problem = plan.problem
            for function in problem.functions:
                _refuse_what_is_not_built(function)
            kept = _kept(problem, keep)
            token = f"0{uuid.uuid4().hex[:15]}"
            lowered = await _offload(
                lambda: lower(
                    graph, token, node=plan.node, option=plan.option, retry=self.retry
                )
            )
            spec = run_spec(plan, lowered, token, self.max_concurrency)
            if not problem.functions:
                return Run(self.client, graph, plan, token, {}, (), self.on_failure)
            await self.client.scheduler.handout_submit(
                spec=pickle.dumps(spec),
                client=self.client.id,
                owner=self.id,
                tracker=self._tracker,
            )
            sinks = _sinks(problem)
            wanted = {lowered.keys[i]: i for i in kept | sinks}
            rank = dict(zip(lowered.keys, spec.rank, strict=True))
            rank.update((key, 0) for key in lowered.cut_keys)
            futures = await _offload(
                lambda: submit_graph(self.client, lowered.layers, wanted, rank)
            )
            by_index = {wanted[key]: future for key, future in futures.items()}
            run = Run(self.client, graph, plan, token, by_index, kept, self.on_failure)
            self._runs[token] = run
            return run

    def _receive(self, event: tuple[float, Any]) -> None:
        _, message = event
        run = self._runs.get(message["token"])
        if run is not None:
            run._take(message["records"])


async def _offload(work: Callable[[], Any]) -> Any:
    """Do work that computes beside the event loop."""
    return await asyncio.get_running_loop().run_in_executor(None, work)


def _declared(nodes: Any) -> Cluster | None:
    if nodes is None or isinstance(nodes, Cluster):
        return nodes
    if isinstance(nodes, Iterable) and not isinstance(nodes, str | bytes | Mapping):
        listed = list(nodes)
        if all(isinstance(node, Node) for node in listed):
            return Cluster(listed)
    from handout_dask.formats.nodes import read_nodes

    return read_nodes(nodes)


def _pickle_tracker(tracker: ResourceTracker | None) -> bytes | None:
    if tracker is None:
        return None
    if not isinstance(tracker, ResourceTracker):
        raise HandoutError(
            f"{tracker!r} is no ResourceTracker: it needs register, available, request, "
            "release and snapshot"
        )
    try:
        return bytes(pickle.dumps(tracker))
    except Exception as error:
        raise HandoutError(
            f"tracker {tracker!r} can't be pickled, so it can't act on the scheduler: "
            f"{type(error).__name__}: {error}"
        ) from error


def _refuse_what_is_not_built(function: Function) -> None:
    """Say so, instead of running without what was asked for."""
    for what in ("timeout", "on_lost"):
        if getattr(function, what) is not None:
            raise GraphError(
                f"function {function.id!r} has {what}={getattr(function, what)!r}, which "
                "this version can't enforce yet; leave it out"
            )
    if function.durable:
        raise GraphError(
            f"function {function.id!r} is durable, but this version has no store yet"
        )


def _sinks(problem: Problem) -> set[int]:
    return set(range(len(problem.functions))) - set(problem.pred_of.tolist())


def _kept(problem: Problem, keep: Any) -> set[int]:
    if isinstance(keep, str) and keep in ("all", "sinks"):
        return set(range(len(problem.functions))) if keep == "all" else _sinks(problem)
    if isinstance(keep, str) or not isinstance(keep, Iterable):
        raise GraphError(f"keep={keep!r} must be 'all', 'sinks' or a list of ids")
    out = set()
    for id in keep:
        if id not in problem.where:
            raise GraphError(
                f"keep names function {id!r}, which the graph does not have"
            )
        out.add(problem.where[id])
    return out


def run_spec(plan: Plan, lowered: Lowered, token: str, limit: int | None) -> RunSpec:
    """What the scheduler has to know of a plan."""
    problem = plan.problem
    names = [node.name for node in problem.nodes]
    order = plan.order()
    rank = [0] * len(order)
    for place, i in enumerate(order.tolist()):
        rank[i] = place
    chosen = problem.option_class[problem.option_ptr[:-1] + plan.option]
    demand = [{"cpu": 1.0, **dict(cost.demand)} for cost in problem.classes]
    able = [
        frozenset(n for j, n in enumerate(names) if row[problem.kind[j]] > 0)
        for row in problem.rate
    ]
    groups: dict[int, list[int]] = {}
    for i, g in enumerate(problem.group.tolist()):
        if g >= 0:
            groups.setdefault(g, []).append(i)
    return RunSpec(
        token=token,
        prefix=[key[0] for key in lowered.keys],
        cut_prefix=f"{CUT}-{token}",
        node=[names[j] for j in plan.node.tolist()],
        rank=rank,
        need=chosen.tolist(),
        demand=demand,
        able=able,
        pinned=frozenset(i for i, j in enumerate(problem.pin.tolist()) if j >= 0),
        group={i: tuple(group) for group in groups.values() for i in group},
        start=plan.start.tolist(),
        end=plan.end.tolist(),
        cuts=lowered.cuts,
        limit=limit,
    )

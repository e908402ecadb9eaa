"""Submitter: plans graphs for a live cluster, sends them, and takes records in.

What an executor does behind its public face; base of Executor.
"""

from __future__ import annotations

import asyncio
import uuid
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from distributed.protocol import pickle

from handout_dask.allocators.makespan import Time
from handout_dask.errors import GraphError
from handout_dask.events import Hold
from handout_dask.graph import Graph
from handout_dask.histories import MANY, excerpt
from handout_dask.history import History
from handout_dask.learned import with_learned
from handout_dask.observed import narrowed
from handout_dask.plans import Plan, allocate
from handout_dask.problem import Held, Problem
from handout_dask.retry import RetryPolicy
from handout_dask.runtime.archive import Archive
from handout_dask.runtime.client import submit_graph, wanted_futures
from handout_dask.runtime.connection import Connection
from handout_dask.runtime.lower import lower
from handout_dask.runtime.run import Run
from handout_dask.runtime.submission import (
    Turn,
    from_keepsake,
    keepsake_of,
    kept_of,
    run_spec,
    sinks_of,
)


class Submitter(Connection):
    """Plans and sends graphs by an executor's settings, which that sets."""

    allocator: Any
    retry: RetryPolicy | None
    on_failure: str
    max_concurrency: int | None
    adaptive: bool
    speculative: bool
    enforce_memory: bool
    _own_process = False  # whether every function runs in a process of its own
    history: History
    _archive: Archive
    _named: Any  # the allocator as the user gave it
    _tracker: bytes | None
    _runs: weakref.WeakValueDictionary[str, Run]
    _early: dict[str, list[dict[str, Any]]]  # records by token, before there is a Run
    _lock: asyncio.Lock

    @property
    def _moves(self) -> bool:
        """Whether functions of its plans may go to other nodes when reality differs."""
        return isinstance(self.allocator, Time) or not getattr(
            self.allocator, "waits", True
        )

    async def _problem(self, graph: Graph) -> Problem:
        if not isinstance(graph, Graph):
            raise GraphError(f"an executor runs a Graph, not {type(graph).__name__}")
        await self._archive.load()
        state = await self.client.scheduler.handout_nodes(owner=self.id, away=True)
        cluster = pickle.loads(state["cluster"])
        held = [Held(*row) for row in pickle.loads(state["held"])]
        history, cost, limits = self.history, state["cost"], state["limits"]

        def made() -> Problem:
            problem = Problem(graph, cluster, held=held)
            less = narrowed(cluster, limits, problem.outline)
            if less is not cluster:
                problem = problem.on(less, held=held)
            return with_learned(problem, history, cost)

        return await offload(made)

    async def _plan(self, graph: Graph) -> Plan:
        problem = await self._problem(graph)
        return await offload(lambda: allocate(problem, self._named))

    async def _submit(
        self, graph: Graph, keep: Any, turn: Turn, detached: bool = False
    ) -> Run:
        async with self._lock:  # so that of two plans the second sees the first
            plan = await self._plan(graph)
            problem = plan.problem
            kept = kept_of(problem, keep)
            token = f"0{uuid.uuid4().hex[:15]}"
            lowered = await offload(
                lambda: lower(
                    graph,
                    token,
                    node=plan.node.tolist(),
                    option=plan.option.tolist(),
                    retry=self.retry,
                    mobile=self.adaptive and self._moves,
                    enforce_memory=self.enforce_memory,
                    own_process=self._own_process,
                )
            )
            spec = run_spec(
                plan, lowered, token, turn,
                limit=self.max_concurrency,
                adaptive=self.adaptive,
                fixed=not isinstance(self.allocator, Time),
                speculative=self.speculative,
                eager=not getattr(self.allocator, "waits", True),
                deadline=await offload(lambda: self._deadline(problem)),
                known=await offload(lambda: self._known(problem)),
            )  # fmt: skip
            if not problem.functions:
                return self._begin(plan, token, {}, set(), self.on_failure)
            sinks = sinks_of(problem)
            keepsake = None
            if detached:
                keepsake = await offload(
                    lambda: keepsake_of(plan, kept, self.on_failure)
                )
            self._early[token] = []  # records may come before there is a Run
            try:
                await self.client.scheduler.handout_submit(
                    spec=pickle.dumps(spec),
                    owner=self.id,
                    tracker=self._tracker,
                    keepsake=keepsake,
                    wanted=sorted(kept | sinks) if detached else None,
                )
                wanted = {lowered.keys[i]: i for i in kept | sinks}
                rank = dict(zip(lowered.keys, spec.rank, strict=True))
                rank.update((key, 0) for key in lowered.cut_keys)
                made = await offload(
                    lambda: submit_graph(self.client, lowered.layers, wanted, rank)
                )
            except BaseException:
                del self._early[token]
                raise
            futures = {wanted[key]: future for key, future in made.items()}
            return self._begin(plan, token, futures, kept, self.on_failure, detached)

    def _begin(
        self,
        plan: Plan,
        token: str,
        futures: dict[int, Any],
        kept: set[int],
        on_failure: str,
        detached: bool = False,
        messages: Sequence[dict[str, Any]] = (),
    ) -> Run:
        """A run as its client sees it, with what came of it before it was there."""
        run = Run(
            self.client, plan, token, futures, kept, on_failure, self.history, detached
        )
        self._runs[token] = run
        for message in (*messages, *self._early.pop(token, ())):
            _tell(run, message)
            self._archive.save_soon()
        return run

    def _deadline(self, problem: Problem) -> float | None:
        allowed = getattr(self.allocator, "allowed", None)
        return None if allowed is None else allowed(problem)

    def _known(self, problem: Problem) -> History | None:
        """What the scheduler may want to know of the functions."""
        outline, history = problem.outline, self.history
        if not history.knows(outline.names):
            return None
        if outline.n > MANY:
            return excerpt(history, outline.names, ())
        names = [outline.names[k] for k in outline.name.tolist()]
        pairs = zip(names, outline.labels, strict=True)
        return excerpt(history, outline.names, pairs)

    async def _leave(self) -> None:
        await super()._leave()
        await self._archive.save()

    def _receive(self, event: tuple[float, Any]) -> None:
        _, message = event
        token = message["token"]
        run = self._runs.get(token)
        if token in self._early:
            self._early[token].append(message)
        elif run is not None:
            _tell(run, message)
            if not run._left:
                self._archive.save_soon()

    async def _list_runs(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = await self.client.scheduler.handout_runs()
        return list(found)

    async def _attach(self, token: str) -> Run:
        self._early[token] = []
        try:
            state = await self.client.scheduler.handout_attach(
                token=token, owner=self.id
            )
        except BaseException:
            del self._early[token]
            raise
        plan, kept, on_failure = from_keepsake(state["keepsake"])
        index = {tuple(key): i for i, key in state["keys"]}
        made = wanted_futures(self.client, index)
        futures = {index[key]: future for key, future in made.items()}
        return self._begin(plan, token, futures, kept, on_failure, True, [state])


def _tell(run: Run, message: dict[str, Any]) -> None:
    """Let a run know what the plugin sent."""
    if "holds" in message:
        run.holds = [Hold(*row) for row in message["holds"]]
    run._take(message["records"], message["replans"])


async def offload(work: Callable[[], Any]) -> Any:
    """Do work that computes beside the event loop."""
    return await asyncio.get_running_loop().run_in_executor(None, work)

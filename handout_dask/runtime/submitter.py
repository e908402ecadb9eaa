"""Submitter: plans graphs for a live cluster, sends them, and takes records in.

What an executor does behind its public face; base of Executor.
"""

from __future__ import annotations

import asyncio
import time
import uuid
import weakref
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from distributed.protocol import pickle

from handout_dask.allocators.makespan import Time
from handout_dask.copies import with_copies
from handout_dask.errors import AllocationError, GraphError, UnsatisfiableError
from handout_dask.events import Hold
from handout_dask.explanation import Explanation, explain
from handout_dask.graph import Graph
from handout_dask.histories import MANY, excerpt
from handout_dask.history import History
from handout_dask.learned import with_learned
from handout_dask.observed import narrowed
from handout_dask.pins import OnLost, patience
from handout_dask.plans import Plan, allocate
from handout_dask.problem import Held, Problem
from handout_dask.retry import RetryPolicy
from handout_dask.runtime.archive import Archive
from handout_dask.runtime.client import submit_graph, wanted_futures
from handout_dask.runtime.connection import Connection
from handout_dask.runtime.lower import CUT, lower
from handout_dask.runtime.resuming import Resumption, read_resumption, warn_of
from handout_dask.runtime.run import Run
from handout_dask.runtime.runfolder import Entry, Journal, begin
from handout_dask.runtime.submission import (
    Turn,
    from_keepsake,
    keepsake_of,
    kept_of,
    retries_of,
    run_spec,
    sinks_of,
)

LOOK = 0.1  # s between looks for a node that is started again


class Submitter(Connection):
    """Plans and sends graphs by an executor's settings, which that sets."""

    allocator: Any
    retry: RetryPolicy | None
    on_failure: str
    on_lost: OnLost
    max_concurrency: int | None
    adaptive: bool
    speculative: bool
    enforce_memory: bool
    timeout: float | None
    cancel_grace: float | None
    _own_process = False  # whether every function runs in a process of its own
    history: History
    _archive: Archive
    _journal: Journal | None
    _settings: dict[str, Any]  # what an executor that goes on should have, too
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
            problem = with_copies(problem, timeout=self.timeout)
            less = narrowed(cluster, limits, problem.outline)
            if less is not cluster:
                problem = problem.on(less, held=held)
            return with_learned(problem, history, cost)

        return await offload(made)

    async def _plan(self, graph: Graph) -> Plan:
        """The plan; if need be, a node that is started again is waited for.

        So long as functions that are bound to it would wait, by the executor's on_lost.
        """
        until = time.monotonic() + patience(self.on_lost)
        while True:
            problem = await self._problem(graph)
            due = self.supervisor.due if self.supervisor is not None else set()
            try:
                return await offload(partial(allocate, problem, self._named))
            except UnsatisfiableError:
                if due.issubset(problem.cluster.index) or time.monotonic() >= until:
                    raise
            await asyncio.sleep(LOOK)

    async def _submit(
        self,
        graph: Graph,
        keep: Any,
        turn: Turn,
        detached: bool = False,
        on_failure: str | None = None,
        again: Resumption | None = None,
    ) -> Run:
        """Plan, and send; `again` is of a run of which this does the rest."""
        on_failure = self.on_failure if on_failure is None else on_failure
        async with self._lock:  # so that of two plans the second sees the first
            plan = await self._plan(graph)
            problem = plan.problem
            kept = kept_of(problem, keep)
            token = mark = f"0{uuid.uuid4().hex[:15]}"
            entry: Entry | None = None
            if again is not None:
                token, entry = again.entry.store.run, again.entry
            elif self._journal is not None:
                entry = await self._enter(
                    token, problem, kept, turn, detached, on_failure
                )
            durable = None if entry is None else (again or entry).durable
            lowered = await offload(
                lambda: lower(
                    graph,
                    mark,
                    node=plan.node.tolist(),
                    option=plan.option.tolist(),
                    mobile=self.adaptive and self._moves,
                    enforce_memory=self.enforce_memory,
                    own_process=self._own_process,
                    timeout=self.timeout,
                    durable=durable,
                )
            )
            spec = run_spec(
                plan, lowered, token, turn,
                limit=self.max_concurrency,
                retry=self.retry or RetryPolicy(),
                retries=retries_of(problem),
                on_lost=self.on_lost,
                grace=self.cancel_grace,
                adaptive=self.adaptive,
                fixed=not isinstance(self.allocator, Time),
                speculative=self.speculative,
                stops=on_failure == "stop",
                eager=not getattr(self.allocator, "waits", True),
                deadline=await offload(lambda: self._deadline(problem)),
                known=await offload(lambda: self._known(problem)),
            )  # fmt: skip
            if again is not None:  # keys are others each time
                crashes = {problem.where[id]: x for id, x in again.crashes.items()}
                spec = replace(spec, cut_prefix=f"{CUT}-{mark}", crashes=crashes)
            if not problem.functions:
                return self._begin(plan, token, {}, set(), on_failure)
            sinks = sinks_of(problem)
            keepsake = None
            if detached:
                keepsake = await offload(lambda: keepsake_of(plan, kept, on_failure))
            self._early[token] = []  # records may come before there is a Run
            try:
                if entry is not None:
                    info = entry.info(problem.functions)
                    await self.client.scheduler.handout_journal(**info)
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
            return self._begin(plan, token, futures, kept, on_failure, detached)

    async def _execute(
        self,
        graph: Graph,
        raise_on_error: bool,
        keep: Any,
        turn: Turn,
        on_failure: str | None,
    ) -> Run:
        run = await self._submit(graph, keep, turn, False, on_failure)
        try:
            await run._wait()
        except BaseException:
            await run._cancel()
            raise
        self._raise_first(run, raise_on_error)
        return run

    def _raise_first(self, run: Run, raise_on_error: bool) -> None:
        if raise_on_error and run._on_failure != "ignore":
            run._raise_first()

    async def _explain(self, graph: Graph, id: Hashable) -> Explanation:
        problem = await self._problem(graph)
        graph[id]  # an unknown id is a KeyError here
        planned = None
        # Another function may fit nowhere, which is not this one's matter.
        with suppress(AllocationError):
            made = await offload(lambda: allocate(problem, self._named))
            planned = made[id].node
        return explain(problem, id, planned)

    async def _enter(
        self, token: str, problem: Problem, kept: set[int], turn: Turn, detached: bool,
        on_failure: str,
    ) -> Entry:  # fmt: skip
        """Begin a run in the journal."""
        journal, settings = self._journal, self._settings
        assert journal is not None
        graph, ids = problem.graph, [problem.functions[i].id for i in sorted(kept)]
        about = {"turn": tuple(turn), "detached": detached, "on_failure": on_failure}
        return await offload(lambda: begin(journal, token, graph, ids, about, settings))

    async def _join_again(self) -> None:
        """Join, should the scheduler be another one than that which was joined."""
        # Of a call that it does not know a scheduler answers None (2026.8.0).
        if await self.client.scheduler.handout_runs() is None:
            await self._join()

    async def _resume(
        self, run_id: str, journal: Any, graph: Graph | None, trust: bool
    ) -> Run:
        """Do what is left of a run that is in a journal."""
        await self._join_again()
        own = self._journal
        again = await offload(
            lambda: read_resumption(run_id, own, journal, graph, trust)
        )
        warn_of(again)
        run = await self._submit(
            again.rest, again.keep, Turn(*again.about["turn"]),
            again.about["detached"] and self.supervisor is None,
            again.about["on_failure"], again,
        )  # fmt: skip
        run.graph, run.restored = again.graph, again.restored
        run._functions = tuple(again.graph[f.id] for f in run._functions)
        return run

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
    run._begun |= message["begun"]
    run._switched |= dict(message["switched"])
    run._take(message["records"], message["replans"])


async def offload(work: Callable[[], Any]) -> Any:
    """Do work that computes beside the event loop."""
    return await asyncio.get_running_loop().run_in_executor(None, work)

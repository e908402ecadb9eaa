"""The same graph as plain Dask runs it and as we do, while something is done to it."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import cloudpickle
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from distributed import Client, wait
from distributed.diagnostics.plugin import SchedulerPlugin

import handout_dask as hd
from benchmarks.breaking.cluster import until

Deed = Callable[[], Any]
DOORS = "breaking-doors"
# Schedulers of any kind can take the plugin, wherever they were started.
cloudpickle.register_pickle_by_value(sys.modules[__name__])
# Everything that Dask logs of what is broken here is meant to be.
for _name in ("distributed", "distributed.core", "distributed.client"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)


@dataclass(slots=True)
class Ended:
    """How a run ended.

    Attributes
    ----------
    wall : float
        Seconds from submission to the end of all, or to when it was given up.
    results : dict
        What each sink gave; those that failed are not there.
    errors : dict
        The exception of each sink that failed.
    hang : bool
        Whether it was given up.
    token : str
        Of the run, for those by plan.
    spans : list
        What its run says that ran, for those by plan.
    """

    wall: float = 0.0
    results: dict[Hashable, Any] = field(default_factory=dict)
    errors: dict[Hashable, BaseException] = field(default_factory=dict)
    hang: bool = False
    token: str = ""
    spans: list[Any] = field(default_factory=list)

    def said(self) -> str:
        """In a word."""
        if self.hang:
            return "hang"
        kinds = {type(error).__name__ for error in self.errors.values()}
        return ", ".join(sorted(kinds)) or "done"


class Doing:
    """Something that is done beside a run, in a thread; its exception is raised."""

    def __init__(self, deed: Deed | None) -> None:
        self._deed, self._error = deed, None
        self._thread = threading.Thread(target=self._do, daemon=True)
        self._thread.start()

    def _do(self) -> None:
        try:
            if self._deed is not None:
                self._deed()
        except BaseException as error:
            self._error = error

    def finish(self, limit: float = 60.0) -> None:
        """Wait until it is done."""
        self._thread.join(limit)
        if self._error is not None:
            raise self._error
        if self._thread.is_alive():
            raise TimeoutError(f"what was done beside the run took over {limit:g} s")


class Way:
    """How graphs are run on a cluster; used as a context.

    Parameters
    ----------
    cluster : Real, or None
        None: the way makes one of its own, by `nodes`.
    options : mapping
        Of the executor.
    """

    name = ""

    def __init__(self, cluster: Any, **options: Any) -> None:
        self.cluster, self.options = cluster, options

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *args: Any) -> None:
        pass

    def run(
        self, graph: hd.Graph, deed: Deed | None = None, limit: float = 60.0
    ) -> Ended:
        """Run a graph to its end, or until `limit` seconds are over."""
        raise NotImplementedError


class Plain(Way):
    """Plain Dask: pins are worker restrictions, retries and resources Dask's own."""

    name = "dask"

    def run(
        self, graph: hd.Graph, deed: Deed | None = None, limit: float = 60.0
    ) -> Ended:
        """Submit the graph's tasks as one layer."""
        functions = graph.links().functions
        tasks = dict(graph.to_dask(resources=()))
        notes: dict[str, dict[Any, Any]] = {}
        for key in tasks:
            self._annotate(notes, key, functions[key[1]])
        layer = MaterializedLayer(
            tasks, annotations={what: table.get for what, table in notes.items()}
        )
        name = f"plain-{graph.token}"
        ends = sinks(graph)
        keys = {key[1]: key for key in tasks}
        client: Client = self.cluster.client
        begin = time.perf_counter()
        futures = client.get(
            HighLevelGraph({name: layer}, {name: set()}),
            [keys[i] for i in ends], sync=False,
        )  # fmt: skip
        doing = Doing(deed)
        out = Ended()
        with suppress(TimeoutError), client.as_current():
            wait(futures, timeout=limit)
        out.wall = time.perf_counter() - begin
        for i, future in zip(ends, futures, strict=True):
            id = functions[i].id
            if future.status == "finished":
                try:
                    out.results[id] = future.result(timeout=10)
                except BaseException as error:
                    out.errors[id] = error
            elif future.status in ("error", "lost", "cancelled"):
                error = future.exception(timeout=10) or RuntimeError(future.status)
                out.errors[id] = error
            else:
                out.hang = True
        doing.finish()
        with suppress(Exception):
            client.cancel(futures, force=True)
        return out

    def _annotate(self, notes: Any, key: Any, function: hd.Function) -> None:
        put = notes.setdefault
        if isinstance(function.node, str):
            put("workers", {})[key] = [function.node]
        if function.retry is not None and function.retry.attempts > 1:
            put("retries", {})[key] = function.retry.attempts - 1
        demand = dict(function.alternatives[0].demand)
        own = {k: v for k, v in demand.items() if k not in ("cpu", "memory")}
        if own:
            put("resources", {})[key] = own


class Planned(Way):
    """By plan, with whatever the executor's options say."""

    name = "handout"

    def __enter__(self) -> Any:
        where = getattr(self.cluster, "where", self.cluster)
        self.executor = hd.Executor(where, **self.options)
        return self

    def __exit__(self, *args: Any) -> None:
        self.executor.close()

    def run(
        self, graph: hd.Graph, deed: Deed | None = None, limit: float = 60.0
    ) -> Ended:
        """Submit it with its sinks kept."""
        begin = time.perf_counter()
        try:
            run = self.executor.submit(graph, keep="sinks")
        except hd.HandoutError as error:
            ended = Ended(time.perf_counter() - begin)
            ended.errors = dict.fromkeys(graph.order(), error)
            return ended
        doing = Doing(deed)
        out = Ended(token=run.token)
        try:
            run.wait(timeout=limit)
        except TimeoutError:
            out.hang = True
        out.wall = time.perf_counter() - begin
        functions = graph.links().functions
        for i in sinks(graph) if not out.hang else ():
            id = functions[i].id
            try:
                out.results[id] = run[id]
            except Exception as error:
                out.errors[id] = error
        out.spans = list(run.spans)
        if out.hang:
            run.cancel()
        doing.finish()
        run.release()
        return out


def sinks(graph: hd.Graph) -> list[int]:
    """The functions that no other reads, by their place in topological order."""
    links = graph.links()
    return sorted(set(range(len(graph))) - set(links.producer))


# ------------------------------------------------------------------- who came and went
class _Doors(SchedulerPlugin):
    name = DOORS

    def __init__(self) -> None:
        self.seen: list[tuple[float, str, str]] = []
        self.names: dict[str, str] = {}

    async def start(self, scheduler: Any) -> None:
        for address, ws in scheduler.workers.items():
            self.names[address] = str(ws.name)

    def add_worker(self, scheduler: Any, worker: str) -> None:
        import time

        self.names[worker] = str(scheduler.workers[worker].name)
        self.seen.append((time.time(), "came", self.names[worker]))

    def remove_worker(self, scheduler: Any, worker: str, **kwargs: Any) -> None:
        import time

        self.seen.append((time.time(), "went", self.names.get(worker, worker)))


class Doors:
    """When workers came and went, as the scheduler saw it.

    Parameters
    ----------
    client : Client
        Of the scheduler.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

        async def begin(dask_scheduler: Any) -> None:
            if DOORS in dask_scheduler.plugins:
                dask_scheduler.remove_plugin(DOORS)
            plugin = _Doors()
            await plugin.start(dask_scheduler)
            dask_scheduler.add_plugin(plugin)

        client.run_on_scheduler(begin)

    def seen(self) -> list[tuple[float, str, str]]:
        """``(time, came or went, name)``."""
        found: list[Any] = self._client.run_on_scheduler(
            lambda dask_scheduler: list(dask_scheduler.plugins[DOORS].seen)
        )
        return [tuple(row) for row in found]

    def went(self, since: float = 0.0) -> list[tuple[float, str]]:
        """Who went, and when."""
        return [
            (t, name) for t, what, name in self.seen() if what == "went" and t >= since
        ]

    def first(self, what: str, name: str, since: float, limit: float = 60.0) -> float:
        """Seconds from a time on until somebody came or went; waits for it."""

        def look() -> float | None:
            for t, seen, who in self.seen():
                if (seen, who) == (what, name) and t >= since:
                    return max(t - since, 1e-6)
            return None

        return float(until(look, limit, f"{name} {what}"))


def explained(error: BaseException) -> Mapping[str, Any]:
    """An error as text: its own, its notes, and what caused it."""
    notes = "; ".join(getattr(error, "__notes__", ()))
    cause = repr(error.__cause__) if error.__cause__ else ""
    return {
        "kind": type(error).__name__,
        "text": str(error),
        "notes": notes,
        "cause": cause,
    }

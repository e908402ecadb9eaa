"""The ways in which a replayed graph is run: plain Dask, annotated Dask, by plan.

Each takes a `Trial` and returns an `Outcome`; all begin to count when the graph is in
the client's hands, and end when every result that no function reads is in memory.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from distributed import wait

import handout_dask as hd
from benchmarks.livecluster import Alarm, Cluster
from handout_dask.events import DONE
from handout_dask.runtime.replay import Replay
from handout_dask.simulation import noise_factors

HEAVY = 0.75  # quantile of the declared times from which on a function is heavy
TIMEOUT = 8.0  # times the planned makespan, after which a run counts as hung


class WrongResultError(Exception):
    """A run ended without all that it had to do."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What is run where.

    Attributes
    ----------
    cluster : Cluster
        Nothing else runs on it.
    graph : Graph
        With declared costs and code that may take another time.
    planned : float
        Makespan that is expected [s].
    event : Alarm, optional
        Set when the graph was submitted.
    """

    cluster: Cluster
    graph: hd.Graph
    planned: float
    event: Alarm | None = None

    @property
    def timeout(self) -> float:
        """Seconds after which a run counts as hung."""
        return 20.0 + TIMEOUT * self.planned


@dataclass(frozen=True, slots=True)
class Outcome:
    """How long a run took.

    Attributes
    ----------
    wall : float
        Seconds from submission to the end, planning included.
    run : hd.Run, optional
        Of a planned run.
    """

    wall: float
    run: hd.Run | None = None


# ------------------------------------------------------------------------------ graphs
def disturbed(graph: hd.Graph, declared: hd.Cluster, noise: float, seed: int) -> Any:
    """The graph with run times that differ from the declared ones by lognormal noise.

    Of mean 1; the same for every way with the same seed.
    """
    if not noise:
        return graph
    factor = noise_factors(hd.Problem(graph, declared), noise, seed)
    out = []
    for function, x in zip(graph.links().functions, factor.tolist(), strict=True):
        code = function.code
        assert isinstance(code, Replay)
        other = Replay(code.mode, code.seconds * x, code.sizes)
        out.append(replace(function, code=other))
    return hd.Graph(out, graph.name)


def undeclared(graph: hd.Graph) -> hd.Graph:
    """The graph without any cost."""
    return hd.Graph((replace(function, cost=None) for function in graph), graph.name)


def whole(graph: hd.Graph) -> hd.Graph:
    """The graph whose functions read whole results instead of elements of them."""
    out = []
    for function in graph:
        producers = dict.fromkeys(id for id, _ in function.inputs)
        out.append(replace(function, args=tuple(producers)))
    return hd.Graph(out, graph.name)


def sinks(graph: hd.Graph) -> list[int]:
    """The functions that no other reads, by their place in topological order."""
    links = graph.links()
    return sorted(set(range(len(graph))) - set(links.producer))


def check(graph: hd.Graph, results: Mapping[int, Any]) -> None:
    """All that no function reads is there, and is as large as it should be."""
    for i in sinks(graph):
        function = graph.links().functions[i]
        assert isinstance(function.code, Replay)
        found = {key: len(data) for key, data in results[i].items()}
        if found != function.code.sizes:
            raise WrongResultError(f"{graph.name}: {function.id!r} gave {found}")


# -------------------------------------------------------------------------------- ways
def dask(trial: Trial) -> Outcome:
    """Plain Dask runs a task for each function; whole results are read."""
    graph = whole(trial.graph)
    return _by_dask(replace(trial, graph=graph), graph.to_dask(resources=()))


def dask_elements(trial: Trial) -> Outcome:
    """Plain Dask runs the graph as it is lowered, each element read being a task.

    Such a task waits behind what runs on its worker, so that this is mostly slower.
    """
    return _by_dask(trial, trial.graph.to_dask(resources=()))


def annotated(trial: Trial) -> Outcome:
    """Dask with annotations as by hand: what is heavy runs on the fast half only.

    Heavy is a function whose declared time is in the top quartile, if the times differ
    there from the median. Such functions carry ``workers=[...]`` with the faster half
    of the nodes, ``allow_other_workers=False``; whole results are read.
    """
    graph = whole(trial.graph)
    functions = graph.links().functions
    times = np.array([f.alternatives[0].cpu_time or 0.0 for f in functions])
    least = float(np.quantile(times, HEAVY))
    heavy = times >= least if least > np.median(times) else np.zeros(len(times), bool)
    up = trial.cluster.addresses()
    nodes = [node for node in trial.cluster.declared.nodes if node.name in up]
    nodes.sort(key=lambda node: -node.speed)
    fast = [up[node.name] for node in nodes[: max(1, len(nodes) // 2)]]
    tasks = dict(graph.to_dask(resources=()))
    where = {key: fast for key in tasks if heavy[key[1]]}
    notes = {"workers": where.get} if where else None
    name = f"annotated-{graph.token}"
    layer = MaterializedLayer(tasks, annotations=notes)
    return _by_dask(
        replace(trial, graph=graph), HighLevelGraph({name: layer}, {name: set()})
    )


def _by_dask(trial: Trial, layers: Any) -> Outcome:
    graph, client = trial.graph, trial.cluster.client
    functions = graph.links().functions
    by_place = {key[1]: key for key in layers.to_dict() if not key[0].startswith("cut")}
    ends = sinks(graph)
    if len(by_place) != len(functions):
        raise WrongResultError(f"{graph.name}: {len(by_place)} keys")
    begin = time.perf_counter()
    futures = client.get(layers, [by_place[i] for i in ends], sync=False)
    if trial.event is not None:
        trial.event.set()
    with client.as_current():
        wait(futures, timeout=trial.timeout)
    wall = time.perf_counter() - begin
    check(graph, dict(zip(ends, client.gather(futures), strict=True)))
    del futures
    trial.cluster.until_empty()
    return Outcome(wall)


def handout(trial: Trial) -> Outcome:
    """The plan of allocator ``time`` is followed; the plugin comes and goes with it."""
    with executor(trial.cluster) as made:
        return by_plan(made, trial)


def speculative(trial: Trial) -> Outcome:
    """As `handout`, where late functions may begin anew on other nodes."""
    with executor(trial.cluster, speculative=True) as made:
        return by_plan(made, trial)


def learned(trial: Trial) -> tuple[Outcome, Outcome]:
    """The graph without costs, twice by one executor: unknown, and learned."""
    bare = replace(trial, graph=undeclared(trial.graph))
    with executor(trial.cluster) as made:
        return by_plan(made, bare), by_plan(made, bare)


def executor(cluster: Cluster, **settings: Any) -> hd.Executor:
    """An executor on a cluster that was declared as it is."""
    return hd.Executor(
        cluster.client, nodes=cluster.declared, allocator="time", **settings
    )


def by_plan(made: hd.Executor, trial: Trial) -> Outcome:
    """Submit to an executor, and wait."""
    begin = time.perf_counter()
    run = made.submit(trial.graph, keep="sinks")
    if trial.event is not None:
        trial.event.set()
    run.wait(timeout=trial.timeout)
    wall = time.perf_counter() - begin
    functions = trial.graph.links().functions
    done = {span.function for span in run.spans if span.outcome == DONE}
    if run.status != "done" or len(done) != len(functions):
        raise WrongResultError(f"{trial.graph.name}: {run!r}, {len(done)} spans")
    check(trial.graph, {i: run[functions[i].id] for i in sinks(trial.graph)})
    run.release()
    trial.cluster.until_empty()
    return Outcome(wall, run)

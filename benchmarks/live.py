"""Replayed traces on a live Dask cluster: plain Dask, annotated Dask, and by plan.

All ways run on the same cluster in the same process, one after the other, round by
round, and what is told are medians. `benchmarks.liveways` says what each way is,
`benchmarks.livecluster` how the network is emulated. Each trace is scaled, run times
and sizes alike, so that its plan takes `--seconds`. Every run must have done all.

    python -m benchmarks.live TRACE... [--out JSON] [--plot PNG]
    python -m benchmarks.live TRACE... --speeds strong8
    python -m benchmarks.live TRACE... --noise 0.3 --undeclared
    python -m benchmarks.live TRACE... --event lost@0.4    # also joined@0.4, slow@0.4
    python -m benchmarks.live TRACE... --processes         # over TCP on this host

With an event, what is told is also the makespan over `benchmarks.livebound.bound`: the
time of the event, and what planning with that knowledge would take from there for what
had not begun. The event comes to the last of the fastest nodes, at that share of the
planned makespan; a node that joins is as fast as that; one that becomes slow has a
quarter of its speed for what starts on it from then on.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import distributed

import handout_dask as hd
from benchmarks import liveways
from benchmarks.judge import add_referee, as_cluster, load_judge
from benchmarks.livebound import SLOWER, Event, after_event, bound, read_event
from benchmarks.livecluster import Alarm, Network, Processes, Threads
from benchmarks.livereport import draw, figures, report, summarize
from benchmarks.liveways import Outcome, Trial, WrongResultError
from handout_dask.allocators.warming import load
from handout_dask.formats.nodes import read_nodes
from handout_dask.formats.wfformat import read_workflow
from handout_dask.runtime.replay import MODES, Replay, replayed

SPEEDS = {"mixed8": "1,1,1,1,2,2,4,4", "strong8": "0.5,0.5,1,1,1,2,8,8"}
WAYS: dict[str, Callable[[Trial], Outcome]] = {
    "dask": liveways.dask,
    "dask-elements": liveways.dask_elements,
    "annotated": liveways.annotated,
    "handout": liveways.handout,
    "speculative": liveways.speculative,
}
COMPARED = ("dask", "annotated", "handout")
LATENCY, BANDWIDTH = 2.0, 100.0  # ms, MB/s of the emulated network
LOOPBACK = 2.0, 600.0  # ms, MB/s of Dask's over TCP loopback, or in a process
JOINING = "joining"
Cell = dict[str, Any]


# ------------------------------------------------------------------------- the cluster
def declare(options: argparse.Namespace) -> hd.Cluster:
    """The nodes, and the network that is emulated, or what a real one is like."""
    links = LOOPBACK if network_of(options) is None else options.network
    if options.nodes and Path(options.nodes).is_file():
        listed = read_nodes(options.nodes).nodes
    elif options.nodes:
        judge = load_judge(options.referee)
        listed = as_cluster(judge.read_nodes(options.nodes)).nodes
    else:
        speeds = SPEEDS.get(options.speeds, options.speeds).split(",")
        listed = tuple(hd.Node(f"n{k}", speed=float(s)) for k, s in enumerate(speeds))
    nodes = [hd.Node(node.name, speed=node.speed, slots=node.slots) for node in listed]
    if options.event and options.event.kind == "joined":
        most = max(node.speed for node in nodes)
        nodes.append(hd.Node(JOINING, speed=most, slots=1))
    return hd.Cluster(nodes, links[1], links[0])


def network_of(options: argparse.Namespace) -> Network | None:
    """What is emulated."""
    if options.processes or options.network is None:
        return None
    return Network(*options.network)


def at_first(declared: hd.Cluster) -> hd.Cluster:
    """The declared nodes without the one that joins."""
    listed = [node for node in declared.nodes if node.name != JOINING]
    m = len(listed)
    return hd.Cluster(listed, declared.bandwidth[:m, :m], declared.latency[:m, :m])


# -------------------------------------------------------------------------- the graphs
def scaled(
    graph: hd.Graph, nodes: hd.Cluster, options: argparse.Namespace
) -> tuple[hd.Graph, float, float]:
    """A trace that can run, with its scale and the makespan of its plan."""
    scale = options.seconds / hd.plan(graph, nodes, "time").makespan
    for _ in range(2):  # latencies don't scale
        made = replayed(graph, options.mode, scale)
        scale *= options.seconds / hd.plan(made, nodes, "time").makespan
    made = replayed(graph, options.mode, scale)
    return made, scale, hd.plan(made, nodes, "time").makespan


# ------------------------------------------------------------------------ the measuring
def alarm(cluster: Any, event: Event | None, planned: float) -> Alarm | None:
    """What shall happen in mid-run, if anything."""
    if event is None:
        return None
    name = victim(cluster.declared)
    deeds = {
        "lost": lambda: cluster.lose(name),
        "joined": lambda: cluster.join(JOINING),
        "slow": lambda: cluster.slow_down(name, SLOWER),
    }
    return Alarm(event.share * planned, deeds[event.kind])


def victim(declared: hd.Cluster) -> str:
    """The last of the fastest nodes."""
    return max(declared.nodes, key=lambda node: (node.speed, node.name)).name


def run_once(way: str, trial: Trial, cell: Cell, event: Event | None) -> None:
    """Run one way once, and note what it took."""
    walls = cell["wall"]
    if way == "undeclared":
        first, second = liveways.learned(trial)
        walls.setdefault("undeclared", []).append(first.wall)
        walls.setdefault("learned", []).append(second.wall)
        return
    outcome = WAYS[way](trial)
    walls.setdefault(way, []).append(outcome.wall)
    if outcome.run is None:
        return
    run = outcome.run
    if event is not None and trial.event is not None:
        if trial.event.rang is None:
            raise WrongResultError(f"{trial.graph.name} ended before the event")
        declared = trial.cluster.declared
        after = after_event(event, declared, victim(declared))
        least = bound(run.plan, after, run.spans, trial.event.rang)
        cell["bound"].append(least)
    cell["makespan"].append(run.makespan)
    cell["planned"].append(run.plan.makespan)


def measure_trace(
    cluster: Any, cell: Cell, graph: hd.Graph, nodes: hd.Cluster, options: Any
) -> None:
    """Fill a trace's cell with all rounds."""
    ways = [*options.ways, *(["undeclared"] if options.undeclared else [])]
    for k in range(options.rounds):
        real = liveways.disturbed(graph, nodes, options.noise, seed=k)
        for way in ways if k % 2 == 0 else reversed(ways):
            event = alarm(cluster, options.event, cell["target"])
            trial = Trial(cluster, real, cell["target"], event)
            try:
                run_once(way, trial, cell, options.event)
            finally:
                if event is not None:
                    event.stop()
            if event is not None:
                cluster.restore()


def open_cluster(declared: hd.Cluster, options: argparse.Namespace) -> Any:
    """The cluster, after each way has run a few functions there, that all is loaded."""
    if options.processes:
        made: Any = Processes(declared)
    else:
        absent = [node.name for node in declared.nodes if node.name == JOINING]
        made = Threads(declared, network_of(options), absent)
    few = hd.Graph(
        hd.Function(k, [], Replay("sleep", 0.01, {"": 1}), cost={"cpu_time": 10})
        for k in range(2 * len(declared))
    )
    try:
        for way in options.ways:
            WAYS[way](Trial(made, few, 1.0))
    except BaseException:
        made.close()
        raise
    return made


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All traces, with what was left out."""
    declared = declare(options)
    nodes = at_first(declared)
    cells, left_out = [], {}
    cluster = open_cluster(declared, options)
    try:
        for path in options.traces:
            graph = read_workflow(path)
            if len(graph) > options.most:
                left_out[graph.name] = f"{len(graph)} functions"
                continue
            graph, scale, target = scaled(graph, nodes, options)
            cell: Cell = {
                "trace": graph.name,
                "functions": len(graph),
                "scale": scale,
                "target": target,
                "wall": {},
                "makespan": [],
                "planned": [],
                "bound": [],
                "errors": [],
            }
            try:
                measure_trace(cluster, cell, graph, nodes, options)
            except Exception as error:  # the others shall be measured still
                cell["errors"].append(f"{type(error).__name__}: {error}")
                with contextlib.suppress(Exception):
                    cluster.close()
                cluster = open_cluster(declared, options)
            cell["ratio"] = figures(cell)
            cells.append(cell)
            told = ", ".join(f"{k} {v:.3f}" for k, v in cell["ratio"].items())
            print(f"{graph.name}: {told or cell['errors']}", file=sys.stderr)
    finally:
        cluster.close()
    emulated, event = network_of(options), options.event
    real = "processes, TCP" if options.processes else "threads, network as it is"
    return {
        "date": date.today().isoformat(),
        "python": platform.python_version(),
        "distributed": distributed.__version__,
        "cores": os.cpu_count(),
        "where": f"threads, {emulated}" if emulated else real,
        "speeds": ",".join(f"{node.speed:g}" for node in nodes.nodes),
        "mode": options.mode,
        "rounds": options.rounds,
        "noise": options.noise,
        "event": f"{event.kind}@{event.share:g}" if event else "",
        "left_out": left_out,
        "cells": cells,
    }


def read_network(text: str) -> tuple[float, float] | None:
    """``LATENCY,BANDWIDTH`` in ms and MB/s, or none."""
    if text == "none":
        return None
    latency, bandwidth = map(float, text.split(","))
    return latency, bandwidth


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("traces", nargs="+", metavar="TRACE", help="WfFormat files")
    add("--speeds", default="mixed8", help=f"S,S,... or {', '.join(SPEEDS)}")
    add("--nodes", help="NODES file, or a set of the judge: only speeds are taken")
    add_referee(parser)
    add(
        "--network",
        type=read_network,
        default=(LATENCY, BANDWIDTH),
        metavar="MS,MB/S",
        help="emulated; none: as it is",
    )
    add("--processes", action="store_true", help="real processes over TCP")
    add("--mode", choices=MODES, default="sleep")
    add("--seconds", type=float, default=12.0, help="of each plan")
    add("--most", type=int, default=700, help="functions of a trace; larger: left out")
    add("--rounds", type=int, default=5)
    add("--ways", nargs="+", choices=WAYS, default=COMPARED)
    add("--noise", type=float, default=0.0, help="lognormal, on real run times")
    add("--undeclared", action="store_true", help="also without costs, twice")
    add("--event", type=read_event, metavar="KIND@SHARE", help="in mid-run")
    add("--out", metavar="JSON")
    add("--plot", metavar="PNG")
    options = parser.parse_args(argv)
    if options.event and (options.processes or options.noise or options.undeclared):
        parser.error("--event goes with threads, exact and declared costs only")
    if options.mode == "spin" and not options.processes:
        parser.error("--mode spin goes with --processes: threads share a core")
    return options


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    options = parse(argv)
    load()  # else plans of the first minute on a machine are not searched
    out = measure(options)
    out["summary"] = summarize(out["cells"])
    print(report(out))
    if options.out:
        Path(options.out).write_text(json.dumps(out, indent=1) + "\n", encoding="utf-8")
    if options.plot:
        draw(out, options.plot)
    return 1 if any(cell["errors"] for cell in out["cells"]) else 0


if __name__ == "__main__":
    raise SystemExit(main())

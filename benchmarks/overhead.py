"""What a planned run costs beside plain Dask: same graph, same workers, interleaved.

Prints the ratio for submission (until the scheduler has taken the graph in) and for the
whole (until every function has ended), and the shares of our own phases.

    python -m benchmarks.overhead [--functions 10000] [--rounds 5] [--json]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from datetime import date
from typing import Any

import distributed
from distributed import wait

import handout_dask as hd
from handout_dask.plans import allocate
from handout_dask.problem import Problem
from handout_dask.runspec import RunSpec
from handout_dask.runtime.lower import lower
from handout_dask.runtime.submission import Turn, run_spec


def one() -> int:
    """A trivial function."""
    return 1


def total(*values: int) -> int:
    """A trivial function of others."""
    return sum(values)


def flat(n: int) -> hd.Graph:
    """Functions without edges."""
    return hd.Graph([hd.Function(i, [], one) for i in range(n)], "flat")


def layered(n: int) -> hd.Graph:
    """Layers of 100 functions, each of which reads 2 of the layer before."""
    functions = []
    for i in range(n):
        row, column = divmod(i, 100)
        reads = [(row - 1) * 100 + (column + k) % 100 for k in (0, 1)] if row else []
        functions.append(hd.Function(i, reads, total))
    return hd.Graph(functions, "layered")


def until_taken(client: distributed.Client, count: int) -> None:
    """Wait until the scheduler knows `count` tasks."""
    known = client.run_on_scheduler
    while known(lambda dask_scheduler: len(dask_scheduler.tasks)) < count:
        time.sleep(0.002)


def until_empty(client: distributed.Client) -> None:
    """Wait until nothing of the last run is left."""
    known = client.run_on_scheduler
    while known(lambda dask_scheduler: len(dask_scheduler.tasks)):
        time.sleep(0.01)


def plain(client: distributed.Client, graph: hd.Graph) -> tuple[float, float]:
    """Seconds that Dask takes to submit and to run the lowered graph by itself."""
    made = lower(graph, graph.token)
    begin = time.perf_counter()
    futures = client.get(made.layers, list(made.keys), sync=False)
    until_taken(client, len(graph))
    taken = time.perf_counter()
    with client.as_current():
        wait(futures)
    end = time.perf_counter()
    return taken - begin, end - begin


def planned(executor: hd.Executor, graph: hd.Graph) -> tuple[float, float]:
    """Seconds that a planned run takes to submit and to run."""
    begin = time.perf_counter()
    run = executor.submit(graph)
    until_taken(executor.client, len(graph))
    taken = time.perf_counter()
    run.wait()
    end = time.perf_counter()
    assert run.progress.done == len(graph), run
    return taken - begin, end - begin


def phases(executor: hd.Executor, graph: hd.Graph) -> dict[str, float]:
    """Seconds of each of our own phases before the scheduler has the graph."""
    out = {}

    def timed(name: str, work: Any) -> Any:
        begin = time.perf_counter()
        value = work()
        out[name] = time.perf_counter() - begin
        return value

    fresh = timed("build and validate", lambda: hd.Graph(list(graph), graph.name))
    nodes = timed("ask for nodes", executor.nodes)
    problem = timed("problem", lambda: Problem(fresh, nodes))
    plan = timed("plan and check", lambda: allocate(problem, "time"))
    node, option = plan.node.tolist(), plan.option.tolist()
    made = timed("lower", lambda: lower(fresh, "0", node=node, option=option))
    spec: RunSpec = timed("books", lambda: run_spec(plan, made, "0", Turn(0, 1.0)))
    assert len(spec.node) == len(graph)
    return out


def measure(n: int, rounds: int, nodes: int) -> dict[str, Any]:
    """All figures, as medians over interleaved rounds."""
    rows = {}
    with hd.Executor(nodes=[hd.Node(f"n{k}", {"cpu": 1}) for k in range(nodes)]) as ex:
        for make in (flat, layered):
            graph = make(n)
            planned(ex, graph)  # warm up; loading numba costs about 0.7 s, once
            until_empty(ex.client)
            plain(ex.client, make(200))
            until_empty(ex.client)
            ours, dask = [], []
            for k in range(rounds):
                both = [(ours, planned, ex), (dask, plain, ex.client)]
                for times, work, where in both if k % 2 else reversed(both):
                    times.append(work(where, graph))
                    until_empty(ex.client)
            middle = [
                [statistics.median(t[k] for t in times) for k in (0, 1)]
                for times in (ours, dask)
            ]
            rows[graph.name] = {
                "submit_s": middle[0][0],
                "submit_dask_s": middle[1][0],
                "submit_ratio": middle[0][0] / middle[1][0],
                "whole_s": middle[0][1],
                "whole_dask_s": middle[1][1],
                "whole_ratio": middle[0][1] / middle[1][1],
                "phases_s": phases(ex, graph),
            }
    return {
        "date": date.today().isoformat(),
        "functions": n,
        "rounds": rounds,
        "nodes": nodes,
        "distributed": distributed.__version__,
        "python": platform.python_version(),
        "graphs": rows,
    }


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--functions", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    out = measure(options.functions, options.rounds, options.nodes)
    if options.json:
        json.dump(out, sys.stdout, indent=2)
        print()
        return 0
    for name, row in out["graphs"].items():
        print(f"{name}, {out['functions']} functions on {out['nodes']} nodes, medians:")
        for what in ("submit", "whole"):
            print(
                f"  {what:7}{row[f'{what}_s']:7.2f} s, plain Dask "
                f"{row[f'{what}_dask_s']:6.2f} s, ratio {row[f'{what}_ratio']:.2f}"
            )
        known = sum(row["phases_s"].values())
        for what, seconds in row["phases_s"].items():
            print(f"    {what:20}{seconds:7.3f} s {100 * seconds / known:5.1f} %")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

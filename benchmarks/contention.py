"""Plans for a network where transfers compete, executed on it, by the judge.

For each trace a plan that assumes the free network and one that plans for one port per
node; both are played by the judge on the one-port network, in the order of their
planned starts.

    python -m benchmarks.contention TRACE... --referee DIR [--seconds S] [--out JSON]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import handout_dask as hd
from benchmarks.contenders import warm_up
from benchmarks.judge import add_referee, as_cluster, load_judge
from benchmarks.tables import aligned, geometric_mean, show
from handout_dask.formats.planfile import plan_to_dict
from handout_dask.formats.wfformat import read_workflow
from handout_dask.plans import Plan, allocate
from handout_dask.problem import Problem


def executed(judge: Any, judged: Any, nodes: Any, plan: Plan) -> float:
    """The makespan when the judge plays the plan on the one-port network."""
    assignment = judge.as_assignment(plan_to_dict(plan)["schedule"])
    rows = judge.simulate(judged, nodes, assignment, network="oneport")
    return float(max(row["end"] for row in rows))


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("traces", nargs="+", metavar="TRACE")
    add_referee(parser)
    parser.add_argument("--nodes", default="strong8@1")
    parser.add_argument("--seconds", type=float, default=0.1, help="of each search")
    parser.add_argument("--out", metavar="JSON")
    options = parser.parse_args(argv)
    judge = load_judge(options.referee)
    allocator = hd.allocator("time", time_budget=options.seconds)
    warm_up([allocator])
    cells: list[dict[str, Any]] = []
    for trace in options.traces:
        judged, graph = judge.load_wfformat(trace), read_workflow(trace)
        nodes = judge.read_nodes(options.nodes, judged)
        cell: dict[str, Any] = {"trace": Path(trace).stem}
        for network in ("free", "oneport"):
            problem = Problem(graph, as_cluster(nodes), network=network)
            begin = time.thread_time()
            plan = allocate(problem, allocator)
            cell[network] = {
                "planned": plan.makespan,
                "executed": executed(judge, judged, nodes, plan),
                "cpu": time.thread_time() - begin,
            }
        cells.append(cell)
    rows = [
        (
            cell["trace"][:24],
            show(cell["free"]["executed"] / cell["free"]["planned"]),
            show(cell["oneport"]["executed"] / cell["oneport"]["planned"]),
            show(cell["oneport"]["executed"] / cell["free"]["executed"]),
        )
        for cell in cells
    ]
    means = [geometric_mean([float(row[c]) for row in rows]) for c in (1, 2, 3)]
    rows.append(("geometric mean", *map(show, means)))
    header = ("executed over planned", "free", "one port", "one port / free, executed")
    print(aligned(header, rows))
    if options.out:
        doc = {"date": str(date.today()), "seconds": options.seconds, "cells": cells}
        Path(options.out).write_text(json.dumps(doc, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

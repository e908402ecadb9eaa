"""Re-planning under noise: makespans over those of a planner that knows the run times.

Static HEFT, the static searched plan, and the searched plan steered by
``allocators.controller.replan``, each played with lognormal noise on the run times, on
the judge's node sets.

    python -m benchmarks.controller TRACE... --referee DIR [--noise 0.3] [--out JSON]
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

import handout_dask as hd
from benchmarks.contenders import warm_up
from benchmarks.judge import add_referee, as_cluster, load_judge
from benchmarks.tables import aligned, geometric_mean, show
from handout_dask.allocators.controller import replan
from handout_dask.allocators.engine import place, upward_rank
from handout_dask.formats.wfformat import read_workflow
from handout_dask.plans import Plan, allocate
from handout_dask.problem import Problem
from handout_dask.simulation import noise_factors, simulate

NODES = ("mild4", "strong8", "wide32", "strong8@1")
WAYS = ("static HEFT", "static search", "controlled")


def clairvoyant(problem: Problem, factor: np.ndarray, seconds: float) -> float:
    """The makespan of a search that knows the run times."""
    known = copy.copy(problem)
    repeats = np.diff(problem.option_ptr)
    known.option_work = problem.option_work * np.repeat(factor, repeats)
    allocator = hd.allocator("time", time_budget=seconds)
    plan: Plan = allocator.allocate(known)
    return plan.makespan


def ratios(problem: Problem, noise: float, seed: int, seconds: float) -> list[float]:
    """Of each way, the makespan over the clairvoyant's."""
    best = clairvoyant(problem, noise_factors(problem, noise, seed), seconds)
    heft = place(problem, key=-upward_rank(problem))
    searched = allocate(problem, hd.allocator("time", time_budget=seconds))
    spans = (
        simulate(heft, noise=noise, seed=seed),
        simulate(searched, noise=noise, seed=seed),
        simulate(searched, noise=noise, seed=seed, controller=replan),
    )
    return [max(span.end for span in played) / best for played in spans]


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("traces", nargs="+", metavar="TRACE")
    add_referee(parser)
    parser.add_argument("--nodes", nargs="+", default=NODES)
    parser.add_argument("--noise", type=float, default=0.3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.3, help="of each search")
    parser.add_argument("--out", metavar="JSON")
    options = parser.parse_args(argv)
    judge = load_judge(options.referee)
    warm_up([hd.allocator("time")])
    cells: list[dict[str, Any]] = []
    for trace in options.traces:
        judged, graph = judge.load_wfformat(trace), read_workflow(trace)
        for name in options.nodes:
            problem = Problem(graph, as_cluster(judge.read_nodes(name, judged)))
            for seed in range(1, options.seeds + 1):
                found = ratios(problem, options.noise, seed, options.seconds)
                cell = dict(zip(WAYS, found, strict=True))
                cells.append(
                    {"trace": Path(trace).stem, "nodes": name, "seed": seed, **cell}
                )
    rows = []
    for way in WAYS:
        means = [
            geometric_mean([cell[way] for cell in cells if cell["nodes"] == name])
            for name in options.nodes
        ]
        rows.append((way, *map(show, means)))
    print(aligned(("over the clairvoyant search", *options.nodes), rows))
    if options.out:
        doc = {"date": str(date.today()), "noise": options.noise, "cells": cells}
        Path(options.out).write_text(json.dumps(doc, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

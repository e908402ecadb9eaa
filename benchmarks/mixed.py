"""Nodes on which slots, cores, memory and GPUs all bind: ours against greedy rules.

Traces are merged, several at a time, into one problem for the judge's node set mixed6;
cores and memory of each function are scaled where they still fit a node, and some
functions need a GPU. Every plan must be feasible, or the benchmark fails.

    python -m benchmarks.mixed TRACE... --referee DIR [--out JSON]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import handout_dask as hd
from benchmarks.contenders import contender, contenders, warm_up, with_budgets
from benchmarks.greedy import RULES
from benchmarks.judge import (
    InfeasibleError,
    add_referee,
    as_cluster,
    as_graph,
    check_rows,
    load_judge,
    put_before,
)
from benchmarks.tables import aligned, geometric_mean, show
from handout_dask.plans import allocate

BUDGETS = (0.0, 0.1, 1.0)  # seconds
NO_BOUNDS = {"makespan", "money_task", "feasible"}  # of what the judge calls bounds


def windows(problems: list[Any], size: int) -> Iterator[list[Any]]:
    """Every run of `size` problems in a ring; fewer problems repeat."""
    for k in range(len(problems)):
        yield [problems[(k + i) % len(problems)] for i in range(size)]


def merge(judge: Any, problems: list[Any], name: str) -> Any:
    """One problem of several; ids and groups are prefixed with a number."""
    tasks, edges = [], []
    for k, problem in enumerate(problems):
        for task in problem.tasks:
            new = {"id": f"{k}:{task.id}", "group": f"{k}:{task.group}"}
            tasks.append(replace(task, **new))
        for edge in problem.edges:
            edges.append(judge.Edge(f"{k}:{edge.src}", f"{k}:{edge.dst}", edge.bytes))
    return judge.Problem(name, tasks, edges)


def scale(judge: Any, problem: Any, nodeset: Any, factor: float) -> int:
    """Multiply cores and memory where a node still fits; how many were scaled."""
    count = 0
    for task in problem.tasks:
        for what in ("cores", "memory_mb"):
            old = getattr(task, what)
            setattr(task, what, old * factor)
            if any(judge.can_run(task, node) for node in nodeset.nodes):
                count += old > 0
            else:
                setattr(task, what, old)
    return count


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All cells, with what was left out and why."""
    judge = load_judge(options.referee)
    problems = [judge.read_problem(path) for path in sorted(options.traces)]
    nodeset = judge.read_nodes(options.nodes)
    cluster = as_cluster(nodeset)
    wanted = [contender(name) for name in options.allocators]
    wanted += with_budgets("time", options.time_budgets)
    made, skipped = contenders(wanted)
    warm_up(made.values())
    cells = []
    for k, some in enumerate(windows(problems, options.merge)):
        problem = merge(judge, some, f"window {k}")
        judge.inject_gpu(problem, options.gpu_fraction, k)
        scaled = scale(judge, problem, nodeset, options.scale)
        bound = judge.bounds(problem, nodeset)
        kinds = {key: bound[key] for key in bound.keys() - NO_BOUNDS}
        cell: dict[str, Any] = {
            "window": k,
            "traces": [part.name for part in some],
            "functions": len(problem.tasks),
            "gpu_functions": sum(task.gpus > 0 for task in problem.tasks),
            "scaled_demands": scaled,
            "bound": bound["makespan"],
            "bound_by": max(kinds, key=kinds.__getitem__),
            "makespan": {},
            "cpu_s": {},
        }
        for column, rule in RULES.items():
            rows = rule(judge, problem, nodeset)
            verdict = check_rows(judge, problem, nodeset, rows, column)
            cell["makespan"][column] = verdict["makespan"]
        ours = hd.Problem(as_graph(problem), cluster)
        for column, allocator in made.items():
            begin = time.process_time()
            plan = allocate(ours, allocator)
            cell["cpu_s"][column] = time.process_time() - begin
            verdict = put_before(judge, problem, nodeset, plan)
            cell["makespan"][column] = verdict["makespan"]
        cells.append(cell)
        print(f"window {k}: done", file=sys.stderr)
    return {"date": date.today().isoformat(), "skipped": skipped, "cells": cells}


def summarize(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each column: geometric means over the bound and over each greedy rule."""
    rows = []
    for column in cells[0]["makespan"]:
        mean = {
            base: geometric_mean(
                cell["makespan"][column] / cell["makespan"].get(base, cell["bound"])
                for cell in cells
            )
            for base in ("bound", *RULES)
        }
        took = [cell["cpu_s"][column] for cell in cells if column in cell["cpu_s"]]
        most = max(cell["makespan"][column] / cell["bound"] for cell in cells)
        seconds = sum(took) / len(took) if took else None
        rows.append({"column": column, "over": mean, "most": most, "cpu_s": seconds})
    return rows


def report(out: dict[str, Any]) -> str:
    """The cells and the summary as text."""
    columns = list(out["cells"][0]["makespan"])
    header = ["makespan / bound", "functions", "GPU", "bound s", "by", *columns]
    lines = [
        [
            f"window {cell['window']}",
            show(cell["functions"]),
            show(cell["gpu_functions"]),
            show(cell["bound"], 1),
            cell["bound_by"],
            *(show(cell["makespan"][c] / cell["bound"]) for c in columns),
        ]
        for cell in out["cells"]
    ]
    text = [aligned(header, lines), ""]
    header = ["geometric means", "/ bound", "most", *(f"/ {r}" for r in RULES), "CPU s"]
    lines = [
        [
            row["column"],
            show(row["over"]["bound"]),
            show(row["most"]),
            *(show(row["over"][rule]) for rule in RULES),
            show(row["cpu_s"]),
        ]
        for row in out["summary"]
    ]
    text.append(aligned(header, lines))
    text += [f"left out: {column}: {why}" for column, why in out["skipped"].items()]
    return "\n".join(text)


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("traces", nargs="+", metavar="TRACE", help="WfFormat files")
    add_referee(parser)
    parser.add_argument("--nodes", default="mixed6", help="a node set of the judge")
    parser.add_argument("--merge", type=int, default=8, help="traces of a problem")
    parser.add_argument("--scale", type=float, default=8.0, help="cores and memory")
    parser.add_argument("--gpu-fraction", type=float, default=0.2)
    parser.add_argument("--allocators", nargs="*", default=["time"])
    parser.add_argument(
        "--time-budgets", type=float, nargs="*", default=BUDGETS, metavar="S"
    )
    parser.add_argument("--out", metavar="JSON")
    options = parser.parse_args(argv)
    try:
        out = measure(options)
    except InfeasibleError as error:
        print(f"infeasible: {error}", file=sys.stderr)
        return 1
    out["summary"] = summarize(out["cells"])
    print(report(out))
    if options.out:
        Path(options.out).write_text(json.dumps(out, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

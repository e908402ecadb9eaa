"""Makespans of every allocator over the judge's lower bound, beside other planners'.

For each trace and node set: our allocators (also ``time`` with budgets of seconds),
those of anrg-saga where it is installed, and what the judge's folder knows of others.
Every plan of ours must be feasible, or the benchmark fails.

    python -m benchmarks.allocation TRACE... --referee DIR [--out JSON] [--plot PNG]

`pip install anrg-saga==2.0.2 matplotlib` for saga's columns and the plot.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import handout_dask as hd
from benchmarks import peers
from benchmarks.contenders import contender, contenders, warm_up, with_budgets
from benchmarks.judge import (
    InfeasibleError,
    add_referee,
    as_cluster,
    load_judge,
    put_before,
    read_baselines,
)
from benchmarks.tables import aligned, geometric_mean, show
from handout_dask.allocators import TABLE
from handout_dask.formats.wfformat import read_workflow
from handout_dask.plans import allocate

NODES = ("mild4", "strong8", "wide32", "strong8@1")
BUDGETS = (0.0, 0.1, 1.0)  # seconds
KNOWN = ("saga_heft", "saga_best", "dask_rule", "prototype_0.1s", "prototype_1s")
SAME = 1e-6  # relative; baselines are rounded to so much
Cell = dict[str, Any]


def plan_ours(
    judge: Any, made: dict[str, Any], cell: Cell, problem: Any, nodeset: Any, graph: Any
) -> None:
    """Fill a cell with our makespans and the CPU seconds of planning."""
    ours = hd.Problem(graph, as_cluster(nodeset))
    for column, allocator in made.items():
        begin = time.process_time()
        try:
            plan = allocate(ours, allocator)
        except hd.AllocationError as error:  # what an allocator refuses to plan
            cell["refused"][column] = str(error)
            continue
        cell["cpu_s"][column] = time.process_time() - begin
        verdict = put_before(judge, problem, nodeset, plan)
        cell["makespan"][column] = verdict["makespan"]


def plan_saga(judge: Any, cell: Cell, problem: Any, nodeset: Any, most: int) -> None:
    """Fill a cell with saga's makespans; above `most` functions only the fast ones."""
    try:
        network, graph = peers.as_saga(problem, nodeset)
    except peers.UnsuitedError as error:
        cell["refused"]["saga"] = str(error)
        return
    for name in peers.SCHEDULERS:
        if name in peers.SLOW and len(problem.tasks) > most:
            cell["refused"][f"saga {name}"] = f"slow: above {most} functions left out"
            continue
        begin = time.process_time()
        try:
            rows = peers.schedule(name, network, graph)
        except ValueError as error:  # of its own check
            cell["refused"][f"saga {name}"] = f"saga raises: {error}"
            continue
        cell["cpu_s"][f"saga {name}"] = time.process_time() - begin
        verdict = judge.validate(problem, nodeset, rows)
        if verdict["feasible"]:
            cell["makespan"][f"saga {name}"] = verdict["makespan"]
        else:
            cell["refused"][f"saga {name}"] = verdict["errors"][0]["text"]


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All cells, with what was left out and why."""
    judge = load_judge(options.referee)
    baselines = read_baselines(options.referee)
    wanted = [contender(name) for name in options.allocators]
    wanted += with_budgets("time", options.time_budgets)
    made, skipped = contenders(wanted)
    absent = "not asked for" if options.no_saga else peers.why_absent()
    if absent:
        skipped["saga"] = absent
    warm_up(made.values())
    cells = []
    for path in options.traces:
        problem, graph = judge.read_problem(path), read_workflow(path)
        for name in options.nodes:
            nodeset = judge.read_nodes(name, problem)
            bound = judge.bounds(problem, nodeset)
            if not bound["feasible"]:
                print(f"{problem.name}, {name}: {bound['reason']}", file=sys.stderr)
                continue
            cell: Cell = {
                "trace": problem.name,
                "nodes": name,
                "functions": len(problem.tasks),
                "bound": bound["makespan"],
                "makespan": {},
                "cpu_s": {},
                "refused": {},
            }
            plan_ours(judge, made, cell, problem, nodeset, graph)
            if not absent:
                plan_saga(judge, cell, problem, nodeset, options.saga_most)
            known = baselines.get((problem.name, name), {})
            cell["baselines"] = {k: known[k] for k in KNOWN if k in known}
            cell["optimum"] = known.get("optimum")
            cells.append(cell)
            print(f"{problem.name}, {name}: done", file=sys.stderr)
    return {
        "date": date.today().isoformat(),
        "python": platform.python_version(),
        "processor": platform.processor() or platform.machine(),
        "skipped": skipped,
        "cells": cells,
    }


def columns_of(cells: list[Cell]) -> dict[str, dict[tuple[str, str], float]]:
    """Makespans by column and cell; what the judge's folder knows goes last."""
    columns: dict[str, dict[tuple[str, str], float]] = {}
    for source, mark in (("makespan", ""), ("baselines", "known ")):
        for cell in cells:
            for column, value in cell[source].items():
                at = cell["trace"], cell["nodes"]
                columns.setdefault(mark + column, {})[at] = value
    return columns


def summarize(cells: list[Cell]) -> list[dict[str, Any]]:
    """For each column: means over the bound, and how it stands to saga and optima."""
    rows = []
    for column, values in columns_of(cells).items():
        mine = [cell for cell in cells if (cell["trace"], cell["nodes"]) in values]
        pairs = [(cell, values[cell["trace"], cell["nodes"]]) for cell in mine]
        over = {
            name: geometric_mean(
                value / cell["bound"] for cell, value in pairs if cell["nodes"] == name
            )
            for name in dict.fromkeys(cell["nodes"] for cell in cells)
        }
        worse = [
            f"{c['trace']} on {c['nodes']}"
            for c, value in pairs
            if value > c["baselines"].get("saga_best", value) * (1 + SAME)
        ]
        away = [v / c["optimum"] - 1 for c, v in pairs if c["optimum"]]
        took = [c["cpu_s"][column] for c in mine if column in c["cpu_s"]]
        rows.append(
            {
                "column": column,
                "cells": len(mine),
                "over_bound": over,
                "worse_than_saga_best": worse,
                "optima": len(away),
                "from_optima_mean": sum(away) / len(away) if away else None,
                "from_optima_most": max(away, default=None),
                "cpu_s_mean": sum(took) / len(took) if took else None,
                "cpu_s_most": max(took, default=None),
            }
        )
    return rows


def report(out: dict[str, Any]) -> str:
    """The summary as text."""
    rows = out["summary"]
    sets = list(rows[0]["over_bound"])
    header = [
        "makespan / bound", *sets, "cells", "> saga_best", "optima",
        "mean off %", "most off %", "CPU s", "most CPU s",
    ]  # fmt: skip
    lines = []
    for row in rows:
        off = [row["from_optima_mean"], row["from_optima_most"]]
        lines.append(
            [
                row["column"],
                *(show(row["over_bound"][name]) for name in sets),
                show(row["cells"]),
                show(len(row["worse_than_saga_best"])),
                show(row["optima"]),
                *(show(None if x is None else 100 * x, 3) for x in off),
                show(row["cpu_s_mean"]),
                show(row["cpu_s_most"]),
            ]
        )
    text = [aligned(header, lines)]
    text += [f"left out: {column}: {why}" for column, why in out["skipped"].items()]
    for column, why in {
        k: v for c in out["cells"] for k, v in c["refused"].items()
    }.items():
        count = sum(column in cell["refused"] for cell in out["cells"])
        text.append(f"no plan in {count} cells: {column}: {why}")
    return "\n".join(text)


def draw(out: dict[str, Any], path: str) -> None:
    """A picture for each node set: each trace a point, with geometric means.

    What is drawn is the excess over the bound, for most planners are close to it.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("no plot: matplotlib is not installed", file=sys.stderr)
        return
    columns, cells, rows = columns_of(out["cells"]), out["cells"], out["summary"]
    sets = list(rows[0]["over_bound"])
    figure = Figure(figsize=(11, 2.6 * len(sets)), layout="constrained")
    for axes, name in zip(
        figure.subplots(len(sets), squeeze=False)[:, 0], sets, strict=True
    ):
        for x, row in enumerate(rows):
            values = columns[row["column"]]
            over = [
                100 * (values[c["trace"], name] / c["bound"] - 1)
                for c in cells
                if c["nodes"] == name and (c["trace"], name) in values
            ]
            color = "C7" if row["column"].startswith(("known", "saga")) else "C0"
            axes.plot([x] * len(over), over, "o", color=color, alpha=0.35, ms=4)
            mean = 100 * (row["over_bound"][name] - 1)
            axes.plot([x], [mean], "_", color="black", ms=16)
        axes.set_yscale("symlog", linthresh=0.1)
        axes.set_ylim(bottom=-0.02)
        axes.set_ylabel(f"{name}\n% over bound")
        axes.grid(axis="y", alpha=0.3)
        axes.set_xticks(range(len(rows)), [])
    axes.set_xticks(
        range(len(rows)), [row["column"] for row in rows], rotation=60, ha="right"
    )
    figure.savefig(path, dpi=110)


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("traces", nargs="+", metavar="TRACE", help="WfFormat files")
    add_referee(parser)
    parser.add_argument("--nodes", nargs="+", default=NODES, help="sets of the judge")
    parser.add_argument("--allocators", nargs="*", default=list(TABLE))
    parser.add_argument(
        "--time-budgets", type=float, nargs="*", default=BUDGETS, metavar="S"
    )
    parser.add_argument("--no-saga", action="store_true")
    parser.add_argument(
        "--saga-most",
        type=int,
        default=500,
        help="functions of a trace up to which saga's slow schedulers plan it",
    )
    parser.add_argument("--out", metavar="JSON")
    parser.add_argument("--plot", metavar="PNG")
    options = parser.parse_args(argv)
    try:
        out = measure(options)
    except InfeasibleError as error:
        print(f"infeasible: {error}", file=sys.stderr)
        return 1
    if not out["cells"]:
        raise SystemExit("no trace fits a node set")
    out["summary"] = summarize(out["cells"])
    print(report(out))
    if options.out:
        Path(options.out).write_text(json.dumps(out, indent=1) + "\n", encoding="utf-8")
    if options.plot:
        draw(out, options.plot)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

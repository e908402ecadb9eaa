"""Money under a deadline, billed by function and by hold, over bounds and over HEFT.

On the judge's node set strong8, for deadlines that are multiples of HEFT's makespan.
Small traces are compared with kept lower bounds (benchmarks.money_bounds makes them),
the others with the money of our HEFT's plan. Every plan must be feasible and in time,
or the benchmark fails.

    python -m benchmarks.money TRACE... --referee DIR [--out JSON]
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
from benchmarks.contenders import contender, contenders, warm_up, with_budgets
from benchmarks.judge import (
    InfeasibleError,
    add_referee,
    as_cluster,
    load_judge,
    put_before,
    read_baselines,
)
from benchmarks.money_bounds import (
    BILLINGS,
    FACTORS,
    KEPT,
    MOST,
    NODES,
    bound_of,
    read_bounds,
)
from benchmarks.tables import aligned, geometric_mean, show
from handout_dask.formats.wfformat import read_workflow
from handout_dask.plans import allocate

LATE = 1e-9  # relative, allowed after a deadline
MEASURE = {"function": "money_task", "held": "money_hold"}  # of the judge's verdict
HEFT = "heft"


def heft() -> Any:
    """HEFT alone: ``time`` without a search, where it has one."""
    made, _ = contenders([*with_budgets("time", [0.0]), contender("time")])
    return next(iter(made.values()))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All cells, with what was left out and why."""
    judge = load_judge(options.referee)
    baselines, kept = read_baselines(options.referee), read_bounds(options.bounds)
    cells: list[dict[str, Any]] = []
    skipped: dict[str, str] = {}
    distant, _ = contenders([contender("cost", deadline=1e9)])
    warm_up([heft(), *distant.values()])
    for path in options.traces:
        problem, graph = judge.read_problem(path), read_workflow(path)
        nodeset = judge.read_nodes(NODES, problem)
        fastest = allocate(hd.Problem(graph, as_cluster(nodeset)), heft())
        usual = put_before(judge, problem, nodeset, fastest)
        known = baselines.get((problem.name, NODES), {})
        reference = known.get("saga_heft", usual["makespan"])
        for billing in options.billings:
            ours = hd.Problem(graph, as_cluster(nodeset, billing))
            for factor in options.factors:
                deadline = factor * reference
                bound = bound_of(kept, problem.name, factor, billing, deadline)
                cell: dict[str, Any] = {
                    "trace": problem.name,
                    "functions": len(problem.tasks),
                    "billing": billing,
                    "factor": factor,
                    "deadline": deadline,
                    "bound": bound.bound if bound else None,
                    "proven": bound is not None and bound.status == "OPTIMAL",
                    "money": {HEFT: usual[MEASURE[billing]]},
                    "cpu_s": {},
                }
                wanted = [contender("cost", deadline=deadline)]
                wanted += with_budgets("cost", options.time_budgets, deadline=deadline)
                made, without = contenders(wanted)
                skipped |= without
                for column, allocator in made.items():
                    plan_cell(judge, cell, column, allocator, problem, nodeset, ours)
                cells.append(cell)
        print(f"{problem.name}: done", file=sys.stderr)
    return {"date": date.today().isoformat(), "skipped": skipped, "cells": cells}


def plan_cell(
    judge: Any,
    cell: dict[str, Any],
    column: str,
    allocator: Any,
    problem: Any,
    nodeset: Any,
    ours: hd.Problem,
) -> None:
    """Fill a cell with the money of an allocator's plan, which must be in time."""
    begin = time.process_time()
    plan = allocate(ours, allocator)
    cell["cpu_s"][column] = time.process_time() - begin
    verdict = put_before(judge, problem, nodeset, plan)
    if verdict["makespan"] > cell["deadline"] * (1 + LATE):
        raise InfeasibleError(
            f"{column} on {problem.name}: ends at {verdict['makespan']:.6f} s, after "
            f"the deadline of {cell['deadline']:.6f} s"
        )
    cell["money"][column] = verdict[MEASURE[cell["billing"]]]


def summarize(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Geometric means for each billing, deadline and column."""
    rows = []
    for billing in dict.fromkeys(cell["billing"] for cell in cells):
        factors = dict.fromkeys(cell["factor"] for cell in cells)
        for factor in [*factors, None]:  # None: all deadlines
            here = [
                cell
                for cell in cells
                if cell["billing"] == billing and factor in (None, cell["factor"])
            ]
            for column in dict.fromkeys(c for cell in here for c in cell["money"]):
                rows.append(_row(here, billing, factor, column))
    return rows


def _row(
    cells: list[dict[str, Any]], billing: str, factor: float | None, column: str
) -> dict[str, Any]:
    small = [cell for cell in cells if cell["bound"]]  # some have none yet
    large = [cell for cell in cells if cell["functions"] > MOST]
    took = [cell["cpu_s"][column] for cell in cells if column in cell["cpu_s"]]
    over = [cell["money"][column] / cell["bound"] for cell in small]
    proven = [r for r, cell in zip(over, small, strict=True) if cell["proven"]]
    return {
        "billing": billing,
        "factor": factor,
        "column": column,
        "over_bound": geometric_mean(over),
        "over_bound_most": max(over, default=None),
        "bounds": len(over),
        "over_proven": geometric_mean(proven),
        "proven": len(proven),
        "over_heft": geometric_mean(
            cell["money"][column] / cell["money"][HEFT] for cell in large
        ),
        "large": len(large),
        "cpu_s": sum(took) / len(took) if took else None,
    }


def report(out: dict[str, Any]) -> str:
    """The summary as text.

    "/ proven" is over those bounds that are proven optimal.
    """
    header = [
        "money", "deadline", "allocator", "/ bound", "most", "cells", "/ proven",
        "cells", "/ HEFT", "large cells", "CPU s",
    ]  # fmt: skip
    lines = [
        [
            row["billing"],
            "all" if row["factor"] is None else f"{row['factor']:g}x",
            row["column"],
            show(row["over_bound"]),
            show(row["over_bound_most"]),
            show(row["bounds"]),
            show(row["over_proven"]),
            show(row["proven"]),
            show(row["over_heft"]),
            show(row["large"]),
            show(row["cpu_s"]),
        ]
        for row in out["summary"]
    ]
    text = [aligned(header, lines)]
    text += [f"left out: {column}: {why}" for column, why in out["skipped"].items()]
    return "\n".join(text)


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("traces", nargs="+", metavar="TRACE", help="WfFormat files")
    add_referee(parser)
    parser.add_argument("--factors", type=float, nargs="+", default=FACTORS)
    parser.add_argument("--billings", nargs="+", default=BILLINGS, choices=BILLINGS)
    parser.add_argument(
        "--time-budgets", type=float, nargs="*", default=(), metavar="S",
        help="further columns: cost with these time budgets",
    )  # fmt: skip
    parser.add_argument("--bounds", type=Path, default=KEPT, help="the kept bounds")
    parser.add_argument("--out", metavar="JSON")
    options = parser.parse_args(argv)
    try:
        out = measure(options)
    except (InfeasibleError, hd.UnsatisfiableError) as error:
        print(f"no valid plan: {error}", file=sys.stderr)
        return 1
    out["summary"] = summarize(out["cells"])
    print(report(out))
    if options.out:
        Path(options.out).write_text(json.dumps(out, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

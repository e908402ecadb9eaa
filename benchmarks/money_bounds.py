"""Lower bounds on money under a deadline, by CP-SAT, for small problems. Needs ortools.

The model is a relaxation (see money_model), so the solver's best bound holds for every
real plan. Bounds are kept in a file, since solving takes long; another run searches on
what is not proven optimal yet, and keeps the better.

    python -m benchmarks.money_bounds TRACE... --referee DIR [--seconds 25]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import handout_dask as hd
from benchmarks.judge import (
    add_referee,
    as_cluster,
    as_graph,
    load_judge,
    read_baselines,
)
from benchmarks.money_model import TICKS, UNITS, Model

NODES = "strong8"
FACTORS = (1.25, 1.5, 2.0, 3.0)
BILLINGS = ("function", "held")
MOST = 70  # functions, above which no bound is computed
KEPT = Path(__file__).parent / "results" / "money-bounds.json"


@dataclass(frozen=True)
class Bound:
    """What the solver found for one cell.

    ``bound`` is the proven lower bound [money]; ``objective`` the money of the best
    solution of the relaxed model, None where none was found; ``deadline`` is in
    seconds, as is the ``seconds`` that solving took.
    """

    trace: str
    nodes: str
    factor: float
    billing: str
    deadline: float
    bound: float
    objective: float | None
    status: str
    seconds: float
    ticks: int = TICKS
    units: int = UNITS

    @property
    def key(self) -> str:
        """What the cell is kept under."""
        return cell_key(self.trace, self.factor, self.billing)


def cell_key(trace: str, factor: float, billing: str) -> str:
    """What a cell is kept under."""
    return f"{trace} {factor:g} {billing}"


def read_bounds(path: Path = KEPT) -> dict[str, Bound]:
    """The bounds that are kept, by cell."""
    if not path.is_file():
        return {}
    rows = json.loads(path.read_text(encoding="utf-8"))["bounds"]
    return {bound.key: bound for bound in (Bound(**row) for row in rows)}


def keep_bounds(bounds: dict[str, Bound], path: Path = KEPT) -> None:
    """Write the bounds, replacing the file at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [asdict(bounds[key]) for key in sorted(bounds)]
    text = json.dumps({"about": __doc__.split("\n")[0], "bounds": rows}, indent=1)
    new = path.with_suffix(".new")
    new.write_text(text + "\n", encoding="utf-8")
    new.replace(path)


def best_of(old: Bound | None, new: Bound) -> Bound:
    """The higher bound with the lower objective; the seconds add up."""
    if old is None:
        return new
    found = [x.objective for x in (old, new) if x.objective is not None]
    status = new.status if new.objective is not None else old.status
    return replace(
        new,
        bound=max(old.bound, new.bound),
        objective=min(found, default=None),
        status=status,
        seconds=round(old.seconds + new.seconds, 2),
    )


def bound_of(
    kept: dict[str, Bound],
    trace: str,
    factor: float,
    billing: str,
    deadline: float,
) -> Bound | None:
    """The kept bound of a cell, if it was computed for this deadline."""
    found = kept.get(cell_key(trace, factor, billing))
    if found is None or not math.isclose(found.deadline, deadline, rel_tol=1e-9):
        return None
    return found


def solve(
    judge: Any,
    problem: Any,
    factor: float,
    billing: str,
    deadline: float,
    least: float,
    options: argparse.Namespace,
) -> Bound:
    """The bound of one cell, at least the `least` money that is known already."""
    from ortools.sat.python import cp_model

    nodeset = judge.read_nodes(NODES, problem)
    model = Model(judge, problem, nodeset, deadline)
    plan = hd.plan(as_graph(problem), as_cluster(nodeset), "time")
    if plan.makespan <= deadline:
        at = [plan.problem.where[task.id] for task in problem.tasks]
        model.hint(plan.node[at].tolist(), plan.start[at].tolist())
    pay = model.pay_functions if billing == "function" else model.pay_holds
    total, unit, slack = pay()
    model.cp.minimize(total)
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = options.seconds
    solver.parameters.num_workers = options.workers
    solver.parameters.linearization_level = 2
    solver.parameters.use_objective_lb_search = options.lower
    status = solver.solve(model.cp)
    found = status in (cp_model.OPTIMAL, cp_model.FEASIBLE)
    return Bound(
        trace=problem.name,
        nodes=NODES,
        factor=factor,
        billing=billing,
        deadline=deadline,
        bound=max(least, math.floor(solver.best_objective_bound) * unit - slack),
        objective=solver.objective_value * unit if found else None,
        status=solver.status_name(status),
        seconds=round(solver.wall_time, 2),
    )


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("traces", nargs="+", metavar="TRACE")
    add_referee(parser)
    parser.add_argument("--seconds", type=float, default=25.0, help="for each cell")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--factors", type=float, nargs="+", default=FACTORS)
    parser.add_argument("--billings", nargs="+", default=BILLINGS, choices=BILLINGS)
    parser.add_argument("--most", type=int, default=MOST, help="functions of a trace")
    parser.add_argument("--lower", action="store_true", help="search from below")
    parser.add_argument("--again", action="store_true", help="also what is proven")
    parser.add_argument("--out", type=Path, default=KEPT)
    options = parser.parse_args(argv)
    if importlib.util.find_spec("ortools") is None:
        raise SystemExit("ortools is not installed: pip install ortools")
    judge = load_judge(options.referee)
    baselines = read_baselines(options.referee)
    for path in options.traces:
        problem = judge.read_problem(path)
        if len(problem.tasks) > options.most:
            print(f"{problem.name}: {len(problem.tasks)} functions, left out")
            continue
        fastest = baselines[problem.name, NODES]["saga_heft"]
        for factor in options.factors:
            for billing in options.billings:
                deadline = factor * fastest
                kept = read_bounds(options.out)
                # A hold is no shorter than what runs in it, one after another, so a
                # bound by function is one by hold too.
                old, basic = (
                    bound_of(kept, problem.name, factor, which, deadline)
                    for which in (billing, "function")
                )
                if old and old.status == "OPTIMAL" and not options.again:
                    continue
                least = max((x.bound for x in (old, basic) if x), default=0.0)
                new = solve(judge, problem, factor, billing, deadline, least, options)
                print(new, flush=True)
                keep_bounds(kept | {new.key: best_of(old, new)}, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())

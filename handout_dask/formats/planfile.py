"""Plan files: a Plan as a JSON document, and back. Knows documents, not files."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from handout_dask.billing import bill
from handout_dask.errors import AllocationError
from handout_dask.events import DONE, Span
from handout_dask.node import Cluster
from handout_dask.plans import Plan, check_plan
from handout_dask.problem import Problem


def plan_to_dict(plan: Plan) -> dict[str, Any]:
    """The plan as a document that ``json.dump`` takes.

    Returns
    -------
    dict
        ``schedule`` has a row for each function, by start: ``task``, ``node``,
        ``start`` and ``end`` [s], and ``variant`` where it is not the first cost
        alternative. Beside it ``makespan`` [s], ``money``, ``billing`` (how money is
        counted), ``energy`` [W s], ``transferred`` [MB], ``network`` (for which the
        plan is made), ``planning_time`` [s], ``allocator``, ``guessed`` (number of
        guessed run times), ``estimates`` (of time, memory and size the numbers that
        are declared, learned and guessed) and ``workflow`` (the graph's name).
    """
    rows = []
    for placed in plan:
        row = schedule_row(placed.function, placed.node, placed.start, placed.end)
        if placed.option:
            row["variant"] = placed.option
        rows.append(row)
    return {
        "schedule": rows,
        "makespan": plan.makespan,
        "money": plan.money,
        "billing": plan.problem.cluster.billing,
        "energy": _energy(plan.problem.cluster, plan.node, plan.start, plan.end),
        "transferred": plan.transferred,
        "network": plan.problem.network,
        "planning_time": plan.planning_time,
        "allocator": plan.allocator,
        "guessed": int(plan.guessed.sum()),
        "estimates": plan.estimates,
        "workflow": plan.problem.graph.name,
    }


def network_of(doc: Any) -> str:
    """The network for which the plan of a document is made; ``free`` if unsaid."""
    return str(doc.get("network", "free")) if isinstance(doc, Mapping) else "free"


def schedule_row(
    function: Hashable, node: str, start: float, end: float
) -> dict[str, Any]:
    """One row of a schedule."""
    return {"task": id_to_json(function), "node": node, "start": start, "end": end}


def id_to_json(id: Hashable) -> str | int | float:
    """The id itself where JSON has it as a text or number, else its repr.

    >>> id_to_json("a"), id_to_json(1), id_to_json(("a", 1))
    ('a', 1, "('a', 1)")
    """
    if type(id) in (str, int) or (type(id) is float and math.isfinite(id)):
        return id  # type: ignore[return-value]
    return repr(id)


def plan_from_dict(doc: Any, problem: Problem) -> Plan:
    """The plan of a document, for a problem.

    Parameters
    ----------
    doc : mapping
        As `plan_to_dict` makes it; of it only ``schedule`` is needed.
    problem : Problem
        Whose functions and nodes the plan names.

    Returns
    -------
    Plan
        Checked.

    Raises
    ------
    AllocationError
        If the document is no plan, or not of this problem, or breaks a rule of it.
    """
    rows = doc.get("schedule") if isinstance(doc, Mapping) else None
    if not isinstance(rows, list):
        raise AllocationError("the plan has no 'schedule' list")
    where = _positions(problem)
    n = len(problem.functions)
    node = np.full(n, -1, dtype=np.int64)
    option = np.zeros(n, dtype=np.int64)
    start, end = np.zeros(n), np.zeros(n)
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise AllocationError(f"schedule[{number}] must be an object, not {row!r}")
        i, j = _find(row, number, where, problem)
        if node[i] >= 0:
            raise AllocationError(f"the plan has task {row['task']!r} twice")
        node[i], option[i] = j, _number(row, "variant", number, 0)
        start[i], end[i] = _number(row, "start", number), _number(row, "end", number)
    absent = [problem.functions[i].id for i in np.flatnonzero(node < 0)]
    if absent:
        more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        raise AllocationError(f"the plan lacks function {absent[0]!r}{more}")
    took = doc.get("planning_time")
    plan = Plan(
        problem,
        node,
        option,
        start,
        end,
        allocator=str(doc.get("allocator", "")),
        planning_time=float(took) if isinstance(took, int | float) else 0.0,
    )
    return check_plan(plan, problem)


def executed_plan(
    plan: Plan, spans: Sequence[Span], network: str | None = None
) -> dict[str, Any]:
    """What became of a plan, as a document like that of `plan_to_dict`.

    Parameters
    ----------
    plan : Plan
        What was to be done.
    spans : sequence of Span
        Every attempt.
    network : {"free", "oneport"}, optional
        On which it was done; default: that for which the plan is made.

    Returns
    -------
    dict
        ``schedule`` has one row for each function that is done: its last attempt, or an
        earlier one if that came too late for a reader in the schedule. ``makespan``,
        ``money`` and ``energy`` count every attempt, ``transferred`` the edges of the
        schedule; ``planned_makespan`` is the plan's. Where there were more attempts,
        ``attempts`` lists them all.
    """
    problem = plan.problem
    chosen = _chosen(problem, spans)
    rows = [
        schedule_row(span.function, span.node, span.start, span.end)
        for span in sorted(chosen.values(), key=lambda span: (span.start, span.end))
    ]
    where = problem.cluster.index
    node = np.array([where[span.node] for span in spans], dtype=np.int64)
    start = np.array([span.start for span in spans], dtype=float)
    end = np.array([span.end for span in spans], dtype=float)
    doc = {
        "schedule": rows,
        "makespan": float(end.max(initial=0.0)),
        "money": bill(problem.cluster, node, start, end),
        "billing": problem.cluster.billing,
        "energy": _energy(problem.cluster, node, start, end),
        "transferred": _moved(problem, chosen),
        "network": network or problem.network,
        "planned_makespan": plan.makespan,
        "planning_time": plan.planning_time,
        "allocator": plan.allocator,
        "workflow": problem.graph.name,
    }
    if len(spans) > len(rows):
        doc["attempts"] = [
            schedule_row(span.function, span.node, span.start, span.end)
            | {"attempt": span.attempt, "outcome": span.outcome}
            for span in spans
        ]
    return doc


def _energy(
    cluster: Cluster, node: np.ndarray, start: np.ndarray, end: np.ndarray
) -> float:
    """Watt seconds of nodes (indexes) while functions ran on them [s]."""
    watts = np.array([x.watts for x in cluster.nodes], dtype=float)
    return float(((end - start) * watts[node]).sum())


def _chosen(problem: Problem, spans: Iterable[Span]) -> dict[int, Span]:
    """The attempt of each function that its readers' attempts can have read."""
    done: dict[int, list[Span]] = {}
    for span in spans:
        if span.outcome == DONE:
            done.setdefault(problem.where[span.function], []).append(span)
    chosen: dict[int, Span] = {}
    readers: dict[int, list[int]] = {}
    for i in reversed(range(len(problem.functions))):
        if i not in done:
            continue
        fit = [s for s in done[i] if _serves(problem, i, s, readers.get(i, ()), chosen)]
        chosen[i] = (fit or done[i][:1])[-1]
        for u in problem.preds[i]:
            readers.setdefault(u, []).append(i)
    return chosen


def _serves(
    problem: Problem,
    i: int,
    span: Span,
    readers: Iterable[int],
    chosen: Mapping[int, Span],
) -> bool:
    """Whether the result of an attempt reaches these readers before they start."""
    where = problem.cluster.index
    for v in readers:
        there = chosen[v]
        way = problem.transfer(i, v, where[span.node], where[there.node])
        if span.end + way > there.start * (1 + 1e-9) + 1e-9:
            return False
    return True


def _moved(problem: Problem, chosen: Mapping[int, Span]) -> float:
    """MB of the edges between functions of different nodes."""
    node = [
        chosen[i].node if i in chosen else "" for i in range(len(problem.functions))
    ]
    reader = np.repeat(np.arange(len(node)), np.diff(problem.pred_ptr)).tolist()
    edges = zip(problem.pred_of.tolist(), reader, problem.pred_mb.tolist(), strict=True)
    return float(sum(mb for u, v, mb in edges if node[u] != node[v]))


def _positions(problem: Problem) -> dict[str | int | float, int]:
    where: dict[str | int | float, int] = {}
    for i, function in enumerate(problem.functions):
        task = id_to_json(function.id)
        if task in where:
            other = problem.functions[where[task]].id
            raise AllocationError(
                f"in a plan file the ids {other!r} and {function.id!r} are the same"
            )
        where[task] = i
    return where


def _find(
    row: Mapping[str, Any],
    number: int,
    where: Mapping[str | int | float, int],
    problem: Problem,
) -> tuple[int, int]:
    found = []
    for key, known in (("task", where), ("node", problem.cluster.index)):
        name = row.get(key)
        if isinstance(name, bool) or not isinstance(name, str | int | float):
            raise AllocationError(f"schedule[{number}] has {key} {name!r}")
        if name not in known:
            names = ", ".join(map(repr, [*known][:5]))
            raise AllocationError(
                f"schedule[{number}]: there is no {key} {name!r}; there are {names}"
                + (", ..." if len(known) > 5 else "")
            )
        found.append(known[name])  # type: ignore[index]
    return found[0], found[1]


def _number(
    row: Mapping[str, Any], key: str, number: int, default: int | None = None
) -> Any:
    value = row.get(key, default)
    wanted = (int, float) if default is None else int
    if isinstance(value, bool) or not isinstance(value, wanted):
        raise AllocationError(
            f"schedule[{number}]: {key} must be a number, not {value!r}"
        )
    return value

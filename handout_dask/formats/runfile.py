"""Run files: what became of a run, without its results, as a JSON document, and back.

An open format: reading one runs nothing and trusts nobody. Knows documents, not files.

A document has these keys; times are seconds since the run began, sizes MB:

``format``, ``version``
    ``"handout run"`` and 1.
``name``, ``status``, ``environment``
    The run's token; how it stands, as ``Run.status``; with which versions it was made.
``graph``
    ``name``, and ``functions``: a list, producers first, with ``id`` (a text) and
    ``name``, ``reads`` (pairs of the number of a producer in this list, and MB),
    ``cost`` (what was chosen of its alternatives, as a cost map) and ``work`` (seconds
    at speed 1).
``nodes``
    What a NODES file holds: ``node``, ``network``, ``billing``.
``plan``
    ``allocator``, ``planning_time``, ``network``, and of each function, in the order of
    the list, ``node``, ``start`` and ``end``.
``spans``
    Every attempt: the fields of a Span; ``function`` is a number in the list, and what
    was not measured is left out.
``replans``, ``holds``, ``ended``
    As in a Report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from handout_dask.errors import GraphError, HandoutError
from handout_dask.events import OUTCOMES, Hold, Span
from handout_dask.formats.nodes import read_nodes
from handout_dask.function import Function
from handout_dask.graph import Graph
from handout_dask.node import Cluster
from handout_dask.plans import Plan
from handout_dask.problem import NETWORKS, Problem
from handout_dask.report import Report

FORMAT, VERSION = "handout run", 1
MOST = 1e15  # of any number in a document; beyond it sums are not what they seem
COUNTS, FLAGS = ("nbytes", "bytes_in"), ("peak_exact", "peak_alone")
MEASURES = (*COUNTS, "cpu_seconds", "peak_mb", "gpu_peak_mb", "gpu_seconds")


def run_to_dict(
    report: Report, name: str, status: str, environment: Mapping[str, str]
) -> dict[str, Any]:
    """A run as a document that ``json.dump`` takes.

    Parameters
    ----------
    report : Report
        What became of it.
    name, status : str
        Its token, and how it stands.
    environment : mapping
        With which versions it was made.
    """
    plan, problem = report.plan, report.plan.problem
    names = [node.name for node in problem.nodes]
    return {
        "format": FORMAT,
        "version": VERSION,
        "name": name,
        "status": status,
        "environment": dict(environment),
        "graph": {"name": problem.outline.title, "functions": _functions(plan)},
        "nodes": _nodes(problem.cluster),
        "plan": {
            "allocator": plan.allocator,
            "planning_time": plan.planning_time,
            "network": problem.network,
            "node": [names[j] for j in plan.node.tolist()],
            "start": plan.start.tolist(),
            "end": plan.end.tolist(),
        },
        "spans": [_span(problem, span) for span in report.spans],
        "replans": [{"when": when, "why": why} for when, why in report.replans],
        "holds": [asdict(hold) for hold in report.holds],
        "ended": report.makespan,
    }


def _functions(plan: Plan) -> list[dict[str, Any]]:
    problem = plan.problem
    ptr, of, mb = (x.tolist() for x in (problem.pred_ptr, problem.pred_of,
                                        problem.pred_mb))  # fmt: skip
    chosen = (problem.option_ptr[:-1] + plan.option).tolist()
    rows = []
    for i, function in enumerate(problem.functions):
        cost = dict(function.alternatives[int(plan.option[i])])
        size = problem.outline.output_mb[i]
        if "output_size" in cost:
            cost["output_size"] = 0.0 if np.isnan(size) else float(size)
        rows.append(
            {
                "id": problem.outline.labels[i],
                "name": function.name,
                "reads": [[of[a], mb[a]] for a in range(ptr[i], ptr[i + 1])],
                "cost": cost,
                "work": float(problem.option_work[chosen[i]]),
            }
        )
    return rows


def _nodes(cluster: Cluster) -> dict[str, Any]:
    fields = ("name", "speed", "gpu_speed", "price", "watts", "slots", "kind")
    return {
        "node": [
            {name: getattr(node, name) for name in fields}
            | {"capabilities": dict(node.capabilities)}
            for node in cluster.nodes
        ],
        "network": {
            "bandwidth": _links(cluster.bandwidth),
            "latency": _links(cluster.latency),
        },
        "billing": {"model": cluster.billing, "quantum": cluster.quantum},
    }


def _links(matrix: np.ndarray) -> Any:
    """A number where all links are alike, else the matrix."""
    off = matrix[~np.eye(len(matrix), dtype=bool)]
    if not off.size or (off == off[0]).all():
        return float(off[0]) if off.size else 1.0
    return np.where(np.eye(len(matrix), dtype=bool), 1.0, matrix).tolist()


def _span(problem: Problem, span: Span) -> dict[str, Any]:
    row = asdict(span)
    row["function"] = problem.where[span.function]
    return {name: value for name, value in row.items() if value is not None}


# ------------------------------------------------------------------------ reading
def run_from_dict(doc: Any) -> tuple[Report, str, str, dict[str, str]]:
    """The run of a document: its report, name, status and environment.

    The ids of its functions are texts.

    Raises
    ------
    GraphError
        If the document is no run, or something in it makes no sense.
    """
    if not isinstance(doc, Mapping) or doc.get("format") != FORMAT:
        raise GraphError(
            f"it is no saved run: its 'format' is not {FORMAT!r}; "
            'run.save("x.json") writes one'
        )
    if doc.get("version") != VERSION:
        raise GraphError(
            f"it is of version {doc.get('version')!r}; this package reads {VERSION}"
        )
    try:
        report = _report(doc)
        made = {str(k): str(v) for k, v in dict(doc["environment"]).items()}
        return report, str(doc["name"]), str(doc["status"]), made
    except HandoutError as error:
        raise GraphError(str(error)) from error
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise GraphError(
            f"it is no whole run: {type(error).__name__}: {error}"
        ) from error


def _report(doc: Mapping[str, Any]) -> Report:
    rows, planned = doc["graph"]["functions"], doc["plan"]
    ids = [_text(row["id"]) for row in rows]
    functions = [
        Function(
            row["id"],
            [ids[_whole(u, "reads")] for u, _ in row["reads"]],
            cost=row["cost"],
            name=_text(row["name"]),
        )
        for row in rows
    ]
    cluster = read_nodes(doc["nodes"])
    title = doc["graph"]["name"]
    network = planned["network"]
    if network not in NETWORKS:
        raise GraphError(f"plan: network {network!r} is none of {', '.join(NETWORKS)}")
    graph = Graph(functions, None if title is None else _text(title))
    problem = Problem(graph, cluster, network=network)
    place = np.array([problem.where[id] for id in ids], dtype=np.int64)
    work, mb = problem.option_work.copy(), problem.pred_mb.copy()
    sizes = [{ids[u]: _number(x, "MB") for u, x in row["reads"]} for row in rows]
    for k, i in enumerate(place.tolist()):
        work[i] = _number(rows[k]["work"], "work")
        for a in range(int(problem.pred_ptr[i]), int(problem.pred_ptr[i + 1])):
            mb[a] = sizes[k][problem.functions[int(problem.pred_of[a])].id]
    problem = problem.on(cluster, work=work, mb=mb)
    columns: dict[str, list[Any]] = {
        "node": [cluster.index[_text(name)] for name in planned["node"]],
        "start": [_number(x, "start") for x in planned["start"]],
        "end": [_number(x, "end") for x in planned["end"]],
    }
    kinds = {"node": np.int64, "start": np.float64, "end": np.float64}
    made: dict[str, np.ndarray] = {}
    for name, values in columns.items():
        if len(values) != len(ids):
            raise GraphError(f"plan: {len(values)} x {name} of {len(ids)} functions")
        made[name] = np.empty(len(ids), dtype=kinds[name])
        made[name][place] = values
    if (made["end"] < made["start"]).any():
        raise GraphError("plan: a function ends before it starts")
    plan = Plan(
        problem,
        made["node"],
        np.zeros(len(ids), dtype=np.int64),
        made["start"],
        made["end"],
        _text(planned["allocator"]),
        _number(planned["planning_time"], "planning_time"),
    )
    return Report.of(
        plan,
        [_read_span(row, ids) for row in doc["spans"]],
        replans=[(_number(x["when"], "when"), _text(x["why"])) for x in doc["replans"]],
        holds=[
            Hold(
                _text(x["node"]), _number(x["start"], "start"), _number(x["end"], "end")
            )
            for x in doc["holds"]
        ],
        ended=_number(doc["ended"], "ended"),
    )


def _read_span(row: Mapping[str, Any], ids: Sequence[str]) -> Span:
    measured: dict[str, Any] = {
        name: _number(row[name], name) for name in MEASURES if name in row
    }
    measured |= {name: int(measured[name]) for name in COUNTS if name in measured}
    flags = {name: bool(row.get(name, False)) for name in FLAGS}
    error = None if row.get("error") is None else _text(row["error"])
    if row["outcome"] not in OUTCOMES:
        raise GraphError(f"spans: outcome {row['outcome']!r} is none of {OUTCOMES}")
    return Span(
        ids[_whole(row["function"], "function")],
        _text(row["node"]),
        _number(row["start"], "start"),
        _number(row["end"], "end"),
        _whole(row["attempt"], "attempt"),
        str(row["outcome"]),
        error=error,
        **measured,
        **flags,
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise GraphError(f"{value!r} must be a text")
    return value


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise GraphError(f"{what} {value!r} must be a number")
    if value != value or abs(value) == float("inf"):
        raise GraphError(f"{what} {value!r} must be finite")
    if abs(value) > MOST:
        raise GraphError(f"{what} {value!r} must be from {-MOST:g} to {MOST:g}")
    return float(value)


def _whole(value: Any, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST:
        raise GraphError(f"{what} {value!r} must be a whole number up to {MOST:g}")
    return value

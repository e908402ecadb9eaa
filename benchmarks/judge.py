"""An independent judge of plans, loaded from a folder that the caller names.

Knows how the judge's problems and node sets become ours, and how our plans are put
before it; knows no allocator. The folder has a ``referee.py`` and perhaps a
``baselines.json``.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

import handout_dask as hd
from handout_dask.formats.nodes import read_nodes
from handout_dask.formats.planfile import plan_to_dict

VARIABLE = "HANDOUT_REFEREE"


class InfeasibleError(Exception):
    """A plan breaks a rule, says the judge."""


def add_referee(parser: argparse.ArgumentParser) -> None:
    """Add the option that names the judge's folder."""
    parser.add_argument(
        "--referee",
        metavar="DIR",
        default=os.environ.get(VARIABLE),
        help=f"folder of referee.py (default: the environment's {VARIABLE})",
    )


def load_judge(folder: str | None) -> Any:
    """The judge's module.

    Raises
    ------
    SystemExit
        If no folder is named, or it has no referee.py.
    """
    if not folder:
        raise SystemExit(f"name the judge's folder: --referee DIR, or set {VARIABLE}")
    path = Path(folder, "referee.py")
    if not path.is_file():
        raise SystemExit(f"{folder} has no referee.py")
    spec = importlib.util.spec_from_file_location("referee", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules["referee"] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def read_baselines(folder: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Measured peers by (trace, node set); empty where the folder has none."""
    path = Path(folder, "baselines.json")
    if not path.is_file():
        return {}
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return {(cell["trace"], cell["nodes"]): cell for cell in cells}


def as_cluster(nodeset: Any, billing: str = "function") -> hd.Cluster:
    """A node set of the judge [bytes, seconds] as a Cluster [MB, ms]."""
    rows = []
    for node in nodeset.nodes:
        has = {"cpu": node.cores, "memory": node.memory_mb}
        has = {key: value for key, value in has.items() if value is not None}
        if node.gpus:
            has |= {"gpus": node.gpus, "gpu_memory": node.gpu_memory_mb}
        rows.append(
            {
                "name": node.id,
                "speed": node.speed,
                "gpu_speed": node.speed,  # the judge knows one speed a node
                "kind": node.kind,
                "price": node.price_per_hour,
                "slots": node.slots,
                "capabilities": has | dict.fromkeys(node.labels, True),
            }
        )
    links = {
        "bandwidth": [[x / 1e6 for x in row] for row in nodeset.bandwidth],
        "latency": [[x * 1e3 for x in row] for row in nodeset.latency],
    }
    return read_nodes({"node": rows, "network": links}, billing=billing)


def as_graph(problem: Any) -> hd.Graph:
    """A problem of the judge as a Graph of functions without code.

    Each edge reads one element of its producer's result, named after the consumer, so
    that it carries the edge's bytes and no others.
    """
    reads: dict[str, list[tuple[str, str]]] = {task.id: [] for task in problem.tasks}
    sizes: dict[str, dict[str, float]] = {task.id: {} for task in problem.tasks}
    for edge in problem.edges:
        reads[edge.dst].append((edge.src, edge.dst))
        sizes[edge.src][edge.dst] = edge.bytes / 1e6
    functions = []
    for task in problem.tasks:
        if task.runtime_on or task.requires:
            raise SystemExit(f"task {task.id}: times and labels of kinds aren't read")
        cost = {
            "cpu_time": task.runtime * 1e3,
            "memory": task.memory_mb,
            "cpu": task.cores,
            "output_size": sizes[task.id],
        }
        if task.gpus:
            cost |= {"gpus": task.gpus, "gpu_memory": task.gpu_memory_mb}
        functions.append(
            hd.Function(task.id, reads[task.id], cost=cost, name=task.group)
        )
    return hd.Graph(functions, problem.name)


def put_before(judge: Any, problem: Any, nodeset: Any, plan: hd.Plan) -> dict[str, Any]:
    """The judge's measures of a plan: makespan [s], money_task, money_hold and more.

    Raises
    ------
    InfeasibleError
        If the plan breaks a rule.
    """
    rows = plan_to_dict(plan)["schedule"]
    return check_rows(judge, problem, nodeset, rows, plan.allocator)


def check_rows(
    judge: Any, problem: Any, nodeset: Any, rows: list[dict[str, Any]], maker: str
) -> dict[str, Any]:
    """The judge's measures of a schedule; InfeasibleError if it breaks a rule."""
    verdict: dict[str, Any] = judge.validate(problem, nodeset, rows)
    if not verdict["feasible"]:
        first = verdict["errors"][0]["text"]
        raise InfeasibleError(
            f"{maker} on {problem.name}, {nodeset.name}: "
            f"{verdict['error_count']} errors, first: {first}"
        )
    return verdict

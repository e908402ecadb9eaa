"""What commands share: reading WORKFLOW and JSON, tables, errors and exit codes."""

from __future__ import annotations

import json
import os
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from handout_dask.errors import (
    FunctionError,
    GraphError,
    HandoutError,
    NodeLostError,
    UnsatisfiableError,
)
from handout_dask.formats.planfile import id_to_json
from handout_dask.formats.wfformat import read_workflow
from handout_dask.graph import Graph
from handout_dask.node import Cluster
from handout_dask.printable import columns, padded, printable

LONGEST, WIDE = 2000, 200  # columns of a line of an error, and of a cell
OK, FAILED, BAD_INPUT, UNSATISFIABLE, INTERRUPTED = 0, 1, 2, 3, 130


class BadUsageError(HandoutError):
    """The command line makes no sense."""


def add_json(parser: ArgumentParser) -> None:
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def load_workflow(text: str) -> Graph:
    """The graph of a WORKFLOW: a WfFormat file or folder, or ``module:graph``.

    Parameters
    ----------
    text : str
        A path that exists; otherwise a module, also of the current folder, and in it a
        Graph, or a function without arguments that returns one.

    Raises
    ------
    GraphError
        If there is no graph.
    """
    module_name, colon, attribute = text.rpartition(":")
    if Path(text).exists() or not colon or not module_name:
        return read_workflow(text)
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = import_module(module_name)
        for name in attribute.split("."):
            found = getattr(found, name)
        if not isinstance(found, Graph) and callable(found):
            found = found()
    except HandoutError as error:
        raise GraphError(f"{text}: {error}") from error
    except Exception as error:  # the user's module may raise anything
        raise GraphError(f"{text}: {type(error).__name__}: {error}") from error
    if not isinstance(found, Graph):
        raise GraphError(f"{text} is no Graph, but of type {type(found).__name__}")
    return found


def read_json(path: str) -> Any:
    """What a JSON file holds; ``-`` is the standard input.

    Raises
    ------
    GraphError
        If it is not JSON.
    """
    text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    try:
        return json.loads(text)
    except ValueError as error:
        raise GraphError(f"{path}: is not JSON: {error}") from error


def print_json(doc: Any) -> None:
    """Print one JSON document."""
    json.dump(doc, sys.stdout)
    print()


def report_error(error: Exception, as_json: bool) -> int:
    """Print an error, on standard output also as JSON if wanted; its exit code."""
    told = str(error)
    if isinstance(error, OSError) and error.filename and error.strerror:
        told = f"{error.filename}: {error.strerror}"
    text = "\n".join(printable(line, LONGEST) for line in told.splitlines())
    print(f"handout: {text}", file=sys.stderr)
    if as_json:
        doc: dict[str, Any] = {"error": told, "type": type(error).__name__}
        if isinstance(error, UnsatisfiableError):
            doc["refusals"] = _refusals(error)
        print_json(doc)
    if isinstance(error, UnsatisfiableError | NodeLostError):
        return UNSATISFIABLE
    return FAILED if isinstance(error, FunctionError) else BAD_INPUT


def _refusals(error: UnsatisfiableError) -> list[dict[str, Any]]:
    return [
        {"task": id_to_json(id), "node": node, "why": [str(lack) for lack in lacks]}
        for id, nodes in error.refusals.items()
        for node, lacks in nodes.items()
    ]


def summary(doc: dict[str, Any], cluster: Cluster) -> str:
    """A schedule for people: a line for each node, then the sums.

    Parameters
    ----------
    doc : dict
        As `plan_to_dict` or `executed_plan` makes it.
    cluster : Cluster
        Whose slots are the measure of utilisation.
    """
    makespan = doc["makespan"]
    lines = [("node", "functions", "busy [s]", "utilisation")]
    for node in cluster.nodes:
        rows = [row for row in doc["schedule"] if row["node"] == node.name]
        busy = sum(row["end"] - row["start"] for row in rows)
        share = busy / makespan / node.capacity("slots") if makespan else 0.0
        lines.append((node.name, str(len(rows)), f"{busy:.3f}", f"{share:.1%}"))
    sums = [f"makespan       {makespan:.6g} s"]
    if "planned_makespan" in doc:
        sums.append(f"planned        {doc['planned_makespan']:.6g} s")
    sums.append(f"money          {doc['money']:.6g} (by {doc['billing']})")
    if doc["energy"]:
        sums.append(f"energy         {doc['energy']:.6g} W s")
    sums.append(f"moved          {doc['transferred']:.6g} MB")
    if "attempts" in doc:
        lost = sum(row["outcome"] != "done" for row in doc["attempts"])
        sums.append(f"attempts       {len(doc['attempts'])}, of which {lost} lost")
    return "\n".join([*table(lines), "", *sums, *notes(doc)])


def notes(doc: dict[str, Any]) -> list[str]:
    """Lines for people: of which workflow a schedule is, for what, and by whom."""
    lines = [f"allocator      {doc['allocator']}"]
    if doc["workflow"]:
        lines.insert(0, f"workflow       {printable(doc['workflow'])}")
    if doc["network"] != "free":
        lines.append(f"network        {doc['network']}")
    if doc.get("guessed"):
        lines.append(f"guessed        the run time of {doc['guessed']} functions")
    lines.append(f"planning time  {doc['planning_time']:.3f} s")
    return lines


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with columns in line: the first to the left, others to the right."""
    shown = [[printable(cell, WIDE) for cell in row] for row in rows]
    widths = [max(map(columns, column)) for column in zip(*shown, strict=True)]
    lines = []
    for first, *rest in shown:
        cells = [padded(first, widths[0])]
        cells += [padded(x, w, True) for x, w in zip(rest, widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return lines

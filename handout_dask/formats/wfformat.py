"""WfFormat traces (WfCommons, schemas 1.3 to 1.5) as graphs. Knows no nodes.

1.5 keeps the graph in ``workflow.specification`` and the measurements in
``workflow.execution``; 1.3 and 1.4 keep both in ``workflow.tasks`` (or ``jobs``).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from handout_dask.errors import CycleError, GraphError
from handout_dask.function import Function
from handout_dask.graph import Graph

SCHEMAS = ("1.3", "1.4", "1.5")
NOTHING = ""
"""Index of an element that every task's result has and that is empty.

An edge whose parent writes no file that its child reads is ``(parent, NOTHING)``: the
child waits for the parent, and nothing is moved.
"""


@dataclass(slots=True)
class _Task:
    """What a trace says about one task: sizes apart, since files are shared."""

    id: str
    name: str
    measured: Mapping[str, Any]
    reads: set[str] = field(default_factory=set)
    writes: dict[str, None] = field(default_factory=dict)  # in the trace's order
    parents: dict[str, None] = field(default_factory=dict)


def read_workflow(path: str | Path) -> Graph:
    """The graph of a WfFormat trace.

    Parameters
    ----------
    path : str or Path
        A JSON file, or a folder, of which the first JSON file is read.

    Returns
    -------
    Graph
        Named after the file. One function without code for each task, in the trace's
        order: its ``name`` is the task's group, its cost the measured run time, memory
        and cores, with the size of each file that it writes under the file's id. Its
        args are ``(parent, file)`` for each file that the parent writes and it reads,
        or ``(parent, "")``, which is empty, where there is none.

    Raises
    ------
    GraphError
        If the file can't be read, is no such trace, or its tasks make no graph; the
        error names the file.

    Notes
    -----
    Cores are ``coreCount`` where present, else ``avgCPU`` / 100 rounded, at least 1. A
    run time that is absent stays unknown; memory of 0 is left out.
    """
    path = Path(path)
    where, doc = _load(path)
    try:
        tasks, sizes = _read(doc)
        functions = [_function(task, tasks, sizes) for task in tasks.values()]
        return Graph(functions, name=where.stem)
    except CycleError as error:
        raise CycleError(f"{where}: {error}", error.cycle) from error
    except GraphError as error:
        raise type(error)(f"{where}: {error}") from error


def group_of(name: str) -> str:
    """A task's name without the ``_ID...`` suffix and the number at its end.

    >>> group_of("mProject_ID0000001"), group_of("blast_12"), group_of("7")
    ('mProject', 'blast', '7')
    """
    stem = re.sub(r"[0-9]+$", "", name.partition("_ID")[0]).rstrip("_")
    return stem or name


def _load(path: Path) -> tuple[Path, Any]:
    if path.is_dir():
        found = sorted(path.glob("*.json"))
        if not found:
            raise GraphError(f"{path}: the folder has no JSON file")
        path = found[0]
    try:
        return path, json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise GraphError(f"{path}: can't be read: {error.strerror}") from error
    except ValueError as error:  # JSON or UTF-8
        raise GraphError(f"{path}: is not JSON: {error}") from error


def _read(doc: Any) -> tuple[dict[str, _Task], dict[str, float]]:
    """Tasks by id, and the bytes of each file."""
    flow = doc.get("workflow") if isinstance(doc, Mapping) else None
    if not isinstance(flow, Mapping):
        raise GraphError("is no WfFormat trace: it has no 'workflow' object")
    version = doc.get("schemaVersion")
    if version is not None and str(version) not in SCHEMAS:
        raise GraphError(
            f"has schemaVersion {version!r}; known are {', '.join(SCHEMAS)}"
        )
    rows, measured, sizes = _parts(flow)
    tasks: dict[str, _Task] = {}
    by_name: dict[str, str] = {}
    for row in rows:
        name = row.get("name", row.get("id"))
        id = row.get("id", name)
        if not isinstance(id, str) or not isinstance(name, str):
            raise GraphError(f"task {id!r}: id and name must be texts")
        if id in tasks:
            raise GraphError(f"two tasks have the id {id!r}")
        task = tasks[id] = _Task(id, name, measured.get(id, row))
        by_name[name] = id
        _read_files(task, row, sizes)
    for row, task in zip(rows, tasks.values(), strict=True):
        for key in ("parents", "children"):
            for link in _list(row, key, f"task {task.id!r}"):
                other = link if link in tasks else by_name.get(link)
                if other is None:
                    raise GraphError(
                        f"task {task.id!r} has {link!r} among its {key}, but there is "
                        "no such task"
                    )
                if other != task.id:
                    child, parent = (task.id, other)[:: 1 if key == "parents" else -1]
                    tasks[child].parents[parent] = None
    return tasks, sizes


def _parts(
    flow: Mapping[str, Any],
) -> tuple[list[Mapping[str, Any]], dict[str, Mapping[str, Any]], dict[str, float]]:
    """Rows of tasks, measurements by id where they are apart, and sizes of files."""
    spec = flow.get("specification")
    if spec is None:
        key = "tasks" if flow.get("tasks") else "jobs"
        if key not in flow and "tasks" not in flow:
            raise GraphError("'workflow' has neither 'specification' nor 'tasks'")
        return list(_rows(flow, key, "workflow")), {}, {}
    rows = list(_rows(spec, "tasks", "specification"))
    runs = _rows(flow.get("execution", {}), "tasks", "execution")
    measured = {row["id"]: row for row in runs if "id" in row}
    sizes: dict[str, float] = {}
    for row in _rows(spec, "files", "specification"):
        _read_size(row, sizes, "specification")
    return rows, measured, sizes


def _read_files(task: _Task, row: Mapping[str, Any], sizes: dict[str, float]) -> None:
    who = f"task {task.id!r}"
    task.reads.update(_list(row, "inputFiles", who))
    task.writes.update(dict.fromkeys(_list(row, "outputFiles", who)))
    for entry in _rows(row, "files", who):  # schemas 1.3 and 1.4
        file = _read_size(entry, sizes, who)
        if entry.get("link") == "input":
            task.reads.add(file)
        elif entry.get("link") == "output":
            task.writes[file] = None
        else:
            raise GraphError(
                f"{who}: the link of file {file!r} is {entry.get('link')!r}; it must "
                "be 'input' or 'output'"
            )
    if NOTHING in task.writes:
        raise GraphError(f"{who} writes a file without a name")


def _read_size(row: Mapping[str, Any], sizes: dict[str, float], who: str) -> str:
    file = row.get("id", row.get("name"))
    if not isinstance(file, str):
        raise GraphError(f"{who} has a file with id {file!r}; it must be a text")
    key = "sizeInBytes" if "sizeInBytes" in row else "size"
    sizes[file] = _number(row, key, f"file {file!r}") or 0.0
    return file


def _function(
    task: _Task, tasks: Mapping[str, _Task], sizes: Mapping[str, float]
) -> Function:
    args: list[tuple[str, str]] = []
    for parent in task.parents:
        files = [file for file in tasks[parent].writes if file in task.reads]
        args.extend((parent, file) for file in files or [NOTHING])
    who, row = f"task {task.id!r}", task.measured
    cores = _number(row, "coreCount", who) or _number(row, "cores", who)
    if not cores:
        cores = round((_number(row, "avgCPU", who) or 100) / 100)
    key = "runtimeInSeconds" if "runtimeInSeconds" in row else "runtime"
    seconds = _number(row, key, who)
    key = "memoryInBytes" if "memoryInBytes" in row else "memory"
    memory = (_number(row, key, who) or 0.0) / 1e6
    cost = {
        "cpu_time": None if seconds is None else seconds * 1e3,
        "memory": memory,
        "cpu": max(1.0, cores),
        "output_size": {file: sizes.get(file, 0.0) / 1e6 for file in task.writes},
    }
    return Function(task.id, args, cost=cost, name=group_of(task.name))


def _rows(owner: Any, key: str, who: str) -> Iterator[Mapping[str, Any]]:
    if not isinstance(owner, Mapping):
        raise GraphError(f"{who} must be an object, not {type(owner).__name__}")
    rows = owner.get(key) or ()
    if not isinstance(rows, list | tuple):
        raise GraphError(f"{who}: {key!r} must be a list, not {type(rows).__name__}")
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise GraphError(f"{who}: {key}[{number}] must be an object, not {row!r}")
        yield row


def _list(row: Mapping[str, Any], key: str, who: str) -> list[str]:
    values = row.get(key) or []
    if not isinstance(values, list) or not all(isinstance(x, str) for x in values):
        raise GraphError(f"{who}: {key!r} must be a list of texts, not {values!r}")
    return values


def _number(row: Mapping[str, Any], key: str, who: str) -> float | None:
    value = row.get(key)
    if value is None:
        return None
    a_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not a_number or not 0 <= value < math.inf:
        raise GraphError(f"{who}: {key} must be a number not below 0, not {value!r}")
    return float(value)

"""One frame of ``handout top``: numbers in, lines out. Pure: no clock, no terminal.

What users called things is made printable, so no line acts on the terminal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from handout_dask.pace import span_text
from handout_dask.picture import UNITS
from handout_dask.printable import columns, padded, printable

NAME, BAR = 20, 10  # columns
OTHERS = 3  # resources besides CPU and memory
FULL, EMPTY = "█", "░"
HEAD = 7  # lines that are neither nodes nor runs


def frame(
    doc: dict[str, Any], head: str, width: int = 120, height: int | None = None
) -> list[str]:
    """The lines of one frame, none wider than the terminal, no more than it has.

    Parameters
    ----------
    doc : dict
        As `overview.Onlooker.look` tells.
    head : str
        The first line.
    width, height : int
        Of the terminal; without a height all there is is shown.

    Examples
    --------
    >>> doc = {"nodes": [{"node": "n0", "status": "running", "running": 1,
    ...     "slots": 2, "resources": {"cpu": [2.0, 1.0, 0.5]}}], "runs": []}
    >>> for line in frame(doc | {"managed": True}, "top"):
    ...     print(line)
    top   1 node, 1 function runs
    <BLANKLINE>
    node  functions  CPU [cores]           memory [MB]
    n0    1/2        █████░░░░░ 1/2 (0.5)
    <BLANKLINE>
    no runs
    """
    nodes, runs = doc["nodes"], doc["runs"]
    running = sum(node["running"] or 0 for node in nodes)
    told = f"{_count(len(nodes), 'node')}, {_count(running, 'function')} run"
    told += "s" * (running == 1)
    lines = [f"{head}   {told}", ""]
    room = None if height is None else max(height - HEAD, 4)
    for_runs = None if room is None else min(len(runs), max(room // 2, 1))
    for_nodes = None if room is None or for_runs is None else room - for_runs
    lines += _table(_node_rows(nodes), for_nodes, "nodes")
    lines.append("")
    if not doc["managed"]:
        lines.append("no executor of handout_dask uses this cluster")
    elif not runs:
        lines.append("no runs")
    else:
        lines += _table([RUN_HEAD, *map(_run_row, runs)], for_runs, "runs")
    return [printable(line.rstrip(), max(width - 1, 20)) for line in lines][:height]


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _table(rows: list[Sequence[str]], most: int | None, what: str) -> list[str]:
    """Lines in columns; the first row is the head."""
    shown = rows if most is None or len(rows) - 1 <= most else rows[: max(most, 1)]
    widths = [max(map(columns, column)) for column in zip(*shown, strict=True)]
    lines = [
        "  ".join(padded(x, w) for x, w in zip(row, widths, strict=True)).rstrip()
        for row in shown
    ]
    if len(shown) < len(rows):
        lines.append(f"... and {len(rows) - len(shown):,} more {what}")
    return lines


# ------------------------------------------------------------------------- nodes
def _node_rows(nodes: list[dict[str, Any]]) -> list[Sequence[str]]:
    others = sorted(
        {r for node in nodes for r in node["resources"]} - {"cpu", "memory"}
    )
    others = [r for r in others if any(_is_told(node, r) for node in nodes)][:OTHERS]
    rows: list[Sequence[str]] = [
        ("node", "functions", *map(_title, ("cpu", "memory", *others)))
    ]
    for node in nodes:
        slots = "" if node["slots"] is None else f"/{node['slots']:g}"
        name = printable(node["node"], NAME)
        if node["status"] != "running":
            name += f" ({printable(node['status'], 12)})"
        cells = [_used(node["resources"].get(r)) for r in ("cpu", "memory", *others)]
        rows.append((name, f"{node['running']}{slots}", *cells))
    return rows


def _is_told(node: dict[str, Any], resource: str) -> bool:
    return any(x for x in node["resources"].get(resource, ()))


def _title(resource: str) -> str:
    unit = UNITS.get(resource, "")
    name = "CPU" if resource == "cpu" else printable(resource, NAME)
    return f"{name} [{unit}]" if unit else name


def _used(row: Sequence[float | None] | None) -> str:
    """A bar of what is claimed, or used where nothing is said of that; and numbers."""
    if row is None:
        return ""
    capacity, claimed, observed = row
    level = observed if claimed is None else claimed
    text = ""
    if capacity and level is not None:
        text = f"{_bar(level / capacity)} "
    text += "-" if claimed is None else _number(claimed)
    if capacity is not None:
        text += f"/{_number(capacity)}"
    return text if observed is None else f"{text} ({_number(observed)})"


def _bar(share: float) -> str:
    full = min(max(round(share * BAR), 0), BAR)
    return FULL * full + EMPTY * (BAR - full)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


# -------------------------------------------------------------------------- runs
RUN_HEAD = (
    "run", "graph", "status", "done", "", "running", "failed", "retries", "time",
    "expected", "money",
)  # fmt: skip


def _run_row(run: dict[str, Any]) -> Sequence[str]:
    total = run["functions"]
    return (
        printable(run["name"], NAME),
        printable(run["title"], NAME),
        run["status"],
        _bar(run["done"] / max(total, 1)),
        f"{run['done']:,}/{total:,}",
        f"{run['running']}",
        f"{run['failed']}",
        f"{run['retries']}",
        _time(run["now"]),
        _time(run["expected"]),
        "" if not run["money"] else f"{run['money']:.4g}",
    )


def _time(seconds: float | None) -> str:
    return "" if seconds is None else span_text(seconds)

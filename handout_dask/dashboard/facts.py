"""What reprs and reports tell in tables: rows of what is known, as text and meters.

Pure: pictures in, markup out.
"""

from __future__ import annotations

import numpy as np

from handout_dask.dashboard.lanes import level
from handout_dask.dashboard.markup import Html, element, joined, meter, table
from handout_dask.dashboard.svg import STATE_COLOURS, seconds
from handout_dask.picture import UNITS, Picture
from handout_dask.samples import steps

DETAILS = 3  # resources of a node that are told
BUSY = STATE_COLOURS["ready"]


def number(value: float) -> str:
    """A number for people.

    >>> number(1234567.0), number(0.000123), number(float("inf")), number(12.0)
    ('1,234,567', '0.000123', 'unlimited', '12')
    """
    if value == float("inf"):
        return "unlimited"
    if value != value:
        return "?"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def amount(resource: str, value: float) -> str:
    """So much of a resource.

    >>> amount("memory", 1500.0), amount("camera", 1)
    ('1,500 MB', '1')
    """
    unit = UNITS.get(resource, "")
    return f"{number(value)} {unit}".strip()


def share(part: float, whole: float) -> str:
    """A part of a whole, in per cent; "" of nothing."""
    return f"{part / whole:.0%}" if whole > 0 else ""


def peaks(picture: Picture, j: int) -> list[tuple[str, float, float]]:
    """(resource, most held at once, capacity) of a node, as planned."""
    mine = np.flatnonzero(picture.node == j)
    out = []
    for r, resource in enumerate(picture.resources):
        held = picture.holds[picture.need[mine], r]
        if not held.any():
            continue
        _, sums = steps(picture.start[mine], picture.end[mine], held)
        out.append((resource, float(sums.max()), float(picture.capacity[j, r])))
    out.sort(key=lambda row: -row[1] / row[2] if row[2] > 0 else 0.0)
    return out


def node_table(picture: Picture, most: int) -> Html:
    """A row for each node: what it was to do, and, of a run, what it did."""
    ran = picture.status != "planned"
    m = len(picture.nodes)
    spans = picture.spans
    planned = np.bincount(picture.node, minlength=m)
    busy = np.bincount(picture.node, picture.end - picture.start, minlength=m)
    did = np.bincount(spans.node, minlength=m)
    took = np.bincount(spans.node, spans.end - spans.start, minlength=m)
    lost = np.bincount(spans.node[spans.outcome != 0], minlength=m)
    until = picture.now if ran else picture.makespan
    rows = []
    for j in range(m):
        spent = took[j] if ran else busy[j]
        whole = until * picture.slots[j]
        part = spent / whole if whole > 0 else 0.0
        row: list[object] = [
            picture.nodes[j],
            joined((meter(part, BUSY), f" {part:.0%}")) if whole > 0 else "",
            f"{did[j]:,} ({planned[j]:,})" if ran else f"{planned[j]:,}",
            f"{seconds(took[j])} ({seconds(busy[j])})" if ran else seconds(busy[j]),
        ]
        row.append(f"{lost[j]:,}" if ran else _held(picture, j))
        rows.append(row)
    head = ["node", "busy", "functions", "in all"]
    head = [*head[:2], "attempts (planned)", "in all (planned)"] if ran else head
    last = "failed" if ran else "held at most"
    return table([*head, last], rows, most, left=2, rest="nodes")


def _held(picture: Picture, j: int) -> str:
    parts = []
    for resource, held, capacity in peaks(picture, j)[:DETAILS]:
        of = "" if np.isinf(capacity) else f" of {number(capacity)}"
        unit = UNITS.get(resource, "")
        parts.append(f"{resource} {number(held)}{of} {unit}".strip())
    return "; ".join(parts)


def busiest(picture: Picture) -> float:
    """How many functions run at once on average, as planned."""
    if not picture.makespan:
        return 0.0
    edges = np.array([0.0, picture.makespan])
    return float(level(picture.start, picture.end, np.ones(len(picture)), edges)[0])


def progress_bar(picture: Picture) -> Html:
    """How many functions are in which state: one bar, and words."""
    counts = {name: k for name, k in picture.counts.items() if k}
    n = max(len(picture), 1)
    pieces = [
        element(
            "div",
            style=f"display:inline-block;width:{k / n * 100:.2f}%;height:10px;"
            f"background:{STATE_COLOURS[name]}",
        )
        for name, k in sorted(counts.items(), key=lambda row: ORDER.index(row[0]))
    ]
    bar = element(
        "div",
        *pieces,
        style="width:360px;max-width:100%;height:10px;line-height:0;font-size:0;"
        "border-radius:3px;overflow:hidden;background:rgba(128,128,128,0.25)",
    )
    words = joined(
        (
            joined(
                (
                    element("span", "■ ", style=f"color:{STATE_COLOURS[name]}"),
                    f"{k:,} {name}",
                )
            )
            for name, k in counts.items()
        ),
        "&emsp;",
    )
    return joined((bar, element("div", words, style="font-size:12px")))


ORDER = [
    "done", "running", "sent", "ready", "again", "waiting", "failed", "blocked",
    "cancelled",
]  # fmt: skip

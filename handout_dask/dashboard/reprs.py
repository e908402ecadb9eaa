"""What notebooks show of a Graph, Plan, Run, Cluster or Report: tables and a drawing.

Static and bounded in size: no scripts, no style sheets, nothing to fetch. It survives
saving, and viewers that trust nobody.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from handout_dask.dashboard.columns import money_of, plural
from handout_dask.dashboard.drawing import picture_of
from handout_dask.dashboard.facts import (
    amount,
    busiest,
    node_table,
    number,
    progress_bar,
)
from handout_dask.dashboard.gantt import draw_gantt
from handout_dask.dashboard.graphdrawing import draw_graph
from handout_dask.dashboard.markup import (
    FAINT,
    Html,
    element,
    escaped,
    facts,
    frame,
    image,
    more,
    table,
)
from handout_dask.dashboard.shape import Shape
from handout_dask.dashboard.svg import seconds
from handout_dask.errors import HandoutError
from handout_dask.graph import Graph
from handout_dask.node import Cluster, Node
from handout_dask.outline import Outline
from handout_dask.picture import Picture
from handout_dask.plans import Plan
from handout_dask.printable import printable
from handout_dask.provenance import counts_text
from handout_dask.report import Report

NODES, FAILURES, FAR = 12, 5, 8  # rows that are shown
COLUMNS = ("slots", "speed", "CPU [cores]", "memory [MB]", "GPUs", "price / h")
NOBODY = ("cpu", "memory", "gpus", "gpu_memory")  # columns of their own


def html_of(thing: Any) -> str:
    """What a notebook shows of a Graph, Plan, Report, Run or Cluster."""
    if isinstance(thing, Graph):
        return graph_html(thing)
    if isinstance(thing, Cluster):
        return cluster_html(thing)
    if isinstance(thing, Plan):
        return plan_html(thing)
    return run_html(thing)


# ------------------------------------------------------------------------- graph
def graph_html(graph: Graph) -> str:
    """Counts, what is declared, and the graph itself."""
    title = _named("Graph", graph.name)
    try:
        outline = Outline.of(graph)
    except HandoutError as error:  # it was added to, and is not complete
        return frame(title, element("div", f"{len(graph)} functions; {error}"))
    shape = Shape.of_graph(graph)
    svg = draw_graph(shape)
    return frame(
        title,
        facts(_graph_facts(outline)),
        image(str(svg), f"the graph of {len(graph)} functions", svg.width),
        element("div", _folded(shape), style=FAINT),
        more("what functions demand", _demands(outline)),
    )


def _graph_facts(outline: Outline) -> list[tuple[str, str]]:
    first = outline.option_ptr[:-1]
    work = outline.option_work[first]
    guessed = outline.option_guessed[first]
    sizes = outline.output_mb
    many = f"{outline.n:,}"
    if len(outline.names) > 1:
        many += f", of {len(outline.names):,} names"
    told = seconds(float(work[~guessed].sum()))
    if guessed.any():
        told += f"; {_declare_none(int(guessed.sum()))}"
    unknown = int(np.isnan(sizes).sum())
    moved = amount("memory", float(np.nansum(sizes)))
    if unknown:
        moved += f"; {_declare_none(unknown)}"
    return [
        ("functions", many),
        ("edges", f"{len(outline.pred_of):,}"),
        ("run time at speed 1, declared", told if not guessed.all() else "none"),
        ("size of results, declared", moved if unknown < outline.n else "none"),
    ]


def _declare_none(count: int) -> str:
    return f"{plural(count, 'function', 'functions')} declare{'s' * (count == 1)} none"


def _demands(outline: Outline) -> Html:
    """A row for each resource and capability that somebody asks for."""
    if not outline.n:
        return Html("")
    need = outline.option_class[outline.option_ptr[:-1]]
    names, holds = outline.demand
    wants, has = outline.wants
    rows: list[tuple[str, ...]] = []
    for r, name in enumerate(names):
        held = holds[need, r]
        if held.any():
            most = amount(name, float(held.max()))
            rows.append((name, f"{int((held > 0).sum()):,}", most))
    for q, name in enumerate(wants):
        rows.append((name, f"{int(has[need, q].sum()):,}", "must have"))
    return table(("resource", "functions", "each at most"), rows, rest="resources")


def _folded(shape: Shape) -> str:
    if not shape.is_folded:
        return ""
    return (
        f"{shape.functions:,} functions are drawn as {len(shape.labels):,} groups of "
        "one name"
    )


# ----------------------------------------------------------------------- cluster
def cluster_html(cluster: Cluster) -> str:
    """What nodes are, have and cost, and their links."""
    off = ~np.eye(len(cluster), dtype=bool)
    links = []
    for what, matrix, unit in (
        ("bandwidth", cluster.bandwidth[off], "MB/s"),
        ("latency", cluster.latency[off], "ms"),
    ):
        if matrix.size:
            low, high = number(matrix.min()), number(matrix.max())
            told = low if low == high else f"{low} to {high}"
            links.append((what, f"{told} {unit}"))
    quantum = f", rounded up to {cluster.quantum:g} s" if cluster.quantum else ""
    paid = {"function": "functions while they run", "held": "nodes from first to last"}
    if any(node.price for node in cluster.nodes):
        links.append(("billed are", paid[cluster.billing] + quantum))
    return frame(
        _named("Cluster", ""),
        element("div", f"{len(cluster):,} nodes"),
        cluster_table(cluster, NODES),
        facts(links),
    )


def cluster_table(cluster: Cluster, most: int) -> Html:
    """A row for each node: what it is, has and costs; without columns of nothing."""
    head = ("node", "has besides", *COLUMNS)
    rows = [_node_row(node) for node in cluster.nodes]
    if not any(node.price for node in cluster.nodes):
        rows = [[*row[:-1], ""] for row in rows]
    some = [k for k in range(len(head)) if any(row[k] for row in rows)]
    shown = [[row[k] for k in some] for row in rows]
    left = 2 if 1 in some else 1
    return table([head[k] for k in some], shown, most, left=left, rest="nodes")


def _node_row(node: Node) -> list[object]:
    speed = f"{node.speed:g}"
    if node.capabilities.get("gpus"):
        speed += f", GPU {node.gpu_speed:g}"
    gpus = number(node.capacity("gpus"))
    if node.capabilities.get("gpu_memory"):
        gpus += f" of {amount('gpu_memory', node.capacity('gpu_memory'))}"
    others = [
        name if value is True else f"{name} {amount(name, float(value))}"
        for name, value in node.capabilities.items()
        if name not in NOBODY and value is not False
    ]
    return [
        node.name,
        ", ".join(others),
        f"{node.slots}",
        speed,
        number(node.capacity("cpu")),
        number(node.capacity("memory")),
        gpus if node.capabilities.get("gpus") else "",
        number(node.price),
    ]


# -------------------------------------------------------------------------- plan
def plan_html(plan: Plan) -> str:
    """Makespan, money, what each node does, and when."""
    picture = Picture.of_plan(plan)
    svg = draw_gantt(picture)
    rows = [
        ("makespan", seconds(plan.makespan)),
        ("money", money_of(plan.money) if picture.price.any() else ""),
        ("moved between nodes", amount("memory", plan.transferred)),
        ("functions at once, on average", f"{busiest(picture):.3g}"),
        ("allocator", plan.allocator),
        ("planned in", seconds(plan.planning_time)),
        ("estimates, not as declared", counts_text(plan.estimates)),
    ]
    return frame(
        _named("Plan", plan.problem.outline.title),
        element("div", f"{len(plan):,} functions on {len(picture.nodes):,} nodes"),
        facts(rows),
        node_table(picture, NODES),
        _gantt(picture, svg),
    )


def _gantt(picture: Picture, svg: Any) -> Html:
    what = "as planned" if picture.status == "planned" else "as planned and as it was"
    return image(str(svg), f"what each node does over time, {what}", svg.width)


# ----------------------------------------------------------------- run and report
def run_html(thing: Any) -> str:
    """How a Run stands, or what a Report says, against the plan."""
    picture = picture_of(thing)
    is_report = isinstance(thing, Report)
    head = _named("Report" if is_report else "Run", picture.title)
    name = "" if is_report else picture.name
    return frame(
        head,
        facts(run_facts(picture, name)),
        progress_bar(picture),
        _failures(picture),
        node_table(picture, NODES),
        _gantt(picture, draw_gantt(picture)),
        _deviating(thing) if is_report else "",
        "" if is_report else _page(thing, picture),
    )


def run_facts(picture: Picture, name: str) -> list[tuple[object, object]]:
    """How a run stands, against its plan: names and values."""
    late = picture.late
    took = f"{seconds(picture.now)}, planned {seconds(picture.makespan)}"
    if picture.status == "done" and picture.makespan > 0:
        word = "later" if late >= 0 else "earlier"
        took += f" ({seconds(abs(late))} {word})"
    money = f"{money_of(picture.money)}, planned {money_of(picture.planned_money)}"
    if picture.unpriced:
        money += f", without {', '.join(picture.unpriced[:3])}"
    replans = f"{len(picture.replans)}"
    if picture.replans:
        when, why = picture.replans[-1]
        replans += f", last after {seconds(when)}: {why}"
    return [
        ("status", element("b", picture.status)),
        ("run", name),
        ("time" if picture.is_over else "time so far", took),
        ("money", money if picture.money or picture.planned_money else ""),
        ("attempts that failed", f"{picture.failed_attempts:,}"),
        ("planned again", replans),
        ("allocator", picture.allocator),
    ]


def _failures(picture: Picture) -> Html:
    rows = [
        (
            printable(row.function, 40),
            row.node,
            f"{row.attempt}",
            seconds(row.when),
            printable(row.cause, 80),
        )
        for row in picture.failures
    ]
    head = ("failed", "on", "attempt", "after", "cause")
    count = picture.failed_attempts
    return table(head, rows, FAILURES, left=5, rest="failed attempts", count=count)


def _deviating(report: Report) -> Html:
    rows = [
        (
            row.function,
            f"{row.node} ({row.planned_node})" if row.moved else f"{row.node}",
            f"{seconds(row.duration or 0.0)} ({seconds(row.planned_duration)})",
            seconds(row.lateness or 0.0),
        )
        for row in report.deviating(FAR)
    ]
    head = ("functions that deviate most", "node (planned)", "took (planned)", "late")
    return table(head, rows, FAR)


def _page(run: Any, picture: Picture) -> Html:
    """Where to see it live, while it runs."""
    link = str(getattr(run._client, "dashboard_link", "") or "")
    if picture.is_over or not link.startswith(("http://", "https://")):
        return Html("")
    link = link.removesuffix("/status") + "/handout"
    return element("div", element("a", "see it live", href=link, target="_blank"))


def _named(what: str, name: str | None) -> Html:
    return escaped(f"{what} “{name}”" if name else what, 80)

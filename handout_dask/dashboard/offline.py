"""Offline: pages that are one file each: all scripts and data are inside.

They open without a network, and a policy in them keeps them from using one. Users' text
is escaped, or in columns that Bokeh shows as text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from bokeh.embed import components
from bokeh.models import ColumnDataSource
from bokeh.resources import INLINE

from handout_dask.dashboard.columns import money_of
from handout_dask.dashboard.facts import node_table, progress_bar
from handout_dask.dashboard.gantt import draw_gantt
from handout_dask.dashboard.graphpage import GraphPart
from handout_dask.dashboard.markup import (
    Html,
    element,
    escaped,
    facts,
    image,
    joined,
    more,
    table,
)
from handout_dask.dashboard.part import Part, plot, tell
from handout_dask.dashboard.planpage import PlanPart
from handout_dask.dashboard.recorded import Recorded, samples_of
from handout_dask.dashboard.reprs import cluster_table, run_facts
from handout_dask.dashboard.resourcespage import ResourcesPart
from handout_dask.dashboard.scene import Scene
from handout_dask.dashboard.shape import Shape
from handout_dask.dashboard.svg import seconds
from handout_dask.picture import Picture
from handout_dask.printable import printable
from handout_dask.report import Report

ROWS, LABEL = 200, 30  # of a table; columns of a function's name
LATEST = 20  # failures that are seen at once
HEAD = ("function", "node (planned)", "took", "planned", "late")
LANE, LEAST, MOST = 20, 240, 900  # px of lanes; of a chart
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:"
)
STYLE = """
:root { color-scheme: light dark; }
body { font: 14px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 16px 28px 60px;
  max-width: 1400px; color: #1c2127; background: #fff; }
h1 { font-size: 22px; margin: 8px 0; } h2 { font-size: 17px; margin: 30px 0 6px; }
.chart { background: #fff; color: #1c2127; border: 1px solid #8884; border-radius: 6px;
  padding: 6px; color-scheme: light; }
p { margin: 4px 0; } .faint { opacity: 0.7; } .wide { overflow-x: auto; }
@media (prefers-color-scheme: dark) {
  body { color: #e4e6e9; background: #15181c; }
  .chart { filter: invert(0.91) hue-rotate(180deg) brightness(1.12); } }
"""


# ------------------------------------------------------------------------- pages
def report_page(
    report: Report, environment: Mapping[str, str], status: str = "", name: str = ""
) -> str:
    """All that became of a plan.

    Parameters
    ----------
    report : Report
        What happened.
    environment : mapping
        Names and values: when, where, and with which versions.
    status, name : str
        Of the run, if it was one.
    """
    picture = samples_of(Picture.of_report(report, status, name))
    page = _Page(_titled("Report", picture.title))
    page.add("", facts(run_facts(picture, name)), progress_bar(picture))
    page.parts(picture, (PlanPart, GraphPart, ResourcesPart))
    page.add("Nodes", node_table(picture, ROWS))
    page.add("Failures", *_failures(picture))
    page.add("Functions", *_functions(report))
    page.add("Cost", _cost(report, picture))
    page.add("Environment", facts(environment.items()))
    page.add("", element("p", "The nodes that the plan is for:"))
    page.add("", cluster_table(report.plan.problem.cluster, ROWS))
    return page.text()


def picture_page(picture: Picture, color: str = "") -> str:
    """A plan, or what became of one, to zoom and ask."""
    planned = picture.status == "planned"
    page = _Page(_titled("Plan" if planned else "Run", picture.title))
    parts: tuple[type[Part], ...] = (PlanPart, GraphPart)
    if color and color != "state":
        page.parts(picture, (PlanPart,))
        page.chart("Graph", _graph_figure(Shape.of_picture(picture, color)), LEAST * 2)
    else:
        page.parts(samples_of(picture), parts)
    page.add("Nodes", node_table(picture, ROWS))
    return page.text()


def graph_page(shape: Shape, title: str) -> str:
    """A graph, to zoom and ask."""
    page = _Page(_titled("Graph", "" if title == "Graph" else title))
    rows = float(np.ptp(shape.y)) + 1 if len(shape.y) else 1.0
    page.chart("", _graph_figure(shape), int(np.clip(36 * rows + 110, LEAST, MOST)))
    return page.text()


class _Page:
    """A page that grows."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._models: list[Any] = []
        self._sections: list[Any] = []  # Html, or the number of a model

    def add(self, title: str, *parts: object) -> None:
        """Add a section, or, without a title, more to the last one."""
        if title:
            self._sections.append(element("h2", title))
        self._sections += [
            element("div", part, class_="wide") for part in parts if part
        ]

    def chart(self, title: str, model: Any, height: int) -> None:
        """Add what is drawn."""
        if title:
            self._sections.append(element("h2", title))
        model.sizing_mode, model.height = "stretch_width", height
        self._sections.append(len(self._models))
        self._models.append(model)

    def parts(self, picture: Picture, kinds: Sequence[type[Part]]) -> None:
        """Add what pages of the dashboard show, as it is in the end."""
        if not len(picture):
            self.add("", element("p", "There are no functions."))
            return
        scene = Scene(picture)
        for kind in kinds:
            part = kind()
            part.begin(scene, picture)
            part.update(scene, picture, Recorded())
            title, height = _heading(part, scene, picture)
            self.chart(title, part.root, height)
            if isinstance(part, PlanPart):
                svg = draw_gantt(picture)
                inner = image(str(svg), "what each node does over time", svg.width)
                self._sections.append(element("noscript", inner))

    def text(self) -> str:
        """The page."""
        script, divs = components(self._models) if self._models else ("", ())
        body = [
            element("div", Html(divs[part]), class_="chart")
            if isinstance(part, int)
            else part
            for part in self._sections
        ]
        inline = INLINE.render() if self._models else ""
        title = escaped(self._title)
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
            '<meta name="viewport" content="width=device-width">\n'
            f"<title>{title}</title>\n<style>{STYLE}</style>\n{inline}\n</head>\n"
            f"<body><h1>{title}</h1>\n"
            + "\n".join(body)
            + f"\n{script}</body></html>\n"
        )


# -------------------------------------------------------------------------- parts
def _heading(part: Part, scene: Scene, picture: Picture) -> tuple[str, int]:
    if isinstance(part, PlanPart):
        title = "Plan" if picture.status == "planned" else "Plan against what happened"
        return title, int(np.clip(LANE * float(scene.begin[-1]) + 130, LEAST, MOST))
    if isinstance(part, GraphPart):
        rows = float(np.ptp(scene.vertices.y)) + 1 if len(scene.vertices.y) else 1.0
        return "Graph", int(np.clip(42 * rows + 120, LEAST, 620))
    charts, rows = part.root.children
    rows.height = 28 * min(len(rows.source.data["name"]) + 2, 20)
    return "Resources", sum(
        chart.height + 10 for chart in charts.children
    ) + rows.height


def _graph_figure(shape: Shape) -> Any:
    """The graph of a shape, to zoom and ask."""
    fig = plot(
        "handout-graph", x_axis_location=None, y_axis_location=None,
        tools="pan,wheel_zoom,box_zoom,reset,save",
    )  # fmt: skip
    fig.grid.grid_line_color = None
    fig.y_range.flipped = True
    fig.x_range.range_padding = fig.y_range.range_padding = 0.16  # names fit in
    x, y = shape.x, shape.y
    edges = ColumnDataSource({
        "x0": x[shape.source], "y0": y[shape.source],
        "x1": x[shape.target], "y1": y[shape.target],
    })  # fmt: skip
    fig.segment(source=edges, color="#a5adb8", alpha=0.55, **{k: k for k in edges.data})
    k = len(shape.labels)
    size = float(np.clip(420 / max(k, 1) ** 0.5, 5, 18))
    for number, (colour, name) in enumerate(shape.legend):
        mine = np.flatnonzero(shape.shares.argmax(axis=1) == number)
        dots = ColumnDataSource({
            "x": x[mine], "y": y[mine], "count": shape.count[mine],
            "label": [printable(shape.labels[v], LABEL) for v in mine.tolist()],
        })  # fmt: skip
        drawn = fig.scatter(
            "x", "y", source=dots, size=size, color=colour,
            legend_label=printable(name, 40),
        )  # fmt: skip
        rows = [("", "@label")] + [("functions", "@count")] * shape.is_folded
        tell(fig, [drawn], *rows)
        if k <= 60:
            fig.text(
                "x", "y", "label", source=dots, text_font_size="11px", y_offset=9,
                text_align="center", text_baseline="top",
            )  # fmt: skip
    if shape.legend:
        legend = fig.legend[0]
        legend.orientation, legend.border_line_color = "horizontal", None
        fig.add_layout(legend, "above")
    return fig


def _failures(picture: Picture) -> list[Html]:
    rows = [
        (
            row.function, row.node, f"{row.attempt}", seconds(row.when), row.outcome,
            "it was the last" if row.final else "tried again", row.cause,
        )
        for row in picture.failures
    ]  # fmt: skip
    head = ("function", "on", "attempt", "ended after", "outcome", "then", "cause")
    parts = [table(head, rows[:LATEST], LATEST, left=7)]
    others = picture.failed_attempts - LATEST
    if others > 0:
        rest = rows[LATEST:]
        told = table(head, rest, ROWS, left=7, rest="failed attempts", count=others)
        parts.append(more(f"{others:,} more failed attempts", told))
    if not rows:
        parts = [element("p", "No attempt failed, and no node was lost.")]
    if picture.replans:
        again = [(seconds(when), why) for when, why in picture.replans]
        parts.append(element("p", "What had not begun was planned again:"))
        parts.append(table(("after", "because"), again, ROWS, left=2))
    return parts


def _functions(report: Report) -> list[Html]:
    rows = [
        (
            printable(row.function, 40),
            f"{row.node} ({row.planned_node})" if row.moved else row.node,
            seconds(row.duration or 0.0), seconds(row.planned_duration),
            seconds(row.lateness or 0.0), f"{row.attempts}",
            "" if row.peak_mb is None else f"{row.peak_mb:,.4g} MB",
            "" if row.declared_mb is None else f"{row.declared_mb:,.4g} MB",
        )
        for row in report.deviating(20)
    ]  # fmt: skip
    head = [*HEAD, "attempts", "memory at most", "declared"]
    parts = [element("p", "Those whose run times differ most from the planned ones:")]
    parts.append(table(head, rows, 20, left=2))
    if report.overuse:
        parts.append(element("p", "More memory than they declared took:"))
        parts += [element("p", str(row)) for row in report.overuse[:20]]
    return parts


def _cost(report: Report, picture: Picture) -> Html:
    cluster = report.plan.problem.cluster
    rows: list[tuple[object, object]] = [
        ("money", money_of(report.money)),
        ("as planned", money_of(report.planned_money)),
        ("billed by", cluster.billing),
    ]
    if report.unpriced:
        rows.append(("without nodes of unknown price", ", ".join(report.unpriced)))
    if report.holds:
        rows.append(("for the time that nodes were held", money_of(report.held_money)))
        rows.append(("had all been held all the time", money_of(report.whole_money)))
    paid = []
    spans = picture.spans
    for j, name in enumerate(picture.nodes):
        mine = spans.node == j
        busy = float((spans.end[mine] - spans.start[mine]).sum())
        price = picture.price[j]
        if price > 0 and busy:
            each = money_of(price * busy / 3600)
            paid.append((name, seconds(busy), f"{price:.4g}", each))
    head = ("node", "functions ran for", "price per hour", "comes to")
    return joined((facts(rows), table(head, paid, ROWS, rest="nodes")))


def _titled(what: str, name: str) -> str:
    return f"{what} “{name}”" if name else what

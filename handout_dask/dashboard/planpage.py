"""PlanPart: plan against actual, per node: what was to run when, and what did."""

from __future__ import annotations

from typing import Any

import numpy as np
from bokeh.models import FixedTicker, PlainText, Range1d, Span
from bokeh.transform import linear_cmap

from handout_dask.dashboard.columns import RUNNING, about_span, crossings, kinds_of
from handout_dask.dashboard.part import (
    CRITICAL,
    DARK,
    PALE,
    SEPARATE,
    Part,
    Reach,
    empty,
    explain_colours,
    plot,
    rows_of,
    source,
    tell,
)
from handout_dask.dashboard.scene import Scene
from handout_dask.dashboard.svg import STATE_COLOURS
from handout_dask.picture import Picture
from handout_dask.showing import Pictures
from handout_dask.spanlog import short

BOX = "top bottom left right"
LINKS = 80  # transfers that are drawn
LABELS = 40  # nodes whose names stand at the axis
CHARACTERS = 24  # of a name there
SECOND = "{0,0.000}"
PLANNED, ACTUAL = (0.08, 0.40), (0.46, 0.94)  # where in its lane, from above
COLOURS = [
    STATE_COLOURS["done"], "#7d6a12", STATE_COLOURS["failed"], STATE_COLOURS["lost"],
    STATE_COLOURS["running"],
]  # fmt: skip
SAID = ["done", "done late", "failed", "lost", "running"]
BARS = [("planned", PALE), ("planned, critical path", CRITICAL)]
BARS += zip(SAID, COLOURS, strict=True)
SHARES = [("planned: how busy", PALE), ("how busy it was", COLOURS[0])]


class PlanPart(Part):
    """A Gantt chart; of many functions how busy each node is."""

    name = "plan"

    def __init__(self) -> None:
        self._x = Reach()
        self._y = Range1d(1.0, 0.0)
        self.root = fig = plot(
            "handout-plan", x_range=self._x.range, y_range=self._y,
            x_axis_label="time since the run began [s]",
        )  # fmt: skip
        self._rows = source("rows", "top bottom")
        self._planned = source("planned", f"{BOX} critical label node")
        self._actual = source("actual", f"{BOX} kind label node about")
        self._running = source("running", f"{BOX} kind label node about")
        self._links = source("links", "x0 y0 x1 y1 label mb")
        self._shares = source("planned-shares", f"{BOX} node share")
        self._busy = source("shares", f"{BOX} node share")
        self._sent = 0
        self._lanes = 0
        self._edges = 0.0
        self._top = np.zeros(0)
        self._draw(fig)

    def _draw(self, fig: Any) -> None:
        fig.quad(
            top="top", bottom="bottom", left=0, right=1e9, source=self._rows,
            color=SEPARATE, level="underlay",
        )  # fmt: skip
        box = {side: side for side in BOX.split()}
        share = fig.quad(**box, source=self._shares, fill_color=PALE, line_color=None)
        planned = fig.quad(
            **box, source=self._planned, line_color="white", line_width=0.5,
            fill_color=linear_cmap("critical", [PALE, CRITICAL], -0.5, 1.5),
        )  # fmt: skip
        links = fig.segment(
            x0="x0", y0="y0", x1="x1", y1="y1", source=self._links, color="#8c8c8c",
            alpha=0.4,
        )  # fmt: skip
        colour = linear_cmap("kind", COLOURS, -0.5, len(COLOURS) - 0.5)
        busy = fig.quad(
            **box,
            source=self._busy,
            fill_color=COLOURS[0],
            fill_alpha=0.75,
            line_color=None,
        )
        bars = [
            fig.quad(
                **box, source=which, fill_color=colour, line_color="white",
                line_width=0.5,
            )
            for which in (self._actual, self._running)
        ]  # fmt: skip
        self._now = Span(location=0.0, dimension="height", line_color=DARK,
                         line_dash="dashed", visible=False)  # fmt: skip
        fig.add_layout(self._now)
        between = f"@left{SECOND} to @right{SECOND} s"
        who = ("function", "@label"), ("node", "@node")
        tell(fig, [planned], *who, ("planned", between))
        tell(fig, bars, *who, ("ran", between), ("", "@about"))
        tell(fig, [links], ("transfer", "@label"), ("size", "@mb{0,0.00} MB"))
        part = ("node", "@node"), ("from", between)
        tell(fig, [share], *part, ("planned busy", "@share{0 %}"))
        tell(fig, [busy], *part, ("was busy", "@share{0 %}"))
        self._meanings = explain_colours(fig, BARS)
        fig.yaxis[0].ticker = FixedTicker(ticks=[])  # nodes have no numbers

    def clear(self) -> None:
        """Show nothing."""
        empty(
            self._rows, self._planned, self._actual, self._running, self._links,
            self._shares, self._busy,
        )  # fmt: skip
        self._now.visible = False
        self._sent = self._lanes = 0
        self._edges = 0.0

    # ------------------------------------------------------------------ beginning
    def begin(self, scene: Scene, picture: Picture) -> None:
        """Show a run, of which nothing is shown yet."""
        self.clear()
        end = max(picture.makespan, picture.expected, picture.now)
        self._x.cover(end or 1.0, anew=True)
        self._meanings.data = rows_of(SHARES if scene.is_profile else BARS)
        if not scene.is_profile:
            self._begin_bars(scene, picture)

    def _begin_bars(self, scene: Scene, picture: Picture) -> None:
        line = (scene.begin[picture.node] + scene.lane).astype(np.float32)
        self._planned.data = {
            "top": line + np.float32(PLANNED[0]),
            "bottom": line + np.float32(PLANNED[1]),
            "left": picture.start.astype(np.float32),
            "right": picture.end.astype(np.float32),
            "critical": picture.critical.astype(np.uint8),
            "label": list(picture.labels),
            "node": [picture.nodes[j] for j in picture.node.tolist()],
        }
        edges = crossings(picture, LINKS)
        u, v = picture.source[edges], picture.target[edges]
        middle = np.float32(sum(PLANNED) / 2)
        self._links.data = {
            "x0": picture.end[u].astype(np.float32),
            "y0": line[u] + middle,
            "x1": picture.start[v].astype(np.float32),
            "y1": line[v] + middle,
            "label": [
                f"{picture.labels[a]} → {picture.labels[b]}"
                for a, b in zip(u.tolist(), v.tolist(), strict=True)
            ],
            "mb": picture.mb[edges].astype(np.float32),
        }

    def _label_nodes(self, scene: Scene, picture: Picture) -> None:
        """Names at the axis, and rows behind every other node."""
        begin = scene.begin
        self._lanes = len(begin)
        m = len(begin) - 1
        self._y.start, self._y.end = float(begin[-1]), 0.0
        self._y.reset_start, self._y.reset_end = self._y.start, 0.0
        shown = range(0, m, -(-m // LABELS) or 1)
        at = [float(begin[j] + begin[j + 1]) / 2 for j in shown]
        axis = self.root.yaxis[0]
        axis.ticker = FixedTicker(ticks=at)
        axis.major_label_overrides = {
            y: PlainText(text=short(picture.nodes[j], CHARACTERS))
            for y, j in zip(at, shown, strict=True)
        }
        axis.major_tick_line_color = None
        self._rows.data = {
            "top": begin[0:-1:2].astype(np.float32),
            "bottom": begin[1::2][: len(begin[0:-1:2])].astype(np.float32),
        }

    # ------------------------------------------------------------------- updating
    def update(self, scene: Scene, picture: Picture, pictures: Pictures) -> None:
        """Show what is new of the run."""
        scene.advance(picture)
        if self._lanes != len(scene.begin):
            self._label_nodes(scene, picture)
            self._edges = 0.0
        self._x.cover(max(picture.now, picture.expected))
        self._now.location = picture.now
        self._now.visible = picture.status == "running"
        if scene.is_profile:
            self._update_shares(scene, picture)
        else:
            self._update_bars(scene, picture)

    def _update_bars(self, scene: Scene, picture: Picture) -> None:
        spans, since = picture.spans, self._sent
        if len(spans) > since:
            line = np.array(scene.y[since:], dtype=np.float32)
            rows = range(since, len(spans))
            function = spans.function[since:].tolist()
            self._actual.stream({
                "top": line + np.float32(ACTUAL[0]),
                "bottom": line + np.float32(ACTUAL[1]),
                "left": spans.start[since:].astype(np.float32),
                "right": spans.end[since:].astype(np.float32),
                "kind": kinds_of(picture, since).astype(np.uint8),
                "label": [picture.labels[i] for i in function],
                "node": [picture.nodes[j] for j in spans.node[since:].tolist()],
                "about": [about_span(picture, k) for k in rows],
            })  # fmt: skip
            self._sent = len(spans)
        who = [*picture.begun.items()]
        if not who and not len(self._running.data["top"]):
            return
        line = np.array(scene.lines_of(picture), dtype=np.float32)
        start = np.array([t for _, t in who], dtype=np.float32)
        self._running.data = {
            "top": line + np.float32(ACTUAL[0]),
            "bottom": line + np.float32(ACTUAL[1]),
            "left": start,
            "right": np.maximum(start, np.float32(picture.now)),
            "kind": np.full(len(who), RUNNING, dtype=np.uint8),
            "label": [picture.labels[i] for i, _ in who],
            "node": [picture.nodes[int(picture.where[i])] for i, _ in who],
            "about": ["running"] * len(who),
        }

    def _update_shares(self, scene: Scene, picture: Picture) -> None:
        actual = scene.actual(picture)
        if self._edges != scene.edges[-1]:
            self._edges = float(scene.edges[-1])
            self._shares.data = _boxes(scene, picture, scene.planned)
            self._busy.data = _boxes(scene, picture, actual)
            self._top = actual
            return
        changed = np.flatnonzero(np.abs(actual - self._top).ravel() > 0.004)
        if not len(changed):
            return
        self._top = actual
        node, share = changed // actual.shape[1], actual.ravel()[changed]
        top = scene.begin[node + 1] - _heights(scene)[node] * share
        rows = changed.tolist()
        self._busy.patch({
            "top": [*zip(rows, np.round(top, 3).tolist(), strict=True)],
            "share": [*zip(rows, np.round(share, 3).tolist(), strict=True)],
        })  # fmt: skip


def _heights(scene: Scene) -> np.ndarray:
    """(m,) how high the row of each node is when all of it is busy."""
    height: np.ndarray = np.diff(scene.begin) * 0.92
    return height


def _boxes(scene: Scene, picture: Picture, share: np.ndarray) -> dict[str, Any]:
    """Columns of boxes as high as nodes are busy in each piece of time."""
    m, bins = share.shape
    bottom = np.repeat(scene.begin[1 : m + 1], bins)
    return {
        "top": (bottom - np.repeat(_heights(scene)[:m], bins) * share.ravel()).astype(
            np.float32
        ),
        "bottom": bottom.astype(np.float32),
        "left": np.tile(scene.edges[:-1], m).astype(np.float32),
        "right": np.tile(scene.edges[1:], m).astype(np.float32),
        "node": [name for name in picture.nodes[:m] for _ in range(bins)],
        "share": share.ravel().astype(np.float32),
    }

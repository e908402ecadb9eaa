"""GraphPart: the execution graph, by state and node; of many functions their groups."""

from __future__ import annotations

import numpy as np
from bokeh.models import Legend, LegendItem, Range1d
from bokeh.transform import linear_cmap

from handout_dask.dashboard.part import (
    CRITICAL,
    NOWHERE,
    Part,
    above,
    empty,
    explain_colours,
    plot,
    source,
    tell,
)
from handout_dask.dashboard.scene import Scene
from handout_dask.dashboard.svg import STATE_COLOURS
from handout_dask.picture import STATES, Picture
from handout_dask.showing import Pictures
from handout_dask.spanlog import short

LABELS = 60  # functions or groups up to which each has its name beside it
CHARACTERS = 22
BLANK = " "  # a title that has its place before there is one
RINGS = (  # of nodes, if they are not more; none is like the colour of a state
    "#14365c", "#e36b00", "#00c2c7", "#7b2d8b", "#e3007b", "#5d4037", "#0277d6",
    "#ffd000", "#000000", "#a6c800",
)  # fmt: skip
ROWS = 13  # of vertices below each other; of more there is no room for names
FEW = 200  # changes that are sent one by one
COLOURS = [STATE_COLOURS[name] for name in STATES]


class GraphPart(Part):
    """Functions, or groups of them, in layers from left to right."""

    name = "graph"

    def __init__(self) -> None:
        self._x, self._y = Range1d(0.0, 1.0), Range1d(0.0, 1.0)
        self.root = fig = plot(
            "handout-graph", x_range=self._x, y_range=self._y, x_axis_location=None,
            y_axis_location=None, tools="pan,wheel_zoom,box_zoom,reset,save",
            title=BLANK,
        )  # fmt: skip
        fig.grid.grid_line_color = None
        self._edges = source("edges", "x0 y0 x1 y1 width colour")
        self._dots = source("vertices", "x y size state ring label node about planned")
        self._names = source("names", "x y text below")
        fig.segment(
            x0="x0", y0="y0", x1="x1", y1="y1", line_width="width", color="colour",
            alpha=0.55, source=self._edges,
        )  # fmt: skip
        dots = fig.scatter(
            x="x", y="y", size="size", source=self._dots, line_width=2,
            fill_color=linear_cmap("state", COLOURS, -0.5, len(COLOURS) - 0.5),
            line_color="ring",
        )  # fmt: skip
        fig.text(
            x="x", y="y", text="text", source=self._names, text_font_size="11px",
            text_align="center", text_baseline="top", y_offset="below",
        )  # fmt: skip
        tell(
            fig, [dots], ("", "@label"), ("state", "@about"), ("node", "@node"),
            ("planned", "@planned"),
        )  # fmt: skip
        self._nodes = source("nodes", "x name ring")
        rings = fig.scatter(
            x="x", y="x", size=11, fill_color="white", line_color="ring",
            line_width=3, source=self._nodes,
        )  # fmt: skip
        whose = Legend(items=[LegendItem(label={"field": "name"}, renderers=[rings])])
        explain_colours(fig, zip(STATES, COLOURS, strict=True))
        above(fig, whose)
        self._state = np.zeros(0, dtype=np.uint8)
        self._counts = np.zeros((0, len(STATES)), dtype=np.int64)
        self._where = np.zeros(0, dtype=np.int64)

    def clear(self) -> None:
        """Show nothing."""
        empty(self._edges, self._dots, self._names, self._nodes)
        self.root.title.text = BLANK

    def begin(self, scene: Scene, picture: Picture) -> None:
        """Show a run, of which nothing is shown yet."""
        at = scene.vertices
        k = len(at.count)
        wide, high = (
            float(np.ptp(at.x)) if k else 0.0,
            float(np.ptp(at.y)) if k else 0.0,
        )
        self._x.start, self._x.end = -0.06 * wide - 0.5, 1.06 * wide + 0.5
        self._y.start, self._y.end = 1.06 * high + 0.7, -0.06 * high - 0.5
        for one in (self._x, self._y):
            one.reset_start, one.reset_end = one.start, one.end
        size = float(np.clip(420 / max(k, 1) ** 0.5, 5, 18))
        sizes = np.full(k, size)
        if at.is_folded:
            sizes = 10 + 30 * (at.count / at.count.max()) ** 0.5
        self._counts = at.states(picture)
        self._state = _shown(self._counts)
        self._where = picture.where
        self._dots.data = {
            "x": at.x.astype(np.float32),
            "y": at.y.astype(np.float32),
            "size": sizes.astype(np.float32),
            "state": self._state,
            "ring": self._rings(scene, picture),
            "label": _called(scene),
            "node": self._on(scene, picture),
            "about": at.about(self._counts),
            "planned": _planned(scene, picture),
        }
        on_path = at.critical[at.source] & at.critical[at.target]
        self._edges.data = {
            "x0": at.x[at.source].astype(np.float32),
            "y0": at.y[at.source].astype(np.float32),
            "x1": at.x[at.target].astype(np.float32),
            "y1": at.y[at.target].astype(np.float32),
            "width": np.where(on_path, 2.0, 1.0).astype(np.float32),
            "colour": [CRITICAL if on else "#a5adb8" for on in on_path.tolist()],
        }
        shown = range(k if k <= LABELS and high < ROWS else 0)  # names need room
        self._names.data = {
            "x": at.x[: len(shown)].astype(np.float32),
            "y": at.y[: len(shown)].astype(np.float32),
            "text": self._texts(scene)[: len(shown)],
            "below": (sizes[: len(shown)] / 2 + 2).astype(np.float32),
        }
        few = not at.is_folded and len(picture.nodes) <= len(RINGS)
        names = picture.nodes if few else ()
        self._nodes.data = {
            "x": [NOWHERE] * len(names), "name": [short(x, CHARACTERS) for x in names],
            "ring": [*RINGS[: len(names)]],
        }  # fmt: skip
        self.root.title.text = self._title(scene, picture)

    def _texts(self, scene: Scene) -> list[str]:
        """What stands beside vertices: of groups also how much of them is done."""
        at, done = scene.vertices, self._counts[:, STATES.index("done")]
        names = [short(label, CHARACTERS) for label in at.labels[:LABELS]]
        if not at.is_folded:
            return names
        rows = zip(names, done.tolist(), at.count.tolist(), strict=False)
        return [f"{name} {some:,} of {count:,}" for name, some, count in rows]

    def _title(self, scene: Scene, picture: Picture) -> str:
        at = scene.vertices
        parts = ["magenta: critical path"]
        if not at.is_folded and len(picture.nodes) <= len(RINGS):
            parts = ["fill: state", "ring: node", *parts]
        if at.is_folded:
            told = (
                "groups of functions: how many are done; coloured as most of them stand"
            )
            parts = [told, *parts]
        if len(at.source) < at.edges:
            parts.append(f"{len(at.source):,} of {at.edges:,} edges are drawn")
        return "  ·  ".join(parts)

    def _rings(self, scene: Scene, picture: Picture) -> list[str]:
        if scene.vertices.is_folded or len(picture.nodes) > len(RINGS):
            return ["#ffffff"] * len(scene.vertices.count)
        return [RINGS[j] for j in picture.where.tolist()]

    def _on(self, scene: Scene, picture: Picture) -> list[str]:
        if scene.vertices.is_folded:
            return [""] * len(scene.vertices.count)
        return [picture.nodes[j] for j in picture.where.tolist()]

    def update(self, scene: Scene, picture: Picture, pictures: Pictures) -> None:
        """Show what is new of the run."""
        at = scene.vertices
        counts = at.states(picture)
        changed = np.flatnonzero((counts != self._counts).any(axis=1))
        if not len(changed):
            return
        self._counts, self._state = counts, _shown(counts)
        about = at.about(counts[changed])
        patch = {
            "state": [
                *zip(changed.tolist(), self._state[changed].tolist(), strict=True)
            ],
            "about": [*zip(changed.tolist(), about, strict=True)],
        }
        if at.is_folded and self._names.data["text"]:
            texts = self._texts(scene)
            rows = [(v, texts[v]) for v in changed.tolist()]
            self._names.patch({"text": rows})
        if not at.is_folded:
            moved = np.flatnonzero(picture.where != self._where)
            self._where = picture.where
            nodes = [picture.nodes[j] for j in picture.where[moved].tolist()]
            patch["node"] = [*zip(moved.tolist(), nodes, strict=True)]
            if len(picture.nodes) <= len(RINGS):
                rings = [RINGS[j] for j in picture.where[moved].tolist()]
                patch["ring"] = [*zip(moved.tolist(), rings, strict=True)]
        self._dots.patch({name: rows for name, rows in patch.items() if rows})


def _shown(counts: np.ndarray) -> np.ndarray:
    """(k,) the state whose colour a vertex has: a failure, else what most are in."""
    failed = STATES.index("failed")
    state = counts.argmax(axis=1)
    state[counts[:, failed] > 0] = failed
    out: np.ndarray = state.astype(np.uint8)
    return out


def _called(scene: Scene) -> list[str]:
    at = scene.vertices
    if not at.is_folded:
        return at.labels
    counts = zip(at.labels, at.count.tolist(), strict=True)
    return [f"{count:,} functions {label}" for label, count in counts]


def _planned(scene: Scene, picture: Picture) -> list[str]:
    """When each is planned, or from when to when a group is."""
    at, k = scene.vertices, len(scene.vertices.count)
    first, last = np.full(k, np.inf), np.zeros(k)
    np.minimum.at(first, at.vertex, picture.start)
    np.maximum.at(last, at.vertex, picture.end)
    rows = zip(first.tolist(), last.tolist(), strict=True)
    return [f"{a:.3f} to {b:.3f} s" for a, b in rows]

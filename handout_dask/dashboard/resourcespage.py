"""ResourcesPart: what nodes have, hold and use over time; declared against measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from bokeh.layouts import column
from bokeh.models import (
    ColumnDataSource,
    DataTable,
    FixedTicker,
    NumberFormatter,
    PlainText,
    Range1d,
    StringFormatter,
    TableColumn,
    Title,
)

from handout_dask.dashboard.columns import measured
from handout_dask.dashboard.part import (
    DARK,
    PALE,
    SEPARATE,
    Part,
    Reach,
    above,
    empty,
    plot,
    source,
    tell,
)
from handout_dask.dashboard.scene import Scene
from handout_dask.picture import UNITS, Picture
from handout_dask.samples import Samples
from handout_dask.showing import Pictures
from handout_dask.spanlog import short

NODES = 24  # rows of a chart, of the nodes that hold most
CHARTS = 5  # resources
ROWS = 60  # of the table
FIRST = ("cpu", "memory", "gpus", "gpu_memory")
HEIGHT, MOST, LEAST, ALL = 84, 26, 13, 190  # px of a chart, and more for each node
FULL = 0.86  # of its row that a node fills when all is taken
COLUMNS = (
    ("name", "functions named", 150, None),
    ("done", "done", 52, "0,0"),
    ("total", "of", 52, "0,0"),
    ("planned", "planned [s]", 80, "0,0.000"),
    ("took", "took [s]", 70, "0,0.000"),
    ("cpu", "CPU time [s]", 92, "0,0.000"),
    ("declared", "declared [MB]", 100, "0,0.0"),
    ("peak", "peak [MB]", 78, "0,0.0"),
    ("size", "result decl. [MB]", 120, "0,0.00"),
    ("result", "result [MB]", 84, "0,0.00"),
)  # fmt: skip


class Chart:
    """One resource over time: a row for each node."""

    def __init__(
        self, resource: str, samples: Samples, x: Reach, order: Sequence[str]
    ) -> None:
        r = samples.resources.index(resource)
        self._r, self._sent = r, 0
        self._rows, self._full = _rows(samples, r, order)
        k = len(self._rows)
        unit = UNITS.get(resource, "")
        self._data = source(
            f"samples-{r}", "left right base claimed seen node holds uses has"
        )
        self.root = fig = plot(
            f"handout-resource-{r}", x_range=x.range, y_range=Range1d(float(k), 0.0),
            height=HEIGHT + k * int(np.clip(ALL / max(k, 1), LEAST, MOST)),
            sizing_mode="stretch_width", min_height=0,
            title=Title(text=PlainText(
                text=f"{short(resource)}{f' [{unit}]' if unit else ''} over time [s]"
            )),
        )  # fmt: skip
        lines = source(f"capacity-{r}", "y base right")
        lines.data = {
            "y": [j + 1 - FULL for j in range(k)], "base": [j + 1.0 for j in range(k)],
            "right": [1e9] * k,
        }  # fmt: skip
        fig.quad(
            left=0, right="right", top="y", bottom="base", source=lines,
            color=SEPARATE, level="underlay",
        )  # fmt: skip
        bars = fig.quad(
            left="left", right="right", bottom="base", top="claimed", color=PALE,
            source=self._data, legend_label="claimed",
        )  # fmt: skip
        fig.segment(
            x0="left", x1="right", y0="seen", y1="seen", color=DARK, line_width=1.5,
            source=self._data, legend_label="observed",
        )  # fmt: skip
        fig.segment(
            x0=0, x1="right", y0="y", y1="y", color="#d0524d", line_dash="dotted",
            source=lines, legend_label="capacity",
        )  # fmt: skip
        above(fig, fig.legend[0])
        fig.yaxis[0].ticker = FixedTicker(ticks=[j + 0.55 for j in range(k)])
        names = {
            j + 0.55: PlainText(text=_called(samples, row, r))
            for j, row in enumerate(self._rows)
        }
        fig.yaxis[0].major_label_overrides = names
        fig.yaxis[0].major_tick_line_color = None
        tell(
            fig, [bars], ("node", "@node"), ("from", "@left{0.0} s"),
            ("claimed", f"@holds{{0,0.[00]}} of @has{{0,0.[00]}} {unit}"),
            ("observed", f"@uses{{0,0.[00]}} {unit}"),
        )  # fmt: skip

    def restart(self, samples: Samples, order: Sequence[str]) -> bool:
        """Begin anew, for samples were thinned out; False if it needs another chart."""
        if self._r >= len(samples.resources):
            return False
        rows, full = _rows(samples, self._r, order)
        if rows.tolist() != self._rows.tolist() or full.tolist() != self._full.tolist():
            return False
        self._sent = 0
        empty(self._data)
        return True

    def update(self, samples: Samples, end: float | None) -> None:
        """Show what was seen since the last look; each sample until the next one.

        The last stands until `end`; it is not shown yet if there is none.
        """
        time = samples.time
        if end is not None:
            time = np.append(time, max(end, time[-1]))
        count = max(len(time) - 1, 0)
        since, self._sent = self._sent, max(count, self._sent)
        if count <= since:
            return
        left, right = time[since:count], time[since + 1 : count + 1]
        k, s, r = len(self._rows), count - since, self._r
        holds = samples.claimed[since:count, self._rows, r]
        uses = samples.observed[since:count, self._rows, r]
        has = samples.capacity[since:count, self._rows, r]
        base = np.arange(1.0, k + 1)[None, :].repeat(s, axis=0)
        claimed = base - FULL * np.minimum(np.nan_to_num(holds) / self._full, 1.0)
        seen = base - FULL * np.minimum(uses / self._full, 1.1)
        columns = {"base": base, "claimed": claimed, "seen": seen, "holds": holds,
                   "uses": uses, "has": has}  # fmt: skip
        rows: dict[str, Any] = {
            name: values.ravel().astype(np.float32) for name, values in columns.items()
        }
        rows["left"] = left.repeat(k).astype(np.float32)
        rows["right"] = right.repeat(k).astype(np.float32)
        rows["node"] = [short(samples.nodes[j]) for j in self._rows] * s
        self._data.stream(rows)


class ResourcesPart(Part):
    """Charts of resources over a table of what functions declare and take."""

    name = "resources"

    def __init__(self) -> None:
        self._x = Reach()
        self._charts: dict[str, Chart] = {}
        self._version = -1
        self._table = ColumnDataSource(
            {name: [] for name, *_ in COLUMNS}, name="handout-measured-rows"
        )
        self._told: dict[str, Any] = {}
        columns = [
            TableColumn(
                field=name, title=title, width=width,
                formatter=StringFormatter() if how is None else NumberFormatter(
                    format=how, text_align="right", nan_format="-"
                ),
            )
            for name, title, width, how in COLUMNS
        ]  # fmt: skip
        table = DataTable(
            name="handout-measured", source=self._table, columns=columns, height=260,
            sizing_mode="stretch_width", index_position=None, reorderable=False,
            autosize_mode="none",
        )  # fmt: skip
        self._plots = column(sizing_mode="stretch_width", name="handout-charts")
        self.root = column(
            self._plots, table, sizing_mode="stretch_both",
            styles={"overflow-y": "auto"},
        )  # fmt: skip

    def clear(self) -> None:
        """Show nothing."""
        self._charts, self._version, self._told = {}, -1, {}
        self._plots.children = []
        empty(self._table)

    def begin(self, scene: Scene, picture: Picture) -> None:
        """Show a run, of which nothing is shown yet."""
        self.clear()
        self._x.cover(max(picture.makespan, picture.now) or 1.0, anew=True)

    def update(self, scene: Scene, picture: Picture, pictures: Pictures) -> None:
        """Show what is new of the run."""
        samples = picture.samples
        self._x.cover(picture.now)
        if samples is not None and len(samples.time):
            if samples.version != self._version:
                self._version = samples.version
                self._renew(samples, picture.nodes)
            for chart in self._charts.values():
                chart.update(samples, picture.now if picture.is_over else None)
        told = measured(picture, ROWS)
        if told != self._told:
            self._told = told
            self._table.data = {
                name: np.array(values) if name != "name" else list(values)
                for name, values in told.items()
            }

    def _renew(self, samples: Samples, order: Sequence[str]) -> None:
        """Begin the charts anew; those that stay as they are are not made again."""
        before, self._charts = self._charts, {}
        for name in _resources(samples):
            old = before.get(name)
            kept = old is not None and old.restart(samples, order)
            self._charts[name] = (
                old if kept and old else Chart(name, samples, self._x, order)
            )
        if [*before.values()] != [*self._charts.values()]:
            self._plots.children = [chart.root for chart in self._charts.values()]


def _resources(samples: Samples) -> list[str]:
    """The resources of which there is something to see, in the order of interest."""
    some = np.nan_to_num(samples.claimed).any(axis=(0, 1))
    some |= np.isfinite(samples.observed).any(axis=(0, 1))
    names = [name for name, there in zip(samples.resources, some, strict=True) if there]
    names.sort(key=lambda x: (FIRST.index(x) if x in FIRST else len(FIRST), x))
    return names[:CHARTS]


def _rows(
    samples: Samples, r: int, order: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """``(nodes, full)``: the nodes to be shown, and what fills the row of each."""
    held = np.nan_to_num(samples.claimed[:, :, r]).max(axis=0, initial=0.0)
    has = np.nan_to_num(samples.capacity[:, :, r], posinf=0.0).max(axis=0, initial=0.0)
    there = np.flatnonzero((held > 0) | (has > 0))
    if not len(there):
        there = np.arange(len(samples.nodes))
    place = {name: k for k, name in enumerate(order)}
    turn = np.array([place.get(short(x), len(order)) for x in samples.nodes])
    shown = there[np.argsort(-held[there], kind="stable")][:NODES]
    shown = shown[np.argsort(turn[shown], kind="stable")]
    used = np.nan_to_num(samples.observed[:, :, r]).max(axis=0, initial=0.0)
    full = np.where(has > 0, has, np.maximum(held, used))[shown]
    return shown, np.where(full > 0, full, 1.0)


def _called(samples: Samples, j: int, r: int) -> str:
    """A node with what it has."""
    has = samples.capacity[:, j, r]
    most = float(np.nan_to_num(has, posinf=0.0).max(initial=0.0))
    return f"{short(samples.nodes[j], 18)} ({f'{most:,.6g}' if most else 'no limit'})"

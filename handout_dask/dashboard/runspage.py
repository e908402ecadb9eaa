"""RunsPart: all runs that are known; of one what failed, and what waits for what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bokeh.layouts import column
from bokeh.models import (
    ColumnDataSource,
    DataTable,
    NumberFormatter,
    TableColumn,
)

from handout_dask.dashboard.columns import plural
from handout_dask.dashboard.part import Part, empty, line_of_text
from handout_dask.dashboard.scene import Scene
from handout_dask.picture import Picture
from handout_dask.showing import Pictures

WAITS = 15  # functions that are told for what they wait
FAILURES = 50
PROGRESS = 8  # characters of a bar
ROW, FEWEST, MOST = 25, 2, 7  # px of a row of a table; rows for which there is room

RUNS = (
    ("run", "run", 128, None), ("graph", "graph", 130, None),
    ("status", "status", 68, None), ("progress", "progress", 112, None),
    ("done", "done", 54, "0,0"), ("functions", "of", 54, "0,0"),
    ("running", "running", 58, "0,0"), ("failed", "failed", 50, "0,0"),
    ("retries", "retries", 54, "0,0"), ("now", "time [s]", 66, "0,0.0"),
    ("makespan", "planned [s]", 80, "0,0.0"),
    ("expected", "expected [s]", 88, "0,0.0"), ("money", "money", 66, "0,0.0000"),
    ("planned_money", "planned money", 102, "0,0.0000"),
)  # fmt: skip
WAITING = (
    ("function", "function", 200, None),
    ("why", "for what it waits", 1400, None),
)
FAILED = (
    ("function", "function", 200, None), ("node", "node", 110, None),
    ("when", "at [s]", 80, "0,0.000"), ("attempt", "attempt", 60, "0,0"),
    ("what", "what", 130, None), ("cause", "cause", 1400, None),
)  # fmt: skip

Columns = Sequence[tuple[str, str, int, str | None]]


class Table:
    """A heading, and a table that is sent only when something of it has changed."""

    def __init__(self, name: str, heading: str, columns: Columns) -> None:
        self._source = ColumnDataSource(
            {key: [] for key, *_ in columns}, name=f"{name}-rows"
        )
        self._rows: list[tuple[Any, ...]] = []
        self._keys = [key for key, *_ in columns]
        made = []
        for key, title, width, how in columns:
            more = {} if how is None else {
                "formatter": NumberFormatter(
                    format=how, text_align="right", nan_format="-"
                )
            }  # fmt: skip
            made.append(TableColumn(field=key, title=title, width=width, **more))
        self._table = DataTable(
            name=name, source=self._source, columns=made, height=_height(0),
            sizing_mode="stretch_width", index_position=None, reorderable=False,
            autosize_mode="none",
        )  # fmt: skip
        self.heading = line_of_text(
            heading, margin=(8, 5, 0, 5), name=f"{name}-heading"
        )
        self.root = column(self.heading, self._table, sizing_mode="stretch_width")

    def show(self, heading: str, rows: list[tuple[Any, ...]]) -> None:
        """Show other rows; those that stay the same are not sent again."""
        if self.heading.text != heading:
            self.heading.text = heading
        old, self._rows = self._rows, rows
        if len(old) != len(rows):
            self._table.height = _height(len(rows))
            columns = zip(*rows, strict=True) if rows else [()] * len(self._keys)
            self._source.data = {
                key: list(values)
                for key, values in zip(self._keys, columns, strict=True)
            }
            return
        patch: dict[str, list[tuple[int, Any]]] = {}
        for at, (before, after) in enumerate(zip(old, rows, strict=True)):
            for key, a, b in zip(self._keys, before, after, strict=True):
                if a != b and not (a != a and b != b):
                    patch.setdefault(key, []).append((at, b))
        if patch:
            self._source.patch(patch)

    def clear(self) -> None:
        """Show no rows."""
        self._rows = []
        empty(self._source)
        self._table.height = _height(0)


class RunsPart(Part):
    """Tables of runs, of what waits, and of what failed."""

    name = "runs"

    def __init__(self) -> None:
        self._runs = Table("handout-runs", "Runs, the latest first", RUNS)
        self._waits = Table("handout-waits", "", WAITING)
        self._failures = Table("handout-failures", "", FAILED)
        self.root = column(
            self._runs.root, self._waits.root, self._failures.root,
            sizing_mode="stretch_both", styles={"overflow-y": "auto"},
        )  # fmt: skip

    def clear(self) -> None:
        """Show nothing of a run."""
        for table in (self._waits, self._failures):
            table.clear()

    def begin(self, scene: Scene, picture: Picture) -> None:
        """Show a run, of which nothing is shown yet."""
        self.clear()

    def update(self, scene: Scene, picture: Picture, pictures: Pictures) -> None:
        """Show what is new of the run, and of all others."""
        self._runs.show(
            "Runs, the latest first",
            [
                (
                    run.name, run.title, run.status, _bar(run.done, run.functions),
                    run.done, run.functions, run.running, run.failed, run.retries,
                    round(run.now, 1), round(run.makespan, 3), round(run.expected, 1),
                    round(run.money, 5), round(run.planned_money, 5),
                )
                for run in pictures.runs()
            ],
        )  # fmt: skip
        waits = pictures.waits(picture.name, WAITS)
        left = (
            picture.counts["waiting"]
            + picture.counts["ready"]
            + picture.counts["again"]
        )
        more = f"; {left:,} wait in all" if left > len(waits) else ""
        self._waits.show(
            f"What functions of {picture.name} wait for{more}" if waits
            else f"Nothing of {picture.name} waits",
            [*waits],
        )  # fmt: skip
        failures = picture.failures[:FAILURES]
        count = picture.failed_attempts
        self._failures.show(
            f"{plural(count, 'attempt', 'attempts')} of {picture.name} failed, the "
            "latest first" if count
            else f"No attempt of {picture.name} failed",
            [
                (
                    one.function, one.node, one.when, one.attempt,
                    f"{one.outcome}{', for good' if one.final else ''}", one.cause,
                )
                for one in failures
            ],
        )  # fmt: skip


def _height(rows: int) -> int:
    """Of a table [px]: its head, some of its rows, and what moves it to the side."""
    return ROW * (1 + min(max(rows, FEWEST), MOST)) + 15


def _bar(done: int, of: int) -> str:
    """How much is done, drawn with characters."""
    full = PROGRESS * done // max(of, 1)
    return "█" * full + "░" * (PROGRESS - full) + f" {100 * done // max(of, 1)} %"

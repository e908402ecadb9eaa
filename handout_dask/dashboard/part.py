"""Part: one tab of our page, or a page of its own: a picture that is kept up to date.

Users' text goes into columns, titles, axes, legends and `line_of_text`, which show it
as it is; never into any other Div, and never into the template of a tooltip.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bokeh.models import (
    ColumnDataSource,
    Div,
    HoverTool,
    Legend,
    LegendItem,
    Range1d,
)
from bokeh.plotting import figure

from handout_dask.dashboard.scene import Scene
from handout_dask.picture import Picture
from handout_dask.showing import Pictures

CRITICAL = "#c0399f"
PALE, DARK = "#c9d7e6", "#39424e"
NOWHERE = float("nan")
SEPARATE = "#eef1f4"


class Part:
    """What a tab shows of one run.

    Attributes
    ----------
    name : str
        In addresses and, with a capital letter, on tabs.
    root : bokeh model
        What is put on the page.
    """

    name = ""
    root: Any

    def begin(self, scene: Scene, picture: Picture) -> None:
        """Show a run, of which nothing is shown yet."""
        raise NotImplementedError

    def update(self, scene: Scene, picture: Picture, pictures: Pictures) -> None:
        """Show what is new of the run."""
        raise NotImplementedError

    def clear(self) -> None:
        """Show nothing."""


def source(called: str, columns: str) -> ColumnDataSource:
    """Columns without rows, named in one text, under a name of ours."""
    return ColumnDataSource(
        {name: [] for name in columns.split()}, name=f"handout-{called}"
    )


def empty(*sources: ColumnDataSource) -> None:
    """Take all rows away."""
    for one in sources:
        one.data = {name: [] for name in one.data}


def plot(name: str, **more: Any) -> figure:
    """A figure as all of ours are."""
    options: dict[str, Any] = {
        "name": name,
        "tools": "xpan,xwheel_zoom,xbox_zoom,reset,save",
        "toolbar_location": "right",
        "sizing_mode": "stretch_both",
        "min_height": 200,
    }
    made = figure(**{**options, **more})
    made.toolbar.logo = None
    made.title.text_font_style = "normal"
    made.xgrid.grid_line_color = SEPARATE
    made.ygrid.grid_line_color = None
    return made


def tell(on: figure, renderers: list[Any], *rows: tuple[str, str]) -> None:
    """Let what is drawn say more when it is pointed at."""
    on.add_tools(HoverTool(renderers=renderers, tooltips=[*rows]))


def explain_colours(
    on: figure, meanings: Iterable[tuple[str, str]]
) -> ColumnDataSource:
    """A legend of what has which meaning and colour, above what is drawn."""
    told = source("legend", "x name colour")
    told.data = rows_of(meanings)
    box = dict.fromkeys(("left", "right", "top", "bottom"), "x")
    boxes = on.quad(**box, color="colour", source=told)
    item = LegendItem(label={"field": "name"}, renderers=[boxes])
    above(on, Legend(items=[item]))
    return told


def rows_of(meanings: Iterable[tuple[str, str]]) -> dict[str, list[Any]]:
    """What a legend says: meanings and colours, as columns."""
    rows = [*meanings]
    return {
        "x": [NOWHERE] * len(rows), "name": [name for name, _ in rows],
        "colour": [colour for _, colour in rows],
    }  # fmt: skip


def above(on: figure, legend: Any) -> None:
    """Put a legend above what is drawn, in one row."""
    legend.orientation, legend.border_line_color = "horizontal", None
    legend.padding, legend.margin, legend.spacing = 2, 4, 8
    legend.glyph_width = legend.glyph_height = 13
    legend.title_text_font_style, legend.title_standoff = "normal", 8
    legend.background_fill_alpha = 0.0
    legend.label_text_font_size = legend.title_text_font_size = "12px"
    on.add_layout(legend, "above")


def line_of_text(text: str = "", **more: Any) -> Div:
    """Text, be it a user's, as a line that may be broken."""
    return Div(text=text, render_as_text=True, disable_math=True, **more)


class Reach:
    """A range that grows with what is to be seen, unless the viewer has moved it."""

    def __init__(self, end: float = 1.0) -> None:
        self.range = Range1d(0.0, end)
        self._own = end

    def cover(self, end: float, *, anew: bool = False) -> None:
        """Let it reach so far, and a little farther."""
        untouched = self.range.start == 0.0 and self.range.end == self._own
        if anew or (untouched and end > 0.995 * self._own):
            self._own = 1.04 * end if anew else 1.2 * end
            self.range.start, self.range.end = 0.0, self._own
            self.range.reset_start, self.range.reset_end = 0.0, self._own

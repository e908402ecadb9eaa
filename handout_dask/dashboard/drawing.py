"""Drawing: what `visualize` returns: shows itself, and is written as a file.

Of what it draws it knows how to get its shape or picture.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from handout_dask.dashboard.gantt import draw_gantt
from handout_dask.dashboard.graphdrawing import draw_graph
from handout_dask.dashboard.markup import image
from handout_dask.dashboard.shape import COLOURS, Shape
from handout_dask.dashboard.svg import Svg
from handout_dask.errors import HandoutError
from handout_dask.graph import Graph
from handout_dask.picture import Picture
from handout_dask.plans import Plan
from handout_dask.report import Report

FORMATS = (".svg", ".html", ".png")
SHOWN = ("gantt", "graph")


class Drawing:
    """A drawing; in a notebook it shows itself, also in one that is not trusted.

    Parameters
    ----------
    svg : Svg
        The drawing.
    alt : str
        What it shows, in words.
    page : callable
        Makes it as a page that one can zoom.

    Attributes
    ----------
    svg : str
        Its text.
    """

    def __init__(self, svg: Svg, alt: str, page: Callable[[], str]) -> None:
        self.svg, self.alt = str(svg), alt
        self.width, self.height = svg.width, svg.height
        self._page = page

    def save(self, path: Any) -> None:
        """Write it as ``.svg``, ``.html`` or ``.png``, as the name of the file says.

        Raises
        ------
        HandoutError
            If the name says something else, it can't be written there, or nothing is
            there that makes a PNG.
        """
        suffix = Path(path).suffix.lower()
        if suffix not in FORMATS:
            raise HandoutError(
                f"a drawing can't be written as {str(path)!r}; its name may end in "
                + ", ".join(FORMATS)
            )
        data = self._as(suffix)
        try:
            Path(path).write_bytes(data)
        except OSError as error:
            raise HandoutError(
                f"a drawing can't be written to {str(path)!r}: {error.strerror}"
            ) from error

    def _as(self, suffix: str) -> bytes:
        if suffix == ".png":
            from handout_dask.dashboard.png import png_of

            return png_of(self.svg, self.width, self.height)
        return (self.svg if suffix == ".svg" else self._page()).encode()

    def _repr_html_(self) -> str:
        return str(image(self.svg, self.alt, self.width))

    def __repr__(self) -> str:
        return f"<Drawing of {self.alt}, {self.width:.0f} x {self.height:.0f}>"


def draw(thing: Any, filename: Any = None, show: str = "", color: str = "") -> Drawing:
    """Draw a Graph, Plan, Report or Run, and write it to a file if one is named."""
    if show and show not in SHOWN:
        raise HandoutError(f"show={show!r} must be one of {', '.join(SHOWN)}")
    if color and color not in COLOURS:
        raise HandoutError(f"color={color!r} must be one of {', '.join(COLOURS)}")
    made = _of_graph(thing, color) if isinstance(thing, Graph) else None
    drawn = made or _of_picture(picture_of(thing), show or "gantt", color)
    if filename is not None:
        drawn.save(filename)
    return drawn


def picture_of(thing: Any) -> Picture:
    """What there is to see of a Plan, Report or Run."""
    if isinstance(thing, Plan):
        return Picture.of_plan(thing)
    if isinstance(thing, Report):
        return Picture.of_report(thing)
    picture: Picture = thing._picture()
    return picture


def _of_graph(graph: Graph, color: str) -> Drawing:
    if color not in ("", "group"):
        raise HandoutError(
            f"color={color!r}: a graph that is not planned has groups only; "
            'plan.visualize(show="graph") draws its nodes, run.visualize its states'
        )
    shape = Shape.of_graph(graph)

    def page() -> str:
        from handout_dask.dashboard.offline import graph_page

        return graph_page(shape, graph.name or "Graph")

    return Drawing(draw_graph(shape), f"a graph of {len(graph)} functions", page)


def _of_picture(picture: Picture, show: str, color: str) -> Drawing:
    def page() -> str:
        from handout_dask.dashboard.offline import picture_page

        return picture_page(picture, color)

    what = "plan" if picture.status == "planned" else "run"
    alt = f"a {what} of {len(picture)} functions on {len(picture.nodes)} nodes"
    if show == "graph":
        return Drawing(draw_graph(Shape.of_picture(picture, color)), alt, page)
    if color:
        raise HandoutError(f'color={color!r} is for show="graph"')
    return Drawing(draw_gantt(picture), alt, page)

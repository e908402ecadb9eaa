"""Shown: what can be looked at in a notebook, and drawn. How, others know; late."""

from __future__ import annotations

from typing import Any


class Shown:
    """Shows itself in a notebook, as a table with a drawing that need no scripts."""

    def _repr_html_(self) -> str:
        from handout_dask.dashboard.reprs import html_of

        return html_of(self)


class Visualized(Shown):
    """Can be drawn besides. Base of Plan, Run and Report."""

    def visualize(
        self, filename: Any = None, *, show: str = "gantt", color: str = ""
    ) -> Any:
        """Draw it: what each node does over time, or the graph.

        Parameters
        ----------
        filename : path, optional
            A file to write it to as well: ``.svg``; ``.html``, with which one can zoom
            and ask, and which needs no network; or ``.png``, for which a program is
            needed that makes one.
        show : {"gantt", "graph"}
            Nodes over time, planned pale and what happened solid; or functions with
            what they read.
        color : {"group", "node", "state"}, optional
            What the colours of a graph tell; default: states where something happened,
            else nodes.

        Returns
        -------
        Drawing
            Shows itself in a notebook; ``.svg`` is its text.

        Raises
        ------
        HandoutError
            If it can't be drawn so; the error says what is missing.
        """
        from handout_dask.dashboard.drawing import draw

        return draw(self, filename, show, color)

"""Bar: how far a run is, as notebooks show it; no scripts, so it survives saving."""

from __future__ import annotations

from handout_dask.dashboard.markup import FRAME, element
from handout_dask.dashboard.svg import STATE_COLOURS
from handout_dask.pace import Stand

PIECE = "display:inline-block;height:10px;width:{:.2f}%;background:{}"


class Bar:
    """Shows itself: a bar and a line.

    Parameters
    ----------
    stand : Stand
        How far the run is.
    """

    def __init__(self, stand: Stand) -> None:
        self._stand = stand

    def _repr_html_(self) -> str:
        stand = self._stand
        total = max(stand.total, 1)
        parts = [("done", stand.done), ("failed", stand.failed)]
        pieces = [
            element("div", style=PIECE.format(100 * k / total, STATE_COLOURS[name]))
            for name, k in parts
            if k
        ]
        bar = element(
            "div",
            *pieces,
            style="width:360px;max-width:100%;height:10px;line-height:0;font-size:0;"
            "border-radius:3px;overflow:hidden;background:rgba(128,128,128,0.25)",
        )
        return str(element("div", bar, element("div", str(stand)), style=FRAME))

    def __repr__(self) -> str:
        return str(self._stand)

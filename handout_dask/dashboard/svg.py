"""Svg: a drawing as text. Knows shapes, not what they mean.

Colours are of middle lightness on no ground, because a drawing can't know whether the
page behind it is bright or dark: what it is told is the theme of the system, not that
of the notebook.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from handout_dask.printable import columns, printable

INK, FAINT = "#7f7f7f", "#8c8c8c"  # of text and lines; legible on white and on black
FONT = "system-ui,-apple-system,Segoe UI,Roboto,sans-serif"
SIZE = 11  # px of text
# Of middle lightness and far from each other, also for most who see colours otherwise.
PALETTE = (
    "#4c82b8", "#dd8a2e", "#4f9f55", "#c95b56", "#8f74bd", "#3fa3a3", "#b39a2c",
    "#cc74a8", "#94705a", "#6f7fd0",
)  # fmt: skip
STATE_COLOURS = {
    "waiting": "#9a9a9a",
    "ready": "#7d97b8",
    "sent": "#5f8fd0",
    "running": "#dd9a2e",
    "again": "#b39a2c",
    "done": "#4f9f55",
    "failed": "#d0524d",
    "blocked": "#b8788c",
    "cancelled": "#8f74bd",
    "lost": "#a0466e",
}


# Widths [em] of letters that are far from 0.58 em, and what takes them out of a text.
WIDTHS_OF = dict.fromkeys("MW@%\u2014\u2026", 0.98) | dict.fromkeys("mw", 0.88)
WIDTHS_OF |= dict.fromkeys("ABCDEGHKNOQRSTUVXYZ&", 0.74) | dict.fromkeys(
    "ijl.,:;'|!", 0.36
)
WIDTHS = dict.fromkeys(map(ord, WIDTHS_OF))


def colour_of(k: int) -> str:
    """The colour of what has a number."""
    return PALETTE[k % len(PALETTE)]


def text_width(text: str, size: float = SIZE) -> float:
    """About how wide [px] a printable text is; rather too wide than too narrow.

    >>> text_width("WWW") > text_width("nnn") > text_width("iii")
    True
    """
    other = text.translate(WIDTHS)
    special = sum(WIDTHS_OF[kind] for kind in text if kind in WIDTHS_OF)
    return size * (special + 0.58 * columns(other))


def fitted(text: object, width: float, size: float = SIZE) -> str:
    """As much of a text as fits into a width [px]; "" if that is next to nothing."""
    most = int(width / (0.38 * size))
    told = printable(text, most) if most >= 3 else ""
    if text_width(told, size) <= width:
        return told
    told, fits = "", 2
    while most - fits > 1:
        middle = (fits + most) // 2
        tried = printable(text, middle)
        if text_width(tried, size) <= width:
            told, fits = tried, middle
        else:
            most = middle
    return told


class Svg:
    """A drawing that grows.

    Parameters
    ----------
    width, height : float
        In px.

    Examples
    --------
    >>> svg = Svg(100, 20)
    >>> svg.text(0, 10, "a<b")
    >>> "a&lt;b" in str(svg)
    True
    """

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self._parts: list[str] = []

    def rect(
        self, x: float, y: float, width: float, height: float, fill: str = "none",
        *, stroke: str = "", opacity: float = 1.0, radius: float = 0.0,
        title: str = "", dashed: bool = False,
    ) -> None:  # fmt: skip
        """A rectangle."""
        told = f'fill="{fill}"'
        if opacity < 1:
            told += f' fill-opacity="{opacity:g}"'
        if stroke:
            told += f' stroke="{stroke}"'
        if dashed:
            told += ' stroke-dasharray="3 2"'
        if radius:
            told += f' rx="{radius:g}"'
        place = f'x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}"'
        self._add("rect", f"{place} {told}", title)

    def circle(
        self, x: float, y: float, radius: float, fill: str, title: str = "",
        stroke: str = "",
    ) -> None:  # fmt: skip
        """A dot."""
        ring = f' stroke="{stroke}" stroke-width="1.5"' if stroke else ""
        told = f'cx="{_n(x)}" cy="{_n(y)}" r="{_n(radius)}" fill="{fill}"{ring}'
        self._add("circle", told, title)

    def path(
        self, d: str | Sequence[str], stroke: str = INK, width: float = 1.0,
        opacity: float = 1.0, fill: str = "none", dashed: bool = False,
    ) -> None:  # fmt: skip
        """A line, or many as one."""
        told = d if isinstance(d, str) else "".join(d)
        if not told:
            return
        dash = ' stroke-dasharray="4 3"' if dashed else ""
        self._add(
            "path",
            f'd="{told}" fill="{fill}" stroke="{stroke}" stroke-width="{width:g}" '
            f'opacity="{opacity:g}"{dash}',
        )

    def text(
        self, x: float, y: float, text: object, *, anchor: str = "start",
        fill: str = INK, size: float = SIZE, bold: bool = False,
    ) -> None:  # fmt: skip
        """A text whose base line is at y."""
        told = f'x="{_n(x)}" y="{_n(y)}" fill="{fill}"'
        if anchor != "start":
            told += f' text-anchor="{anchor}"'
        if size != SIZE:
            told += f' font-size="{size:g}"'
        if bold:
            told += ' font-weight="600"'
        self._parts.append(f"<text {told}>{_escaped(text)}</text>")

    def legend(
        self, x: float, y: float, entries: Sequence[tuple[str, str]], width: float
    ) -> float:
        """Colours with what they mean, in lines; returns the y below them."""
        at = x
        for colour, what in entries:
            what = printable(what, 30)
            wide = 26 + text_width(what)
            if at + wide > x + width and at > x:
                at, y = x, y + 16
            self.rect(at, y + 2, 10, 10, colour, radius=2)
            self.text(at + 14, y + 11, what)
            at += wide
        return y + 18 if entries else y

    def __str__(self) -> str:
        size = f'width="{_n(self.width)}" height="{_n(self.height)}"'
        box = f'viewBox="0 0 {_n(self.width)} {_n(self.height)}"'
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} {box} '
            f'font-family="{FONT}" font-size="{SIZE}">\n'
            + "\n".join(self._parts)
            + "\n</svg>\n"
        )

    def _add(self, tag: str, told: str, title: str = "") -> None:
        inner = f"<title>{_escaped(title, 300)}</title>" if title else ""
        end = f">{inner}</{tag}>" if inner else "/>"
        self._parts.append(f"<{tag} {told}{end}")


def move(x: float, y: float) -> str:
    """Go to a point, in a path."""
    return f"M{_n(x)} {_n(y)}"


def line(x: float, y: float) -> str:
    """Draw to a point, in a path."""
    return f"L{_n(x)} {_n(y)}"


def curve(x1: float, y1: float, x2: float, y2: float, bow: float = 0.0) -> str:
    """From one point to another, level at both ends; bent by `bow` on the way."""
    bend = (x2 - x1) * 0.45
    return (
        f"M{_n(x1)} {_n(y1)}C{_n(x1 + bend)} {_n(y1 + bow)} "
        f"{_n(x2 - bend)} {_n(y2 + bow)} {_n(x2)} {_n(y2)}"
    )


def ticks(most: float, wanted: int = 6) -> list[float]:
    """Round numbers from 0 to at most a number, about so many.

    >>> ticks(7.3), ticks(0)
    ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], [0.0])
    """
    if not most > 0:
        return [0.0]
    step = 10.0 ** _floor_log10(most / wanted)
    for factor in (1, 2, 5, 10):
        if most / (step * factor) <= wanted * 1.25:
            step *= factor
            break
    return [round(k * step, 12) for k in range(int(most / step + 1e-9) + 1)]


def seconds(value: float) -> str:
    """A time for people.

    >>> seconds(0), seconds(0.01234), seconds(75.4), seconds(7322)
    ('0 s', '12.3 ms', '75.4 s', '2.03 h')
    """
    if value != value or abs(value) == float("inf"):
        return "?"
    if abs(value) >= 7200:
        return f"{value / 3600:.3g} h"
    if abs(value) >= 300:
        return f"{value / 60:.3g} min"
    if value and abs(value) < 0.1:
        return f"{value * 1000:.3g} ms"
    return f"{value:.3g} s"


def _floor_log10(value: float) -> int:
    return int(f"{value:e}".rpartition("e")[2])


def _n(value: Any) -> str:
    text = f"{float(value):.1f}"
    return text.removesuffix(".0")


def _escaped(text: object, most: int = 120) -> str:
    return html.escape(printable(text, most))

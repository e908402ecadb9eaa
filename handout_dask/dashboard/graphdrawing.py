"""Draw a graph as Svg: from left to right, each function right of what it reads."""

from __future__ import annotations

import numpy as np

from handout_dask.dashboard.shape import Shape
from handout_dask.dashboard.svg import (
    FAINT,
    INK,
    Svg,
    curve,
    fitted,
    line,
    move,
    text_width,
)
from handout_dask.printable import printable

CRITICAL = "#c0399f"
WIDTH, HEIGHT = 900.0, 460.0  # px that dots fill at most
BOXES, WIDEST, TALLEST = 60, 1200.0, 900.0  # up to which vertices are boxes [., px, px]
LABEL, ROW, BOX, GAP = 150.0, 38.0, 24.0, 44.0  # px of boxes
EDGE = 6.0  # px around all
FOGGY = 0.1  # part of the edges that may pass over boxes
REACH = np.array([-0.3, 0.0, 0.3])  # columns to the sides of a box that it takes up
BOWS = (0.0, 0.7, -0.7, 1.4, -1.4, 2.1, -2.1)  # rows by which a long edge is bent


def draw_graph(shape: Shape) -> Svg:
    """The graph: boxes that bear names, or where those find no room, dots."""
    if not len(shape.labels):
        svg = Svg(220, 30)
        svg.text(EDGE, 19, "no functions")
        return svg
    drawn = _boxes(shape) if len(shape.labels) <= BOXES else None
    return drawn or _dots(shape)


# ------------------------------------------------------------------------ boxes
def _boxes(shape: Shape) -> Svg | None:
    """None if they would take too much room."""
    texts = [_called(shape, v) for v in range(len(shape.labels))]
    layer = shape.x.astype(int)
    wide = np.full(layer.max() + 1, 30.0)
    for v, text in enumerate(texts):
        wide[layer[v]] = max(wide[layer[v]], min(text_width(text) + 16, LABEL))
    left = EDGE + np.concatenate(([0.0], np.cumsum(wide + GAP)))[:-1]
    width = float(left[-1] + wide[-1] + EDGE)
    bows, crossing = _bows(shape)
    if crossing > FOGGY * len(bows):
        return None
    bent = shape.y[shape.source] + 0.75 * bows  # as far as curves reach
    row = shape.y - min(shape.y.min(), bent.min(initial=0.0))
    bent = row[shape.source] + 0.75 * bows
    height = float(max(row.max(), bent.max(initial=0.0)) + 1) * ROW
    if width > WIDEST or height > TALLEST:
        return None
    legend = _legend(shape)
    svg = Svg(max(width, 300.0), height)
    middle = EDGE + row * ROW + BOX / 2
    plain: list[str] = []
    bold: list[str] = []
    edges = zip(
        shape.source.tolist(), shape.target.tolist(), bows.tolist(), strict=True
    )
    for u, v, bow in edges:
        begin = left[layer[u]] + wide[layer[u]]
        told = curve(begin, middle[u], left[layer[v]] - 1, middle[v], bow * ROW)
        (bold if shape.critical[u] and shape.critical[v] else plain).append(told)
    svg.path(plain, FAINT, 1.2, 0.8)
    svg.path(bold, CRITICAL, 1.8)
    for v, text in enumerate(texts):
        x, y, w = left[layer[v]], middle[v] - BOX / 2, wide[layer[v]]
        _fill(svg, shape, v, x, y, w)
        ring = CRITICAL if shape.critical[v] else ""
        svg.rect(x, y, w, BOX, stroke=ring or INK, radius=4, title=_title(shape, v))
        told = fitted(text, w - 8)
        svg.text(x + w / 2, y + 15.5, told, anchor="middle")
    svg.height = svg.legend(EDGE, height + EDGE, legend, svg.width - 2 * EDGE)
    return svg


def _fill(svg: Svg, shape: Shape, v: int, x: float, y: float, w: float) -> None:
    """What its functions are, as a pale ground and a bar below."""
    done = 0.0
    for k, (colour, _) in enumerate(shape.legend):
        part = float(shape.shares[v, k]) * w
        if part > 0:
            svg.rect(x + done, y, part, BOX, colour, opacity=0.22)
            svg.rect(x + done, y + BOX - 4, part, 4, colour)
            done += part


def _bows(shape: Shape) -> tuple[np.ndarray, int]:
    """(e,) rows by which each edge is bent so that it passes no vertex between.

    And how many pass one all the same.
    """
    bows, crossing = np.zeros(len(shape.source)), 0
    for e, (u, v) in enumerate(zip(shape.source, shape.target, strict=True)):
        a, b = shape.x[u], shape.x[v]
        between = (shape.x > min(a, b)) & (shape.x < max(a, b))
        if not between.any():
            continue
        # Along the whole width of the boxes between.
        part = (shape.x[between][:, None] + REACH - a) / (b - a)
        straight = shape.y[u] + part * part * (3 - 2 * part) * (shape.y[v] - shape.y[u])
        bulge, row = 3 * part * (1 - part), shape.y[between][:, None]
        off = [np.abs(row - straight - bulge * bow).min() for bow in BOWS]
        clear = [k for k, distance in enumerate(off) if distance > 0.4]
        bows[e] = BOWS[clear[0] if clear else int(np.argmax(off))]
        crossing += not clear
    return bows, crossing


# ------------------------------------------------------------------------- dots
def _dots(shape: Shape) -> Svg:
    across, down = np.ptp(shape.x) + 1, np.ptp(shape.y) + 1
    dx = min(WIDTH / across, 60.0)
    dy = min(HEIGHT / down, 22.0)
    radius = max(min(5.0, 0.36 * min(dx, dy) + 0.4), 0.7)
    sizes = np.full(len(shape.labels), radius)
    if shape.is_folded:
        sizes = radius * np.maximum(np.sqrt(shape.count / shape.count.max()), 0.4)
    legend = _legend(shape)
    width, height = max(dx * across + 2 * EDGE, 420.0), dy * down + 2 * EDGE
    svg = Svg(width, height)
    x = EDGE + dx * (shape.x - shape.x.min() + 0.5)
    y = EDGE + dy * (shape.y - shape.y.min() + 0.5)
    plain: list[str] = []
    bold: list[str] = []
    for u, v in zip(shape.source.tolist(), shape.target.tolist(), strict=True):
        told = move(x[u], y[u]) + line(x[v], y[v])
        if x[v] < x[u]:  # of a ring of groups: beside the edge that goes forth
            told = curve(x[u], y[u], x[v], y[v], 1.4 * dy)
        (bold if shape.critical[u] and shape.critical[v] else plain).append(told)
    many = len(plain) > 400
    svg.path(plain, FAINT, 0.6 if many else 0.8, 0.35 if many else 0.6)
    svg.path(bold, CRITICAL, 1.6)
    for v in range(len(shape.labels)):
        k = int(shape.shares[v].argmax())
        ring = CRITICAL if shape.critical[v] and radius > 2 else ""
        colour = shape.legend[k][0]
        svg.circle(x[v], y[v], sizes[v], colour, _title(shape, v), ring)
    svg.height = svg.legend(EDGE, height, legend, svg.width - 2 * EDGE)
    return svg


# ------------------------------------------------------------------------- words
def _called(shape: Shape, v: int) -> str:
    count = int(shape.count[v])
    many = f" \u00d7{count:,}" if shape.is_folded else ""
    return printable(shape.labels[v], 24 - len(many)) + many


def _title(shape: Shape, v: int) -> str:
    count = int(shape.count[v])
    name = printable(shape.labels[v], 80)
    return f"{count:,} functions {name}" if shape.is_folded else name


def _legend(shape: Shape) -> list[tuple[str, str]]:
    entries = [*shape.legend]
    if shape.critical.any():
        entries.append((CRITICAL, "critical path"))
    return entries

"""Draw what each node does over time as Svg: as planned pale, what happened solid.

Up to a number of functions each is a bar; of more there is how many run at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from handout_dask.dashboard.graphdrawing import CRITICAL
from handout_dask.dashboard.lanes import lanes, level
from handout_dask.dashboard.shape import kinds
from handout_dask.dashboard.svg import (
    FAINT,
    INK,
    STATE_COLOURS,
    Svg,
    fitted,
    line,
    move,
    seconds,
    text_width,
    ticks,
)
from handout_dask.events import OUTCOMES
from handout_dask.picture import Picture
from handout_dask.printable import printable

WIDTH = 900.0
BARS = 1000  # functions up to which each is a bar
NODES = 16  # that are shown
TALLEST = 560.0  # px, of all lanes of bars
LANE, THIN, LEAST = 17.0, 7.0, 4.0  # px of lanes: as they are, planned ones, at least
STRIP = 30.0  # px of a node of which levels are shown
PAD, GAP, TOP, EDGE = 4.0, 8.0, 8.0, 8.0
PALE = 0.32
BESIDE = 0.005  # s by which what ran one after another may seem to overlap
COLUMNS = 240  # in which levels are counted


@dataclass(frozen=True, eq=False)
class _Frame:
    """Where things are: nodes below each other, time to the right."""

    svg: Svg
    left: float
    right: float
    until: float

    def x(self, time: np.ndarray) -> np.ndarray:
        return self.left + (self.right - self.left) * time / self.until


@dataclass(frozen=True, eq=False)
class _Band:
    """Lanes of one node."""

    who: np.ndarray  # (k,) functions
    start: np.ndarray
    end: np.ndarray
    lane: np.ndarray
    outcome: np.ndarray | None  # None: as planned

    @property
    def lanes(self) -> int:
        return int(self.lane.max(initial=-1)) + 1


def draw_gantt(picture: Picture) -> Svg:
    """Plan and, if anything happened, what did; a row for each node."""
    shown = _shown(picture)
    n = max(len(picture), len(picture.spans))
    if n <= BARS:
        bands = [_bands(picture, j) for j in shown]
        scale = _scale(bands, picture.status == "planned")
        if scale:
            return _bars(picture, shown, bands, scale)
    return _strips(picture, shown)


def _shown(picture: Picture) -> list[int]:
    """The nodes that are shown: those that do most, in their order."""
    m = len(picture.nodes)
    busy = np.bincount(picture.node, picture.end - picture.start, minlength=m)
    spans = picture.spans
    busy = busy + np.bincount(spans.node, spans.end - spans.start, minlength=m)
    return sorted(np.argsort(-busy, kind="stable")[:NODES].tolist())


def _until(picture: Picture) -> float:
    ends = (picture.makespan, picture.now, picture.spans.end.max(initial=0.0))
    return float(max(*ends, 1e-9)) * 1.01


# ------------------------------------------------------------------------- bars
def _bands(picture: Picture, j: int) -> list[_Band]:
    """As planned; then what happened, if anything did anywhere."""
    who = np.flatnonzero(picture.node == j)
    start, end = picture.start[who], picture.end[who]
    out = [_Band(who, start, end, lanes(start, end), None)]
    if picture.status == "planned":
        return out
    spans = picture.spans
    mine = np.flatnonzero(spans.node == j)
    who = spans.function[mine].astype(np.int64)
    start, end, outcome = spans.start[mine], spans.end[mine], spans.outcome[mine]
    runs = [i for i in picture.begun if picture.where[i] == j]
    if runs:  # up to now
        who = np.concatenate([who, runs])
        start = np.concatenate([start, [picture.begun[i] for i in runs]])
        end = np.concatenate([end, np.full(len(runs), picture.now)])
        outcome = np.concatenate([outcome, np.full(len(runs), -1)])
    return [*out, _Band(who, start, end, lanes(start, end, BESIDE), outcome)]


def _heights(bands: list[_Band], planned: bool, scale: float) -> list[float]:
    tall = [LANE if planned or band.outcome is not None else THIN for band in bands]
    return [max(height * scale, LEAST) for height in tall]


def _scale(bands: list[list[_Band]], planned: bool) -> float:
    """How much lanes shrink to find room; 0 if they find none."""
    for scale in (1.0, 0.75, 0.5, 0.35, 0.25):
        need = sum(
            band.lanes * height
            for some in bands
            for band, height in zip(some, _heights(some, planned, scale), strict=True)
        )
        if need <= TALLEST:
            return scale
    return 0.0


def _bars(
    picture: Picture, shown: list[int], bands: list[list[_Band]], scale: float
) -> Svg:
    planned = picture.status == "planned"
    kind, legend = kinds(picture.groups, picture.group)
    colour = np.array([told for told, _ in legend])[kind] if len(kind) else kind
    tops, y = [], TOP
    for some in bands:
        tops.append(y)
        heights = _heights(some, planned, scale)
        y += sum(b.lanes * h for b, h in zip(some, heights, strict=True))
        y = max(y, tops[-1] + 14) + GAP + PAD
    frame = _frame(picture, shown, y)
    for j, top, some in zip(shown, tops, bands, strict=True):
        at = top
        for band, height in zip(some, _heights(some, planned, scale), strict=True):
            _draw_band(frame, picture, band, at, height, colour)
            at += band.lanes * height
        _node_label(frame, picture, j, top, max(at, top + 14))
    more: list[tuple[str, str]] = [*legend]
    spans = picture.spans
    if not planned and (spans.outcome != 0).any():
        found = np.unique(spans.outcome[spans.outcome != 0]).tolist()
        more += [(STATE_COLOURS[OUTCOMES[k]], f"attempt {OUTCOMES[k]}") for k in found]
    if picture.critical.any():
        more.append((CRITICAL, "frame: critical path"))
    return _finish(frame, picture, shown, y, more)


def _draw_band(
    frame: _Frame, picture: Picture, band: _Band, top: float, height: float,
    colour: np.ndarray,
) -> None:  # fmt: skip
    left, right = frame.x(band.start), frame.x(band.end)
    solid = band.outcome is not None or picture.status == "planned"
    for k, i in enumerate(band.who.tolist()):
        y = top + band.lane[k] * height
        width = max(right[k] - left[k] - 0.6, 0.6)
        fill, outcome = str(colour[i]), ""
        if band.outcome is not None:
            outcome = "runs" if band.outcome[k] < 0 else OUTCOMES[int(band.outcome[k])]
            fill = STATE_COLOURS[outcome] if outcome in ("failed", "lost") else fill
        title = (
            f"{printable(picture.labels[i], 60)}: {seconds(float(band.start[k]))} to "
        )
        title += f"{seconds(float(band.end[k]))}, {outcome or 'as planned'}"
        is_critical = picture.critical[i] and band.outcome is None and height >= 6
        frame.svg.rect(
            left[k], y + 0.5, width, height - 1, fill,
            opacity=0.75 if outcome == "runs" else 1.0 if solid else PALE,
            stroke=CRITICAL if is_critical else "", title=title,
        )  # fmt: skip
        told = fitted(picture.labels[i], width - 6, 10) if solid and height > 12 else ""
        if told:
            frame.svg.text(
                left[k] + 3, y + height / 2 + 3.5, told, fill="#fff", size=10
            )


# ------------------------------------------------------------------------ strips
def _strips(picture: Picture, shown: list[int]) -> Svg:
    """How many functions run at once on each node, as planned and as it was."""
    y = TOP + len(shown) * (STRIP + GAP)
    frame = _frame(picture, shown, y)
    edges = np.linspace(0.0, frame.until, COLUMNS + 1)
    spans = picture.spans
    for place, j in enumerate(shown):
        top = TOP + place * (STRIP + GAP)
        mine, ran = picture.node == j, spans.node == j
        levels = [
            level(picture.start[mine], picture.end[mine], np.ones(mine.sum()), edges),
            level(spans.start[ran], spans.end[ran], np.ones(ran.sum()), edges),
        ]
        most = max(levels[0].max(), levels[1].max(), 1e-9)
        if np.isfinite(picture.slots[j]):
            most = max(most, float(picture.slots[j]))
        planned = picture.status == "planned"
        _area(frame, levels[0], most, top, 0.8 if planned else PALE, not planned)
        if not planned:
            _area(frame, levels[1], most, top, 0.9, False)
        frame.svg.text(frame.right + 4, top + 9, f"{most:.4g}", fill=FAINT, size=9)
        frame.svg.text(frame.right + 4, top + STRIP, "0", fill=FAINT, size=9)
        _node_label(frame, picture, j, top, top + STRIP)
    entries = [(STATE_COLOURS["done"], "functions at once")]
    if picture.status != "planned":
        entries = [
            (STATE_COLOURS["ready"], "functions at once, as planned"),
            (STATE_COLOURS["done"], "as it was"),
        ]
    return _finish(frame, picture, shown, y, entries)


def _area(
    frame: _Frame, values: np.ndarray, most: float, top: float, opacity: float,
    pale: bool,
) -> None:  # fmt: skip
    x = frame.x(np.linspace(0.0, frame.until, len(values) + 1))
    y = top + STRIP * (1 - values / most)
    told = [move(x[0], top + STRIP)]
    for k in np.flatnonzero(np.diff(y, prepend=np.nan) != 0).tolist():
        told.append(line(x[k], y[k - 1] if k else top + STRIP) + line(x[k], y[k]))
    told.append(line(x[-1], y[-1]) + line(x[-1], top + STRIP) + "Z")
    colour = STATE_COLOURS["ready" if pale else "done"]
    frame.svg.path(told, "none", fill=colour, opacity=0.6 if pale else opacity)


# ------------------------------------------------------------------------- frame
def _frame(picture: Picture, shown: list[int], bottom: float) -> _Frame:
    widest = max((text_width(_name(picture, j)) for j in shown), default=0.0)
    left = EDGE + widest + 8
    svg = Svg(WIDTH, bottom + 22)
    frame = _Frame(svg, left, WIDTH - 26, _until(picture))
    unit, factor = _unit(frame.until)
    for mark in ticks(frame.until / factor):
        x = float(frame.x(np.array(mark * factor)))
        svg.path(move(x, TOP - 4) + line(x, bottom - 2), FAINT, 0.6, 0.45)
        svg.text(x, bottom + 10, f"{mark:g}", anchor="middle", fill=FAINT, size=10)
    svg.text(WIDTH - 4, bottom + 10, unit, anchor="end", fill=FAINT, size=10)
    return frame


def _unit(until: float) -> tuple[str, float]:
    if until >= 7200:
        return "h", 3600.0
    if until >= 300:
        return "min", 60.0
    return ("s", 1.0) if until >= 0.5 else ("ms", 0.001)


def _finish(
    frame: _Frame, picture: Picture, shown: list[int], bottom: float,
    entries: list[tuple[str, str]],
) -> Svg:  # fmt: skip
    svg = frame.svg
    if picture.status != "planned" and picture.makespan > 0:
        x = float(frame.x(np.array(picture.makespan)))
        svg.path(move(x, TOP - 6) + line(x, bottom), INK, 1.4, dashed=True)
    if picture.status == "running":
        x = float(frame.x(np.array(picture.now)))
        svg.path(move(x, TOP - 6) + line(x, bottom), STATE_COLOURS["running"], 1.6)
    y = bottom + 18
    hidden = len(picture.nodes) - len(shown)
    if hidden:
        svg.text(EDGE, y + 10, f"… and {hidden:,} more nodes that do less", fill=FAINT)
        y += 16
    if picture.status != "planned":
        note = "dashed: the planned end"
        note = f"pale: as planned; solid: as it was; {note}"
        svg.text(EDGE, y + 10, note, fill=FAINT)
        y += 16
    svg.height = svg.legend(EDGE, y, entries, WIDTH - 2 * EDGE) + 4
    return svg


def _name(picture: Picture, j: int) -> str:
    return printable(picture.nodes[j], 18)


def _node_label(
    frame: _Frame, picture: Picture, j: int, top: float, bottom: float
) -> None:
    middle = (top + bottom) / 2 + 4
    frame.svg.text(frame.left - 8, middle, _name(picture, j), anchor="end")
    y = bottom + GAP / 2
    frame.svg.path(move(EDGE, y) + line(frame.right, y), FAINT, 0.6, 0.3)

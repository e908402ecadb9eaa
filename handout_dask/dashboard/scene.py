"""Scene: of one run what all its pages draw alike: lanes, bars and places of functions.

Kept beside the run, not with each open page. Its making takes long where there are many
functions, and is done beside the event loop. Pure numpy; no Bokeh.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from handout_dask.dashboard.columns import (
    Slots,
    blocks,
    busy,
    by_vertex,
    lanes_of,
)
from handout_dask.dashboard.layout import grouped, layered, placed
from handout_dask.picture import STATES, Picture

MOST_BARS = 5000  # functions; of more it is shown how busy nodes are, not each one
MOST_VERTICES = 2000  # functions; of more groups are shown
GROUPS = 300  # of those at most
FEW, PIECES = 4, 8  # groups; fewer are cut into pieces by how deep functions are
MOST_EDGES = 6000  # that are drawn
JOINED = 2  # lanes of a node that has joined
BINS, LEAST_BINS = 12_000, 40  # pieces of time: of all nodes at most, of one at least


class Scene:
    """One run as it is drawn.

    Parameters
    ----------
    base : Picture
        The run, whenever.

    Attributes
    ----------
    is_profile : bool
        Whether there are too many functions to draw a bar for each.
    begin : (m + 1,) int
        Where the lanes of each node begin.
    lane : (n,) int
        In which lane of its node each function is planned.
    y : list of float
        Of each attempt that was taken in: the number of its lane.
    """

    def __init__(self, base: Picture) -> None:
        self.name = base.name
        n, m = len(base), len(base.nodes)
        self.is_profile = n > MOST_BARS
        if self.is_profile:
            self.lane = np.zeros(n, dtype=np.int64)
            count = np.bincount(base.node, minlength=m).clip(0, 1)
        else:
            self.lane, count = lanes_of(base.node, base.start, base.end, m)
        self.begin = blocks(count, base.slots)
        self.y: list[float] = []
        self.vertices = Vertices(base)
        self._slots: dict[int, Slots] = {}  # by node
        self._base = base
        self.set_edges(max(base.makespan, base.now) * 1.1 or 1.0)

    # -------------------------------------------------------------------- lanes
    def advance(self, picture: Picture) -> None:
        """Take in what has ended since the last look."""
        if len(picture.nodes) >= len(self.begin):  # some have joined
            more = len(picture.nodes) + 1 - len(self.begin)
            lanes = self.begin[-1] + JOINED * np.arange(1, more + 1)
            self.begin = np.concatenate([self.begin, lanes])
        spans, since = picture.spans, len(self.y)
        if self.is_profile:
            self._fill(picture)
            return
        rows = zip(
            spans.function[since:].tolist(), spans.node[since:].tolist(),
            spans.start[since:].tolist(), spans.end[since:].tolist(), strict=True,
        )  # fmt: skip
        for i, j, start, end in rows:
            lane = self._slots_of(j).end(i, start, end)
            self.y.append(float(self.begin[j] + lane))

    def lines_of(self, picture: Picture) -> list[float]:
        """The numbers of the lanes of all that runs, in the order of `begun`."""
        here: dict[int, list[tuple[int, float]]] = {}
        for i, start in picture.begun.items():
            here.setdefault(int(picture.where[i]), []).append((i, start))
        line: dict[int, float] = {}
        for j, functions in here.items():
            lanes = self._slots_of(j).run(functions)
            for (i, _), lane in zip(functions, lanes, strict=True):
                line[i] = float(self.begin[j] + lane)
        return [line[i] for i in picture.begun]

    def _slots_of(self, j: int) -> Slots:
        if j not in self._slots:
            self._slots[j] = Slots(int(self.begin[j + 1] - self.begin[j]))
        return self._slots[j]

    # ------------------------------------------------------------------ profiles
    def set_edges(self, end: float) -> None:
        """Cut the time until then into equal pieces, and count anew."""
        m = max(len(self.begin) - 1, 1)
        bins = int(np.clip(BINS // m, LEAST_BINS, 240))
        self.edges = np.linspace(0.0, end, bins + 1)
        self._ended = np.zeros((m, bins))
        self._counted = 0
        vars(self).pop("planned", None)

    @cached_property
    def planned(self) -> np.ndarray:
        """(m, b): the share of its lanes that each node is to have busy."""
        base, m = self._base, len(self.begin) - 1
        return self._share(busy(base.node, base.start, base.end, self.edges, m))

    def _share(self, spent: np.ndarray) -> np.ndarray:
        wide = np.diff(self.begin)[: len(spent)]
        return np.clip(spent / np.diff(self.edges) / wide[:, None], 0.0, 1.0)

    def _fill(self, picture: Picture) -> None:
        """Count what has ended since the last look."""
        if picture.now > self.edges[-1]:
            self.set_edges(1.5 * picture.now)
        spans, k = picture.spans, self._counted
        m = len(self.begin) - 1
        if m > len(self._ended):
            more = np.zeros((m - len(self._ended), self._ended.shape[1]))
            self._ended = np.concatenate([self._ended, more])
        if len(spans) > k:
            self._ended += busy(
                spans.node[k:], spans.start[k:], spans.end[k:], self.edges, m
            )
            self._counted = len(spans)

    def actual(self, picture: Picture) -> np.ndarray:
        """(m, b): the share of its lanes that each node had busy."""
        run = np.array([*picture.begun], dtype=np.int64)
        since = np.array([*picture.begun.values()], dtype=float)
        now = np.maximum(picture.now, since)
        m = len(self._ended)
        running = busy(picture.where[run], since, now, self.edges, m)
        return self._share(self._ended + running)


class Vertices:
    """The places of functions, or of groups of them.

    Attributes
    ----------
    is_folded : bool
        Whether they are groups.
    vertex : (n,) int
        Of each function.
    labels : list of k str
    x, y : (k,) float
    count : (k,) int
        Functions of each.
    source, target : (e,) int
        Edges between them that are drawn; `edges` is how many there are.
    critical : (k,) bool
        Whether any of it is on the critical path.
    """

    def __init__(self, base: Picture) -> None:
        n = len(base)
        self.is_folded = n > MOST_VERTICES
        if not self.is_folded:
            self.vertex, self.count = np.arange(n), np.ones(n, dtype=np.int64)
            self.labels = list(base.labels)
            source, target = base.source, base.target
            self.critical = base.critical
        else:
            source, target = self._fold(base)
        self.x, self.y = placed(len(self.count), source, target)
        self.edges = len(source)
        drawn = slice(None, None, -(-len(source) // MOST_EDGES) or 1)
        self.source, self.target = source[drawn], target[drawn]

    def _fold(self, base: Picture) -> tuple[np.ndarray, np.ndarray]:
        piece = np.zeros(len(base), dtype=np.int64)
        if len(base.groups) < FEW:
            depth, _ = layered(len(base), base.source, base.target)
            cuts = np.quantile(depth, np.arange(1, PIECES) / PIECES)
            piece = np.searchsorted(np.unique(cuts), depth, side="right")
        fold = grouped(base.group, piece, base.source, base.target, GROUPS)
        self.vertex, self.count = fold.vertex, fold.count
        names = ["others" if g < 0 else base.groups[g] for g in fold.group.tolist()]
        self.labels = names
        self.critical = np.zeros(len(fold.count), dtype=bool)
        self.critical[fold.vertex[base.critical]] = True
        return fold.source, fold.target

    def states(self, picture: Picture) -> np.ndarray:
        """(k, states) int: how many functions of each are in which state."""
        return by_vertex(self.vertex, picture.state, len(self.count))

    def about(self, counts: np.ndarray) -> list[str]:
        """What there is to say of some, by the states of their functions."""
        return [
            ", ".join(
                f"{count:,} {name}" if self.is_folded else name
                for name, count in zip(STATES, row, strict=True)
                if count
            )
            for row in counts.tolist()
        ]

"""Shape: a graph as it is drawn: vertices with places, sizes, colours and edges.

Of few functions each is a vertex; many are folded into their groups. Pure: knows no
way of drawing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from handout_dask.dashboard.layout import Grouped, grouped, layered, placed
from handout_dask.dashboard.svg import FAINT, STATE_COLOURS, colour_of
from handout_dask.graph import Graph
from handout_dask.outline import Outline
from handout_dask.picture import STATES, Picture

EACH, EDGES = 1000, 4000  # functions and edges up to which each function is drawn
SINGLE = 4  # groups; fewer of a graph that is folded are cut up by layer
BINS = 8  # pieces that they are cut into
KINDS = 9  # colours of groups or nodes, before the others share one
COLOURS = ("group", "node", "state")


@dataclass(frozen=True, eq=False)
class Shape:
    """k vertices.

    Attributes
    ----------
    labels : tuple of k str
        What each is called; users' own text.
    count : (k,) int
        How many functions it stands for.
    x, y : (k,) float
        Columns and rows, from 0 on.
    colour : (k,) int
        Index into `legend`; -1 is several.
    legend : tuple of (str, str)
        Colours with what they mean.
    shares : (k, legend) float
        The parts of its functions that have each colour.
    critical : (k,) bool
        Who is on the critical path.
    source, target : (e,) int
        Edges.
    functions : int
        How many functions there are in all.
    """

    labels: tuple[str, ...]
    count: np.ndarray
    x: np.ndarray
    y: np.ndarray
    colour: np.ndarray
    legend: tuple[tuple[str, str], ...]
    shares: np.ndarray
    critical: np.ndarray
    source: np.ndarray
    target: np.ndarray
    functions: int

    @property
    def is_folded(self) -> bool:
        """Whether vertices stand for groups of functions."""
        return len(self.labels) < self.functions

    @staticmethod
    def of_graph(graph: Graph) -> Shape:
        """A graph, in colours of its groups."""
        outline = Outline.of(graph)
        n = outline.n
        target = np.repeat(np.arange(n), np.diff(outline.pred_ptr))
        kind, legend = kinds(outline.names, outline.name)
        return _shape(
            outline.labels, outline.names, outline.name, outline.pred_of, target,
            kind, legend, np.zeros(n, dtype=bool),
        )  # fmt: skip

    @staticmethod
    def of_picture(picture: Picture, colour: str = "") -> Shape:
        """The graph of a run or plan.

        Parameters
        ----------
        picture : Picture
            What there is to see.
        colour : {"group", "node", "state"}, optional
            What colours tell; default: states of what runs or ran, else nodes.
        """
        colour = colour or ("node" if picture.status == "planned" else "state")
        if colour == "state":
            kind, legend = _states(picture.state)
        elif colour == "node":
            kind, legend = kinds(picture.nodes, picture.where)
        else:
            kind, legend = kinds(picture.groups, picture.group)
        return _shape(
            picture.labels, picture.groups, picture.group, picture.source,
            picture.target, kind, legend, picture.critical,
        )  # fmt: skip


def _shape(
    labels: Sequence[str], names: Sequence[str], group: np.ndarray, source: np.ndarray,
    target: np.ndarray, kind: np.ndarray, legend: tuple[tuple[str, str], ...],
    critical: np.ndarray,
) -> Shape:  # fmt: skip
    n = len(labels)
    if n <= EACH and len(source) <= EDGES:
        x, y = placed(n, source, target)
        shares = np.zeros((n, len(legend)))
        shares[np.arange(n), kind] = 1.0
        count = np.ones(n, dtype=np.int64)
        return Shape(
            tuple(labels),
            count,
            x,
            y,
            kind,
            legend,
            shares,
            critical,
            source,
            target,
            n,
        )
    fold, texts = _fold(n, names, group, source, target)
    k = len(fold.count)
    shares = np.zeros((k, len(legend)))
    np.add.at(shares, (fold.vertex, kind), 1.0)
    shares /= fold.count[:, None]
    one = shares.argmax(axis=1)
    colour = np.where(shares.max(axis=1) == 1.0, one, -1)
    on_path = np.zeros(k, dtype=bool)
    on_path[fold.vertex[critical]] = True
    x, y = placed(k, fold.source, fold.target)
    return Shape(
        texts, fold.count, x, y, colour, legend, shares, on_path, fold.source,
        fold.target, n,
    )  # fmt: skip


def _fold(
    n: int, names: Sequence[str], group: np.ndarray, source: np.ndarray,
    target: np.ndarray,
) -> tuple[Grouped, tuple[str, ...]]:  # fmt: skip
    """By group; graphs of next to no groups also by how deep functions are."""
    piece = np.zeros(n, dtype=np.int64)
    if len(np.unique(group)) < SINGLE:
        depth, _ = layered(n, source, target)
        cuts = np.quantile(depth, np.arange(1, BINS) / BINS)
        piece = np.searchsorted(np.unique(cuts), depth, side="right")
    fold = grouped(group, piece, source, target, most=EACH)
    called = ["other functions" if g < 0 else names[g] for g in fold.group.tolist()]
    return fold, tuple(called)


def kinds(
    names: Sequence[str], index: np.ndarray
) -> tuple[np.ndarray, tuple[tuple[str, str], ...]]:
    """Colours of what has a name: the most frequent their own, the others one."""
    count = np.bincount(index, minlength=len(names))
    by_count = np.argsort(-count, kind="stable")
    by_count = by_count[count[by_count] > 0]
    most = KINDS if len(by_count) > KINDS + 1 else len(by_count)
    kind = np.full(len(names), most)
    kept = np.sort(by_count[:most])
    kind[kept] = np.arange(len(kept))
    legend = [(colour_of(k), names[j]) for k, j in enumerate(kept.tolist())]
    if len(by_count) > most:
        legend.append((FAINT, f"{len(by_count) - most} others"))
    return kind[index], tuple(legend)


def _states(state: np.ndarray) -> tuple[np.ndarray, tuple[tuple[str, str], ...]]:
    found, kind = np.unique(state, return_inverse=True)
    names = [STATES[k] for k in found.tolist()]
    return kind, tuple((STATE_COLOURS[name], name) for name in names)

"""Where to draw the functions of a graph: in layers, near what they read from.

Pure numpy; knows neither functions nor pictures, only numbers and edges. Layers are
those of the longest path, and within a layer functions move towards the mean of their
neighbours (the barycentre method of Sugiyama, Tagawa and Toda, 1981,
doi:10.1109/TSMC.1981.4308636), without dummy vertices: a long edge may pass over
functions. A layer keeps its order and its distances by what is cheap instead of least
squares: the mean of the running maximum from above and the minimum from below.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

SWEEPS = 8  # there and back, over all layers
FEW = 400  # layers that are gone through one by one; more of them all at once
GROUPS = 2000  # vertices that a graph is folded into at most
TALL = 22  # rows that are never too many
STAGGER = 0.3  # of a row, by which columns of a layer are shifted


@dataclass(frozen=True, slots=True, eq=False)
class Grouped:
    """A graph folded into k vertices, each of one group of functions on one node.

    Attributes
    ----------
    vertex : (n,) int
        The vertex of each function.
    group, node : (k,) int
        Of each vertex; -1 is several.
    count : (k,) int
        Functions of each vertex.
    source, target : (m,) int
        Edges between different vertices, each once; they may go round in circles.
    weight : (m,) int
        How many edges of functions each is.
    """

    vertex: np.ndarray
    group: np.ndarray
    node: np.ndarray
    count: np.ndarray
    source: np.ndarray
    target: np.ndarray
    weight: np.ndarray


def layered(n: int, source: Any, target: Any) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of n vertices: the layer, and the place in it.

    Parameters
    ----------
    n : int
        How many vertices.
    source, target : (m,) int
        Edges, in any order. Where they go round in circles, those that close one are
        left out of account.

    Returns
    -------
    x, y : (n,) float
        Whole layers from 0 on, to the right of all that is read; and y around 0,
        vertices of a layer at least 1 apart.
    """
    source, target = np.asarray(source, np.int64), np.asarray(target, np.int64)
    if not n:
        return np.zeros(0), np.zeros(0)
    layer, turn = _layers(n, source, target)
    ahead = layer[source] < layer[target]
    source, target = source[ahead], target[ahead]
    # From here on vertices are numbered by layer, and within it by their turn.
    order = np.lexsort((turn, layer))
    rank = np.empty(n, np.int64)
    rank[order] = np.arange(n)
    place = _placed(layer[order], rank[source], rank[target])
    y = np.empty(n)
    y[order] = place
    return layer.astype(float), y


def folded(
    x: np.ndarray, y: np.ndarray, aspect: float = 2.0
) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates as of `layered`, with layers that are too tall as several columns.

    Parameters
    ----------
    x, y : (n,) float
        Layers, and places in them.
    aspect : float
        How many columns there may be for each row.

    Returns
    -------
    x, y : (n,) float
        Columns and rows from 0 on, in which layers and places keep their order.
    """
    if not len(x):
        return x, y
    layer = x.astype(np.int64)
    size = np.bincount(layer)
    rows = max(int(np.ceil(np.sqrt(len(x) / aspect))), 1)
    while rows < size.max() and (-(-size // rows)).sum() > aspect * rows:
        rows += max(rows // 8, 1)
    if np.ptp(y) < max(2 * rows, TALL):
        return x, y - y.min()
    order = np.lexsort((y, layer))
    first = np.concatenate(([0], np.cumsum(size)))[:-1]
    rank = np.empty(len(x), np.int64)
    rank[order] = np.arange(len(x)) - first[layer[order]]
    wide = -(-size // rows)
    begin = np.concatenate(([0], np.cumsum(wide)))[:-1]
    tall = -(-size // wide)  # rows of each layer
    column, row = rank % wide[layer], rank // wide[layer]
    middle = (rows - tall[layer]) / 2
    return (begin[layer] + column).astype(float), row + middle


def placed(n: int, source: Any, target: Any) -> tuple[np.ndarray, np.ndarray]:
    """Columns and rows, from 0 on, of n vertices: `layered`, then `folded`.

    Where layers became several columns those are shifted against each other, so that no
    edge goes along a row of vertices that it doesn't join.
    """
    layer, place = layered(n, source, target)
    x, y = folded(layer, place)
    if x.max(initial=0.0) > layer.max(initial=0.0):
        y = y + STAGGER * (x % 3)
        y -= y.min()
    return x, y


def grouped(
    group: Any, node: Any, source: Any, target: Any, most: int = GROUPS
) -> Grouped:
    """Fold functions of one group on one node into one vertex.

    Where that gives more than `most` vertices the nodes of a group are folded too, and
    then the smallest groups into one. Vertices are numbered by the first function of
    each, so from left to right if functions are in topological order.

    Parameters
    ----------
    group, node : (n,) int
        Of each function, from 0 on; -1 for none.
    source, target : (m,) int
        Edges between functions.
    most : int
        Vertices at most, at least 1.
    """
    group, node = np.asarray(group, np.int64), np.asarray(node, np.int64)
    key = np.stack([group, node])
    if len(np.unique(key, axis=1).T) > most:
        key[1] = -1
        names, inverse, count = np.unique(
            key[0], return_inverse=True, return_counts=True
        )
        if len(names) > most:
            small = np.argsort(-count, kind="stable")[most - 1 :]
            key[0, np.isin(inverse, small)] = -1
    found, first, vertex, count = np.unique(
        key, axis=1, return_index=True, return_inverse=True, return_counts=True
    )
    by_first = np.argsort(first, kind="stable")
    rank = np.empty_like(by_first)
    rank[by_first] = np.arange(len(by_first))
    vertex = rank[vertex.reshape(-1)]
    k = len(by_first)
    a, b = vertex[np.asarray(source, int)], vertex[np.asarray(target, int)]
    pairs, weight = np.unique((a * k + b)[a != b], return_counts=True)
    new = found[:, by_first]
    return Grouped(
        vertex, new[0], new[1], count[by_first], pairs // max(k, 1), pairs % max(k, 1),
        weight,
    )  # fmt: skip


def _layers(
    n: int, source: np.ndarray, target: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The longest path to each vertex, and its turn in a first-in-first-out walk.

    What nothing precedes stands right before the first that reads it. In plain Python:
    a loop over layers is slow for a long chain in numpy.
    """
    by_source = np.argsort(source, kind="stable")
    ends = np.searchsorted(source[by_source], np.arange(n + 1)).tolist()
    readers = target[by_source].tolist()
    missing = np.bincount(target, minlength=n).tolist()
    layer, turn = [0] * n, [0] * n
    walk = [v for v in range(n) if not missing[v]]
    seen, stuck, at = [False] * n, 0, 0
    for v in walk:
        seen[v] = True
    while len(walk) < n or at < len(walk):
        if at == len(walk):  # a circle: go on with the first that is left
            while seen[stuck]:
                stuck += 1
            walk.append(stuck)
            seen[stuck] = True
        v = walk[at]
        turn[v] = at
        at += 1
        below = layer[v] + 1
        for w in readers[ends[v] : ends[v + 1]]:
            if seen[w]:
                continue
            layer[w] = below  # first in, first out: who tells last is deepest
            missing[w] -= 1
            if not missing[w]:
                walk.append(w)
                seen[w] = True
    layers = np.array(layer)
    first = np.full(n, n)
    ahead = layers[source] < layers[target]
    np.minimum.at(first, source[ahead], layers[target[ahead]])
    free = (np.bincount(target, minlength=n) == 0) & (first < n)
    layers[free] = first[free] - 1
    return layers, np.array(turn)


def _placed(layer: np.ndarray, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The place of each vertex; vertices stand by layer, edges go to later layers."""
    n = len(layer)
    ptr = np.searchsorted(layer, np.arange(layer[-1] + 2))
    size = np.diff(ptr)
    at = np.arange(n) - ptr[layer]  # within the layer
    y = at - (size[layer] - 1) / 2
    sides = [_neighbours(n, target, source), _neighbours(n, source, target)]
    few = len(size) <= FEW
    for sweep in range(SWEEPS if few else 2 * SWEEPS):
        side = sides[sweep % 2]
        if few:
            steps = range(len(size)) if sweep % 2 == 0 else range(len(size) - 1, -1, -1)
            for k in steps:
                lo, hi = ptr[k], ptr[k + 1]
                y[lo:hi] = _apart(side.mean(y, lo, hi), at[lo:hi])
        else:
            y = _apart(side.mean(y, 0, n), at, layer)
    rows, row = np.unique(y, return_inverse=True)  # bands without vertices shrink
    y = np.concatenate(([0.0], np.cumsum(np.minimum(np.diff(rows), 1.0))))[row]
    return np.asarray(y - y.max() / 2)


@dataclass(frozen=True, slots=True)
class _Side:
    """What stands on one side of each vertex."""

    ptr: np.ndarray
    other: np.ndarray

    def mean(self, y: np.ndarray, lo: int, hi: int) -> np.ndarray:
        """The mean place of the neighbours; its own where there are none."""
        begin, end = self.ptr[lo], self.ptr[hi]
        count = np.diff(self.ptr[lo : hi + 1])
        if begin == end:
            return y[lo:hi].copy()
        total = np.concatenate(([0.0], np.cumsum(y[self.other[begin:end]])))
        cut = self.ptr[lo : hi + 1] - begin
        summed = total[cut[1:]] - total[cut[:-1]]
        return np.where(count > 0, summed / np.maximum(count, 1), y[lo:hi])


def _neighbours(n: int, of: np.ndarray, other: np.ndarray) -> _Side:
    order = np.argsort(of, kind="stable")
    return _Side(np.searchsorted(of[order], np.arange(n + 1)), other[order])


def _apart(
    wanted: np.ndarray, at: np.ndarray, layer: np.ndarray | None = None
) -> np.ndarray:
    """Places near the wanted ones, at least 1 apart in each layer, in their order."""
    order = np.lexsort((wanted,) if layer is None else (wanted, layer))
    free = wanted[order] - at
    # So far from one layer to the next that none pushes another.
    away = 0.0 if layer is None else layer * (2 * (np.ptp(free) + 1.0))
    pushed = np.maximum.accumulate(free + away)
    pulled = np.minimum.accumulate((free + away)[::-1])[::-1]
    out = np.empty(len(wanted))
    out[order] = (pushed + pulled) / 2 - away + at
    return out

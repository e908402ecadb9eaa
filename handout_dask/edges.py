"""MB along each edge of a graph, from its producers' output sizes. Knows no nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from handout_dask.graph import Links


def measure_edges(links: Links) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``(ptr, of, mb)``: what each function reads of which others.

    Predecessors of i are ``of[ptr[i]:ptr[i + 1]]``, once each; ``mb`` is what travels:
    the elements that are read, each once, or the whole result. Where the output size of
    a producer is one number, its elements count as equal parts of it.
    """
    parts = _count_parts(links.producer, links.index)
    sizes = [function.alternatives[0].output_size for function in links.functions]
    ptr: list[int] = [0]
    of: list[int] = []
    mb: list[float] = []
    for i in range(len(links.functions)):
        edges: dict[int, list[Any]] = {}
        for a in range(links.ptr[i], links.ptr[i + 1]):
            edges.setdefault(links.producer[a], []).append(links.index[a])
        for u, indexes in edges.items():
            of.append(u)
            mb.append(_edge_mb(sizes[u], indexes, parts.get(u, 1)))
        ptr.append(len(of))
    as_int = np.int64
    return np.array(ptr, as_int), np.array(of, as_int), np.array(mb, dtype=float)


def share_edges(links: Links, ptr: np.ndarray, of: np.ndarray) -> np.ndarray:
    """(e,): the share of a result of unknown size that travels along each edge.

    Of the elements that anybody reads so many, or the whole result: 1.
    """
    out = np.ones(len(of))
    if all(at is None for at in links.index):
        return out
    parts: dict[int, set[Any]] = {}
    for u, at in zip(links.producer, links.index, strict=True):
        if at is not None:
            parts.setdefault(u, set()).add(_name(at))
    for i in range(len(links.functions)):
        read: dict[int, set[Any]] = {}
        for a in range(links.ptr[i], links.ptr[i + 1]):
            at = links.index[a]
            read.setdefault(links.producer[a], set()).add(
                None if at is None else _name(at)
            )
        for e in range(int(ptr[i]), int(ptr[i + 1])):
            u = int(of[e])
            if None not in read[u]:
                out[e] = len(read[u]) / len(parts[u])
    return out


def _name(at: Any) -> Any:
    """Equal for indexes that read the same element; an index may not be hashable."""
    try:
        return int(at.__index__())  # numpy's integers and True too
    except (AttributeError, TypeError):
        return at if isinstance(at, str) else repr(at)


def _count_parts(producer: Sequence[int], index: Sequence[Any]) -> dict[int, int]:
    """Into how many elements the result of each indexed producer seems to fall."""
    read: dict[int, set[Any]] = {}
    for u, at in zip(producer, index, strict=True):
        if at is not None:
            read.setdefault(u, set()).add(_name(at))
    return {
        u: max(len(seen), 1 + max((x for x in seen if isinstance(x, int)), default=0))
        for u, seen in read.items()
    }


def _edge_mb(size: Any, indexes: list[Any], parts: int) -> float:
    """MB of what one function reads of another: its elements, each once."""
    if size is None:
        return 0.0
    total = float(sum(size.values()) if isinstance(size, Mapping) else size)
    if any(at is None for at in indexes):
        return total
    distinct = {_name(at): at for at in indexes}
    if isinstance(size, Mapping):
        return float(sum(_get(size, at) for at in distinct.values()))
    return total * min(1.0, len(distinct) / parts)


def _get(sizes: Mapping[Any, float], at: Any) -> float:
    try:
        return sizes.get(at, 0.0)
    except TypeError:  # an index that is not hashable, such as a list
        return 0.0

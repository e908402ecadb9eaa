"""Remnant: what of a run is left to do, given the results that were kept. Pure."""

from __future__ import annotations

from collections.abc import Collection

from handout_dask.graph import Links


def remnant(
    links: Links, kept: Collection[int], has: Collection[int]
) -> tuple[set[int], set[int]]:
    """The functions to run, and those whose results are to be read instead.

    Others are needed by nobody: their readers have results.

    Parameters
    ----------
    links : Links
        The edges.
    kept : collection of int
        Functions whose results are asked for.
    has : collection of int
        Functions whose results were kept.

    Examples
    --------
    >>> from handout_dask import Function, Graph
    >>> links = Graph([Function(0), Function(1, [0]), Function(2, [1])]).links()
    >>> remnant(links, {2}, {1})
    ({2}, {1})
    """
    run: set[int] = set()
    load: set[int] = set()
    read: set[int] = set()
    inner = set(links.producer)
    for i in reversed(range(len(links.functions))):
        if i in has:
            if i in kept or i in read:
                load.add(i)
        elif i in kept or i in read or i not in inner:
            run.add(i)
            read.update(links.producer[links.ptr[i] : links.ptr[i + 1]])
    return run, load

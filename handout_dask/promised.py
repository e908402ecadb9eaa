"""Promised: what live runs hold of nodes, and are planned to hold. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from handout_dask.begun import expected_end
from handout_dask.books import ENDED, SENT, NodeBook, RunBook


def promised(
    runs: Iterable[RunBook], now: float, before: RunBook | None = None
) -> list[tuple[Any, ...]]:
    """What nodes are promised: ``(node, start, end, demand)`` per function left.

    Parameters
    ----------
    runs : iterable of RunBook
        All live runs.
    now : float
        By the clock [s]; times returned are from now on.
    before : RunBook, optional
        Only what comes before this run: what runs already of others, and what waits of
        those of higher priority. With equals it takes turns, so that neither waits for
        the other's plan to be over.
    """
    out = []
    for run in runs:
        if run is before:
            continue
        first = before is None or run.spec.priority > before.spec.priority
        at = now - run.since
        for i, state in enumerate(run.state):
            if state in ENDED or run.end[i] == float("inf"):
                continue
            begin, seconds = 0.0, run.end[i] - run.start[i]
            if state == SENT:
                end = expected_end(run.start[i], seconds, at) - at
            elif first:
                begin = max(0.0, run.start[i] - at)
                end = begin + seconds
            else:
                continue
            out.append((run.node[i], begin, end, run.demand(i)))
    return out


def lingering(nodes: Iterable[NodeBook], now: float) -> list[tuple[Any, ...]]:
    """What is held of nodes by what was taken back and still runs; as `promised`."""
    return [
        (
            book.node.name,
            0.0,
            expected_end(linger.start, linger.seconds, now) - now,
            linger.demand,
        )
        for book in nodes
        for linger in book.lingering.values()
    ]

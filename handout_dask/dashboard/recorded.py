"""Recorded: a run that is looked at afterwards, in place of live ones. Pure numpy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from handout_dask.dashboard.lanes import level
from handout_dask.picture import Picture
from handout_dask.samples import Samples
from handout_dask.showing import Summary

TIMES = 200  # at which it is told what nodes held


class Recorded:
    """Where parts of pages get what is not in their picture: there is nothing."""

    is_live = False

    def runs(self) -> list[Summary]:
        """No other runs."""
        return []

    def picture(self, name: str) -> Picture | None:
        """No other runs."""
        return None

    def waits(self, name: str, most: int) -> list[tuple[str, str]]:
        """Nothing waits any more."""
        return []


def samples_of(picture: Picture) -> Picture:
    """The same with what nodes held and used over time, by what attempts did.

    Held is what attempts declare while they ran; used what was measured of each, as if
    it had used that much all the time.
    """
    spans = picture.spans
    until = max(picture.now, float(spans.end.max(initial=0.0)))
    if picture.samples is not None or not len(spans) or until <= 0:
        return picture
    edges = np.linspace(0.0, until, TIMES + 1)
    m, r = len(picture.nodes), len(picture.resources)
    claimed = np.zeros((TIMES + 1, m, r))
    observed = np.full((TIMES + 1, m, r), np.nan)
    held = picture.holds[picture.need[spans.function]]  # (k, r)
    took = np.maximum(spans.end - spans.start, 1e-9)
    used = {"memory": spans.peak_mb, "cpu": spans.cpu_seconds / took}
    for j in range(m):
        mine = spans.node == j
        if not mine.any():
            continue
        start, end = spans.start[mine], spans.end[mine]
        for k, name in enumerate(picture.resources):
            if held[mine, k].any():
                claimed[:-1, j, k] = level(start, end, held[mine, k], edges)
            if name in used and not np.isnan(used[name][mine]).all():
                amounts = np.nan_to_num(used[name][mine])
                observed[:-1, j, k] = level(start, end, amounts, edges)
    capacity = np.broadcast_to(picture.capacity, (TIMES + 1, m, r))
    seen = Samples(
        picture.nodes, picture.resources, edges, capacity, claimed, observed, 0
    )
    return replace(picture, samples=seen)

"""Viewed: live runs as pages see them, and what is kept of those that have ended.

Knows no pages, and no books but when they were closed.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future
from time import time

import numpy as np

from handout_dask.node import Cluster
from handout_dask.picture import Picture
from handout_dask.runtime.lookout import Lookout
from handout_dask.runtime.records import LiveRun
from handout_dask.samples import NOTHING, Samples

MOST_SAMPLES = 5_000_000  # of nodes and resources of all runs that ended; 60 MB


class Viewed:
    """One run as it is viewed: what of it never changes, and what was last seen."""

    def __init__(self, run: LiveRun) -> None:
        self.run = run
        self.over: float | None = None  # when its books were closed [s since it began]
        self.base: Future[Picture] | None = None
        self.cluster: Cluster | None = None
        self.planned_money: float | None = None
        self.where: np.ndarray | None = None
        self.where_at = 0.0
        self.last: Picture | None = None
        self.last_at = 0.0
        self._samples: Samples | None = None
        self._kept: float | None = None  # when it had ended, for these

    @property
    def ended(self) -> float | None:
        """When it ended [s since it began]; it may go on again, for what was lost."""
        ended = self.run.seen.ended
        return self.over if ended is None else ended

    @property
    def now(self) -> float:
        """The time since it began [s]; that of its end if it has ended."""
        ended, over = self.run.seen.ended, self.over
        if ended is None and over is None:
            return time() - self.run.since
        log = self.run.seen.log
        if ended is not None and len(log):  # as reports have it
            return float(log.spans().end.max())
        return min(x for x in (ended, over) if x is not None)

    def samples(self, lookout: Lookout) -> Samples:
        """What was seen of nodes since it began, until it ended."""
        if self._samples is not None and self._kept == self.ended:
            return self._samples
        since = self.run.since
        return lookout.samples(since, since + self.now)

    def keep(self, lookout: Lookout) -> int:
        """Keep what was seen of it, if it has ended; how many samples that are."""
        if self.ended is None:
            self._samples = None
        elif self._samples is None or self._kept != self.ended:
            since = self.run.since
            self._samples = lookout.kept(since, since + self.now)
        self._kept = self.ended
        return 0 if self._samples is None else self._samples.claimed.size

    def let_go(self) -> None:
        """Keep no samples of it."""
        self._samples, self.last = NOTHING, None


def keep(latest: Iterable[Viewed], lookout: Lookout) -> None:
    """Keep what was seen of runs that have ended, the latest first, as far as there is
    room for all.
    """
    room = MOST_SAMPLES
    for viewed in latest:
        count = viewed.keep(lookout)
        room -= count
        if count and room < 0:
            viewed.let_go()

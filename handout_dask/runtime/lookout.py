"""Lookout: notes what nodes hold and use when that changes, and now and then besides.

Young runs are looked at often, old ones seldom, so that something is seen of each.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter, time

import numpy as np
from tornado.ioloop import IOLoop

from handout_dask.samples import SampleLog, Samples, Snapshot

LEAST, MOST = 0.02, 0.5  # s between looks
SOON = 0.001  # s; what is due so soon is due
LOOKS = 50  # so many in the time that has passed since it began
PART = 0.01  # of the time, at most, is spent on looking
KEPT = 250_000  # samples of nodes and resources of a run that has ended


class Lookout:
    """What nodes hold and use while there is something that runs.

    Parameters
    ----------
    snapshot : callable
        What there is now, see `ResourceTracker.snapshot`.
    is_busy : callable
        Whether there is something that runs, or could.
    forgets : callable
        Called before what was seen of runs that have all ended is forgotten.
    loop : IOLoop
        On which it lives.
    """

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        is_busy: Callable[[], bool],
        forgets: Callable[[], None],
        loop: IOLoop,
    ) -> None:
        self._snapshot, self._is_busy, self._loop = snapshot, is_busy, loop
        self._forgets = forgets
        self._log = SampleLog()
        self._begun: float | None = None  # when it became busy
        self._due = 0.0  # by the clock that never goes back
        self._is_set = False

    def changed(self) -> None:
        """What nodes hold may have changed: look, now or as soon as it is time."""
        if self._is_set:
            return
        left = self._left()
        if self._begun is None or not left:
            self.look()
        else:
            self._is_set = True
            self._loop.call_later(left, self._look_late)

    def _look_late(self) -> None:
        self._is_set = False
        self.changed()

    def _left(self) -> float:
        """How long it is until the next look [s]."""
        left = self._due - perf_counter()
        return left if left > SOON else 0.0

    def look(self) -> None:
        """Note what there is now, if anything runs, and it is time; and the end."""
        if not self._is_busy():
            if self._begun is not None:
                self._note(time())
            self._begun = None
            return
        if self._begun is not None and self._left():
            return
        now = time()
        if self._begun is None:
            self._forgets()
            self._log.clear()
            self._begun = now
        self._note(now)

    def _note(self, now: float) -> None:
        begin = perf_counter()
        self._log.add(now, self._snapshot())
        end = perf_counter()
        took, young = end - begin, (now - (self._begun or now)) / LOOKS
        self._due = end + max(min(max(young, LEAST), MOST), took / PART)

    def samples(self, since: float, until: float) -> Samples:
        """What was seen from one time to another; times count from the first [s]."""
        return self._log.samples(since, until)

    def kept(self, since: float, until: float) -> Samples:
        """The same of a run that is over, to be kept: small, and a copy."""
        found = self._log.samples(since, until)
        every = 1 + found.claimed.size // KEPT
        parts = (found.capacity, found.claimed, found.observed)
        capacity, claimed, observed = (x[::every].astype(np.float32) for x in parts)
        return Samples(
            found.nodes, found.resources, found.time[::every].copy(), capacity, claimed,
            observed, -1 - found.version,
        )  # fmt: skip

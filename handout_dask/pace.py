"""Pace: how far a run is and how long it will go on, as a line of text. Pure: no clock.

The remaining time is a guess: what the latest plan says, or the first one as late as
functions were so far.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from handout_dask.events import DONE, Span

PART, PAUSE = 10, 30.0  # parts of a run, and s, after each of which a line is due


@dataclass(frozen=True, slots=True)
class Stand:
    """How far a run is.

    Attributes
    ----------
    done, failed, total : int
        Functions that are done, have failed or can't run any more, and are in all.
    elapsed : float [s]
        Since the run began.
    left : float or None [s]
        Until it ends, about; None if there is nothing to go by, or it has ended.
    status : str
        As `Run.status` says.
    ended : bool
        Whether nothing will change any more.
    """

    done: int
    failed: int
    total: int
    elapsed: float
    left: float | None
    status: str
    ended: bool

    def __str__(self) -> str:
        """One line.

        >>> print(Stand(3, 1, 10, 4.0, 7.6, "running", False))
        3 of 10 functions done, 1 failed, 4.0 s, about 8 s left
        """
        text = f"{self.done:,} of {self.total:,} functions done"
        text += f", {self.failed:,} failed" * bool(self.failed)
        text += f", {span_text(self.elapsed)}"
        if self.ended:
            return text + f", {self.status}" * (self.status not in ("done", ""))
        if self.left is not None:
            text += f", about {span_text(self.left, whole=True)} left"
        return text


def span_text(seconds: float, whole: bool = False) -> str:
    """A span of time as people say it.

    >>> span_text(4.26), span_text(75), span_text(7260), span_text(0.4, whole=True)
    ('4.3 s', '1:15 min', '2:01 h', '1 s')
    """
    if seconds < 59.95:
        return f"{max(seconds, 1.0):.0f} s" if whole else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d} min"
    return f"{minutes // 60:,}:{minutes % 60:02d} h"


class Lateness:
    """By which factor functions end later than planned; over all that are done.

    Parameters
    ----------
    planned : mapping of hashable to float [s]
        When each shall end.
    """

    def __init__(self, planned: Mapping[Hashable, float]) -> None:
        self._planned = planned
        self._seen, self._actual, self._wanted = 0, 0.0, 0.0

    def factor(self, spans: Sequence[Span]) -> float | None:
        """With attempts that grew since the last time; None if nothing is done yet.

        >>> late = Lateness({"a": 1.0, "b": 2.0})
        >>> late.factor([]), late.factor([Span("a", "n", 0.0, 1.5)])
        (None, 1.5)
        """
        for span in spans[self._seen :]:
            if span.outcome == DONE:
                self._actual += span.end
                self._wanted += self._planned[span.function]
        self._seen = len(spans)
        return self._actual / self._wanted if self._wanted > 0 else None


class Sparse:
    """When a line in a log is due: after each tenth of the functions, or 30 s."""

    def __init__(self) -> None:
        self._part, self._at = -1, 0.0

    def is_due(self, stand: Stand) -> bool:
        """Whether to write a line now.

        >>> sparse = Sparse()
        >>> at = [(0, 0.0), (0, 1.0), (3, 2.0), (4, 31.0), (4, 62.0)]
        >>> stands = [Stand(d, 0, 30, t, None, "running", False) for d, t in at]
        >>> [sparse.is_due(stand) for stand in stands]
        [True, False, True, False, True]
        """
        part = PART * (stand.done + stand.failed) // max(stand.total, 1)
        due = stand.ended or part > self._part or stand.elapsed - self._at >= PAUSE
        if due:
            self._part, self._at = part, stand.elapsed
        return due

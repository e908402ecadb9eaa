"""What happened in a run, gathered on the scheduler for its client."""

from __future__ import annotations

from contextlib import suppress
from time import time
from typing import Any

from handout_dask.books import RunBook
from handout_dask.events import FAILED
from handout_dask.runspec import RunSpec
from handout_dask.runtime.measuring import measures_of
from handout_dask.runtime.seen import Seen
from handout_dask.setbacks import Attempt

NAME = "handout"
AGAIN = "again"  # the outcome of an attempt that failed, and is not the last


class LiveRun:
    """One run, as the plugin sees it beside its books.

    Parameters
    ----------
    spec : RunSpec
        What was planned.
    book : RunBook
        What is so far; written by the dispatcher.
    owner : str
        The executor whose client gets the records.
    keys : list, optional
        Dask keys of functions that were not lowered from a Graph.
    """

    def __init__(
        self, spec: RunSpec, book: RunBook, owner: str, keys: list[Any] | None = None
    ) -> None:
        self.keys = keys
        self.spec, self.book, self.owner = spec, book, owner
        self.readers = [owner]  # executors that get the records
        self.declared_by = owner
        self.urgent = False  # what is being planned is out of date already
        self.late: dict[int, float] = {}  # what runs on: when it is news again [s]
        self.anew: set[int] = set()  # functions that began anew elsewhere
        self.since = book.since
        self.keys_left = len(spec.node)
        self.refused: dict[tuple[Any, str], list[Any]] = {}  # what workers can't take
        self.flushing = False
        self.planning = False  # again, or about to
        self.due: Any = None  # the timer until then
        self.pause_until = 0.0  # by the clock; before, it is not planned again
        self.revised_at = book.since
        self.news: dict[str, None] = {}  # why it shall be
        self.replans: list[tuple[float, str, float, int]] = []
        self.cancelled_by = ""  # a client
        self.keepsake: bytes | None = None  # of a detached run: what a client needs
        self.wanted: list[int] = []  # whose results are kept for nobody yet
        self.log: list[tuple[Any, ...]] = []  # of a detached run: all records
        self.replans_log: list[tuple[Any, ...]] = []
        self.largest: dict[int, int] = {}  # [bytes] of results, by number of name
        self._records: list[tuple[Any, ...]] = []
        self.begun = self._told = False  # whether something was sent; and that said
        self.seen = Seen(spec)  # for pages

    def key(self, i: int) -> Any:
        """The Dask key of function i."""
        return (self.spec.prefix[i], i) if self.keys is None else self.keys[i]

    def record(
        self, i: int, outcome: str, about: dict[str, Any], fault: Any = None
    ) -> float | None:
        """Note an outcome with what Dask said about it; the seconds that it took.

        `fault` is an exception, its traceback and its text, all as Dask has them.
        """
        spans = [s for s in about.get("startstops") or () if s["action"] == "compute"]
        begin = spans[0]["start"] - self.since if spans else None
        end = spans[-1]["stop"] - self.since if spans else None
        measures, nbytes = measures_of(about), about.get("nbytes")
        if nbytes and self.spec.outline is not None:
            name = int(self.spec.outline.name[i])
            self.largest[name] = max(self.largest.get(name, 0), nbytes)
        self._records.append(
            (
                i,
                outcome,
                self.book.node[i],
                begin,
                end,
                self.book.attempts[i],
                nbytes,
                fault,
                None if measures is None else [*measures],
            )
        )
        return None if begin is None or end is None else end - begin

    def last(self) -> tuple[Any, ...]:
        """The last record, if no message has taken it yet."""
        return self._records[-1]

    def tried(self, i: int, attempt: Attempt) -> None:
        """Note an attempt that did not deliver, and is not the end."""
        outcome = AGAIN if attempt.outcome == FAILED else attempt.outcome
        begin, end = attempt.start - self.since, attempt.end - self.since
        what = i, outcome, attempt.node, begin, end, attempt.number
        self._records.append((*what, None, attempt.error, None))

    def message(self) -> dict[str, Any] | None:
        """The records since the last message, if any."""
        with suppress(Exception):  # pages are not worth a run
            self.see()
        if not self._records and not self.replans and self.begun == self._told:
            return None
        self._told = self.begun
        records, self._records = self._records, []
        replans, self.replans = self.replans, []
        if self.keepsake is not None:
            self.log += records
            self.replans_log += replans
        what = {"token": self.spec.token, "begun": self.begun}
        what["switched"] = [*self.book.switched.items()]
        return {**what, "records": records, "replans": replans}

    def see(self) -> None:
        """Note for pages what the next message says."""
        now = time() - self.since
        self.seen.take(self._records, now)
        self.seen.replans += [(when, why) for when, why, *_ in self.replans]
        self.seen.ended = None if self.book.left else self.seen.ended or now

"""SpanLog: attempts of functions as columns that grow. Pure; knows no runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from handout_dask.events import DONE, OUTCOMES
from handout_dask.printable import JOINER

MOST = 80  # characters of an id, of a node's or a function's name
MOST_ERROR = 400  # characters of what went wrong


def short(text: Any, most: int = MOST) -> str:
    """A text as one line of at most so many characters, all of which can be seen.

    Examples
    --------
    >>> short("a\\nb"), short("x" * 100, 5), short(("a", 1))
    ('a b', 'xxxx…', "('a', 1)")
    """
    whole = str.__str__(text) if isinstance(text, str) else repr(text)
    cut = whole[: most - 1] + "…" if len(whole) > most else whole
    if cut.isprintable():
        return cut
    return "".join(x if x.isprintable() or x == JOINER else " " for x in cut)


@dataclass(frozen=True, eq=False)
class Spans:
    """k attempts as columns, in the order in which they were told.

    Attributes
    ----------
    function, node : (k,) int
        Indexes into a Picture's labels and nodes.
    start, end : (k,) float [s]
        Since the run began.
    attempt : (k,) int
        1 for the first.
    outcome : (k,) int
        Index into `events.OUTCOMES`.
    cpu_seconds, peak_mb, nbytes, bytes_in : (k,) float
        What it used, as in a Span; nan where it was not measured.
    errors : dict of int to str
        What went wrong, by number of attempt in these columns.
    """

    function: np.ndarray
    node: np.ndarray
    start: np.ndarray
    end: np.ndarray
    attempt: np.ndarray
    outcome: np.ndarray
    cpu_seconds: np.ndarray
    peak_mb: np.ndarray
    nbytes: np.ndarray
    bytes_in: np.ndarray
    errors: Mapping[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.function)


COLUMNS = (
    "function", "node", "start", "end", "attempt", "outcome", "cpu_seconds", "peak_mb",
    "nbytes", "bytes_in",
)  # fmt: skip
INTEGERS = ("function", "node", "attempt", "outcome")
MANY = 1024  # rows that are put into columns together


class SpanLog:
    """Attempts as columns that grow; what was read of it never changes.

    Examples
    --------
    >>> log = SpanLog()
    >>> log.add(0, 2, 0.5, 1.5)
    >>> before = log.spans()
    >>> log.add(1, 2, 1.5, 2.0, outcome="failed", error="ValueError: 7")
    >>> len(before), log.spans().end.tolist(), dict(log.spans().errors)
    (1, [1.5, 2.0], {1: 'ValueError: 7'})
    """

    def __init__(self) -> None:
        self._count = 0
        self._errors: dict[int, str] = {}
        self._rows: list[tuple[float | None, ...]] = []  # that are not in columns yet
        self._columns: dict[str, np.ndarray] = {
            name: np.empty(16, dtype=np.int32 if name in INTEGERS else float)
            for name in COLUMNS
        }

    def __len__(self) -> int:
        return self._count + len(self._rows)

    def add(
        self, function: int, node: int, start: float, end: float, attempt: int = 1,
        outcome: str = DONE, error: str | None = None, *,
        cpu_seconds: float | None = None, peak_mb: float | None = None,
        nbytes: float | None = None, bytes_in: float | None = None,
    ) -> None:  # fmt: skip
        """Add one attempt; None is not known."""
        if error:
            self._errors[len(self)] = short(error, MOST_ERROR)
        self._rows.append(
            (
                function, node, start, end, attempt, OUTCOMES.index(outcome),
                cpu_seconds, peak_mb, nbytes, bytes_in,
            )
        )  # fmt: skip
        if len(self._rows) >= MANY:
            self._fold()

    def _fold(self) -> None:
        """Put rows into columns; who has read the old ones keeps them as they are."""
        if not self._rows:
            return
        block = np.array(self._rows, dtype=float)  # of None it makes nan
        at, end = self._count, len(self)
        for k, (name, column) in enumerate(self._columns.items()):
            if end > len(column):
                more = np.empty(max(len(column), end), dtype=column.dtype)
                column = self._columns[name] = np.concatenate([column, more])
            column[at:end] = block[:, k]
        self._count, self._rows = end, []

    def spans(self) -> Spans:
        """All attempts up to now."""
        self._fold()
        columns = {name: x[: self._count] for name, x in self._columns.items()}
        return Spans(**columns, errors=MappingProxyType(self._errors))

"""Seen: what there is to see of a live run besides its books. Pure: records in."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from distributed.protocol import pickle

from handout_dask.errors import FunctionError
from handout_dask.events import FAILED, LOST
from handout_dask.printable import natural
from handout_dask.runspec import RunSpec
from handout_dask.runtime.measuring import Measures
from handout_dask.spanlog import SpanLog

AGAIN, BLOCKED, DONE = "again", "blocked", "done"  # outcomes of records, see there
PASSING = (AGAIN, LOST)
STANDIN = f"{FunctionError.__name__}: "


class Seen:
    """The attempts of a live run, as columns.

    Parameters
    ----------
    spec : RunSpec
        What was planned.

    Attributes
    ----------
    names : dict of str to int
        Numbers of nodes: of those that can run something of it, then as they come.
    log : SpanLog
        The attempts that have ended.
    again, blocked : set of int
        Functions whose last attempt did not deliver, and that will be tried again; and
        those that can't run, for they depend on one that failed.
    retries : int
        Attempts beyond the first of each function.
    replans : list of (float [s], str)
        When and why what had not begun was planned again.
    ended : float [s] or None
        When all had ended.
    said : dict of int to str
        What workers said of failures, as reports have it, whose records are to come.
    """

    def __init__(self, spec: RunSpec) -> None:
        names = {*spec.node}.union(*spec.able)
        self.names = {name: j for j, name in enumerate(sorted(names, key=natural))}
        self.log = SpanLog()
        self.again: set[int] = set()
        self.blocked: set[int] = set()
        self.retries = 0
        self.replans: list[tuple[float, str]] = []
        self.ended: float | None = None
        self.said: dict[int, str] = {}

    def take(self, records: Iterable[Sequence[Any]], now: float) -> None:
        """Take in records of `LiveRun`, at a time [s since the run began]."""
        for i, outcome, node, start, end, attempt, nbytes, fault, measured in records:
            (self.again.add if outcome in PASSING else self.again.discard)(i)
            if outcome == BLOCKED:
                self.blocked.add(i)
            failed = outcome in (FAILED, *PASSING)
            if outcome != DONE and not failed:
                continue
            if start is None and not failed:
                continue
            self.retries += attempt > 1
            used = Measures(*measured) if measured else None
            self.log.add(
                i,
                self.names.setdefault(node, len(self.names)),
                now if start is None else start,
                now if end is None else end,
                attempt,
                FAILED if outcome == AGAIN else outcome,
                self._text(i, fault) if failed else None,
                cpu_seconds=used and used.cpu_seconds,
                peak_mb=used and used.peak_mb,
                nbytes=nbytes,
                bytes_in=used and used.bytes_in,
            )

    def _text(self, i: int, fault: Any) -> str | None:
        """What went wrong, if possible as its worker said it."""
        if fault is None or isinstance(fault, str):
            return fault
        said, text = self.said.pop(i, ""), text_of(fault)
        # What can't travel has another one in its place, also for reports.
        return text if not said or text.startswith(STANDIN) else said


def text_of(fault: Any) -> str:
    """What went wrong, of what Dask has of an exception."""
    error, _, text = fault
    if not text:  # raised here, see `erring`; a user's is never loaded on a scheduler
        with suppress(Exception):
            data = getattr(error, "data", error)
            found = pickle.loads(data) if isinstance(data, bytes) else data
            text = f"{type(found).__name__}: {found}"
    return told(str(text or "it failed"))


def told(text: str) -> str:
    """An exception as people write it, of its repr; as reports have it.

    >>> told("ValueError('no')"), told("KeyError('k')"), told("E(1, 2)")
    ('ValueError: no', "KeyError: 'k'", 'E(1, 2)')
    """
    found = re.fullmatch(r"(\w+)\((.*)\)", text, re.DOTALL)
    if found is None:
        return text
    with suppress(Exception):
        value = ast.literal_eval(found[2]) if found[2] else ""
        if isinstance(value, str):
            return f"{found[1]}: {found[2] if found[1] == 'KeyError' else value}"
    return text

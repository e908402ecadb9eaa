"""Failures: why functions of one run have no result, as exceptions. No cluster."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from distributed.protocol import pickle

from handout_dask.errors import FunctionError, RunCancelledError
from handout_dask.events import FAILED
from handout_dask.plans import Plan
from handout_dask.runtime.calling import annotate
from handout_dask.runtime.faults import rebuilt

BLOCKED, GONE = "blocked", "gone"
SHORT, MOST = 120, 8  # characters of an attempt's error; attempts that are told


class Failures:
    """What failed in a run, and what that means for the rest.

    Parameters
    ----------
    plan : Plan
        What was to be done.
    state : list of str
        The outcome of each function, "" while it has none; written by the run.
    on_failure : str
        What the run does then.
    """

    def __init__(self, plan: Plan, state: list[str], on_failure: str) -> None:
        self._plan, self._state, self._on_failure = plan, state, on_failure
        self._functions = plan.problem.functions
        self._of: dict[int, tuple[Any, ...]] = {}
        self._tried: dict[int, list[str]] = {}
        self.first: int | None = None

    def __len__(self) -> int:
        return len(self._of)

    def add(self, i: int, fault: Any, node: str, attempt: int) -> None:
        """Function i failed for good."""
        self._of[i] = (*fault, node, attempt)
        if self.first is None:
            self.first = i

    def __contains__(self, i: object) -> bool:
        return i in self._of

    def portable(self, i: int) -> tuple[Any, ...]:
        """What `add` needs of function i, its exception and traceback as bytes."""
        *_, text, node, attempt = self._of[i]
        exception, frozen, trace = self.own(i), b"", None
        with suppress(Exception):
            bare = exception.with_traceback(None)
            trace = pickle.dumps(self.own(i).__traceback__)
            frozen = pickle.dumps(bare)
        return frozen, trace, text, node, attempt

    def tried(self, i: int, node: str, error: str) -> None:
        """An attempt of function i did not deliver, and perhaps was not the last."""
        line = " ".join(error.split())
        short = line if len(line) <= SHORT else f"{line[:SHORT]}..."
        self._tried.setdefault(i, []).append(f"{node!r} ({short})")

    def why(self, i: int, cancelled: bool) -> Exception | None:
        """Why function i has no result; None if it has, or has not ended."""
        state, id = self._state[i], self._functions[i].id
        if state == FAILED:
            return self.own(i)
        if state == GONE:
            return self._why_gone(id, cancelled)
        if state == BLOCKED:
            root = self._root_of(i)
            cause = self.own(root)
            made = FunctionError(
                f"function {id!r} did not run: function {self._functions[root].id!r}, "
                f"which it depends on, failed with {type(cause).__name__}: {cause}"
            )
            made.__cause__ = cause
            return made
        return None

    def _why_gone(self, id: Any, cancelled: bool) -> Exception:
        if self._on_failure == "stop" and self.first is not None:
            made: Exception = FunctionError(
                f"function {id!r} did not run: the run was stopped when function "
                f"{self._functions[self.first].id!r} failed"
            )
        elif self.first is None or cancelled:
            return RunCancelledError(
                f"function {id!r} did not end: the run was cancelled"
            )
        else:
            made = FunctionError(
                f"function {id!r} did not run: its result was not to be kept, and all "
                "that would have read it did not run either"
            )
        made.__cause__ = self.own(self.first)
        return made

    def own(self, i: int) -> Exception:
        """The exception of function i, which failed; new each time."""
        *fault, node, attempts = self._of[i]
        id = self._functions[i].id
        exception = rebuilt(id, *fault)
        vars(exception)["handout"] = (id, node, attempts)
        if attempts:
            note = f"function {id!r} failed on node {node!r}, attempt {attempts}"
            before = self._tried.get(i, ())
            if before:
                more = f"{len(before) - MOST} more, " if len(before) > MOST else ""
                note += f"; before: {more}{', '.join(before[-MOST:])}"
        else:
            note = f"function {id!r} was not started on node {node!r}"
        annotate(exception, note)
        return exception

    def _root_of(self, i: int) -> int:
        """The failed function that kept function i from running."""
        seen, stack = {i}, [i]
        while stack:
            for u in self._plan.problem.preds[stack.pop()]:
                if self._state[u] == FAILED:
                    return u
                if u not in seen:
                    seen.add(u)
                    stack.append(u)
        return next(iter(self._of))

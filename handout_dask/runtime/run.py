"""Run: one execution of a graph, as its client sees it: results, errors, progress.

Fed by the plugin's records; holds the Dask futures of the results that are kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Hashable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from distributed import CancelledError, Client

from handout_dask.errors import (
    HandoutError,
    ResultReleasedError,
    RunCancelledError,
)
from handout_dask.events import DONE, FAILED, Hold, Span
from handout_dask.graph import Graph
from handout_dask.history import History
from handout_dask.learned import learn
from handout_dask.overuse import overuses, worst_of_each_name
from handout_dask.picture import Picture
from handout_dask.plans import Plan
from handout_dask.report import Report
from handout_dask.runtime.calling import text_of
from handout_dask.runtime.delivering import undelivered
from handout_dask.runtime.explaining import explain_run, told
from handout_dask.runtime.failures import BLOCKED, GONE, Failures
from handout_dask.runtime.lazy import Lazy
from handout_dask.runtime.portrait import portrait
from handout_dask.runtime.progress import Progress, follow
from handout_dask.runtime.saving import Saving
from handout_dask.runtime.spans import PASSING, span_of
from handout_dask.shown import Visualized

logger = logging.getLogger(__name__)

CONNECTED = ("running", "connecting", "newly-created")
POLL = 0.5  # s between looks at whether the scheduler is still there


class Run(Saving, Visualized):
    """One execution of a graph. Made by ``Executor.submit`` and ``Executor.execute``.

    ``run[id]`` waits for a result and returns it. In an asynchronous executor what
    waits returns an awaitable.

    Attributes
    ----------
    graph : Graph
        What was submitted; it is never changed.
    plan : Plan
        Where and when everything was planned to run.
    token : str
        Names the run on its cluster.
    detached : bool
        Whether it outlives its client.
    spans : list of Span
        What ran, attempt by attempt, in the order in which it ended.
    holds : list of Hold
        When nodes were held that start and end by plan; of others nothing is said.
    replans : list of tuple
        When what had not started was planned again: seconds since the run began, why,
        the makespan expected then [s], and how many functions changed their node.
    """

    def __init__(
        self,
        client: Client,
        plan: Plan,
        token: str,
        futures: Mapping[int, Any],
        kept: Collection[int],
        on_failure: str,
        history: History,
        detached: bool = False,
    ) -> None:
        self.graph: Graph = plan.problem.graph
        self.plan, self.token = plan, token
        self.spans: list[Span] = []
        self.holds: list[Hold] = []
        self.replans: list[tuple[float, str, float, int]] = []
        self._history, self.detached = history, detached
        self._client, self._futures = client, dict(futures)
        self._kept = frozenset(kept)
        self._on_failure = on_failure
        self._functions = plan.problem.functions
        self._state: list[str] = [""] * len(self._functions)
        self._left = len(self._functions)
        self._failures = Failures(plan, self._state, on_failure)
        self._begun = self._cancelled = self._released = False
        self._switched: dict[int, int] = {}  # alternatives that run, if not as planned
        self._lost = ""
        self._warned: set[str] = set()  # names that took too much memory
        self._changed = asyncio.Event()

    # -------------------------------------------------------------------- records
    def _take(self, records: list[Any], replans: Iterable[Any] = ()) -> None:
        """What the plugin saw; called in the client's event loop."""
        self.replans += (tuple(row) for row in replans)
        for record in records:
            i, outcome, node, _, _, attempt, _, fault, _ = record
            span = span_of(self._functions[i].id, record)
            if span is not None:
                self.spans.append(span)
                if i not in self._switched:
                    learn(self._history, self.plan, span, i)
            if outcome in PASSING:
                self._failures.tried(i, node, fault)
                continue
            if not self._state[i]:
                self._left -= 1
            self._state[i] = outcome
            if outcome == DONE and i not in self._kept and i in self._futures:
                self._futures.pop(i).release()
            if outcome == FAILED:
                self._failures.add(i, fault, node, attempt)
        if records and not self._left:
            self._warn()
        self._changed.set()

    def _warn(self) -> None:
        """Say once of each name that it took more memory than it declared."""
        found = worst_of_each_name(overuses(self.plan, self.spans))
        for name in set(found) - self._warned:
            worst, count = found[name]
            more = f" (and {count - 1} more of name {name!r})" if count > 1 else ""
            logger.warning("%s%s", worst, more)
            self._warned.add(name)

    async def _cancel_rest(self) -> None:
        # Dask's own cancel asserts that all dependents are wanted (2026.8.0).
        scheduler = self._client.scheduler
        await scheduler.handout_cancel(token=self.token, client=self._client.id)

    async def _until(self, done: Callable[[], bool]) -> None:
        """Wait for records until a condition holds, or the scheduler is gone."""
        silent = 0
        while not done() and not self._lost:
            self._changed.clear()
            try:
                # asyncio.wait_for would swallow a time-out of who waits for this one,
                # if that comes in the same turn of the loop as a record (Python 3.11).
                async with asyncio.timeout(POLL):
                    await self._changed.wait()
                silent = 0
            except TimeoutError:
                silent += 1
                if self._client.status not in CONNECTED:
                    status = self._client.status
                    self._lost = f"the connection to the scheduler is {status}"
                elif silent > 1:
                    self._lost = self._unheard()
                    if self._lost:
                        self._client.loop.add_callback(self._forget)

    async def _forget(self) -> None:
        with suppress(Exception):  # the scheduler may be another one by now
            await self._client.scheduler.handout_forget(token=self.token)

    def _unheard(self) -> str:
        """What Dask says of the next function, if it ended and no record told so.

        The scheduler lost the run, or never had it.
        """
        for i, future in list(self._futures.items()):
            if not self._state[i]:
                if future.status == "error":
                    error = future._state.exception
                    return f"the scheduler can't take it: {text_of(error)}"
                if future.status in ("cancelled", "lost"):
                    return "the scheduler forgot it; was it restarted?"
                break
        return ""

    def _do(self, method: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> Any:
        if self._client.status == "closed":
            raise HandoutError(f"{self!r}: its executor is closed")
        return self._client.sync(method, *args)

    # -------------------------------------------------------------------- waiting
    def wait(self, timeout: float | None = None) -> Any:
        """Wait until everything ended; returns the run.

        Parameters
        ----------
        timeout : float, optional
            Seconds after which a TimeoutError is raised; the run goes on.
        """
        return self._do(self._wait, timeout)

    async def _wait(self, timeout: float | None = None) -> Run:
        try:
            async with asyncio.timeout(timeout):
                await self._until(lambda: not self._left)
        except TimeoutError:
            raise TimeoutError(f"{self!r} did not end within {timeout} s") from None
        if self._lost:
            raise HandoutError(f"{self!r}: {self._lost}")
        return self

    def cancel(self) -> Any:
        """Stop what has not ended.

        What runs in a process of its own ends at once; a thread runs on unseen, and for
        longer than ``Executor(cancel_grace=)`` allows only if it shares its worker.
        """
        return self._do(self._cancel)

    async def _cancel(self) -> None:
        if self._left and not self._cancelled:
            self._cancelled = True
            await self._cancel_rest()

    def release(self) -> None:
        """Give back all results on the cluster; what has not ended is cancelled."""
        if self.detached and not self._released and self._client.status == "running":
            self._client.loop.add_callback(self._forget)
        self._released = True
        for future in list(self._futures.values()):
            future.release()
        self._futures.clear()

    # -------------------------------------------------------------------- results
    def __getitem__(self, id: Hashable) -> Any:
        """The result of a function; waits for it.

        Raises
        ------
        Exception
            The function's own, with ``.handout = (id, node, attempts)``.
        FunctionError
            If it did not run because a function that it depends on failed.
        ResultReleasedError
            If the result was not to be kept, or the run was released.
        RunCancelledError
            If the run was cancelled before the function ended.
        KeyError
            If the graph has no such function.
        """
        i = self._index(id)
        if self._client.status == "closed":
            raise ResultReleasedError(
                f"the result of function {id!r} is gone: its executor is closed; fetch "
                "results before that"
            )
        return self._do(self._result, i)

    def _index(self, id: Hashable) -> int:
        try:
            return self.plan.problem.where[id]
        except KeyError:
            raise KeyError(f"no function {id!r} in {self.graph!r}") from None

    async def _result(self, i: int) -> Any:
        future = self._futures.get(i)
        fault: BaseException | None = None
        if future is not None and not self._lost:
            try:
                # Raised by Dask, an exception would hold on to this frame, and so to
                # every result of the run.
                found = await self._client.gather(
                    [future], errors="skip", asynchronous=True
                )
                if found:
                    return found[0]
            except (Exception, CancelledError) as error:
                fault = error
        await self._until(lambda: bool(self._state[i]))
        failure = self._failures.why(i, self._cancelled or self._released)
        if failure is not None:
            raise failure
        id = self._functions[i].id
        if self._lost:
            raise HandoutError(f"function {id!r}: {self._lost}") from fault
        if self._released or future is None:
            why = "the run was released" if self._released else "it was not to be kept"
            raise ResultReleasedError(f"the result of function {id!r} is gone: {why}")
        if self._cancelled:
            raise RunCancelledError(f"function {id!r} ended, but its run is cancelled")
        spans = [span for span in self.spans if span.function is id]
        about = self._client, future, id, self.where(id), len(spans)
        raise await undelivered(*about, fault) from fault

    def _raise_first(self) -> None:
        """Raise what failed first, if anything did."""
        if self._failures.first is not None:
            raise self._failures.own(self._failures.first)

    @property
    def results(self) -> Mapping[Hashable, Any]:
        """``{id: result}``; each is fetched when it is looked up."""
        return Lazy(self, self.__getitem__)

    @property
    def functions(self) -> Mapping[Hashable, Any]:
        """``{id: Function}`` with results; each is fetched when it is looked up."""
        return Lazy(self, lambda id: self._do(self._executed, self._index(id)))

    async def _executed(self, i: int) -> Any:
        return replace(self._functions[i], results=await self._result(i))

    # -------------------------------------------------------------------- reading
    @property
    def status(self) -> str:
        """``pending``, ``running``, ``done``, ``failed`` or ``cancelled``."""
        cancelled = self._cancelled or (self._released and self._left > 0)
        if self._left and not cancelled and not self._lost:
            return "running" if self._begun else "pending"
        if cancelled:
            return "cancelled"
        if self._failures or self._lost:
            return "failed"
        return "cancelled" if GONE in self._state else "done"

    @property
    def progress(self) -> Progress:
        """How many functions are done, have failed or were blocked, and are in all."""
        failed = sum(state in (FAILED, BLOCKED) for state in self._state)
        return Progress(self._state.count(DONE), failed, len(self._state))

    @property
    def makespan(self) -> float:
        """Seconds from submission to the last end that is known."""
        return max((span.end for span in self.spans), default=0.0)

    def report(self, path: Any = None) -> Report:
        """The plan against what happened; what has not ended yet is left out.

        Parameters
        ----------
        path : path, optional
            A file to write it to as well: as its name ends, ``.html`` (one page with
            drawings that one can zoom, which needs no network), ``.json``, or text.
        """
        replans = [(when, why) for when, why, *_ in self.replans]
        made = Report.of(self.plan, self.spans, replans=replans, holds=self.holds)
        if str(path).endswith(".html"):
            from handout_dask.dashboard.pagefile import write_report

            write_report(made, path, self.status, self.token, self.environment)
        elif path is not None:
            made.write(path)
        return made

    def _picture(self) -> Picture:
        """What there is to see of it up to now."""
        return portrait(self.report(), self.status, self.token, self._state)

    def explain(self, id: Hashable) -> Any:
        """Where a function stands, for what it waits if it does, and why by plan.

        Returns
        -------
        RunExplanation
            As data; its text is for people.
        """
        i = self._index(id)
        fault = self._failures.why(i, self._cancelled or self._released)
        known = told(self.plan, i, self._state[i], self.spans)
        return self._do(
            explain_run, self._client, self.token, self.plan, i, known, fault
        )

    def where(self, id: Hashable) -> str:
        """The node on which a function ran last, or is planned to run."""
        i = self._index(id)
        for span in reversed(self.spans):
            if span.function is self._functions[i].id:  # what == means is the user's
                return span.node
        return self.plan[id].node

    def show_progress(self, stream: Any = None) -> Any:
        """Show progress until the run ends.

        Parameters
        ----------
        stream : file, optional
            On a terminal one line is written over and over, elsewhere few lines are.
            Default: the notebook's cell if this runs in one, else standard error.
        """
        return follow(self, stream)

    def __len__(self) -> int:
        return len(self._state)

    def __repr__(self) -> str:
        done, failed, total = self.progress
        text = f"{self.status}, {done} of {total} done, {failed} failed"
        return f"<Run {self.token}: {text}>"

"""Progress of a run, shown while it runs: in a notebook, on a terminal, or in a log."""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from typing import Any, NamedTuple, Protocol

from handout_dask.pace import Lateness, Sparse, Stand
from handout_dask.printable import printable

TICK = 1.0  # s after which the time is shown anew though nothing has happened
SHORTEST = 0.1  # s for which something is shown


class Progress(NamedTuple):
    """How far a run is; what was cancelled counts as neither."""

    done: int
    failed: int
    total: int


class Painter(Protocol):
    """Shows how far a run is."""

    def paint(self, stand: Stand) -> None:
        """Show it in place of what was shown before."""
        ...


class Terminal:
    """One line that is written over and over."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def paint(self, stand: Stand) -> None:
        """Write the line anew."""
        text = printable(str(stand), max(shutil.get_terminal_size().columns - 1, 20))
        end = "\n" if stand.ended else ""
        print(f"\r{text}\x1b[K", end=end, file=self._stream, flush=True)


class Log:
    """Few lines, one below the other."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._sparse = stream, Sparse()

    def paint(self, stand: Stand) -> None:
        """Write a line if one is due."""
        if self._sparse.is_due(stand):
            print(str(stand), file=self._stream, flush=True)


class Cell:
    """A bar in a notebook; in the end it stays as the run ended."""

    def __init__(self, display: Any) -> None:
        self._display, self._handle = display, None

    def paint(self, stand: Stand) -> None:
        """Draw the bar anew."""
        from handout_dask.dashboard.progressbar import Bar

        bar = Bar(stand)
        if self._handle is None:
            self._handle = self._display(bar, display_id=True)
        else:
            self._handle.update(bar)


def painter(stream: Any) -> Painter:
    """What shows progress: on a stream if one is given, else wherever this runs."""
    if stream is None:
        display = notebook_display()
        if display is not None:
            return Cell(display)
        stream = sys.stderr
    return Terminal(stream) if stream.isatty() else Log(stream)


def notebook_display() -> Any:
    """IPython's ``display`` where a notebook shows what it is given; else None."""
    shell = sys.modules.get("IPython")
    if shell is None or getattr(shell.get_ipython(), "kernel", None) is None:
        return None
    from IPython.display import display

    return display


def follow(run: Any, stream: Any) -> Any:
    """Show a run's progress until it ends; awaitable if the run's client is.

    Drawn by who calls: output of another thread may end up in another cell.
    """
    watch = Watch(run, painter(stream))
    if getattr(run._client, "asynchronous", False):
        return watch.until_ended()
    try:
        while not watch.paint():
            run._do(watch.news)
    finally:
        watch.stop()
    return None


class Watch:
    """Looks at a run, and shows what is new."""

    def __init__(self, run: Any, shown: Painter) -> None:
        self._run, self._painter = run, shown
        plan = run.plan
        ids = (function.id for function in plan.problem.functions)
        self._late = Lateness(dict(zip(ids, plan.end.tolist(), strict=True)))
        # A run that was attached to began before; its last end tells about when.
        self._since = time.monotonic() - run.makespan
        self._change: asyncio.Task | None = None

    def stand(self) -> Stand:
        """How far the run is."""
        run = self._run
        ended = not run._left or bool(run._lost)
        elapsed = time.monotonic() - self._since
        left = None
        factor = self._late.factor(run.spans)
        if not ended and factor is not None:
            told = run.replans[-1][2] if run.replans else run.plan.makespan * factor
            left = max(told - elapsed, 0.0)
        if ended and run.spans:
            elapsed = run.makespan
        done, failed, total = run.progress
        return Stand(done, failed, total, elapsed, left, run.status, ended)

    def paint(self) -> bool:
        """Show how far it is; whether it has ended."""
        stand = self.stand()
        self._painter.paint(stand)
        return stand.ended

    async def news(self) -> None:
        """Wait until something has ended, though not for long."""
        run, left = self._run, self._run._left
        if self._change is None or self._change.done():
            self._change = asyncio.create_task(run._until(lambda: run._left < left))
        await asyncio.sleep(SHORTEST)
        await asyncio.wait([self._change], timeout=TICK - SHORTEST)

    async def until_ended(self) -> None:
        """Show it until it has ended."""
        try:
            while not self.paint():
                await self.news()
        finally:
            self.stop()

    def stop(self) -> None:
        """Wait for nothing any more."""
        if self._change is not None and not self._change.done():
            self._change.get_loop().call_soon_threadsafe(self._change.cancel)

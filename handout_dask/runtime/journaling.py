"""Journaling: what happens in runs, written on the scheduler as it happens.

Records are gathered for COMMIT seconds and written by a thread, so that the event loop
waits for no disk. It touches the scheduler's internals; the seam here:

* ``Scheduler.handlers`` takes our RPC.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from distributed import Scheduler

from handout_dask.errors import HandoutError
from handout_dask.journal import CRASHED, ENDED, HEADER, to_line
from handout_dask.runtime.durables import Store
from handout_dask.runtime.places import Place
from handout_dask.runtime.records import LiveRun

logger = logging.getLogger(__name__)

COMMIT = 0.1  # s of records that are written at once, and lost if the scheduler dies
AGAIN = 1.0  # s between two tries to write what could not be written
LAST = 3  # tries, of a run that is over
LOG = "log"
LONGEST = 2000  # characters of an error that are kept


class Log:
    """One session of one run: its records on their way to a file.

    Parameters
    ----------
    folder : Place
        Where files of logs are.
    session : str
        Names the files; those of a later session sort behind.
    names : list of str
        Of each function's result.
    """

    def __init__(self, folder: Place, session: str, names: list[str]) -> None:
        self.names = names
        self.records: list[Any] = []  # appended to by the event loop
        self.is_over = False
        self.not_before = 0.0  # by the thread's count of seconds
        self.tries = 0
        self._folder, self._session = folder, session
        self._count = 0
        self._descriptor: int | None = None

    def write(self) -> None:
        """Write what was gathered; it stays if that fails.

        On this host's file systems it is added to a file. Elsewhere, where files can't
        grow, each time makes one.
        """
        count = len(self.records)
        if not count:
            return
        data = to_line(self.records[:count])
        if self._folder.is_local:
            try:
                self._add(data)
            except BaseException:  # it may be torn, so what comes next goes elsewhere
                self.close()
                raise
        else:
            self._next().write(HEADER, data)
        del self.records[:count]

    def _next(self) -> Place:
        self._count += 1
        return self._folder / f"{self._session}-{self._count:08d}"

    def _add(self, data: bytes) -> None:
        if self._descriptor is None:
            path = self._next().path
            os.makedirs(os.path.dirname(path), exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
            self._descriptor = os.open(path, flags | getattr(os, "O_CLOEXEC", 0), 0o666)
            data = HEADER + data
        left = memoryview(data)
        while left:
            left = left[os.write(self._descriptor, left) :]
        getattr(os, "fdatasync", os.fsync)(self._descriptor)

    def close(self) -> None:
        """Let the file go."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with suppress(OSError):
                os.close(descriptor)


class Journals:
    """The logs of live runs.

    Parameters
    ----------
    scheduler : distributed.Scheduler
        Whose RPC it is.
    runs : dict
        Live runs by token.
    drop : callable
        ``drop(token)``: close the books of a run that is over, but not released.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        runs: Mapping[str, LiveRun],
        drop: Callable[[str], None],
    ) -> None:
        self._scheduler, self._runs, self._drop = scheduler, runs, drop
        self._logs: dict[str, Log] = {}
        self._over: list[Log] = []
        self._news = threading.Event()
        self._end = threading.Event()
        self._lock = threading.Lock()  # of the two collections
        self._thread: threading.Thread | None = None
        scheduler.handlers["handout_journal"] = self.rpc_journal

    async def rpc_journal(
        self, url: str, run: str, proof: str, names: list[str]
    ) -> None:
        """A run that has a journal is about to be submitted.

        Raises
        ------
        HandoutError
            If the scheduler can't write there, or the run goes on here.
        """
        live = self._runs.get(run)
        if live is not None and live.book.left:
            raise HandoutError(
                f"run {run!r} goes on on this cluster: there is nothing to resume. "
                "Attach it if it is detached; else cancel it first"
            )
        if live is not None:
            self._drop(run)
        who = f"the scheduler at {self._scheduler.address}"
        store = Store(url, run, None, proof)
        loop = asyncio.get_running_loop()
        log = await loop.run_in_executor(None, _open, store, who, list(names))
        with self._lock:
            self._logs[run] = log
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._serve, name="handout-journal", daemon=True
            )
            self._thread.start()

    # ---------------------------------------------------------- in the event loop
    def note(self, run: LiveRun, i: int) -> None:
        """Function i ended, as the last record of its run says."""
        log = self._logs.get(run.spec.token)
        if log is None:
            return
        about, text = run.last(), None
        _, outcome, node, start, end, attempt, nbytes, fault, *_ = about
        if fault is not None:
            text = str(fault[2])[:LONGEST]
        log.records.append(
            (ENDED, log.names[i], outcome, node, start, end, attempt, nbytes, text)
        )
        self._news.set()

    def set_back(self, token: str, i: int, crashes: int, alone: bool) -> None:
        """Function i is tried again; how often it has crashed, and whether alone."""
        log = self._logs.get(token)
        if log is not None and (crashes or alone):
            log.records.append((CRASHED, log.names[i], crashes, alone))
            self._news.set()

    def over(self, token: str) -> None:
        """A run is dropped."""
        with self._lock:
            log = self._logs.pop(token, None)
            if log is not None:
                log.is_over = True
                self._over.append(log)
        self._news.set()

    def stop(self) -> None:
        """Write what is left; take the RPC away."""
        self._scheduler.handlers.pop("handout_journal", None)
        for token in list(self._logs):
            self.over(token)
        self._end.set()
        self._news.set()
        if self._thread is not None:
            self._thread.join(AGAIN)

    # --------------------------------------------------------------- in the thread
    def _serve(self) -> None:
        ended, now = False, 0.0
        while not ended:
            self._news.wait()
            self._news.clear()
            ended = self._end.wait(COMMIT)
            now += COMMIT
            with self._lock:
                logs = [*self._logs.values(), *self._over]
            left = [self._write(log, now) for log in logs]
            if any(left) and not ended:
                self._news.set()  # to try again

    def _write(self, log: Log, now: float) -> bool:
        """Write what a run has gathered; whether something is left."""
        if now < log.not_before:
            return True
        try:
            log.write()
        except Exception as error:
            log.tries += 1
            log.not_before = now + AGAIN
            if log.tries == 1:
                logger.error("The journal of a run can't be written: %s", error)
            if not (log.is_over and log.tries >= LAST):
                return True
        if log.is_over:
            log.close()
            with self._lock:
                self._over.remove(log)
        return False


def _open(store: Store, who: str, names: list[str]) -> Log:
    """A new session's log, where it can be written."""
    store.check(who)
    folder = Place("journal", store.url) / LOG
    before = {name.partition("-")[0] for name in folder.names()}
    session = f"{len(before):04d}-{secrets.token_hex(4)}"
    log = Log(folder, session, names)
    log.records.append(("session", session))
    log.write()
    log.close()
    return log

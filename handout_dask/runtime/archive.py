"""Archive: when an executor's history is read from its store, and saved there.

Read once, before the first plan; saved some time after runs ended, and in the end.
"""

from __future__ import annotations

import asyncio
import warnings
from time import perf_counter
from typing import Any

from handout_dask.errors import HandoutError
from handout_dask.histories import merge, put_before
from handout_dask.history import History
from handout_dask.runtime.store import HistoryStore

LEAST_PAUSE = 1.0  # s between two saves
PAUSE = 30.0  # times as long as saving took it is not done again


class Archive:
    """Keeps a history in a store; all methods are called in one event loop.

    Parameters
    ----------
    where : None, str, path or History
        The store; None or a History are kept nowhere.

    Attributes
    ----------
    history : History
        That which is given, or a new one.
    """

    def __init__(self, where: Any) -> None:
        self.history = where if isinstance(where, History) else History()
        self._store: HistoryStore | None = None
        if where is not None and not isinstance(where, History):
            self._store = HistoryStore(where)
            self.history.keep_apart()
        self._is_loaded = False
        self._is_empty = True  # nothing was observed since it was saved
        self._due: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._not_before = 0.0  # by the loop's clock
        self._turn = asyncio.Lock()

    async def load(self) -> None:
        """Know what the store has.

        Raises
        ------
        HandoutError
            If that can't be read, or is no history.
        """
        if self._store is None or self._is_loaded:
            return
        async with self._turn:
            if not self._is_loaded:
                put_before(self.history, await _beside(self._store.load))
                self._is_loaded = True

    def save_soon(self) -> None:
        """Save what was observed, beside what goes on, but not too often."""
        if self._store is None:
            return
        self._is_empty = False
        if self._due is None:
            loop = asyncio.get_running_loop()
            self._due = loop.call_at(max(self._not_before, loop.time()), self._begin)

    def _begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self.save())

    async def save(self) -> None:
        """Save what was observed since the last time; a warning says what failed."""
        async with self._turn:
            if self._due is not None:
                self._due.cancel()
                self._due = None
            if self._store is None or self._is_empty:
                return
            store, fresh = self._store, self.history.keep_apart()
            assert fresh is not None
            self._is_empty = True
            begin = perf_counter()
            try:
                await _beside(store.add, fresh)
            except HandoutError as error:
                later = self.history.fresh
                assert later is not None
                merge(fresh, later)
                self.history.fresh, self._is_empty = fresh, False
                warnings.warn(f"What was learned is not saved: {error}", stacklevel=2)
            pause = max(LEAST_PAUSE, PAUSE * (perf_counter() - begin))
            self._not_before = asyncio.get_running_loop().time() + pause


async def _beside(work: Any, *args: Any) -> Any:
    """Do IO beside the event loop."""
    return await asyncio.get_running_loop().run_in_executor(None, work, *args)

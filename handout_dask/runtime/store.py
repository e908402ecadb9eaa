"""Store: a history kept in a file, or at any URL that fsspec knows, by several at once.

A file that is no history is refused and never written to.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from handout_dask.errors import HandoutError
from handout_dask.histories import merge
from handout_dask.history import History
from handout_dask.historydoc import Document, from_bytes, to_bytes
from handout_dask.runtime.places import Place

PATIENCE, PAUSE = 10.0, 0.01  # s: for how long to try to lock, and between two tries

_turn = threading.Lock()  # of all stores of this process


class HistoryStore:
    """One history, which others may save to as well.

    On this host's file systems it is locked while it is read, merged and replaced by a
    file that was written aside. Elsewhere it is written whole, as object stores do;
    if another writer undoes that, it is seen and mended at the next save.

    Parameters
    ----------
    where : str or path
        A path, or a URL such as "s3://bucket/history.json".
    """

    def __init__(self, where: Any) -> None:
        self._place = Place("history", where)
        self.url, self.path = self._place.url, self._place.path
        self._is_local = self._place.is_local
        there = self._is_local and os.path.exists(self.path)
        if there and not os.path.isfile(self.path):  # a device, a folder, a pipe
            raise HandoutError(
                f"history={where!r} is no regular file. Give a file or a URL, or None "
                "to keep nothing."
            )
        self._writer = uuid.uuid4().hex[:12]
        self._saves = 0
        self._last: bytes | None = None  # what was saved last, in case it gets lost

    def load(self) -> History:
        """What is there; nothing if there is no such file yet.

        Raises
        ------
        HandoutError
            If it can't be read, or is no history.
        """
        return self._parsed(self._read()).history

    def add(self, fresh: History) -> None:
        """Save what was observed since the last time, after what others saved.

        Raises
        ------
        HandoutError
            If there is something else by now, or it can't be written.
        """
        with _turn, self._locked():
            document = self._parsed(self._read())
            if self._last is not None and (
                document.saves.get(self._writer, 0) < self._saves
            ):  # who read before that save has written after it
                merge(document.history, from_bytes(self._last).history)
            merge(document.history, fresh)
            document.saved_by(self._writer)
            kept = to_bytes(Document(fresh))
            self._place.write(to_bytes(document))
            self._saves, self._last = document.saves[self._writer], kept

    def _parsed(self, data: bytes) -> Document:
        try:
            return from_bytes(data)
        except HandoutError as error:
            raise HandoutError(
                f"history {self.url!r} {error}. Give another place, or move it away."
            ) from None

    def _read(self) -> bytes:
        return self._place.read() or b""

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes of this host away."""
        lock = _file_lock() if self._is_local else None
        try:
            if self._is_local:
                os.makedirs(os.path.dirname(self.path), exist_ok=True)
            descriptor = None if lock is None else _open_locked(self.path, lock)
        except OSError as error:
            raise self._place.failed("written", error) from error
        try:
            yield
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def __repr__(self) -> str:
        return f"<HistoryStore {self.url}>"


def _file_lock() -> Callable[[int], None] | None:
    """Locks an open file, and waits for that; None where there is no such thing."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None

    def lock(descriptor: int) -> None:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > until:
                    raise TimeoutError("another process does not unlock it") from None
                time.sleep(PAUSE)

    return lock


def _open_locked(path: str, lock: Callable[[int], None]) -> int:
    """Open a file and lock it, the one that bears the name once it is locked."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            lock(descriptor)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # it was replaced in between

"""Spilling: lets a worker bear a disk that is full, and tells how full it is.

Touches the internals of Dask's spilling; the seams here:

* ``Worker.data`` is a ``SpillBuffer`` whose ``_slow_uncached.d`` is an ``AnyKeyFile``;
  both get classes of ours that differ in what happens when writing fails.
* ``zict.File._safe_key`` names the file that is written next.
* ``Worker.memory_manager`` knows the limit, and from where on the worker pauses;
  ``Worker.state.nbytes`` is the size of what it holds, in memory or on disk.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
from contextlib import suppress
from time import monotonic
from typing import Any

from distributed import Worker
from distributed.spill import AnyKeyFile, SpillBuffer

MB = 1e6
AGAIN = 1.0  # s until it is tried again to write to a disk that was full


class _File(AnyKeyFile):
    """Leaves nothing behind when it can't write; counts how often.

    zict's own leaves what it wrote until then, under a name of its own each time, so
    that a disk that was full once stays full (3.0.0).
    """

    failures: int
    failed_at: float
    made: Any  # a threading.local with the name of what is written last

    def _safe_key(self, key: Any) -> str:
        self.made.name = super()._safe_key(key)
        return str(self.made.name)

    def __setitem__(self, key: Any, value: Any) -> None:
        parts = value if isinstance(value, list | tuple) else [value]
        size = sum(memoryview(part).nbytes for part in parts)
        try:
            if shutil.disk_usage(self.directory).free < size:
                raise OSError(
                    errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.directory)
                )
            super().__setitem__(key, value)
        except OSError:
            self.failures, self.failed_at = self.failures + 1, monotonic()
            name = getattr(self.made, "name", None)
            if name is not None and name not in self.filenames.values():
                with suppress(OSError):
                    os.remove(os.path.join(self.directory, name))
            raise


class _Buffer(SpillBuffer):
    """Gives back what it has, also where making room for it fails.

    Dask's own raises the error of the disk though it has the value at hand (2026.8.0),
    so that a task fails, or a result is lost, that only was to be read. And it tries
    ten times a second.
    """

    def evict(self) -> int:
        """Bring one value to disk; -1 if that fails, or just has failed."""
        failed = self._slow_uncached.d.failed_at
        return -1 if monotonic() - failed < AGAIN else super().evict()

    def __getitem__(self, key: Any) -> object:
        try:
            return super().__getitem__(key)
        except OSError:
            if key not in self.fast:
                raise  # it can't be read
            return self.fast[key]


class Spilling:
    """What a worker keeps on its disk.

    Parameters
    ----------
    worker : distributed.Worker
        Whose data are guarded from now on; until `stop`.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker, self._manager = worker, worker.memory_manager
        self._path = str(worker.local_directory)
        self._file: Any = None
        data = worker.data
        if type(data) in (SpillBuffer, _Buffer):  # that is, no kind of somebody else's
            file: Any = data._slow_uncached.d
            if type(file) in (AnyKeyFile, _File):
                self._file = file
                file.failures, file.failed_at = 0, 0.0
                file.made = threading.local()
                file.__class__, data.__class__ = _File, _Buffer

    def stop(self) -> None:
        """Leave the worker as it was found."""
        if self._file is not None:
            self._file.__class__ = AnyKeyFile
            self._worker.data.__class__ = SpillBuffer

    def told(self) -> dict[str, Any] | None:
        """Limit and use of memory and disk, as `fullness.Fill`; None if unknown."""
        data = self._worker.data
        spilled = 0.0
        if isinstance(data, SpillBuffer):
            spilled = data.spilled_total.disk / MB
        try:
            usage, device = shutil.disk_usage(self._path), os.stat(self._path).st_dev
        except OSError:
            return None
        return {
            "limit": (self._manager.memory_limit or 0) / MB,
            "used": self._worker.monitor.get_process_memory() / MB,
            "pause": float(self._manager.memory_pause_fraction or 0.0),
            "managed": self._worker.state.nbytes / MB,
            "path": self._path,
            "device": str(device),
            "free": usage.free / MB,
            "total": usage.total / MB,
            "spilled": spilled,
            "failures": 0 if self._file is None else self._file.failures,
        }

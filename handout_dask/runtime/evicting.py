"""Evicting: results on a worker's GPU go to its host where a function needs their room.

Touches the internals of Dask's spilling; the seams here:

* ``Worker.data`` may be a ``SpillBuffer`` whose ``fast``, an LRU of zict's, has keys in
  ``order``, the oldest first, and their values in ``d`` (2026.8.0). Dask counts arrays
  on a device as if they lay in the host's memory, so nothing is counted anew.
* ``Worker.state.executing`` are the tasks whose inputs are being read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from distributed import Worker

from handout_dask.runtime import devices
from handout_dask.runtime.arrays import device_bytes, parked

PATIENCE = 60.0  # s that a function waits for the worker's event loop


class Evicting:
    """Makes room on the device of a worker, until `stop`.

    Parameters
    ----------
    worker : distributed.Worker
        Whose results are moved; they come back to the device when they are read there.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        devices.makers_of_room.append(self.make_room)

    def stop(self) -> None:
        """Make no more room."""
        devices.makers_of_room.remove(self.make_room)

    def make_room(self, missing: float) -> None:
        """Move results that no function reads now, the oldest first.

        Called, and copied, in the thread of the function that waits for the bytes.
        """
        for key in self._do(self._candidates()):
            value = self._do(self._value(key))
            size = device_bytes(value)
            if size:
                self._do(self._replace(key, value, parked(value)))
                missing -= size
            del value
            if missing <= 0:
                return

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        loop = self._worker.loop.asyncio_loop
        return asyncio.run_coroutine_threadsafe(work, loop).result(PATIENCE)

    async def _candidates(self) -> list[Any]:
        data: Any = self._worker.data
        executing = self._worker.state.executing
        read = {task.key for reader in executing for task in reader.dependencies}
        keys = data.fast.order if hasattr(data, "fast") else data
        return [key for key in keys if key not in read]

    async def _value(self, key: Any) -> Any:
        """What is in memory of a result; None if it is gone, or on disk."""
        data: Any = self._worker.data
        return (data.fast.d if hasattr(data, "fast") else data).get(key)

    async def _replace(self, key: Any, value: Any, made: Any) -> None:
        if await self._value(key) is value:
            self._worker.data[key] = made

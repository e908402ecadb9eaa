"""Reaching: what a worker says of its ways to other workers, and of its results.

Part of the probe. The seams on `distributed.Worker` here (2026.8.0):

* ``state.in_flight_workers`` has the keys that it waits for, by where they come from.
* ``data`` are its results.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from time import monotonic
from typing import Any

from distributed import Worker
from distributed.comm import get_address_host_port
from distributed.protocol import serialize
from distributed.utils import offload

REACH, PORTABLE = "handout_reach", "handout_portable"  # RPCs of a worker
LONG = 1.0  # s after which it is told from where something does not come
TRYING = 1.5  # s for a connection to another worker's host
NETWORKS = ("tcp://", "tls://")


class Reaching:
    """Serves a worker, from the beginning to `stop`."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._since: dict[tuple[str, frozenset[Any]], float] = {}
        worker.handlers |= {REACH: self.reach, PORTABLE: self.portable}

    def stop(self) -> None:
        """Leave the worker as it was found."""
        for op in (REACH, PORTABLE):
            self._worker.handlers.pop(op, None)

    def overdue(self) -> list[str]:
        """Addresses from where the same results have been under way for long."""
        now = monotonic()
        under_way = self._worker.state.in_flight_workers.items()
        flights = [(address, frozenset(keys)) for address, keys in under_way]
        self._since = {flight: self._since.get(flight, now) for flight in flights}
        return [f[0] for f, since in self._since.items() if now - since >= LONG]

    async def reach(self, peers: Iterable[str]) -> dict[str, bool]:
        """Whether a connection can be made to the hosts of other workers.

        The system makes it, so a process that is busy or frozen is no reason.
        """
        names = list(peers)
        found = await asyncio.gather(*map(_is_reachable, names))
        return dict(zip(names, found, strict=True))

    async def portable(self, key: Any) -> str:
        """Why a result can't leave this worker; "" if it can, or is not here."""
        found = tuple(key) if isinstance(key, list) else key
        if found not in self._worker.data:
            return ""
        try:
            await offload(_check, self._worker.data[found])
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return ""


def _check(value: Any) -> None:
    serialize(value, on_error="raise")


async def _is_reachable(address: str) -> bool:
    if not address.startswith(NETWORKS):
        return True
    host, port = get_address_host_port(address)
    try:
        connecting = asyncio.open_connection(host, port)
        _, writer = await asyncio.wait_for(connecting, TRYING)
    except (OSError, TimeoutError):
        return False
    writer.transport.abort()
    return True

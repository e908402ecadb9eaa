"""Overview: nodes and runs of a scheduler in a few numbers, for who asks from outside.

The scheduler's side reads the books and changes nothing; the client's also tells nodes
of a scheduler that has no books. Seams on Dask's internals:

* ``Scheduler.handlers`` takes our RPC, and an event of its name says so.
* ``Scheduler._broker`` forgets that event.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from distributed import Client, Scheduler

from handout_dask.dispatch import Dispatcher
from handout_dask.errors import HandoutError
from handout_dask.showing import Summary

OVERVIEW = "handout_overview"


class Overview:
    """Answers the RPC ``handout_overview``.

    Parameters
    ----------
    scheduler : distributed.Scheduler
        Whose RPC it is.
    dispatcher : Dispatcher
        The books.
    runs : callable
        Tells the runs that are known, the latest first.
    is_running : callable
        Whether a node, by name, takes work.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        dispatcher: Dispatcher,
        runs: Callable[[], list[Summary]],
        is_running: Callable[[str], bool],
    ) -> None:
        self._scheduler, self._dispatcher = scheduler, dispatcher
        self._runs, self._is_running = runs, is_running
        scheduler.handlers[OVERVIEW] = self.rpc_overview
        scheduler.log_event(OVERVIEW, "answered")

    def stop(self) -> None:
        """Answer no more."""
        self._scheduler.handlers.pop(OVERVIEW, None)
        self._scheduler._broker.truncate(OVERVIEW)

    async def rpc_overview(self) -> dict[str, Any]:
        """Nodes that are up, and runs; numbers that are not known are None."""
        snapshot = self._dispatcher.tracker.snapshot()
        nodes = [
            {
                "node": name,
                "status": "running" if self._is_running(name) else "paused",
                "running": book.used,
                "slots": _plain(book.slots),
                "resources": {
                    resource: [*map(_plain, three)]
                    for resource, three in snapshot.get(name, {}).items()
                },
            }
            for name, book in self._dispatcher.nodes.items()
            if book.up
        ]
        runs = [
            {name: _plain(value) for name, value in asdict(run).items()}
            for run in self._runs()
        ]
        return {"nodes": nodes, "runs": runs, "managed": True}


def _plain(value: Any) -> Any:
    """A number as JSON has it: None for what is unlimited or unknown."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


class Onlooker:
    """A client that looks at a cluster, and leaves no trace there.

    Parameters
    ----------
    address : str
        Of the scheduler.

    Raises
    ------
    HandoutError
        If there is no scheduler.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        try:
            self._client = Client(address, set_as_default=False, timeout=10)
        except (OSError, TimeoutError, ValueError) as error:
            raise HandoutError(
                f"there is no Dask scheduler at {address!r}: {error or 'no answer'}"
            ) from error

    def __enter__(self) -> Onlooker:
        return self

    def __exit__(self, *what: object) -> None:
        self._client.close()

    def look(self) -> dict[str, Any]:
        """What there is now: ``nodes``, ``runs``, and whether runs are ``managed``.

        Raises
        ------
        HandoutError
            If the scheduler is gone.
        """
        try:
            found: dict[str, Any] = self._client.sync(self._look)
        except (OSError, TimeoutError) as error:
            raise HandoutError(
                f"the Dask scheduler at {self._address!r} is gone: {error}"
            ) from error
        return found

    async def _look(self) -> dict[str, Any]:
        scheduler = self._client.scheduler
        # Asked for what it does not know, a scheduler logs a warning each time.
        if await scheduler.events(topic=OVERVIEW):
            with suppress(AttributeError, ValueError):  # it ended just now
                found: dict[str, Any] = await getattr(scheduler, OVERVIEW)()
                return found
        about = await scheduler.identity(n_workers=-1)
        nodes = [_bare(worker) for worker in about["workers"].values()]
        return {"nodes": nodes, "runs": [], "managed": False}


def _bare(worker: dict[str, Any]) -> dict[str, Any]:
    """A worker as Dask tells of it, as a node."""
    metrics = worker.get("metrics") or {}
    cores, busy = worker.get("nthreads"), metrics.get("cpu")
    limit, used = worker.get("memory_limit"), metrics.get("memory")
    return {
        "node": str(worker.get("name")),
        "status": str(worker.get("status", "running")),
        "running": metrics.get("executing", 0),
        "slots": cores,
        "resources": {
            "cpu": [cores, None, None if busy is None else busy / 100],
            "memory": [limit / 1e6 if limit else None, None,
                       None if used is None else used / 1e6],
        },
    }  # fmt: skip

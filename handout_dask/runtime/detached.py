"""Detached: runs that outlive their clients; other executors can get hold of them.

Beside plugin.py it touches the scheduler's internals; the seams here:

* ``Scheduler.client_desires_keys`` for a client that does not exist keeps results.
* ``Scheduler.client_releases_keys`` lets them go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import time
from typing import Any

from distributed import Scheduler

from handout_dask.books import DONE, ENDED, FAILED
from handout_dask.errors import HandoutError
from handout_dask.runtime.records import NAME, LiveRun


class Detached:
    """Keeps the results of detached runs, and hands runs to executors.

    Parameters
    ----------
    scheduler : distributed.Scheduler
        Which keeps the results.
    runs : dict
        Live runs by token; kept by the plugin.
    flush : callable
        ``flush(run)``: send the records of a run that are not yet.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        runs: dict[str, LiveRun],
        flush: Callable[[LiveRun], None],
    ) -> None:
        self._scheduler, self._runs, self._flush = scheduler, runs, flush

    def hold(self, run: LiveRun) -> None:
        """Want the results of a detached run, for nobody yet."""
        if run.keepsake is not None:
            keys = [run.key(i) for i in run.wanted]
            self._scheduler.client_desires_keys(keys=keys, client=_holder(run))

    def clients(self, run: LiveRun, owners: Mapping[str, str]) -> list[str]:
        """Who wants results of a run, and is there; nobody, if it is detached."""
        known = [owners.get(reader, "") for reader in run.readers]
        some = dict.fromkeys([run.cancelled_by, *known, _holder(run)])
        return [client for client in some if client in self._scheduler.clients]

    def release(self, run: LiveRun) -> None:
        """Nobody wants the results of a detached run any more."""
        holder = _holder(run)
        if run.keepsake is not None and holder in self._scheduler.clients:
            keys = [run.key(i) for i in run.wanted]
            self._scheduler.client_releases_keys(keys, holder, f"handout-{time()}")
            self._scheduler.clients.pop(holder, None)

    async def rpc_attach(self, token: str, owner: str) -> dict[str, Any]:
        """An executor gets the records of a detached run too, from now on."""
        run = self._runs.get(token)
        if run is None or run.keepsake is None:
            known = [t for t, r in self._runs.items() if r.keepsake is not None]
            raise HandoutError(
                f"the scheduler knows no detached run {token!r}; it knows "
                f"{', '.join(known) or 'none'}"
            )
        self._flush(run)  # to those before
        run.owner = owner
        if owner not in run.readers:
            run.readers.append(owner)
        return {
            "keepsake": run.keepsake,
            "keys": [(i, run.key(i)) for i in run.wanted],
            "begun": run.begun,
            "switched": [*run.book.switched.items()],
            "records": run.log,
            "replans": run.replans_log,
        }

    async def rpc_runs(self) -> list[dict[str, Any]]:
        """What runs there are."""
        return [
            {
                "token": run.spec.token,
                "detached": run.keepsake is not None,
                "done": run.book.state.count(DONE),
                "failed": run.book.state.count(FAILED),
                "ended": sum(map(run.book.state.count, ENDED)),
                "total": len(run.book.state),
            }
            for run in self._runs.values()
        ]


def _holder(run: LiveRun) -> str:
    return f"{NAME}-detached-{run.spec.token}"

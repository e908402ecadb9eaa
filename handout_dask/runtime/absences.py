"""Absences: a Dask cluster takes a worker for lost only if it stays away.

Knows no runs and no scheduler. Dask's SpecCluster (LocalCluster, and what is made of
it) looks once, some time after a worker was lost, whether one of its name is there. If
that one, too, has died meanwhile and its nanny starts another just then, the cluster
ends the nanny, and the slot is gone for good: so it goes where a function ends its
workers again and again. Here none of its name must have come in all that time. The
seams on the cluster (2026.8.0):

* ``_update_worker_status`` hears of workers that come and go; Dask looks it up on the
  cluster itself, so that ours can stand there.
* ``workers`` has the nannies by name, ``scheduler_info`` the workers by address;
  ``_futures`` is awaited in the end.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from threading import Lock
from typing import Any, Self

import dask
from dask.utils import parse_timedelta
from distributed import SpecCluster
from distributed.deploy.cluster import Cluster

HEARS = "_update_worker_status"
PATIENCE = "distributed.deploy.lost-worker-timeout"  # Dask's key; Dask's default
_lock = Lock()  # executors open and close in any thread


class Absences:
    """Watches who comes and goes, in place of the cluster's own method.

    Parameters
    ----------
    cluster : distributed.SpecCluster
        Whose workers they are.
    """

    def __init__(self, cluster: SpecCluster) -> None:
        self._cluster = cluster
        self._came: Counter[Any] = Counter()  # how often, by name
        self._users = 0

    @classmethod
    def of(cls, cluster: Any) -> Self | None:
        """Begin to watch a cluster, or join who does; None if that is not for us."""
        if not isinstance(cluster, SpecCluster):
            return None
        with _lock:
            hears = getattr(cluster, HEARS)
            found = getattr(hears, "__self__", None)
            if not isinstance(found, cls):
                if getattr(hears, "__func__", None) is not getattr(SpecCluster, HEARS):
                    return None  # it knows better
                found = cls(cluster)
                setattr(cluster, HEARS, found.hear)
            found._users += 1
            return found

    def leave(self) -> None:
        """Watch no more; the last one who does leaves the cluster as it was."""
        with _lock:
            self._users -= 1
            if not self._users:
                vars(self._cluster).pop(HEARS, None)

    def hear(self, op: str, msg: Any) -> None:
        """A worker has come ("add", by address), or is gone ("remove", its address)."""
        cluster: Any = self._cluster
        name = None
        if op == "add":
            self._came.update(worker["name"] for worker in msg["workers"].values())
        elif op == "remove":
            name = cluster.scheduler_info["workers"][msg]["name"]
        Cluster._update_worker_status(cluster, op, msg)
        if op == "remove":
            seconds = parse_timedelta(dask.config.get(PATIENCE))
            loop = asyncio.get_running_loop()
            loop.call_later(seconds, self._look, name, self._came[name])

    def _look(self, name: Any, came: int) -> None:
        """End the nanny of a worker of whose name none has come since."""
        cluster = self._cluster
        names = [x["name"] for x in cluster.scheduler_info["workers"].values()]
        is_lost = self._came[name] == came and name not in names
        if is_lost and name in cluster.workers:
            closing = cluster.workers.pop(name).close()
            cluster._futures.add(asyncio.ensure_future(closing))

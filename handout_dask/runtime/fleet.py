"""Fleet: starts nodes of a cluster by name, and puts them away; the client's side.

Does what the scheduler's Keeper says; decides nothing. Of a cluster it uses what Dask's
SpecCluster has: ``worker_spec``, ``workers`` and ``_correct_state`` (2026.8.0).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Mapping
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

from distributed import Client
from distributed.core import Status
from distributed.protocol import pickle
from distributed.worker_memory import parse_memory_limit

from handout_dask.errors import HandoutError
from handout_dask.node import Cluster
from handout_dask.runtime.nodes import WorkerInfo, node_of
from handout_dask.scaling import Elastic

logger = logging.getLogger(__name__)

POLL = 0.2  # s between questions what to start and to put away
FAILED = (Status.failed, Status.closing, Status.closed)
_SPECS: WeakKeyDictionary[Any, dict[Any, Any]] = WeakKeyDictionary()
NEEDED = ("worker_spec", "workers", "_correct_state", "loop")


class Fleet:
    """The nodes of a cluster that start and end by plan.

    Parameters
    ----------
    cluster : distributed.SpecCluster
        Whose nodes they are.
    declared : Cluster
        What they are.
    elastic : Elastic
        How they start and end.
    specs : mapping, optional
        How to start each, by name; default: as the cluster has them.
    given : bool
        Whether the cluster is the user's, to be left as it was found.

    """

    def __init__(
        self,
        cluster: Any,
        declared: Cluster,
        elastic: Elastic,
        specs: Mapping[Any, Any] | None = None,
        *,
        given: bool = True,
    ) -> None:
        found = _specs_of(cluster) if specs is None else specs
        self._specs = {
            str(key): (key, spec)
            for key, spec in found.items()
            if str(key) in declared.index
        }
        self.cluster, self._declared, self._elastic = cluster, declared, elastic
        self._given = given
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._failed: dict[str, str] = {}
        self._task: asyncio.Task[None] | None = None

    # ------------------------------------------------------------- beginning, end
    async def begin(self, client: Client, owner: str) -> None:
        """Tell the scheduler which nodes these are, and follow what it says."""
        await client.scheduler.handout_elastic(
            owner=owner,
            cluster=pickle.dumps(self._as_workers()),
            elastic=pickle.dumps(self._elastic),
        )
        self._task = asyncio.create_task(self._follow(client, owner))

    async def end(self) -> None:
        """Follow no more; a cluster that was given gets its nodes back."""
        for task in [self._task, *self._busy.values()]:
            if task is not None:
                task.cancel()
        self._task = None
        if self._given and self.cluster.status is Status.running:
            for key, spec in self._specs.values():
                self.cluster.worker_spec.setdefault(key, spec)
            with suppress(Exception):
                await self._correct()

    def _as_workers(self) -> Cluster:
        """The declared nodes as their workers will say that they are."""
        known = self._declared
        nodes = []
        for node in known.nodes:
            options = self._specs[node.name][1].get("options", {})
            threads = int(options.get("nthreads") or node.slots or 1)
            limit = parse_memory_limit(
                options.get("memory_limit"), threads, logger=logger
            )
            resources = options.get("resources") or {}
            nodes.append(
                node_of(WorkerInfo(node.name, threads, limit, resources), node)
            )
        return Cluster(
            nodes, known.bandwidth, known.latency,
            billing=known.billing, quantum=known.quantum,
        )  # fmt: skip

    # ------------------------------------------------------------------ following
    async def _follow(self, client: Client, owner: str) -> None:
        while client.status in ("running", "connecting"):
            failed, self._failed = self._failed, {}
            there = {name for name in self._specs if self._has(self._key(name))}
            try:
                orders = await client.scheduler.handout_hold(
                    owner=owner, specified=sorted({*there, *self._busy}), failed=failed
                )
            except Exception:  # the scheduler is busy, or going
                self._failed = {**failed, **self._failed}
            else:
                idle = [name for name in self._specs if name not in self._busy]
                free = [n for n in idle if n in orders["start"] and not self._runs(n)]
                self._work(free, self._start(free))
                free = [n for n in orders["away"] if n in there and n in idle]
                self._work(free, self._put_away(free))
            await asyncio.sleep(POLL)

    def _has(self, key: Any) -> bool:
        return key in self.cluster.worker_spec or key in self.cluster.workers

    def _work(self, names: Iterable[str], work: Coroutine[Any, Any, None]) -> None:
        """Begin to start or to put away nodes; they are busy as long as it takes."""
        names = list(names)
        if not names:
            work.close()
            return
        task = asyncio.create_task(work)
        self._busy.update(dict.fromkeys(names, task))
        task.add_done_callback(lambda _: [self._busy.pop(n, None) for n in names])

    async def _start(self, names: list[str]) -> None:
        await self._put_away([n for n in names if self._key(n) in self.cluster.workers])
        self.cluster.worker_spec.update(self._specs[name] for name in names)
        why = ""
        try:
            await self._correct()
        except Exception as error:
            first: BaseException = error
            while first.__cause__ is not None:  # Dask says only that it failed
                first = first.__cause__
            why = f"{type(first).__name__}: {first}"
        bad = [name for name in names if why and not self._runs(name)]
        await self._put_away(bad)
        if len(bad) == 1 == len(names):
            self._failed[bad[0]] = f"it can't be started: {why}"
        else:  # whose error it was is not told, so each is tried alone
            for name in bad:
                await self._start([name])

    async def _put_away(self, names: list[str]) -> None:
        for name in names:
            self.cluster.worker_spec.pop(self._key(name), None)
        if names:
            with suppress(Exception):
                await self._correct()

    def _key(self, name: str) -> Any:
        """The name of a node as the cluster has it, such as a number."""
        return self._specs[name][0]

    def _runs(self, name: str) -> bool:
        """Whether the cluster runs a node, or is about to; not if that failed."""
        worker = self.cluster.workers.get(self._key(name))
        return worker is not None and getattr(worker, "status", None) not in FAILED

    async def _correct(self) -> None:
        """Let the cluster start and end what its specification says."""

        async def correct() -> None:
            await asyncio.shield(self.cluster._correct_state())

        await run_in(self.cluster.loop, correct())


async def run_in(loop: Any, work: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine gives, in the event loop of tornado's where it belongs."""
    own = loop.asyncio_loop
    if own is asyncio.get_running_loop():
        return await work
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, own))


def _specs_of(cluster: Any) -> dict[Any, Any]:
    """How a cluster starts its workers, with those that another executor has ended."""
    found = _SPECS.setdefault(cluster, {})
    found.update(cluster.worker_spec)
    return found


def check_elastic(cluster: Any, declared: Cluster | None) -> None:
    """Refuse a cluster that can't start and end the declared nodes by name.

    Parameters
    ----------
    cluster : Dask cluster, address, Client or None
        As an executor is given it; None will be embedded.
    declared : Cluster or None
        The nodes.
    """
    if declared is None:
        raise HandoutError(
            "elastic needs nodes: declare those that may be started and ended"
        )
    if isinstance(cluster, Client):
        cluster = cluster.cluster
        if cluster is None:
            cluster = "a Client that knows no cluster object"
    elif cluster is None:
        return
    if not all(hasattr(cluster, what) for what in NEEDED):
        raise HandoutError(
            f"elastic needs a cluster that starts workers by name, such as Dask's "
            f"SpecCluster, not {cluster!r}; give the cluster object, or leave it out"
        )
    spec = {str(key): value for key, value in _specs_of(cluster).items()}
    unknown = [name for name in declared.index if name not in spec]
    if unknown:
        raise HandoutError(
            f"elastic: the cluster can't start node {unknown[0]!r}; its worker_spec "
            f"has {', '.join([*spec][:5]) or 'nothing'}: name nodes as it does"
        )
    several = [name for name in declared.index if "group" in spec[name]]
    if several:
        raise HandoutError(
            f"elastic: {several[0]!r} of the cluster's worker_spec starts several "
            "workers, so it can't be held as one node"
        )

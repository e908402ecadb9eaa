"""A Dask cluster whose nodes, and scheduler, are started again when they end.

The seams on Dask's SpecCluster are here (2026.8.0): ``worker_spec``, ``workers``,
``scheduler``, ``_lock`` and ``_created``; ``_update_worker_status``, which would end
the nanny of a worker that is away for a while; ``_close``, which has no order.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Callable, Collection, Coroutine, Iterable
from contextlib import suppress
from typing import Any

from distributed import SpecCluster
from distributed.core import Status
from distributed.deploy.cluster import Cluster
from distributed.objects import SchedulerInfo

from handout_dask.errors import SupervisorError
from handout_dask.restarts import (
    ENDED,
    FAILED,
    GIVEN_UP,
    Decision,
    GiveUp,
    Restart,
)
from handout_dask.runtime.elastic import GIVEN_UP as GONE
from handout_dask.runtime.isolated import SCHEDULER, SchedulerProcess
from handout_dask.runtime.janitor import Scratch
from handout_dask.runtime.supervised import ENDING
from handout_dask.runtime.ward import Ward

logger = logging.getLogger(__name__)

AGAIN = 0.2  # s between tries to start what does not start
MOVING = 30.0  # s that results may take to be brought elsewhere from a node that ends
REJOIN = 10.0  # s in which a scheduler that was started again has to answer
HEARING = 1.0  # s in which clients hear what failed, before their scheduler ends
CLEANING, SOON = 3.0, 0.01  # s that the janitor may take; between looks whether it did
TELLING = 1.0  # s for telling it of nodes that were given up
LAST = 1.0  # s more than a node may take to end, until it is left to the janitor


class NodeCluster(SpecCluster):
    """Starts what is specified, and does what its ward decides.

    Parameters
    ----------
    ward : Ward
        Hears of what ends, and decides.
    scratch : Scratch
        Of this process; ends with the cluster.
    declared : collection of str
        The nodes that there can be, started or not.
    **kwargs
        As of SpecCluster.

    Attributes
    ----------
    error : SupervisorError or None
        Why everything was given up.
    asked : list of str
        The children in the order in which they were asked to end.
    """

    scheduler: Any

    def __init__(
        self, ward: Ward, scratch: Scratch, declared: Collection[str], **kwargs: Any
    ) -> None:
        self.ward, self._scratch, self._declared = ward, scratch, declared
        self._ends = False
        self.error: SupervisorError | None = None
        self.asked: list[str] = []
        self._works: set[asyncio.Task[Any]] = set()
        me = weakref.ref(self)
        ward.enact = lambda decision: _enact(me, decision)
        try:
            super().__init__(**kwargs)
        except BaseException:
            scratch.close()
            raise

    @property
    def folder(self) -> str:
        """Where the nodes of this process write."""
        return self._scratch.path

    # ------------------------------------------------------------------- starting
    async def _start(self) -> None:
        await super()._start()
        if isinstance(self.scheduler, SchedulerProcess):
            self.ward.is_up(SCHEDULER)

    async def _correct_state_internal(self) -> None:
        try:
            await super()._correct_state_internal()
        finally:
            for key in self.worker_spec:
                worker = self.workers.get(key)
                if worker is not None and worker.status is Status.running:
                    self.ward.is_up(str(key))

    async def open(self, key: Any) -> None:
        """Start one node that is specified, as SpecCluster would; others don't wait."""
        async with self._lock:
            if key in self.workers or key not in self.worker_spec:
                return
            spec = self.worker_spec[key]
            options = {"name": key, **spec.get("options", {})}
            worker = spec["cls"](self.scheduler.address, **options)
            self._created.add(worker)
            self.workers[key] = worker
            worker._cluster = weakref.ref(self)
        try:
            await worker
        except BaseException:
            if self.workers.get(key) is worker:
                del self.workers[key]
            with suppress(Exception):
                await worker.close()
            raise
        self.ward.is_up(str(key))

    def _update_worker_status(self, op: str, msg: Any) -> None:
        # SpecCluster's own ends the nanny of a worker that is away some time after a
        # loss, though the nanny may be starting it just then (2026.8.0).
        if op == "remove":
            Cluster._update_worker_status(self, op, msg)
        else:
            super()._update_worker_status(op, msg)

    async def retire(self, name: str) -> None:
        """End a node that is no longer specified; its results are brought elsewhere."""
        key = self._key(name)
        worker = self.workers.get(key)
        if worker is None:
            return
        with suppress(Exception):
            await asyncio.wait_for(
                self.scheduler_comm.retire_workers(names=[key]), MOVING
            )
        if self.workers.get(key) is worker:
            del self.workers[key]
        await _end(worker)

    # ------------------------------------------------------------------- enacting
    def enact(self, decision: Decision) -> None:
        """Do what was decided about a node that has ended."""
        if self.status is not Status.running or self._ends:
            return
        if isinstance(decision, GiveUp):
            self._work(self._give_up(decision))
        elif isinstance(decision, Restart) and decision.name == SCHEDULER:
            self._work(self._restart_scheduler())
        elif isinstance(decision, Restart):
            self._work(self._restart(self._key(decision.name)))

    def _work(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._works.add(task)
        task.add_done_callback(self._works.discard)

    def _key(self, name: str) -> Any:
        """A node's name as the cluster has it, such as a number."""
        known = {str(key): key for key in [*self.worker_spec, *self.workers]}
        return known.get(name, name)

    async def _restart(self, key: Any) -> None:
        """Start a node again that has ended; if that fails, it has ended again."""
        old = self.workers.pop(key, None)
        if old is not None:
            with suppress(Exception):
                await old.finished()
        if key not in self.worker_spec or self.status is not Status.running:
            return  # it was put away on purpose
        try:
            await self.open(key)
        except Exception as error:
            await asyncio.sleep(AGAIN)
            if self.status is Status.running:
                self.ward.node_ended(str(key), FAILED, None, None, _first(error))

    async def _restart_scheduler(self) -> None:
        """Start the scheduler again where it was; its workers look for it there."""
        old = self.scheduler
        port = old.address.rpartition(":")[2]
        spec = self.scheduler_spec
        options = {**spec["options"], "port": int(port)}
        if old.dashboard:
            bind = str(options["dashboard_address"]).rpartition(":")[0]
            options["dashboard_address"] = f"{bind}:{old.dashboard}"
        try:
            self.scheduler = spec["cls"](**options)
            self.scheduler.address, self.scheduler.dashboard = (
                old.address,
                old.dashboard,
            )
            await self.scheduler
            await asyncio.wait_for(self._rejoin(), REJOIN)
        except Exception as error:
            await asyncio.sleep(AGAIN)
            if self.status is Status.running:
                self.ward.node_ended(SCHEDULER, FAILED, None, None, _first(error))
            return
        self.ward.is_up(SCHEDULER)

    async def _rejoin(self) -> None:
        """Hear of the workers of the scheduler, which is another process now."""
        comm = await self.scheduler_comm.live_comm()
        comm.name = "Cluster worker status"
        await comm.write({"op": "subscribe_worker_status"})
        self.scheduler_info = SchedulerInfo(await comm.read())
        self._watch_worker_status_comm = comm
        self._watch_worker_status_task = asyncio.ensure_future(
            self._watch_worker_status(comm)
        )

    # ------------------------------------------------------------------ giving up
    async def _give_up(self, decision: GiveUp) -> None:
        """Go on without a node, or end if none is left."""
        names = [name for name in decision.names if name != SCHEDULER]
        keys = [self._key(name) for name in names]
        for key in keys:
            self.worker_spec.pop(key, None)
        if SCHEDULER in decision.names or not self._is_any_left():
            await self._escalate(names, decision)
            return
        known = [self.workers.pop(key) for key in keys if key in self.workers]
        await asyncio.gather(*map(_end, known))
        await self._tell(names, decision.why)

    def _is_any_left(self) -> bool:
        """Whether a node is there, or may be started."""
        children = self.ward.restarts.children
        over = {n for n, child in children.items() if child.state in (GIVEN_UP, ENDED)}
        return bool({*map(str, self.worker_spec), *self._declared} - over)

    async def _escalate(self, names: list[str], decision: GiveUp) -> None:
        """End everything, and keep the reason."""
        self.worker_spec.clear()
        what = ", ".join(decision.names[:3])
        more = f" and {len(decision.names) - 3} more" if len(decision.names) > 3 else ""
        self.error = SupervisorError(
            f"all nodes were ended, as {what}{more} can't be kept up: {decision.why}",
            decision.exits,
        )
        logger.error("%s", self.error)
        await self._end_nodes()
        if SCHEDULER not in decision.names:
            await self._tell(names, decision.why)
        if isinstance(self.scheduler, SchedulerProcess):
            await asyncio.sleep(HEARING)
            self.asked.append(SCHEDULER)
            await self.scheduler.close()

    async def _tell(self, names: Iterable[str], why: str) -> None:
        """Let functions that can run nowhere else fail, with the reason."""
        with suppress(Exception):
            await asyncio.wait_for(
                self.scheduler_comm.log_event(
                    topic=GONE, msg={"names": [*names], "why": why}
                ),
                TELLING,
            )

    # -------------------------------------------------------------------- closing
    async def _end_nodes(self) -> None:
        """Ask nodes to end, the last one first; leave to the janitor what does not."""
        ends = []
        order = [*self._declared]  # SpecCluster's own is none
        known = sorted(
            self.workers.items(),
            key=lambda item: order.index(str(item[0])) if str(item[0]) in order else -1,
        )
        for key, worker in reversed(known):
            self.asked.append(str(key))
            ends.append(asyncio.create_task(_end(worker)))
            await asyncio.sleep(0)  # each is asked before the next
        others = [w for w in self._created if w not in self.workers.values()]
        ends += [asyncio.create_task(_end(worker)) for worker in others]
        if ends:
            await asyncio.wait(ends, timeout=2 * ENDING + LAST)
        self.workers.clear()

    async def _close(self) -> None:
        self._ends = True
        if self.status in (Status.running, Status.failed):
            for work in self._works:
                work.cancel()
            if self._works:
                await asyncio.wait(self._works, timeout=ENDING)
            self.worker_spec.clear()
            if hasattr(self, "_lock"):
                await self._end_nodes()
        try:
            if isinstance(self.scheduler, SchedulerProcess):
                self.shutdown_scheduler = False  # by its pipe, as it may be dead
            await super()._close()
            if isinstance(self.scheduler, SchedulerProcess):
                await self.scheduler.close()
        finally:
            self.asked.append(SCHEDULER)
            self._scratch.release()
            for _ in range(int(CLEANING / SOON)):
                if self._scratch.is_done:
                    break
                await asyncio.sleep(SOON)
            self._scratch.close()


async def _end(worker: Any) -> None:
    if worker.status not in (Status.closed, Status.failed):
        with suppress(Exception):
            await worker.close(timeout=ENDING)


def _enact(cluster: Callable[[], NodeCluster | None], decision: Decision) -> None:
    found = cluster()
    if found is not None:
        found.enact(decision)


def _first(error: BaseException) -> str:
    """What was wrong at first; Dask says only that it failed."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {error}"

"""Guarding: gives up workers that are frozen or cut off, and ends their processes.

Decides nothing: `liveness.Detector` does. Beside plugin.py it touches the scheduler's
internals; the seams here:

* ``WorkerState.last_seen`` changes with each heartbeat; ``nanny`` and ``pid`` are whom
  to ask about which process.
* ``WorkerState.metrics`` has what a probe told, from when on a worker has loaded it.
* ``heartbeat_interval(n)`` is how often workers are told to send one: every 0.5 s up to
  10 of them, 1 s below 50, 2 s below 200.
* ``Scheduler.remove_worker`` takes a worker for gone, as when its connection ends.
* ``Scheduler.stream_comms`` has the connection on which it would still be heard.
* ``Scheduler.rpc.connection_args`` are for asking nannies.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from time import monotonic, time
from typing import Any

import dask
from distributed import Scheduler
from distributed.core import connect, send_recv
from distributed.scheduler import heartbeat_interval
from tornado.ioloop import PeriodicCallback

from handout_dask.liveness import Answer, Ask, Detector, Limits, Remove
from handout_dask.runtime.nannying import (
    EXIT,
    GIVEN_UP,
    KILL,
    STATE,
    put_nannying,
    take_nannying,
)
from handout_dask.runtime.parting import Parting
from handout_dask.runtime.records import NAME

logger = logging.getLogger(__name__)

LOOK = 250  # ms between looks
AGAIN = 0.5  # s between tries to reach the nanny of a worker that was given up
ENDING = 1.0  # s that one such try takes at most; a new one is faster than TCP's own
ASKING = 2.0  # s that another question to a worker or nanny takes at most
KEPT = 1000  # addresses of workers that were given up
PERSIST = 3600.0  # s for which it is tried
SILENT = "handout-silent"  # begins the stimulus by which a silent worker is removed
BUSY = "handout.liveness.busy"  # keys in Dask's configuration: see `Limits`
LONE = "handout.liveness.lone"


class Guard:
    """Watches over the workers of a scheduler.

    It does so from the beginning.

    Parameters
    ----------
    host : HandoutPlugin
        Whose scheduler and roster it uses; it is there longer than this.
    """

    def __init__(self, host: Any) -> None:
        self._host = host
        self._scheduler: Scheduler = host.scheduler
        busy, lone = dask.config.get(BUSY, 60), dask.config.get(LONE, 30)
        self._detector = Detector(Limits(busy=float(busy), lone=float(lone)))
        self._seen: dict[str, float] = {}
        self._before = set(self._scheduler.workers)  # those that were there before us
        self._given_up: dict[str, None] = {}  # addresses
        self._scheduler.handlers[GIVEN_UP] = self.rpc_given_up
        self._tasks: set[asyncio.Task[Any]] = set()
        self._put = asyncio.ensure_future(put_nannying(self._scheduler))
        self._parting = Parting(host, self)
        self._timer = PeriodicCallback(self._look, LOOK)
        self._timer.start()

    async def stop(self) -> None:
        """Watch no more, and give the nannies back."""
        self._timer.stop()
        self._scheduler.handlers.pop(GIVEN_UP, None)
        self._parting.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.wait([self._put], timeout=ASKING)
        self._put.cancel()
        await take_nannying(self._scheduler)

    async def rpc_given_up(self, address: str) -> bool:
        """Whether a worker was given up, not told to end."""
        return address in self._given_up

    def _look(self) -> None:
        workers, detector = self._scheduler.workers, self._detector
        put, probed = self._put, self._host.observer.is_loaded
        if self._before and probed and put.done() and put.result():
            self._before.clear()
            detector.loaded()
        for address in self._seen.keys() - workers.keys():
            del self._seen[address]
            detector.forget(address)
        for address, ws in workers.items():
            if self._seen.get(address) != ws.last_seen:
                self._seen[address] = ws.last_seen
                # Its probe tells when all is loaded; who comes later has it before.
                fresh = address in self._before and NAME not in ws.metrics
                detector.heard(address, bool(ws.nanny), fresh)
        now = monotonic()
        for verdict in detector.look(now, heartbeat_interval(len(workers))):
            if isinstance(verdict, Ask):
                self.spawn(self._ask(verdict))
            else:
                detector.forget(verdict.who)
                self.spawn(self._remove(verdict))
        self._parting.look(now)

    async def _ask(self, ask: Ask) -> None:
        """Ask the nanny of a worker for the state of its process."""
        ws = self._scheduler.workers.get(ask.who)
        if ws is None:
            return
        try:
            told = await self.call(ws.nanny, STATE)
        except (OSError, TimeoutError):
            return  # no answer
        told = told or {"alive": True, "frozen": False}  # it has no such RPC, but lives
        answer = Answer(bool(told["alive"]), bool(told["frozen"]))
        self._detector.answered(ask, answer)

    async def _remove(self, verdict: Remove) -> None:
        """Take a worker for gone; then end what is left of it."""
        ws = self._scheduler.workers.get(verdict.who)
        if ws is not None:
            await self.give_up(ws, verdict.why, verdict.hung)

    async def give_up(self, ws: Any, why: str, hung: bool = False) -> None:
        """Take a worker for gone, and let its nanny start another one.

        What it may still say is not listened to any more.
        """
        name, address, nanny, pid = str(ws.name), ws.address, ws.nanny, ws.pid
        logger.warning("Giving up node %s at %s: it %s", name, address, why)
        if hung:  # as if its nanny had told of its end
            told = {"worker": address, "name": name, "pid": pid, "hung": why}
            self._host.recovering.log_event(EXIT, told)
        else:
            self._host.recovering.node_removed(name, f"it {why}")
        self._given_up[address] = None
        if len(self._given_up) > KEPT:
            del self._given_up[next(iter(self._given_up))]
        stream = self._scheduler.stream_comms.get(address)
        await self._scheduler.remove_worker(
            address, stimulus_id=f"{SILENT}-{time()}", expected=not hung, close=False
        )
        if stream is not None:
            stream.abort()
        if name in self._host.roster.down:
            self._host.roster.why[name] = f"it {why}"
        if nanny:
            self.spawn(self._end(nanny, pid, why))

    async def _end(self, nanny: str, pid: int, why: str) -> None:
        """Have a worker process killed, as soon as its nanny can be reached."""
        until = monotonic() + PERSIST
        while monotonic() < until:
            try:
                told = await self.call(nanny, KILL, ENDING, pid=pid, reason=why)
                if told is None:  # it has no such RPC, but Dask's own
                    await self.call(nanny, "kill", timeout=ASKING / 2)
                return
            except (OSError, TimeoutError):
                await asyncio.sleep(AGAIN)

    async def call(
        self, address: str, op: str, limit: float = ASKING, **arguments: Any
    ) -> Any:
        """Call an RPC of a worker or nanny that may be there or not.

        It takes `limit` s at most.

        Raises
        ------
        OSError, TimeoutError
            If it does not answer.
        """

        async def ask() -> Any:
            comm = await connect(
                address, timeout=limit, **self._scheduler.rpc.connection_args
            )
            try:
                return await send_recv(comm, op=op, **arguments)
            finally:
                comm.abort()

        return await asyncio.wait_for(ask(), limit)

    def silence(self, address: str) -> float:
        """For how long [s] nothing was heard of a worker."""
        return self._detector.silence(address)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do something beside, until `stop`."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

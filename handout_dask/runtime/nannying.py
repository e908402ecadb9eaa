"""Nannying: the nanny plugin, on every nanny of a scheduler that serves runs.

Tells how a worker process ended, says in what state it is when the scheduler does not
hear of it, ends it at once when asked, and starts it again after a partition, where
Dask's nanny would give up. The seams on `distributed.Nanny` here (2026.8.0):

* ``_on_worker_exit``, ``instantiate``, ``kill``, ``close``, ``log_event`` and
  ``_unregister`` are replaced on the nanny itself, which looks them up there.
* ``handlers``: ours are added; ``close_gracefully`` and ``kill`` are wrapped.
* ``process`` is the WorkerProcess, its ``process`` the AsyncProcess of the moment.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from time import monotonic
from typing import Any

import dask
import psutil
from distributed import Nanny, Scheduler
from distributed.core import Status
from distributed.diagnostics.plugin import NannyPlugin
from distributed.protocol import pickle

from handout_dask.runtime.lastwords import Kept
from handout_dask.runtime.records import NAME

logger = logging.getLogger(__name__)

EXIT = "handout-exit"  # the topic on which a nanny tells how its worker ended
STATE, KILL = "handout_state", "handout_kill"  # RPCs of a nanny
MEMORY = "worker-restart-memory"  # Dask's topic, before it ends one for its memory
# Why a worker ends that has lost its scheduler, or that its scheduler has given up.
MISSING = "worker-heartbeat-missing"  # it is told that it is not known
LOST = ("worker-handle-scheduler-connection-broken", MISSING)
GIVEN_UP = "handout_given_up"  # RPC of a scheduler: whether it gave up this worker
FAILED = "nanny-instantiate-failed"  # why a nanny closes whose worker did not start
ENDING = 2.0  # s that such a worker has to end by itself; its results are lost anyway
PATIENCE = 300.0  # s without a scheduler, after which a nanny gives up as Dask's does
TELLING = 1.0  # s for telling how a worker ended
AGAIN = 1.0  # s between tries to start a worker that did not start
TRIES = 10
REACH = 2.0  # s that workers and nannies have to take a plugin or give it back
CONNECT = "5s"  # for a worker that seeks its scheduler: after it is healed, soon


class Nannying(NannyPlugin):
    """One for each nanny."""

    name = NAME
    idempotent = False
    restart = False

    def setup(self, nanny: Nanny) -> None:
        """Begin to serve on a nanny; in place of one that a dead scheduler left."""
        before = getattr(nanny.handlers.get(STATE), "__self__", None)
        if before is not None:
            before.teardown(nanny)
        self.nanny = nanny
        self._pid, self._address = 0, ""
        self._memory: list[int] | None = None  # what Dask's nanny ends it for
        self._asked = False  # whether it was told to end
        self._lost_since: float | None = None  # the scheduler, or it lost us
        self.is_cut = False  # whether the worker ends as it has lost its scheduler
        self._tries = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closing: set[asyncio.Task[Any]] = set()  # that end this plugin as well
        self._words = Kept(words_of(nanny.address))
        self._note()
        self._dask = {name: getattr(nanny, name) for name in self._own()}
        for name, own in self._own().items():
            setattr(nanny, name, own)
        self._handlers = {op: nanny.handlers[op] for op in ("close_gracefully", "kill")}
        nanny.handlers |= {
            "close_gracefully": self._close_gracefully,
            "kill": self._kill,
            STATE: self.state,
            KILL: self.end,
        }

    def teardown(self, nanny: Nanny) -> None:
        """Leave the nanny as it was found."""
        for task in self._tasks - self._closing:
            task.cancel()
        for name, own in self._own().items():
            if vars(nanny).get(name) == own:
                delattr(nanny, name)
        nanny.handlers |= self._handlers
        for op in (STATE, KILL):
            nanny.handlers.pop(op, None)
        if nanny.process is not None:
            nanny.process.config = nanny.config.copy()
        self._words.close()

    def _own(self) -> dict[str, Any]:
        return {
            "_on_worker_exit": self._on_worker_exit,
            "_unregister": self._unregister,
            "instantiate": self._instantiate,
            "kill": self._kill,
            "close": self._close,
            "log_event": self._log_event,
        }

    # ------------------------------------------------------------- what it is asked
    def state(self) -> dict[str, Any]:
        """What is known of the worker process.

        Returns
        -------
        dict
            ``pid`` and ``worker`` (address; what was known last), whether it is
            ``alive``, whether it is ``frozen`` (stopped by a signal or a debugger), and
            its ``cpu`` time so far [s].
        """
        self._note()
        told = {"pid": self._pid, "worker": self._address, "alive": False}
        told |= {"frozen": False, "cpu": 0.0}
        with suppress(psutil.Error):
            process = psutil.Process(self._pid) if self._pid else None
            if process is not None and process.status() != psutil.STATUS_ZOMBIE:
                stopped = (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
                told["frozen"] = process.status() in stopped
                told["cpu"] = sum(process.cpu_times()[:2])
                told["alive"] = True
        return told

    def end(self, pid: int, reason: str = "") -> dict[str, Any]:
        """Kill the worker process at once, if it is still that one."""
        told = self.state()
        if told["alive"] and pid == self._pid:
            logger.warning("Ending worker process %d: %s", pid, reason)
            self._asked, self._lost_since = True, monotonic()
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return told

    async def _close_gracefully(self, reason: str = "nanny-close-gracefully") -> None:
        """A worker says that it ends, and that it shall not be started again.

        Not so if it has but lost its scheduler, which may be cut off for a while.
        """
        if reason not in LOST or (reason == MISSING and await self._is_meant()):
            self._asked = True
            self._handlers["close_gracefully"](reason=reason)
            return
        logger.warning("The worker ends (%s); it is started again", reason)
        self._asked = self.is_cut = True
        if self._lost_since is None:
            self._lost_since = monotonic()
        self._spawn(self._end_later(self._pid))

    async def _is_meant(self) -> bool:
        """Whether its scheduler has removed the worker on purpose."""
        asking = getattr(self.nanny.scheduler, GIVEN_UP)(address=self._address)
        with suppress(Exception):
            return await asyncio.wait_for(asking, TELLING) is False
        return False

    async def _end_later(self, pid: int) -> None:
        await asyncio.sleep(ENDING)
        self.end(pid, "it has lost its scheduler and does not end")

    # ------------------------------------------------------------ what goes on there
    def _note(self) -> None:
        """Which process the worker is, while that can be seen."""
        outer = self.nanny.process
        if outer is None or outer.process is None:
            return
        if outer.process.pid and outer.process.pid != self._pid:
            self._pid, self._address = outer.process.pid, ""
        if outer.status == Status.running:
            self._address = outer.worker_address or ""

    async def _instantiate(self) -> Any:
        """Start a worker; meanwhile see which process it is."""
        self._words.clear()
        self._memory, self._asked = None, False
        if self._lost_since is not None and self.nanny.process is not None:
            timeouts = {"distributed": {"comm": {"timeouts": {"connect": CONNECT}}}}
            self.nanny.process.config = dask.config.merge(self.nanny.config, timeouts)
        begun = asyncio.ensure_future(self._dask["instantiate"]())
        try:
            while not (await asyncio.wait([begun], timeout=0.05))[0]:
                self._note()
                if self._is_given_up():
                    close = self._dask["close"](reason="handout-no-scheduler")
                    self._closing.add(self._spawn(close))
                    self._lost_since = None
            result = await begun
        except asyncio.CancelledError:
            begun.cancel()
            raise
        self._note()
        if result == Status.running:
            self._lost_since, self._tries, self.is_cut = None, 0, False
        return result

    def _is_given_up(self) -> bool:
        since = self._lost_since
        patience = float(dask.config.get("handout.nanny.patience", PATIENCE))
        return since is not None and monotonic() - since > patience

    async def _on_worker_exit(self, code: int) -> None:
        """A worker process has ended."""
        ending = (Status.closing, Status.closed, Status.closing_gracefully)
        told = {
            "worker": self._address,
            "name": str(self.nanny.name),
            "pid": self._pid,
            "code": None if code == 255 else code,  # Dask's, where it is unknown
            "memory": self._memory,
            "stderr": self._words.read(),
            "running": self._words.running(),
            "asked": self._asked or self.nanny.status in ending,
        }
        if self._lost_since is None:  # else there is nobody to tell, or it knows
            with suppress(Exception):
                await asyncio.wait_for(self.nanny._log_event(EXIT, told), TELLING)
        await self._dask["_on_worker_exit"](code)

    async def _unregister(self, timeout: float = 10) -> None:
        if self._lost_since is None:
            await self._dask["_unregister"](timeout)

    async def _kill(self, timeout: float = 5, reason: str = "nanny-kill") -> None:
        self._asked = True
        await self._dask["kill"](timeout=timeout, reason=reason)

    async def _close(self, timeout: float = 5, reason: str = "nanny-close") -> Any:
        """Close the nanny; but one whose worker seeks its scheduler tries once more."""
        seeks = self._lost_since is not None and self.nanny.status == Status.running
        if reason == FAILED and seeks:
            self._tries += 1
            if self._tries < TRIES:
                self._spawn(self._again())
                return "OK"
        return await self._dask["close"](timeout=timeout, reason=reason)

    async def _again(self) -> None:
        await asyncio.sleep(AGAIN)
        if self.nanny.status == Status.running and not self.nanny.is_alive():
            with suppress(Exception):  # it has been logged, and comes back here
                await self._instantiate()

    def _log_event(self, topic: Any, msg: Any) -> None:
        if topic == MEMORY:
            limit = self.nanny.memory_manager.memory_limit
            self._memory = [int(msg["rss"]), int(limit or 0)]
        self._dask["log_event"](topic, msg)

    def _spawn(self, work: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def words_of(nanny: str) -> str:
    """By what name the last words of a nanny's worker are kept."""
    return nanny.rpartition("://")[2]


def is_taken(answer: Any) -> bool:
    """Whether a worker or nanny has taken a plugin; Dask tells, and raises nothing."""
    return not isinstance(answer, Mapping) or answer.get("status") != "error"


async def put_nannying(scheduler: Scheduler) -> bool:
    """Let every nanny that is there, or will be, have it; True if all have it now."""
    with suppress(Exception):  # of nannies that don't answer just now
        answers = await scheduler.register_nanny_plugin(
            None, pickle.dumps(Nannying()), NAME, idempotent=False
        )
        return all(map(is_taken, answers.values()))
    return False


async def take_nannying(scheduler: Scheduler) -> None:
    """Take it away again."""
    with suppress(Exception):
        await asyncio.wait_for(scheduler.unregister_nanny_plugin(None, NAME), REACH)

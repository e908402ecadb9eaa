"""A nanny that asks before it starts another worker, and survives its scheduler.

The seams on Dask's Nanny are here (2026.8.0): ``_on_worker_exit``, which starts another
worker whatever it died of; ``close_gracefully``, by which a worker that has lost its
scheduler takes the nanny along; ``kill``, by which somebody asks for an end.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

import dask
from distributed import Nanny
from distributed.core import Status

from handout_dask.restarts import ASKED, CUT, DIED, FAILED, UP
from handout_dask.runtime.janitor import Scratch
from handout_dask.runtime.securing import OwnScheduler
from handout_dask.runtime.ward import Ward

ENDING = 3.5  # s that a worker has to end before it is killed, and to be gone after
OURS = "handout"  # reasons begin so for which we end something
SEEKING = f"{OURS}-seeks-scheduler"
LOST = frozenset(
    (
        "worker-handle-scheduler-connection-broken",
        "worker-heartbeat-missing",
        "worker-heartbeat-error",
    )
)  # for these a worker ends that has lost its scheduler
BROKEN = frozenset(
    (
        "nanny-instantiate-failed",
        "nanny-instantiate-timeout",
        "nanny-start-failed",
        "nanny-unregister-failed",
    )
)


class Ask(Protocol):
    """Whether to start another worker; see `Ward.worker_ended`."""

    async def __call__(self, how: str, code: int | None, pid: int | None) -> bool: ...


class SupervisedNanny(Nanny):
    """One node.

    Parameters
    ----------
    *args, **kwargs
        As of Dask's Nanny.
    ask : callable
        Whether to start another worker.
    tell : callable
        Is told how the nanny ended, and, as "up", that a worker has started.
    scratch : Scratch
        Where workers write.
    """

    def __init__(
        self,
        *args: Any,
        ask: Ask,
        tell: Callable[[str, str], None],
        scratch: Scratch,
        **kwargs: Any,
    ) -> None:
        kwargs["local_directory"] = scratch.path
        kwargs["env"] = {**(kwargs.get("env") or {}), **scratch.mark}
        super().__init__(*args, **kwargs)
        self._ask, self._tell, self._scratch = ask, tell, scratch
        self._worker_pid: int | None = None
        self._how = ""  # why the worker ends, if that is known before
        self._told = True  # as long as it has not started, who starts it sees more

    async def start_unsafe(self) -> Any:
        """Start the nanny, and a worker."""
        started = await super().start_unsafe()
        self._told = False
        return started

    async def instantiate(self) -> Status:
        """Start a worker."""
        status = await super().instantiate()
        self._how = ""
        self._worker_pid = self.process.pid if self.process is not None else None
        if self._worker_pid is not None:
            self._scratch.watch(self._worker_pid)
        if status is Status.running:
            self._tell(UP, "")
        return status

    async def kill(self, timeout: float = ENDING, reason: str = "nanny-kill") -> None:
        """End the worker."""
        if reason != SEEKING:
            self._how = ASKED
        await super().kill(timeout, reason)

    def close_gracefully(self, reason: str = "nanny-close-gracefully") -> None:
        """The worker ends, and shall not be started again.

        Unless it ends because it has lost its scheduler.
        """
        if reason not in LOST or self.status is not Status.running:
            super().close_gracefully(reason)
            return
        self._how = CUT
        self._ongoing_background_tasks.call_soon(self._end_cut)

    async def _end_cut(self) -> None:
        """A worker that has lost its scheduler ends now, whatever it runs."""
        with suppress(Exception):
            await self.kill(1.0, SEEKING)

    async def plugin_add(self, plugin: Any, name: str | None = None) -> Any:
        """Take a plugin in; one of that name goes, as a new scheduler sends its own."""
        if name is not None and name in self.plugins:
            await self.plugin_remove(name)
        return await super().plugin_add(plugin, name)

    async def _on_worker_exit(self, exitcode: int) -> None:
        how, self._how = self._how or DIED, ""
        if any(getattr(plugin, "is_cut", False) for plugin in self.plugins.values()):
            how = CUT
        pid, self._worker_pid = self._worker_pid, None
        if pid is not None:
            self._scratch.forget(pid)
        if self.status is not Status.running or how == ASKED:
            await super()._on_worker_exit(exitcode)
        elif await self._ask(how, exitcode, pid):
            if how == DIED:
                await super()._on_worker_exit(exitcode)
            else:  # there is no scheduler to tell, and it may be long in coming
                with suppress(Exception):
                    await self.instantiate()
        else:
            self._told = True
            with suppress(Exception):
                await self._unregister()
            await self.close(reason="handout-given-up")

    async def close(self, timeout: float = ENDING, reason: str = "nanny-close") -> Any:
        """End the worker, and the nanny."""
        starting = self.process
        if starting is not None and starting.status is Status.starting:
            with suppress(Exception):  # Dask would wait until it has started
                await starting.process.kill()
        try:
            return await super().close(timeout=timeout, reason=reason)
        finally:
            if not self._told:
                self._told = True
                broken = reason in BROKEN or reason.startswith(OURS)
                self._tell(FAILED if broken else ASKED, reason)


class SupervisedScheduler(OwnScheduler):
    """A scheduler whose files end with its process, too.

    Parameters
    ----------
    scratch : Scratch
        Where it writes.
    *args, **kwargs
        As of Dask's Scheduler.
    """

    def __init__(self, *args: Any, scratch: Scratch, **kwargs: Any) -> None:
        # Dask's takes its folder from the configuration alone (2026.8.0).
        with dask.config.set({"temporary-directory": scratch.path}):
            super().__init__(*args, **kwargs)


class EmbeddedNode(SupervisedNanny):
    """A node whose nanny is in this process.

    Parameters
    ----------
    *args, **kwargs
        As of SupervisedNanny.
    ward : Ward
        Asked and told.
    """

    def __init__(self, *args: Any, ward: Ward, **kwargs: Any) -> None:
        self._ward = ward
        super().__init__(*args, ask=self._ask_ward, tell=self._tell_ward, **kwargs)

    async def _ask_ward(self, how: str, code: int | None, pid: int | None) -> bool:
        return self._ward.worker_ended(str(self.name), how, code, pid)

    def _tell_ward(self, how: str, text: str) -> None:
        if how == UP:
            self._ward.is_up(str(self.name))
            return
        self._ward.node_ended(str(self.name), how, None, None, text)

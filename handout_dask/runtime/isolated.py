"""Isolated: children of a supervisor in processes of their own, here or elsewhere.

Each stands in a Dask SpecCluster for the server that it runs. The end of the pipe to it
is the end of the process, so none outlives the supervisor.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import dask
from distributed.core import Status
from distributed.deploy.spec import ProcessInterface
from distributed.protocol import pickle

from handout_dask.errors import SupervisorError
from handout_dask.restarts import DIED, FAILED, UP
from handout_dask.runtime.janitor import Scratch
from handout_dask.runtime.supervised import ENDING
from handout_dask.runtime.ward import Ward

logger = logging.getLogger(__name__)

MODULE = "handout_dask.runtime.node_process"
SCHEDULER, NODE = "scheduler", "node"  # what a process can be
SLOW = 60.0  # s that a process may take to say that it is up


class ChildProcess(ProcessInterface):
    """A child of the supervisor's, in a process of its own.

    Parameters
    ----------
    name : str
        Of the child.
    what : str
        What the process shall be.
    ward : Ward
        Asked and told.
    scratch : Scratch
        Kills the process if it can't end by itself.
    command : sequence of str
        What goes before ``python -m``, such as ``("ssh", "host")``.
    python : str
        The interpreter.
    base : str or None
        Where the process makes a folder for its temporary files.
    order : dict
        What more the process has to know.

    Attributes
    ----------
    pid : int or None
        Of the process; of a prefixed one, that of the prefix.
    """

    def __init__(
        self,
        name: Any,
        what: str,
        ward: Ward,
        scratch: Scratch,
        command: Sequence[str],
        python: str,
        base: str | None,
        order: dict[str, Any],
    ) -> None:
        super().__init__(name=name)
        self.name, self._ward, self._scratch = name, ward, scratch
        self._command = [*command, python, "-m", MODULE]
        self._order = {**order, "what": what, "scratch": base}
        self._order["config"] = dask.config.config
        if python == sys.executable:  # then modules are where they are here
            self._order |= {"path": [*sys.path], "folder": os.getcwd()}
        self._process: asyncio.subprocess.Process | None = None
        self._listening: asyncio.Task[None] | None = None
        self._up: asyncio.Future[dict[str, Any]] | None = None
        self._how = ""  # it ended, if it said
        self._text = ""
        self._asked = False

    @property
    def pid(self) -> int | None:
        if self._process is None or self._process.returncode is not None:
            return None
        return self._process.pid

    async def start(self) -> None:
        """Start it, and wait until it is up."""
        if self._asked:
            raise SupervisorError(f"{self.name} was ended before it started")
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            self.status = Status.failed
            raise SupervisorError(
                f"{self.name} can't be started by {' '.join(self._command)}: {error}"
            ) from error
        self._scratch.watch(self._process.pid)
        self._up = asyncio.get_running_loop().create_future()
        self._listening = asyncio.create_task(self._listen())
        self._send(base64.b64encode(pickle.dumps(self._order)))
        try:
            told = await asyncio.wait_for(asyncio.shield(self._up), SLOW)
        except BaseException:
            self.status = Status.failed
            await self._end(0.0)
            raise
        self.status = Status.running
        self._take(told)

    def _take(self, told: dict[str, Any]) -> None:
        """The process is up."""
        self.address = told["address"]

    async def _listen(self) -> None:
        process = self._process
        assert process is not None
        assert process.stdout is not None
        while line := await process.stdout.readline():
            try:
                told = json.loads(line)
                self._hear(told)
            except (ValueError, KeyError, TypeError):
                logger.warning("%s says %r", self.name, line[:200])
        code = await process.wait()
        self._scratch.forget(process.pid)
        self._over(code, process.pid)

    def _hear(self, told: dict[str, Any]) -> None:
        what = told["what"]
        if what == "up" and self._up is not None and not self._up.done():
            self._up.set_result(told)
        elif what == "failed":
            self._how, self._text = FAILED, told["text"]
        elif what == "told" and told["how"] == UP:
            self._ward.is_up(str(self.name))
        elif what == "told":
            self._how, self._text = told["how"], told["text"]
        elif what == "worker-ended":
            go = self._ward.worker_ended(
                str(self.name), told["how"], told["code"], told["pid"]
            )
            self._asked |= not go  # then the nanny ends too
            self._send(json.dumps({"what": "answer", "start": go}).encode())

    def _over(self, code: int, pid: int) -> None:
        """The process has ended."""
        was_up = self.status is Status.running
        self.status = Status.closed
        if self._up is not None and not self._up.done():
            why = self._text or f"its process ended with code {code}"
            self._up.set_exception(SupervisorError(f"{self.name} did not start: {why}"))
        self._event_finished.set()
        if was_up and not self._asked:
            how = self._how or DIED
            own = code if how == DIED else None
            self._report(how, own, pid, self._text)

    def _report(self, how: str, code: int | None, pid: int, text: str) -> None:
        self._ward.node_ended(str(self.name), how, code, pid, text)

    def _send(self, line: bytes) -> None:
        if self._process is not None and self._process.stdin is not None:
            with suppress(OSError, RuntimeError):
                self._process.stdin.write(line + b"\n")

    async def close(self, timeout: float = ENDING, reason: str = "") -> None:
        """Ask it to end; if it does not, kill it."""
        self._asked = True
        if self._process is not None and self._process.returncode is None:
            self._send(b'{"what": "end"}')
            await self._end(timeout)
        self.status = Status.closed
        self._event_finished.set()

    async def _end(self, timeout: float) -> None:
        process, listening = self._process, self._listening
        assert process is not None
        assert listening is not None
        if timeout:
            await asyncio.wait([listening], timeout=timeout + 1.0)
        if process.returncode is None:
            with suppress(OSError):
                process.kill()
        await asyncio.wait([listening], timeout=ENDING)
        with suppress(Exception):
            process._transport.close()  # type: ignore[attr-defined]


class NodeProcess(ChildProcess):
    """A node: a process with a nanny, and below it a worker.

    Parameters
    ----------
    address : str
        Of the scheduler.
    name : str
        Of the node.
    ward, scratch, command, python, base
        As of ChildProcess.
    **options
        As of Dask's Nanny.
    """

    def __init__(
        self,
        address: str,
        *,
        name: Any,
        ward: Ward,
        scratch: Scratch,
        command: Sequence[str] = (),
        python: str,
        base: str | None = None,
        **options: Any,
    ) -> None:
        order = {"address": address, "options": {**options, "name": name}}
        super().__init__(name, NODE, ward, scratch, command, python, base, order)


class SchedulerProcess(ChildProcess):
    """The scheduler, in a process of its own.

    Parameters
    ----------
    ward, scratch, command, python, base
        As of ChildProcess.
    **options
        As of Dask's Scheduler.
    """

    def __init__(
        self,
        *,
        ward: Ward,
        scratch: Scratch,
        command: Sequence[str] = (),
        python: str,
        base: str | None = None,
        **options: Any,
    ) -> None:
        order: dict[str, Any] = {"options": options}
        super().__init__(
            SCHEDULER, SCHEDULER, ward, scratch, command, python, base, order
        )
        self.dashboard = 0

    def _take(self, told: dict[str, Any]) -> None:
        super()._take(told)
        self.dashboard = told["dashboard"]

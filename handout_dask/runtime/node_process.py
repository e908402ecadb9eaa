"""The process of one isolated child: a node's nanny, or the scheduler.

``python -m handout_dask.runtime.node_process``; what it shall be it reads from its
standard input, on one line, and when that ends, so does the process, with all that it
has started: whoever supervises it is gone, wherever that was. It speaks by lines of
JSON on what was its standard output.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import sys
import threading
from contextlib import suppress
from typing import Any

import dask
from distributed.protocol import pickle

from handout_dask.runtime.isolated import SCHEDULER
from handout_dask.runtime.janitor import Scratch
from handout_dask.runtime.supervised import ENDING, SupervisedNanny, SupervisedScheduler

GONE = 1.0  # s to end in, where the supervisor is gone; then the janitor does it


class Voice:
    """Says things to the supervisor, and hears what it says."""

    def __init__(self) -> None:
        # What functions print shall not come between.
        self._out = os.fdopen(os.dup(1), "wb", buffering=0)
        os.dup2(2, 1)
        self._heard = asyncio.StreamReader(limit=2**26)
        self._answers: asyncio.Queue[bool] = asyncio.Queue()
        self._asking = asyncio.Lock()

    async def begin(self) -> dict[str, Any]:
        """What this process shall be."""
        loop = asyncio.get_running_loop()
        protocol = asyncio.StreamReaderProtocol(self._heard)
        await loop.connect_read_pipe(lambda: protocol, os.fdopen(os.dup(0), "rb"))
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        line = await self._heard.readline()
        order: dict[str, Any] = pickle.loads(base64.b64decode(line))
        return order

    def say(self, what: str, **more: Any) -> None:
        """Say something; whoever is gone does not hear it."""
        with suppress(OSError):
            self._out.write(json.dumps({"what": what, **more}).encode() + b"\n")

    async def listen(self) -> bool:
        """Hear until the end is asked for (True), or nobody is there (False)."""
        while line := await self._heard.readline():
            heard = json.loads(line)
            if heard["what"] == "end":
                return True
            self._answers.put_nowait(bool(heard["start"]))
        return False

    async def ask(self, how: str, code: int | None, pid: int | None) -> bool:
        """Whether to start another worker."""
        async with self._asking:
            self.say("worker-ended", how=how, code=code, pid=pid)
            return await self._answers.get()


async def serve() -> None:
    """Be what is asked for, until the end."""
    voice = Voice()
    order = await voice.begin()
    dask.config.update(dask.config.config, order["config"], priority="new")
    hears = asyncio.create_task(voice.listen())
    if "path" in order:
        sys.path[:] = order["path"]
        with suppress(OSError):
            os.chdir(order["folder"])
    if order["what"] == SCHEDULER:
        await _serve_scheduler(voice, hears, order)
    else:
        await _serve_node(voice, hears, order)


async def _serve_scheduler(
    voice: Voice, hears: asyncio.Task[bool], order: dict[str, Any]
) -> None:
    logging.getLogger("distributed").setLevel(logging.WARNING)
    scratch = Scratch(order["scratch"])
    try:
        await _schedule(voice, hears, order["options"], scratch)
    except Exception as error:
        voice.say("failed", text=_text(error))
    finally:
        scratch.close()


async def _schedule(
    voice: Voice, hears: asyncio.Task[bool], options: dict[str, Any], scratch: Scratch
) -> None:
    scheduler = await SupervisedScheduler(scratch=scratch, **options)
    dashboard = scheduler.services.get("dashboard")
    voice.say("up", address=scheduler.address, dashboard=getattr(dashboard, "port", 0))
    over = asyncio.create_task(scheduler.finished())
    await asyncio.wait([hears, over], return_when=asyncio.FIRST_COMPLETED)
    with suppress(Exception):
        await asyncio.wait_for(scheduler.close(), ENDING)


async def _serve_node(
    voice: Voice, hears: asyncio.Task[bool], order: dict[str, Any]
) -> None:
    scratch = Scratch(order["scratch"])
    try:
        nanny = SupervisedNanny(
            order["address"], ask=voice.ask, scratch=scratch, **order["options"],
            tell=lambda how, text: voice.say("told", how=how, text=text),
        )  # fmt: skip
        starts = asyncio.ensure_future(_started(nanny))
        await asyncio.wait([hears, starts], return_when=asyncio.FIRST_COMPLETED)
        if starts.done() and not starts.cancelled() and starts.exception() is None:
            voice.say("up", address=nanny.address)
            over = asyncio.create_task(nanny.finished())
            await asyncio.wait([hears, over], return_when=asyncio.FIRST_COMPLETED)
        elif starts.done():
            voice.say("failed", text=_text(starts.exception()))
        limit = ENDING if hears.done() and hears.result() else GONE
        with suppress(Exception):
            await asyncio.wait_for(nanny.close(timeout=limit), 2 * limit)
    finally:
        scratch.close()


async def _started(nanny: Any) -> None:
    await nanny


def _text(error: BaseException | None) -> str:
    """What was wrong at first."""
    while error is not None and error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {error}"


async def main() -> None:
    """Serve, and be gone soon after, whatever threads are left."""
    await serve()
    late = threading.Timer(GONE, os._exit, (0,))
    late.daemon = True
    late.start()


if __name__ == "__main__":
    asyncio.run(main())

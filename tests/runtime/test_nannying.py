"""A nanny whose worker seeks its scheduler tries for some time, and then gives up."""

import asyncio
from types import SimpleNamespace

import pytest
from distributed.core import Status, error_message

from handout_dask.runtime import nannying
from handout_dask.runtime.nannying import (
    FAILED,
    LOST,
    TRIES,
    Nannying,
    put_nannying,
)
from handout_dask.runtime.probe import put_probes

LIMIT = 30  # s after which a test calls it a hang


class Nanny:
    """What the plugin needs of Dask's; its worker never starts."""

    def __init__(self):
        self.address, self.name, self.status = "tcp://x:1", "n", Status.running
        self.process, self.config = None, {}
        self.handlers = {"close_gracefully": print, "kill": print}
        self.started, self.closed = 0, asyncio.Event()

    async def instantiate(self):
        """As Dask's does where its worker can't reach its scheduler."""
        self.started += 1
        await self.close(reason=FAILED)
        raise OSError("no scheduler")

    async def close(self, timeout=5, reason=""):
        self.closed.set()

    def is_alive(self):
        return False

    _on_worker_exit = _unregister = kill = log_event = print


def start(reason=None):
    """Its worker does not start, perhaps after it has said that it ends, and why.

    How often that was tried, until the nanny ended, and whether it was cut off.
    """

    async def started():
        nanny, plugin = Nanny(), Nannying()
        plugin.setup(nanny)
        if reason is not None:
            await nanny.handlers["close_gracefully"](reason=reason)
        with pytest.raises(OSError, match="no scheduler"):
            await nanny.instantiate()
        await asyncio.wait_for(nanny.closed.wait(), LIMIT)
        plugin.teardown(nanny)
        return nanny.started, plugin.is_cut

    return asyncio.run(started())


def test_a_worker_that_finds_no_scheduler_is_started_so_many_times(monkeypatch):
    monkeypatch.setattr(nannying, "AGAIN", 0.0)
    assert start(LOST[0]) == (TRIES, True)


def test_a_worker_that_does_not_start_for_another_reason_ends_its_nanny():
    assert start() == (1, False)


@pytest.mark.parametrize(
    ("answers", "are_put"),
    [
        ([], True),
        ([{"status": "OK"}, {"status": "OK"}], True),
        ([{"status": "OK"}, error_message(ValueError("no"))], False),
        (OSError("gone"), False),
    ],
)
def test_what_could_not_begin_somewhere_was_not_put(answers, are_put):
    async def register(comm, plugin, name, idempotent):
        if isinstance(answers, Exception):
            raise answers
        return dict(enumerate(answers))

    scheduler = SimpleNamespace(
        register_nanny_plugin=register, register_worker_plugin=register
    )
    assert asyncio.run(put_nannying(scheduler)) is are_put
    assert asyncio.run(put_probes(scheduler)) is are_put

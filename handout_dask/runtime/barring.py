"""Barring: leaves out nodes for a while where functions fail that run elsewhere."""

from __future__ import annotations

import logging
from time import time

from distributed import Scheduler

from handout_dask.dispatch import Dispatcher
from handout_dask.runtime.replanner import Replanner
from handout_dask.runtime.sender import Sender

logger = logging.getLogger(__name__)


class Barring:
    """Enacts what is decided on nodes that do badly.

    Parameters
    ----------
    scheduler : distributed.Scheduler
        Whose timers are used.
    dispatcher, sender, replanner : Dispatcher, Sender, Replanner
        The books; send what may go elsewhere; plan again.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        dispatcher: Dispatcher,
        sender: Sender,
        replanner: Replanner,
    ) -> None:
        self._scheduler, self._dispatcher = scheduler, dispatcher
        self._sender, self._replanner = sender, replanner

    def bar(self, name: str, until: float, why: str) -> None:
        """Leave a node out until then, as far as others can run what it would."""
        logger.warning("Node %s is left out for a while: %s", name, why)
        self._sender.wake(name, *self._dispatcher.resting.bar(name, why))
        delay = max(until - time(), 0.0)
        self._scheduler.loop.call_later(delay, self._unbar, name, why)
        self._replanner.changed(f"node {name} is left out: {why}")

    def _unbar(self, name: str, why: str) -> None:
        """Take it back in, unless it is left out for another reason by now."""
        book = self._dispatcher.nodes.get(name)
        if book is not None and book.barred == why:
            self._dispatcher.resting.unbar(name)
            self._sender.wake(name)
            self._replanner.changed(f"node {name} is taken back in")

"""Probe: the worker plugin, on every worker of a scheduler that serves runs.

Tells on Dask's own heartbeat what the node has and uses, and word of functions that
left it without an end that the scheduler hears of.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any

from distributed import Scheduler, Worker
from distributed.diagnostics.plugin import WorkerPlugin
from distributed.protocol import pickle

from handout_dask.runtime.cuda import usage
from handout_dask.runtime.detection import Detection
from handout_dask.runtime.evicting import Evicting
from handout_dask.runtime.lastwords import Keeping
from handout_dask.runtime.nannying import REACH, is_taken, words_of
from handout_dask.runtime.process import EXECUTOR, OwnProcesses
from handout_dask.runtime.reaching import Reaching
from handout_dask.runtime.records import NAME
from handout_dask.runtime.runner import STARTED
from handout_dask.runtime.sampling import Sampler
from handout_dask.runtime.spilling import Spilling

logger = logging.getLogger(__name__)

LEFT = "handout-left"  # the topic on which a worker says that a key left it
OVERDUE = "overdue"  # in what a worker tells: from where something does not come
RUNNING = "running"  # in what a worker tells: keys of what has a thread there
SAMPLE, FOUND = "sample", "found"  # ditto: what it uses; what it has, undeclared
DISK = "disk"  # ditto: how full its memory and its disk are
LATE = 0.2  # s for which something may still be on its way
ASK = "handout_found"  # the RPC of a worker that says what it has, at once
SEEKS = 20  # heartbeats on which it is looked for where last words are kept
# States in which a worker has a task that it was sent, and has not ended.
HELD = frozenset(
    ("waiting", "ready", "constrained", "executing", "long-running", "cancelled")
) | {"resumed"}


class Probe(WorkerPlugin):
    """One for each worker."""

    name = NAME
    idempotent = False

    def setup(self, worker: Worker) -> None:
        """Begin to serve on a worker."""
        self.worker = worker
        self._sampler, self._detection = Sampler(), Detection()
        self._sequence = 0
        self._processes, self._spilling = OwnProcesses(worker), Spilling(worker)
        worker.executors[EXECUTOR] = self._processes
        worker.metrics[NAME] = self._metrics
        worker.handlers[ASK] = self._detection.found
        self._keeping = Keeping(words_of(worker.nanny)) if worker.nanny else None
        self._reaching = Reaching(worker)
        self._evicting = Evicting(worker)

    def teardown(self, worker: Worker) -> None:
        """Leave the worker as it was found."""
        worker.metrics.pop(NAME, None)
        worker.executors.pop(EXECUTOR, None)
        self._processes.shutdown(wait=False)
        self._spilling.stop()
        worker.handlers.pop(ASK, None)
        self._reaching.stop()
        self._evicting.stop()
        if self._keeping is not None:
            self._keeping.stop()

    def _metrics(self, worker: Worker) -> dict[str, Any]:
        """What travels on each heartbeat; msgpack has to take it."""
        self._sequence += 1
        if self._keeping is not None and self._sequence < SEEKS:
            self._keeping.seek()
        told = {"sequence": self._sequence, RUNNING: list(worker.active_keys)}
        parts = {
            SAMPLE: self._sample, FOUND: self._detection.found,
            DISK: self._spilling.told, OVERDUE: self._reaching.overdue,
        }  # fmt: skip
        for what, ask in parts.items():
            try:
                told[what] = ask()
            except Exception:  # what can't be had must not take the others along
                logger.debug("No %s", what, exc_info=True)
        return told

    def _sample(self) -> dict[str, Any]:
        sample, device = self._sampler.sample(), self._detection.device
        quantities = self.worker.monitor.quantities
        if device is not None and "gpu_utilization" not in quantities:
            return {**sample, "device": usage(device)}
        return sample

    def transition(self, key: Any, start: str, finish: str, **kwargs: Any) -> None:
        """Tell when a task leaves that did not end: its thread, if any, is free.

        A cancelled one is not what `finish` says while its thread goes on.
        """
        if finish == "executing" and self._keeping is not None:
            state = self.worker.state
            with suppress(Exception):  # the function is to run all the same
                self._keeping.run(t.key for t in state.executing | state.long_running)
        if start in HELD:
            task = self.worker.state.tasks.get(key)
            if task is None or task.state == "cancelled":
                self._processes.cancel(key)
            if task is None or task.state in ("released", "forgotten"):
                # Of a dict the scheduler notes from whom it is (2026.8.0).
                self.worker.log_event(LEFT, {"key": key})


async def put_probes(scheduler: Scheduler) -> bool:
    """Let every worker that is there, or will be, have a probe; True if all have it."""
    with suppress(Exception):  # of workers that don't answer just now
        answers = await scheduler.register_worker_plugin(
            None, pickle.dumps(Probe()), NAME, idempotent=False
        )
        return all(map(is_taken, answers.values()))
    return False


async def take_probes(scheduler: Scheduler) -> None:
    """Take the probes away again, and what they told."""
    with suppress(Exception):
        await asyncio.wait_for(scheduler.unregister_worker_plugin(None, NAME), REACH)
    _forget(scheduler)
    scheduler.loop.call_later(LATE, _forget, scheduler)  # what was still on its way


def _forget(scheduler: Scheduler) -> None:
    for topic in (STARTED, LEFT):
        scheduler._broker.truncate(topic)

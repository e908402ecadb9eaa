"""Probe: the worker plugin, on every worker of a scheduler that serves runs.

Tells on Dask's own heartbeat what the node has and uses, and word of functions that
left it without an end that the scheduler hears of.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

from distributed import Scheduler, Worker
from distributed.diagnostics.plugin import WorkerPlugin
from distributed.protocol import pickle

from handout_dask.runtime.cuda import usage
from handout_dask.runtime.detection import Detection
from handout_dask.runtime.process import EXECUTOR, OwnProcesses
from handout_dask.runtime.records import NAME
from handout_dask.runtime.sampling import Sampler

logger = logging.getLogger(__name__)

LEFT = "handout-left"  # the topic on which a worker says that a key left it
RUNNING = "running"  # in what a worker tells: keys of what has a thread there
SAMPLE, FOUND = "sample", "found"  # ditto: what it uses; what it has, undeclared
ASK = "handout_found"  # the RPC of a worker that says what it has, at once
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
        self._processes = OwnProcesses(worker)
        worker.executors[EXECUTOR] = self._processes
        worker.metrics[NAME] = self._metrics
        worker.handlers[ASK] = self._detection.found

    def teardown(self, worker: Worker) -> None:
        """Leave the worker as it was found."""
        worker.metrics.pop(NAME, None)
        worker.executors.pop(EXECUTOR, None)
        self._processes.shutdown(wait=False)
        worker.handlers.pop(ASK, None)

    def _metrics(self, worker: Worker) -> dict[str, Any]:
        """What travels on each heartbeat; msgpack has to take it."""
        self._sequence += 1
        sample, device = self._sampler.sample(), self._detection.device
        if device is not None and "gpu_utilization" not in worker.monitor.quantities:
            sample = {**sample, "device": usage(device)}
        return {
            "sequence": self._sequence,
            RUNNING: list(worker.active_keys),
            SAMPLE: sample,
            FOUND: self._detection.found(),
        }

    def transition(self, key: Any, start: str, finish: str, **kwargs: Any) -> None:
        """Tell when a task leaves that did not end: its thread, if any, is free.

        A cancelled one is not what `finish` says while its thread goes on.
        """
        if start in HELD:
            task = self.worker.state.tasks.get(key)
            if task is None or task.state == "cancelled":
                self._processes.cancel(key)
            if task is None or task.state in ("released", "forgotten"):
                # Of a dict the scheduler notes from whom it is (2026.8.0).
                self.worker.log_event(LEFT, {"key": key})


async def put_probes(scheduler: Scheduler) -> None:
    """Let every worker that is there, or will be, have a probe."""
    with suppress(Exception):  # of workers that don't answer just now
        await scheduler.register_worker_plugin(
            None, pickle.dumps(Probe()), NAME, idempotent=False
        )


async def take_probes(scheduler: Scheduler) -> None:
    """Take the probes away again."""
    with suppress(Exception):
        await scheduler.unregister_worker_plugin(None, NAME)

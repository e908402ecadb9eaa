"""Inputs: results on their way to the nodes whose functions read them.

Beside plugin.py the only file that touches the scheduler's internals; the seams here:

* ``Scheduler.request_acquire_replicas`` brings results to a node ahead of need.
* ``stream_handlers["add-keys"]`` is wrapped to learn that they arrived.
* ``stream_handlers["task-erred"]`` is wrapped to learn what a node can't receive.
* ``Scheduler.transition(key, "erred", ...)`` fails a task, as the scheduler itself does
  after ``no-workers-timeout``.
"""

from __future__ import annotations

from collections.abc import Callable
from time import time
from typing import Any

from distributed import Scheduler

from handout_dask.runtime.records import LiveRun

FETCH_SHARE = 0.4  # of its memory limit that a node may hold and still fetch ahead
RECEIVE_TRIES = 3
ERROR_FIELDS = ("exception", "traceback", "exception_text", "traceback_text")


class Inputs:
    """Brings inputs ahead, and sees to those that can't be brought.

    Parameters
    ----------
    scheduler : distributed.Scheduler
        Whose stream handlers are wrapped from `start` to `stop`.
    run_of : callable
        The LiveRun that a key belongs to, or None.
    arrived : callable
        Told the address of a worker on which inputs arrived.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        run_of: Callable[[Any], LiveRun | None],
        arrived: Callable[[str], None],
    ) -> None:
        self._scheduler, self._run_of, self._arrived = scheduler, run_of, arrived
        self._wanted: dict[str, dict[Any, None]] = {}  # worker address -> keys
        self._own = {"add-keys": self._add_keys, "task-erred": self._task_erred}
        self._dask: dict[str, Callable[..., Any]] = {}

    def start(self) -> None:
        """Wrap the handlers."""
        handlers = self._scheduler.stream_handlers
        self._dask = {op: handlers[op] for op in self._own}
        handlers.update(self._own)

    def stop(self) -> None:
        """Put Dask's handlers back, unless somebody else has wrapped ours."""
        handlers = self._scheduler.stream_handlers
        for op, own in self._own.items():
            if handlers.get(op) is own:
                handlers[op] = self._dask[op]

    def fetch(self, key: Any, address: str) -> None:
        """Bring the inputs of a function that may run soon to its node's worker."""
        ws = self._scheduler.workers.get(address)
        if ws is None or ws.nbytes > FETCH_SHARE * (ws.memory_limit or float("inf")):
            return
        for task in self._scheduler.tasks[key].dependencies:
            if task.who_has and ws not in task.who_has:
                self._wanted.setdefault(address, {})[task.key] = None

    def send(self) -> None:
        """Ask the workers for what was gathered by `fetch`."""
        for address, wanted in self._wanted.items():
            known = [key for key in wanted if self._is_held(key)]
            if address in self._scheduler.workers and known:
                self._scheduler.request_acquire_replicas(
                    address, known, stimulus_id=f"handout-fetch-{time()}"
                )
        self._wanted.clear()

    def _is_held(self, key: Any) -> bool:
        task = self._scheduler.tasks.get(key)
        return task is not None and bool(task.who_has)

    def _add_keys(self, worker: str, **message: Any) -> None:
        """Inputs arrived on a node."""
        self._dask["add-keys"](worker=worker, **message)
        self._arrived(worker)

    def _task_erred(self, key: Any, worker: str, **message: Any) -> None:
        """A function failed; or a node can't receive a result that another has.

        Of the latter Dask takes no notice, and its readers there wait for ever
        (distributed#6705, 2026.8.0).
        """
        self._dask["task-erred"](key=key, worker=worker, **message)
        task, run = self._scheduler.tasks.get(key), self._run_of(key)
        if task is None or task.state != "memory" or run is None:
            return
        readers = [
            reader.key
            for reader in task.dependents
            if reader.processing_on and reader.processing_on.address == worker
        ]
        stimulus = f"handout-receive-{time()}"
        if not readers:
            return
        # Each time the connection is spoilt, so that the next time it is to blame.
        before = run.refused.setdefault((key, worker), [])
        before.append({k: message.get(k) for k in ERROR_FIELDS})
        if len(before) < RECEIVE_TRIES:
            self._scheduler.transitions(dict.fromkeys(readers, "released"), stimulus)
            return
        own = [why for why in before if "AssertionError" not in why["exception_text"]]
        for reader in readers:
            err(self._scheduler, reader, stimulus, **(own or before)[0])


def err(scheduler: Scheduler, key: Any, stimulus: str, **why: Any) -> None:
    """Fail a task, with an exception as Dask carries it, and what depends on it."""
    found = scheduler.transition(key, "erred", stimulus, cause=key, **why)
    scheduler.transitions(found, stimulus)

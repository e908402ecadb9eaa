"""Inputs: results on their way to the nodes whose functions read them.

Beside plugin.py it touches the scheduler's internals; the seams here:

* ``Scheduler.request_acquire_replicas`` brings results to a node ahead of need.
* ``stream_handlers["add-keys"]`` is wrapped to learn that they arrived.
* ``stream_handlers["task-erred"]`` is wrapped to learn what a node can't receive.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic, time
from typing import Any

from distributed import Scheduler

from handout_dask.runtime.erring import err
from handout_dask.runtime.records import LiveRun
from handout_dask.traffic import Traffic

FETCH_SHARE = 0.4  # of its memory limit that a node may hold and still fetch ahead
PATIENCE = 10.0  # s after which a result that did not come is asked for again
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
    names : mapping
        Names of nodes by the addresses of their workers; kept by the plugin.
    traffic : Traffic
        Told how long transfers took.
    stay : callable
        ``stay(key, addresses)``: let a function run where a result is that can't be
        brought to another node; whether it can.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        run_of: Callable[[Any], LiveRun | None],
        arrived: Callable[[str], None],
        names: Mapping[str, str],
        traffic: Traffic,
        stay: Callable[[Any, list[str]], bool],
    ) -> None:
        self._scheduler, self._run_of, self._arrived = scheduler, run_of, arrived
        self._names, self._traffic, self._stay = names, traffic, stay
        self._wanted: dict[str, dict[Any, None]] = {}  # worker address -> keys
        # by worker address: key -> from where, when it was asked for, and whether alone
        self._asked: dict[str, dict[Any, tuple[str, float, bool]]] = {}
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
        for task in self._scheduler.tasks[key].dependencies:
            self.push(task.key, address)

    def push(self, key: Any, address: str) -> None:
        """Bring a result to a worker whose functions will read it."""
        ws, task = self._scheduler.workers.get(address), self._scheduler.tasks[key]
        if ws is None or not task.who_has or ws in task.who_has:
            return
        if ws.nbytes > FETCH_SHARE * (ws.memory_limit or float("inf")):
            return
        asked = self._asked.get(address, {}).get(key)
        if asked is None or monotonic() - asked[1] > PATIENCE:
            self._wanted.setdefault(address, {})[key] = None

    def send(self) -> None:
        """Ask the workers for what was gathered."""
        now = monotonic()
        for address, wanted in self._wanted.items():
            known = [key for key in wanted if self._is_held(key)]
            if address in self._scheduler.workers and known:
                before = self._asked.get(address, {}).items()
                asked = {k: v for k, v in before if now - v[1] <= PATIENCE}
                self._asked[address] = asked
                alone = not asked and len(known) == 1
                for key in known:
                    source = next(iter(self._scheduler.tasks[key].who_has)).address
                    asked[key] = source, now, alone
                self._scheduler.request_acquire_replicas(
                    address, known, stimulus_id=f"handout-fetch-{time()}"
                )
        self._wanted.clear()

    def forget_worker(self, address: str) -> None:
        """A worker is gone, with what was on its way to it."""
        self._asked.pop(address, None)

    def arrives(self, key: Any, address: str) -> float:
        """Seconds until all inputs of a function are on a worker; 0 if they are."""
        ws = self._scheduler.workers[address]
        away, now = 0.0, monotonic()
        for task in self._scheduler.tasks[key].dependencies:
            if ws in (task.who_has or ()):
                continue
            source = next((w.address for w in task.who_has or ()), "")
            names = self._names.get(source, ""), self._names.get(address, "")
            takes = self._traffic.seconds(*names, max(task.nbytes, 0) / 1e6)
            asked = self._asked.get(address, {}).get(task.key)
            if asked is not None:
                takes -= now - asked[1]
            away = max(away, takes, 0.001)
        return away

    def _is_held(self, key: Any) -> bool:
        task = self._scheduler.tasks.get(key)
        return task is not None and bool(task.who_has)

    def _add_keys(self, worker: str, keys: Any = (), **message: Any) -> None:
        """Inputs arrived on a node."""
        self._dask["add-keys"](worker=worker, keys=keys, **message)
        asked, now = self._asked.get(worker, {}), monotonic()
        for key in keys:
            source, since, alone = asked.pop(key, ("", 0.0, False))
            task = self._scheduler.tasks.get(key)
            names = self._names.get(source), self._names.get(worker)
            if alone and task is not None and None not in names:
                mb = max(task.nbytes, 0) / 1e6
                self._traffic.observe(*names, mb, now - since)  # type: ignore[arg-type]
        self._arrived(worker)

    def _task_erred(self, key: Any, worker: str, **message: Any) -> None:
        """A function failed; or a node can't receive a result that another has.

        Of the latter Dask takes no notice, and its readers there wait for ever
        (distributed#6705, 2026.8.0).
        """
        self._dask["task-erred"](key=key, worker=worker, **message)
        task = self._scheduler.tasks.get(key)
        if task is None or task.state != "memory":
            return
        run = self._run_of(key)
        for reader in task.dependents:  # it may be of a run that is over
            run = run or self._run_of(reader.key)
        if run is None:
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
        self._scheduler.transitions(dict.fromkeys(readers, "released"), stimulus)
        for reader in readers:
            if not self._stay(reader, [ws.address for ws in task.who_has or ()]):
                err(self._scheduler, reader, stimulus, **(own or before)[0])

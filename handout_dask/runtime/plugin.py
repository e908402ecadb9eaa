"""The scheduler plugin: events out, decisions in.

It parks every function of a planned run; `sender.Sender` sends it when the books of
`dispatch.Dispatcher` say so. Only here, in sender.py and in inputs.py are the
scheduler's internals touched; the seams here:

* ``Scheduler.handlers`` takes our RPCs.
* ``Scheduler.client_releases_keys`` and ``report`` cancel what has not ended.
* ``Scheduler._broker`` forgets what was logged for an executor that left.
* ``TaskState.suspicious`` is taken back for functions that had not started.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from time import time
from typing import Any

from distributed import Scheduler
from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.protocol import pickle, to_serialize
from tornado.ioloop import PeriodicCallback

from handout_dask.books import DONE, ENDED, FAILED, GONE, WAITING
from handout_dask.dispatch import Dispatcher
from handout_dask.errors import NodeLostError
from handout_dask.node import Node
from handout_dask.runtime.inputs import Inputs, err
from handout_dask.runtime.nodes import WorkerInfo, node_of
from handout_dask.runtime.records import NAME, LiveRun
from handout_dask.runtime.runner import STARTED
from handout_dask.runtime.sender import Sender
from handout_dask.tracker import StaticTracker

logger = logging.getLogger(__name__)

GRACE = 10.0  # s that a pinned function waits for its node to return
TICK = 500  # ms between looks at what no event told of: paused workers, lost nodes
RPCS = ("join", "leave", "nodes", "submit", "cancel", "forget")
FLUSH = 0.05  # s for which records are gathered before they go to the client


class HandoutPlugin(SchedulerPlugin):
    """Places and orders the functions of planned runs. One for each scheduler."""

    name = NAME
    idempotent = True

    def __init__(self) -> None:
        self.runs: dict[str, LiveRun] = {}

    # ------------------------------------------------------- start, end, members
    async def start(self, scheduler: Scheduler) -> None:
        """Begin to serve; harmless when called twice."""
        if getattr(self, "scheduler", None) is not None:
            return
        self.scheduler = scheduler
        self.dispatcher = Dispatcher(StaticTracker())
        self.owners: dict[str, str] = {}  # executor -> client
        self.declared: dict[str, dict[str, Node]] = {}  # executor -> by name
        self.address: dict[str, str] = {}  # node name -> worker address
        self.names: dict[str, str] = {}  # worker address -> node name
        self.down: dict[str, float] = {}  # node name -> when it was lost
        self.by_prefix: dict[str, LiveRun] = {}
        self.by_cut: dict[str, LiveRun] = {}
        for what in RPCS:
            scheduler.handlers[f"handout_{what}"] = getattr(self, f"rpc_{what}")
        self.inputs = Inputs(scheduler, self._run_of, self._arrived)
        self.inputs.start()
        self.sender = Sender(
            scheduler, self.dispatcher, self.runs, self.address, self.inputs
        )
        for address in scheduler.workers:
            self.add_worker(scheduler, address)
        self.timer = PeriodicCallback(self._tick, TICK)
        self.timer.start()

    async def close(self) -> None:
        """Leave the scheduler as it was found."""
        self.timer.stop()
        for what in RPCS:
            self.scheduler.handlers.pop(f"handout_{what}", None)
        self.inputs.stop()

    async def rpc_join(self, owner: str, client: str, declared: bytes) -> None:
        """An executor begins to use this scheduler."""
        self.owners[owner] = client
        self.declared[owner] = {node.name: node for node in pickle.loads(declared)}
        self._look_at_workers()

    async def rpc_leave(self, owner: str) -> None:
        """An executor ends; the last one takes the plugin with it."""
        client = self.owners.pop(owner, "")
        if self.declared.pop(owner, None):
            self._look_at_workers()
        for token, run in list(self.runs.items()):
            if run.owner == owner:
                self._drop(token)
                self._unpark(run)
        self.scheduler._broker.unsubscribe(f"{NAME}/{owner}", client)
        self.scheduler._broker.truncate(f"{NAME}/{owner}")
        if not self.owners and self.scheduler.plugins.get(NAME) is self:
            await self.close()
            self.scheduler._broker.truncate(STARTED)
            self.scheduler.remove_plugin(NAME)

    def remove_client(self, scheduler: Scheduler, client: str) -> None:
        """A client that is gone takes its executors and runs along."""
        for owner in [o for o, c in self.owners.items() if c == client]:
            scheduler.loop.add_callback(self.rpc_leave, owner)

    # ---------------------------------------------------------------------- nodes
    async def rpc_nodes(self) -> dict[str, Any]:
        """The nodes that are up, what they are promised to, and what was measured."""
        now = time()
        nodes = [self.dispatcher.nodes[name].node for name in self.address]
        outlook = self.dispatcher.outlook(
            {t: now - r.since for t, r in self.runs.items()}
        )
        return {
            "nodes": pickle.dumps(nodes),
            "held": pickle.dumps(outlook),
            "bandwidth": self.scheduler.bandwidth / 1e6,
            "snapshot": self.dispatcher.tracker.snapshot(),
        }

    def _look_at_workers(self) -> None:
        """Take every worker in again; something was declared, or no longer is."""
        for address in list(self.scheduler.workers):
            self.add_worker(self.scheduler, address)

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:
        """A worker is there: its node is up, under the name that it had before."""
        ws = scheduler.workers[worker]
        name = str(ws.name)
        info = WorkerInfo(name, ws.nthreads, ws.memory_limit, dict(ws.resources))
        self.address[name] = worker
        self.names[worker] = name
        self.down.pop(name, None)
        known = [nodes[name] for nodes in self.declared.values() if name in nodes]
        self.dispatcher.set_node(node_of(info, known[-1] if known else None))
        self.sender.wake(name)
        for lost in self.down:  # what no other node could run, perhaps this one can
            self.sender.wake(*self.dispatcher.lose_node(lost))

    def remove_worker(
        self, scheduler: Scheduler, worker: str, *, stimulus_id: str, **kwargs: Any
    ) -> None:
        """A worker is gone: its functions move, or wait for its name to return."""
        name = self.names.pop(worker, None)
        if name is None or self.address.get(name) != worker:
            return
        del self.address[name]
        self.down[name] = time()
        self.sender.wake(*self.dispatcher.lose_node(name))

    # ----------------------------------------------------------------------- runs
    async def rpc_submit(
        self, spec: bytes, owner: str, tracker: bytes | None = None
    ) -> None:
        """Open the books of a planned run; its graph follows."""
        planned = pickle.loads(spec)
        own = pickle.loads(tracker) if tracker is not None else None
        run = LiveRun(planned, self.dispatcher.add_run(planned, own), owner)
        self.runs[run.spec.token] = run
        self.by_prefix.update(dict.fromkeys(run.spec.prefix, run))
        self.by_cut[run.spec.cut_prefix] = run

    async def rpc_cancel(self, token: str, client: str) -> None:
        """Stop what has not ended of a run; what has, stays."""
        run = self.runs.get(token)
        if run is not None:
            run.cancelled_by = client
            self._cancel(run)

    def _cancel(self, run: LiveRun) -> None:
        client, stimulus = run.cancelled_by, f"handout-cancel-{time()}"
        left = [i for i, s in enumerate(run.book.state) if s not in ENDED]
        keys = [run.key(i) for i in left]
        if client not in self.scheduler.clients or not keys:
            return
        if keys[0] not in self.scheduler.tasks:
            return  # the graph is on its way; `update_graph` comes back here
        self.scheduler.client_releases_keys(keys, client, stimulus)
        message = {"op": "cancelled-keys", "keys": keys, "reason": "cancelled"}
        self.scheduler.report({**message, "msg": ""}, client=client)
        for i in left:  # Dask forgets none that a failed one depends on
            self._gone(run, i)

    def _gone(self, run: LiveRun, i: int) -> None:
        if run.book.state[i] not in ENDED:
            self._record(run, i, "gone", {})
            self.sender.wake(self.dispatcher.ended(run.spec.token, i, GONE))

    async def rpc_forget(self, token: str) -> None:
        """The client needs nothing more of a run."""
        self._drop(token)

    def _drop(self, token: str) -> None:
        run = self.runs.pop(token, None)
        if run is None:
            return
        self._flush(run)
        for prefix in set(run.spec.prefix):
            self.by_prefix.pop(prefix, None)
        self.by_cut.pop(run.spec.cut_prefix, None)
        self.sender.wake(*self.dispatcher.drop_run(token))

    def _unpark(self, run: LiveRun) -> None:
        """Let Dask compute again what is kept, should it be lost later."""
        prefixes = {*run.spec.prefix, run.spec.cut_prefix}
        for key, task in self.scheduler.tasks.items():
            if type(key) is tuple and key[0] in prefixes:
                task.worker_restrictions = set()

    def update_graph(
        self, scheduler: Scheduler, *, tasks: Iterable[Any], **kwargs: Any
    ) -> None:
        """Park every function of a planned run."""
        cancelled = {}
        for key in tasks:
            run = self._run_of(key)
            if run is None:
                continue
            self.sender.park(key)
            if run.cancelled_by:
                cancelled[run.spec.token] = run
        for run in cancelled.values():  # before its graph was here
            scheduler.loop.add_callback(self._cancel, run)

    def _run_of(self, key: Any) -> LiveRun | None:
        """The run that a function, or an element that is cut out, belongs to."""
        if type(key) is not tuple:
            return None
        return self.by_prefix.get(key[0]) or self.by_cut.get(key[0])

    def _arrived(self, worker: str) -> None:
        """Inputs are on a node."""
        if worker in self.names:
            self.sender.wake(self.names[worker])

    def _is_cut(self, key: Any) -> bool:
        return type(key) is tuple and key[0] in self.by_cut

    # --------------------------------------------------------------------- events
    def transition(
        self,
        key: Any,
        start: str,
        finish: str,
        *args: Any,
        stimulus_id: str,
        **kwargs: Any,
    ) -> None:
        """A task changed its state."""
        if type(key) is not tuple:
            return
        run = self.by_prefix.get(key[0])
        if run is not None:
            self._function_moved(run, key, start, finish, kwargs)
        elif key[0] in self.by_cut:
            if finish == "released":
                self.sender.park(key)
            elif finish == "no-worker":
                self.sender.cut(key)

    def _function_moved(
        self, run: LiveRun, key: Any, start: str, finish: str, about: dict[str, Any]
    ) -> None:
        books, token, i = self.dispatcher, run.spec.token, key[1]
        if finish == "no-worker":
            name = books.ready(token, i)
            self.inputs.fetch(key, self.address.get(name, ""))
            self.sender.wake(name)
        elif finish == "memory":
            seconds = self._record(run, i, "done", about)
            self.sender.wake(books.ended(token, i, DONE, seconds))
        elif finish == "released":
            self._released(run, key)
        elif finish == "waiting" and start == "released":
            if run.book.state[i] != WAITING:
                self.sender.wake(books.waiting(token, i))
        elif finish == "erred":
            fault = self._fault(key)
            self._record(run, i, "failed" if fault else "blocked", about, fault)
            self.sender.wake(books.ended(token, i, FAILED))
        elif finish == "forgotten":
            self._gone(run, i)
            run.keys_left -= 1
        if not run.book.left:
            self._flush(run)
        if not run.keys_left:
            self._drop(token)

    def _fault(self, key: Any) -> tuple[Any, ...] | None:
        """What a failed function raised, or the cutting of an element that it reads.

        None if a function that it depends on failed.
        """
        task = self.scheduler.tasks[key]
        blame = task.exception_blame
        if blame is None:
            return None
        own = self._is_cut(blame.key) and blame in task.dependencies
        if blame is not task and not own:
            return None
        return blame.exception, blame.traceback, blame.exception_text

    def _released(self, run: LiveRun, key: Any) -> None:
        """Run again, or no longer needed: park it, so that only the books send it."""
        task, books, i = self.scheduler.tasks[key], self.dispatcher, key[1]
        self.sender.park(key)
        if run.book.state[i] in ENDED:
            return
        name = run.book.node[i]
        if (run.spec.token, i) in books.nodes[name].ahead and task.suspicious:
            task.suspicious -= 1  # it did not run yet, so it killed nobody
        self.sender.wake(name, books.waiting(run.spec.token, i))
        self.scheduler.loop.add_callback(self._unneeded, run, key)

    def _unneeded(self, run: LiveRun, key: Any) -> None:
        """If nothing followed its release: all that would have read it failed."""
        task = self.scheduler.tasks.get(key)
        if task is not None and task.state == "released":
            if run.spec.token in self.runs:
                self._gone(run, key[1])
            if not run.book.left:
                self._flush(run)

    def log_event(self, topic: str, msg: Any) -> None:
        """Word from a worker that a function has its inputs and runs."""
        if topic == STARTED:
            run = self.by_prefix.get(msg[0])
            if run is not None:
                self.sender.wake(self.dispatcher.started(run.spec.token, msg[1]))

    def _tick(self) -> None:
        now = time()
        for name, since in list(self.down.items()):
            if now - since > GRACE:
                for token, i in self.dispatcher.stranded(name):
                    self._fail(self.runs[token], i, name)
        if self.runs:
            self.sender.audit()

    def _fail(self, run: LiveRun, i: int, node: str) -> None:
        key = run.key(i)
        task = self.scheduler.tasks.get(key)
        if task is None or task.state != "no-worker":
            return  # it waits for a function that will fail, or be computed elsewhere
        error = NodeLostError(
            f"function {task.run_spec.args[0].label} can run only on node {node!r}, "
            f"which is gone for {GRACE:g} s"
        )
        raised = to_serialize(pickle.dumps(error))
        err(self.scheduler, key, f"handout-node-lost-{time()}", exception=raised)

    # -------------------------------------------------------------------- records
    def _record(
        self,
        run: LiveRun,
        i: int,
        outcome: str,
        about: dict[str, Any],
        fault: Any = None,
    ) -> float | None:
        """Note what happened for the client; returns the seconds that it took."""
        seconds = run.record(i, outcome, about, fault)
        if not run.flushing:
            run.flushing = True
            self.scheduler.loop.call_later(FLUSH, self._flush, run)
        return seconds

    def _flush(self, run: LiveRun) -> None:
        run.flushing = False
        message = run.message()
        if message is not None:
            self.scheduler.log_event(run.topic, message)

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
from distributed.core import Status
from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.protocol import pickle
from tornado.ioloop import PeriodicCallback

from handout_dask.books import DONE, ENDED, FAILED, GONE, WAITING
from handout_dask.dispatch import Dispatcher
from handout_dask.runtime.adopted import Adopter
from handout_dask.runtime.erring import fault_of, strand
from handout_dask.runtime.inputs import Inputs
from handout_dask.runtime.keys import Keys
from handout_dask.runtime.records import NAME, LiveRun
from handout_dask.runtime.replanner import Replanner
from handout_dask.runtime.roster import Roster
from handout_dask.runtime.runner import STARTED
from handout_dask.runtime.sender import Sender
from handout_dask.tracker import StaticTracker
from handout_dask.traffic import Traffic

logger = logging.getLogger(__name__)

GRACE = 10.0  # s that a pinned function waits for its node to return
TICK = 500  # ms between looks at what no event told of: paused workers, lost nodes
WATCH = 100  # ms between looks for functions that are late
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
        self.roster = Roster(Traffic(scheduler.bandwidth / 1e6))
        self.address, self.names = self.roster.address, self.roster.names
        self.keys = Keys()
        for what in RPCS:
            scheduler.handlers[f"handout_{what}"] = getattr(self, f"rpc_{what}")
        self.inputs = Inputs(
            scheduler, self.keys.run_of, self._arrived, self.names, self.roster.traffic
        )
        self.inputs.start()
        self.sender = Sender(
            scheduler, self.dispatcher, self.runs, self.address, self.inputs
        )
        self.replanner = Replanner(
            self.dispatcher,
            self.runs,
            self.roster,
            self._is_running,
            self._revised,
            scheduler.loop,
        )
        self.adopter = Adopter(self)
        for address in scheduler.workers:
            self.add_worker(scheduler, address)
        self.timers = [
            PeriodicCallback(self._tick, TICK), PeriodicCallback(self._watch, WATCH)
        ]  # fmt: skip
        for timer in self.timers:
            timer.start()

    async def close(self) -> None:
        """Leave the scheduler as it was found."""
        for timer in self.timers:
            timer.stop()
        self.adopter.stop()
        self.replanner.close()
        for what in RPCS:
            self.scheduler.handlers.pop(f"handout_{what}", None)
        self.inputs.stop()

    async def rpc_join(self, owner: str, client: str, declared: bytes) -> None:
        """An executor begins to use this scheduler."""
        self.owners[owner] = client
        self.roster.declare(owner, pickle.loads(declared))
        self._look_at_workers()

    async def rpc_leave(self, owner: str) -> None:
        """An executor ends; the last one takes the plugin with it."""
        client = self.owners.pop(owner, "")
        self.adopter.leave(owner)
        if self.roster.withdraw(owner):
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
    async def rpc_nodes(self, owner: str) -> dict[str, Any]:
        """The nodes that are up, what they are promised to, and what was measured."""
        self.dispatcher.now = time()
        return {
            "cluster": pickle.dumps(self.roster.cluster(owner)),
            "held": pickle.dumps(self.dispatcher.outlook()),
            "cost": self.replanner.cost,
            "snapshot": self.dispatcher.tracker.snapshot(),
        }

    def _look_at_workers(self) -> None:
        """Take every worker in again; something was declared, or no longer is."""
        for address in list(self.scheduler.workers):
            self.add_worker(self.scheduler, address)

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:
        """A worker is there: its node is up, under the name that it had before."""
        node = self.roster.add(scheduler.workers[worker])
        is_new = not self.dispatcher.is_up(node.name)
        self.dispatcher.set_node(node)
        self.sender.wake(node.name)
        for lost in self.roster.down:  # what no other node could run, perhaps this can
            self.sender.wake(*self.dispatcher.lose_node(lost))
        if is_new:
            self.replanner.joined(node.name)

    def remove_worker(
        self, scheduler: Scheduler, worker: str, *, stimulus_id: str, **kwargs: Any
    ) -> None:
        """A worker is gone: its functions move, or wait for its name to return."""
        self.inputs.forget_worker(worker)
        name = self.roster.remove(worker, time())
        if name is not None:
            self.sender.wake(*self.dispatcher.lose_node(name))
            self.replanner.changed(f"node {name} lost")

    def _is_running(self, name: str) -> bool:
        """Whether a node takes work: there, and not paused or closing."""
        ws = self.scheduler.workers.get(self.address.get(name, ""))
        return ws is not None and ws.status is Status.running

    def _revised(self, run: LiveRun, moved: Iterable[int]) -> None:
        """What has not started of a run was planned again; these go elsewhere."""
        self.adopter.revised(run)
        for i in moved:
            if run.key(i) in self.scheduler.tasks:
                address = self.address.get(run.book.node[i], "")
                self.inputs.fetch(run.key(i), address)
        self.sender.wake(*self.address)

    # ----------------------------------------------------------------------- runs
    async def rpc_submit(
        self, spec: bytes, owner: str, tracker: bytes | None = None
    ) -> None:
        """Open the books of a planned run; its graph follows."""
        planned = pickle.loads(spec)
        own = pickle.loads(tracker) if tracker is not None else None
        self.dispatcher.now = time()
        run = LiveRun(planned, self.dispatcher.add_run(planned, own), owner)
        self.runs[run.spec.token] = run
        self.keys.add(run)

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
        self.keys.drop(run)
        self.sender.wake(*self.dispatcher.drop_run(token))

    def _unpark(self, run: LiveRun) -> None:
        """Let Dask compute again what is kept, should it be lost later."""
        own = self.keys.of(run)
        for key, task in self.scheduler.tasks.items():
            if key in own or (type(key) is tuple and key[0] in own):
                task.worker_restrictions = set()

    def update_graph(
        self, scheduler: Scheduler, *, tasks: Iterable[Any], **kwargs: Any
    ) -> None:
        """Park every function of a planned run."""
        cancelled = {}
        for key in tasks:
            run = self.keys.run_of(key)
            if run is None:
                continue
            self.sender.park(key)
            if run.cancelled_by:
                cancelled[run.spec.token] = run
        for run in cancelled.values():  # before its graph was here
            scheduler.loop.add_callback(self._cancel, run)

    def _arrived(self, worker: str) -> None:
        """Inputs are on a node."""
        if worker in self.names:
            self.sender.wake(self.names[worker])

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
        found = self.keys.find(key)
        if found is not None:
            self.dispatcher.now = time()
            self._function_moved(*found, key, start, finish, kwargs)
        elif self.keys.is_cut(key):
            if finish == "memory":
                self._push(key)
            elif finish == "released":
                self.sender.park(key)
            elif finish == "no-worker":
                self.sender.cut(key)

    def _function_moved(
        self,
        run: LiveRun,
        i: int,
        key: Any,
        start: str,
        finish: str,
        about: dict[str, Any],
    ) -> None:
        books, token = self.dispatcher, run.spec.token
        if finish == "no-worker":
            name = books.ready(token, i)
            self.inputs.fetch(key, self.address.get(name, ""))
            self.sender.wake(name)
        elif finish == "memory":
            expected = run.book.start[i], run.book.end[i]
            seconds = self._record(run, i, "done", about)
            self.sender.wake(books.ended(token, i, DONE, seconds))
            self.replanner.ended(run, i, seconds, *expected)
            self._push(key)
        elif finish == "released":
            self._released(run, i, key)
        elif finish == "waiting" and start == "released":
            if run.book.state[i] != WAITING:
                self.sender.wake(books.waiting(token, i))
        elif finish == "erred":
            fault = fault_of(self.scheduler.tasks[key], self.keys.is_cut)
            self._record(run, i, "failed" if fault else "blocked", about, fault)
            self.sender.wake(books.ended(token, i, FAILED))
        elif finish == "forgotten":
            self._gone(run, i)
            run.keys_left -= 1
        if not run.book.left:
            self._flush(run)
        if not run.keys_left:
            self._drop(token)

    def _push(self, key: Any) -> None:
        """Bring a new result to where functions will read it."""
        for task in self.scheduler.tasks[key].dependents:
            found = self.keys.find(task.key)
            if found is not None:
                run, i = found
                name = run.book.node[i]
                self.inputs.push(key, self.address.get(name, ""))

    def _released(self, run: LiveRun, i: int, key: Any) -> None:
        """Run again, or no longer needed: park it, so that only the books send it."""
        task, books = self.scheduler.tasks[key], self.dispatcher
        self.sender.park(key)
        if run.book.state[i] in ENDED:
            return
        name = run.book.node[i]
        if (run.spec.token, i) in books.nodes[name].ahead and task.suspicious:
            task.suspicious -= 1  # it did not run yet, so it killed nobody
        self.sender.wake(name, books.waiting(run.spec.token, i))
        self.scheduler.loop.add_callback(self._unneeded, run, i, key)

    def _unneeded(self, run: LiveRun, i: int, key: Any) -> None:
        """If nothing followed its release: all that would have read it failed."""
        task = self.scheduler.tasks.get(key)
        if task is not None and task.state == "released":
            if run.spec.token in self.runs:
                self._gone(run, i)
            if not run.book.left:
                self._flush(run)

    def log_event(self, topic: str, msg: Any) -> None:
        """Word from a worker that a function has its inputs and runs."""
        if topic == "worker-status-change":
            self.replanner.changed("a node was paused, or goes on")
        elif topic == STARTED:
            found = self.keys.find(tuple(msg) if isinstance(msg, list) else msg)
            if found is not None:
                run, i = found
                self.sender.wake(self.dispatcher.started(run.spec.token, i))

    def _tick(self) -> None:
        now = self.dispatcher.now = time()
        for name, since in list(self.roster.down.items()):
            if now - since > GRACE:
                for token, i in self.dispatcher.stranded(name):
                    strand(self.scheduler, self.runs[token].key(i), name, GRACE)
        if self.runs:
            self.sender.audit()

    def _watch(self) -> None:
        """Look for functions that are late."""
        if self.runs:
            self.dispatcher.now = time()
            self.replanner.watch()

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

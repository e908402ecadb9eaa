"""The scheduler plugin: events out, decisions in.

It parks every function of a planned run; `sender.Sender` sends it when the books of
`dispatch.Dispatcher` say so. Each file that touches the scheduler's internals lists
its seams at its head; those here:

* ``Scheduler.handlers`` takes our RPCs.
* ``Scheduler.client_releases_keys`` and ``report`` cancel what has not ended.
* ``Scheduler._broker`` sends records to executors, and forgets those of one that left.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import astuple
from time import time
from typing import Any

from distributed import Scheduler
from distributed.core import Status
from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.protocol import pickle

from handout_dask.books import ENDED, READY
from handout_dask.dispatch import Dispatcher
from handout_dask.errors import HandoutError
from handout_dask.runtime.adopted import Adopter
from handout_dask.runtime.detached import Detached
from handout_dask.runtime.elastic import Keeper
from handout_dask.runtime.explaining import Explainer
from handout_dask.runtime.follower import Follower
from handout_dask.runtime.guarding import Guard
from handout_dask.runtime.inputs import Inputs
from handout_dask.runtime.keys import Keys
from handout_dask.runtime.lingering import Lingering
from handout_dask.runtime.observing import Observer
from handout_dask.runtime.probe import LEFT, take_probes
from handout_dask.runtime.records import NAME, LiveRun
from handout_dask.runtime.recovering import Recovering
from handout_dask.runtime.replanner import Replanner
from handout_dask.runtime.roster import Roster
from handout_dask.runtime.runner import STARTED
from handout_dask.runtime.sender import Sender
from handout_dask.runtime.speculating import Speculator
from handout_dask.runtime.viewing import Viewing
from handout_dask.runtime.watching import Watch
from handout_dask.tracker import LiveTracker
from handout_dask.traffic import Traffic

logger = logging.getLogger(__name__)

LEAVING = 0.2  # s between looks at whether threads have ended
MANY = 2000  # functions whose inputs are brought elsewhere at once
RPCS = ("join", "leave", "nodes", "submit", "cancel", "forget")


class HandoutPlugin(SchedulerPlugin):
    """Places and orders the functions of planned runs. One for each scheduler."""

    name = NAME
    idempotent = True

    def __init__(self) -> None:
        self.runs: dict[str, LiveRun] = {}
        self.closing = False

    # ------------------------------------------------------- start, end, members
    async def start(self, scheduler: Scheduler) -> None:
        """Begin to serve; harmless when called twice."""
        if getattr(self, "scheduler", None) is not None:
            return
        self.scheduler = scheduler
        tracker = LiveTracker()
        self.dispatcher = Dispatcher(tracker)
        self.owners: dict[str, str] = {}  # executor -> client
        self.roster = Roster(Traffic(scheduler.bandwidth / 1e6))
        self.address, self.names = self.roster.address, self.roster.names
        self.keys = Keys()
        for what in RPCS:
            scheduler.handlers[f"handout_{what}"] = getattr(self, f"rpc_{what}")
        self.inputs = Inputs(
            scheduler, self.keys.run_of, self._arrived, self.names,
            self.roster.traffic, self._stay,
        )  # fmt: skip
        self.inputs.start()
        self.sender = Sender(
            scheduler, self.dispatcher, self.runs, self.address, self.inputs
        )
        self.replanner = Replanner(
            self.dispatcher, self.runs, self.roster, self._is_running, self._revised,
            lambda run: self.follower.tell(run), scheduler.loop,
        )  # fmt: skip
        self.lingering = Lingering(
            scheduler, self.dispatcher, self.runs, self.keys, self.roster, self.sender
        )
        self.follower = Follower(
            scheduler, self.dispatcher, self.runs, self.keys, self.address,
            self.sender, self.inputs, self.replanner, self.roster.holding,
            self.lingering,
        )  # fmt: skip
        self.follower.stop = self._cancel
        self.detached = Detached(scheduler, self.runs, self.follower.flush)
        scheduler.handlers["handout_attach"] = self.detached.rpc_attach
        scheduler.handlers["handout_runs"] = self.detached.rpc_runs
        self.explainer = Explainer(
            scheduler, self.dispatcher, self.runs, self.inputs, self.address,
            self._is_running,
        )  # fmt: skip
        self.adopter = Adopter(self)
        self.keeper = Keeper(
            scheduler, self.dispatcher, self.roster, self.sender, self.replanner
        )
        for address in scheduler.workers:
            self.add_worker(scheduler, address)
        self.observer = Observer(
            scheduler, self.dispatcher, self.runs, tracker, self.roster, self.sender,
            self.replanner, lambda address: self.add_worker(scheduler, address),
        )  # fmt: skip
        self.watch = Watch(
            scheduler, self.dispatcher, self.runs, self.roster, self.sender,
            self.replanner, Speculator(
                scheduler, self.dispatcher, self.runs, self.address, self._is_running,
                self.inputs, self.sender, self.replanner,
            ),
            self.lingering, self.observer,
        )  # fmt: skip
        self.watch.start()
        self.observer.begin()
        self.guard = Guard(self)
        self.watch.renewer.give_up = self.guard.give_up
        self.recovering = Recovering(self)
        from handout_dask.dashboard.install import mount

        self.viewing = Viewing(self, mount)

    async def close(self) -> None:
        """Leave the scheduler as it was found."""
        self.closing = True
        self.viewing.stop()
        self.recovering.stop()
        self.watch.stop()
        self.adopter.stop()
        self.keeper.stop()
        self.replanner.close()
        for what in (*RPCS, "attach", "runs"):
            self.scheduler.handlers.pop(f"handout_{what}", None)
        self.explainer.stop()
        self.lingering.stop()
        self.inputs.stop()
        self.follower.journals.stop()
        await self.guard.stop()
        await self.observer.stop()
        await take_probes(self.scheduler)

    async def rpc_join(self, owner: str, client: str, declared: bytes) -> bool:
        """An executor begins to use this scheduler; True, that it was heard."""
        self.owners[owner] = client
        # The client's own subscription may be overtaken by what it asks for next.
        self.scheduler._broker.subscribe(f"{NAME}/{owner}", client)
        self.roster.declare(owner, pickle.loads(declared))
        self._look_at_workers()
        await self.observer.ready()
        return True

    async def rpc_leave(self, owner: str) -> None:
        """An executor ends; the last one takes the plugin with it."""
        client = self.owners.pop(owner, "")
        self.adopter.leave(owner)
        for token, run in list(self.runs.items()):
            if owner in run.readers:
                run.readers.remove(owner)
            unknown = run.key(0) not in self.scheduler.tasks
            unknown &= client not in self.scheduler.clients  # its graph never comes
            if run.owner == owner and (run.keepsake is None or unknown):
                self.follower.drop(token)
                self.follower.unpark(run)
        self._withdraw(owner)
        self.scheduler._broker.unsubscribe(f"{NAME}/{owner}", client)
        self.scheduler._broker.truncate(f"{NAME}/{owner}")
        self.keeper.leave(owner)
        await self._end_if_unused()

    def _withdraw(self, owner: str) -> None:
        """What an executor declared no longer holds, if it and its runs are gone."""
        needed = any(run.declared_by == owner for run in self.runs.values())
        if owner not in self.owners and not needed and self.roster.withdraw(owner):
            self._look_at_workers()

    async def _end_if_unused(self) -> None:
        """Leave the scheduler if no executor and no detached run is left.

        And no thread of theirs: who comes next would not know what it holds.
        """
        used = self.owners or any(r.keepsake is not None for r in self.runs.values())
        if used or self.closing or self.scheduler.plugins.get(NAME) is not self:
            return
        if self.dispatcher.lingering:
            self.scheduler.loop.call_later(LEAVING, self._end_if_unused)
        else:
            await self.close()
            self.scheduler.remove_plugin(NAME)

    def remove_client(self, scheduler: Scheduler, client: str) -> None:
        """A client that is gone takes its executors and runs along."""
        for owner in [o for o, c in self.owners.items() if c == client]:
            scheduler.loop.add_callback(self.rpc_leave, owner)

    # ---------------------------------------------------------------------- nodes
    async def rpc_nodes(self, owner: str, away: bool = False) -> dict[str, Any]:
        """The nodes that are up, what they are promised to, and what was measured;
        with those that are away, but will be there when a plan needs them.
        """
        now = self.dispatcher.now = time()
        starting = map(astuple, self.roster.holding.held(owner, now))
        return {
            "cluster": pickle.dumps(self.roster.cluster(owner, away=away)),
            "held": pickle.dumps([*self.dispatcher.outlook(), *starting]),
            "cost": self.replanner.cost,
            "limits": self.observer.limits(),
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
        self.keeper.joined(node.name)
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
        if name is not None and not self.keeper.left(name):
            self.sender.wake(*self.dispatcher.lose_node(name))
            self.watch.lost(name)
            self.replanner.changed(f"node {name} lost")

    def _is_running(self, name: str) -> bool:
        """Whether a node takes work: there, and not paused or closing."""
        ws = self.scheduler.workers.get(self.address.get(name, ""))
        return ws is not None and ws.status in (Status.init, Status.running)

    def _revised(self, run: LiveRun, moved: Iterable[int]) -> None:
        """What has not started of a run was planned again; these go elsewhere."""
        self.adopter.revised(run)
        moved = list(moved)
        if len(moved) > MANY:  # the others get their inputs when they are ready
            moved = [i for i in moved if run.book.state[i] == READY]
        for i in moved:
            task = self.scheduler.tasks.get(run.key(i))
            if task is not None and task.dependencies:
                self.inputs.fetch(task.key, self.address.get(run.book.node[i], ""))
        self.sender.wake(*self.address)

    def _stay(self, key: Any, addresses: list[str]) -> bool:
        """Let a function run where a result is that can't travel."""
        found = self.keys.find(key)
        if found is None:
            return False
        run, i = found
        if i in run.book.bound:  # by another result of that kind
            return False
        names = [self.names[x] for x in addresses if x in self.names]
        return any(self.dispatcher.bind(run.spec.token, i, name) for name in names)

    # ----------------------------------------------------------------------- runs
    async def rpc_submit(
        self,
        spec: bytes,
        owner: str,
        tracker: bytes | None = None,
        keepsake: bytes | None = None,
        wanted: list[int] | None = None,
    ) -> None:
        """Open the books of a planned run; its graph follows."""
        planned = pickle.loads(spec)
        own = None if tracker is None else _loaded(tracker, "tracker")
        self.dispatcher.now = time()
        run = LiveRun(planned, self.dispatcher.add_run(planned, own), owner)
        run.keepsake, run.wanted = keepsake, wanted or []
        self.runs[run.spec.token] = run
        self.keys.add(run)
        self.recovering.meet(run)
        self.replanner.shared(run)

    async def rpc_cancel(self, token: str, client: str) -> None:
        """Stop what has not ended of a run; what has, stays."""
        run = self.runs.get(token)
        if run is not None:
            run.cancelled_by = client
            self._cancel(run)

    def _cancel(self, run: LiveRun) -> None:
        left = [i for i, s in enumerate(run.book.state) if s not in ENDED]
        keys = [run.key(i) for i in left]
        clients = self.detached.clients(run, self.owners)
        if not clients or not keys:
            return
        if keys[0] not in self.scheduler.tasks:
            return  # the graph is on its way; `update_graph` comes back here
        stimulus = f"handout-cancel-{time()}"
        message = {"op": "cancelled-keys", "keys": keys, "reason": "cancelled"}
        for client in clients:
            self.scheduler.client_releases_keys(keys, client, stimulus)
            self.scheduler.report({**message, "msg": ""}, client=client)
        for i in left:  # Dask forgets none that a failed one depends on
            self.follower.gone(run, i)

    async def rpc_forget(self, token: str) -> None:
        """The client needs nothing more of a run."""
        run = self.runs.get(token)
        if run is not None:
            self.detached.release(run)
            self.follower.drop(token)
            self._withdraw(run.declared_by)
        await self._end_if_unused()

    def update_graph(
        self, scheduler: Scheduler, *, tasks: Iterable[Any], **kwargs: Any
    ) -> None:
        """Park every function of a planned run."""
        here = {}
        for key in tasks:
            run = self.keys.run_of(key)
            if run is not None:
                self.sender.park(key)
                here[run.spec.token] = run
        for run in here.values():
            if run.keepsake is not None:
                self.detached.hold(run)  # at once: its client may release it next
            if run.cancelled_by:  # before its graph was here
                scheduler.loop.add_callback(self._cancel, run)

    def _arrived(self, worker: str) -> None:
        """Inputs are on a node."""
        if worker in self.names:
            self.adopter.inputs_came(self.names[worker])
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
            self.follower.moved(*found, key, start, finish, kwargs)
        elif self.keys.is_cut(key):
            if finish == "memory":
                self.follower.push(key)
            elif finish == "released":
                self.sender.park(key)
            elif finish == "no-worker":
                self.sender.cut(key)

    def log_event(self, topic: str, msg: Any) -> None:
        """Word from a worker: a function has its inputs and runs, or has left it."""
        if topic == "worker-status-change":
            self.replanner.changed("a node was paused, or goes on")
        elif topic == STARTED:
            found = self.keys.find(tuple(msg) if isinstance(msg, list) else msg)
            if found is not None:
                run, i = found
                self.sender.wake(self.dispatcher.started(run.spec.token, i))
        elif topic == LEFT:
            self.dispatcher.now = time()
            self.lingering.left(msg)


def _loaded(data: bytes, what: str) -> Any:
    """An object of the user's that shall act here."""
    try:
        return pickle.loads(data)
    except Exception as error:
        raise HandoutError(
            f"the {what} can't be loaded on the scheduler: {type(error).__name__}: "
            f"{error}. Is its package installed there?"
        ) from None

"""Adopter: takes tasks of ordinary Dask graphs into planned runs, on the scheduler.

It decides which, and when; `gathered` says what is planned. From then on they are as
the functions of any run. Beside plugin.py it touches the scheduler's internals; the
seams here:

* ``Scheduler.handlers`` takes our RPC.
* ``stream_handlers["long-running"]`` is wrapped to learn who left its thread.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from time import time
from typing import Any

from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.protocol import pickle
from tornado.ioloop import PeriodicCallback

from handout_dask.allocators import Allocator, get_allocator
from handout_dask.allocators.makespan import Time
from handout_dask.books import DONE, ENDED, GONE
from handout_dask.errors import CostError, HandoutError
from handout_dask.held import Held
from handout_dask.node import Cluster
from handout_dask.runtime import gathered
from handout_dask.runtime.bonds import LEFT, give_back, is_free, refuse
from handout_dask.runtime.gathered import AdoptedRun, Batch, gather, plan_batch, warm
from handout_dask.runtime.optimising import HANDOUT
from handout_dask.runtime.spared import Spared

logger = logging.getLogger(__name__)

GATHER = 0.005  # s for which tasks are gathered before they are planned together
LOOK = 500  # ms between looks at what no event told of
PATIENCE = 5.0  # s without its node, after which a task that any node can run is Dask's


@dataclass(frozen=True)
class Settings:
    """What a client has installed."""

    client: str
    allocator: Allocator
    learn: bool


class Adopter(SchedulerPlugin):
    """Adopts tasks of clients that have installed an allocator.

    Parameters
    ----------
    host : HandoutPlugin
        Whose books, roster and sender it uses; it is there longer than this.
    """

    name = "handout-adopter"
    idempotent = True

    def __init__(self, host: Any) -> None:
        self._host, self._scheduler = host, host.scheduler
        self._settings: dict[str, Settings] = {}  # by owner
        self._owners: dict[str, str] = {}  # by client
        self._owner_of: dict[Any, str] = {}  # of each task that may be adopted
        self._spared = Spared(host.replanner.history, host.dispatcher, host.names)
        self._pending: dict[Any, None] = {}  # parked, to be planned
        self._in_plan: set[Any] = set()  # parked, being planned
        self._is_due = False
        self._pool: ThreadPoolExecutor | None = None
        self._timer = PeriodicCallback(self._look, LOOK)
        self._dask_long_running: Any = None
        self._scheduler.handlers["handout_adopt"] = self.rpc_adopt

    # ------------------------------------------------------------- beginning, end
    async def rpc_adopt(
        self, owner: str, client: str, allocator: bytes, learn: bool
    ) -> None:
        """A client installs an allocator, or changes what it has installed."""
        try:
            chosen = get_allocator(pickle.loads(allocator))
        except Exception as error:
            raise HandoutError(
                "the allocator can't be loaded on the scheduler; its package must be "
                f"installed there too: {type(error).__name__}: {error}"
            ) from error
        if not self._settings:
            self._begin()
        self._settings[owner] = Settings(client, chosen, learn)
        self._owners[client] = owner

    def _begin(self) -> None:
        self._pool = ThreadPoolExecutor(1, "handout-adopt")
        self._pool.submit(warm)
        handlers = self._scheduler.stream_handlers
        self._dask_long_running = handlers["long-running"]
        handlers["long-running"] = self._long_running
        self._scheduler.add_plugin(self)
        self._timer.start()

    def leave(self, owner: str) -> None:
        """A client has uninstalled, or is gone; what it left is Dask's."""
        settings = self._settings.pop(owner, None)
        if settings is None:
            return
        self._owners.pop(settings.client, None)
        mine = [key for key, other in self._owner_of.items() if other == owner]
        for run in self._runs():
            if run.owner == owner:
                self._close_run(run)
        self._disown(mine)
        give_back(self._scheduler, mine)
        if not self._settings:
            self._end()

    def _end(self) -> None:
        self._timer.stop()
        if self._scheduler.plugins.get(self.name) is self:
            self._scheduler.remove_plugin(self.name)
        handlers = self._scheduler.stream_handlers
        if handlers.get("long-running") == self._long_running:
            handlers["long-running"] = self._dask_long_running
        self._spared.clear()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def stop(self) -> None:
        """The plugin leaves the scheduler."""
        for owner in list(self._settings):
            self.leave(owner)
        self._scheduler.handlers.pop("handout_adopt", None)

    def restart(self, scheduler: Any) -> None:
        """All tasks are gone."""
        for run in self._runs():
            self._host.follower.drop(run.spec.token)
        self._owner_of.clear()
        self._spared.clear()
        self._pending.clear()
        self._in_plan.clear()

    def _runs(self) -> list[AdoptedRun]:
        return [run for run in self._host.runs.values() if isinstance(run, AdoptedRun)]

    # --------------------------------------------------------------------- events
    def update_graph(
        self, scheduler: Any, *, client: str, tasks: Iterable[Any], **kwargs: Any
    ) -> None:
        """Remember which tasks of a new graph are to be adopted, once they are due."""
        owner = self._owners.get(client)
        if owner is None:
            return
        learn, known = self._settings[owner].learn, self._owner_of
        fresh, costed = [], False
        for key in tasks:
            task = scheduler.tasks[key]
            if key in known or task.state != "released" or not is_free(task):
                continue
            has_cost = HANDOUT in (task.annotations or ())
            if (learn or has_cost) and self._host.keys.run_of(key) is None:
                fresh.append(key)
                costed |= has_cost
        if costed or not self._spared.take(fresh):
            known.update(dict.fromkeys(fresh, owner))

    def inputs_came(self, name: str) -> None:
        """Inputs are on a node; perhaps all of a task that was sent there before.

        A function of ours says when it starts; other tasks do not.
        """
        host = self._host
        for token, i in list(host.dispatcher.nodes[name].unsure):
            run, address = host.runs.get(token), host.address.get(name)
            if not isinstance(run, AdoptedRun) or address is None:
                continue
            key = run.key(i)
            is_known = key in self._scheduler.tasks
            if is_known and host.inputs.arrives(key, address) <= 0.0:
                host.dispatcher.started(token, i)

    def add_worker(self, scheduler: Any, worker: str) -> None:
        """A worker is there; perhaps tasks wait for the first."""
        self._plan_soon()

    def transition(
        self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any
    ) -> None:
        """A task changed its state; comes after the host's own hook."""
        if self._spared.follow(key, finish, kwargs):
            return
        if key not in self._owner_of:
            return
        found = self._host.keys.find(key)
        if found is None:
            if finish == "waiting":
                self._await(key)
        else:
            run, i = found
            if finish == "no-worker":
                run.arrived(i, time())
            elif finish == "forgotten":
                self._host.keys.forget(key)
            if not run.book.left:
                self._close_run(run)
        if finish == "forgotten":
            self._owner_of.pop(key, None)
            self._pending.pop(key, None)

    def _await(self, key: Any) -> None:
        """Park a task that has to be run, until it is planned."""
        self._host.sender.park(key)
        if key not in self._in_plan:
            self._pending[key] = None
            self._plan_soon()

    def revised(self, run: Any) -> None:
        """A run has another plan."""
        if isinstance(run, AdoptedRun):
            run.yield_outside()

    def _long_running(self, key: Any, worker: str, **message: Any) -> None:
        """A task left its thread, so that another can run there."""
        self._dask_long_running(key=key, worker=worker, **message)
        found = self._host.keys.find(key)
        if found is not None and isinstance(found[0], AdoptedRun):
            run, i = found
            task = self._scheduler.tasks[key]
            if task.processing_on is not None and task.processing_on.address == worker:
                self._leave_out(run, i)
                if not run.book.left:
                    self._close_run(run)

    def _leave_out(self, run: AdoptedRun, i: int) -> None:
        if run.book.state[i] not in ENDED:
            books = self._host.dispatcher
            self._host.sender.wake(books.ended(run.spec.token, i, GONE))

    def _look(self) -> None:
        """What no event told of: runs that have ended, nodes that are gone for long."""
        for run in self._runs():
            if not run.book.left:
                self._close_run(run)
        for name, since in list(self._host.roster.down.items()):
            if time() - since > PATIENCE:
                for token in {t for t, _ in self._host.dispatcher.stranded(name)}:
                    run = self._host.runs[token]
                    if isinstance(run, AdoptedRun) and run.free:
                        self._close_run(run)
        self._plan_soon()

    # ------------------------------------------------------------------- planning
    def _plan_soon(self) -> None:
        if self._pending and not self._is_due and not self._in_plan:
            self._is_due = True
            self._scheduler.loop.call_later(GATHER, self._plan)

    def _plan(self) -> None:
        """Plan what was gathered: tasks of one client and one priority at a time."""
        self._is_due = False
        if self._in_plan or not self._pending:
            return
        before = [*self._pending]
        try:
            self._plan_some()
        except Exception:
            self._in_plan = set()
            logger.exception("Left to Dask: %d tasks", len(before))
            self._disown(before)
            give_back(self._scheduler, before)

    def _plan_some(self) -> None:
        host = self._host
        names = [name for name in host.roster.address if host._is_running(name)]
        if not names:
            return  # a look will come back here
        tasks, costs, owner, priority = self._choose()
        if not tasks:
            self._plan_soon()
            return
        batch = gather(tasks, costs, host.names)
        self._in_plan = {task.key for task in tasks}
        settings = self._settings[owner]
        host.dispatcher.now = time()
        cluster: Cluster = host.roster.cluster(owner, names)
        held = [
            Held(*row) for row in host.dispatcher.outlook() if row[0] in cluster.index
        ]
        fixed = not isinstance(settings.allocator, Time)
        assert self._pool is not None
        future = self._pool.submit(
            plan_batch,
            batch,
            -priority,
            settings.allocator,
            fixed,
            cluster,
            held,
            host.replanner.history,
            host.replanner.cost,
        )
        future.add_done_callback(
            lambda done: self._scheduler.loop.add_callback(
                self._planned, batch, owner, done
            )
        )

    def _choose(self) -> tuple[list[Any], list[Any], str, int]:
        """Tasks to plan together, out of those pending, with costs and owner."""
        tasks: list[Any] = []
        costs: list[Any] = []
        owner, priority, bad = "", 0, list[Any]()
        later: dict[Any, None] = {}
        for key in self._pending:
            task = self._scheduler.tasks.get(key)
            if task is None or task.state not in LEFT or key not in self._owner_of:
                continue
            if not tasks:
                owner, priority = self._owner_of[key], task.priority[0]
            elif (owner, priority) != (self._owner_of[key], task.priority[0]):
                later[key] = None
                continue
            try:
                costs.append(gathered.cost_of(task))
            except CostError as error:
                logger.warning("Left to Dask: %s", error)
                bad.append(key)
                continue
            tasks.append(task)
        self._pending = later
        self._disown(bad)
        give_back(self._scheduler, bad)
        return tasks, costs, owner, priority

    def _planned(self, batch: Batch, owner: str, done: Future[Any]) -> None:
        """Open the books of what is planned."""
        self._in_plan = set()
        keys = batch.keys[len(batch.pins) :]
        if owner in self._settings:
            try:
                spec, refused = done.result()
            except Exception:
                logger.exception(
                    "Left to Dask, for planning failed: %d tasks", len(keys)
                )
                self._disown(keys)
                give_back(self._scheduler, keys)
            else:
                for key, error in refused.items():
                    self._refuse(key, error)
                if spec is None:
                    self._pending.update(dict.fromkeys(keys))
                else:
                    self._open(spec, owner, batch)
        self._plan_soon()

    def _open(self, spec: Any, owner: str, batch: Batch) -> None:
        host, token = self._host, spec.token
        host.dispatcher.now = time()
        run = AdoptedRun(spec, host.dispatcher.add_run(spec), owner, batch)
        host.runs[token] = run
        host.keys.add(run)
        for i in range(run.inputs):
            host.dispatcher.ended(token, i, DONE, 0.0)
        for i, key in enumerate(batch.keys[run.inputs :], run.inputs):
            task = self._scheduler.tasks.get(key)
            if task is None or key not in self._owner_of or task.state not in LEFT:
                self._leave_out(run, i)
            elif task.state == "no-worker":
                host.transition(key, "waiting", "no-worker", stimulus_id="handout")
                run.arrived(i, time())
        if not run.book.left:
            self._close_run(run)
        host.sender.wake(*host.address)

    # ------------------------------------------------------------------- refusing
    def _refuse(self, key: Any, error: HandoutError) -> None:
        """Fail a task that can run nowhere, with why."""
        self._disown([key])
        refuse(self._scheduler, key, error)

    def _disown(self, keys: Iterable[Any]) -> None:
        for key in keys:
            self._owner_of.pop(key, None)
            self._pending.pop(key, None)

    def _close_run(self, run: AdoptedRun) -> None:
        """Close the books of a run; what is left of it, is Dask's."""
        if run.spec.token not in self._host.runs:
            return
        self._host.follower.drop(run.spec.token)
        keys = (run.keys or [])[run.inputs :]
        if run.book.left:
            self._disown(keys)
        again = {*self._pending, *self._in_plan}  # others of the same keys
        find = self._host.keys.find
        rest = [key for key in keys if key not in again and find(key) is None]
        give_back(self._scheduler, rest)

"""Plays what `chaos` says on a real cluster, and tells which laws were broken."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import cloudpickle
import psutil

import handout_dask as hd
from benchmarks.breaking import chaos
from benchmarks.breaking.chaos import (
    FAILS,
    NEVER,
    ONCE,
    RAISES,
    Event,
    Script,
    Task,
    value,
)
from benchmarks.breaking.cluster import Real, Spec, send, until, worker_below
from benchmarks.breaking.netns import Hosts
from benchmarks.breaking.owned import Owned
from benchmarks.breaking.ways import Doing
from benchmarks.breaking.work import note

cloudpickle.register_pickle_by_value(sys.modules[__name__])

GUARD = 120.0  # s after which a run counts as hung
SETTLE = 20.0  # s after which what is left behind counts as leaked
PINS_WAIT = 60.0  # s that pins wait for a node, longer than any is away


class ChaosError(Exception):
    """What functions raise that are to."""


# ------------------------------------------------------------------------ what runs
def do(task: Task, path: str, *read: Any) -> tuple[int, str]:
    """What the task says; `read` is what its producers gave, or their first element."""
    note(path, task.id, os.getpid(), time.time())
    given = [x[0] if isinstance(x, tuple) else x for x in read]
    before = f"{path}.{task.id}"  # what it did in earlier attempts, whoever knows
    if task.kind == FAILS or (task.kind == RAISES and _lines(before) < task.times):
        note(before, "raises")
        raise ChaosError(task.id)
    if task.kind == NEVER or (task.kind == ONCE and not _lines(before)):
        note(before, "hangs")
        while True:
            time.sleep(0.05)
    time.sleep(task.seconds)
    return value(task.id, given), task.id


def _lines(path: str) -> int:
    with suppress(FileNotFoundError):
        return len(Path(path).read_text().splitlines())
    return 0


class _Call:
    def __init__(self, task: Task, path: str) -> None:
        self.task, self.path = task, path

    def __call__(self, *read: Any) -> tuple[int, str]:
        return do(self.task, self.path, *read)


def graph_of(script: Script, path: str) -> hd.Graph:
    """The script's graph."""
    return hd.Graph(
        [
            hd.Function(
                task.id, task.reads, _Call(task, path),
                cost={"cpu_time": 1000 * task.seconds},
                node=task.node,
                timeout=task.timeout,
                retry=hd.RetryPolicy(attempts=task.attempts, backoff=0.05),
            )
            for task in script.tasks
        ],
        f"chaos-{script.seed}",
    )  # fmt: skip


# ----------------------------------------------------------------------- the breaking
class Breaker:
    """Does what a script says to a cluster, in a thread, and undoes it in time.

    Attributes
    ----------
    log : list of str
        What was done, with the time.
    """

    def __init__(self, cluster: Any, script: Script) -> None:
        self.cluster = cluster
        self.log: list[str] = []
        self._script = script
        self._undo: list[tuple[float, str, Callable[[], None]]] = []
        self._doing: list[Doing] = []
        self._off: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._go, daemon=True)
        self._begin = time.monotonic()
        self._thread.start()

    def _go(self) -> None:
        todo = list(self._script.events)
        while not self._stop.is_set():
            now = time.monotonic() - self._begin
            self._restart()
            while todo and todo[0].when <= now:
                self._do(todo.pop(0))
            for entry in sorted(self._undo, key=lambda entry: entry[0]):
                if entry[0] <= now:
                    self._undo.remove(entry)
                    self._note(entry[1])
                    self._beside(entry[2])
            self._stop.wait(0.01)

    def _restart(self) -> None:
        """Whoever runs ``dask worker`` starts it again when it ends by itself.

        It does where its worker dies while it starts.
        """
        if isinstance(self.cluster, Real):
            for name in set(self.cluster.specs) - self._off:
                if self.cluster.nannies[name].poll() is not None:
                    self._note(f"{name} had ended, and is started again")
                    self.cluster.start(name)

    def _note(self, text: str) -> None:
        self.log.append(f"{time.monotonic() - self._begin:6.2f} s: {text}")

    def _beside(self, deed: Callable[[], Any]) -> None:
        """Some deeds take their time, which the next shall not wait for."""
        self._doing.append(Doing(deed))

    def _later(self, event: Event, what: str, deed: Callable[[], None]) -> None:
        end = time.monotonic() - self._begin + event.seconds
        self._undo.append((end, f"{what} {event.who}", deed))

    def _do(self, event: Event) -> None:
        cluster, who = self.cluster, event.who
        nanny = cluster.nannies.get(who)
        worker = worker_below(nanny.pid) if nanny is not None else None
        self._note(f"{event.what} {who} {event.how} (worker {worker})")
        if event.what == chaos.KILL and worker:
            send(worker, signal.SIGKILL)
        elif event.what in (chaos.FREEZE, chaos.FREEZE_NODE) and worker:
            pids = [worker]
            if event.what == chaos.FREEZE_NODE and nanny is not None:
                pids.insert(0, nanny.pid)
            for pid in pids:
                send(pid, signal.SIGSTOP)
            self._later(event, "thaw", lambda: _thaw(pids))
        elif event.what == chaos.CUT and cluster.hosts is not None:
            hosts, host = cluster.hosts, chaos.HOST[who]
            hosts.cut(host, event.how)
            self._later(event, "heal", lambda: hosts.heal(host))
        elif event.what == chaos.OFF:
            self._off.add(who)
            cluster.lose(who)
            self._later(event, "switch on", lambda: self._on(who))
        elif event.what == chaos.JOIN and (nanny is None or nanny.poll() is not None):
            self._beside(lambda: cluster.start(who))
            self._later(event, "leave", lambda: cluster.leave(who))

    def _on(self, who: str) -> None:
        nanny = self.cluster.nannies.get(who)
        if nanny is None or nanny.poll() is not None:
            self.cluster.start(who)
        self._off.discard(who)

    def stop(self) -> None:
        """Undo what is not undone, now."""
        self._stop.set()
        self._thread.join(GUARD)
        for _, text, deed in self._undo:
            self._note(text)
            self._beside(deed)
        self._undo.clear()
        while self._doing:
            self._doing.pop().finish()


def _thaw(pids: list[int]) -> None:
    for pid in pids:
        send(pid, signal.SIGCONT)


# --------------------------------------------------------------------------- the laws
def play(script: Script, cluster: Any, folder: str) -> tuple[list[str], list[str]]:
    """Play a script; which laws were broken, and what was done.

    Parameters
    ----------
    script : Script
        What to do.
    cluster : Real
        Where; it is as before, afterwards.
    folder : str
        An empty one, for counting executions.
    """
    path = str(Path(folder, "starts"))
    threads = set(threading.enumerate())
    broken: list[str] = []
    executor = hd.Executor(cluster.where, on_lost=hd.wait(PINS_WAIT))
    breaker = Breaker(cluster, script)
    try:
        run = executor.submit(graph_of(script, path))
        try:
            run.wait(GUARD)
        except TimeoutError:
            broken += _hung(run, script)
        else:
            broken += _wrong(run, script)
        breaker.stop()
        log = list(breaker.log)
        run.release()
        broken += _left_on_scheduler(executor, cluster)
    finally:
        breaker.stop()
        executor.close()
        cluster.revive()
    broken += _left_here(cluster, threads)
    return broken, log


def _hung(run: Any, script: Script) -> list[str]:
    out = [f"not over after {GUARD:g} s: {run!r}"]
    known = {span.function for span in run.spans}
    for task in script.tasks:
        if task.id not in known:
            with suppress(Exception):
                out.append(f"  {task.id}: {run.explain(task.id)}")
        if len(out) > 8:
            break
    run.cancel()
    return out


def _wrong(run: Any, script: Script) -> list[str]:
    """Each function gave what it should, or failed as it must."""
    out = []
    failing, answers = script.must_fail(), script.answers()
    for task in script.tasks:
        try:
            found: Any = run[task.id]
        except Exception as error:
            found = error
        if task.id in failing:
            kind = failing[task.id] or "FunctionError"
            if type(found).__name__ != kind:
                out.append(f"{task.id} must fail with {kind}, but gave {found!r}")
        elif isinstance(found, BaseException):
            cause = f", caused by {found.__cause__!r}" if found.__cause__ else ""
            out.append(f"{task.id} must not fail, but: {found!r}{cause}")
        elif found != (answers[task.id], task.id):
            out.append(f"{task.id} gave {found!r}, not {answers[task.id]}")
    return out


def _left_on_scheduler(executor: Any, cluster: Any) -> list[str]:
    """No claim, and no task."""

    def claims() -> list[Any]:
        return [row for row in executor.resources() if row["claimed"]]

    out = []
    with suppress(TimeoutError):
        until(lambda: not claims(), SETTLE, "nothing is claimed")
    for row in claims():
        out.append(f"claimed after the end: {row}")

    def tasks() -> list[str]:
        found: list[str] = cluster.client.run_on_scheduler(
            lambda dask_scheduler: [
                f"{key!r} {ts.state}" for key, ts in dask_scheduler.tasks.items()
            ]
        )
        return found

    with suppress(TimeoutError):
        until(lambda: not tasks(), SETTLE, "no task is left")
    left = tasks()
    if left:
        out.append(f"{len(left)} tasks are left on the scheduler: {left[:5]}")
    return out


def _left_here(cluster: Any, threads: set[threading.Thread]) -> list[str]:
    """No thread of ours, and no process below workers."""
    out = []

    def more() -> list[str]:
        new = [t.name for t in threading.enumerate() if t not in threads]
        # The pools of Dask and of the client's event loop are there once; and the
        # supervisor, which lives on, waits for processes in threads.
        pools = ("asyncio_", "asyncio-waitpid", "Dask-Offload")
        return [name for name in new if not name.startswith(pools)]

    with suppress(TimeoutError):
        until(lambda: not more(), SETTLE, "no thread is left")
    if more():
        out.append(f"threads are left: {more()}")

    def children() -> list[str]:
        found = []
        for name in cluster.specs:
            with suppress(psutil.Error, KeyError):
                worker = worker_below(cluster.nannies[name].pid)
                below = psutil.Process(worker).children(recursive=True)
                found += [f"{name}: {p.pid} {' '.join(p.cmdline())}" for p in below]
        return [text for text in found if "resource_tracker" not in text]

    with suppress(TimeoutError):
        until(lambda: not children(), SETTLE, "no process is left")
    if children():
        out.append(f"processes are left below workers: {children()}")
    return out


def told(script: Script, broken: list[str], log: list[str]) -> str:
    """What a failure says, so that it can be repeated."""
    failing = script.must_fail()
    own = {id: why for id, why in failing.items() if why}
    return "\n".join(
        [
            f"seed {script.seed} broke laws; try it again by",
            f"make chaos FIRST={script.seed} SEEDS=1",
            *broken[:20],
            f"({len(broken)} in all)" if len(broken) > 20 else "",
            f"must fail by themselves: {own}",
            "what was to be done:",
            *(f"  {event}" for event in script.events),
            "what was done:",
            *(f"  {line}" for line in log),
        ]
    )


def cluster(kind: str, network: bool, stack: Any) -> Any:
    """A cluster for chaos, that a stack of contexts closes.

    Parameters
    ----------
    kind : {"adopted", "owned"}
        Whether nodes are started by hand, or by our supervisor.
    network : bool
        Whether two nodes are on hosts that can be cut off.
    stack : ExitStack
        Closes it.
    """
    where = chaos.HOST if network else {}
    hosts = stack.enter_context(Hosts(where.values())) if network else None
    specs = {name: Spec(host=where.get(name, "")) for name in chaos.NODES}
    spare = {chaos.JOINING: Spec()}
    if kind == "owned":
        return stack.enter_context(Owned(specs, hosts, spare=spare))
    config = {"distributed.scheduler.validate": True}
    return stack.enter_context(Real(specs, hosts, config, spare))

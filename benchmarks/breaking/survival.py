"""Scenarios R12 and R17: schedulers, clients, nannies and parents die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

import handout_dask as hd
from benchmarks.breaking import work
from benchmarks.breaking.cluster import ROOT, START, until
from benchmarks.breaking.scene import Scene, Seen, row, scene
from benchmarks.breaking.ways import Ended, Planned, Way

WINDOW = 0.3  # s before a death in which what ended may be lost
SECONDS = 0.05  # s that a function runs
N = 200
NODES = [hd.Node(f"n{k}", {"cpu": 1}) for k in range(4)]

# A client that runs the usual graph with a journal, and waits to be killed.
CLIENT = """
import sys, time
import handout_dask as hd
from benchmarks.breaking import work
address, folder, path, n = sys.argv[1:]
executor = hd.Executor(address, journal=folder, durable="all")
run = executor.submit(work.fan(path, int(n)), keep="sinks")
print(run.token, flush=True)
time.sleep(600)
"""
# A parent of four nodes, and some work for them, that waits to be killed.
PARENTS = {
    "handout": """
import sys, time
import handout_dask as hd
from benchmarks.breaking import work
executor = hd.Executor(nodes=[hd.Node(f"n{k}", {"cpu": 1}) for k in range(4)])
run = executor.submit(work.fan(sys.argv[1]))
run["f0"]
print("up", flush=True)
time.sleep(600)
""",
    "dask": """
import sys, time
from distributed import Client, LocalCluster
from benchmarks.breaking import work
if __name__ == "__main__":
    cluster = LocalCluster(4, threads_per_worker=1, dashboard_address="127.0.0.1:0")
    client = Client(cluster)
    some = client.map(lambda k: work.step(sys.argv[1], k, 0.05), range(200))
    some[0].result()
    print("up", flush=True)
    time.sleep(600)
""",
}


# ------------------------------------------------------------------------------ R12
def _spawn(code: str, *words: str, **env: str) -> Any:
    """Another interpreter that runs some code; it says a word when it is ready."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *words],
        env={**os.environ, "PYTHONPATH": ROOT, **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )


def _again_of_ended(made: Scene, death: float) -> int:
    """How many executions there were after a death of what had ended well before."""
    ended = set()
    again = 0
    for name, _, when, *_ in made.counts.lines():
        if float(when) < death - SECONDS - WINDOW:
            ended.add(name)
        elif float(when) > death:
            again += name in ended
    return again


def _die(
    way: Way, limit: float, kill: Callable[[Scene, Any], None], *, scheduler: bool
) -> Seen:
    """A client runs the graph with a journal; something dies; it is gone on with."""
    if not isinstance(way, Planned):
        return _die_plain(way, limit, scheduler)
    with scene(way, limit) as made, tempfile.TemporaryDirectory() as folder:
        way.executor.close()
        path, cluster = made.counts.path, made.cluster
        client = _spawn(CLIENT, cluster.address, folder, path, str(N))
        try:
            token = client.stdout.readline().strip()
            made.counts.until(N // 2)
            kill(made, client)
            death = begin = time.time()
            if scheduler:
                cluster.start_scheduler()
                cluster.connect()
                seconds = cluster.until_up(START)
                made.more["all nodes back"] = round(seconds, 1)
            way.executor = hd.Executor(cluster.client)
            run = way.executor.resume(token, journal=folder)
            ended = Ended()
            try:
                ended.results = {work.SUM: run.wait(limit)[work.SUM]}
            except TimeoutError:
                ended.hang = True
            ended.wall = time.time() - begin
            run.release()
        finally:
            client.kill()
            client.wait()
        made.more["finished ones again"] = _again_of_ended(made, death)
        return made.seen(ended, {work.SUM: work.answer(N)})


def _die_plain(way: Way, limit: float, scheduler: bool) -> Seen:
    """What is lost is all; it is submitted anew where there are workers."""
    if not scheduler:
        raise NotImplementedError("has nothing to go on with")
    with scene(way, limit) as made:
        cluster = made.cluster

        def deed() -> None:
            made.counts.until(N // 2)
            cluster.kill_scheduler()
            cluster.start_scheduler()

        first = way.run(work.fan(made.counts.path), deed, limit)
        made.more["first"] = first.said()
        cluster.connect()
        made.more["nodes back"] = made.back(limit) is not None
        if not made.more["nodes back"]:
            return made.seen(Ended(limit, hang=True), {})
        return made.fan()


GOAL_12 = "nothing that ended runs again; done within 12 s more"


@row("R12", "the scheduler is killed, and restarts", "four", GOAL_12, 60, 30)
def scheduler_dies(way: Way, limit: float) -> Seen:
    """All workers come back to it, and the run is resumed by another client."""

    def kill(made: Scene, client: Any) -> None:
        made.cluster.kill_scheduler()

    return _die(way, limit, kill, scheduler=True)


@row("R12", "the client is killed", "four", GOAL_12, 60, 30)
def client_dies(way: Way, limit: float) -> Seen:
    """Another one goes on."""

    def kill(made: Scene, client: Any) -> None:
        client.kill()
        client.wait()

    return _die(way, limit, kill, scheduler=False)


@row("R12", "all is killed", "four", GOAL_12, 60, 30)
def all_die(way: Way, limit: float) -> Seen:
    """Client, scheduler, nannies and workers; all but the journal is lost."""

    def kill(made: Scene, client: Any) -> None:
        client.kill()
        made.cluster.kill_scheduler()
        for name in made.cluster.specs:
            made.cluster.lose(name)
        for name in made.cluster.specs:
            made.cluster.start(name)

    if not isinstance(way, Planned):
        raise NotImplementedError("has nothing to go on with")
    return _die(way, limit, kill, scheduler=True)


# ------------------------------------------------------------------------------ R17
@row("R17", "a nanny is killed", "four", "exact; its node is back within 6 s", 18)
def nanny_dies(way: Way, limit: float) -> Seen:
    """Its worker ends too; who supervises nodes starts it again."""
    if not isinstance(way, Planned):
        with scene(way, limit) as made:
            return _kill_nanny(made, lambda: made.cluster.kill_nanny("n0"), limit)
    supervisor = hd.Supervisor(NODES, isolated=True)
    try:
        with Planned(supervisor) as own:
            own.cluster = _Owned(own.executor.client)
            with scene(own, limit) as made:
                (pid,) = [
                    child["pid"]
                    for child in supervisor.children()
                    if child["name"] == "n0"
                ]
                return _kill_nanny(made, lambda: os.kill(pid, signal.SIGKILL), limit)
    finally:
        supervisor.close()


class _Owned:
    """What a scene needs of a cluster that is an executor's own."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def revive(self) -> None:
        """It is not used again."""

    def until_up(self, limit: float) -> float:
        """Wait until all nodes are up."""
        begin = time.monotonic()

        def up() -> bool:
            info = self.client.sync(self.client.scheduler.identity, n_workers=-1)
            return len(info["workers"]) == len(NODES)

        until(up, limit, "all nodes are up")
        return time.monotonic() - begin


def _kill_nanny(made: Scene, kill: Callable[[], None], limit: float) -> Seen:
    when = {}

    def deed() -> None:
        made.counts.until(40)
        made.broke("n0")
        when["killed"] = time.time()
        kill()

    seen = made.fan(deed)
    with suppress(TimeoutError):
        seen.back = made.doors.first("came", "n0", when["killed"], limit)
    return seen


@row("R17", "the parent is killed", "four", "no process is left after 5 s", 15)
def parent_dies(way: Way, limit: float) -> Seen:
    """SIGKILL to the process that has started the nodes."""
    counts = work.Counts()
    with tempfile.TemporaryDirectory() as folder:
        parent = _spawn(PARENTS[way.name], counts.path, TMPDIR=folder)
        try:
            assert parent.stdout.readline().strip() == "up"
            family = psutil.Process(parent.pid).children(recursive=True)
        finally:
            parent.kill()
            parent.wait()
        begin = time.perf_counter()
        _, left = psutil.wait_procs(family, timeout=limit)
        wall = time.perf_counter() - begin

        def clean() -> bool:
            return not [p for p in Path(folder).rglob("*") if p.is_file()]

        with suppress(TimeoutError):
            until(clean, 5.0, "no file is left")
        files = sum(p.is_file() for p in Path(folder).rglob("*"))
        for process in left:
            with suppress(psutil.Error):
                process.kill()
    counts.remove()
    seen = Seen(wall, "done", not left and not files, 0)
    seen.more = {"processes": len(family), "left": len(left), "files left": files}
    return seen

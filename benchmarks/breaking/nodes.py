"""Scenarios R1 to R5: nodes are killed, poisoned and frozen, or only seem to be."""

from __future__ import annotations

import subprocess
import sys
import time

import handout_dask as hd
from benchmarks.breaking import work
from benchmarks.breaking.cluster import POLL
from benchmarks.breaking.scene import Seen, row, scene
from benchmarks.breaking.ways import Way

ALL = ("n0", "n1", "n2", "n3")
ROLLING = 12
INNOCENTS = 40
BURNERS = 6


# --------------------------------------------------------------------------- R1 and R2
def _kill_at(way: Way, limit: float, *when: tuple[int, str]) -> Seen:
    """Kill workers, each when so many executions have begun."""
    with scene(way, limit) as made:

        def deed() -> None:
            for count, name in when:
                made.counts.until(count)
                made.broke(name)
                made.cluster.kill(name)

        return made.fan(deed)


@row("R1", "kill 1 of 4", "four", "exact; detected within 0.2 s", 18)
def kill_one(way: Way, limit: float) -> Seen:
    """One worker."""
    return _kill_at(way, limit, (40, "n0"))


@row("R1", "3 kills in a row", "four", "exact", 18)
def kill_three(way: Way, limit: float) -> Seen:
    """Three of four, one after the other."""
    return _kill_at(way, limit, (40, "n0"), (90, "n1"), (140, "n2"))


@row("R1", "kill each of 4 once", "four", "exact", 24)
def kill_each(way: Way, limit: float) -> Seen:
    """All, one after the other."""
    return _kill_at(way, limit, (40, "n0"), (80, "n1"), (120, "n2"), (160, "n3"))


@row("R1", "kill all 4 at once", "four", "exact", 24)
def kill_all(way: Way, limit: float) -> Seen:
    """All at the same time."""
    return _kill_at(way, limit, *((60, name) for name in ALL))


@row("R2", "a kill every second, 12 times", "four", "exact; nobody is blamed", 45)
def kill_rolling(way: Way, limit: float) -> Seen:
    """One worker after the other, while functions run anew again and again."""
    with scene(way, limit) as made:

        def deed() -> None:
            made.counts.until(4)
            for k in range(ROLLING):
                due = time.monotonic() + 1.0
                made.cluster.kill(ALL[k % 4])
                while time.monotonic() < due:
                    time.sleep(POLL)

        return made.fan(deed, 400)


# ------------------------------------------------------------------------------- R3
def _poison(way: Way, limit: float, how: str) -> Seen:
    with scene(way, limit) as made:
        path = made.counts.path
        functions = [
            hd.Function(k, [], work.step, extra_args=[path, k, 0.05])
            for k in range(INNOCENTS)
        ]
        bad = hd.Function("bad", [], work.poison, extra_args=[path, "bad", how])
        functions.insert(INNOCENTS // 2, bad)
        ended = made.run(hd.Graph(functions, "poison"))
        right = {k: work.value_of(k) for k in range(INNOCENTS)}
        made.more["innocents"] = sum(
            ended.results.get(k) == value for k, value in right.items()
        )
        made.more["poison ran"] = made.counts.starts()["bad"]
        made.more["text"] = str(ended.errors.get("bad", ""))
        return made.seen(ended, right)


GOAL_3 = "40 of 40 innocents; fails after at most 3 crashes, within 6 s, saying why"


@row("R3", "os._exit", "one", GOAL_3, 18)
def poison_exit(way: Way, limit: float) -> Seen:
    """A function ends its process, beside 40 others."""
    return _poison(way, limit, "exit")


@row("R3", "segmentation fault", "one", GOAL_3, 18)
def poison_segv(way: Way, limit: float) -> Seen:
    """A function reads where nothing is."""
    return _poison(way, limit, "segv")


@row("R3", "sys.exit", "one", GOAL_3, 18)
def poison_sys_exit(way: Way, limit: float) -> Seen:
    """A function wants to end the interpreter."""
    return _poison(way, limit, "sys.exit")


# ------------------------------------------------------------------------------- R4
def _freeze(way: Way, limit: float, nanny: bool) -> Seen:
    with scene(way, limit) as made:
        frozen = {}

        def deed() -> None:
            made.counts.until(40)
            made.broke("n0")
            frozen["n0"] = made.cluster.freeze("n0", nanny=nanny)

        seen = made.fan(deed)
        made.cluster.thaw("n0", frozen.get("n0"))
        seen.back = made.back(30.0)
        return seen


GOAL_4 = "exact within 10 s; detected within 4 s; all nodes back"


@row("R4", "SIGSTOP to a worker", "four", GOAL_4, 30)
def freeze_worker(way: Way, limit: float) -> Seen:
    """A worker stands still, its nanny does not."""
    return _freeze(way, limit, nanny=False)


@row("R4", "SIGSTOP to a whole node", "four", GOAL_4, 30)
def freeze_node(way: Way, limit: float) -> Seen:
    """Both stand still, until the run is over."""
    return _freeze(way, limit, nanny=True)


# ------------------------------------------------------------------------------- R5
@row("R5", "8 s in C with the GIL", "four", "runs once; no node is given up", 30)
def hold_gil(way: Way, limit: float) -> Seen:
    """A function lets nothing else in its process run, which is no crime."""
    with scene(way, limit) as made:
        path = made.counts.path
        functions = [hd.Function("gil", [], work.hold_gil, extra_args=[path, "gil", 8])]
        functions += [
            hd.Function(k, [], work.step, extra_args=[path, k, 0.05]) for k in range(60)
        ]
        begin = time.time()
        ended = made.run(hd.Graph(functions, "gil"))
        made.more["ran"] = made.counts.starts()["gil"]
        made.more["given up"] = len(made.doors.went(begin))
        right = {name: work.value_of(name) for name in ["gil", *range(60)]}
        return made.seen(ended, right)


@row("R5", "6 processes that compute", "four", "exact; no node is given up", 40)
def burners(way: Way, limit: float) -> Seen:
    """The host is busy with something else."""
    with scene(way, limit) as made:
        burn = [sys.executable, "-c", "while True: pass"]
        others = [subprocess.Popen(burn) for _ in range(BURNERS)]
        begin = time.time()
        try:
            seen = made.fan()
        finally:
            for other in others:
                other.kill()
                other.wait()
        seen.more["given up"] = len(made.doors.went(begin))
        return seen

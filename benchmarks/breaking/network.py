"""Scenarios R6 and R7: hosts that are cut off, one way or both, or from each other."""

from __future__ import annotations

import threading
import time
from typing import Any

import handout_dask as hd
from benchmarks.breaking import work
from benchmarks.breaking.netns import PEERS
from benchmarks.breaking.scene import Seen, row, scene
from benchmarks.breaking.ways import Way

CUT = ("w1", "w2")
BACK = 30.0  # s for which the return of nodes is waited


def _cut(way: Way, limit: float, how: str, seconds: float | None, *size: float) -> Seen:
    """Cut two of four nodes off, for some time or until the run is over."""
    with scene(way, limit) as made:
        hosts: Any = made.cluster.hosts
        n, each = (int(size[0]), size[1]) if size else (200, 0.05)

        def heal() -> None:
            for name in CUT:
                hosts.heal(name)

        def deed() -> None:
            made.counts.until(n // 5)
            made.broke("n2")
            for name in CUT:
                hosts.cut(name, how)
            if seconds is not None:
                healing = threading.Timer(seconds, heal)
                healing.start()
                healing.join()

        seen = made.fan(deed, n, each)
        begun = sum(made.counts.starts().values())
        heal()
        healed = time.time()
        seen.back = made.back(BACK)
        late = [row for row in made.counts.lines() if float(row[2]) > healed + 1]
        seen.more["begun after the end"] = len(late)
        seen.more["executions"] = begun
        numbers = made.counts.attempts().values()
        seen.more["same attempt twice"] = sum(len(x) != len({*x}) for x in numbers)
        seen.more["highest attempt"] = max((max(x) for x in numbers), default=0)
        return seen


GOAL_6 = "exact within 12 s; all nodes back within 10 s of healing"


@row("R6", "2 of 4 cut off for 10 s", "network", GOAL_6, 36)
def cut_for_10(way: Way, limit: float) -> Seen:
    """And healed, whether the run is over by then or not."""
    return _cut(way, limit, "both", 10.0)


@row("R6", "2 of 4 cut off until the end", "network", GOAL_6, 36)
def cut_for_good(way: Way, limit: float) -> Seen:
    """Nothing comes back while the run goes on."""
    return _cut(way, limit, "both", None)


@row("R6", "one way: they hear, nobody hears them", "network", GOAL_6, 36)
def cut_one_way(way: Way, limit: float) -> Seen:
    """What is cut off goes on receiving."""
    return _cut(way, limit, "out", None)


@row("R6", "healed in mid-run, functions of 1 s", "network", "exact", 60)
def cut_and_late(way: Way, limit: float) -> Seen:
    """What ran on while cut off comes too late: it must not count."""
    return _cut(way, limit, "both", 5.0, 32, 1.0)


GOAL_7 = "exact, or an error that says why, within 30 s"


@row("R7", "2 of 4 can't reach each other", "network", GOAL_7, 90)
def cut_from_each_other(way: Way, limit: float) -> Seen:
    """Both reach the scheduler and the others; all read everything of all."""
    with scene(way, limit) as made:
        hosts: Any = made.cluster.hosts
        for name in CUT:
            hosts.cut(name, PEERS)
        ended = made.run(work.shuffle(made.counts.path))
        return made.seen(ended, {work.SUM: work.shuffled()})


@row("R7", "a result that can't travel", "four", GOAL_7, 90)
def unpicklable(way: Way, limit: float) -> Seen:
    """It is needed elsewhere."""
    with scene(way, limit) as made:
        graph = hd.Graph(
            [
                hd.Function("lock", [], threading.Lock, node="n0"),
                hd.Function("reads", ["lock"], str, node="n1"),
                hd.Function("other", [], int, node="n2"),
            ],
            "unpicklable",
        )
        ended = made.run(graph)
        made.more["text"] = str(ended.errors.get("reads", ""))
        return made.seen(ended, {"other": 0})

"""Scenarios R8, R9 and R11: functions that raise, take too much, or never end."""

from __future__ import annotations

import time
from itertools import pairwise

import handout_dask as hd
from benchmarks.breaking import work
from benchmarks.breaking.scene import Seen, row, scene
from benchmarks.breaking.ways import Planned, Way

BACKOFF = 0.2  # s
ATTEMPTS = 4
TIMEOUT = 3.0  # s that functions may run which never end
INNOCENTS = 60


def policy(**options: object) -> hd.RetryPolicy:
    """Four attempts; we wait 0.2, 0.4 and 0.8 s between them."""
    return hd.RetryPolicy(attempts=ATTEMPTS, **options)  # type: ignore[arg-type]


@row("R8", "raises 3 times of 4", "four", "0.2, 0.4, 0.8 s between attempts", 10)
def raises(way: Way, limit: float) -> Seen:
    """Attempts come after longer and longer times."""
    with scene(way, limit) as made:
        path = made.counts.path
        retry = policy(backoff=BACKOFF, jitter=0.0)
        bad = hd.Function(
            "bad", [], work.fails, extra_args=[path, "bad", ATTEMPTS - 1, ValueError],
            retry=retry,
        )  # fmt: skip
        ended = made.run(hd.Graph([bad], "raises"))
        times = made.counts.times("bad")
        made.more["gaps"] = [round(b - a, 3) for a, b in pairwise(times)]
        return made.seen(ended, {"bad": work.value_of("bad")})


# ------------------------------------------------------------------------------- R9
def _hog(way: Way, limit: float, seconds: float) -> Seen:
    with scene(way, limit) as made:
        path = made.counts.path
        functions = [
            hd.Function(k, [], work.step, extra_args=[path, k, 0.05])
            for k in range(INNOCENTS)
        ]
        functions.insert(
            0, hd.Function("hog", [], work.hog, extra_args=[path, "hog", 500, seconds])
        )
        ended = made.run(hd.Graph(functions, "hog"))
        counts = made.counts.starts()
        made.more["hog ran"] = counts["hog"]
        made.more["neighbours again"] = made.counts.again() - max(0, counts["hog"] - 1)
        made.more["text"] = str(ended.errors.get("hog", ""))
        right = {k: work.value_of(k) for k in range(INNOCENTS)}
        made.more["innocents"] = sum(
            ended.results.get(k) == value for k, value in right.items()
        )
        if ended.results.get("hog"):
            right["hog"] = 500 // 20
        return made.seen(ended, right)


GOAL_9 = "ResourceExhaustedError with peak, limit, node; at most 20 neighbours again"


@row("R9", "too much memory, slowly", "memory", GOAL_9, 18)
def hog_slow(way: Way, limit: float) -> Seen:
    """More than any node may hold, 500 MB within 2 s."""
    return _hog(way, limit, 2.0)


@row("R9", "too much memory, at once", "memory", GOAL_9, 18)
def hog_burst(way: Way, limit: float) -> Seen:
    """The same, as fast as it goes."""
    return _hog(way, limit, 0.0)


@row("R9", "too much for two nodes of three", "unequal", "done on the large one", 24)
def hog_unequal(way: Way, limit: float) -> Seen:
    """It runs where it fits, once it is known what it takes."""
    return _hog(way, limit, 1.0)


# ------------------------------------------------------------------------------ R11
def _timeout(way: Way, limit: float, code: object) -> Seen:
    with scene(way, limit) as made:
        path = made.counts.path
        functions = [
            hd.Function(
                "never", [], code, extra_args=[path, "never"], timeout=TIMEOUT
            )
        ] if isinstance(way, Planned) else [
            hd.Function("never", [], code, extra_args=[path, "never"])
        ]  # fmt: skip
        functions += [
            hd.Function(k, [], work.step, extra_args=[path, k, 0.05])
            for k in range(INNOCENTS)
        ]
        begin = time.time()
        ended = made.run(hd.Graph(functions, "timeout"))
        made.more["ran for"] = round(ended.wall, 1)
        made.more["given up"] = len(made.doors.went(begin))
        made.more["text"] = str(ended.errors.get("never", ""))
        right = {k: work.value_of(k) for k in range(INNOCENTS)}
        seen = made.seen(ended, right)
        seen.more["next run"] = _next(way, limit)
        return seen


def _next(way: Way, limit: float) -> float | None:
    """Seconds that a run takes which needs every slot; None if it does not end."""
    counts = work.Counts()
    try:
        graph = work.fan(counts.path, 40)
        ended = way.run(graph, limit=min(limit, 30.0))
    finally:
        counts.remove()
    return None if ended.hang or ended.errors else round(ended.wall, 1)


@row(
    "R11", "never ends, timeout 3 s", "four", "FunctionTimeoutError within 5 s", 15, 20
)
def timeout_thread(way: Way, limit: float) -> Seen:
    """A loop in Python."""
    return _timeout(way, limit, work.for_ever)


@row("R11", "never ends, in C with the GIL", "four", "an error within 8 s", 24, 20)
def timeout_gil(way: Way, limit: float) -> Seen:
    """Nothing else in its process can run."""
    return _timeout(way, limit, work.for_ever_in_c)


@row("R11", "cancelled, on all slots", "four", "the next run ends within 7 s", 21, 20)
def cancelled(way: Way, limit: float) -> Seen:
    """Four functions that never end are cancelled; another run follows."""
    with scene(way, 2.0) as made:
        path = made.counts.path
        functions = [
            hd.Function(k, [], work.for_ever, extra_args=[path, k]) for k in range(4)
        ]
        ended = made.run(hd.Graph(functions, "cancelled"))  # cancels after 2 s
        seen = made.seen(ended, {})
        begin = time.monotonic()
        seconds = _next(way, limit)
        seen.wall = time.monotonic() - begin
        seen.exact = seconds is not None
        seen.said = "done" if seen.exact else "hang"
        return seen

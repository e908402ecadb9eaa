"""Scenarios R10, R13, R14: pins, runs that share a cluster, and full disks."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from distributed import Client

import handout_dask as hd
from benchmarks.breaking import work
from benchmarks.breaking.scene import Seen, row, scene
from benchmarks.breaking.ways import Ended, Planned, Way

LARGE, COUNT = 50, 30  # MB of a result, and how many


# ------------------------------------------------------------------------------ R10
def _pinned(way: Way, limit: float, lose: bool) -> Seen:
    with scene(way, limit) as made:
        path = made.counts.path
        graph = hd.Graph(
            [
                hd.Function("pinned", [], work.step, node="n0",
                            extra_args=[path, "pinned", 1.0]),
                hd.Function("other", [], work.step, node="n1",
                            extra_args=[path, "other", 0.05]),
            ],
            "pinned",
        )  # fmt: skip

        def deed() -> None:
            made.counts.until(1, name="pinned")
            made.broke("n0")
            (made.cluster.lose if lose else made.cluster.kill)("n0")

        ended = made.run(graph, deed)
        right = {"other": work.value_of("other")}
        if not lose:
            right["pinned"] = work.value_of("pinned")
        made.more["text"] = str(ended.errors.get("pinned", ""))
        return made.seen(ended, right)


@row("R10", "a pin's node restarts", "four", "done within 4 s more", 18, 20)
def pin_restarts(way: Way, limit: float) -> Seen:
    """A pin is to a name."""
    return _pinned(way, limit, lose=False)


@row("R10", "a pin's node is gone", "four", "NodeLostError within 10 s", 36, 20)
def pin_lost(way: Way, limit: float) -> Seen:
    """Nanny and worker are gone for good."""
    return _pinned(way, limit, lose=True)


@row("R10", "no node has a camera", "four", "refused within 0.5 s", 3, 10)
def unsatisfiable(way: Way, limit: float) -> Seen:
    """What can run nowhere is refused."""
    with scene(way, limit) as made:
        graph = hd.Graph([hd.Function("a", [], int, cost={"camera": 1})], "camera")
        ended = made.run(graph)
        made.more["text"] = str(ended.errors.get("a", ""))
        return made.seen(ended, {})


# ------------------------------------------------------------------------------ R13
@row("R13", "two clients, same ids, other work", "four", "no answer is wrong", 15)
def same_ids(way: Way, limit: float) -> Seen:
    """Both name their functions alike, which must not make them the same."""
    with scene(way, limit) as made:
        path = made.counts.path
        begin = time.perf_counter()
        with ThreadPoolExecutor(2) as pool:
            client: Any = made.cluster.client
            others = [client, Client(client.scheduler.address, set_as_default=False)]
            try:
                tell = _by_plan if isinstance(way, Planned) else _by_keys
                done = [
                    pool.submit(tell, other, path, k, limit)
                    for k, other in enumerate(others)
                ]
                found = [each.result(limit + 30) for each in done]
            finally:
                others[1].close()
        ended = Ended(time.perf_counter() - begin)
        ended.results = dict(enumerate(found))
        return made.seen(ended, {0: _sum_of(0), 1: _sum_of(1)})


def _sum_of(k: int) -> int:
    return sum(work.value_of(f"{k}-{i}") for i in range(20))


def _by_plan(client: Any, path: str, k: int, limit: float) -> Any:
    functions = [
        hd.Function(f"f{i}", [], work.step, extra_args=[path, f"{k}-{i}", 0.05])
        for i in range(20)
    ]
    functions.append(hd.Function("sum", [f"f{i}" for i in range(20)], work.add))
    with hd.Executor(client) as executor:
        return executor.submit(hd.Graph(functions, "same")).wait(limit)["sum"]


def _by_keys(client: Any, path: str, k: int, limit: float) -> Any:
    futures = [
        client.submit(work.step, path, f"{k}-{i}", 0.05, key=f"f{i}") for i in range(20)
    ]
    return client.submit(sum, futures, key="sum").result(timeout=limit)


# ------------------------------------------------------------------------------ R14
@row(
    "R14", "1.5 GB of results, 0.9 GB of room", "disk", "each is there, or an error", 90
)
def full_disk(way: Way, limit: float) -> Seen:
    """Two nodes of 400 MB share 100 MB of disk."""
    with scene(way, limit) as made:
        path = made.counts.path
        graph = hd.Graph(
            [
                hd.Function(k, [], work.large, extra_args=[path, k, LARGE],
                            cost={"output_size": LARGE})
                for k in range(COUNT)
            ],
            "large",
        )  # fmt: skip
        ended = made.run(graph)
        sizes = {id: len(data) for id, data in ended.results.items()}
        ended.results = {}
        made.more["there"] = sum(size == LARGE * 10**6 for size in sizes.values())
        made.more["errors"] = sorted({type(e).__name__ for e in ended.errors.values()})
        made.more["text"] = str(next(iter(ended.errors.values()), ""))
        seen = made.seen(ended, {})
        typed = all(isinstance(e, hd.HandoutError) for e in ended.errors.values())
        right = all(size == LARGE * 10**6 for size in sizes.values())
        seen.exact = right and typed and len(sizes) + len(ended.errors) == COUNT
        return seen

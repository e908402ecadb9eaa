"""Functions of mixed memory demands, some declared wrong: peaks, losses, throughput.

Each node is a worker process under Dask's nanny, with a limit that ends it at 95 %.
What functions may hold together is declared to both: as the node's memory to us, and as
a worker resource to plain Dask. A tenth of the functions, all of one name, take 1.5 to
2 times what they declare, the others 5 MB less. All fill real arrays, and hold them for
a while. Ways take turns, each round in new processes. Resident memory is read from
outside, every 10 ms.

    python -m benchmarks.memory [--functions 1000] [--rounds 3] [--out JSON]

``worker`` is the worker's process alone, with all that is resident, which is what the
nanny limits; ``node`` adds the processes that it has started, each with its share of
what it has in common with others (PSS), so that nothing counts more than once.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

import dask
import distributed
import numpy as np
import psutil
from dask._task_spec import Task
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from distributed import Client, LocalCluster, wait
from distributed.diagnostics.plugin import SchedulerPlugin

import handout_dask as hd
from benchmarks.tables import aligned, show

EVERY = 0.01  # s between looks
NEAR = 0.9  # of the most that was resident, from where on shares are asked for
HANG = 300.0  # s after which a run counts as hung
NAMES = {"small": (5, 40), "medium": (40, 120), "large": (120, 200)}  # MB
MARGIN = 5  # MB that a function is declared to take beyond what it does
WRONG = "wrong"  # the name of those that take more than they declare


class Hold:
    """A function that fills so many MB, and holds them for a while."""

    def __init__(self, mb: float, ms: float) -> None:
        self.mb, self.ms = mb, ms

    def __call__(self) -> int:
        data = np.ones(int(self.mb * 1e6), dtype=np.uint8)
        time.sleep(self.ms / 1e3)
        return int(data[-1])


def graph_of(n: int, wrong: float, seed: int) -> hd.Graph:
    """Functions without edges; of name `WRONG` that share of them."""
    draw, functions = random.Random(seed), []
    for i in range(n):
        name = WRONG if draw.random() < wrong else draw.choice([*NAMES])
        fits = draw.uniform(*NAMES.get(name, (40, 200)))
        taken = fits * (draw.uniform(1.5, 2.0) if name == WRONG else 1.0)
        ms = draw.uniform(20, 50)
        cost = {"memory": math.ceil(fits) + MARGIN, "cpu_time": ms + taken / 2}
        functions.append(hd.Function(i, [], Hold(taken, ms), name=name, cost=cost))
    return hd.Graph(functions, "memory")


class Peaks:
    """Watches the resident memory of each worker's process, and of its children."""

    def __init__(self, cluster: LocalCluster) -> None:
        self.worker: dict[Any, float] = {}  # MB by name
        self.node: dict[Any, float] = {}
        self._highest: dict[Any, float] = {}  # all that was resident
        self.looks = 0
        self._cluster, self._known = cluster, {}  # type: ignore[var-annotated]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Peaks:
        self._thread.start()
        return self

    def __exit__(self, *exc: Any) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(EVERY):
            self.looks += 1
            for name, nanny in dict(self._cluster.workers).items():
                with suppress(psutil.Error):
                    self._look(name, nanny.pid)

    def _look(self, name: Any, pid: int | None) -> None:
        if pid is None:  # it restarts
            return
        process, children = self._known.get(name, (None, []))
        if process is None or process.pid != pid or self.looks % 20 == 1:
            process = psutil.Process(pid)
            children = process.children(recursive=True)  # slow: reads all of /proc
            self._known[name] = process, children
        own = process.memory_info().rss / 1e6
        total = own
        for child in children:
            with suppress(psutil.Error):
                total += child.memory_info().rss / 1e6
        self.worker[name] = max(own, self.worker.get(name, 0.0))
        highest = self._highest.get(name, 0.0)
        if total > NEAR * highest:  # the kernel takes long to tell of shares
            self._highest[name] = max(total, highest)
            fair = sum(map(_fair, [process, *children]))
            self.node[name] = max(fair, self.node.get(name, 0.0))


def _fair(process: psutil.Process) -> float:
    """The MB of a process, with its share of what others have, too."""
    with suppress(OSError, ValueError):
        text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
        (line,) = [x for x in text.splitlines() if x.startswith("Pss:")]
        return int(line.split()[1]) * 1024 / 1e6
    with suppress(psutil.Error):  # it can't be told here
        return float(process.memory_info().rss) / 1e6
    return 0.0


class Restarts(SchedulerPlugin):
    """Counts the workers that came."""

    name = "restarts"

    def __init__(self) -> None:
        self.came = 0

    def add_worker(self, scheduler: Any, worker: str) -> None:
        """One more."""
        self.came += 1


# -------------------------------------------------------------------------------- ways
def by_dask(client: Client, graph: hd.Graph, options: Any) -> dict[str, float]:
    """Plain Dask, to which the demands are resources of its workers."""
    layer = f"hold-{graph.token}"
    functions = {(layer, i): function for i, function in enumerate(graph)}
    tasks = {key: Task(key, function.code) for key, function in functions.items()}
    need = {k: {"MEMORY": f.alternatives[0]["memory"]} for k, f in functions.items()}
    made = MaterializedLayer(tasks, annotations={"resources": need.get})
    layers = HighLevelGraph({layer: made}, {layer: set()})
    begin = time.perf_counter()
    futures = client.get(layers, [*tasks], sync=False)
    with client.as_current():
        wait(futures, timeout=HANG)
    wall = time.perf_counter() - begin
    failed = sum(future.status != "finished" for future in futures)
    return {"wall": wall, "failed": failed}


def by_handout(
    client: Client, graph: hd.Graph, options: Any, **settings: Any
) -> dict[str, float]:
    """By plan."""
    names = [
        str(spec["name"]) for spec in client.scheduler_info(-1)["workers"].values()
    ]
    nodes = [
        hd.Node(name, {"cpu": options.threads, "memory": options.room})
        for name in sorted(names)
    ]
    with hd.Executor(client, nodes=nodes, on_failure="ignore", **settings) as executor:
        begin = time.perf_counter()
        run = executor.submit(graph).wait(HANG)
        wall = time.perf_counter() - begin
        wrong = {f.id for f in graph if f.name == WRONG}
        told = {x.function for x in run.report().overuse}
        return {
            "wall": wall, "failed": run.progress.failed,
            "told": len(told & wrong), "told_falsely": len(told - wrong),
        }  # fmt: skip


def enforced(client: Client, graph: hd.Graph, options: Any) -> dict[str, float]:
    """By plan, each function in a process of its own that is held to what it says."""
    return by_handout(client, graph, options, enforce_memory=True)


WAYS: dict[str, Callable[..., dict[str, float]]] = {
    "dask": by_dask, "handout": by_handout, "enforced": enforced,
}  # fmt: skip


def child(way: str, options: argparse.Namespace) -> dict[str, float]:
    """One run on a cluster of its own, after a small one that warms it up."""
    with (
        dask.config.set({"distributed.logging.distributed": "critical"}),
        LocalCluster(
            n_workers=options.workers, threads_per_worker=options.threads,
            processes=True, memory_limit=f"{options.limit}MB", dashboard_address=None,
            resources={"MEMORY": options.room}, silence_logs=50,
        ) as cluster,
        Client(cluster) as client,
    ):  # fmt: skip
        WAYS[way](client, graph_of(40, 0.0, -1), options)
        restarts = Restarts()
        client.register_plugin(restarts)
        plugin = cluster.scheduler.plugins["restarts"]
        graph = graph_of(options.functions, options.wrong, options.seed)
        with Peaks(cluster) as peaks:
            found = WAYS[way](client, graph, options)
        return {
            **found,
            "per_s": (options.functions - found["failed"]) / found["wall"],
            "restarts": plugin.came,
            "peak_worker": max(peaks.worker.values()),
            "peak_node": max(peaks.node.values()),
            "worker_to_limit": max(peaks.worker.values()) / options.limit,
            "node_to_limit": max(peaks.node.values()) / options.limit,
            "looks_per_s": peaks.looks / found["wall"],
            "load": os.getloadavg()[0],  # well above what it brings: others were there
        }


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--functions", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--limit", type=int, default=600, help="MB of a worker")
    parser.add_argument("--room", type=int, default=400, help="MB for functions")
    parser.add_argument("--wrong", type=float, default=0.1, help="share of functions")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ways", nargs="+", choices=[*WAYS], default=[*WAYS])
    parser.add_argument("--way", choices=[*WAYS], help="only this one, here, as JSON")
    parser.add_argument("--out", metavar="JSON")
    options = parser.parse_args(argv)
    if options.way:
        print(json.dumps(child(options.way, options)), flush=True)
        return 0
    numbers = ("functions", "workers", "threads", "limit", "room", "wrong", "seed")
    given = [f"--{name}={getattr(options, name)}" for name in numbers]
    rounds: dict[str, list[dict[str, float]]] = {way: [] for way in options.ways}
    for k in range(options.rounds):
        for way in options.ways if k % 2 == 0 else reversed(options.ways):
            command = [sys.executable, "-m", "benchmarks.memory", *given, "--way", way]
            out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            rounds[way].append(json.loads(out.stdout.splitlines()[-1]))
    names = [*dict.fromkeys(n for rows in rounds.values() for row in rows for n in row)]
    middle = {
        way: {
            n: statistics.median(row[n] for row in rows) for n in names if n in rows[0]
        }
        for way, rows in rounds.items()
    }
    ratio = {
        way: row["per_s"] / middle["dask"]["per_s"]
        for way, row in middle.items()
        if "dask" in middle
    }
    rows = [(n, *(show(row.get(n), 2) for row in middle.values())) for n in names]
    rows.append(("per_s to dask's", *(show(ratio.get(way), 2) for way in middle)))
    print(aligned(("medians", *middle), rows))
    if options.out:
        doc = {
            "date": str(date.today()), "distributed": distributed.__version__,
            "python": platform.python_version(), "cores": os.cpu_count(),
            **{name: getattr(options, name) for name in numbers},
            "rounds": rounds, "medians": middle, "ratio": ratio,
        }  # fmt: skip
        Path(options.out).write_text(json.dumps(doc, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

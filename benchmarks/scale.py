"""Many cheap functions, by plain Dask and by plan: time, the scheduler's load, memory.

With workers of their own processes (``--processes``) the scheduler has a process of its
own, and its CPU time is told; otherwise workers, scheduler and client are one process
and its event loop is watched: the longest time that it did not answer. Ways take turns,
each round in new processes; medians.

    python -m benchmarks.scale --processes --functions 10000 --ms 5 --workers 4
    python -m benchmarks.scale --functions 100000 --ms 0 --workers 64 --rounds 1
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from datetime import date
from pathlib import Path
from typing import Any

import distributed
from distributed import Client, LocalCluster, wait

import handout_dask as hd
from benchmarks.tables import aligned, show
from handout_dask.runtime.lower import lower

WAYS = ("dask", "handout")
ROW = 100  # functions of a layer, where there are edges


class Work:
    """A function that sleeps."""

    def __init__(self, ms: float) -> None:
        self.ms = ms

    def __call__(self, *values: int) -> int:
        if self.ms:
            time.sleep(self.ms / 1e3)
        return 1 + sum(values)


def graph_of(n: int, ms: float, edges: bool) -> hd.Graph:
    """Functions without costs, of no edges or of layers that read two each."""
    work, functions = Work(ms), []
    for i in range(n):
        row, column = divmod(i, ROW)
        reads = [(row - 1) * ROW + (column + k) % ROW for k in (0, 1)]
        functions.append(hd.Function(i, reads if edges and row else [], work))
    return hd.Graph(functions, "layered" if edges else "flat")


class Pulse:
    """Watches how long an event loop does not answer."""

    def __init__(self, loop: Any, every: float = 0.01) -> None:
        self.longest, self.every, self._loop = 0.0, every, loop
        self._last = time.perf_counter()
        loop.add_callback(self._beat)

    def _beat(self) -> None:
        now = time.perf_counter()
        self.longest = max(self.longest, now - self._last - self.every)
        self._last = now
        self._loop.call_later(self.every, self._beat)


def rss() -> float:
    """MB that this process has at most taken so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def run_dask(client: Client, graph: hd.Graph) -> None:
    """All functions, by Dask alone."""
    made = lower(graph, graph.token)
    futures = client.get(made.layers, list(made.keys), sync=False)
    with client.as_current():
        wait(futures)


def run_handout(client: Client, graph: hd.Graph) -> None:
    """All functions, by plan."""
    with hd.Executor(client) as executor:
        run = executor.execute(graph)
        assert run.progress.done == len(graph), run
        report = run.report()
        assert report.done == len(graph)


def _cpu(dask_scheduler: Any) -> tuple[float, int]:
    return time.process_time(), dask_scheduler.transition_counter


def measure(way: str, client: Client, options: argparse.Namespace) -> dict[str, float]:
    """One run in this process, after a small one."""
    work = run_dask if way == "dask" else run_handout
    work(client, graph_of(200, options.ms, options.edges))
    graph = graph_of(options.functions, options.ms, options.edges)
    client.run_on_scheduler(lambda: None)
    cpu, moves = client.run_on_scheduler(_cpu)
    before, pulse = rss(), Pulse(client.loop)
    begin = time.perf_counter()
    work(client, graph)
    wall = time.perf_counter() - begin
    after, moved = client.run_on_scheduler(_cpu)
    n = options.functions
    return {
        "wall": wall,
        "cpu_us": 1e6 * (after - cpu) / n,
        "transitions": (moved - moves) / wall,
        "kb": 1e3 * (rss() - before) / n,
        "stall": pulse.longest,
    }


def child(way: str, options: argparse.Namespace) -> dict[str, float]:
    """One run on a cluster of its own."""
    if not options.processes:
        with (
            LocalCluster(
                n_workers=options.workers, threads_per_worker=1, processes=False,
                dashboard_address=None, memory_limit=0,
            ) as cluster,
            Client(cluster) as client,
        ):  # fmt: skip
            return measure(way, client, options)
    with tempfile.TemporaryDirectory() as folder:
        where = str(Path(folder) / "scheduler.json")
        dask = [sys.executable, "-m", "dask"]
        commands = [
            [*dask, "scheduler", "--port", "0", "--scheduler-file", where,
             "--dashboard-address", "127.0.0.1:0"],
            [*dask, "worker", "--scheduler-file", where, "--nthreads", "1",
             "--nworkers", str(options.workers), "--no-dashboard",
             "--local-directory", folder],
        ]  # fmt: skip
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        started = [subprocess.Popen(c, **quiet) for c in commands]  # type: ignore[call-overload]
        try:
            while not os.path.exists(where):
                time.sleep(0.1)
            with Client(scheduler_file=where) as client:
                client.wait_for_workers(options.workers)
                return measure(way, client, options)
        finally:
            for process in reversed(started):
                process.terminate()
                process.wait()


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--functions", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--ms", type=float, default=5.0)
    parser.add_argument("--edges", action="store_true", help="layers of 100")
    parser.add_argument("--processes", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--way", choices=WAYS, help="only this one, here, as JSON")
    parser.add_argument("--out", metavar="JSON")
    options = parser.parse_args(argv)
    if options.way:
        found = child(options.way, options)
        print(json.dumps(found), flush=True)
        threading.Timer(10, os._exit, (0,)).start()  # in-process workers may linger
        os._exit(0)
    given = [
        f"--functions={options.functions}", f"--workers={options.workers}",
        f"--ms={options.ms}", *["--edges"] * options.edges,
        *["--processes"] * options.processes,
    ]  # fmt: skip
    rounds: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for k in range(options.rounds):
        for way in WAYS if k % 2 == 0 else reversed(WAYS):
            command = [sys.executable, "-m", "benchmarks.scale", *given, "--way", way]
            out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            rounds[way].append(json.loads(out.stdout.splitlines()[-1]))
    names = [*rounds["dask"][0]]
    middle = {
        way: {name: statistics.median(row[name] for row in rows) for name in names}
        for way, rows in rounds.items()
    }
    ratio = {n: middle["handout"][n] / (middle["dask"][n] or 1e-9) for n in names}
    rows = [(way, *(show(middle[way][n]) for n in names)) for way in WAYS]
    rows.append(("ratio", *(show(ratio[n]) for n in names)))
    print(aligned(("medians", *names), rows))
    if options.out:
        doc = {
            "date": str(date.today()), "distributed": distributed.__version__,
            **{k: v for k, v in vars(options).items() if k not in ("out", "way")},
            "rounds": rounds, "ratio": ratio,
        }  # fmt: skip
        Path(options.out).write_text(json.dumps(doc, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What measuring costs: many short functions, with monitoring on and off in turn.

Off, workers neither measure functions nor sample what their nodes use. Prints run times
and their ratio, medians over rounds; the CPU time of workers and scheduler, which other
processes of the host disturb less; and what measuring adds to one call, by itself.

    python -m benchmarks.monitoring [--functions 10000] [--ms 5] [--rounds 5] [--spin]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from datetime import date
from typing import Any

import distributed

import handout_dask as hd
from benchmarks.overhead import until_empty
from handout_dask.runtime.measuring import Meter

WAYS = ("on", "off")


class Work:
    """A function that takes a while: asleep, or busy."""

    def __init__(self, ms: float, spin: bool) -> None:
        self.seconds, self.spin = ms / 1e3, spin

    def __call__(self) -> int:
        if not self.spin:
            time.sleep(self.seconds)
            return 1
        end = time.thread_time() + self.seconds
        while time.thread_time() < end:
            pass
        return 1


def switch(on: bool, dask_worker: Any) -> None:
    """Turn monitoring on or off, on one worker."""
    import dask

    dask.config.set({"handout.measure": on})
    sampler = dask_worker.plugins["handout"]._sampler
    vars(sampler).pop("sample", None)
    if not on:
        last = sampler.sample()
        sampler.sample = lambda: last


def spent(client: distributed.Client) -> float:
    """CPU seconds of all workers and of the scheduler so far."""
    workers = sum(client.run(time.process_time).values())
    return float(workers + client.run_on_scheduler(time.process_time))


def run(executor: hd.Executor, graph: hd.Graph, way: str) -> tuple[float, float]:
    """Seconds that all functions take, and CPU microseconds of each."""
    executor.client.run(switch, way == "on")
    before = spent(executor.client)
    begin = time.perf_counter()
    made = executor.execute(graph)
    seconds = time.perf_counter() - begin
    cpu = 1e6 * (spent(executor.client) - before) / len(graph)
    measured = sum(span.peak_mb is not None for span in made.spans)
    assert measured == (len(graph) if way == "on" else 0), (way, measured)
    made.release()
    del made
    until_empty(executor.client)
    return seconds, cpu


def one_call(times: int = 2000, rounds: int = 7) -> float:
    """Microseconds that measuring adds to one call, in a process like a worker's."""
    meter, found = Meter(), []
    for _ in range(rounds):
        begin = time.perf_counter()
        for _ in range(times):
            meter.end(meter.begin())
        found.append((time.perf_counter() - begin) / times)
    return 1e6 * statistics.median(found)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All figures."""
    work = Work(options.ms, options.spin)
    cost = {"cpu_time": options.ms}
    graph = hd.Graph(
        [hd.Function(i, [], work, cost=cost) for i in range(options.functions)]
    )
    small = hd.Graph([hd.Function(i, [], work, cost=cost) for i in range(200)])
    nodes = [hd.Node(f"n{k}", {"cpu": 1}) for k in range(options.workers)]
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    cpu: dict[str, list[float]] = {way: [] for way in WAYS}
    with hd.Executor(nodes=nodes) as executor:
        for way in WAYS:
            run(executor, small, way)
        for k in range(options.rounds):
            for way in WAYS if k % 2 else reversed(WAYS):
                wall, used = run(executor, graph, way)
                seconds[way].append(wall)
                cpu[way].append(used)
    middle = {way: statistics.median(seconds[way]) for way in WAYS}
    load = {way: statistics.median(cpu[way]) for way in WAYS}
    pairs = [on / off for on, off in zip(*seconds.values(), strict=True)]
    return {
        "date": date.today().isoformat(),
        **vars(options),
        "distributed": distributed.__version__,
        "python": platform.python_version(),
        "seconds": seconds,
        "median_s": middle,
        "cpu_us": cpu,
        "median_cpu_us": load,
        "ratio": middle["on"] / middle["off"],
        "ratio_of_pairs": statistics.median(pairs),
        "one_call_us": one_call(),
    }


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--functions", type=int, default=10_000)
    parser.add_argument("--ms", type=float, default=5.0)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--spin", action="store_true", help="busy instead of asleep")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    out = measure(options)
    if options.json:
        json.dump(out, sys.stdout, indent=2)
        print()
        return 0
    kind = "busy" if options.spin else "asleep"
    print(
        f"{options.functions} functions, {options.ms:g} ms {kind}, on "
        f"{options.workers} workers, medians of {options.rounds}:"
    )
    for way in WAYS:
        low, high = min(out["seconds"][way]), max(out["seconds"][way])
        print(
            f"  {way:4}{out['median_s'][way]:7.2f} s ({low:.2f} to {high:.2f}), CPU "
            f"{out['median_cpu_us'][way]:.0f} us a function"
        )
    print(f"  ratio {out['ratio']:.3f}, median of pairs {out['ratio_of_pairs']:.3f}")
    print(f"  measuring adds {out['one_call_us']:.1f} us to one call")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""What a journal costs: a graph of trivial functions without and with it, by turns.

With ``durable="marked"`` only what happens is written, with "all" each result, too; and
what of that the scheduler's event loop spends.

    python -m benchmarks.journal [--functions 2000] [--rounds 5] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import handout_dask as hd
from benchmarks.overhead import layered
from handout_dask.runtime.journaling import Journals

WAYS: dict[str, dict[str, Any]] = {
    "without": {},
    "marked": {"durable": "marked"},
    "all": {"durable": "all"},
}


def seconds(executor: hd.Executor, graph: hd.Graph) -> float:
    """How long a run takes."""
    begin = time.perf_counter()
    executor.execute(graph).release()
    return time.perf_counter() - begin


def in_the_loop(folder: Path, count: int = 20000) -> float:
    """Microseconds of the scheduler's event loop for each function."""
    (folder / "0").mkdir()
    (folder / "0" / "run.json").write_text('{"proof": "x"}')
    run = SimpleNamespace(
        spec=SimpleNamespace(token="0"),
        last=lambda: (0, "done", "n0", 0.1, 0.2, 1, 8, None, [0.1, None, False]),
    )
    scheduler = SimpleNamespace(handlers={}, address="here")
    journals = Journals(scheduler, {}, lambda token: None)
    names = [f"{i:032x}" for i in range(count)]
    asyncio.run(journals.rpc_journal(str(folder / "0"), "0", "x", names))
    begin = time.perf_counter()
    for i in range(count):
        journals.note(run, i)  # type: ignore[arg-type]
    spent = time.perf_counter() - begin
    journals.stop()
    return 1e6 * spent / count


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--functions", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    graph = layered(args.functions)
    took: dict[str, list[float]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        nodes = [hd.Node("n0", {"cpu": 1}), hd.Node("n1", {"cpu": 1})]
        with hd.Executor(nodes=nodes) as host:
            executors = {
                way: hd.Executor(
                    host.client, **how, journal=Path(folder) / way if how else None
                )
                for way, how in WAYS.items()
            }
            for k in range(args.rounds + 1):
                for way, executor in executors.items():
                    spent = seconds(executor, graph)
                    if k:  # the first warms up
                        took[way].append(spent)
            for executor in executors.values():
                executor.close()
        loop = in_the_loop(Path(folder))
    base = took["without"]
    rows = {
        way: {
            "ms_per_function": 1e3 * statistics.median(some) / args.functions,
            "more_ms": 1e3
            * statistics.median(s - b for s, b in zip(some, base, strict=True))
            / args.functions,
            "ratio": statistics.median(s / b for s, b in zip(some, base, strict=True)),
        }
        for way, some in took.items()
    }
    if args.json:
        print(json.dumps({"functions": args.functions, "loop_us": loop, **rows}))
        return
    print(f"{args.functions} functions, median of {args.rounds} rounds")
    print(f"{'journal':10}{'ms/function':>12}{'more [ms]':>12}{'ratio':>8}")
    for way, row in rows.items():
        print(f"{way:10}{row['ms_per_function']:12.3f}", end="")
        print(f"{row['more_ms']:12.3f}{row['ratio']:8.3f}")
    print(f"of which the scheduler's event loop: {loop:.1f} us a function")


if __name__ == "__main__":
    main()

"""Planning speed against problem size: compiled and NumPy, warm, re-planning, memory.

Kernels are timed on arrays: HEFT's rule on random layered graphs of about 3 in-edges a
function. Times are the best of some rounds, in CPU seconds of the process.

    python -m benchmarks.planning [--most 100000] [--json FILE] [--plot FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

import handout_dask as hd
from handout_dask.allocators import engine, kernel
from handout_dask.problem import Problem

KINDS = 5
MB_S = 125.0
LATENCY = 5e-4  # s
HEFT = (1.0, 0.0, 0.0, 0.0, 0.0, 0.0)
COMPILE = "import benchmarks.planning as b; b.compile_all()"


def layered(n: int, m: int, slots: int, seed: int = 0) -> kernel.Arrays:
    """n functions in layers of sqrt(n), that read 3 of the layer before, on m nodes."""
    rng = np.random.default_rng(seed)
    width = max(int(np.sqrt(n)), 10)
    layer = np.arange(n) // width
    count = np.where(layer > 0, 3, 0)
    reader = np.repeat(np.arange(n), count)
    ptr = np.zeros(n + 1, dtype=np.int64)
    np.cumsum(count, out=ptr[1:])
    of = (layer[reader] - 1) * width + rng.integers(0, width, len(reader))
    succ_ptr = np.zeros(n + 1, dtype=np.int64)
    np.cumsum(np.bincount(of, minlength=n), out=succ_ptr[1:])
    off = 1.0 - np.eye(m)
    room = np.full((KINDS, 2 if slots > 1 else 1), float(slots))  # slots, then cores
    r = room.shape[1]
    return kernel.Arrays(
        pred_ptr=ptr,
        pred_of=of,
        pred_mb=rng.uniform(0, 200, len(of)),
        succ_ptr=succ_ptr,
        succ_of=reader[np.argsort(of, kind="stable")],
        option_ptr=np.arange(n + 1),
        option_work=rng.exponential(10.0, n),
        option_class=np.zeros(n, dtype=np.int64),
        need=np.ones((1, r)),
        rate=np.linspace(1.0, 4.0, KINDS)[None, :],
        kind=np.arange(m) % KINDS,
        room=room,
        latency=LATENCY * off,
        slow=off / MB_S,
        pin=np.full(n, -1),
        group=np.full(n, -1),
        held_node=np.zeros(0, dtype=np.int64),
        held_start=np.zeros(0),
        held_end=np.zeros(0),
        held_need=np.zeros((0, r)),
        slack=1e-10 * room.max(axis=0),
    )


def least(work: Callable[[], Any], rounds: int) -> float:
    """The least CPU seconds of some rounds."""
    times = []
    for _ in range(rounds):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return min(times)


def heft(n: int, m: int, slots: int, path: str, rounds: int = 3) -> dict[str, float]:
    """Seconds that ranking and placing take; and the makespan, to compare paths."""
    a = layered(n, m, slots)
    rank, _, place = kernel.functions(n, path)
    mean = a.option_work * (1 / a.rate[0]).mean()
    ranks = rank(a.pred_ptr, a.pred_of, a.pred_mb, mean, LATENCY, 1 / MB_S)
    order = np.argsort(-ranks, kind="stable")
    price, bias = np.zeros(m), np.zeros((0, m))
    made: list[np.ndarray] = []

    def run() -> None:
        made[:] = (np.full(n, -1), np.zeros(n, np.int64), np.zeros(n), np.zeros(n))
        place(a, order, False, HEFT, price, bias, *made, 0.0)

    ranking = least(
        lambda: rank(a.pred_ptr, a.pred_of, a.pred_mb, mean, LATENCY, 1 / MB_S), rounds
    )
    placing = least(run, rounds)
    return {
        "rank_s": ranking,
        "place_s": placing,
        "functions_per_s": n / placing,
        "makespan_s": float(made[3].max()),
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }


def graph(n: int) -> hd.Graph:
    """The same shape of graph, of Functions."""
    rng = np.random.default_rng(0)
    width = max(int(np.sqrt(n)), 10)
    times = rng.exponential(1e4, n).tolist()
    sizes = rng.uniform(0, 200, n).tolist()
    reads = rng.integers(0, width, (n, 3)).tolist()
    functions = []
    for i in range(n):
        base = (i // width - 1) * width
        args = [base + u for u in reads[i]] if base >= 0 else []
        cost = {"cpu_time": times[i], "output_size": sizes[i]}
        functions.append(hd.Function(i, args, cost=cost))
    return hd.Graph(functions, "layered")


def cluster(m: int) -> hd.Cluster:
    """m nodes of a few kinds."""
    return hd.Cluster(
        [hd.Node(f"n{j}", {"cpu": 1}, speed=1 + j % KINDS) for j in range(m)]
    )


def from_graph(n: int, m: int) -> dict[str, float]:
    """Seconds of each step from a Graph to a checked Plan, compiled and warm."""
    made, nodes = graph(n), cluster(m)
    begin = time.perf_counter()
    problem = Problem(made, nodes)
    arrays = time.perf_counter()
    key = -engine.upward_rank(problem, path="compiled")
    ranked = time.perf_counter()
    plan = engine.place(problem, key=key, path="compiled")
    placed = time.perf_counter()
    hd.check_plan(plan, problem)
    end = time.perf_counter()
    return {
        "problem_s": arrays - begin,
        "rank_s": ranked - arrays,
        "place_s": placed - ranked,
        "check_s": end - placed,
        "whole_s": end - begin,
    }


def replan(n: int, m: int) -> dict[str, float]:
    """Seconds to rank and place again what has not begun, halfway through a plan."""
    problem = Problem(graph(n), cluster(m))
    key = -engine.upward_rank(problem, path="compiled")
    plan = engine.place(problem, key=key, path="compiled")
    now = plan.makespan / 2
    node = np.where(plan.start < now, plan.node, -1)
    begun = engine.Begun(node, plan.option, plan.start, plan.end)

    def run(begun: engine.Begun | None, now: float) -> None:
        key = -engine.upward_rank(problem, path="compiled")
        engine.place(problem, key=key, begun=begun, now=now, path="compiled")

    whole = least(lambda: run(None, 0.0), 20)
    return {"half_s": least(lambda: run(begun, now), 20), "all_s": whole}


def compile_all() -> None:
    """Use every kernel once."""
    problem = Problem(graph(20), cluster(2))
    engine.place(problem, key=-engine.upward_rank(problem, path="compiled"))
    engine.topological(problem, -np.arange(20.0), "compiled")


def first_compile() -> dict[str, float]:
    """Wall seconds of new processes that plan: no cache, a cache, no numba at all."""
    out = {}
    with tempfile.TemporaryDirectory() as cache:
        env = {**os.environ, "NUMBA_CACHE_DIR": cache}
        for what, code in [
            ("first_s", COMPILE),
            ("cached_s", COMPILE),
            ("imports_s", "import benchmarks.planning"),
        ]:
            begin = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, env=env)
            out[what] = time.perf_counter() - begin
    return out


def measure(most: int) -> dict[str, Any]:
    """All figures, up to so many functions."""
    compile_all()
    rows = []
    for m, slots in [(32, 1), (32, 4), (64, 1), (1000, 1)]:
        for n in (1_000, 10_000, 100_000, 1_000_000):
            for path in ("compiled", "numpy"):
                if n > most or (path == "numpy" and n > 10_000):
                    continue
                rounds = 5 if n * m < 10**7 and path == "compiled" else 1
                row = heft(n, m, slots, path, rounds)
                rows.append({"functions": n, "nodes": m, "slots": slots, "path": path})
                rows[-1] |= row
    return {
        "date": date.today().isoformat(),
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "heft": rows,
        "graph_to_plan": from_graph(min(most, 100_000), 64),
        "replan_1000x32": replan(1000, 32),
        "compile": first_compile(),
    }


def plot(rows: list[dict[str, Any]], path: Path) -> bool:
    """Draw seconds against functions, log-log; False where matplotlib is missing."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 5))
    for key in dict.fromkeys((r["nodes"], r["slots"], r["path"]) for r in rows):
        mine = [r for r in rows if (r["nodes"], r["slots"], r["path"]) == key]
        x, y = ([r[what] for r in mine] for what in ("functions", "place_s"))
        style = "o-" if key[2] == "compiled" else "s--"
        axes.loglog(x, y, style, label=f"{key[0]} nodes of {key[1]} slots, {key[2]}")
    axes.set(xlabel="functions", ylabel="seconds to place (HEFT)")
    axes.grid(True, which="both", alpha=0.3)
    axes.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    return True


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--most", type=int, default=1_000_000, metavar="FUNCTIONS")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE")
    options = parser.parse_args(argv)
    out = measure(options.most)
    print("functions  nodes slots  path       rank s   place s  functions/s  peak GB")
    for row in out["heft"]:
        print(
            f"{row['functions']:9,} {row['nodes']:6} {row['slots']:5}  {row['path']:9}"
            f"{row['rank_s']:8.4f} {row['place_s']:9.4f} "
            f"{row['functions_per_s']:12,.0f} {row['peak_gb']:8.2f}"
        )
    for what in ("graph_to_plan", "replan_1000x32", "compile"):
        parts = ", ".join(f"{k[:-2]} {v:.4f} s" for k, v in out[what].items())
        print(f"{what}: {parts}")
    if options.json:
        options.json.write_text(json.dumps(out, indent=2) + "\n")
    if options.plot and not plot(out["heft"], options.plot):
        print("no plot: matplotlib is not installed", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

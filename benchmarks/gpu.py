"""What a machine with one NVIDIA GPU gains, and whether it is right.

``python -m benchmarks.gpu [--out FOLDER] [--only exact,chain,slots,variants,memory]``
prints a table and writes JSON, with the device, its driver, CuPy and the date. It takes
minutes and needs the ``cuda12`` or ``cuda13`` extra.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Nanny, Scheduler, SpecCluster

import handout_dask as hd
from handout_dask import Function, Graph, Node
from handout_dask.runtime.arrays import counts
from handout_dask.runtime.cuda import visible_devices

GIB = 2**28  # float32 elements of a GiB
CPUS = 4  # slots of each node


# ------------------------------------------------------------------------- machine
def machine() -> dict[str, Any]:
    """What figures were measured on."""
    import pynvml

    pynvml.nvmlInit()
    device = visible_devices()[0]
    handle = pynvml.nvmlDeviceGetHandleByUUID(device.uuid)
    driver = pynvml.nvmlSystemGetDriverVersion()
    cupy = "none"
    for name in ("cupy-cuda13x", "cupy-cuda12x", "cupy"):
        try:
            cupy = version(name)
            break
        except PackageNotFoundError:
            continue
    held = pynvml.nvmlDeviceGetMemoryInfo(handle).used / 1e6
    return {
        "device": device.name,
        "device_mb": round(device.memory),
        "used_before_mb": round(held),
        "driver": driver if isinstance(driver, str) else driver.decode(),
        "cupy": cupy,
        "numpy": np.__version__,
        "dask": version("dask"),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "date": date.today().isoformat(),
    }


def used_mb() -> float:
    """What is used of the device, by all processes [MB]."""
    import pynvml

    handle = pynvml.nvmlDeviceGetHandleByUUID(visible_devices()[0].uuid)
    return float(pynvml.nvmlDeviceGetMemoryInfo(handle).used / 1e6)


def nodes() -> list[Node]:
    """Two nodes without CUDA and one with it."""
    memory = visible_devices()[0].memory
    cuda = {"cpu": CPUS, "has_cuda": True, "gpu_memory": int(memory * 0.95)}
    return [
        Node("cpu0", {"cpu": CPUS}),
        Node("cpu1", {"cpu": CPUS}),
        Node("gpu0", cuda),
    ]


def copies(executor: Any) -> dict[str, int]:
    """How many arrays left the device, and came to it, so far."""
    by_node = executor.client.run(counts)
    return {what: sum(x[what] for x in by_node.values()) for what in ("out", "in")}


def span_of(run: Any, id: Any) -> Any:
    """The last attempt of a function."""
    return next(span for span in reversed(run.spans) if span.function == id)


def bounds(run: Any, ids: Any) -> float:
    """Seconds from the first start to the last end of functions."""
    spans = [span_of(run, id) for id in ids]
    return float(max(s.end for s in spans) - min(s.start for s in spans))


# --------------------------------------------------------------------------- exact
def exact(executor: Any) -> dict[str, Any]:
    """A graph of NumPy and CuPy functions against NumPy alone."""

    def make(seed: int, kind: str) -> Any:
        return np.random.default_rng(seed).random((384, 384)).astype(kind)

    def product(a: Any, b: Any) -> Any:
        xp = hd.array_module()
        return xp.asarray(a) @ xp.asarray(b) / len(a)

    def spectrum(a: Any) -> Any:
        xp = hd.array_module()
        return xp.abs(xp.fft.fft2(xp.asarray(a)))

    def smooth(a: Any) -> Any:
        xp = hd.array_module()
        a = xp.asarray(a)
        return xp.exp(-xp.cumsum(xp.sort(a, axis=0), axis=1) / a.shape[1])

    def solve(a: Any, b: Any) -> Any:
        xp = hd.array_module()
        a, b = xp.asarray(a), xp.asarray(b)
        return xp.linalg.solve(a + len(a) * xp.eye(len(a), dtype=a.dtype), b)

    def where(*_: Any) -> str:
        return str(hd.array_module().__name__)

    gpu = {"gpu_memory": 200, "gpu_time": 20, "gpus": 0.25}
    cpu = {"cpu_time": 20}
    found: dict[str, Any] = {"functions": 0, "elsewhere": 0}
    for kind, bound in (("float64", 1e-10), ("float32", 1e-5)):
        functions: list[Function] = []

        def add(
            id: str, args: Any, code: Any, on: Any, *extra: Any, to: Any = functions
        ) -> str:
            to.append(Function(id, args, code, extra_args=extra, cost=on))
            return id

        sinks = []
        for k in range(4):
            a = add(f"a{k}", [], make, cpu, 2 * k, kind)
            b = add(f"b{k}", [], make, cpu, 2 * k + 1, kind)
            c = add(f"product{k}", [a, b], product, gpu)
            d = add(f"smooth{k}", [c], smooth, gpu)
            e = add(f"host{k}", [d, a], product, cpu)
            f = add(f"spectrum{k}", [e], spectrum, gpu)
            g = add(f"solve{k}", [d, f], solve, gpu)
            sinks.append(add(f"last{k}", [g, e], product, cpu))
            add(f"where{k}", [g], where, gpu)
            add(f"nowhere{k}", [g], where, cpu)
        run = executor.execute(Graph(functions))
        worst = 0.0
        for k in range(4):
            a, b = make(2 * k, kind), make(2 * k + 1, kind)
            d = smooth(product(a, b))
            e = product(d, a)
            truth = {
                f"smooth{k}": d,
                f"host{k}": e,
                f"solve{k}": None,
                f"last{k}": None,
            }
            truth[f"solve{k}"] = solve(d, spectrum(e))
            truth[f"last{k}"] = product(truth[f"solve{k}"], e)
            for id, value in truth.items():
                mine = run[id]
                assert type(mine) is np.ndarray, (id, type(mine))
                error = np.linalg.norm(mine - value) / np.linalg.norm(value)
                worst = max(worst, float(error))
        found[f"error_{kind}"], found[f"bound_{kind}"] = worst, bound
        wanted = {f.id: "gpu0" for f in functions if "gpus" in dict(f.alternatives[0])}
        found["functions"] += len(functions)
        found["elsewhere"] += sum(run.where(i) != n for i, n in wanted.items())
        told = {run[f"where{k}"] for k in range(4)}
        told |= {f"not {run[f'nowhere{k}']}" for k in range(4)}
        found[f"modules_{kind}"] = sorted(told)
    return found


# --------------------------------------------------------------------------- chain
def step(loops: int) -> Callable[..., Any]:
    """A function on a GiB that stays on the device, with the pointers that it saw."""

    def work(before: Any = None) -> Any:
        import cupy

        if before is None:
            x, seen = cupy.full(2**28, 0.5, dtype=cupy.float32), []
        else:
            x, seen = before
        y = cupy.empty_like(x)
        cupy.multiply(x, cupy.float32(0.999), out=y)
        for _ in range(loops):
            cupy.multiply(y, cupy.float32(0.999), out=y)
        return y, [*seen, (int(x.data.ptr), int(y.data.ptr))]

    return work


PLAIN = """
import json, sys, time
import cupy
def work(loops, x):
    y = cupy.empty_like(x)
    cupy.multiply(x, cupy.float32(0.999), out=y)
    for _ in range(loops):
        cupy.multiply(y, cupy.float32(0.999), out=y)
    cupy.cuda.get_current_stream().synchronize()
    return y
def chain(loops):
    begin = time.perf_counter()
    x = cupy.full(2**28, 0.5, dtype=cupy.float32)
    for _ in range(10):
        x = work(loops, x)
    return time.perf_counter() - begin, float(x[0])
loops = int(sys.argv[1])
if loops == 0:
    x = cupy.full(2**28, 0.5, dtype=cupy.float32)
    work(50, x)
    begin = time.perf_counter()
    work(100, x)
    print(json.dumps((time.perf_counter() - begin) / 101))
else:
    chain(2)
    print(json.dumps([chain(loops) for _ in range(3)]))
"""


def plain_chain(loops: int) -> Any:
    """The chain in one process with CuPy and nothing else; 0: seconds of one pass."""
    command = [sys.executable, "-c", PLAIN, str(loops)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout)


def chain(executor: Any, seconds: float = 0.22) -> dict[str, Any]:
    """Ten functions on a GiB each: what stays on the device, and what it costs."""
    loops = int(seconds / plain_chain(0)) + 1
    cost = {"gpu_time": seconds * 1e3, "gpu_memory": 2200, "output_size": 1074}

    def graph() -> Graph:
        first = [Function("f0", [], step(loops), cost=cost)]
        more = [
            Function(f"f{k}", [f"f{k - 1}"], step(loops), cost=cost)
            for k in range(1, 10)
        ]
        last = Function(
            "told", ["f9"], lambda x: (float(x[0][0]), x[1]), cost={"gpus": 1}
        )
        return Graph([*first, *more, last])

    executor.execute(graph(), keep="sinks")  # loads CuPy, makes kernels
    ids = [f"f{k}" for k in range(10)]
    walls, inner, device = [], [], []
    before = copies(executor)
    for _ in range(3):
        begin = time.perf_counter()
        run = executor.execute(graph(), keep="sinks")
        walls.append(time.perf_counter() - begin)
        inner.append(bounds(run, ids))
        device.append(sum(span_of(run, id).gpu_seconds for id in ids))
        value, seen = run["told"]
    after = copies(executor)
    plain, truth = zip(*plain_chain(loops), strict=True)
    same = sum(a[1] == b[0] for a, b in itertools.pairwise(seen))
    best = statistics.median(plain)
    wall = statistics.median(walls)
    return {
        "passes": loops,
        "device_s_each": statistics.median(device) / 10,
        "plain_s": best,
        "wall_s": wall,
        "functions_s": statistics.median(inner),
        "ratio": wall / best,
        "ratio_functions": statistics.median(inner) / best,
        "overhead_ms_each": (wall - best) / 10 * 1e3,
        "copies": {k: after[k] - before[k] for k in after},
        "handed_on_in_place": f"{same} of {len(seen) - 1}",
        "same_result": value == truth[0],
        "walls": walls,
        "plains": list(plain),
    }


# --------------------------------------------------------------------------- slots
SPIN = r"""
extern "C" __global__ void spin(float* data, long long n, int loops) {
    long long k = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    float x = 1.0f + threadIdx.x * 1e-6f;
    for (int i = 0; i < loops; ++i) x = fmaf(x, 0.999999f, 1e-7f);
    for (; k < n; k += gridDim.x * (long long)blockDim.x) data[k] = x;
}
"""


def spinner(loops: int, reads: bool = False) -> Callable[..., Any]:
    """A function of 200 MB that fills a quarter of the multiprocessors.

    One that `reads` a value back waits for it inside CUDA, where it may hold up others.
    """

    def work() -> Any:
        import cupy

        kernel = cupy.RawKernel(SPIN, "spin")
        many = cupy.cuda.runtime.getDeviceProperties(0)["multiProcessorCount"]
        data = cupy.empty(50_000_000, dtype=cupy.float32)
        args = (data, data.size, cupy.int32(loops))
        kernel((many // 4,), (1024,), args)
        return float(data[-1]) if reads else data[-1:].copy()

    return work


def slots(executor: Any, seconds: float = 0.06) -> dict[str, Any]:
    """64 small functions with one slot and with four; what was measured of them."""

    def graph(loops: int, gpus: float, many: int = 64, reads: bool = False) -> Graph:
        cost = {"gpus": gpus, "gpu_memory": 200, "gpu_time": seconds * 1e3}
        return Graph(
            [Function(k, [], spinner(loops, reads), cost=cost) for k in range(many)]
        )

    executor.execute(graph(1000, 0.25, 8))
    trial = 2_000_000
    run = executor.execute(graph(trial, 1, 3))
    took = statistics.median(span_of(run, k).gpu_seconds for k in range(3))
    loops = int(trial * seconds / took)
    out: dict[str, Any] = {"loops": loops}
    peaks: list[float] = []
    ways = ("one", 1, False), ("four", 0.25, False), ("four_reading", 0.25, True)
    for name, gpus, reads in ways:
        run = executor.execute(graph(loops, gpus, reads=reads))
        spans = [span_of(run, k) for k in range(64)]
        out[f"{name}_s"] = bounds(run, range(64))
        out[f"{name}_device_s_each"] = statistics.median(
            span.gpu_seconds for span in spans
        )
        out[f"{name}_most_at_once"] = most_at_once(spans)
        peaks += [span.gpu_peak_mb for span in spans]
    out["gain"] = out["one_s"] / out["four_s"]
    out["peak_error"] = max(abs(peak / 200 - 1) for peak in peaks)
    out |= full(executor)
    out["nvml_error"] = measured_by_nvml(executor)
    return out


def most_at_once(spans: Any) -> int:
    """How many ran at once, at most."""
    events = sorted([(s.start, 1) for s in spans] + [(s.end, -1) for s in spans])
    level = most = 0
    for _, change in events:
        level += change
        most = max(most, level)
    return most


def full(executor: Any) -> dict[str, Any]:
    """Functions that declare 30 % of the device each: no more than three at once."""
    room = visible_devices()[0].memory

    def work() -> float:
        import cupy

        cupy.zeros(1000)
        time.sleep(0.05)
        return 1.0

    cost = {"gpus": 0.1, "gpu_memory": 0.3 * room, "gpu_time": 50}
    run = executor.execute(Graph([Function(k, [], work, cost=cost) for k in range(12)]))
    most = most_at_once([span_of(run, k) for k in range(12)])
    return {"declared_30_percent_most_at_once": most}


def measured_by_nvml(executor: Any) -> float:
    """How far the measured peak is from what the driver says of the device."""

    def work() -> float:
        import cupy
        import pynvml

        pynvml.nvmlInit()
        visible = os.environ["CUDA_VISIBLE_DEVICES"]
        handle = pynvml.nvmlDeviceGetHandleByUUID(visible)
        cupy.get_default_memory_pool().free_all_blocks()
        cupy.cuda.Device().synchronize()
        before = pynvml.nvmlDeviceGetMemoryInfo(handle).used
        a = cupy.zeros(300_000_000, dtype=cupy.float32)
        b = a * 2  # 2400 MB are held here
        c = b[:1000] + 1
        cupy.cuda.Device().synchronize()
        most = pynvml.nvmlDeviceGetMemoryInfo(handle).used - before
        del a, b, c
        return float(most / 1e6)

    cost = {"gpus": 1, "gpu_memory": 2500}
    run = executor.execute(Graph([Function("f", [], work, cost=cost)]))
    peak = span_of(run, "f").gpu_peak_mb
    return float(abs(peak / run["f"] - 1))


# ------------------------------------------------------------------------ variants
SIDE = 5120


def load(seed: int) -> Any:
    """Something to compute with."""
    rng = np.random.default_rng(seed)
    return rng.random((SIDE, SIDE), dtype=np.float32)


def product(a: Any) -> Any:
    """A matrix product."""
    xp = hd.array_module()
    a = xp.asarray(a)
    return a @ a


def spectrum(a: Any) -> Any:
    """A Fourier transform, of which half is kept."""
    xp = hd.array_module()
    return xp.abs(xp.fft.rfft2(xp.asarray(a)))


def norm(a: Any) -> float:
    """One number of all."""
    return float(np.sqrt((np.asarray(a, dtype=np.float64) ** 2).mean()))


def pipelines(
    many: int, times: dict[str, float], ways: str = "both", name: str = ""
) -> Graph:
    """Pipelines of a load, a product, a transform and a norm."""
    mb = SIDE * SIDE * 4 / 1e6

    def costs(name: str, more: float) -> list[dict[str, Any]]:
        cpu = {"cpu_time": times[f"cpu_{name}"] * 1e3, "output_size": mb}
        gpu = {
            "gpu_time": times[f"gpu_{name}"] * 1e3,
            "gpu_memory": more * mb,
            "gpus": 1,
            "output_size": mb,
        }
        return {"both": [cpu, gpu], "cpu": [cpu], "gpu": [gpu]}[ways]

    loads = {"cpu_time": times["load"] * 1e3, "output_size": mb}
    functions = []

    def add(id: str, args: Any, code: Any, cost: Any, *extra: Any) -> None:
        more: Any = {"name": f"{name}{code.__name__}", "extra_args": extra}
        functions.append(Function(id, args, code, cost=cost, **more))

    for k in range(many):
        add(f"load{k}", [], load, loads, k)
        add(f"product{k}", [f"load{k}"], product, costs("product", 2))
        add(f"spectrum{k}", [f"product{k}"], spectrum, costs("spectrum", 6))
        add(f"norm{k}", [f"spectrum{k}"], norm, {"cpu_time": times["norm"] * 1e3})
    return Graph(functions)


def variants(executor: Any, many: int = 24) -> dict[str, Any]:
    """Where the plan runs what has a NumPy and a CuPy variant, and what that gains."""
    guess = dict.fromkeys(
        ("load", "norm", "cpu_product", "cpu_spectrum", "gpu_product", "gpu_spectrum"),
        1.0,
    )
    times = dict(guess)
    for way in ("cpu", "gpu", "gpu"):  # the second time kernels are there
        run = executor.execute(pipelines(1, guess, way, "trial "), keep="sinks")
        for name in ("product", "spectrum"):
            span = span_of(run, f"{name}0")
            times[f"{way}_{name}"] = span.end - span.start
        for name in ("load", "norm"):
            span = span_of(run, f"{name}0")
            times[name] = span.end - span.start
    out: dict[str, Any] = {"times_s": times}
    truth = None
    for way in ("cpu", "both", "gpu"):
        walls = []
        for _ in range(1 if way == "cpu" else 3):
            begin = time.perf_counter()
            run = executor.execute(pipelines(many, times, way), keep="sinks")
            walls.append(time.perf_counter() - begin)
        found = [run[f"norm{k}"] for k in range(many)]
        truth = found if truth is None else truth
        assert np.allclose(found, truth, rtol=1e-4), (way, found, truth)
        out[f"{way}_s"] = min(walls)
        if way == "both":
            heavy = [
                f"{name}{k}" for name in ("product", "spectrum") for k in range(many)
            ]
            out["on_gpu"] = sum(
                span_of(run, id).gpu_seconds is not None for id in heavy
            )
            out["of"] = len(heavy)
            out["planned_s"] = run.plan.makespan
            out["planning_s"] = run.plan.planning_time
            out["makespan_s"] = run.makespan
            stages = ("load", "product", "spectrum", "norm")
            out["stages"] = {
                name: stage([span_of(run, f"{name}{k}") for k in range(many)])
                for name in stages
            }
    out["dask_s"] = plain_dask(many, truth)
    out["gain_cpu"] = out["cpu_s"] / out["both_s"]
    out["gain_dask"] = out["dask_s"] / out["both_s"]
    out |= {f"{k}": v for k, v in busy(executor).items()}
    return out


def stage(spans: Any) -> dict[str, Any]:
    """When functions began and ended, how long they took, and where."""
    where = [span.node for span in spans]
    return {
        "from_to_s": [min(s.start for s in spans), max(s.end for s in spans)],
        "median_s": statistics.median(s.end - s.start for s in spans),
        "nodes": {name: where.count(name) for name in sorted(set(where))},
    }


def plain_dask(many: int, truth: Any) -> float:
    """The same by Dask alone, with ``resources={"GPU": 1}``."""
    from distributed import Client

    device = visible_devices()[0].uuid

    def options(threads: int, **more: Any) -> dict[str, Any]:
        more |= {"nthreads": threads, "host": "127.0.0.1", "dashboard": False}
        return {"cls": Nanny, "options": more}

    workers = {
        "cpu0": options(CPUS, env={"CUDA_VISIBLE_DEVICES": ""}),
        "cpu1": options(CPUS, env={"CUDA_VISIBLE_DEVICES": ""}),
        "gpu0": options(
            CPUS, env={"CUDA_VISIBLE_DEVICES": device}, resources={"GPU": 1}
        ),
    }
    scheduler = {"cls": Scheduler, "options": {"host": "127.0.0.1", "dashboard": False}}

    def on_gpu(a: Any) -> Any:
        import cupy

        a = cupy.asarray(a)
        return a @ a

    def then(a: Any) -> Any:
        import cupy

        return cupy.asnumpy(cupy.abs(cupy.fft.rfft2(a)))

    best = float("inf")
    with (
        SpecCluster(workers=workers, scheduler=scheduler) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(3)
        for many_now in (2, many, many, many):
            begin = time.perf_counter()
            loads = client.map(load, range(many_now), pure=False)
            on = {"pure": False, "resources": {"GPU": 1}}
            heavy = client.map(then, client.map(on_gpu, loads, **on), **on)
            found = client.gather(client.map(norm, heavy, pure=False))
            if many_now == many:
                best = min(best, time.perf_counter() - begin)
                assert np.allclose(found, truth, rtol=1e-4)
            del loads, heavy
    return best


def busy(executor: Any) -> dict[str, Any]:
    """Whether the CPU is used while the GPU is busy, and while its memory is full."""
    room = visible_devices()[0].memory

    def hog() -> str:
        time.sleep(2.0)
        return str(hd.array_module().__name__)

    def light() -> str:
        found = str(hd.array_module().__name__)
        time.sleep(0.02 if found == "cupy" else 0.2)
        return found

    out = {}
    full = {"gpus": 0.25, "gpu_memory": 0.9 * room, "gpu_time": 2000}
    for name, held in (("busy", {"gpus": 1, "gpu_time": 2000}), ("full", full)):
        gpu = {"gpus": 0.25, "gpu_memory": 0.2 * room, "gpu_time": 20}
        cost = [{"cpu_time": 200}, gpu]
        holding = executor.submit(Graph([Function("hog", [], hog, cost=held)]))
        while not executor_claims(executor):
            time.sleep(0.01)
        graph = Graph([Function(k, [], light, cost=cost) for k in range(3)])
        run = executor.execute(graph)
        first = holding.status == "running" or holding.status == "pending"
        out[f"while_{name}"] = sorted({run[k] for k in range(3)})
        out[f"while_{name}_ended_first"] = first
        holding.wait()
    run = executor.execute(
        Graph([Function("f", [], light, cost=[{"cpu_time": 2000}, gpu])])
    )
    out["while_free"] = run["f"]
    return out


def executor_claims(executor: Any) -> bool:
    """Whether anything is claimed of the GPU now."""
    return any(
        row["claimed"] for row in executor.resources() if row["resource"] == "gpus"
    )


# -------------------------------------------------------------------------- memory
def memory(executor: Any) -> dict[str, Any]:
    """Functions that take far more than they declare, with a limit and without."""
    out: dict[str, Any] = {}
    with hd.Executor(
        executor.client, nodes=nodes(), enforce_memory=True, retry=None
    ) as enforcing:
        for name, used in (("", executor), ("enforced_", enforcing)):
            out |= {f"{name}{k}": v for k, v in exhausted(used).items()}
    return out


def exhausted(executor: Any) -> dict[str, Any]:
    """Five functions that declare 10 GB and take 200 GB."""

    def hog() -> float:
        import cupy

        held = [cupy.ones(2_500_000_000, dtype=cupy.float32) for _ in range(20)]
        return float(sum(x[0] for x in held))

    cost = {"gpus": 1, "gpu_memory": 10_000, "gpu_time": 500}
    light = Function("light", [], lambda: hd.array_module().__name__, cost=cost)
    executor.execute(Graph([light]))
    time.sleep(1.0)
    pids, before = executor.client.run(os.getpid), used_mb()
    one = executor.submit(Graph([Function("hog", [], hog, cost=cost)]))
    one.wait()
    span = span_of(one, "hog")
    free, ended = None, time.perf_counter()
    while time.perf_counter() - ended < 5:
        if used_mb() < before + 100:
            free = time.perf_counter() - ended
            break
        time.sleep(0.01)
    graph = Graph([Function(k, [], hog, cost=cost) for k in range(5)])
    run = executor.execute(graph, raise_on_error=False)
    errors = []
    for k in range(5):
        try:
            run[k]
            errors.append("none")
        except Exception as error:
            about = getattr(error, "resource", ""), getattr(error, "declared", None)
            errors.append(f"{type(error).__name__}{about}")
            text = str(error)
    alive = executor.client.run(os.getpid) == pids
    again = executor.execute(Graph([light]))["light"]
    return {
        "errors": sorted(set(errors)),
        "text": text,
        "peak_mb": span.gpu_peak_mb,
        "same_processes": alive,
        "free_after_s": free,
        "works_after": again == "cupy",
        "used_before_mb": before,
        "used_after_mb": used_mb(),
    }


# ------------------------------------------------------------------------- telling
PARTS = {
    "exact": exact,
    "chain": chain,
    "slots": slots,
    "variants": variants,
    "memory": memory,
}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="benchmarks/results")
    parser.add_argument("--only", default=",".join(PARTS))
    asked = parser.parse_args()
    if not visible_devices():
        raise SystemExit("no NVIDIA GPU is visible here (by NVML or CuPy)")
    report: dict[str, Any] = {"machine": machine()}
    print(json.dumps(report["machine"]), flush=True)
    name = re.sub(r"[^a-z0-9]+", "-", report["machine"]["device"].lower()).strip("-")
    path = Path(asked.out) / f"gpu-{name}-{report['machine']['date']}.json"
    with hd.Executor(nodes=nodes()) as executor:
        for part in asked.only.split(","):
            begin = time.perf_counter()
            try:
                report[part] = PARTS[part](executor)
            except Exception as error:
                report[part] = {"failed": f"{type(error).__name__}: {error}"[:2000]}
            report[part]["took_s"] = time.perf_counter() - begin
            tell(part, report[part])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(report, indent=1) + "\n")


def tell(part: str, found: dict[str, Any]) -> None:
    """Print a part of the table."""
    print(f"\n{part}")
    for what, value in found.items():
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        print(f"  {what:36} {text}", flush=True)


if __name__ == "__main__":
    main()

"""CuPy functions on a real GPU: right, in place, at once, within their memory.

Outcomes only; how fast it is ``python -m benchmarks.gpu`` measures.
"""

import itertools
import os
import sys
import threading
import time

import cloudpickle
import numpy as np
import pytest

import handout_dask as hd
from handout_dask import Function, Graph, Node
from handout_dask.runtime.arrays import counts

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(180)]
GPU = {"gpus": 0.25, "gpu_memory": 500, "gpu_time": 20}
CPU = {"cpu_time": 20}


@pytest.fixture(autouse=True, scope="module")
def _by_value():
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    yield
    cloudpickle.unregister_pickle_by_value(module)


@pytest.fixture(scope="module")
def nodes(device):
    cuda = {"cpu": 4, "has_cuda": True, "gpu_memory": int(device.memory * 0.95)}
    return [Node("cpu0", {"cpu": 2}), Node("cpu1", {"cpu": 2}), Node("gpu0", cuda)]


@pytest.fixture(scope="module")
def executor(nodes):
    with hd.Executor(nodes=nodes) as executor:
        yield executor


@pytest.fixture(scope="module")
def enforcing(executor, nodes):
    with hd.Executor(
        executor.client,
        nodes=nodes,
        enforce_memory=True,
        retry=hd.RetryPolicy(memory_attempts=1),
    ) as enforcing:
        yield enforcing


def module_name(*_):
    return hd.array_module().__name__


def product(a, b):
    xp = hd.array_module()
    return xp.asarray(a) @ xp.asarray(b)


def span_of(run, id):
    return next(span for span in reversed(run.spans) if span.function == id)


def copied(executor):
    told = executor.client.run(counts).values()
    return sum(x["out"] for x in told), sum(x["in"] for x in told)


def used_mb(device):
    import pynvml

    handle = pynvml.nvmlDeviceGetHandleByUUID(device.uuid)
    return pynvml.nvmlDeviceGetMemoryInfo(handle).used / 1e6


# ------------------------------------------------------------------------- results
@pytest.mark.parametrize(("kind", "bound"), [("float64", 1e-10), ("float32", 1e-5)])
def test_both_kinds_of_functions_agree_with_numpy(executor, kind, bound):
    def make(seed):
        return np.random.default_rng(seed).random((300, 300)).astype(kind)

    graph = Graph(
        [
            Function("a", [], make, extra_args=[1], cost=CPU),
            Function("b", [], make, extra_args=[2], cost=CPU),
            Function("ab", ["a", "b"], product, cost=GPU),
            Function("aba", ["ab", "a"], product, cost=CPU, node="cpu0"),
            Function("end", ["aba", "ab"], product, cost=GPU),
            Function("on", ["end"], module_name, cost=GPU),
            Function("off", ["end"], module_name, cost=CPU, node="gpu0"),
        ]
    )
    run = executor.execute(graph)
    a, b = make(1), make(2)
    truth = {"ab": a @ b, "aba": a @ b @ a, "end": (a @ b @ a) @ (a @ b)}
    for id, value in truth.items():
        assert type(run[id]) is np.ndarray
        assert run[id].dtype == kind
        error = np.linalg.norm(run[id] - value) / np.linalg.norm(value)
        assert error < bound
    assert {run.where(id) for id in ("ab", "end", "on")} == {"gpu0"}
    assert (run["on"], run["off"]) == ("cupy", "numpy")


def test_functions_without_cuda_see_no_device(executor):
    def seen():
        return os.environ["CUDA_VISIBLE_DEVICES"]

    run = executor.execute(
        Graph([Function(n, [], seen, node=n) for n in ("cpu0", "cpu1", "gpu0")])
    )
    assert [run[n] for n in ("cpu0", "cpu1")] == ["", ""]
    assert run["gpu0"].startswith("GPU-")


def test_arrays_stay_on_the_device_and_leave_it_once(executor):
    def begin():
        import cupy

        x = cupy.arange(1_000_000)
        return x, [int(x.data.ptr)]

    def more(before):
        x, seen = before
        return x, [*seen, int(x.data.ptr)]

    def total(before):
        x, seen = before
        return int(x.sum()), type(x).__module__, len(set(seen))

    ids = ["f0", *(f"f{k}" for k in range(1, 8))]
    chain = [Function("f0", [], begin, cost=GPU)]
    for one, other in itertools.pairwise(ids):
        chain.append(Function(other, [one], more, cost=GPU))
    last = Function("on", ["f7"], total, cost=GPU)
    before = copied(executor)
    run = executor.execute(Graph([*chain, last]), keep="sinks")
    assert run["on"] == (499999500000, "cupy", 1)
    assert copied(executor) == before
    readers = [
        Function(n, ["f7"], total, cost=CPU, node=n) for n in ("cpu0", "cpu1", "gpu0")
    ]
    run = executor.execute(Graph([*chain, *readers]), keep="sinks")
    assert {run[n][:2] for n in ("cpu0", "cpu1", "gpu0")} == {(499999500000, "numpy")}
    assert copied(executor) == (before[0] + 1, before[1])


# ------------------------------------------------------------------ at once, timed
def test_functions_at_once_have_a_stream_each_and_are_timed_by_the_device(executor):
    source = r"""
    extern "C" __global__ void spin(long long cycles, long long* out) {
        long long begin = clock64();
        while (clock64() - begin < cycles) {}
        out[0] = clock64() - begin;
    }"""

    def spin(cycles):
        import cupy

        out = cupy.zeros(1, dtype=cupy.int64)
        kernel = cupy.RawKernel(source, "spin")
        kernel((1,), (1,), (cupy.int64(cycles), out))
        return cupy.cuda.get_current_stream().ptr

    def graph(cycles, many):
        return Graph(
            [
                Function(k, [], spin, extra_args=[cycles], cost=GPU, name="spin")
                for k in range(many)
            ]
        )

    executor.execute(graph(1000, 4))
    run = executor.execute(graph(10**9, 4))  # 0.4 to 1 s each
    spans = [span_of(run, k) for k in range(4)]
    assert len({run[k] for k in range(4)}) == 4
    assert all(run[k] for k in range(4))
    device = sum(span.gpu_seconds for span in spans)
    wall = max(s.end for s in spans) - min(s.start for s in spans)
    assert device > 1.2
    assert device > 2 * wall  # at once
    for span in spans:  # done when the stream is
        assert span.end - span.start > 0.9 * span.gpu_seconds


# -------------------------------------------------------------------------- memory
def test_memory_is_measured(executor):
    def work():
        import cupy

        a = cupy.zeros(25_000_000, dtype=cupy.float32)
        b = a + 1
        del a
        c = b[:1_000_000] * 2
        return float(c.sum())

    run = executor.execute(Graph([Function("f", [], work, cost=GPU)]))
    assert span_of(run, "f").gpu_peak_mb == pytest.approx(200, rel=0.05)


def hog(chunks=40):
    import cupy

    held = [cupy.ones(1_250_000_000, dtype=cupy.float32) for _ in range(chunks)]
    return float(sum(x[0] for x in held))


def freed(device, level, limit=1.0):
    """Seconds until the driver says that no more than that is used."""
    begin = time.perf_counter()
    while used_mb(device) > level:
        if time.perf_counter() - begin > 3 * limit:
            return float("inf")
        threading.Event().wait(0.01)  # the driver tells of no event
    return time.perf_counter() - begin


def test_out_of_memory_is_an_error_and_the_worker_lives(executor, device):
    executor.execute(Graph([Function("warm", [], module_name, cost=GPU)]))
    pids = executor.client.run(os.getpid)
    assert freed(device, used_mb(device) + 1) < 1
    before = used_mb(device)
    cost = {"gpus": 1, "gpu_memory": 10_000}
    run = executor.execute(
        Graph([Function(k, [], hog, cost=cost) for k in range(3)]),
        raise_on_error=False,
    )
    assert freed(device, before + 200) < 3.0
    for k in range(3):
        with pytest.raises(hd.ResourceExhaustedError) as caught:
            run[k]
        about = caught.value
        assert (about.resource, about.declared) == ("gpu_memory", 10_000)
        assert about.measured > 10_000
    assert executor.client.run(os.getpid) == pids
    after = executor.execute(Graph([Function("f", [], module_name, cost=GPU)]))
    assert after["f"] == "cupy"


def test_a_limit_is_held_where_it_is_asked_for(enforcing, device):
    cost = {"gpus": 0.25, "gpu_memory": 6_000}
    graph = Graph(
        [
            Function("one", [], hog, extra_args=[1], cost=cost),
            Function("two", [], hog, extra_args=[2], cost=cost),
        ]
    )
    run = enforcing.execute(graph, raise_on_error=False)
    assert run["one"] == 1.0
    with pytest.raises(hd.ResourceExhaustedError) as caught:
        run["two"]
    about = caught.value
    assert (about.resource, about.declared) == ("gpu_memory", 6_000)
    assert about.measured == pytest.approx(10_000, rel=0.05)


def test_what_was_refused_is_given_more(executor, nodes):
    cost = {"gpus": 0.25, "gpu_memory": 6_000}
    graph = Graph([Function("two", [], hog, extra_args=[2], cost=cost)])
    with hd.Executor(executor.client, nodes=nodes, enforce_memory=True) as growing:
        run = growing.execute(graph)
    assert [span.outcome for span in run.spans] == ["failed", "done"]


def test_results_on_the_device_make_room(nodes, device):
    """They go to the host, and come back to who reads them."""
    room = device.memory
    elements, many = int(room * 1e6 * 0.04 / 4), 4

    def make(k):
        return hd.array_module().full(elements, k, dtype="float32")

    def token(x):
        return float(x[-1])

    def large(*_):
        import cupy

        x = cupy.empty(int(room * 1e6 * 0.88 / 4), dtype=cupy.float32)
        x[:10] = 1
        return float(x[0])

    def last(x, _):
        return float(x[0]), type(x).__module__

    cost = {"gpus": 1, "gpu_memory": room * 0.05}
    much = {"gpus": 1, "gpu_memory": room * 0.9}
    functions = [
        Function("large", [f"token{k}" for k in range(many)], large, cost=much)
    ]
    for k in range(many):
        functions += [
            Function(k, [], make, extra_args=[k], cost=cost),
            Function(f"token{k}", [k], token, cost=cost),
            Function(f"last{k}", [k, "large"], last, cost=cost),
        ]
    with hd.Executor(nodes=[nodes[2]]) as alone:
        run = alone.execute(Graph(functions), keep="sinks")
        found = [run[f"last{k}"] for k in range(many)]
    assert found == [(float(k), "cupy") for k in range(many)]


# ------------------------------------------------------------------------ variants
def test_the_plan_picks_the_variant(executor):
    costs = [{"cpu_time": 5000}, {"gpu_time": 50, "gpu_memory": 500}]
    dear = [{"cpu_time": 5}, {"gpu_time": 5000, "gpu_memory": 500}]
    run = executor.execute(
        Graph(
            [
                Function("fast", [], module_name, cost=costs, name="fast"),
                Function("slow", [], module_name, cost=dear, name="slow"),
            ]
        )
    )
    assert (run["fast"], run["slow"]) == ("cupy", "numpy")

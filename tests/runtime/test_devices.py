"""What surrounds functions that hold a GPU, with a stand-in for CuPy and for NVML.

``tests/standin`` has it: no GPU is needed, and nothing here says how a real one does.
"""

import gc
import os
import pickle
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import handout_dask as hd
from handout_dask import Cluster, Function, Graph, Node
from handout_dask.runtime import arrays, cuda, devices
from handout_dask.runtime.calling import Call, Loaded, load
from handout_dask.runtime.devices import Grant, on_device
from handout_dask.runtime.measuring import Meter
from handout_dask.runtime.nodes import Finds, parted
from handout_dask.runtime.roster import Roster
from handout_dask.traffic import Traffic

STANDIN = str(Path(__file__).parents[1] / "standin")
MB = 10**6
LIMIT = 60
GPU = {"gpus": 0.25, "gpu_memory": 100, "gpu_time": 10}


@pytest.fixture
def cupy(monkeypatch):
    """The stand-in, as if it was CuPy, and as if nobody had used it yet."""
    monkeypatch.syspath_prepend(STANDIN)
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(devices, "_module", None)
    devices._local.__dict__.clear()
    arrays._local.__dict__.clear()
    monkeypatch.setattr(devices, "_use", devices._Use())
    monkeypatch.setattr(arrays, "_served", [])
    import cupy

    assert cupy.STAND_IN
    yield cupy
    arrays._copies.clear()
    sys.modules.pop("cupy", None)


def floats(many):
    return hd.array_module().zeros(many * MB // 8)


# --------------------------------------------------------------------- in a function
def test_the_array_module_is_cupy_where_a_gpu_was_given(cupy):
    assert hd.array_module() is np
    found = on_device("f", Grant(None), lambda: hd.array_module())
    assert found is cupy
    assert hd.array_module() is np
    told = []

    def other():
        told.append(hd.array_module())

    def begin():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(LIMIT)

    on_device("f", Grant(None), begin)
    assert told == [np]  # another thread was given nothing


def test_without_cupy_a_function_runs_but_gets_no_array_module(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setattr(devices, "_module", None)
    assert on_device("f", Grant(None), lambda: 5) == 5
    with pytest.raises(hd.HandoutError, match=r"Install handout_dask\[cuda12\]"):
        on_device("f", Grant(None), hd.array_module)
    assert hd.array_module() is np


def test_each_thread_has_a_stream_that_is_waited_for(cupy):
    both, streams = threading.Barrier(2), []

    def work():
        both.wait(LIMIT)
        streams.append(cupy.cuda.get_current_stream())
        return len(streams)

    threads = [
        threading.Thread(target=on_device, args=("f", Grant(None), work))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    one, other = streams
    assert one is not other
    assert 0 not in (one.ptr, other.ptr)
    assert (one.waits, other.waits) == (1, 1)
    assert cupy.cuda.get_current_stream() is cupy.cuda.Stream.null


def test_a_stream_is_waited_for_before_a_failure_is_told(cupy):
    seen = []

    def work():
        seen.append(cupy.cuda.get_current_stream())
        error = KeyError("own")
        raise error from error

    with pytest.raises(KeyError, match="own"):
        on_device("f", Grant(None), work)
    assert seen[0].waits == 1


# ------------------------------------------------------------------------- memory
def test_peak_and_time_on_the_device_are_measured(cupy):
    def work():
        a = floats(30)
        del a
        b = floats(20)
        return floats(15), b is None

    meter = Meter()
    mark = meter.begin()
    kept = on_device("f", Grant(None), work)
    used = meter.end(mark)
    assert used.gpu_peak_mb == pytest.approx(35, rel=1e-3)
    assert used.gpu_seconds > 0
    del kept
    mark = meter.begin()
    assert meter.end(mark)[2:] == (None, True, None)


@pytest.mark.parametrize("enforced", [False, True])
def test_a_limit_holds_where_it_is_asked_for(cupy, enforced):
    meter = Meter()
    mark = meter.begin()

    def work():
        held = [floats(10) for _ in range(5)]
        return len(held)

    if not enforced:
        assert on_device("f", Grant(30.0), work) == 5
        assert meter.end(mark).gpu_peak_mb == pytest.approx(50, rel=1e-3)
        return
    with pytest.raises(hd.ResourceExhaustedError) as caught:
        on_device("f", Grant(30.0, True), work)
    about = caught.value
    assert (about.resource, about.declared) == ("gpu_memory", 30.0)
    assert about.measured == pytest.approx(40, rel=1e-3)
    assert "function f was refused memory of its GPU" in str(about)
    assert meter.end(mark).gpu_peak_mb == pytest.approx(30, rel=1e-3)
    pool = cupy.get_default_memory_pool()
    assert (pool.used_bytes(), pool.free_bytes()) == (0, 0)  # at once


def test_garbage_does_not_count_against_a_limit(cupy):
    def work():
        for _ in range(5):
            held = [floats(10)]
            held.append(held)
        return True

    gc.disable()
    try:
        assert on_device("f", Grant(30.0, True), work)
    finally:
        gc.enable()


def test_running_out_of_memory_is_told_alike_and_leaves_nothing(cupy):
    def work():
        held = []
        for _ in range(20):  # the device has 1000
            held.append(floats(100))

    with pytest.raises(hd.ResourceExhaustedError) as caught:
        on_device("f", Grant(200.0), work)
    about = caught.value
    assert (about.resource, about.declared) == ("gpu_memory", 200.0)
    assert about.measured == pytest.approx(1000, rel=0.01)
    assert "of 1000 MB that the device has" in str(about)
    assert "held 900.0" in str(about)
    assert "gpu_memory=200 MB" in str(about)
    assert about.__cause__ is None  # CuPy's own may be unknown where it arrives
    assert cupy.get_default_memory_pool().total_bytes() == 0

    def beyond_pools():
        raise cupy.cuda.runtime.CUDARuntimeError(2)

    with pytest.raises(hd.ResourceExhaustedError, match="declared no gpu_memory"):
        on_device("f", Grant(None), beyond_pools)

    def other():
        raise cupy.cuda.runtime.CUDARuntimeError(700)

    with pytest.raises(cupy.cuda.runtime.CUDARuntimeError):
        on_device("f", Grant(None), other)


def test_a_function_may_bear_a_refusal_itself(cupy):
    def work():
        try:
            return floats(90) is None
        except cupy.cuda.memory.OutOfMemoryError:
            return "in pieces"

    assert on_device("f", Grant(30.0, True), work) == "in pieces"


def test_an_idle_device_gets_its_memory_back(cupy, monkeypatch):
    pool, trimmed = cupy.get_default_memory_pool(), threading.Event()
    trim = devices.trim

    def tell(module):
        trim(module)
        if module is cupy:  # earlier tests' may be late
            trimmed.set()

    monkeypatch.setattr(devices, "trim", tell)
    on_device("f", Grant(20.0), lambda: floats(10) is None)
    assert pool.free_bytes() == pytest.approx(10 * MB, rel=1e-3)
    assert trimmed.wait(LIMIT)
    assert pool.total_bytes() == 0


def test_caches_are_given_back_where_a_function_needs_their_room(cupy):
    pool = cupy.get_default_memory_pool()
    on_device("f", Grant(700.0), lambda: floats(700) is None)
    assert pool.free_bytes() > 690 * MB
    assert on_device("g", Grant(800.0), lambda: len(floats(800))) == 10**8
    kept = on_device("h", Grant(300.0), lambda: floats(300))
    on_device("i", Grant(200.0), lambda: floats(200) is None)
    free = on_device("j", Grant(800.0), cupy.cuda.runtime.memGetInfo)
    assert free[0] == pytest.approx(700 * MB, rel=1e-3)  # not enough, but all
    del kept


def test_the_driver_is_asked_seldom_what_is_free(cupy, monkeypatch):
    asked = []

    def told():
        asked.append(1)
        return 900 * MB, 1000 * MB

    monkeypatch.setattr(cupy.cuda.runtime, "memGetInfo", told)
    for _ in range(20):
        on_device("f", Grant(100.0), lambda: None)
    assert len(asked) < 5


def test_results_make_room_for_what_runs_and_was_not_given_it_yet(cupy, monkeypatch):
    asked = []
    monkeypatch.setattr(devices, "makers_of_room", [asked.append])
    kept = on_device("f", Grant(600.0), lambda: floats(600))
    on_device("g", Grant(300.0), lambda: None)
    assert asked == []
    both, go = threading.Event(), threading.Event()

    def slow():
        both.set()
        return go.wait(LIMIT)

    thread = threading.Thread(target=on_device, args=("h", Grant(300.0), slow))
    thread.start()
    assert both.wait(LIMIT)
    on_device("i", Grant(300.0), lambda: None)
    go.set()
    thread.join(LIMIT)
    assert asked == [pytest.approx(200 * MB, rel=0.01)]
    del kept


# ------------------------------------------------------------------------- arrays
class Holder:
    def __init__(self, x):
        self.x = x


def test_arrays_leave_the_device_wherever_they_are(cupy, monkeypatch):
    arrays.install(cupy)
    x = cupy.asarray(np.arange(6.0).reshape(2, 3).copy(order="F"))
    data = pickle.dumps({"list": [x, 1], "own": Holder(x)})
    monkeypatch.setattr(arrays, "_served", [])  # as in another process
    found = pickle.loads(data)
    for array in (found["list"][0], found["own"].x):
        assert type(array) is np.ndarray
        np.testing.assert_array_equal(array, np.arange(6.0).reshape(2, 3))
    devices.serve()
    assert type(pickle.loads(data)["own"].x) is cupy.ndarray


def test_an_array_is_copied_once_while_it_lives(cupy):
    devices.serve()
    before = arrays.counts()["out"]
    x = cupy.zeros(1000)
    one = arrays.host(x)
    assert arrays.host(x) is one
    pickle.dumps([x])
    assert arrays.counts()["out"] == before + 1
    del x
    gc.collect()
    assert not arrays._copies
    y = cupy.zeros(1000)
    assert arrays.host(y) is not one


def test_kept_copies_are_bounded(cupy, monkeypatch):
    devices.serve()
    monkeypatch.setattr(arrays, "KEPT", 20_000)
    many = [cupy.zeros(1000) for _ in range(5)]
    for x in many:
        arrays.host(x)
    assert len(arrays._copies) == 2
    large = cupy.zeros(10_000)
    arrays.host(large)
    assert len(arrays._copies) == 2


def test_to_see_whether_it_can_be_pickled_nothing_is_copied(cupy):
    devices.serve()
    before = arrays.counts()
    with arrays.unmoved():
        pickle.dumps({"a": cupy.zeros(1000)})
    assert arrays.counts() == before


def test_a_full_device_leaves_what_arrives_on_the_host(cupy):
    devices.serve()
    data = pickle.dumps(cupy.zeros(1000))
    full = cupy.zeros(10**9 // 8 - 1000)
    assert type(pickle.loads(data)) is np.ndarray
    del full
    assert type(pickle.loads(data)) is cupy.ndarray


def called(code, value, grant):
    spec = Call("f", pickle.dumps(code), None, None, "", grant=grant)
    ready = load(spec, (value,))
    assert isinstance(ready, Loaded)
    return ready()


def kinds(value):
    found = value if isinstance(value, list | tuple) else [value]
    return [type(x).__module__ for x in found]


def test_functions_without_a_gpu_read_numpy_and_others_what_is_there(cupy):
    devices.serve()
    x = cupy.zeros(10)
    assert called(kinds, x, None) == ["numpy"]
    assert called(kinds, (x, 1, [x]), None) == ["numpy", "builtins", "builtins"]
    assert called(kinds, x, Grant(None)) == ["cupy"]
    same = ([1, "a"], {"b": 2})
    assert called(lambda_free, same, None) is same


def lambda_free(value):
    return value


def test_what_arrived_before_the_first_gpu_function_goes_to_the_device_when_read(cupy):
    arrays.install(cupy)
    data = pickle.dumps(cupy.zeros(10))
    arrays._served.clear()
    found = pickle.loads(data)
    own = np.zeros(10)
    assert called(kinds, [found, own], Grant(None)) == ["cupy", "numpy"]
    assert called(kinds, [found, own], None) == ["numpy", "numpy"]


def test_dask_carries_arrays_by_pickle(cupy):
    from distributed.protocol import deserialize, serialize

    devices.serve()
    header, frames = serialize(cupy.zeros(10))
    assert header["serializer"] == "pickle"
    assert len(frames) == 2  # the array is a frame of its own
    assert type(deserialize(header, frames)) is cupy.ndarray


# ------------------------------------------------------------------------- devices
def has(memory=None, **more):
    capabilities = {"has_cuda": True, **more}
    return capabilities if memory is None else capabilities | {"gpu_memory": memory}


@pytest.fixture
def nvml(monkeypatch):
    """The stand-in for NVML, with two devices of 1000 MB."""
    monkeypatch.syspath_prepend(STANDIN)
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    monkeypatch.delenv(cuda.VISIBLE, raising=False)
    monkeypatch.setenv("STANDIN_DEVICES", "2")
    monkeypatch.setenv("STANDIN_DEVICE", str(1000 * MB))
    yield
    del sys.modules["pynvml"]


def test_nodes_with_cuda_take_devices_in_turn_and_others_see_none(nvml):
    nodes = [Node("a", has()), Node("b"), Node("c", has()), Node("d", has(300))]
    assert cuda.environments(nodes) == {
        "a": {"CUDA_VISIBLE_DEVICES": "GPU-stand-in-0",
              "CUPY_GPU_MEMORY_LIMIT": "700000000"},
        "b": {"CUDA_VISIBLE_DEVICES": ""},
        "c": {"CUDA_VISIBLE_DEVICES": "GPU-stand-in-1"},
        "d": {"CUDA_VISIBLE_DEVICES": "GPU-stand-in-0",
              "CUPY_GPU_MEMORY_LIMIT": "300000000"},
    }  # fmt: skip
    assert cuda.environments([Node("b")]) == {}


def test_what_the_parent_may_not_see_is_given_to_no_node(nvml, monkeypatch):
    monkeypatch.setenv(cuda.VISIBLE, "1")
    found = cuda.environments([Node("a", has()), Node("b", has())])
    assert {x["CUDA_VISIBLE_DEVICES"] for x in found.values()} == {"GPU-stand-in-1"}
    monkeypatch.setenv(cuda.VISIBLE, "")
    assert cuda.environments([Node("a", has())]) == {}


def test_nodes_that_declare_more_than_their_device_has_are_refused(nvml):
    nodes = [Node("a", has(600)), Node("b", has(900)), Node("c", has(600))]
    with pytest.raises(
        hd.HandoutError, match="'a', 'c' would use one Stand-in of 1000"
    ):
        cuda.environments(nodes)


def test_cupy_tells_of_devices_where_nvmls_package_is_missing(monkeypatch):
    import types

    monkeypatch.setitem(sys.modules, "pynvml", None)
    about = {"uuid": bytes(range(16)), "name": b"Card", "totalGlobalMem": 5 * 10**9}
    made = types.ModuleType("cupy.cuda")
    made.runtime = types.SimpleNamespace(
        getDeviceCount=lambda: 1, getDeviceProperties=lambda k: about
    )
    monkeypatch.setitem(sys.modules, "cupy", types.ModuleType("cupy"))
    monkeypatch.setitem(sys.modules, "cupy.cuda", made)
    (device,) = cuda.visible_devices()
    assert (device.name, device.memory) == ("Card", 5000)
    assert device.uuid == "GPU-00010203-0405-0607-0809-0a0b0c0d0e0f"


def test_memory_of_a_shared_device_is_parted():
    def parts(*declared):
        nodes = [Node(str(k), has(mb)) for k, mb in enumerate(declared)]
        return [*parted(nodes, 1000.0).values()]

    assert parts(None) == [1000]
    assert parts(None, None) == [500, 500]
    assert parts(400, None, None) == [400, 300, 300]
    assert parts(400, 400) == [400, 400]
    assert parts(1500, 500) == [750, 250]
    assert parts(1500, None) == [1000, 0]


class Worker:
    nthreads, memory_limit, resources = 2, None, {}

    def __init__(self, name):
        self.name, self.address = name, f"tcp://{name}"


def test_declared_nodes_on_one_device_never_have_more_than_it_has():
    roster = Roster(Traffic(100.0))
    roster.declare("me", Cluster([Node("a", has()), Node("b", has()), Node("c")]))
    for name in "abc":
        roster.add(Worker(name))
    assert roster.node("a").capacity("gpu_memory") == 0
    assert [roster.is_undeclared(name) for name in "abcd"] == [True, True, False, True]
    device = {"device": "GPU-0", "gpu_memory": 800.0}
    for name in "abc":
        roster.finds.tell(name, device)
    assert roster.sharing("c") == ["a", "b"]
    found = [roster.add(Worker(n)).capacity("gpu_memory") for n in "abc"]
    assert found == [400, 400, 0]
    roster.remove("tcp://b", 0.0)
    assert roster.add(Worker("a")).capacity("gpu_memory") == 800


def test_an_undeclared_device_is_still_one_nodes():
    finds = Finds()
    device = {"device": "GPU-0", "gpu_memory": 40.0}
    assert [finds.tell(name, device) for name in "ab"] == [True, True]
    assert [finds.of(name)[0] for name in "ab"] == [40.0, None]
    assert finds.sharing("b") == ["a", "b"]


# ------------------------------------------------------------------- on a cluster
def test_what_is_parked_on_the_host_comes_back_when_a_gpu_function_reads_it(cupy):
    devices.serve()
    value = [cupy.asarray(np.arange(5.0)), "text"]
    found = arrays.parked(value)
    assert (type(found[0]), found[1]) == (np.ndarray, "text")
    assert arrays.device_bytes(found) == 0
    assert called(kinds, found, Grant(None)) == ["cupy", "builtins"]
    assert called(kinds, found, None) == ["numpy", "builtins"]


@pytest.fixture(scope="module")
def executor():
    """Two nodes without CUDA and two with it, that share the stand-in's device."""
    patch = pytest.MonkeyPatch()
    patch.syspath_prepend(STANDIN)
    patch.setenv("PYTHONPATH", STANDIN)
    patch.setenv("STANDIN_DEVICES", "1")
    patch.delenv(cuda.VISIBLE, raising=False)
    patch.delitem(sys.modules, "pynvml", raising=False)
    nodes = [
        Node("cpu0", {"cpu": 1}),
        Node("cpu1", {"cpu": 1}),
        Node("gpu0", has(500, cpu=2)),
        Node("gpu1", has(400, cpu=1)),
    ]
    with hd.Executor(nodes=nodes) as executor:
        yield executor
    patch.undo()
    for name in ("cupy", "pynvml"):  # Dask loads the one to see a type
        sys.modules.pop(name, None)


def module_name(*_):
    return hd.array_module().__name__


def test_each_node_sees_its_own_device_and_has_its_part(executor):
    def seen():
        names = ("CUDA_VISIBLE_DEVICES", "CUPY_GPU_MEMORY_LIMIT")
        return [os.environ.get(name) for name in names]

    names = ("cpu0", "cpu1", "gpu0", "gpu1")
    run = executor.execute(Graph([Function(n, [], seen, node=n) for n in names]))
    assert [run[n] for n in names] == [
        ["", None], ["", None],
        ["GPU-stand-in-0", "500000000"], ["GPU-stand-in-0", "400000000"],
    ]  # fmt: skip
    has = {node.name: node.capacity("gpu_memory") for node in executor.nodes().nodes}
    assert has == {"cpu0": 0, "cpu1": 0, "gpu0": 500, "gpu1": 400}


def copied(executor):
    told = executor.client.run(arrays.counts).values()
    return sum(x["out"] for x in told), sum(x["in"] for x in told)


def test_arrays_stay_on_a_device_and_are_numpy_elsewhere(executor):
    def begin():
        import cupy

        x = cupy.arange(1000.0)
        return x, [x.data.ptr]

    def more(before):
        x, seen = before
        return x, [*seen, x.data.ptr]

    def total(before):
        x, seen = before
        return float(x.sum()), type(x).__module__, len(set(seen))

    at = {"cost": GPU, "node": "gpu0"}
    chain = [
        Function("a", [], begin, **at),
        Function("b", ["a"], more, **at),
        Function("c", ["b"], more, **at),
    ]
    before = copied(executor)
    run = executor.execute(
        Graph([*chain, Function("on", ["c"], total, **at)]), keep="sinks"
    )
    assert run["on"] == (499500.0, "cupy", 1)
    assert copied(executor) == before
    names = ("cpu0", "cpu1", "gpu0")
    readers = [Function(n, ["c"], total, node=n) for n in names]
    afar = Function("afar", ["c"], total, cost=GPU, node="gpu1")
    run = executor.execute(Graph([*chain, *readers, afar]), keep="sinks")
    assert [run[n] for n in names] == [(499500.0, "numpy", 1)] * 3
    assert run["afar"] == (499500.0, "cupy", 1)
    assert copied(executor)[0] == before[0] + 1  # once, for all


def test_results_arrive_as_numpy_in_the_driver(executor):
    def make():
        x = hd.array_module().arange(10)
        return {"x": [x], "module": type(x).__module__}

    def alone():
        return hd.array_module().arange(10)

    functions = [Function("a", [], make, cost=GPU), Function("b", [], alone, cost=GPU)]
    run = executor.execute(Graph(functions))
    assert type(run["b"]) is np.ndarray
    found = run["a"]
    assert found["module"] == "cupy"
    assert type(found["x"][0]) is np.ndarray
    np.testing.assert_array_equal(found["x"][0], np.arange(10))


def test_the_plan_chooses_the_variant_and_the_function_its_module(executor):
    fast = [{"cpu_time": 5000}, GPU]
    slow = [{"cpu_time": 1}, GPU | {"gpu_time": 5000}]
    run = executor.execute(
        Graph(
            [
                Function("fast", [], module_name, cost=fast, name="fast"),
                Function("slow", [], module_name, cost=slow, name="slow"),
                Function("bound", [], module_name, cost={"cpu_time": 1}, node="gpu0"),
            ]
        )
    )
    assert (run["fast"], run["slow"], run["bound"]) == ("cupy", "numpy", "numpy")
    span = next(span for span in run.spans if span.function == "fast")
    assert span.gpu_seconds is not None


def test_with_a_time_out_a_function_has_its_device_in_a_process_of_its_own(executor):
    def make():
        return hd.array_module().arange(10), os.getpid()

    def kind(made):
        return type(made[0]).__module__, float(made[0].sum()), made[1], os.getpid()

    at = {"cost": GPU, "node": "gpu0"}
    run = executor.execute(
        Graph(
            [
                Function("a", [], make, timeout=LIMIT, **at),
                Function("b", ["a"], kind, **at),
                Function("c", ["a"], kind, timeout=LIMIT, **at),
            ]
        )
    )
    pids = executor.client.run(os.getpid).values()
    assert (run["b"][:2], run["c"][:2]) == (("cupy", 45), ("cupy", 45))
    assert [pid in pids for pid in (run["b"][2], run["b"][3], run["c"][3])] == [
        False, True, False,
    ]  # fmt: skip


def test_out_of_memory_is_an_error_and_the_node_lives(executor):
    def hog():
        xp = hd.array_module()
        return len([xp.zeros(10**8 // 8) for _ in range(30)])

    pids = executor.client.run(os.getpid)
    graph = Graph([Function(k, [], hog, cost=GPU) for k in range(3)])
    run = executor.execute(graph, raise_on_error=False)
    for k in range(3):
        with pytest.raises(hd.ResourceExhaustedError) as caught:
            run[k]
        assert (caught.value.resource, caught.value.declared) == ("gpu_memory", 100)
    assert executor.client.run(os.getpid) == pids

    def held():
        return sys.modules["cupy"].get_default_memory_pool().total_bytes()

    run = executor.execute(
        Graph([Function(n, [], held, cost=GPU, node=n) for n in ("gpu0",)])
    )
    assert run["gpu0"] < 10**6


def test_what_no_gpu_has_room_for_runs_as_its_cpu_variant(executor):
    def work(x):
        xp = hd.array_module()
        held = [xp.ones(10**8 // 8) for _ in range(30 if xp is not np else 1)]
        return xp.__name__, hd.attempt(), float(held[0][0]) + x

    cost = [GPU, {"cpu_time": 60_000}]
    graph = Graph(
        [Function("one", [], lambda: 1.0), Function("f", ["one"], work, cost=cost)]
    )
    plan = executor.plan(graph)
    assert plan.option[plan.problem.where["f"]] == 0
    run = executor.execute(graph)
    name, attempt, value = run["f"]
    assert (name, value) == ("numpy", 2.0)
    tries = [span for span in run.spans if span.function == "f"]
    assert [(span.attempt, span.outcome) for span in tries] == [
        *((k + 1, "failed") for k in range(attempt - 1)), (attempt, "done"),
    ]  # fmt: skip
    assert all("refused memory of its GPU" in span.error for span in tries[:-1])
    never = hd.RetryPolicy(memory_attempts=1, variants=False)
    stays = Function("f", [], work, extra_args=[1], cost=cost, retry=never)
    run = executor.execute(Graph([stays]), raise_on_error=False)
    with pytest.raises(hd.ResourceExhaustedError):
        run["f"]


def test_an_executor_that_enforces_memory_holds_functions_to_their_gpu_memory(executor):
    def work(many):
        xp = hd.array_module()
        return os.getpid(), len([xp.zeros(20 * 10**6 // 8) for _ in range(many)])

    nodes = executor.nodes().nodes
    cost = GPU | {"memory": 100}
    graph = Graph([Function(k, [], work, extra_args=[k], cost=cost) for k in (5, 6)])
    one_try = hd.RetryPolicy(memory_attempts=1)
    with hd.Executor(
        executor.client, nodes=nodes, enforce_memory=True, retry=one_try
    ) as enforcing:
        run = enforcing.execute(graph, raise_on_error=False)
        pid, many = run[5]
        assert many == 5
        assert pid in executor.client.run(os.getpid).values()  # no process of its own
        with pytest.raises(hd.ResourceExhaustedError) as caught:
            run[6]
    about = caught.value
    assert (about.resource, about.declared) == ("gpu_memory", 100)
    assert about.measured == pytest.approx(120, rel=0.01)
    span = next(span for span in run.spans if span.function == 6)
    assert span.gpu_peak_mb == about.measured
    with hd.Executor(executor.client, nodes=nodes, enforce_memory=True) as enforcing:
        run = enforcing.execute(graph)  # it is given more, as retry policies say
        assert run[6][1] == 6
        tries = [span.attempt for span in run.spans if span.function == 6]
        assert tries == [1, 2]


def test_results_on_a_device_leave_it_where_another_function_needs_room(executor):
    def make(k):
        return hd.array_module().zeros(200 * 10**6 // 8) + k

    def total():
        free = sys.modules["cupy"].cuda.runtime.memGetInfo()[0]
        return free >= 490e6

    def made(k, mb=200):
        cost = {"gpus": 1, "gpu_memory": mb}
        return Function(k, [], make, extra_args=[k], cost=cost, node="gpu0")

    kept = executor.execute(Graph([made(k, 400) for k in range(3)]))
    cost = {"gpus": 1, "gpu_memory": 500}
    run = executor.execute(Graph([Function("f", [], total, cost=cost, node="gpu0")]))
    assert run["f"]
    assert [float(kept[k][7]) for k in range(3)] == [0, 1, 2]


def test_functions_of_a_lost_cuda_node_run_on_another(gate):
    """Declared nodes are enough: their functions touch no device."""
    call = gate.call()
    nodes = [Node("cpu", {"cpu": 2}), Node("g0", has(100)), Node("g1", has(100))]
    with hd.Executor(nodes=nodes) as executor:
        functions = [
            Function(k, [], call, extra_args=[k], cost=GPU) for k in ("a", "b")
        ]
        last = Function("c", ["a", "b"], lambda *x: x, cost=GPU)
        run = executor.submit(Graph([*functions, last]))
        assert gate.arrivals(2) == ["a", "b"]
        executor.client.run(
            os._exit,
            1,
            workers=[address_of(executor, "g0")],
            nanny=False,
            on_error="ignore",
        )
        gate.let()
        (again,) = gate.arrivals(1)
        gate.let()
        assert run["c"] == ("a", "b")
        assert run.where(again) in ("g0", "g1")
        assert {run.where(k) for k in "abc"} <= {"g0", "g1"}


def address_of(executor, name):
    workers = executor.client.scheduler_info()["workers"].items()
    return next(address for address, about in workers if about["name"] == name)

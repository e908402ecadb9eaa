"""What workers tell of themselves, beside what an observer from outside sees.

Polls where it has to: nothing tells of a heartbeat.
"""

import subprocess
import sys
import threading
import time
import types

import dask
import numpy as np
import psutil
import pytest
from distributed import Client, LocalCluster

import handout_dask as hd
from handout_dask import Function, Graph
from handout_dask.runtime import cuda, detection, sampling
from handout_dask.runtime.probe import Probe
from handout_dask.runtime.sampling import Sampler

HELD = 300  # MB
LIMIT = 60  # s after which a test calls it a hang
SPIN = """
import time
held = b"x" * 100_000_000
print("ready", flush=True)
while time.process_time() < {seconds}:
    pass
print("done", flush=True)
input()
"""


# -------------------------------------------------------------------- one process
@pytest.fixture
def sampler(monkeypatch):
    """Takes a sample whenever it is asked."""
    monkeypatch.setattr(sampling, "SHORTEST", 0.0)
    return Sampler()


def test_a_sample_counts_processes_that_this_one_started(sampler):
    code = SPIN.format(seconds=0.8)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=-1, stdout=-1, text=True
    ) as child:
        assert child.stdout.readline() == "ready\n"
        sampler.sample()
        begin, first = _spent(child.pid), sampler._at
        assert child.stdout.readline() == "done\n"
        least = _spent(child.pid) - begin
        mine = sampler.sample()
        me = psutil.Process()  # with the process that workers are forked off
        rss = [x.memory_info().rss for x in (me, *me.children(recursive=True))]
        assert child.pid in {x.pid for x in me.children()}
        assert mine["memory"] == pytest.approx(sum(rss) / 1e6, rel=0.1)
        assert least > 0.3
        assert mine["cpu"] * (sampler._at - first) >= 0.95 * least
        assert child.communicate("\n")[0] == ""
    after = sampler.sample()
    assert after["memory"] < mine["memory"] - 90


def test_processes_that_ended_have_used_what_they_used(sampler):
    sampler.sample()
    first = sampler._at, sampler._spent
    subprocess.run(
        [sys.executable, "-c", SPIN.format(seconds=0.5)], input="\n", text=True,
        stdout=-1, check=True,
    )  # fmt: skip
    cpu = sampler.sample()["cpu"]
    assert cpu * (sampler._at - first[0]) == pytest.approx(sampler._spent - first[1])
    assert sampler._spent - first[1] >= 0.5


def test_a_sample_tells_of_the_host(sampler):
    told = sampler.sample()
    assert told["cores"] == psutil.cpu_count()
    assert told["total"] == psutil.virtual_memory().total / 1e6
    assert 0 < told["available"] <= told["total"]
    assert 0 <= told["busy"] <= told["cores"]
    assert told["process"].startswith(told["host"])


def _spent(pid):
    return sum(psutil.Process(pid).cpu_times()[:4])


# ---------------------------------------------------------------------- detection
def test_a_host_is_measured_once_and_remembered(tmp_path):
    path, calls = tmp_path / "deep" / "speed.json", []

    def measure():
        calls.append(detection.rate_of_host(path, list))  # another one asks meanwhile
        return 7.5

    assert detection.read_rate(path) is None
    assert detection.rate_of_host(path, measure) == 7.5
    assert detection.rate_of_host(path, measure) == 7.5
    assert calls == [None]
    path.write_text("no json")
    assert detection.rate_of_host(path, lambda: 3.0) == 3.0
    assert [x.name for x in path.parent.iterdir()] == ["speed.json"]


def test_a_measurement_that_was_abandoned_is_made_again(tmp_path, monkeypatch):
    path = tmp_path / "speed.json"
    path.with_suffix(".lock").touch()
    assert detection.rate_of_host(path, lambda: 1.0) is None
    monkeypatch.setattr(detection, "ABANDONED", -1.0)
    assert detection.rate_of_host(path, lambda: 1.0) == 1.0


def test_the_calibration_computes_and_can_be_turned_off(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with dask.config.set({"handout.calibrate": False}):
        assert detection.Detection().found() == {}
    assert list(tmp_path.iterdir()) == []
    assert 0 < detection.measure() < float("inf")


@pytest.fixture
def nvml(monkeypatch):
    """A pynvml of two devices."""

    def no_such(*args):
        raise RuntimeError("no such device")

    uuids = {"GPU-0": 40, "GPU-1": 80}
    made = types.ModuleType("pynvml")
    made.nvmlInit = lambda: None
    made.nvmlDeviceGetCount = lambda: len(uuids)
    made.nvmlDeviceGetHandleByIndex = lambda k: [*uuids][k]
    made.nvmlDeviceGetHandleByUUID = lambda x: x if x in uuids else no_such()
    made.nvmlDeviceGetUUID = lambda handle: handle.encode()
    made.nvmlDeviceGetName = lambda handle: "Card"
    made.nvmlDeviceGetMemoryInfo = lambda handle: types.SimpleNamespace(
        total=uuids[handle] * 10**9, used=10**9
    )
    made.nvmlDeviceGetUtilizationRates = lambda handle: types.SimpleNamespace(gpu=25)
    monkeypatch.setitem(sys.modules, "pynvml", made)
    monkeypatch.delenv(cuda.VISIBLE, raising=False)
    return made


@pytest.mark.parametrize(
    ("visible", "memory"),
    [(None, 40e3), ("1", 80e3), ("GPU-1,GPU-0", 80e3), ("", None), ("-1", None),
     ("7", None), ("GPU-9", None)],
)  # fmt: skip
def test_the_device_is_the_first_that_is_visible(nvml, monkeypatch, visible, memory):
    if visible is not None:
        monkeypatch.setenv(cuda.VISIBLE, visible)
    device = cuda.first_device()
    assert (device and device.memory) == memory


def test_what_nvml_does_not_tell_is_left_out(nvml, monkeypatch):
    device = cuda.first_device()
    assert cuda.usage(device) == {"gpus": 0.25, "gpu_memory": 1000.0}
    monkeypatch.delattr(nvml, "nvmlDeviceGetUtilizationRates")
    assert cuda.usage(device) == {"gpu_memory": 1000.0}
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert (cuda.usage(device), cuda.first_device()) == ({}, None)


def test_a_device_counts_from_the_first_plan_on_where_nobody_declares_nodes(nvml):
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=2, processes=False, dashboard_address=":0"
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
        hd.Executor(client) as executor,
    ):
        has = [dict(node.capabilities) for node in executor.nodes().nodes]
        owners = [x for x in has if "gpus" in x]
        assert [(x["gpus"], x["gpu_memory"], x["has_cuda"]) for x in owners] == [
            (1, 40e3, True)
        ]
        cost = {"gpu_memory": 39_000, "has_cuda_requirement": True}
        run = executor.execute(Graph([Function("a", [], int, cost=cost)]))
        assert run["a"] == 0
        with hd.Executor(client, nodes=[hd.Node("0"), hd.Node("1")]) as other:
            has = [dict(node.capabilities) for node in other.nodes().nodes]
            assert [x.keys() for x in has] == [{"memory"}, {"memory"}]


def test_a_node_that_is_measured_faster_gets_what_takes_long(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0"
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
        hd.Executor(client) as executor,
    ):
        assert [node.speed for node in executor.nodes().nodes] == [1.0, 1.0]
        client.run(_found)
        end = time.monotonic() + LIMIT
        while {node.speed for node in executor.nodes().nodes} != {1.0, 2.0}:
            assert time.monotonic() < end
            time.sleep(0.05)
        fast = max(executor.nodes().nodes, key=lambda node: node.speed).name
        costs = {"short": 100, "long": 1000}
        graph = Graph(
            Function(name, [], int, cost={"cpu_time": x}) for name, x in costs.items()
        )
        run = executor.execute(graph)
        assert run.where("long") == fast


def _found(dask_worker):
    """Let the worker named 1 say that it is twice as fast as the other one."""
    (probe,) = [p for p in dask_worker.plugins.values() if hasattr(p, "_detection")]
    rate = 20.0 if str(dask_worker.name) == "1" else 10.0
    probe._detection.found = lambda: {"rate": rate}


# ------------------------------------------------------------------ a live cluster
def _work(seconds):
    """Computes for so long, as far as it gets the CPU."""
    held = b"x" * (HELD * 10**6)
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(1000))
    return len(held)


async def _heartbeats(running, limit, dask_scheduler):
    """What the first worker told until it ran nothing (again), or something."""
    import asyncio

    (ws,) = dask_scheduler.workers.values()
    told = {}
    async with asyncio.timeout(limit):
        while True:
            now = ws.metrics.get("handout", {})
            told[now.get("sequence", 0)] = now
            rows = [told[k] for k in sorted(told) if k]
            states = [bool(row["running"]) for row in rows]
            if states[-1:] == [running] and True in states:
                return rows
            await asyncio.sleep(0.02)


class Outside(threading.Thread):
    """Looks at a process until it is told to stop."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.process, self.rows, self.over = psutil.Process(pid), [], threading.Event()

    def run(self):
        while not self.over.wait(0.01):
            spent = sum(self.process.cpu_times()[:4])
            self.rows.append((time.time(), spent, self.process.memory_info().rss / 1e6))

    def end(self):
        self.over.set()
        self.join()
        return np.array(self.rows).T


@pytest.fixture(scope="module")
def single():
    node = hd.Node("n0", {"cpu": 1, "memory": 1000}, slots=3)
    with hd.Executor(nodes=[node]) as executor:
        yield executor


def test_observed_cpu_and_memory_agree_with_psutil_from_outside_within_a_tenth(single):
    (pid,) = single.client.run(_pid).values()
    outside = Outside(pid)
    outside.start()
    work = Function("a", [], _work, extra_args=[2.0], cost={"memory": HELD})
    run = single.submit(Graph([work]))
    told = single.client.run_on_scheduler(_heartbeats, False, LIMIT)
    assert run["a"] == HELD * 10**6
    at, spent, held = outside.end()
    samples = [row["sample"] for row in told]
    samples = [x for x in samples if at[0] < x["at"] < at[-1]]
    times = np.array([sample["at"] for sample in samples])

    cpu = np.array([sample["cpu"] for sample in samples])
    seen = np.interp(times, at, spent)
    assert seen[-1] - seen[0] > 1
    assert (cpu[1:] @ np.diff(times)) == pytest.approx(seen[-1] - seen[0], rel=0.1)

    steady = [  # what changes fast may do so between the two looks
        (sample["memory"], np.interp(sample["at"], at, held))
        for sample in samples
        if np.ptp(held[np.abs(at - sample["at"]) < 0.1]) < 5
    ]
    mine, theirs = np.array(steady).T
    assert max(theirs) > HELD
    assert mine == pytest.approx(theirs, rel=0.1)


def test_heartbeats_carry_the_keys_of_what_runs(single, gate):
    call = gate.call()
    run = single.submit(Graph([Function("a", [], call, extra_args=["a"])]))
    gate.arrivals(1)
    told = single.client.run_on_scheduler(_heartbeats, True, LIMIT)
    (key,) = told[-1]["running"]
    assert key[1] == 0
    assert run.token in key[0]
    gate.let()
    assert run["a"] == "a"


def test_resources_tell_who_holds_what_and_what_is_used(single, gate):
    call = gate.call()
    cost = {"memory": 400, "cpu": 0.5}
    graph = Graph([Function("a", [], call, extra_args=["a"], cost=cost)], name="meal")
    run = single.submit(graph)
    gate.arrivals(1)
    single.client.run_on_scheduler(_heartbeats, True, LIMIT)
    rows = {row["resource"]: row for row in single.resources()}
    used = single.usage()["n0"]
    gate.let()
    assert run["a"] == "a"
    holder = {"run": run.token, "graph": "meal", "function": "a"}
    for resource, capacity, amount in (("cpu", 1.0, 0.5), ("memory", 1000.0, 400.0)):
        row = rows[resource]
        assert (row["capacity"], row["claimed"]) == (capacity, amount)
        assert row["holders"] == [{**holder, "amount": amount}]
    assert 30 < rows["memory"]["observed"] < 1000
    assert {"disk_io", "network_io", "host_cpu", "host_memory_available"} <= used.keys()


def test_holders_of_runs_that_are_gone_are_called_as_before(single, gate, until):
    call, cost = gate.call(), {"memory": 300}
    graph = Graph([Function("b", [], call, extra_args=["b"], cost=cost)], name="left")
    run = single.submit(graph)
    token = run.token
    gate.arrivals(1)
    run.cancel()
    run.release()
    until(single.client, lambda s: token not in s.plugins["handout"].runs)
    (row,) = [row for row in single.resources() if row["resource"] == "memory"]
    holder = {"run": token, "graph": "left", "function": "b", "amount": 300.0}
    assert row["holders"] == [holder]
    gate.let()


def test_what_cant_be_measured_takes_nothing_else_along():
    def fails():
        raise psutil.Error("gone")

    probe = Probe()
    probe._sequence, probe._keeping = 0, None
    probe._sampler = types.SimpleNamespace(sample=fails)
    probe._detection = types.SimpleNamespace(found=lambda: {"rate": 2.0}, device=None)
    probe._spilling = types.SimpleNamespace(told=fails)
    probe._reaching = types.SimpleNamespace(overdue=fails)
    told = probe._metrics(types.SimpleNamespace(active_keys=[("a", 0)]))
    assert told == {"sequence": 1, "running": [("a", 0)], "found": {"rate": 2.0}}


def _pid():
    import os

    return os.getpid()


def test_what_others_leave_narrows_what_is_planned_and_sent(single, gate):
    """The host's memory as the probe tells it is made small."""
    single.client.run(_tell, {"available": 300.0, "total": 1500.0})
    _until_narrowed(single)
    (row,) = [r for r in single.resources() if r["resource"] == "memory"]
    assert row["usable"] < 500
    assert row["capacity"] == 1000
    call = gate.call()
    cost = {"memory": 300, "cpu": 0.1}
    functions = [
        Function(name, [], call, extra_args=[name], cost=cost) for name in "ab"
    ]
    big = Function("c", [], call, extra_args=["c"], cost={"memory": 900, "cpu": 0.1})
    run = single.submit(Graph([*functions, big]))
    for _ in range(3):  # one at a time, and the one that fits what is declared, too
        (name,) = gate.arrivals(1)
        claimed = [
            r["claimed"] for r in single.resources() if r["resource"] == "memory"
        ]
        assert claimed == [900.0 if name == "c" else 300.0]
        assert gate.nobody()
        gate.let()
    run.wait(30)
    assert dict(run.results) == {"a": "a", "b": "b", "c": "c"}


def _tell(figures, dask_worker):
    """Let a worker's probe say this of its host."""
    (probe,) = [p for p in dask_worker.plugins.values() if hasattr(p, "_sampler")]
    sample = probe._sampler.sample
    probe._sampler.sample = lambda: {**sample(), **figures}


def _until_narrowed(executor):
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        (row,) = [r for r in executor.resources() if r["resource"] == "memory"]
        if row["usable"] is not None:
            return
        time.sleep(0.1)
    raise AssertionError("it stays as it was")
